"""What to do about a replica count: pure, without a clock and without a cluster.

A count above one is set back to one. Zero is what somebody wanted, and stays. Whoever keeps raising the count is
first set back at once, then after longer and longer pauses, and in the end left alone: each time a pod is taken away
again, connections are lost, so a quarrel does more harm than what it is about.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = (
    "FRESH",
    "Autoscaler",
    "Decision",
    "News",
    "Policy",
    "Record",
    "Step",
    "Workload",
    "Writer",
    "advice",
    "decide",
    "patch_of",
)

_ONE: Final = 1
_WHY: Final = "its connections live in the memory of one process"


@dataclass(frozen=True, slots=True)
class Writer:
    """Who set a field, as ``metadata.managedFields`` has it.

    Attributes:
        manager: Field manager.
        subresource: By which it was set, such as ``scale``; empty for the object itself.
    """

    manager: str
    subresource: str = ""

    @override
    def __str__(self) -> str:
        return f"{self.manager} (by way of {self.subresource})" if self.subresource else self.manager


@dataclass(frozen=True, slots=True)
class Workload:
    """What is seen of a workload.

    Attributes:
        replicas: That are asked for, not that there are.
        resource_version: Of what was seen.
        is_guarded: It carries the label.
        is_going: It is being deleted.
        writer: Of the replica count; None when nobody is noted.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    replicas: int
    is_guarded: bool = True
    is_going: bool = False
    writer: Writer | None = None

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """What may scale a workload.

    Attributes:
        most: Replicas that it may ask for.
        owner: Kind and name of what made it; empty for nothing.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    target_kind: str
    target_name: str
    most: int
    owner: str = ""

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.name}{f' (of {self.owner})' if self.owner else ''}"

    @property
    def passes_one(self) -> bool:
        """Whether it may ask for more than one."""
        return self.most > _ONE

    def scales(self, workload: Workload) -> bool:
        """Tell whether a workload is its target."""
        target = (self.namespace, self.target_kind, self.target_name)
        return target == (workload.namespace, workload.kind, workload.name)


@dataclass(frozen=True, slots=True)
class Policy:
    """How long to insist."""

    tries: int = 5
    """Times that a count is set back without a pause."""
    pauses_seconds: tuple[float, ...] = (60.0, 300.0, 1800.0)
    """Before each further time; after the last one the guard stands down."""
    calm_seconds: float = 3600.0
    """Without a count above one, after which everything is forgotten."""
    reminder_seconds: float = 3600.0
    """Between two Events that say that the guard stands down; Events are kept for an hour."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a quarrel over one workload; instants are of a clock that never goes back.

    Attributes:
        set_backs: Times that the count was set back.
        raised_at: When a count above one was last seen; None for never.
        paused_until: The guard waits until then; None when it does not.
        told_at: When it was last told that the guard stands down; None when it does not.
        writers: Whoever raised the count.
        had_autoscaler: Something that may ask for more than one was about when the count was last above one.
    """

    set_backs: int = 0
    raised_at: float | None = None
    paused_until: float | None = None
    told_at: float | None = None
    writers: frozenset[str] = frozenset()
    had_autoscaler: bool = False

    @property
    def is_holding_off(self) -> bool:
        """Whether a count above one is left as it is, for now or for good."""
        return self.paused_until is not None or self.told_at is not None


FRESH: Final = Record()
"""Nothing has happened."""


class Step(enum.Enum):
    """What to do."""

    LEAVE = "leave"
    """The count is right, or none of our business."""
    SET_BACK = "set back"
    """Ask for one."""
    PAUSE = "pause"
    """The count is wrong, and is left for a while."""
    STAND_DOWN = "stand down"
    """The count is wrong, and is left until somebody settles it."""


@dataclass(frozen=True, slots=True)
class News:
    """An Event to write on the workload; all are warnings."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a workload.

    Attributes:
        news: To tell; for `Step.SET_BACK` once that is done.
        record: To remember; for `Step.SET_BACK` once that is done.
        due_at: When to look again without being told; None for never.
    """

    step: Step
    record: Record
    news: News | None = None
    due_at: float | None = None


def patch_of(workload: Workload) -> list[dict[str, Any]]:
    """Return the JSON patch that sets the count back, of the workload as it was seen and of no later one."""
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": workload.resource_version},
        {"op": "replace", "path": "/spec/replicas", "value": _ONE},
    ]


def decide(
    workload: Workload,
    autoscalers: Iterable[Autoscaler],
    record: Record,
    now: float,
    policy: Policy = Policy(),
) -> Decision:
    """Decide what to do about a workload.

    Args:
        autoscalers: All of the namespace.
        now: Of the clock that the record's instants are of.
    """
    if not workload.is_guarded or workload.is_going:
        return Decision(Step.LEAVE, FRESH)
    rivals = [one for one in autoscalers if one.passes_one and one.scales(workload)]
    record = _without_the_settled(record, workload, bool(rivals), now, policy)
    if workload.replicas <= _ONE:
        return Decision(Step.LEAVE, _at_rest(record, policy))
    writers = record.writers | {str(workload.writer)}
    record = replace(record, raised_at=now, writers=writers, had_autoscaler=bool(rivals))
    return _oppose(workload, rivals, record, now, policy)


def _oppose(workload: Workload, rivals: list[Autoscaler], record: Record, now: float, policy: Policy) -> Decision:
    """Decide about a count above one."""
    if record.told_at is not None:
        return _stand_down(workload, rivals, record, now, policy)
    if record.paused_until is not None and now < record.paused_until:
        return Decision(Step.PAUSE, record, due_at=record.paused_until)
    if record.set_backs < policy.tries or record.paused_until is not None:
        return _set_back(workload, rivals, record)
    return _hold_off(workload, rivals, record, now, policy)


def advice(autoscalers: Iterable[Autoscaler]) -> str:
    """Say what may ask for more than one, and what to do about it; empty for nothing."""
    return " ".join(
        f"{one} may scale it to {one.most}: set its {_field(one)} to 1, or delete it." for one in autoscalers
    )


def _field(autoscaler: Autoscaler) -> str:
    return "maxReplicaCount" if autoscaler.kind == "ScaledObject" else "maxReplicas"


def _without_the_settled(record: Record, workload: Workload, has_rivals: bool, now: float, policy: Policy) -> Record:  # noqa: FBT001 - private
    """Return the record, or a fresh one when what it is about is over."""
    is_calm = record.raised_at is not None and now - record.raised_at >= policy.calm_seconds
    is_rid_of_rivals = record.had_autoscaler and not has_rivals
    # Somebody who has not been told to stop yet.
    is_another = record.told_at is not None and workload.replicas > _ONE and str(workload.writer) not in record.writers
    return FRESH if is_calm or is_rid_of_rivals or is_another else record


def _at_rest(record: Record, policy: Policy) -> Record:
    """Return what to remember of a count that is right: somebody else's hand gives one more try."""
    if record.told_at is None:
        return record
    last = policy.tries + len(policy.pauses_seconds) - 1
    return replace(record, told_at=None, paused_until=record.raised_at, set_backs=max(0, last))


