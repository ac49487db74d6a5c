"""Events: what the cluster's own parts tell about an object."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING

from tests.simcluster.clock import rfc3339
from tests.simcluster.errors import ApiError
from tests.simcluster.registry import SYSTEM

if TYPE_CHECKING:
    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("Recorder",)


class Recorder:
    """Writes events; the same one again is counted."""

    def __init__(self, registry: Registry, component: str) -> None:
        self._registry = registry
        self._component = component

    def normal(self, obj: Object, reason: str, message: str) -> None:
        """Tell what went as it should."""
        self._record(obj, "Normal", reason, message)

    def warn(self, obj: Object, reason: str, message: str) -> None:
        """Tell what did not."""
        self._record(obj, "Warning", reason, message)

    def _record(self, obj: Object, kind: str, reason: str, message: str) -> None:
        meta, resource = obj["metadata"], self._registry.kinds.get("Event", "v1")
        namespace = meta.get("namespace", "default")
        digest = hashlib.sha256(f"{meta['uid']}{reason}{message}".encode()).hexdigest()[:16]
        name = f"{meta['name']}.{digest}"
        now = rfc3339(self._registry.clock.wall())
        if before := self._registry.store.get(resource, namespace, name):
            after = copy.deepcopy(before)
            after["count"] += 1
            after["lastTimestamp"] = now
            self._registry.store.put(resource, after)
            return
        event = {
            "metadata": {"name": name},
            "involvedObject": {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "name": meta["name"],
                "namespace": meta.get("namespace", ""),
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "simulated",
        }
        try:
            self._registry.create(resource, namespace, event, SYSTEM)
        except ApiError:
            # The namespace is going, and with it whoever would read this.
            return
