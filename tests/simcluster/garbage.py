"""What goes with what was deleted: dependants of an owner, the content of a namespace."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.simcluster.errors import ApiError
from tests.simcluster.registry import SYSTEM

if TYPE_CHECKING:
    from tests.simcluster.registry import Registry

__all__ = ("Claims", "Garbage", "Namespaces")


class Garbage:
    """Deletes objects whose owners are all gone."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def reconcile(self) -> None:
        """Delete them."""
        store, kinds = self._registry.store, tuple(self._registry.kinds)
        uids = {obj["metadata"]["uid"] for kind in kinds for obj in store.all(kind)}
        for kind in kinds:
            for obj in store.all(kind):
                owners = obj["metadata"].get("ownerReferences") or ()
                if owners and not any(owner["uid"] in uids for owner in owners):
                    self._delete(kind.kind, kind.api_version, obj["metadata"])

    def _delete(self, kind: str, api_version: str, meta: dict[str, str]) -> None:
        if not meta.get("deletionTimestamp"):
            with contextlib.suppress(ApiError):
                resource = self._registry.kinds.get(kind, api_version)
                self._registry.delete(resource, meta.get("namespace", ""), meta["name"], SYSTEM)


class Namespaces:
    """Empties namespaces that are going, and removes them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._resource = registry.kinds.get("Namespace")

    def reconcile(self) -> None:
        """Bring each that is going nearer to its end."""
        for one in self._registry.store.all(self._resource):
            if one["metadata"].get("deletionTimestamp") and self._is_empty(one["metadata"]["name"]):
                self._registry.store.remove(self._resource, "", one["metadata"]["name"])

    def _is_empty(self, namespace: str) -> bool:
        is_empty = True
        for kind in self._registry.kinds:
            for obj in self._registry.store.all(kind, namespace) if kind.is_namespaced else ():
                is_empty = False
                if not obj["metadata"].get("deletionTimestamp"):
                    with contextlib.suppress(ApiError):
                        self._registry.delete(kind, namespace, obj["metadata"]["name"], SYSTEM)
        return is_empty


class Claims:
    """Binds every claim to a volume of its own at once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._resource = registry.kinds.get("PersistentVolumeClaim")

    def reconcile(self) -> None:
        """Bind them."""
        for one in self._registry.store.all(self._resource):
            capacity = one["spec"].get("resources", {}).get("requests", {})
            status = {"phase": "Bound", "accessModes": one["spec"].get("accessModes", []), "capacity": capacity}
            self._registry.set_status(self._resource, one, status)
