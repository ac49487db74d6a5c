"""A lock without a database, to be broken in every way that a test wants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from service.core.tenure import Grant, Occupied
from service.errors import DatabaseUnavailable, Overtaken

if TYPE_CHECKING:
    from tests.support.clock import ManualClock

__all__ = ("FakeLock", "LockPlace")


class LockPlace:
    """Where locks of several processes meet, as a database would be.

    Attributes:
        token: The last one; 0 before the first.
        owner: Who has the lock; None when it is free.
        trouble: Raised by every call that would ask the place; None while it answers.
        is_silent: Calls get no answer, until it is false again or their lock is abandoned.
        calls: What was asked, in order: the name of the holder and of the call.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.token = 0
        self.owner: FakeLock | None = None
        self.trouble: Exception | None = None
        self.is_silent = False
        self.calls: list[tuple[str, str]] = []
        self.holder = ""
        self.pod = ""
        self.released = True
        self.taken_at = 0.0


class FakeLock:
    """The lock of one process."""

    kind: Literal["local", "file", "database"] = "database"

    def __init__(self, place: LockPlace, name: str = "one", *, pod: str = "") -> None:
        self._place = place
        self._name = name
        self._pod = pod
        self._token = 0
        self._served_token = 0
        self._cut = asyncio.Event()

    async def acquire(self) -> Grant | Occupied:
        """As the protocol has it."""
        self._token = 0
        sent_at = await self._ask("acquire")
        place = self._place
        if place.owner not in (None, self):
            return Occupied() if place.released else Occupied(place.holder, place.taken_at)
        is_free = place.released or place.token == self._served_token or (self._pod != "" and place.pod == self._pod)
        place.owner, place.holder, place.released = self, self._name, False
        place.pod, place.taken_at = self._pod if is_free else "", place.clock.wall()
        place.token += 1
        self._token = place.token
        if is_free:
            self._served_token = self._token
        return Grant(self._token, sent_at, must_wait=not is_free)

    async def settle(self) -> None:
        """As the protocol has it."""
        await self._ask("settle")
        self._place.pod, self._served_token = self._pod, self._token

    async def prove(self, within: float) -> float:  # noqa: ARG002 - a test decides when there is no answer
        """As the protocol has it; comes back to the lock by itself."""
        sent_at = await self._ask("prove")
        place = self._place
        if place.owner not in (None, self):
            raise DatabaseUnavailable("somebody else has the lock")
        place.owner = self
        if place.token != self._token:
            place.owner = None
            raise Overtaken
        return sent_at

    async def release(self) -> None:
        """As the protocol has it."""
        self._place.calls.append((self._name, "release"))
        if self._place.owner is self:
            if self._token and self._token == self._served_token:
                self._place.released = True
            self._place.owner = None
        self._token = 0

    def abandon(self) -> None:
        """Cut the session; the place notices at once."""
        self._cut.set()
        self._cut = asyncio.Event()
        if self._place.owner is self:
            self._place.owner = None

    async def _ask(self, what: str) -> float:
        place, cut = self._place, self._cut
        sent_at = place.clock.boot()
        place.calls.append((self._name, what))
        if place.is_silent:
            await cut.wait()
            raise DatabaseUnavailable("the session was cut")
        if place.trouble is not None:
            raise place.trouble
        return sent_at
