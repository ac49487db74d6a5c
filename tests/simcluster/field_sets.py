"""Fields of an object as paths, and their form in ``managedFields``.

A path is a tuple of steps as FieldsV1 writes them: ``f:name``, ``k:{"name":"app"}``, ``v:"value"``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.simcluster.list_keys import is_atomic_map, is_set, item_key, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ("Path", "from_fields_v1", "is_key", "leaves", "spelled", "step_of_item", "to_fields_v1", "without")

Path = tuple[str, ...]

_ITEM = object()
_STRIPPED = frozenset(
    {
        "f:creationTimestamp",
        "f:deletionGracePeriodSeconds",
        "f:deletionTimestamp",
        "f:generation",
        "f:managedFields",
        "f:name",
        "f:namespace",
        "f:resourceVersion",
        "f:selfLink",
        "f:uid",
    }
)


def leaves(obj: Mapping[str, Any]) -> dict[Path, Any]:
    """Map the path of each field that can have an owner to its value; an item of a list has a marker."""
    return {
        path: value
        for path, value in _walk(obj, (), ())
        if path not in (("f:apiVersion",), ("f:kind",), ("f:metadata",))
        and not (len(path) == 2 and path[0] == "f:metadata" and path[1] in _STRIPPED)
        and path[:2] != ("f:metadata", "f:managedFields")
    }


def _walk(value: Any, path: Path, names: tuple[str, ...]) -> Iterator[tuple[Path, Any]]:  # noqa: ANN401 - JSON
    if isinstance(value, dict) and value and not is_atomic_map(names):
        for name, below in value.items():
            yield from _walk(below, (*path, f"f:{name}"), (*names, name))
    elif isinstance(value, list) and value and is_set(names):
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), _ITEM
    elif isinstance(value, list) and value and keys_of(names):
        for item in value:
            step = (*path, step_of_item(item, keys_of(names)))
            yield step, _ITEM
            for name, below in item.items():
                yield from _walk(below, (*step, f"f:{name}"), (*names, name))
    else:
        yield path, value


def step_of_item(item: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """Return the step that names an item of a keyed list."""
    return "k:" + json.dumps(item_key(item, keys), sort_keys=True, separators=(",", ":"))


def is_key(path: Path) -> bool:
    """Tell whether a path is that of a field by which an item of a list is known."""
    return len(path) > 1 and path[-2][0] == "k" and path[-1].partition(":")[2] in json.loads(path[-2].partition(":")[2])


def to_fields_v1(paths: Iterable[Path]) -> dict[str, Any]:
    """Write a set of paths as FieldsV1."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for step in path:
            node = node.setdefault(step, {})
        if path[-1][0] == "k":
            node["."] = {}
    return root


def from_fields_v1(fields: Mapping[str, Any], prefix: Path = ()) -> set[Path]:
    """Read FieldsV1."""
    found: set[Path] = set()
    for step, below in fields.items():
        if step == ".":
            found.add(prefix)
        elif below:
            found |= from_fields_v1(below, (*prefix, step))
        else:
            found.add((*prefix, step))
    return found


def spelled(path: Path) -> str:
    """Write a path as messages do: ``.spec.containers[name="app"].image``."""
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "v":
            text += f"[={rest}]"
        else:
            text += "[" + ",".join(f"{name}={json.dumps(value)}" for name, value in json.loads(rest).items()) + "]"
    return text


def without(value: Any, path: Path, names: tuple[str, ...] = ()) -> Any:  # noqa: ANN401 - JSON
    """Return the value without what is at a path; a map or list that this empties goes with it (None)."""
    step, rest = path[0], path[1:]
    kind, _, name = step.partition(":")
    if kind == "f":
        return _without_field(value, name, rest, names)
    if not isinstance(value, list):
        return value
    kept = []
    for item in value:
        is_it = json.dumps(item) == name if kind == "v" else step_of_item(item, keys_of(names)) == step
        left = item if not is_it else (without(item, rest, names) if rest else None)
        if left is not None:
            kept.append(left)
    return kept or None


def _without_field(value: Any, name: str, rest: Path, names: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, dict) or name not in value:
        return value
    left = without(value[name], rest, (*names, name)) if rest else None
    kept = {key: below for key, below in value.items() if key != name}
    if left is not None:
        return {**value, name: left}
    return kept or None
