"""How a rollout is to go: deadlines, and what to do when one is missed."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from deploytool.planning.window import Calendar, Explanation, Need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploytool.rollout.phases import Phase

__all__ = ("LEAST_RECONNECT_SECONDS", "Deadlines", "DrainPolicy", "Ending", "Plan")

LEAST_RECONNECT_SECONDS: Final = 60.0
"""Stock clients wait up to 20 s between two attempts, and the first ones fail while nobody serves."""


class DrainPolicy(enum.Enum):
    """What to do with a drain that does not finish in time."""

    WAIT = "wait"
    """Go on waiting, for as long as the window has room for going back."""
    FORCE = "force"
    """Switch all the same: the end of the process closes what is left."""
    ABORT = "abort"
    """Let clients in again, and give up."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that each part may take.

    Attributes:
        trial: Of the new image in a pod of its own, with its pull.
        retry: For a single request that keeps failing.
        poll: Between two looks.
        settle: For which the new instance has to go on well, however soon clients are back.
        ttl: For which gate, drain and announcement hold without us.
    """

    trial: float = 360.0
    gate: float = 15.0
    drain: float = 60.0
    switch: float = 60.0
    ready: float = 300.0
    smoke: float = 60.0
    reconnect: float = LEAST_RECONNECT_SECONDS
    settle: float = 10.0
    retry: float = 30.0
    poll: float = 1.0
    ttl: float = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted.

    Attributes:
        override: Why it may start outside of a window; empty when it may not.
        wait_seconds: How long to wait for a window; 0 to start now or not at all.
        message: What clients are told.
        share: Part of the clients counted before that has to come back, from 0 to 1.
        is_degraded: The service has no admin contract: no announcement, no gate, and the drain is that of SIGTERM.
    """

    calendar: Calendar = field(default_factory=lambda: Calendar(()))
    need: Need = field(default_factory=Need)
    override: str = ""
    wait_seconds: float = 0.0
    message: str = "maintenance: connections are closed and come back by themselves"
    share: float = 0.95
    drain_policy: DrainPolicy = DrainPolicy.WAIT
    deadlines: Deadlines = field(default_factory=Deadlines)
    is_degraded: bool = False

    def explain(self, at: float) -> Explanation:
        """Say whether it may start at an instant."""
        found = self.calendar.explain(at, self.need)
        if not self.override or found.may_start:
            return found
        return Explanation(at, self.need.seconds or 1.0, 0.0, (f"overridden: {self.override}",), found.upcoming)


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended.

    Attributes:
        phase: COMMIT, ROLLED_BACK, CANCELLED or NEEDS_OPERATOR; any other when it was interrupted there.
        exit_code: For the process.
        text: Why, for people.
        commands: For a person to go on with; empty when nothing is left to do.
    """

    phase: Phase
    exit_code: int
    text: str
    commands: Sequence[str] = ()
