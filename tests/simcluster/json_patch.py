"""JSON Patch and JSON Merge Patch. Source: RFC 6902, RFC 7386."""

from __future__ import annotations

import copy
from typing import Any

from tests.simcluster.errors import ApiError

__all__ = ("json_patch", "merge_patch")


def merge_patch(target: Any, patch: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the target with a merge patch in it; neither is changed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def json_patch(target: Any, operations: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - JSON
    """Return the target with the operations carried out, in order.

    Raises:
        ApiError: 422, when one cannot be, or a test does not hold.
    """
    document = copy.deepcopy(target)
    for operation in operations:
        try:
            document = _carry_out(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise _refused(f"{operation.get('op')} {operation.get('path')}: {error}") from error
    return document


def _refused(text: str) -> ApiError:
    return ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {text}")


def _carry_out(document: Any, operation: dict[str, Any]) -> Any:  # noqa: ANN401, PLR0911 - JSON, a table
    path = _tokens(operation["path"])
    match operation["op"]:
        case "add":
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _remove(document, path)
        case "replace":
            _find(document, path)
            return _replace(document, path, copy.deepcopy(operation["value"]))
        case "move":
            origin = _tokens(operation["from"])
            value = _find(document, origin)
            return _add(_remove(document, origin), path, value)
        case "copy":
            return _add(document, path, copy.deepcopy(_find(document, _tokens(operation["from"]))))
        case "test":
            if _find(document, path) != operation.get("value"):
                raise _refused(f"testing path {operation['path']} value failed")
            return document
        case unknown:
            raise ValueError(f"no operation {unknown!r}")


def _tokens(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"bad pointer {pointer!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _find(document: Any, path: list[str]) -> Any:  # noqa: ANN401 - JSON
    for token in path:
        document = document[int(token)] if isinstance(document, list) else document[token]
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:  # noqa: ANN401 - JSON
    if not path:
        return value
    parent = _find(document, path[:-1])
    if isinstance(parent, list):
        index = len(parent) if path[-1] == "-" else int(path[-1])
        if not 0 <= index <= len(parent):
            raise IndexError(f"index {index} is out of bounds")
        parent.insert(index, value)
    else:
        parent[path[-1]] = value
    return document


def _replace(document: Any, path: list[str], value: Any) -> Any:  # noqa: ANN401 - JSON
    if not path:
        return value
    parent = _find(document, path[:-1])
    parent[int(path[-1]) if isinstance(parent, list) else path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:  # noqa: ANN401 - JSON
    parent = _find(document, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]
    return document
