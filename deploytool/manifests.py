"""Reads Kubernetes manifests and compose files into a snapshot; the only importer of a YAML parser here.

Refuses to judge: a value that it cannot read as a number is passed on as text.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deploytool.errors import ManifestError
from deploytool.model.snapshot import Autoscaler, Place, Setting, Snapshot, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ("STDIN", "parse", "read")

STDIN = "-"

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_COUNTED = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Rollout"})
_KUSTOMIZATIONS = frozenset({"kustomization.yaml", "kustomization.yml", "Kustomization"})

# Field of the ceiling, and what its absence means. The API server refuses an HPA without one.
# Source: https://keda.sh/docs/latest/reference/scaledobject-spec/
_AUTOSCALERS: dict[str, tuple[str, int | None]] = {
    "HorizontalPodAutoscaler": ("maxReplicas", None),
    "ScaledObject": ("maxReplicaCount", 100),
}

# A document as the parser gives it: plain dicts, lists and scalars, whatever their keys.
_Mapping = dict[Any, Any]


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses a key given twice, since only one of the two values would be looked at."""


def _mapping_without_twins(loader: _Loader, node: yaml.MappingNode) -> _Mapping:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
    return loader.construct_mapping(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_twins)


@dataclass(frozen=True, slots=True)
class _Node:
    """A mapping inside a document, with the way to it; the document may be a list of objects."""

    place: Place
    path: str
    content: _Mapping

    def child(self, key: str) -> _Node:
        """Return the mapping under ``key``; an empty one when there is none."""
        value = self.content.get(key)
        return _Node(self.place, f"{self.path}{key}.", value if isinstance(value, dict) else {})

    def setting(self, key: str) -> Setting:
        """Return the value under ``key`` as a number where it is one."""
        value = self.content.get(key)
        if isinstance(value, bool) or not (value is None or (isinstance(value, int) and value >= 0)):
            value = str(value)
        return Setting(f"{self.path}{key}", value)

    def text(self, key: str) -> str:
        """Return the scalar under ``key`` as text; empty when there is none."""
        value = self.content.get(key)
        return "" if value is None or isinstance(value, dict | list) else str(value)


def read(paths: Sequence[str]) -> Snapshot:
    """Read manifests from files, from directories (recursively) and from standard input.

    Args:
        paths: In the order in which findings are to be reported; ``-`` is standard input. Hidden folders and
            ``node_modules`` inside a named directory are passed over.

    Raises:
        ManifestError: A path does not exist, cannot be read, is not YAML, or is a directory without manifests.
    """
    snapshots = [parse(source, data) for path in paths for source, data in _sources(path)]
    return Snapshot(
        workloads=tuple(workload for one in snapshots for workload in one.workloads),
        autoscalers=tuple(scaler for one in snapshots for scaler in one.autoscalers),
        document_count=sum(one.document_count for one in snapshots),
    )


def parse(source: str, data: bytes) -> Snapshot:
    """Read the YAML documents of one file; what is neither workload nor autoscaler is only counted.

    Args:
        source: Name of the file, for findings and errors.
        data: Its content, in UTF-8 or in UTF-16 with a byte order mark.

    Raises:
        ManifestError: The content is not YAML, or has a key twice in one mapping.
    """
    workloads: list[Workload] = []
    autoscalers: list[Autoscaler] = []
    documents = _load(source, data)
    for index, document in enumerate(documents, start=1):
        for node in _objects(Place(source, index), document):
            workloads.extend(_workloads(node))
            autoscalers.extend(_autoscalers(node))
    return Snapshot(tuple(workloads), tuple(autoscalers), len(documents))


