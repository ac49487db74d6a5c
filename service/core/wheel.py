"""A timing wheel: many deadlines, one timer. Pure: time comes in."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

__all__ = ("Wheel",)

T = TypeVar("T")


class Wheel(Generic[T]):
    """Items by the time at which they want to be looked at, rounded up to ``grain_seconds``.

    Args:
        grain_seconds: How late an item may come out.
    """

    __slots__ = ("_at", "_buckets", "_done", "grain_seconds")

    def __init__(self, *, grain_seconds: float, now: float) -> None:
        self.grain_seconds = grain_seconds
        self._done = math.floor(now / grain_seconds)
        # A dict in place of a set keeps the order of arrival, so that runs repeat.
        self._buckets: dict[int, dict[T, None]] = {}
        self._at: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self._at)

    def schedule(self, item: T, deadline: float) -> None:
        """Put an item in, or move it; an infinite deadline takes it out."""
        if deadline == math.inf:
            self.remove(item)
            return
        bucket = max(math.ceil(deadline / self.grain_seconds), self._done + 1)
        held = self._at.get(item)
        if held == bucket:
            return
        if held is not None:
            self._take(item, held)
        self._at[item] = bucket
        self._buckets.setdefault(bucket, {})[item] = None

    def remove(self, item: T) -> None:
        """Take an item out; unknown ones are ignored."""
        held = self._at.pop(item, None)
        if held is not None:
            self._take(item, held)

    def due(self, now: float) -> list[T]:
        """Take out and return every item whose time has come."""
        last = math.floor(now / self.grain_seconds)
        if last - self._done > len(self._buckets):
            ready = sorted(bucket for bucket in self._buckets if bucket <= last)
        else:
            ready = [bucket for bucket in range(self._done + 1, last + 1) if bucket in self._buckets]
        self._done = max(self._done, last)
        items: list[T] = []
        for bucket in ready:
            items.extend(self._buckets.pop(bucket))
        for item in items:
            del self._at[item]
        return items

    def _take(self, item: T, bucket: int) -> None:
        items = self._buckets[bucket]
        del items[item]
        if not items:
            del self._buckets[bucket]
