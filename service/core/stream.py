"""Bounded publication history of one channel.

Sans-I/O: no clock, no locks, no tasks. The caller serialises access and passes
the time and every identifier in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("Position", "Publication", "Stream")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one incarnation of a stream.

    Attributes:
        offset: Number of publications made so far; 0 before the first.
        epoch: Identity of the incarnation. An offset alone is unsafe: after the stream
            was lost, offsets begin again and would look valid.
    """

    offset: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Publication:
    """One payload in a channel.

    Attributes:
        offset: Place in the stream, from 1; 0 on a channel without history.
        data: Raw JSON on one line.
        info: Raw JSON about the client that published; None when the server did.
        tags: Raw JSON object of strings; None when there are none.
        at: Seconds when it was made, by the clock of its store: monotonic in memory, Unix time in a database.
    """

    offset: int
    data: bytes
    info: bytes | None = None
    tags: bytes | None = None
    at: float = 0.0


class Stream:
    """The last ``size`` publications of a channel that are younger than ``ttl`` seconds, in offset order.

    Args:
        epoch: Identity of this incarnation.
        size: Publications kept; at least 1.
        ttl: Seconds that a publication is kept; above 0.
        top: Offset of the newest publication, which need not be held; 0 for none.

    Attributes:
        bytes: Of the payloads that are kept.
    """

    __slots__ = ("_items", "_size", "_ttl", "_version", "bytes", "epoch", "last_at", "top")

    def __init__(self, *, epoch: str, size: int, ttl: float, top: int = 0) -> None:
        self.epoch = epoch
        self.top = top
        self.bytes = 0
        self.last_at = 0.0
        self._size = size
        self._ttl = ttl
        self._items: deque[Publication] = deque()
        self._version = (0, "")

    def __len__(self) -> int:
        return len(self._items)

    @property
    def position(self) -> Position:
        """Offset of the newest publication and the epoch."""
        return Position(self.top, self.epoch)

    def append(self, data: bytes, *, info: bytes | None, tags: bytes | None, now: float) -> Publication:
        """Add one publication and return it; offsets grow by exactly 1."""
        item = Publication(self.top + 1, data, info, tags, now)
        self.add(item)
        return item

    def add(self, item: Publication) -> None:
        """Add a publication that has its offset already: the one behind the top."""
        self.top = item.offset
        self._items.append(item)
        self.bytes += len(item.data)
        if len(self._items) > self._size:
            self.drop_oldest()
        self.last_at = item.at

    def fill_back(self, items: Iterable[Publication]) -> None:
        """Put back publications that were made before those that are held.

        Args:
            items: Newest first, from right below the oldest that is held, without a gap; what does not fit is left out.
        """
        for item in items:
            if item.offset != self.top - len(self._items) or len(self._items) >= self._size:
                return
            self._items.appendleft(item)
            self.bytes += len(item.data)

    def is_outdated(self, version: int, version_epoch: str) -> bool:
        """Whether this or a newer version was published already; else remember it.

        Args:
            version: Grows with the state that is published; 0 means that there are no versions.
            version_epoch: Another one starts the count anew.
        """
        if version <= 0:
            return False
        seen, seen_epoch = self._version
        if version_epoch == seen_epoch and version <= seen:
            return True
        self._version = (version, version_epoch)
        return False

    def expire(self, now: float) -> None:
        """Forget publications older than the time to live; the top stays."""
        oldest = now - self._ttl
        while self._items and self._items[0].at <= oldest:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Forget the oldest publication that is kept; there must be one."""
        self.bytes -= len(self._items.popleft().data)

    def holds(self, offset: int) -> bool:
        """Whether the publication with this offset is still kept."""
        return self.top - len(self._items) < offset <= self.top

    def clear(self) -> None:
        """Forget every publication; the top and the epoch stay, so offsets are never given twice."""
        self._items.clear()
        self.bytes = 0

    def after(self, offset: int, limit: int) -> Sequence[Publication]:
        """Return up to ``limit`` kept publications above ``offset``, oldest first."""
        if offset >= self.top:
            # Clients may name any offset up to 2**63 - 1, which islice would not take.
            return ()
        skip = max(0, offset - (self.top - len(self._items)))
        return tuple(islice(self._items, skip, skip + limit))

    def before(self, offset: int, limit: int) -> Sequence[Publication]:
        """Return up to ``limit`` kept publications below ``offset``, newest first."""
        skip = max(0, self.top - offset + 1)
        return tuple(islice(reversed(self._items), skip, skip + limit))
