"""The phase of the process, and the gate: the one owner of both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from service.core.phase import TRANSITIONS, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.realtime.ports import Observer

__all__ = ("Lifecycle",)


class Lifecycle:
    """Where the process stands. Event loop only.

    Attributes:
        phase: Now.
        since: Unix seconds when it began.
        reason: Why, in a few words for status and logs.
        gated_until: Monotonic seconds when the gate opens by itself; infinity when it does not.
    """

    def __init__(self, *, now: Callable[[], float], wall: Callable[[], float], observer: Observer) -> None:
        self._now = now
        self._wall = wall
        self._observer = observer
        self.phase = Phase.STARTING
        self.since = wall()
        self.reason = "starting"
        self.gated_until = math.inf

    def enter(self, phase: Phase, reason: str) -> bool:
        """Go to a phase; False when it may not follow the present one, and nothing changes."""
        if phase is self.phase:
            self.reason = reason
            return True
        if phase not in TRANSITIONS[self.phase]:
            return False
        before, self.phase = self.phase, phase
        self.since, self.reason = self._wall(), reason
        if phase is Phase.ACTIVE:
            self.gated_until = math.inf
        self._observer.phase_changed(before, phase, reason)
        return True

    def gate(self, ttl_seconds: float, reason: str) -> bool:
        """Refuse new WebSockets for a time, or for longer when the gate is closed already.

        Returns:
            False when the process is in no phase to be gated.
        """
        if self.phase not in (Phase.DRAINING, Phase.DRAINED) and not self.enter(Phase.GATED, reason):
            return False
        self.gated_until = self._now() + ttl_seconds
        return True

    def open_gate(self, reason: str) -> bool:
        """Let new WebSockets in again; False while a drain needs the gate."""
        if self.phase is Phase.GATED:
            return self.enter(Phase.ACTIVE, reason)
        return self.phase is Phase.ACTIVE

    def tick(self, now: float) -> None:
        """Open the gate when nobody renewed it."""
        if self.phase is Phase.GATED and now >= self.gated_until:
            self.enter(Phase.ACTIVE, "the gate was not renewed in time")
