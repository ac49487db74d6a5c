"""What Helm has on record of a release: its chart, the values that were given, and what came of them."""

from __future__ import annotations

import base64
import gzip
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from deploytool.rollout.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ("ReleaseRecord", "documents", "read_record", "write_chart")

_MOST_BYTES: Final = 64 << 20
_SERVER_SIDE: Final = "ssa"
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """One revision of a release.

    Attributes:
        values: Given by whoever installed or upgraded, without the defaults of the chart.
        manifest: As it was rendered: documents of YAML.
        is_applied: By server-side apply, where fields of others are in the way; else by a patch, which takes them.
    """

    revision: int
    chart: Mapping[str, Any]
    values: Mapping[str, Any]
    manifest: str
    is_applied: bool


def read_record(secret: Mapping[str, Any]) -> ReleaseRecord:
    """Read the Secret in which Helm keeps a revision.

    Raises:
        RefusedError: It is none.
    """
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            found = json.loads(file.read(_MOST_BYTES))
        return ReleaseRecord(
            revision=int(found["version"]),
            chart=dict(found["chart"]),
            values=dict(found.get("config") or {}),
            manifest=str(found["manifest"]),
            is_applied=found.get("apply_method") == _SERVER_SIDE,
        )
    except (KeyError, TypeError, ValueError, OSError, EOFError, RecursionError) as error:
        raise RefusedError(f"Helm's record of the release cannot be read: {type(error).__name__}: {error}") from error


def write_chart(record: ReleaseRecord, folder: Path) -> str:
    """Write the chart of a record into a folder, and return its path.

    Raises:
        RefusedError: The record holds no whole chart.
    """
    chart = record.chart
    try:
        if chart["metadata"].get("dependencies"):
            raise RefusedError("the chart in Helm's record has dependencies, which the record leaves out: give --chart")
        texts = {one["name"]: base64.b64decode(one["data"]) for one in (*chart["templates"], *(chart["files"] or ()))}
        texts["Chart.yaml"] = json.dumps(chart["metadata"]).encode()
        texts["values.yaml"] = json.dumps(chart["values"]).encode()
        if chart.get("schema"):
            texts["values.schema.json"] = base64.b64decode(chart["schema"])
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"the chart in Helm's record cannot be read ({error}): give --chart") from error
    root = folder.resolve()
    for name, data in texts.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise RefusedError(f"the chart in Helm's record has a file outside of itself: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(root)


class _Loader(yaml.SafeLoader):
    """Takes what looks like a date for the text that it is, as Kubernetes does."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(manifest: str) -> Sequence[dict[str, Any]]:
    """Return the objects of a manifest.

    Raises:
        RefusedError: It is no YAML.
    """
    try:
        found = list(yaml.load_all(manifest, Loader=_Loader))
    except (yaml.YAMLError, RecursionError) as error:
        raise RefusedError(f"what Helm made of the chart is no YAML: {error}") from error
    return [one for one in found if isinstance(one, dict)]
