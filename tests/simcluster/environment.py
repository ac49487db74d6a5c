"""A container's environment: literal values, references, and what it must find under other paths here."""

from __future__ import annotations

import base64
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.simcluster.addresses import listening_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("MissingReferenceError", "container_environ", "content_of", "relocated", "with_addresses")

_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - looked for, not listened on


class MissingReferenceError(Exception):
    """A Secret or ConfigMap, or a key of it, is not there."""


def content_of(registry: Registry, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
    """Return the content of a ConfigMap or Secret; None when there is none of this name."""
    obj = registry.store.get(registry.kinds.get(kind), namespace, name)
    if obj is None:
        return None
    data: dict[str, str] = obj.get("data") or {}
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary: dict[str, str] = obj.get("binaryData") or {}
    return {
        **{key: value.encode() for key, value in data.items()},
        **{key: base64.b64decode(value) for key, value in binary.items()},
    }


def container_environ(registry: Registry, pod: Object, container: Mapping[str, Any], address: str) -> dict[str, str]:
    """Resolve the environment of a container.

    Raises:
        MissingReferenceError: Something that it needs is not there.
    """
    namespace = pod["metadata"]["namespace"]
    environ: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if reference := source.get(field):
                content = content_of(registry, kind, namespace, reference["name"])
                if content is None and not reference.get("optional"):
                    raise MissingReferenceError(f'{kind.lower()} "{reference["name"]}" not found')
                prefix = source.get("prefix", "")
                environ.update({prefix + key: value.decode() for key, value in (content or {}).items()})
    for entry in container.get("env") or ():
        value = _value(registry, pod, container, entry, address)
        if value is not None:
            environ[entry["name"]] = _VARIABLE.sub(lambda match: environ.get(match[1], match[0]), value)
    return environ


def _value(
    registry: Registry, pod: Object, container: Mapping[str, Any], entry: Mapping[str, Any], address: str
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return str(entry.get("value", ""))
    for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if reference := source.get(field):
            return _from_key(registry, kind, pod["metadata"]["namespace"], reference)
    if reference := source.get("fieldRef"):
        return _from_field(pod, reference["fieldPath"], address)
    reference = source["resourceFieldRef"]
    kind, _, name = reference["resource"].partition(".")
    return str((container.get("resources") or {}).get(kind, {}).get(name, "0"))


def _from_key(registry: Registry, kind: str, namespace: str, reference: Mapping[str, Any]) -> str | None:
    content = content_of(registry, kind, namespace, reference["name"])
    if content is None or reference["key"] not in content:
        if reference.get("optional"):
            return None
        if content is None:
            raise MissingReferenceError(f'{kind.lower()} "{reference["name"]}" not found')
        raise MissingReferenceError(f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}")
    return content[reference["key"]].decode()


def _from_field(pod: Object, path: str, address: str) -> str:
    if path in ("status.podIP", "status.hostIP"):
        return address
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    value: Any = pod
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return str(value)


def relocated(text: str, mounts: Mapping[str, Path], address: str) -> str:
    """Replace paths of mounts by where they are here, and ``0.0.0.0`` by the pod's own address.

    Args:
        mounts: Path in the container to folder or file here.
    """
    if text == _ANY_ADDRESS:
        return address
    if not mounts:
        return text
    # All at once, the longest first: where they are here may lie under a path of the container, such as /tmp.
    here = {inside.rstrip("/"): folder for inside, folder in mounts.items()}
    paths = "|".join(re.escape(inside) for inside in sorted(here, key=len, reverse=True))
    # A path may stand in the address of a file, too: sqlite:////data/x.
    return re.sub(rf"(?:(?<![\w./-])|(?<=:///))({paths})(?=/|$|[:;,\s])", lambda match: str(here[match[1]]), text)


def _address(address: str, match: re.Match[str]) -> str:
    return f"{address}:{listening_port(int(match[match.re.groups]))}"


def with_addresses(registry: Registry, namespace: str, text: str) -> str:
    """Replace the name of a Service of the namespace before a port by its address: there is no name server here."""
    for service in registry.store.all(registry.kinds.get("Service"), namespace):
        address, name = service["spec"].get("clusterIP"), service["metadata"]["name"]
        if address and address != "None" and name in text:
            pattern = rf"(?<![\w.-]){re.escape(name)}(\.{re.escape(namespace)}(\.svc(\.cluster\.local)?)?)?:(\d+)"
            text = re.sub(pattern, partial(_address, address), text)
    return text
