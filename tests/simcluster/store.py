"""The objects of the cluster and the history of their changes; knows no rule of any kind of object."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simcluster.errors import gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simcluster.kinds import Resource

__all__ = ("Change", "Object", "Store")

Object = dict[str, Any]

_HISTORY_COUNT = 5000
_FIRST_VERSION = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """One write.

    Attributes:
        version: Resource version that it made.
        kind: ``ADDED``, ``MODIFIED`` or ``DELETED``.
        before: The object before it; None when there was none.
        after: The object after it; of a deletion its last state, with the new version.
    """

    version: int
    kind: str
    resource: Resource
    before: Object | None
    after: Object


class Store:
    """Objects by kind, namespace and name.

    What it hands out is the stored object itself: a reader must not change it. One event loop only.

    Attributes:
        version: Resource version of the last write.
    """

    def __init__(self) -> None:
        self.version = _FIRST_VERSION
        self._objects: dict[Resource, dict[tuple[str, str], Object]] = {}
        self._history: deque[Change] = deque()
        self._compacted = _FIRST_VERSION
        self._listeners: list[Callable[[], None]] = []

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""
        return self._objects.get(resource, {}).get((namespace, name))

    def all(self, resource: Resource, namespace: str = "") -> list[Object]:
        """Return the objects of a kind in the order of namespace and name; an empty namespace means all."""
        found = self._objects.get(resource, {})
        return [found[key] for key in sorted(found) if namespace in ("", key[0])]

    def put(self, resource: Resource, new: Object) -> Object:
        """Keep a new state, which gets the next resource version; the caller gives the object away."""
        meta = new["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        objects = self._objects.setdefault(resource, {})
        before = objects.get(key)
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        objects[key] = new
        self._note(Change(self.version, "MODIFIED" if before else "ADDED", resource, before, new))
        return new

    def remove(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Forget an object; returns its last state with the version of the deletion."""
        before = self._objects.get(resource, {}).pop((namespace, name), None)
        if before is None:
            return None
        self.version += 1
        last = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.version)}}
        self._note(Change(self.version, "DELETED", resource, before, last))
        return last

    def changes_since(self, version: int) -> list[Change]:
        """Return the writes after a version, oldest first.

        Raises:
            ApiError: 410, when they are no longer all known.
        """
        if version < self._compacted:
            raise gone(f"too old resource version: {version} ({self._compacted})")
        found: list[Change] = []
        for change in reversed(self._history):
            if change.version <= version:
                break
            found.append(change)
        found.reverse()
        return found

    def compact(self) -> None:
        """Forget the history: whoever watches from an older version is told 410."""
        self._history.clear()
        self._compacted = self.version

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after each write; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _note(self, change: Change) -> None:
        self._history.append(change)
        if len(self._history) > _HISTORY_COUNT:
            self._compacted = self._history.popleft().version
        for listener in tuple(self._listeners):
            listener()
