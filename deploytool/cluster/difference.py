"""What differs between objects of a cluster, in lines for people; what is generated, or secret, is left out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ("differences", "release_differences")

_GENERATED: Final = frozenset(
    {"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"}
)
_NOISE: Final = re.compile(
    r"\.annotations\.(checksum/|deployment\.kubernetes\.io/"
    r"|kubectl\.kubernetes\.io/(last-applied-configuration|restartedAt))"
)
"""Annotations that only say that something else differs, or when."""
_SECRET_NAME: Final = re.compile(r"key|secret|token|password|passwd|credential|dsn", re.IGNORECASE)
_SECRET_FIELD: Final = re.compile(r"\.env\[([^]]*)\]\.value$")
_USER_IN_URL: Final = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_MAPS: Final = (".annotations", ".labels")
_HIDDEN: Final = "(hidden)"
_MOST_CHARACTERS: Final = 100
_MOST_PATHS: Final = 5
_NOTHING: Final = "nothing"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs between two states of an object, a line each; what it says of its own state does not count."""
    for path, old, new in _changes(_asked(before), _asked(after), ""):
        if not _NOISE.search(f".{path}"):
            yield f"{path}: {_shown(path, old)} -> {_shown(path, new)}"


def release_differences(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], *, but: str
) -> Iterator[str]:
    """Yield which objects of a release are added, removed and changed, a line each; no value is shown.

    Args:
        before: Its objects as they were rendered.
        but: Kind and name of an object that is spoken of elsewhere, as in ``Deployment web``.
    """
    old, new = _named(before), _named(after)
    for name in sorted({*old, *new} - {but}):
        if name not in old:
            yield f"{name}: is added"
        elif name not in new:
            yield f"{name}: is removed"
        elif paths := [path for path, _, _ in _changes(_asked(old[name]), _asked(new[name]), "")]:
            # What of a Secret differs is nobody's business here.
            is_secret = old[name].get("kind") == "Secret"
            yield f"{name}: is changed" if is_secret else f"{name}: is changed: {_listed(paths)}"


def _named(documents: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {f"{one.get('kind')} {(one.get('metadata') or {}).get('name')}": one for one in documents}


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _MOST_PATHS} more" if len(paths) > _MOST_PATHS else ""
    return ", ".join(paths[:_MOST_PATHS]) + more


def _asked(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is asked for: without the state, and without what the API server writes into it."""
    asked = {key: value for key, value in one.items() if key not in ("apiVersion", "kind", "status")}
    asked["metadata"] = {key: value for key, value in (one.get("metadata") or {}).items() if key not in _GENERATED}
    return asked


def _changes(before: Any, after: Any, path: str) -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401 - JSON
    if path.endswith(_MAPS):
        before, after = before or {}, after or {}
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _changes(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return
    old, new = _items(before), _items(after)
    if old is not None and new is not None and (old or new):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _changes(old.get(name), new.get(name), f"{path}[{name}]")
        return
    if before != after and not (_is_nothing(before) and _is_nothing(after)):
        yield path, before, after


def _is_nothing(value: Any) -> bool:  # noqa: ANN401 - JSON
    return value is None or value in ("", [], {})


def _items(value: Any) -> dict[str, Any] | None:  # noqa: ANN401 - JSON
    """Return the items of a list by name, or else by number; None when it is no list of objects."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return None
    names = [str(one.get("name") or "") for one in value]
    is_named = all(names) and len(set(names)) == len(names)
    return {names[index] if is_named else str(index): one for index, one in enumerate(value)}


def _shown(path: str, value: Any) -> str:  # noqa: ANN401 - JSON
    if value is None:
        return _NOTHING
    if (found := _SECRET_FIELD.search(path)) and _SECRET_NAME.search(found[1]):
        return _HIDDEN
    text = value if isinstance(value, str) else json.dumps(_without_secrets(value), sort_keys=True)
    text = _USER_IN_URL.sub(rf"\1{_HIDDEN}@", text)
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…"


def _without_secrets(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _without_secrets(one) for key, one in value.items()}
    if "value" in found and _SECRET_NAME.search(str(found.get("name") or "")):
        found["value"] = _HIDDEN
    return found
