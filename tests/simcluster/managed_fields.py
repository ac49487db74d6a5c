"""Who owns which field: server-side apply, and what other writes leave behind.

Source: kubernetes.io, "Server-Side Apply".
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simcluster.errors import ApiError
from tests.simcluster.field_sets import (
    Path,
    from_fields_v1,
    is_key,
    leaves,
    spelled,
    step_of_item,
    to_fields_v1,
    without,
)
from tests.simcluster.list_keys import is_atomic_map, is_set, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simcluster.store import Object

__all__ = ("Writer", "apply", "note_write")

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes.

    Attributes:
        manager: Field manager.
        operation: ``Apply`` or ``Update``.
        subresource: Empty for the object itself.
    """

    manager: str
    operation: str = "Update"
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of ``managedFields``."""

    writer: Writer
    api_version: str
    time: str
    paths: frozenset[Path]


def _read(obj: Object) -> dict[Writer, _Entry]:
    entries: dict[Writer, _Entry] = {}
    for entry in obj.get("metadata", {}).get("managedFields") or ():
        writer = Writer(entry["manager"], entry["operation"], entry.get("subresource", ""))
        paths = frozenset(from_fields_v1(entry.get("fieldsV1") or {}))
        entries[writer] = _Entry(writer, entry["apiVersion"], entry.get("time", ""), paths)
    return entries


def _write(obj: Object, entries: Iterable[_Entry]) -> None:
    kept = [
        {
            "manager": entry.writer.manager,
            "operation": entry.writer.operation,
            "apiVersion": entry.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_fields_v1(entry.paths),
            **({"subresource": entry.writer.subresource} if entry.writer.subresource else {}),
        }
        for entry in entries
        if entry.paths
    ]
    kept.sort(key=lambda entry: (entry["operation"] != "Apply", entry["time"], entry["manager"]))
    obj["metadata"]["managedFields"] = kept


def note_write(before: Object | None, after: Object, writer: Writer, time: str) -> None:
    """Note in ``after`` that a writer made it out of ``before`` by anything but an apply."""
    if after["metadata"].get("managedFields") == []:
        after["metadata"].pop("managedFields")
        return
    old, new = leaves(before or {}), leaves(after)
    changed = {path for path, value in new.items() if old.get(path, _MISSING) != value}
    removed = old.keys() - new.keys()
    entries = _read(before or {})
    for other, entry in entries.items():
        lost = changed | removed if other != writer else removed
        entries[other] = _Entry(other, entry.api_version, entry.time, entry.paths - lost)
    if changed:
        mine = entries.get(writer)
        paths = frozenset(changed) | (mine.paths if mine else frozenset())
        entries[writer] = _Entry(writer, after["apiVersion"], time, paths)
    _write(after, entries.values())


def apply(live: Object | None, config: Object, writer: Writer, *, is_forced: bool, time: str) -> Object:
    """Return the live object with an applied configuration in it, owners noted; neither is changed.

    Raises:
        ApiError: 409, when another manager owns a field and wants another value.
    """
    wanted = leaves(config)
    entries = _read(live or {})
    taken = _conflicts(entries, leaves(live or {}), wanted, writer)
    if taken and not is_forced:
        raise _conflict(taken, entries)
    for other, paths in taken.items():
        entry = entries[other]
        entries[other] = _Entry(other, entry.api_version, entry.time, entry.paths - paths)
    merged = _merge(live or {}, config, ())
    merged = _prune(merged, entries, wanted, writer)
    mine = frozenset(wanted)
    before = entries.get(writer)
    is_same = before is not None and before.paths == mine
    kept_time = before.time if before and is_same else time
    entries[writer] = _Entry(writer, config["apiVersion"], kept_time, mine)
    _write(merged, entries.values())
    return merged


def _conflicts(
    entries: dict[Writer, _Entry], live: dict[Path, Any], wanted: dict[Path, Any], writer: Writer
) -> dict[Writer, set[Path]]:
    differing = {path for path, value in wanted.items() if live.get(path, _MISSING) != value}
    found = {other: set(entry.paths & differing) for other, entry in entries.items() if other != writer}
    return {other: paths for other, paths in found.items() if paths}


def _conflict(taken: dict[Writer, set[Path]], entries: dict[Writer, _Entry]) -> ApiError:
    causes = []
    for other, paths in taken.items():
        by = f'conflict with "{other.manager}"'
        if other.subresource:
            by += f' with subresource "{other.subresource}"'
        if other.operation == "Update":
            by += f" using {entries[other].api_version}"
        causes += [{"reason": "FieldManagerConflict", "message": by, "field": spelled(path)} for path in sorted(paths)]
    count = len(causes)
    text = f"Apply failed with {count} conflict{'s' if count > 1 else ''}: "
    text += "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    return ApiError(409, "Conflict", text, details={"causes": causes})


def _prune(merged: Object, entries: dict[Writer, _Entry], wanted: dict[Path, Any], writer: Writer) -> Object:
    """Take out what this manager applied before and no longer wants, unless another owns it too."""
    if writer not in entries:
        return merged
    others = {path for other, entry in entries.items() if other != writer for path in entry.paths}
    # An item before what is in it; what it is known by goes with it alone.
    for path in sorted(entries[writer].paths - wanted.keys(), key=len):
        if not is_key(path) and not any(other[: len(path)] == path for other in others):
            merged = without(merged, path) or {}
    return merged


def _merge(live: Any, config: Any, names: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(config, dict) and isinstance(live, dict) and not is_atomic_map(names):
        merged = dict(live)
        for name, value in config.items():
            merged[name] = _merge(live.get(name), value, (*names, name))
        return merged
    if isinstance(config, list) and isinstance(live, list):
        if is_set(names):
            return [*live, *(value for value in config if value not in live)]
        if keys := keys_of(names):
            return _merge_items(live, config, keys, names)
    return copy.deepcopy(config)


def _merge_items(live: list[Any], config: list[Any], keys: tuple[str, ...], names: tuple[str, ...]) -> list[Any]:
    wanted = {step_of_item(item, keys): item for item in config}
    merged = []
    for item in live:
        new = wanted.pop(step_of_item(item, keys), None)
        merged.append(item if new is None else _merge_item(item, new, names))
    return [*merged, *(copy.deepcopy(item) for item in wanted.values())]


def _merge_item(live: dict[str, Any], config: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {**live, **{name: _merge(live.get(name), value, (*names, name)) for name, value in config.items()}}
