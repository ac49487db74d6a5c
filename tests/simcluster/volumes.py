"""The volumes of a pod as folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simcluster.environment import MissingReferenceError, content_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("make_volumes", "mounts_of")


def make_volumes(registry: Registry, pod: Object, folder: Path, claims: Path) -> dict[str, Path]:
    """Make the folders of a pod's volumes; returns them by name.

    Args:
        folder: Of the pod; goes with it.
        claims: Where claimed volumes stay when the pod goes.

    Raises:
        MissingReferenceError: Something that one is made of is not there.
    """
    made: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            path = claims / pod["metadata"]["namespace"] / claim["claimName"]
        else:
            path = folder / "volumes" / volume["name"]
        path.mkdir(parents=True, exist_ok=True)
        for kind in ("configMap", "secret"):
            if kind in volume:
                _fill(registry, pod["metadata"]["namespace"], kind, volume[kind], path)
        made[volume["name"]] = path
    return made


def _fill(registry: Registry, namespace: str, kind: str, source: Mapping[str, Any], path: Path) -> None:
    name = source.get("name") or source["secretName"]
    content = content_of(registry, "ConfigMap" if kind == "configMap" else "Secret", namespace, name)
    if content is None:
        if source.get("optional"):
            return
        raise MissingReferenceError(f'{kind.lower()} "{name}" not found')
    paths = {item["key"]: item["path"] for item in source.get("items") or ()}
    for key, value in content.items():
        if paths and key not in paths:
            continue
        file = path / paths.get(key, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value)


def mounts_of(container: Mapping[str, Any], volumes: Mapping[str, Path], data: Path) -> dict[str, Path]:
    """Map the paths in a container to folders here; ``/data`` and ``/tmp`` are always its own."""
    mounts = {"/data": data}
    for mount in container.get("volumeMounts") or ():
        here = volumes[mount["name"]]
        mounts[mount["mountPath"]] = here / mount["subPath"] if mount.get("subPath") else here
    return mounts
