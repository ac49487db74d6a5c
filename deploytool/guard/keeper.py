"""Looks, decides, acts and remembers; knows neither kopf nor a client of Kubernetes.

Synchronous: whoever calls sees to it that there is one call at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from deploytool.errors import DeploytoolError
from deploytool.guard.decision import FRESH, Decision, Policy, Step, advice, decide, patch_of
from deploytool.guard.reading import AUTOSCALER_KINDS, WORKLOAD_KINDS, autoscaler_of, workload_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from deploytool.clock import Clock
    from deploytool.guard.decision import Autoscaler, News, Record, Workload
    from deploytool.guard.ports import Objects, Observer

__all__ = ("Keeper",)

_LOOKS: Final = 5
_RETRY_SECONDS: Final = 5.0


class _Key(NamedTuple):
    kind: str
    name: str


@dataclass(slots=True)
class Keeper:
    """Owner of what the guard remembers of one namespace.

    Attributes:
        names: Workloads to guard; empty for all that carry the label.
        is_dry: Ask the port as ever, which then changes nothing, and tell nobody in the cluster.
    """

    objects: Objects
    clock: Clock
    observers: Sequence[Observer] = ()
    policy: Policy = field(default_factory=Policy)
    names: Collection[str] = ()
    is_dry: bool = False
    _workloads: dict[_Key, Workload] = field(default_factory=dict)
    _autoscalers: dict[_Key, Autoscaler] = field(default_factory=dict)
    _records: dict[_Key, Record] = field(default_factory=dict)
    _due: dict[_Key, float] = field(default_factory=dict)
    _warned: set[tuple[str, int]] = field(default_factory=set)

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """Those that are guarded, as they were last seen."""
        return tuple(self._workloads.values())

    def next_due(self) -> float | None:
        """Return when `keep` has something to do; None for never. Of the clock that never goes back."""
        return min(self._due.values(), default=None)

    def saw_workload(self, kind: str, body: Mapping[str, Any], *, is_gone: bool = False) -> None:
        """Take note of a Deployment or a StatefulSet, and do what has to be done about it."""
        self._see(workload_of(kind, body), is_gone=is_gone)

    def saw_autoscaler(self, kind: str, body: Mapping[str, Any], *, is_gone: bool = False) -> None:
        """Take note of what scales, and look at its target again."""
        seen = autoscaler_of(kind, body)
        key = _Key(kind, seen.name)
        before = self._autoscalers.pop(key, None)
        if not is_gone:
            self._autoscalers[key] = seen
        if is_gone or before is None or before.most != seen.most:
            for workload in [one for one in self.workloads if seen.scales(one)]:
                self._see(workload, is_gone=False)

    def keep(self) -> None:
        """Look at the workloads whose pause is over."""
        now = self.clock.now()
        for key in [key for key, at in self._due.items() if at <= now]:
            self._again(key)

    def look(self) -> None:
        """Look at everything afresh: what the watches may have missed, or what there was before."""
        try:
            bodies = {kind: self.objects.all(kind) for kind in (*AUTOSCALER_KINDS, *WORKLOAD_KINDS)}
        except DeploytoolError as error:
            self._fail("look", error)
            return
        found = [autoscaler_of(kind, body) for kind in AUTOSCALER_KINDS for body in bodies[kind]]
        self._autoscalers = {_Key(one.kind, one.name): one for one in found}
        seen = [workload_of(kind, body) for kind in WORKLOAD_KINDS for body in bodies[kind]]
        for workload in seen:
            self._see(workload, is_gone=False)
        for key in self._workloads.keys() - {_Key(one.kind, one.name) for one in seen}:
            self._forget(key)
        for observer in self.observers:
            observer.looked(self.clock.wall())

    def rivals(self, workload: Workload) -> tuple[Autoscaler, ...]:
        """Return what may ask for more than one of a workload."""
        return tuple(one for one in self._autoscalers.values() if one.passes_one and one.scales(workload))

    def _again(self, key: _Key) -> None:
        self._due.pop(key, None)
        try:
            body = self.objects.read(key.kind, key.name)
        except DeploytoolError as error:
            self._fail(f"read {key.kind} {key.name}", error)
            self._due[key] = self.clock.now() + _RETRY_SECONDS
            return
        if body is None:
            self._forget(key)
        else:
            self._see(workload_of(key.kind, body), is_gone=False)

    def _see(self, workload: Workload, *, is_gone: bool) -> None:
        key = _Key(workload.kind, workload.name)
        if is_gone or not workload.is_guarded or (self.names and workload.name not in self.names):
            self._forget(key)
            return
        self._workloads[key] = workload
        self._warn(workload)
        settled = self._settle(workload, key)
        if settled is None:
            return
        workload, decision = settled
        self._records[key] = decision.record
        if decision.due_at is not None:
            self._due[key] = decision.due_at
        if decision.news is not None:
            self._tell(workload, decision.news)
        for observer in self.observers:
            observer.saw(workload, decision)

    def _settle(self, workload: Workload, key: _Key) -> tuple[Workload, Decision] | None:
        """Decide and act; what changes meanwhile is looked at again.

        Returns:
            What was seen last, and what was done about it; None when it could not be done.
        """
        for _ in range(_LOOKS):
            self._due.pop(key, None)
            decision = self._decide(workload, key)
            if decision.step is not Step.SET_BACK:
                return workload, decision
            try:
                if self.objects.scale(workload.kind, workload.name, patch_of(workload)):
                    return workload, decision
                body = self.objects.read(workload.kind, workload.name)
            except DeploytoolError as error:
                self._fail(f"set {workload} back", error, about=workload)
                break
            if body is None:
                self._forget(key)
                return None
            workload = workload_of(workload.kind, body)
            self._workloads[key] = workload
        self._due[key] = self.clock.now() + _RETRY_SECONDS
        return None

    def _decide(self, workload: Workload, key: _Key) -> Decision:
        record = self._records.get(key, FRESH)
        return decide(workload, self._autoscalers.values(), record, self.clock.now(), self.policy)

    def _warn(self, workload: Workload) -> None:
        """Say once of each autoscaler that it may ask for more than one, on itself."""
        for one in self.rivals(workload):
            if (one.uid, one.most) in self._warned:
                continue
            self._warned.add((one.uid, one.most))
            text = f"{workload} runs as one replica, since it keeps its connections in memory. {advice([one])}"
            self._write(one, "ScalesPastOne", text)
            for observer in self.observers:
                observer.warned(one, workload)

    def _tell(self, workload: Workload, news: News) -> None:
        self._write(workload, news.reason, news.message)

    def _write(self, about: Workload | Autoscaler, reason: str, message: str) -> None:
        if self.is_dry:
            return
        try:
            self.objects.tell(about, reason, message)
        except DeploytoolError as error:
            self._fail(f"write an Event about {about}", error)

    def _fail(self, what: str, error: DeploytoolError, *, about: Workload | None = None) -> None:
        for observer in self.observers:
            observer.failed(what, str(error))
        if about is not None:
            self._write_once(about, f"{about} is scaled to {about.replicas}, and cannot be set back to 1: {error}")

    def _write_once(self, about: Workload, message: str) -> None:
        """Write of a failure, but not of the same one again."""
        mark = (about.uid + message, about.replicas)
        if mark not in self._warned:
            self._warned.add(mark)
            self._write(about, "SetBackFailed", message)

    def _forget(self, key: _Key) -> None:
        self._records.pop(key, None)
        self._due.pop(key, None)
        workload = self._workloads.pop(key, None)
        if workload is not None:
            for observer in self.observers:
                observer.lost(workload)