def _set_back(workload: Workload, rivals: list[Autoscaler], record: Record) -> Decision:
    raised = f"{workload} was scaled to {workload.replicas} by {_name(workload)}"
    message = f"{raised}, and {_WHY}: set back to 1. {advice(rivals)}"
    after = replace(record, set_backs=record.set_backs + 1, paused_until=None)
    return Decision(Step.SET_BACK, after, News("ReplicasSetBack", message.strip()))


def _hold_off(workload: Workload, rivals: list[Autoscaler], record: Record, now: float, policy: Policy) -> Decision:
    taken = record.set_backs - policy.tries
    if taken >= len(policy.pauses_seconds):
        return _stand_down(workload, rivals, record, now, policy)
    pause = policy.pauses_seconds[taken]
    message = (
        f"{_name(workload)} keeps scaling {workload} to {workload.replicas}; it was set back {record.set_backs} times. "
        f"The guard waits {pause:g} s before it does so again. {advice(rivals)}"
    )
    waiting = replace(record, paused_until=now + pause)
    return Decision(Step.PAUSE, waiting, News("GuardWaits", message.strip()), due_at=waiting.paused_until)


def _stand_down(workload: Workload, rivals: list[Autoscaler], record: Record, now: float, policy: Policy) -> Decision:
    """Leave it, and say so now and then."""
    is_due = record.told_at is None or now - record.told_at >= policy.reminder_seconds
    told = replace(record, told_at=now if is_due else record.told_at, paused_until=None)
    message = (
        f"{_name(workload)} keeps scaling {workload} to {workload.replicas}; it was set back {record.set_backs} times, "
        f"and the guard has stopped. Settle it with whoever that is, then set the count to 1. {advice(rivals)}"
    )
    return Decision(Step.STAND_DOWN, told, News("GuardStandsDown", message.strip()) if is_due else None)


def _name(workload: Workload) -> str:
    return str(workload.writer) if workload.writer else "somebody whose name is not noted"
