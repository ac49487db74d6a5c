"""Lists and watches: what changed since a version, for whoever selects it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simcluster.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.simcluster.kinds import Resource
    from tests.simcluster.selectors import Predicate
    from tests.simcluster.store import Change, Object, Store

__all__ = ("Watch", "bookmark")

_INITIAL_END = "k8s.io/initial-events-end"


def bookmark(resource: Resource, version: int, *, ends_initial: bool = False) -> dict[str, Any]:
    """Return an event that says nothing but how far the watch is."""
    meta: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
    if ends_initial:
        meta["annotations"] = {_INITIAL_END: "true"}
    return {"type": "BOOKMARK", "object": {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}}


class Watch:
    """One watch.

    Args:
        predicate: What its client selected.
        bookmark_seconds: Between bookmarks; None for none.
        among: The open watches; this one is in it while it runs.

    Attributes:
        is_cut: The stream is to end now, without a word.
    """

    def __init__(
        self,
        store: Store,
        resource: Resource,
        namespace: str,
        predicate: Predicate,
        *,
        bookmark_seconds: float | None = None,
        among: set[Watch] | None = None,
    ) -> None:
        self._store = store
        self._resource = resource
        self._namespace = namespace
        self._predicate = predicate
        self._bookmark_seconds = bookmark_seconds
        self._among = among if among is not None else set()
        self._wake = asyncio.Event()
        self.is_cut = False

    def cut(self) -> None:
        """End the stream."""
        self.is_cut = True
        self._wake.set()

    async def run(self, version: int, initial: list[Object] | None, *, is_list: bool = False) -> AsyncIterator[bytes]:
        """Send events until the request ends.

        Args:
            version: Changes after it are sent.
            initial: Sent first as added; None for none.
            is_list: The end of the first ones is marked, as WatchList wants it.
        """
        stop = self._store.listen(self._wake.set)
        self._among.add(self)
        try:
            for obj in initial or ():
                yield _line({"type": "ADDED", "object": obj})
            if is_list:
                yield _line(bookmark(self._resource, version, ends_initial=True))
            while not self.is_cut:
                self._wake.clear()
                try:
                    for change in self._store.changes_since(version):
                        for event in self._events(change):
                            yield _line(event)
                        version = change.version
                except ApiError as error:
                    yield _line({"type": "ERROR", "object": error.status()})
                    return
                if not await self._changed():
                    yield _line(bookmark(self._resource, version))
        finally:
            self._among.discard(self)
            stop()

    async def _changed(self) -> bool:
        """Wait for a write; False when it is time for a bookmark."""
        try:
            async with asyncio.timeout(self._bookmark_seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def _events(self, change: Change) -> Iterator[dict[str, Any]]:
        if change.resource is not self._resource:
            return
        if self._namespace not in ("", change.after["metadata"].get("namespace", "")):
            return
        was = change.before is not None and self._predicate(change.before)
        is_now = change.kind != "DELETED" and self._predicate(change.after)
        if is_now:
            yield {"type": "MODIFIED" if was else "ADDED", "object": change.after}
        elif was:
            yield {"type": "DELETED", "object": change.after if change.kind == "DELETED" else _last(change)}


def _last(change: Change) -> Object:
    """Return what a client that selected it saw last, with the version of the change that took it away."""
    before = change.before or {}
    return {**before, "metadata": {**before["metadata"], "resourceVersion": str(change.version)}}


def _line(event: dict[str, Any]) -> bytes:
    return msgspec.json.encode(event) + b"\n"
