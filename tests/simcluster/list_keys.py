"""How lists and maps merge: the one table for strategic merge, server-side apply and OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("ATOMIC_MAPS", "KEYED_LISTS", "SET_LISTS", "is_atomic_map", "is_set", "item_key", "keys_of")

# Field, or parent and field, to the keys of its items. The first key is that of the strategic merge.
# Source: x-kubernetes-list-map-keys and x-kubernetes-patch-merge-key of the published OpenAPI.
KEYED_LISTS: dict[str, tuple[str, ...]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "containers.ports": ("containerPort", "protocol"),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "initContainers.ports": ("containerPort", "protocol"),
    "matchConditions": ("name",),
    "ownerReferences": ("uid",),
    "podIPs": ("ip",),
    "secrets": ("name",),
    "spec.ports": ("port", "protocol"),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "variables": ("name",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}

SET_LISTS = frozenset({"finalizers"})

ATOMIC_MAPS = frozenset(
    {
        "claimRef",
        "configMapKeyRef",
        "fieldRef",
        "involvedObject",
        "labelSelector",
        "namespaceSelector",
        "nodeSelector",
        "objectSelector",
        "podSelector",
        "resourceFieldRef",
        "roleRef",
        "scaleTargetRef",
        "secretKeyRef",
        "selector",
        "targetRef",
    }
)

_DEFAULTS = {"protocol": "TCP"}


def keys_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of the list at a path of field names; empty when it is replaced as a whole."""
    pair = ".".join(names[-2:])
    return KEYED_LISTS.get(pair) or KEYED_LISTS.get(names[-1], ()) if names else ()


def is_set(names: Sequence[str]) -> bool:
    """Tell whether the list at a path is a set of plain values."""
    return bool(names) and names[-1] in SET_LISTS


def is_atomic_map(names: Sequence[str]) -> bool:
    """Tell whether the map at a path is replaced as a whole."""
    return bool(names) and names[-1] in ATOMIC_MAPS


def item_key(item: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return what names an item in its list, with the schema's defaults filled in."""
    found = {key: item.get(key, _DEFAULTS.get(key)) for key in keys}
    return {key: value for key, value in found.items() if value is not None}
