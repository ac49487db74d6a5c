"""Who controls whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simcluster.kinds import Resource
    from tests.simcluster.store import Object, Store

__all__ = ("condition", "controlled_by", "is_active", "is_ready", "owner_reference")


def owner_reference(owner: Object) -> dict[str, Any]:
    """Return a reference that makes ``owner`` the controller."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controlled_by(store: Store, resource: Resource, owner: Object) -> list[Object]:
    """Return the objects of a kind that an owner controls."""
    uid = owner["metadata"]["uid"]
    return [
        obj
        for obj in store.all(resource, owner["metadata"]["namespace"])
        if any(one["uid"] == uid and one.get("controller") for one in obj["metadata"].get("ownerReferences") or ())
    ]


def condition(obj: Object, kind: str) -> dict[str, Any]:
    """Return a condition of an object; empty when it has none of this type."""
    found: list[dict[str, Any]] = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in found if one["type"] == kind), {})


def is_ready(pod: Object) -> bool:
    """Tell whether a pod says that it is ready."""
    return condition(pod, "Ready").get("status") == "True"


def is_active(pod: Object) -> bool:
    """Tell whether a pod counts for its ReplicaSet: neither ended nor going."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in ("Succeeded", "Failed") and not pod["metadata"].get("deletionTimestamp")
