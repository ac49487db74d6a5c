"""The ReplicaSet controller: as many pods as asked for, those that are going not counted."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from tests.simcluster.errors import ApiError
from tests.simcluster.events import Recorder
from tests.simcluster.ownership import controlled_by, is_active, is_ready, owner_reference
from tests.simcluster.registry import SYSTEM

if TYPE_CHECKING:
    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("ReplicaSets",)


class ReplicaSets:
    """Makes and removes pods."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._events = Recorder(registry, "replicaset-controller")
        self._resource = registry.kinds.get("ReplicaSet")
        self._pods = registry.kinds.get("Pod")

    def reconcile(self) -> None:
        """Bring every ReplicaSet nearer to what it asks for."""
        for one in self._registry.store.all(self._resource):
            if not one["metadata"].get("deletionTimestamp"):
                self._bring(one)

    def _bring(self, one: Object) -> None:
        pods = controlled_by(self._registry.store, self._pods, one)
        active = [pod for pod in pods if is_active(pod)]
        wanted = one["spec"].get("replicas", 1)
        for _ in range(wanted - len(active)):
            self._make(one)
        for pod in sorted(active, key=is_ready)[: max(0, len(active) - wanted)]:
            meta = pod["metadata"]
            self._registry.delete(self._pods, meta["namespace"], meta["name"], SYSTEM)
            self._events.normal(one, "SuccessfulDelete", f"Deleted pod: {meta['name']}")
        pods = controlled_by(self._registry.store, self._pods, one)
        self._registry.set_status(self._resource, one, _status(one, pods))

    def _make(self, one: Object) -> None:
        template = copy.deepcopy(one["spec"]["template"])
        meta = template.setdefault("metadata", {})
        meta["generateName"] = f"{one['metadata']['name']}-"
        meta["ownerReferences"] = [owner_reference(one)]
        namespace = one["metadata"]["namespace"]
        try:
            pod = self._registry.create(self._pods, namespace, template, SYSTEM)
        except ApiError as error:
            self._events.warn(one, "FailedCreate", f"Error creating: {error.message}")
        else:
            self._events.normal(one, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")


def _status(one: Object, pods: list[Object]) -> dict[str, Any]:
    active = [pod for pod in pods if is_active(pod)]
    ready = sum(1 for pod in active if is_ready(pod))
    return {
        "replicas": len(active),
        "fullyLabeledReplicas": len(active),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "terminatingReplicas": sum(1 for pod in pods if pod["metadata"].get("deletionTimestamp")),
        "observedGeneration": one["metadata"]["generation"],
    }
