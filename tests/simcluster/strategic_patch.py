"""Strategic merge patch.

Source: sig-api-machinery, "Strategic Merge Patch": lists merge by key, and ``$patch``, ``$retainKeys``,
``$setElementOrder`` and ``$deleteFromPrimitiveList`` direct it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from tests.simcluster.list_keys import is_set, keys_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("strategic_patch",)

_Names = tuple[str, ...]


def strategic_patch(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the target with a patch in it; neither is changed."""
    return _merge_map(copy.deepcopy(dict(target)), patch, ())


def _merge_map(target: dict[str, Any], patch: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    match patch.get("$patch"):
        case "replace":
            return {name: copy.deepcopy(value) for name, value in patch.items() if name != "$patch"}
        case "delete":
            return {}
    if "$retainKeys" in patch:
        target = {name: value for name, value in target.items() if name in patch["$retainKeys"]}
    for name, value in patch.items():
        if not name.startswith("$"):
            _merge_field(target, name, value, names)
    for name, value in patch.items():
        _direct(target, name, value, names)
    return target


def _merge_field(target: dict[str, Any], name: str, value: Any, names: _Names) -> None:  # noqa: ANN401 - JSON
    below = (*names, name)
    if value is None:
        target.pop(name, None)
    elif isinstance(value, dict):
        target[name] = _merge_map(dict(target.get(name) or {}), value, below)
    elif isinstance(value, list):
        target[name] = _merge_list(target.get(name) or [], value, below)
    else:
        target[name] = value


def _merge_list(target: list[Any], patch: list[Any], names: _Names) -> list[Any]:
    if is_set(names):
        return [*target, *(value for value in patch if value not in target)]
    keys = keys_of(names)
    if not keys or any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if not _is_directive(item)]
    return _merge_items(target, patch, keys[0], names)


def _is_directive(item: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(item, dict) and set(item) == {"$patch"}


def _merge_items(target: list[Any], patch: list[Any], key: str, names: _Names) -> list[Any]:
    merged = list(target)
    for item in patch:
        index = next((at for at, old in enumerate(merged) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del merged[index]
        elif index is None:
            merged.append(_merge_map({}, item, names))
        else:
            merged[index] = _merge_map(dict(merged[index]), item, names)
    return merged


def _direct(target: dict[str, Any], name: str, value: list[Any], names: _Names) -> None:
    directive, _, field = name.partition("/")
    if directive == "$deleteFromPrimitiveList":
        target[field] = [item for item in target.get(field, ()) if item not in value]
    elif directive == "$setElementOrder" and isinstance(target.get(field), list):
        _order(target[field], value, keys_of((*names, field)))


def _order(items: list[Any], wanted: list[Any], keys: tuple[str, ...]) -> None:
    """Bring the listed items into the wanted order; the others keep their places at the end."""
    if not keys:
        items.sort(key=lambda item: wanted.index(item) if item in wanted else len(wanted))
        return
    order = [entry.get(keys[0]) for entry in wanted]
    items.sort(key=lambda item: order.index(item.get(keys[0])) if item.get(keys[0]) in order else len(order))
