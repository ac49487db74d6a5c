"""An autoscaler that asks for as many replicas as a test tells it, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simcluster.clock import rfc3339
from tests.simcluster.errors import ApiError
from tests.simcluster.events import Recorder
from tests.simcluster.identity import User
from tests.simcluster.registry import Options

if TYPE_CHECKING:
    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("Autoscalers",)

_OPTIONS = Options(User("system:serviceaccount:kube-system:horizontal-pod-autoscaler", ("system:masters",)), "hpa")
_PERIOD_SECONDS = 1.0


class Autoscalers:
    """Sets the replicas of each target within the bounds of its HorizontalPodAutoscaler.

    Attributes:
        demand_count: Replicas that the load would take.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._events = Recorder(registry, "horizontal-pod-autoscaler")
        self._resource = registry.kinds.get("HorizontalPodAutoscaler")
        self._next = 0.0
        self.demand_count = 1

    def reconcile(self) -> None:
        """Judge each, no more often than once a second."""
        if self._registry.clock.now() < self._next:
            return
        self._next = self._registry.clock.now() + _PERIOD_SECONDS
        for one in self._registry.store.all(self._resource):
            self._judge(one)

    def _judge(self, one: Object) -> None:
        reference, namespace = one["spec"]["scaleTargetRef"], one["metadata"]["namespace"]
        kind = self._registry.kinds.of_kind(reference.get("apiVersion", "apps/v1"), reference["kind"])
        target = self._registry.store.get(kind, namespace, reference["name"]) if kind else None
        if kind is None or target is None:
            self._report(one, 0, 0, "False", "FailedGetScale")
            return
        current = target["spec"].get("replicas", 1)
        wanted = max(one["spec"].get("minReplicas", 1), min(one["spec"]["maxReplicas"], self.demand_count))
        if current == 0:
            self._report(one, 0, 0, "False", "ScalingDisabled")
        elif current == wanted:
            self._report(one, current, wanted, "True", "ValidMetricFound")
        else:
            try:
                self._registry.put_scale(kind, namespace, reference["name"], {"spec": {"replicas": wanted}}, _OPTIONS)
            except ApiError as error:
                self._events.warn(one, "FailedRescale", f"New size: {wanted}; error: {error.message}")
            else:
                self._events.normal(one, "SuccessfulRescale", f"New size: {wanted}")
            self._report(one, current, wanted, "True", "ValidMetricFound")

    def _report(self, one: Object, current: int, wanted: int, status: str, reason: str) -> None:
        before: dict[str, Any] = one.get("status") or {}
        old: dict[str, Any] = next(iter(before.get("conditions") or ()), {})
        same = (old.get("status"), old.get("reason")) == (status, reason)
        now = old["lastTransitionTime"] if same else rfc3339(self._registry.clock.wall())
        active = {"type": "ScalingActive", "status": status, "reason": reason, "lastTransitionTime": now}
        content = {"currentReplicas": current, "desiredReplicas": wanted, "conditions": [active]}
        self._registry.set_status(self._resource, one, content)
