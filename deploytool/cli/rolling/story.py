"""What became of a rollout, and what a person can do about it: what a report is made of. Pure, but for the clock."""

from __future__ import annotations

import enum
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from deploytool.cli.rolling import curve
from deploytool.rollout.phases import Phase
from deploytool.rollout.ports import View

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from deploytool.rollout.journal import Journal
    from deploytool.rollout.plan import Ending
    from deploytool.rollout.ports import Event

__all__ = ("Recorder", "Story", "Tone", "advice", "headline_of")

_MOST_EVENTS: Final = 20_000
_FAULT: Final = 1
_LOCKED: Final = 6
_LATE: Final = 7
_INTERRUPTED: Final = 130


class Tone(enum.Enum):
    """How a headline sounds."""

    GOOD = "good"
    BACK = "back"
    BAD = "bad"
    CALM = "calm"


class Recorder(View):
    """Keeps every event, and shows it to somebody else.

    Attributes:
        events: In order. Of too many, those that only count are left out.
    """

    def __init__(self, inner: View) -> None:
        self._inner = inner
        self.events: list[Event] = []

    @override
    def show(self, event: Event) -> None:
        if len(self.events) < _MOST_EVENTS or event.kind != "progress":
            self.events.append(event)
        self._inner.show(event)

    def gaps(self) -> list[tuple[float, float]]:
        """Return for how long nobody was connected, each as the least and the most that it can have been."""
        found = curve.gaps_of(curve.looks_of(self.events))
        return [(one.least_seconds, one.most_seconds) for one in found if one.most_seconds is not None]


@dataclass(frozen=True, slots=True)
class Story:
    """What a report tells.

    Attributes:
        command: Such as ``rollout run``.
        workload: That was to be replaced, or emptied.
        journal: As it was written down last.
        events: Of this run of the tool.
        ending: None when it did not begin, or broke off.
        problem: Why there is no ending; empty when there is one.
        exit_code: Of the tool.
        has_begun: Whether anything was written down by this run.
        began_at: Of this run, in unix seconds.
        ended_at: In unix seconds.
        zone: In which people think; None for that of this machine.
        version: Of the tool.
    """

    command: str
    workload: str
    namespace: str
    journal: Journal
    events: Sequence[Event]
    ending: Ending | None
    problem: str
    exit_code: int
    has_begun: bool
    began_at: float
    ended_at: float
    zone: dt.tzinfo | None = None
    version: str = ""

    @property
    def is_broken_off(self) -> bool:
        """Whether it ended in a way that nobody thought of, so that it is not known how far it came."""
        return self.ending is None and (self.has_begun or self.exit_code == _FAULT)

    @property
    def text(self) -> str:
        """What became of it, in a sentence."""
        return self.problem if self.ending is None else self.ending.text


def headline_of(story: Story) -> tuple[Tone, str]:
    """Return what became of it, in a few words."""
    if story.ending is None:
        return (Tone.BAD, "Broke off") if story.is_broken_off else (Tone.CALM, "Not begun")
    if story.exit_code == _INTERRUPTED:
        return Tone.BAD, "Interrupted"
    if story.ending.phase is Phase.ROLLED_BACK:
        return _gone_back(story.journal, story.exit_code)
    stopped = "The lock was lost" if story.exit_code == _LOCKED else "Stopped"
    return _HEADLINES.get(story.ending.phase, (Tone.BAD, stopped))


_HEADLINES: Final = {
    Phase.COMMIT: (Tone.GOOD, "Rolled out"),
    Phase.CANCELLED: (Tone.CALM, "Cancelled"),
    Phase.NEEDS_OPERATOR: (Tone.BAD, "Needs a person"),
}


def _gone_back(journal: Journal, exit_code: int) -> tuple[Tone, str]:
    if exit_code:
        return Tone.BACK, "Rolled back"
    if not journal.new:
        return Tone.GOOD, "Drained, and open again"
    if journal.was_practised:
        return Tone.GOOD, "Drill done: the old image serves again"
    return Tone.BACK, "Gone back, as was asked"


def advice(story: Story) -> tuple[str, Sequence[str]]:
    """Return what a person can do now, and the commands for it."""
    where = shlex.join(("--namespace", story.namespace, "--workload", story.workload))
    ending = story.ending
    if ending is None:
        return _without_ending(story, where)
    if ending.commands:
        return "Nothing goes on by itself. Look, then go on or back:", ending.commands
    if ending.phase is Phase.COMMIT:
        back = f"deploytool rollout run {where} --image {shlex.quote(story.journal.old)}"
        return "Nothing is left to do. This goes back to the image before:", (back,)
    is_bad = ending.phase is Phase.ROLLED_BACK and story.exit_code
    return (_MEND if is_bad else "Nothing is left to do."), ()


def _without_ending(story: Story, where: str) -> tuple[str, Sequence[str]]:
    look = f"deploytool rollout status {where}"
    if story.is_broken_off:
        return "It is not known how far it came. Look, then go on:", (look, f"deploytool rollout resume {where}")
    if story.exit_code == _LOCKED:
        return "Nothing was changed. See who holds the lock:", (look,)
    return _BEFORE.get(story.exit_code, ("Nothing was changed. Mend what is named above, then try again.", ()))


_MEND: Final = "The old image serves. Mend the new one, by what is said below, and roll out again."
_BEFORE: Final[Mapping[int, tuple[str, Sequence[str]]]] = {
    _LATE: ("Nothing was changed. See when a window opens:", ("deploytool window next",)),
    _INTERRUPTED: ("Nothing was changed.", ()),
}
