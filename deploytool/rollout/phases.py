"""Phases of a rollout, which may follow which, and where to go on after an interruption. Pure."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ("ENDINGS", "FORWARD", "TRANSITIONS", "Course", "Phase", "course")


class Phase(enum.Enum):
    """Where a rollout stands."""

    PREFLIGHT = "PREFLIGHT"
    """Nothing is changed: is everything there that is going to be needed?"""
    LOCK = "LOCK"
    """Nobody else rolls out from here on."""
    ANNOUNCE = "ANNOUNCE"
    """Clients are told, again and again."""
    AWAIT_WINDOW = "AWAIT_WINDOW"
    """Until a window is open that is long enough."""
    RECHECK = "RECHECK"
    """Nothing has changed since PREFLIGHT; clients are counted."""
    GATE = "GATE"
    """No new WebSockets."""
    DRAIN = "DRAIN"
    """The old ones are closed, spread over a time."""
    SWITCH = "SWITCH"
    """The workload asks for the new image."""
    READY = "READY"
    """Its one pod is there, and no other."""
    SMOKE = "SMOKE"
    """A real client is served by it."""
    RECONNECT = "RECONNECT"
    """The clients come back."""
    COMMIT = "COMMIT"
    """It is done, and on record."""
    ROLLING_BACK = "ROLLING_BACK"
    """Back to the old image, or just to letting clients in again."""
    ROLLED_BACK = "ROLLED_BACK"
    CANCELLED = "CANCELLED"
    """Nothing had been changed."""
    NEEDS_OPERATOR = "NEEDS_OPERATOR"
    """A person has to look; the lock is kept."""

    @property
    def is_before_gate(self) -> bool:
        """Whether nothing has been changed for clients in this phase, apart from what they were told."""
        return self in _BEFORE_GATE


FORWARD: Final = (
    Phase.PREFLIGHT,
    Phase.LOCK,
    Phase.ANNOUNCE,
    Phase.AWAIT_WINDOW,
    Phase.RECHECK,
    Phase.GATE,
    Phase.DRAIN,
    Phase.SWITCH,
    Phase.READY,
    Phase.SMOKE,
    Phase.RECONNECT,
    Phase.COMMIT,
)
"""What follows what when all goes well."""

ENDINGS: Final = frozenset({Phase.ROLLED_BACK, Phase.CANCELLED})
"""After these, and after COMMIT is done, there is nothing left to go on with."""

_BEFORE_GATE: Final = frozenset(FORWARD[: FORWARD.index(Phase.GATE)])
_BACK: Final = frozenset({Phase.ROLLING_BACK, Phase.NEEDS_OPERATOR})


def _transitions() -> dict[Phase, frozenset[Phase]]:
    table: dict[Phase, frozenset[Phase]] = {}
    for phase, after in zip(FORWARD, (*FORWARD[1:], None), strict=True):
        following = frozenset() if after is None else frozenset({after})
        ways_out = frozenset({Phase.CANCELLED}) if phase.is_before_gate else _BACK
        # Whoever resumes goes by what is seen: with the old image from the announcement, with the new one from READY.
        again = frozenset({Phase.ANNOUNCE}) if Phase.LOCK in FORWARD[: FORWARD.index(phase) + 1] else frozenset()
        seen_new = frozenset() if phase.is_before_gate else frozenset({Phase.READY})
        table[phase] = following | ways_out | again | seen_new | ({phase} - {Phase.PREFLIGHT})
    # An image that appears before we asked for it is somebody else's doing.
    for phase in _BEFORE_GATE - {Phase.PREFLIGHT}:
        table[phase] |= {Phase.NEEDS_OPERATOR}
    table[Phase.ROLLING_BACK] = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.NEEDS_OPERATOR})
    table[Phase.NEEDS_OPERATOR] = _BACK | {Phase.ANNOUNCE, Phase.READY, Phase.CANCELLED}
    return {**table, **dict.fromkeys(ENDINGS, frozenset())}


TRANSITIONS: Final = _transitions()
"""Which phase may follow which in a journal."""


class Course(enum.Enum):
    """What to do with a rollout that was interrupted."""

    CLOSE = "close"
    """It has ended; only the lock is left."""
    START_AGAIN = "start again"
    """The old image still runs: announce, gate and drain again, each of which only renews what is still there."""
    VERIFY = "verify"
    """The workload asks for the new image already: see it become ready."""
    GO_BACK = "go back"
    CANCEL = "cancel"
    """Nothing was changed, so there is nothing to go back from."""
    DRIFT = "drift"
    """The workload asks for an image that is neither: somebody else works on it."""


def course(*, last: Phase, is_done: bool, was_gated: bool, is_old: bool, is_new: bool, is_aborting: bool) -> Course:
    """Decide by what is seen now, and by the journal only where it cannot be seen.

    Args:
        last: Phase of the last step on record.
        is_done: Whether that step has a result.
        was_gated: Whether GATE was ever intended.
        is_old: The workload asks for the old image.
        is_new: It asks for the new one.
        is_aborting: Whether to go back in any case.
    """
    if last in ENDINGS or (last is Phase.COMMIT and is_done):
        return Course.CLOSE
    if not (is_old or is_new):
        return Course.DRIFT
    if is_aborting or last is Phase.ROLLING_BACK:
        return Course.GO_BACK if was_gated or is_new else Course.CANCEL
    return Course.VERIFY if is_new else Course.START_AGAIN