def _sources(path: str) -> Iterator[tuple[str, bytes]]:
    if path == STDIN:
        yield STDIN, sys.stdin.buffer.read()
        return
    try:
        if not Path(path).is_dir():
            yield path, Path(path).read_bytes()
            return
        files = sorted(file for file in Path(path).rglob("*") if file.suffix in _SUFFIXES and _is_wanted(path, file))
        if not files:
            raise ManifestError(path, "no .yaml, .yml or .json file in this directory")
        for file in files:
            yield str(file), file.read_bytes()
    except FileNotFoundError as error:
        raise ManifestError(path, "no such file or directory") from error
    except (OSError, ValueError) as error:
        raise ManifestError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _is_wanted(root: str, file: Path) -> bool:
    folders = file.relative_to(root).parts
    return file.is_file() and not any(part.startswith(".") or part == "node_modules" for part in folders)


def _load(source: str, data: bytes) -> list[object]:
    try:
        return list(yaml.load_all(data, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        if b"{{" in data:
            problem = "not YAML but a template, it seems; render it first (helm template ... | deploytool check ... -)"
            raise ManifestError(source, problem) from error
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ManifestError(source, f"not valid YAML: {error.problem or error.context}", line=line) from error
    except yaml.reader.ReaderError as error:
        raise ManifestError(source, f"not text: {error.reason}") from error
    except RecursionError as error:
        raise ManifestError(source, "nested too deeply") from error
    except ValueError as error:  # such as the 30th of February, which the parser takes for a date
        raise ManifestError(source, f"not valid YAML: {error}") from error


def _objects(place: Place, document: object) -> Iterator[_Node]:
    """Yield the objects of a document, those inside a ``List`` one by one."""
    if not isinstance(document, dict):
        return
    items = document.get("items")
    if not (str(document.get("kind", "")).endswith("List") and isinstance(items, list)):
        yield _Node(place, "", document)
        return
    for index, item in enumerate(items):
        if isinstance(item, dict):
            yield _Node(place, f"items[{index}].", item)


def _workloads(node: _Node) -> Iterator[Workload]:
    kind = node.text("kind")
    if kind in _COUNTED or kind == "DaemonSet":
        yield _kubernetes_workload(kind, node)
    elif kind == "Kustomization" or Path(node.place.source).name in _KUSTOMIZATIONS:
        yield from _kustomized(node)
    elif not kind and isinstance(node.content.get("services"), dict):
        services = node.child("services")
        for name in services.content:
            yield _compose_service(str(name), services.child(name))


def _kubernetes_workload(kind: str, node: _Node) -> Workload:
    spec = node.child("spec")
    return Workload(
        kind=kind,
        name=_name(node),
        place=node.place,
        counts=(spec.setting("replicas"),) if kind in _COUNTED else (),
        runs_everywhere=node.setting("kind") if kind == "DaemonSet" else None,
        replacement=spec.child("strategy").setting("type") if kind == "Deployment" else None,
    )


def _kustomized(node: _Node) -> Iterator[Workload]:
    """Yield the counts that a kustomization puts in place of those in the manifests it draws on."""
    overrides = node.content.get("replicas")
    for index, override in enumerate(overrides if isinstance(overrides, list) else ()):
        if isinstance(override, dict):
            entry = _Node(node.place, f"replicas[{index}].", override)
            yield Workload("Kustomization", entry.text("name"), node.place, (entry.setting("count"),))


def _compose_service(name: str, service: _Node) -> Workload:
    deploy = service.child("deploy")
    update = deploy.child("update_config")
    counts = tuple(node.setting(key) for node, key in ((deploy, "replicas"), (service, "scale")) if key in node.content)
    return Workload(
        kind="Service (compose)",
        name=name,
        place=service.place,
        counts=counts or (deploy.setting("replicas"),),
        runs_everywhere=deploy.setting("mode") if deploy.text("mode").startswith("global") else None,
        replacement=update.setting("order") if "order" in update.content else None,
    )


def _autoscalers(node: _Node) -> Iterator[Autoscaler]:
    kind = node.text("kind")
    if kind in _AUTOSCALERS:
        field, default = _AUTOSCALERS[kind]
        spec = node.child("spec")
        target = spec.child("scaleTargetRef").text("name")
        yield Autoscaler(kind, _name(node), target, node.place, spec.setting(field), default)


def _name(node: _Node) -> str:
    metadata = node.child("metadata")
    return metadata.text("name") or metadata.text("generateName")
