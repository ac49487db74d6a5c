"""Keeps alive what has to be renewed while a rollout waits: the lock, and what the service was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from deploytool.errors import DeploytoolError
from deploytool.rollout.errors import LeftError, LockLostError, PhaseError, TransientError

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
        self._kept: dict[str, tuple[float, Callable[[], None]]] = {}
        self._seen_interrupts = ports.operator.interrupts
        self.note: Callable[[str], None] = lambda _text: None

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

    def require(self) -> None:
        """Check that the lock, once it was taken, is ours."""
        if self._renewed_at is not None:
            self._ports.lock.require()

    def attempt(self, what: str, action: Callable[[], _T], seconds: float = 30.0) -> _T:
        """Do something, again and again while that fails for a moment.

        Raises:
            PhaseError: It went on failing.
            LockLostError: We may not act any more.
        """
        until = self._ports.clock.now() + seconds
        while True:
            self.require()
            try:
                return action()
            except TransientError as error:
                if self._ports.clock.now() >= until:
                    raise PhaseError(f"{what} did not work for {seconds:g} s: {error}") from error
                self.pause(max(self._poll, min(error.retry_seconds, _MOST_RETRY_SECONDS)))

    def pause(self, seconds: float) -> None:
        """Wait, and renew what is due."""
        clock = self._ports.clock
        until = clock.now() + seconds
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
        now = self._ports.clock.now()
        if self._renewed_at is not None and now - self._renewed_at >= self._ports.lock.heartbeat_seconds:
            try:
                self._ports.lock.renew()
                self._renewed_at = now
            except LockLostError:
                raise
            except DeploytoolError as error:
                self.note(f"the lock could not be renewed: {error}")
        self.require()
        self._renew_kept()

    def _renew_kept(self) -> None:
        now = self._ports.clock.now()
        for name, (at, action) in list(self._kept.items()):
            if now - at < self._every:
                continue
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
                case "go on":
                    self._seen_interrupts = operator.interrupts
                    return
                case "back":
                    self._seen_interrupts = operator.interrupts
                    raise PhaseError("the operator asked to go back")
                case "leave":
                    raise LeftError("interrupted")
            self.pause(self._poll)
