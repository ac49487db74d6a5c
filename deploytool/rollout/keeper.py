"""Keeps alive what has to be renewed while a rollout waits: the lock, and what the service was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from deploytool.errors import DeploytoolError
from deploytool.rollout.errors import GaveUpError, LeftError, LockLostError, PhaseError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploytool.rollout.ports import Ports

__all__ = ("Keeper",)

_MOST_RETRY_SECONDS: Final = 15.0
_RENEWALS_A_TTL: Final = 3

_T = TypeVar("_T")


class Keeper:
    """Waits and repeats, and never forgets to renew meanwhile.

    Args:
        ports: Whose clock, lock and operator.
        ttl_seconds: For which the service remembers what it was told.
        poll_seconds: Between two attempts.
    """

    def __init__(self, ports: Ports, *, ttl_seconds: float, poll_seconds: float) -> None:
        self._ports = ports
        self._every = ttl_seconds / _RENEWALS_A_TTL
        self._poll = poll_seconds
        self._renewed_at: float | None = None
        self._is_letting_go = False
        self._is_going_back = False
        self._asked_until = float("-inf")
        self._kept: dict[str, tuple[float, Callable[[], None]]] = {}
        self._seen_interrupts = ports.operator.interrupts
        self.note: Callable[[str], None] = lambda _text: None

    def go_back(self) -> None:
        """Take note that it goes back from now on: to ask for that asks for nothing new."""
        self._is_going_back = True

    def keep(self, name: str, action: Callable[[], None]) -> None:
        """Do something that lapses, and do it again from time to time until `drop`."""
        self.attempt(name, action)
        self._kept[name] = (self._ports.clock.now(), action)

    def drop(self, *names: str) -> None:
        """Renew it no more."""
        for name in names:
            self._kept.pop(name, None)

    def renew_now(self) -> None:
        """Renew everything that is kept; what does not work now is tried again at its time."""
        self._kept = {name: (float("-inf"), action) for name, (_, action) in self._kept.items()}
        self._renew_kept()

    def was_renewed(self) -> None:
        """Take note that the lock was just written; before the first time there is none to renew."""
        self._renewed_at = self._ports.clock.now()
        self._is_letting_go = False

    def let_go(self) -> None:
        """Renew the lock no more: it is about to be released, and may be already where the answer was lost."""
        self._is_letting_go = True

    def heed(self, error: TransientError) -> None:
        """Take note of how long the other side asked to be left alone; the next pause is at least that long."""
        self._asked_until = self._ports.clock.now() + min(error.retry_seconds, _MOST_RETRY_SECONDS)

    def require(self) -> None:
        """Renew the lock, once it was taken, when that is due, and check that it is ours.

        Raises:
            LockLostError: We may not act any more.
        """
        if self._renewed_at is None:
            return
        now, lock = self._ports.clock.now(), self._ports.lock
        if not self._is_letting_go and now - self._renewed_at >= lock.heartbeat_seconds:
            try:
                lock.renew()
                self._renewed_at = now
            except LockLostError:
                raise
            except DeploytoolError as error:
                self.note(f"the lock could not be renewed: {error}")
        lock.require()

    def attempt(self, what: str, action: Callable[[], _T], seconds: float = 30.0) -> _T:
        """Do something, again and again while that fails for a moment.

        Args:
            what: For people.
            seconds: From the first failure on.

        Raises:
            GaveUpError: It went on failing.
            LockLostError: We may not act any more.
        """
        until: float | None = None
        while True:
            self.require()
            try:
                return action()
            except TransientError as error:
                until = until or self._ports.clock.now() + seconds
                if self._ports.clock.now() >= until:
                    raise GaveUpError(f"{what} did not work for {seconds:g} s: {error}") from error
                self.heed(error)
                self.pause(self._poll)

    def pause(self, seconds: float) -> None:
        """Wait, and renew what is due.

        Raises:
            LockLostError: We may not act any more.
        """
        self.require()
        clock = self._ports.clock
        until = max(clock.now() + seconds, self._asked_until)
        while (left := until - clock.now()) > 0:
            before = clock.now()
            clock.pause(min(left, self._ports.lock.heartbeat_seconds))
            self.tick()
            if clock.now() < before + min(left, self._ports.lock.heartbeat_seconds):
                return  # interrupted

    def wait(self, seconds: float) -> None:
        """Wait at a place where it is safe to be interrupted."""
        self.safe_point()
        self.pause(seconds)
        self.safe_point()

    def tick(self) -> None:
        """Renew what is due.

        Raises:
            LockLostError: We may not act any more.
        """
        self.require()
        self._renew_kept()

    def _renew_kept(self) -> None:
        now = self._ports.clock.now()
        for name, (at, action) in list(self._kept.items()):
            if now - at < self._every:
                continue
            # One that gets no answer takes long, and the lock must not lapse over it.
            self.require()
            try:
                action()
                self._kept[name] = (now, action)
            except DeploytoolError as error:
                # Tried again at the next tick; what the service forgets meanwhile is seen by the phase itself.
                self.note(f"{name} could not be renewed: {error}")

    def safe_point(self) -> None:
        """Pause here when the operator asked for it.

        Raises:
            LeftError: The operator leaves; everything can be resumed.
            PhaseError: The operator wants to go back.
        """
        operator = self._ports.operator
        if operator.interrupts == self._seen_interrupts:
            return
        if operator.interrupts - self._seen_interrupts == 1:
            self.note("paused: Enter goes on, b goes back, Ctrl-C leaves it as it is")
        while True:
            if operator.interrupts - self._seen_interrupts > 1:
                raise LeftError("interrupted")
            match operator.answer():
                case "back" if not self._is_going_back:
                    self._seen_interrupts = operator.interrupts
                    raise PhaseError("the operator asked to go back")
                case "go on" | "back":
                    self._seen_interrupts = operator.interrupts
                    return
                case "leave":
                    raise LeftError("interrupted")
            self.pause(self._poll)
