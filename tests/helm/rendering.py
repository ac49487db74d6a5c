"""Renders the chart with Helm's own engine, in this process and without a cluster.

Helm offline says that it is a cluster of the newest Kubernetes with built-in APIs alone: there is an
admission API, and neither the Prometheus operator nor a Gateway API. ``lookup`` finds nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

from tests.tools.chart_values import CHART

__all__ = (
    "FIELDS",
    "KEYS",
    "MINIMAL",
    "Manifest",
    "container",
    "edited",
    "environment",
    "render",
    "texts",
    "values_of",
)

Manifest = dict[str, Any]

MINIMAL: Mapping[str, Any] = {"image": {"repository": "registry.example.org/slackwater"}, "existingSecret": "keys"}
"""The least that the chart takes."""

KEYS = {
    "API_KEY": "api-key-" + "a" * 24,
    "ADMIN_KEY": "admin-key-" + "b" * 22,
    "TOKEN_HMAC_SECRET": "hmac-secret-" + "c" * 20,
}
"""What the Secret holds."""

FIELDS = {"metadata.uid": "5a0a3f3e-8a39-4c7e-9c3a-3a5a4f0a5f5e"}
"""What the pod says of itself."""

_NOTES = "NOTES.txt"


@cache
def _chart(path: Path) -> helm_python.Chart:
    return helm_python.Chart.load(path)


def values_of(*changes: str) -> dict[str, Any]:
    """Return the least values with changes as ``--set`` takes them over it."""
    merged: dict[str, Any] = dict(MINIMAL)
    for change in changes:
        merged = _merged(merged, helm_python.parse_set_string(change))
    return merged


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: _merged(below[name], above[name]) for name in below if isinstance(above.get(name), dict)}
    return {**below, **above, **both}


def texts(
    values: Mapping[str, Any] = MINIMAL, *, release: str = "live", namespace: str = "realtime", chart: Path = CHART
) -> dict[str, str]:
    """Render and return the text of each file that has any, by its name in ``templates``.

    Raises:
        helm_python.HelmError: The chart refuses the values.
    """
    rendered = _chart(chart).render(dict(values), name=release, namespace=namespace)
    return {name.split("templates/", 1)[1]: text for name, text in sorted(rendered.items()) if text.strip()}


def render(
    values: Mapping[str, Any] = MINIMAL, *, release: str = "live", namespace: str = "realtime", chart: Path = CHART
) -> dict[tuple[str, str], Manifest]:
    """Render and return the objects by kind and name; no two are the same one."""
    rendered = texts(values, release=release, namespace=namespace, chart=chart)
    objects: dict[tuple[str, str], Manifest] = {}
    for manifest in _documents(text for name, text in rendered.items() if name != _NOTES):
        key = manifest["kind"], manifest["metadata"]["name"]
        assert key not in objects
        objects[key] = manifest
    return objects


def _documents(files: Iterator[str]) -> Iterator[Manifest]:
    for text in files:
        yield from (document for document in yaml.safe_load_all(text) if document is not None)


def container(objects: Mapping[tuple[str, str], Manifest], name: str = "live-slackwater") -> Manifest:
    """Return the container that serves."""
    (found,) = objects["Deployment", name]["spec"]["template"]["spec"]["containers"]
    manifest: Manifest = found
    return manifest


def environment(pod_container: Manifest, secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the environment that the kubelet would make.

    Args:
        pod_container: A container of a rendered pod.
        secrets: Values by key, by the name of the Secret. A missing key is an error unless it is optional.
    """
    made = {}
    for entry in pod_container["env"]:
        if "value" in entry:
            made[entry["name"]] = entry["value"]
            continue
        if field := entry["valueFrom"].get("fieldRef"):
            made[entry["name"]] = FIELDS[field["fieldPath"]]
            continue
        reference = entry["valueFrom"]["secretKeyRef"]
        values = secrets[reference["name"]]
        if not reference.get("optional") or reference["key"] in values:
            made[entry["name"]] = values[reference["key"]]
    return made


def edited(folder: Path, file: str, edit: Callable[[str], str]) -> Path:
    """Copy the chart into ``folder``, change one of its files, and return where it is."""
    copy = folder / CHART.name
    shutil.copytree(CHART, copy)
    path = copy / file
    before = path.read_text()
    path.write_text(edit(before))
    assert before != path.read_text()
    return copy
