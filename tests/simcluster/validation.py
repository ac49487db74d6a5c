"""Rules that an object must keep: those that a deploy tool runs into."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.simcluster.errors import invalid
from tests.simcluster.selectors import matches_selector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.kinds import Resource
    from tests.simcluster.store import Object

__all__ = ("validate",)

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
_PATH_NAME = re.compile(r"^[^/%]{1,253}$")
_MOST_ANNOTATION_BYTES = 256 << 10
_WORKLOADS = frozenset({"Deployment", "ReplicaSet", "StatefulSet"})

# Field and text of a fault.
_Fault = tuple[str, str]


def validate(resource: Resource, before: Object | None, after: Object) -> None:
    """Judge a write.

    Raises:
        ApiError: 422, for the first rule that is broken.
    """
    for field, text in _faults(resource, before, after):
        raise invalid(resource.kind, after["metadata"]["name"], text, field=field, group=resource.group)


def _faults(resource: Resource, before: Object | None, after: Object) -> Iterator[_Fault]:
    # Names of roles may hold a colon.
    pattern = _PATH_NAME if resource.group.startswith("rbac.") else _NAME
    name = after["metadata"]["name"]
    if not pattern.match(name):
        yield "metadata.name", f"Invalid value: {name!r}: a lowercase RFC 1123 subdomain is needed"
    yield from _label_faults(after)
    if resource.kind in _WORKLOADS:
        yield from _workload_faults(before, after)
    if resource.kind in ("ConfigMap", "Secret") and before is not None and before.get("immutable"):
        yield from _immutable_faults(before, after)
    if resource.kind == "HorizontalPodAutoscaler" and not isinstance(after["spec"].get("maxReplicas"), int):
        yield "spec.maxReplicas", "Required value"


def _label_faults(after: Object) -> Iterator[_Fault]:
    for field in ("labels", "annotations"):
        for key, value in (after["metadata"].get(field) or {}).items():
            if not isinstance(value, str):
                yield f"metadata.{field}", f"Invalid value: {key}: must be a string"
    notes = after["metadata"].get("annotations") or {}
    if sum(len(f"{key}{value}".encode()) for key, value in notes.items()) > _MOST_ANNOTATION_BYTES:
        yield "metadata.annotations", f"Too long: may not be more than {_MOST_ANNOTATION_BYTES} bytes"


def _workload_faults(before: Object | None, after: Object) -> Iterator[_Fault]:
    spec: dict[str, Any] = after.get("spec") or {}
    replicas, selector = spec.get("replicas", 1), spec.get("selector")
    if not isinstance(replicas, int) or replicas < 0:
        yield "spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0"
    template = spec.get("template") or {}
    if not selector:
        yield "spec.selector", "Required value"
    elif not matches_selector(selector, template.get("metadata", {}).get("labels") or {}):
        yield "spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`"
    if before is not None and before["spec"].get("selector") != selector:
        yield "spec.selector", "Invalid value: field is immutable"
    yield from _container_faults(template)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate"):
        yield "spec.strategy.rollingUpdate", "Forbidden: may not be specified when strategy `type` is 'Recreate'"


def _container_faults(template: dict[str, Any]) -> Iterator[_Fault]:
    containers = template.get("spec", {}).get("containers") or []
    if not containers:
        yield "spec.template.spec.containers", "Required value"
    for index, container in enumerate(containers):
        for field in ("name", "image"):
            if not container.get(field):
                yield f"spec.template.spec.containers[{index}].{field}", "Required value"


def _immutable_faults(before: Object, after: Object) -> Iterator[_Fault]:
    for field in ("data", "stringData", "binaryData", "immutable"):
        if before.get(field) != after.get(field):
            yield field, "Forbidden: field is immutable when `immutable` is set"
