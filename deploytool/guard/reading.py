"""From raw objects to what the decision takes; what is odd is read as harmless, never raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from deploytool.guard.decision import Autoscaler, Workload, Writer

__all__ = ("AUTOSCALER_KINDS", "LABEL", "WORKLOAD_KINDS", "autoscaler_of", "workload_of", "writer_of")

LABEL: Final = "slackwater.dev/guard"
"""Of a workload that is to be kept at one; its value is ``true``."""

WORKLOAD_KINDS: Final = ("Deployment", "StatefulSet")
AUTOSCALER_KINDS: Final = ("HorizontalPodAutoscaler", "ScaledObject")

_MOST_OF_KEDA: Final = 100
"""Of a ScaledObject without ``maxReplicaCount``. Source: keda.sh, "ScaledObject specification"."""


def workload_of(kind: str, body: Mapping[str, Any]) -> Workload:
    """Read a Deployment or a StatefulSet."""
    meta = _mapping(body.get("metadata"))
    return Workload(
        kind=kind,
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        resource_version=str(meta.get("resourceVersion", "")),
        replicas=_count(_mapping(body.get("spec")).get("replicas"), 1),
        is_guarded=_mapping(meta.get("labels")).get(LABEL) == "true",
        is_going=bool(meta.get("deletionTimestamp")),
        writer=writer_of(meta),
    )


def autoscaler_of(kind: str, body: Mapping[str, Any]) -> Autoscaler:
    """Read a HorizontalPodAutoscaler or a ScaledObject."""
    meta, spec = _mapping(body.get("metadata")), _mapping(body.get("spec"))
    target = _mapping(spec.get("scaleTargetRef"))
    is_keda = kind == "ScaledObject"
    owners = meta.get("ownerReferences")
    owner = next((one for one in owners if isinstance(one, dict)), {}) if isinstance(owners, list | tuple) else {}
    return Autoscaler(
        kind=kind,
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        target_kind=str(target.get("kind") or "Deployment"),
        target_name=str(target.get("name", "")),
        most=_count(spec.get("maxReplicaCount" if is_keda else "maxReplicas"), _MOST_OF_KEDA if is_keda else 1),
        owner=f"{owner.get('kind')} {owner.get('name')}" if owner else "",
    )


def writer_of(meta: Mapping[str, Any]) -> Writer | None:
    """Return who set ``spec.replicas`` last; None when nobody is noted, as after a creation with defaults."""
    found: list[tuple[str, Writer]] = []
    fields = meta.get("managedFields")
    for entry in fields if isinstance(fields, list | tuple) else ():
        spec = _mapping(_mapping(_mapping(entry).get("fieldsV1")).get("f:spec"))
        if "f:replicas" in spec:
            writer = Writer(str(entry.get("manager", "")), str(entry.get("subresource", "")))
            found.append((str(entry.get("time", "")), writer))
    return max(found, key=lambda one: one[0])[1] if found else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
