"""The Deployment controller: Recreate and RollingUpdate over ReplicaSets."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.simcluster.clock import rfc3339
from tests.simcluster.errors import ApiError
from tests.simcluster.events import Recorder
from tests.simcluster.ownership import condition, controlled_by, owner_reference
from tests.simcluster.registry import SYSTEM

if TYPE_CHECKING:
    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("Deployments",)

_HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"


class Deployments:
    """Makes ReplicaSets and moves replicas between them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._events = Recorder(registry, "deployment-controller")
        self._resource = registry.kinds.get("Deployment")
        self._sets = registry.kinds.get("ReplicaSet")
        self._pods = registry.kinds.get("Pod")

    def reconcile(self) -> None:
        """Bring every Deployment nearer to what it asks for."""
        for one in self._registry.store.all(self._resource):
            if not one["metadata"].get("deletionTimestamp"):
                self._bring(one)

    def _bring(self, one: Object) -> None:
        digest = _digest(one["spec"]["template"])
        owned = controlled_by(self._registry.store, self._sets, one)
        new = next((rs for rs in owned if (rs["metadata"].get("labels") or {}).get(_HASH) == digest), None)
        old = [rs for rs in owned if rs is not new]
        if not one["spec"].get("paused"):
            if one["spec"]["strategy"]["type"] == "Recreate":
                self._recreate(one, new, old, digest)
            else:
                self._roll(one, new, old, digest)
            self._forget_old(one, old)
        self._note_revision(one, digest)
        self._report(one, digest)

    def _recreate(self, one: Object, new: Object | None, old: list[Object], digest: str) -> None:
        for rs in old:
            self._scale(one, rs, 0)
        # Those that are going still run: the next pod waits for them.
        if any(self._is_running(pod) for rs in old for pod in controlled_by(self._registry.store, self._pods, rs)):
            return
        self._scale(one, new or self._make(one, digest), one["spec"]["replicas"])

    def _is_running(self, pod: Object) -> bool:
        return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")

    def _roll(self, one: Object, new: Object | None, old: list[Object], digest: str) -> None:
        wanted = one["spec"]["replicas"]
        surge, unavailable = _limits(one["spec"]["strategy"]["rollingUpdate"], wanted)
        total = sum(rs["spec"]["replicas"] for rs in old)
        new = new or self._make(one, digest)
        current = new["spec"]["replicas"]
        room = wanted + surge - total - current
        target = wanted if current > wanted else min(wanted, current + max(0, room))
        self._scale(one, new, target)
        available = (new.get("status") or {}).get("availableReplicas", 0)
        surplus = total + target - (wanted - unavailable) - max(0, target - available)
        for rs in sorted(old, key=_available):
            fewer = min(rs["spec"]["replicas"], max(0, surplus))
            if fewer:
                self._scale(one, rs, rs["spec"]["replicas"] - fewer)
                surplus -= fewer

    def _make(self, one: Object, digest: str) -> Object:
        template = copy.deepcopy(one["spec"]["template"])
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels[_HASH] = digest
        selector = copy.deepcopy(one["spec"]["selector"])
        selector.setdefault("matchLabels", {})[_HASH] = digest
        meta = one["metadata"]
        body = {
            "metadata": {
                "name": f"{meta['name']}-{digest}",
                "labels": dict(labels),
                "ownerReferences": [owner_reference(one)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        }
        return self._registry.create(self._sets, meta["namespace"], body, SYSTEM)

    def _scale(self, one: Object, rs: Object, replicas: int) -> None:
        before = rs["spec"]["replicas"]
        if before == replicas:
            return
        after = copy.deepcopy(rs)
        after["spec"]["replicas"] = replicas
        name = rs["metadata"]["name"]
        self._registry.update(self._sets, rs["metadata"]["namespace"], name, after, SYSTEM)
        way = "up" if replicas > before else "down"
        self._events.normal(one, "ScalingReplicaSet", f"Scaled {way} replica set {name} from {before} to {replicas}")

    def _forget_old(self, one: Object, old: list[Object]) -> None:
        idle = [rs for rs in old if not rs["spec"]["replicas"] and not (rs.get("status") or {}).get("replicas")]
        idle.sort(key=_revision)
        for rs in idle[: max(0, len(idle) - one["spec"]["revisionHistoryLimit"])]:
            self._registry.delete(self._sets, rs["metadata"]["namespace"], rs["metadata"]["name"], SYSTEM)

    def _note_revision(self, one: Object, digest: str) -> None:
        owned = controlled_by(self._registry.store, self._sets, one)
        new = next((rs for rs in owned if rs["metadata"]["labels"].get(_HASH) == digest), None)
        if new is None:
            return
        others = max((_revision(rs) for rs in owned if rs is not new), default=0)
        if _revision(new) <= others:
            new = self._annotate(new, self._sets, str(others + 1))
        if _revision(one) != _revision(new):
            self._annotate(one, self._resource, str(_revision(new)))

    def _annotate(self, obj: Object, resource: Any, revision: str) -> Object:  # noqa: ANN401 - a Resource
        after = copy.deepcopy(self._registry.get(resource, obj["metadata"]["namespace"], obj["metadata"]["name"]))
        after["metadata"].setdefault("annotations", {})[_REVISION] = revision
        return self._registry.update(resource, obj["metadata"]["namespace"], obj["metadata"]["name"], after, SYSTEM)

    def _report(self, one: Object, digest: str) -> None:
        try:
            one = self._registry.get(self._resource, one["metadata"]["namespace"], one["metadata"]["name"])
        except ApiError:
            return
        owned = controlled_by(self._registry.store, self._sets, one)
        new = next((rs for rs in owned if rs["metadata"]["labels"].get(_HASH) == digest), None)
        status = _counts(one, owned, new)
        status["conditions"] = self._conditions(one, status)
        self._registry.set_status(self._resource, one, status)

    def _conditions(self, one: Object, status: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = one["spec"]["replicas"]
        is_done = status["updatedReplicas"] == status["replicas"] == status["availableReplicas"] == wanted
        _, unavailable = _limits(one["spec"]["strategy"].get("rollingUpdate") or {}, wanted)
        if one["spec"]["strategy"]["type"] == "Recreate":
            unavailable = 0
        is_available = status["availableReplicas"] >= wanted - unavailable
        available = ("True", "MinimumReplicasAvailable") if is_available else ("False", "MinimumReplicasUnavailable")
        progress = ("True", "NewReplicaSetAvailable") if is_done else ("True", "ReplicaSetUpdated")
        if not is_done and self._is_late(one, status):
            progress = ("False", "ProgressDeadlineExceeded")
        return [self._condition(one, "Available", *available), self._condition(one, "Progressing", *progress)]

    def _is_late(self, one: Object, status: dict[str, Any]) -> bool:
        """Tell whether nothing moved for the whole deadline."""
        before = condition(one, "Progressing")
        if before.get("reason") == "ProgressDeadlineExceeded" and not _has_moved(one, status):
            return True
        since = before.get("lastUpdateTime")
        if since is None or before.get("reason") != "ReplicaSetUpdated" or _has_moved(one, status):
            return False
        elapsed = self._registry.clock.wall() - datetime.fromisoformat(since).timestamp()
        return elapsed > int(one["spec"]["progressDeadlineSeconds"])

    def _condition(self, one: Object, kind: str, status: str, reason: str) -> dict[str, Any]:
        before, now = condition(one, kind), rfc3339(self._registry.clock.wall())
        if (before.get("status"), before.get("reason")) == (status, reason):
            return before
        since = before.get("lastTransitionTime", now) if before.get("status") == status else now
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": reason,
            "lastUpdateTime": now,
            "lastTransitionTime": since,
        }


def _has_moved(one: Object, status: dict[str, Any]) -> bool:
    before = one.get("status") or {}
    return any(before.get(key) != status[key] for key in ("observedGeneration", "updatedReplicas", "readyReplicas"))


def _counts(one: Object, owned: list[Object], new: Object | None) -> dict[str, Any]:
    statuses = [rs.get("status") or {} for rs in owned]

    def _sum(key: str) -> int:
        return sum(int(status.get(key, 0)) for status in statuses)

    return {
        "observedGeneration": one["metadata"]["generation"],
        "replicas": _sum("replicas"),
        "updatedReplicas": ((new or {}).get("status") or {}).get("replicas", 0),
        "readyReplicas": _sum("readyReplicas"),
        "availableReplicas": _sum("availableReplicas"),
        "unavailableReplicas": max(0, max(one["spec"]["replicas"], _sum("replicas")) - _sum("availableReplicas")),
        "terminatingReplicas": _sum("terminatingReplicas"),
    }


def _digest(template: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _revision(obj: Object) -> int:
    return int((obj["metadata"].get("annotations") or {}).get(_REVISION, 0))


def _available(rs: Object) -> int:
    return int((rs.get("status") or {}).get("availableReplicas", 0))


def _limits(rolling: dict[str, Any], wanted: int) -> tuple[int, int]:
    """Return how many pods may be too many and too few; never both none."""
    surge = _resolved(rolling.get("maxSurge", "25%"), wanted, is_up=True)
    unavailable = _resolved(rolling.get("maxUnavailable", "25%"), wanted, is_up=False)
    return surge, unavailable if surge or unavailable else 1


def _resolved(value: int | str, wanted: int, *, is_up: bool) -> int:
    if isinstance(value, int):
        return value
    share = int(value.rstrip("%")) * wanted / 100
    return math.ceil(share) if is_up else math.floor(share)
