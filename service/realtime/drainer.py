"""Emptying the process gently: announce, wait, close in batches, see the sockets gone.

Driven by `Drainer.tick`, so a drain needs no task and no sleep of its own, and a
test moves the clock.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.core import codec
from service.core.codes import Disconnects
from service.core.drain import Batch, DrainPolicy, schedule
from service.core.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.realtime.announcements import Announcements
    from service.realtime.connection import Connection
    from service.realtime.hub import Hub
    from service.realtime.lifecycle import Lifecycle
    from service.realtime.ports import Observer

__all__ = ("Drain", "Drainer", "Origin")


class Origin(enum.Enum):
    """Who began a drain."""

    ADMIN = "admin"
    SIGNAL = "signal"
    """Leads to the end of the process and cannot be cancelled."""


@dataclass(slots=True)
class Drain:
    """A drain under way or done.

    Attributes:
        total: Connections when it began.
        closed: Of those, how many have been closed by us.
        started_at: Monotonic seconds; ``finished_at`` the same, infinity while it runs.
        until: Monotonic seconds when it is undone unless renewed; infinity for a signal's.
        must_end_at: Monotonic seconds when what is left is closed at once.
        seconds: How long it is planned to take.
    """

    origin: Origin
    total: int
    started_at: float
    until: float
    must_end_at: float
    seconds: float
    closed: int = 0
    finished_at: float = math.inf


class Drainer:
    """The one owner of the drain. Event loop only."""

    def __init__(
        self,
        hub: Hub,
        lifecycle: Lifecycle,
        announcements: Announcements,
        observer: Observer,
        *,
        now: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._lifecycle = lifecycle
        self._announcements = announcements
        self._observer = observer
        self._now = now
        self.drain: Drain | None = None
        self._batches: deque[Batch] = deque()
        self._queue: deque[Connection] = deque()
        self._index = 0
        self.done = asyncio.Event()

    @property
    def is_running(self) -> bool:
        """Whether connections are still being closed."""
        return self.drain is not None and self.drain.finished_at == math.inf

    def start(self, origin: Origin, policy: DrainPolicy, *, budget_seconds: float, ttl_seconds: float) -> bool:
        """Begin a drain, or renew the one that runs.

        A signal takes over a drain of the admin API: who is left is closed by the signal's own plan.

        Args:
            budget_seconds: After this, all that is left is closed at once.
            ttl_seconds: After this, an admin's drain is undone unless it was renewed; infinity for a signal.

        Returns:
            False when the process is in no phase to be drained.
        """
        now = self._now()
        running = self.drain
        if running is not None and self._lifecycle.phase in (Phase.DRAINING, Phase.DRAINED):
            if origin is Origin.SIGNAL and running.origin is Origin.ADMIN:
                self._take_over(running, policy, now, budget_seconds)
            elif running.origin is Origin.ADMIN:
                running.until = now + ttl_seconds
            return True
        if not self._lifecycle.enter(Phase.DRAINING, f"drain by {origin.value}"):
            return False
        self.done.clear()
        # Oldest first: those who have been here longest come back first to the next instance.
        self._queue = deque(self._hub.connections.values())
        self._batches = deque(schedule(len(self._queue), policy))
        self._index = 0
        seconds = policy.grace_seconds + policy.spread_seconds
        self.drain = Drain(origin, len(self._queue), now, now + ttl_seconds, now + budget_seconds, seconds)
        self._announcements.tell_all(
            codec.encode({"type": "maintenance", "state": "draining", "seconds": round(seconds, 3)})
        )
        self.tick(now)
        return True

    def _take_over(self, drain: Drain, policy: DrainPolicy, now: float, budget_seconds: float) -> None:
        """Make an operator's drain the signal's, which has its own plan for those who are left."""
        drain.origin, drain.until = Origin.SIGNAL, math.inf
        drain.must_end_at = now + budget_seconds
        if self.is_running:
            drain.started_at = now
            drain.seconds = policy.grace_seconds + policy.spread_seconds
            self._batches = deque(schedule(len(self._queue), policy))

    def cancel(self, reason: str) -> bool:
        """Stop closing and let everybody in again; False when a signal began it or none is there."""
        if self.drain is None or self.drain.origin is Origin.SIGNAL:
            return False
        if self._lifecycle.phase in (Phase.DRAINING, Phase.DRAINED):
            self._lifecycle.enter(Phase.ACTIVE, reason)
        self.drain = None
        self._batches.clear()
        self._queue.clear()
        self.done.set()
        self._announcements.tell_all(codec.encode({"type": "maintenance", "state": "cancelled"}))
        return True

    def reset(self) -> None:
        """Forget the drain without a word: everybody has been sent away, for a reason of its own."""
        self.drain = None
        self._batches.clear()
        self._queue.clear()
        self.done.set()

    def hurry(self) -> None:
        """Close all that is left now."""
        if self.drain is not None:
            self.drain.must_end_at = self._now()
            self.tick(self._now())

    def tick(self, now: float) -> None:
        """Close what is due, and see whether it is over."""
        drain = self.drain
        if drain is None:
            return
        if now >= drain.until and drain.origin is Origin.ADMIN:
            self.cancel("the drain was not renewed in time")
            return
        if not self.is_running:
            return
        if now >= drain.must_end_at:
            self._batches.clear()
            self._close(drain, len(self._queue))
            # Whoever came in some other way must go as well.
            self._queue.extend(self._hub.connections.values())
            self._close(drain, len(self._queue))
        while self._batches and now >= drain.started_at + self._batches[0].at_seconds:
            self._close(drain, self._batches.popleft().count)
        if not self._batches and not self._hub.connections:
            drain.finished_at = now
            self._lifecycle.enter(Phase.DRAINED, "no connection is left")
            self.done.set()

    def _close(self, drain: Drain, count: int) -> None:
        # What was published before the close still goes out before it.
        self._hub.flush()
        closed = 0
        for _ in range(min(count, len(self._queue))):
            connection = self._queue.popleft()
            if self._hub.connections.get(connection.client) is connection:
                connection.close(Disconnects.SHUTDOWN)
                closed += 1
        drain.closed += closed
        if count:
            self._index += 1
            self._observer.drained(self._index, closed, len(self._hub.connections))
