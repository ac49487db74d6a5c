"""Lists as tables, which is what ``kubectl get`` asks for."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simcluster.kinds import Resource
    from tests.simcluster.store import Object

__all__ = ("as_table", "wants_table")

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def wants_table(accept: str) -> bool:
    """Tell whether a client takes a table first."""
    return "as=Table" in accept.partition(",")[0]


def _age(obj: Object, wall: float) -> str:
    made = datetime.fromisoformat(obj["metadata"]["creationTimestamp"]).timestamp()
    seconds = max(0, int(wall - made))
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    return f"{seconds // _HOUR}h" if seconds < 2 * _DAY else f"{seconds // _DAY}d"


def _deployment(obj: Object) -> list[Any]:
    status = obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{obj['spec'].get('replicas', 1)}"
    return [ready, status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]


def _replica_set(obj: Object) -> list[Any]:
    status = obj.get("status") or {}
    return [obj["spec"].get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0)]


def _pod(obj: Object) -> list[Any]:
    statuses = (obj.get("status") or {}).get("containerStatuses") or []
    ready = sum(1 for one in statuses if one.get("ready"))
    restarts = sum(one.get("restartCount", 0) for one in statuses)
    return [f"{ready}/{len(obj['spec']['containers'])}", _pod_status(obj), restarts]


def _pod_status(obj: Object) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = obj.get("status") or {}
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if reason := (one.get("state") or {}).get("waiting", {}).get("reason"):
            return str(reason)
    return str(status.get("phase", "Pending"))


_COLUMNS: dict[str, tuple[tuple[str, ...], Callable[[Object], list[Any]]]] = {
    "Deployment": (("Ready", "Up-to-date", "Available"), _deployment),
    "Pod": (("Ready", "Status", "Restarts"), _pod),
    "ReplicaSet": (("Desired", "Current", "Ready"), _replica_set),
}


def as_table(resource: Resource, found: list[Object], meta: dict[str, Any], wall: float) -> Object:
    """Return a ``Table`` of objects."""
    names, cells = _COLUMNS.get(resource.kind, ((), lambda _: []))
    columns = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "description": "", "priority": 0}
        for name in ("Name", *names, "Age")
    ]
    rows = [
        {
            "cells": [obj["metadata"]["name"], *cells(obj), _age(obj, wall)],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]},
        }
        for obj in found
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": columns,
        "rows": rows,
    }
