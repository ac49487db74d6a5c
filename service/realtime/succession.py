"""Who serves: waits for the lock, serves while it is proven, and stops before anybody else can begin.

The deadline of a tenure does not depend on anything that happens here. Whoever lets in, delivers or commits
compares it with the clock right before; this module renews it in time, and tidies up when it has run out.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from service.core.phase import Phase
from service.core.tenure import Grant, Occupied
from service.errors import DatabaseError, DatabaseUnfit, Overtaken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from service.core.tenure import Tenure
    from service.realtime.lifecycle import Lifecycle
    from service.realtime.ports import InstanceLock, Observer

__all__ = ("LocalLock", "Succession")

_STEPS: Final = 4
"""The time between two proofs is so many times that between attempts to get the lock, and so many times shorter than
the longest pause between attempts to reach a database that does not answer."""


class LocalLock:
    """A lock that nobody else can know of: for a process that shares neither a database nor a volume."""

    kind: Literal["local", "file", "database"] = "local"

    async def acquire(self) -> Grant | Occupied:
        """Get it, always."""
        return Grant(token=0, proven_at=float("inf"))

    async def settle(self) -> None:
        """Nobody was before us."""

    async def prove(self, within: float) -> float:  # noqa: ARG002 - as the protocol has it
        """Hold it, always."""
        return float("inf")

    async def release(self) -> None:
        """Nobody waits for it."""

    def abandon(self) -> None:
        """There is no session to cut."""


class Succession:
    """The one owner of the lock and of its tenure. Event loop only.

    Args:
        lock: Decides who serves.
        tenure: Ours; ended and begun here alone.
        lifecycle: Goes to ``ACTIVE`` and back to ``STANDBY`` with it.
        observer: Told what a person wants to know of.
        boot: The clock of the tenure, in seconds.
        prove_seconds: Between a proof and the next.
        wait_seconds: From getting the lock to serving, when the one before us did not say that it had ended.
        sleep: Waits for a number of seconds.
        prepare: Awaited before the first attempt, and again until it went well: the check of the database.
        on_begin: Awaited in their order under a new token, before anybody is served.
        on_end: Called in their order when the right to serve is gone: they close every connection and drop
            what is in memory. Nothing is delivered any more by then.

    Attributes:
        kind: Of the lock.
        losses: Tenures that were lost, since the start.
    """

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        lock: InstanceLock,
        tenure: Tenure,
        lifecycle: Lifecycle,
        observer: Observer,
        *,
        boot: Callable[[], float],
        prove_seconds: float,
        wait_seconds: float,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        prepare: Callable[[], Awaitable[None]] | None = None,
        on_begin: Sequence[Callable[[], Awaitable[None]]] = (),
        on_end: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._lock = lock
        self._tenure = tenure
        self._lifecycle = lifecycle
        self._observer = observer
        self._boot = boot
        self._prove_seconds = prove_seconds
        self._wait_seconds = wait_seconds
        self._sleep = sleep
        self._prepare = prepare
        self._on_begin = on_begin
        self._on_end = on_end
        self._grant: Grant | None = None
        self._granted_at = 0.0
        self._reason = "waiting for the lock"
        self._has_tried = False
        # Whether the hooks of this tenure are done.
        self._is_ready = False
        self._is_open = False
        self._opened = asyncio.Event()
        self._is_retired = False
        self.losses = 0

    @property
    def kind(self) -> Literal["local", "file", "database"]:
        """What the lock reaches: ``local``, ``file`` or ``database``."""
        return self._lock.kind

    @property
    def token(self) -> int:
        """The fencing number of the tenure; 0 while there is none, or when nothing is fenced."""
        return self._tenure.token

    # Asked by everybody.

    def may_serve(self) -> bool:
        """Whether this instance may serve at this moment; when it no longer may, that takes effect at once."""
        if self._tenure.holds():
            return self._is_ready
        self._lose("the lock could not be proven in time")
        return False

    @property
    def is_held(self) -> bool:
        """Whether the lock is ours and proven, for the status."""
        return self._tenure.holds()

    def overtaken(self) -> None:
        """Stop serving: a commit has shown that another instance has taken over."""
        self._lose(Overtaken().reason)

    # The start and the end.

    async def first(self) -> None:
        """Try once, before anybody can connect, so that the usual start serves at once. Idempotent.

        Raises:
            DatabaseUnfit: It will never serve on this database.
        """
        if self._has_tried:
            return
        self._has_tried = True
        try:
            await self._attempt()
            if self._grant is not None and not self._grant.must_wait:
                self._tenure.begin(self._grant.token, self._grant.proven_at)
                await self._begin()
        except DatabaseUnfit:
            raise
        except DatabaseError as error:
            self._reason = f"the database cannot be reached: {error.reason}"

    async def open(self) -> None:
        """Serve from now on whenever the lock allows it; `run` goes on from here.

        Raises:
            DatabaseUnfit: As in `first`, if that was not called.
        """
        await self.first()
        self._is_open = True
        if not (self._is_ready and self._enter()):
            self._lifecycle.enter(Phase.STANDBY, self._reason)
        self._opened.set()

    def retire(self) -> None:
        """Begin no further tenure, since the process is about to end; the present one goes on."""
        self._is_retired = True

    async def close(self) -> None:
        """End the tenure and let the lock go: the last thing that the process does with the database."""
        self.retire()
        self._tenure.end()
        self._grant = None
        await self._lock.release()

    # The loop.

    async def run(self) -> None:
        """Serve, tenure after tenure, until cancelled; begins when `open` has been called."""
        await self._opened.wait()
        failures = 0
        while not self._is_retired:
            try:
                if self._grant is None:
                    await self._attempt()
                if self._grant is not None:
                    await self._serve(self._grant)
            except DatabaseError as error:
                failures += 1
                self._blame(error)
            except Exception as error:  # noqa: BLE001 - a defect here must not leave nobody to serve
                failures += 1
                self._observer.failed("succession", error)
                self._lose("a defect of the service itself")
            else:
                failures = 0
            await self._sleep(self._prove_seconds * min(2.0**failures / _STEPS, _STEPS))

    async def _attempt(self) -> None:
        if self._prepare is not None:
            await self._prepare()
            self._prepare = None
        outcome = await self._lock.acquire()
        if isinstance(outcome, Occupied):
            self._wait_for(outcome)
            return
        self._grant, self._granted_at = outcome, self._boot()
        if outcome.must_wait:
            text = "the instance before this one did not say that it had ended"
            self._stand_by(f"{text}: waiting {self._wait_seconds:g} s")

    def _wait_for(self, occupied: Occupied) -> None:
        holder = occupied.holder or "another process"
        since = f" since {datetime.fromtimestamp(occupied.since, UTC):%Y-%m-%dT%H:%M:%SZ}" if occupied.since else ""
        reason = f"{holder} has the lock{since}"
        if reason != self._reason:
            self._observer.noted("lock.occupied", holder=holder, since=since.removeprefix(" since "))
        self._stand_by(reason)

    def _blame(self, error: DatabaseError) -> None:
        if self._tenure.holds():
            # Nothing was lost yet; whatever it was, the next proof decides.
            return
        self._grant = None
        self._lock.abandon()
        what = "cannot be used" if isinstance(error, DatabaseUnfit) else "cannot be reached"
        self._observer.noted("lock.unavailable", reason=error.reason)
        self._stand_by(f"the database {what}: {error.reason}")

    def _stand_by(self, reason: str) -> None:
        self._reason = reason
        if self._lifecycle.phase is Phase.STANDBY:
            self._lifecycle.enter(Phase.STANDBY, reason)

    async def _serve(self, grant: Grant) -> None:
        """Go through one tenure, from the wait before it to its end."""
        proven_at = await self._wait(grant) if grant.must_wait else grant.proven_at
        if self._is_retired:
            return
        if not self._tenure.holds():
            if grant.must_wait:
                await self._lock.settle()
            self._tenure.begin(grant.token, proven_at)
        async with asyncio.TaskGroup() as tasks:
            begin = tasks.create_task(self._begin_for_sure())
            await self._prove_until_lost(grant.token)
            begin.cancel()

    async def _wait(self, grant: Grant) -> float:
        """Hold the lock and serve nobody until the one before us has surely stopped; returns the last proof."""
        proven_at, until = grant.proven_at, self._granted_at + self._wait_seconds
        while (left := until - self._boot()) > 0:
            await self._sleep(min(left, self._prove_seconds))
            proven_at = await self._lock.prove(self._prove_seconds)
        return proven_at

    async def _begin(self) -> None:
        for hook in self._on_begin:
            await hook()
        self._is_ready = True

    def _enter(self) -> bool:
        """Let everybody in; False when the right to was lost by now, or is about to be given back."""
        if self._is_retired or not self._tenure.holds():
            return False
        return self._lifecycle.enter(Phase.ACTIVE, "serving")

    async def _begin_for_sure(self) -> None:
        while not self._is_ready:
            try:
                await self._begin()
            except DatabaseError as error:
                self._stand_by(f"the database cannot be reached: {error.reason}")
                await self._sleep(self._prove_seconds / _STEPS)
            else:
                self._enter()

    async def _prove_until_lost(self, token: int) -> None:
        pause = self._prove_seconds
        while True:
            await self._sleep(pause)
            if not self._is_ours(token):
                return
            try:
                # Half of what is left, so that a query that hangs leaves time for another session.
                sent_at = await self._lock.prove((self._tenure.until - self._boot()) / 2)
            except Overtaken as error:
                self._lose(error.reason)
                return
            except DatabaseError:
                # Again soon, and sooner the less time is left.
                left = self._tenure.until - self._boot()
                pause = self._prove_seconds / _STEPS
                pause = max(pause / 10, min(pause, left / 2))
            else:
                pause = self._prove_seconds
                if self._is_ours(token):
                    self._tenure.prove(sent_at)

    def _is_ours(self, token: int) -> bool:
        self.may_serve()
        return self._tenure.holds() and self._tenure.token == token

    def _lose(self, reason: str) -> None:
        """Stop serving: first nothing more goes out, then everybody is sent away, then all is forgotten."""
        if self._grant is None or not self._is_open:
            return
        was_begun = self._tenure.token > 0 or self._lifecycle.phase.is_ready
        if not was_begun:
            return
        self._tenure.end()
        self._grant, self._is_ready = None, False
        self._lock.abandon()
        self.losses += 1
        self._reason = reason
        self._lifecycle.enter(Phase.STANDBY, reason)
        for hook in self._on_end:
            try:
                hook()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others must have their turn
                self._observer.failed("succession", error)
