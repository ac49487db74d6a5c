"""The journal of a rollout: a value, written down before and after each step. Pure.

Holds what somebody else needs to go on: no secrets, and nothing that can be seen in the cluster.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Final

from deploytool.errors import DeploytoolError
from deploytool.rollout.phases import ENDINGS, FORWARD, TRANSITIONS, Phase

__all__ = ("VERSION", "Journal", "JournalError", "NewerJournalError", "Step")

VERSION: Final = 1
_MOST_STEPS: Final = 80
_MOST_NOTE: Final = 300
_MOST_TEXT: Final = 1000
_MOST_CHARACTERS: Final = 64 << 10
"""Of a journal as it is stored: all annotations of an object have 256 KiB together, and two journals must fit."""
_TEXTS: Final = ("rollout", "workload", "actor", "reason", "old", "new", "override", "failure", "instance")


class JournalError(DeploytoolError):
    """What is stored is no journal, or was not written in this order."""

    exit_code: ClassVar[int] = 9


class NewerJournalError(JournalError):
    """The journal was written by a newer version of the tool, which may have done what this one does not know."""


@dataclass(frozen=True, slots=True)
class Step:
    """One phase, as far as it came.

    Attributes:
        begun_at: When it was intended, in unix seconds.
        done_at: When it was done; None while it is not, or when that is not known.
        note: What was seen, for people.
    """

    phase: Phase
    begun_at: float
    done_at: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Journal:
    """One rollout.

    Attributes:
        rollout: Its id.
        actor: ``user@host`` of who began it.
        reason: Why, as that person said.
        old: Image before, as in the workload.
        new: Image after.
        override: Why it may start outside of a window; empty when it may not.
        failure: Why it goes back; empty while it does not.
        instance: Process that served before; empty while that is not known.
        baseline: Clients before the drain; None while they have not been counted.
        revision: Of the Helm release before; None when Helm does not own it.
        drill: It is to go back in any case, once the new image has shown that it serves.
        steps: In order, at least one.
    """

    rollout: str
    workload: str
    actor: str
    reason: str
    old: str
    new: str
    override: str = ""
    failure: str = ""
    instance: str = ""
    baseline: int | None = None
    revision: int | None = None
    drill: bool = False
    steps: tuple[Step, ...] = ()

    @property
    def last(self) -> Step | None:
        """The step that was begun last; None before the first."""
        return self.steps[-1] if self.steps else None

    @property
    def phase(self) -> Phase:
        """Of the last step; PREFLIGHT before the first."""
        return self.steps[-1].phase if self.steps else Phase.PREFLIGHT

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to go on with."""
        last = self.last
        return last is not None and (last.phase in ENDINGS or (last.phase is Phase.COMMIT and last.done_at is not None))

    @property
    def was_gated(self) -> bool:
        """Whether clients may have been shut out at any time."""
        return any(not one.phase.is_before_gate and one.phase is not Phase.CANCELLED for one in self.steps)

    @property
    def was_switched(self) -> bool:
        """Whether the new image was asked for, as far as the journal knows."""
        return any(one.phase is Phase.SWITCH for one in self.steps)

    @property
    def was_practised(self) -> bool:
        """Whether it is a drill that came as far as it should, so that what goes back does so on purpose."""
        forward = [one for one in self.steps if one.phase in FORWARD]
        return self.drill and bool(forward) and forward[-1].phase is Phase.RECONNECT and forward[-1].done_at is not None

    def begin(self, phase: Phase, at: float) -> Journal:
        """Return it with the intention to do a phase.

        Raises:
            JournalError: The phase does not follow the last one.
        """
        if phase not in TRANSITIONS[self.phase]:
            raise JournalError(f"{phase.value} does not follow {self.phase.value}")
        steps = (*self.steps, Step(phase, at))
        if len(steps) > _MOST_STEPS:
            # The first steps say how it began, the last ones where it stands.
            steps = (*steps[: _MOST_STEPS // 2], *steps[-_MOST_STEPS // 2 :])
        return replace(self, steps=steps)

    def finish(self, at: float, note: str = "") -> Journal:
        """Return it with the last step done."""
        done = replace(self.steps[-1], done_at=at, note=note[:_MOST_NOTE])
        return replace(self, steps=(*self.steps[:-1], done))

    def to_json(self) -> str:
        """Return it as it is stored; what people said is cut where it would not fit."""
        texts = {name: getattr(self, name)[:_MOST_TEXT] for name in ("reason", "override", "failure")}
        most = _MOST_NOTE
        while True:
            steps = [{**asdict(one), "phase": one.phase.value, "note": one.note[:most]} for one in self.steps]
            whole = {"version": VERSION, **asdict(self), **texts, "steps": steps}
            text = json.dumps(whole, separators=(",", ":"), sort_keys=True)
            if len(text) <= _MOST_CHARACTERS or not most:
                return text
            most //= 2

    @classmethod
    def from_json(cls, text: str) -> Journal:
        """Read what was stored.

        Raises:
            NewerJournalError: By a newer version.
            JournalError: It is no journal.
        """
        try:
            found = json.loads(text)
            version = found.pop("version")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
            raise JournalError("the journal of the rollout cannot be read: it is no JSON of ours") from error
        if isinstance(version, int) and version > VERSION:
            raise NewerJournalError(
                f"the journal of rollout {found.get('rollout')} has version {version}, and this deploytool knows "
                f"{VERSION}: go on with the deploytool that began it, or a newer one"
            )
        try:
            return _read(found)
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"the journal of the rollout cannot be read: {type(error).__name__} {error}") from error


def _read(found: dict[str, Any]) -> Journal:
    texts = {name: found[name] for name in _TEXTS}
    if not all(isinstance(one, str) for one in texts.values()):
        raise TypeError("a text is none")
    numbers = {name: found[name] for name in ("baseline", "revision")}
    if not all(one is None or type(one) is int for one in numbers.values()):
        raise TypeError("a number is none")
    # Journals of before there were drills have no such field.
    is_drill = found.get("drill", False)
    if not isinstance(is_drill, bool):
        raise TypeError("whether it is a drill is not said")
    if not isinstance(found["steps"], list):
        raise TypeError("its steps are no list")
    steps = tuple(
        Step(Phase(one["phase"]), float(one["begun_at"]), _seconds(one["done_at"]), str(one["note"]))
        for one in found["steps"]
    )
    return Journal(**texts, **numbers, drill=is_drill, steps=steps)


def _seconds(value: Any) -> float | None:  # noqa: ANN401 - JSON
    return None if value is None else float(value)
