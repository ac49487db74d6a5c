"""An outbox in memory, and what a test does with an outbox from the application's side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol

from typing_extensions import override

from service.core.outbox import OutboxFigures, OutboxRow, Refusal
from service.realtime.outbox import OutboxBell, OutboxTable

__all__ = ("Application", "HandBell", "MemoryOutbox", "State", "Writer")

_NAME = 1024


class State(NamedTuple):
    """What became of a row."""

    is_published: bool = False
    tries: int = 0
    error: str | None = None
    is_set_aside: bool = False


class Writer(Protocol):
    """One transaction of an application."""

    async def write(self, channel: str, data: bytes, tags: bytes | None = None) -> int:
        """Insert a row and return its id."""
        ...


class Application(Protocol):
    """The other side of a table: who inserts, and who marks.

    Attributes:
        table: The table itself.
        token: The current fencing token.
    """

    table: OutboxTable
    token: int

    def transaction(self) -> AbstractAsyncContextManager[Writer]:
        """Begin a transaction; it commits at the end of the block, and rolls back on an exception."""
        ...

    async def mark(self, *row_ids: int) -> None:
        """Mark rows as published, as the stream store does."""
        ...

    async def make_older(self, row_id: int, seconds: float) -> None:
        """Move every instant of a row into the past."""
        ...

    async def state(self, row_id: int) -> State | None:
        """Return what became of a row; None when it is gone."""
        ...


@dataclass
class _Row:
    id: int
    channel: str
    data: bytes
    tags: bytes | None
    created_at: float
    published_at: float | None = None
    tries: int = 0
    error: str | None = None
    set_aside_at: float | None = None

    @property
    def waits(self) -> bool:
        return self.published_at is None and self.set_aside_at is None


class MemoryOutbox(OutboxTable, Application):
    """A table that passes the suite of the real ones. Ids are given at the insert, rows are seen after the commit.

    Attributes:
        trouble: Raised by every method of the table while it is set.
        looks: How often somebody asked for rows that wait.
    """

    def __init__(self, wall: Callable[[], float] = lambda: 1_800_000_000.0) -> None:
        self.table: OutboxTable = self
        self.token = 1
        self.trouble: Exception | None = None
        self.looks = 0
        self.rows: dict[int, _Row] = {}
        self._wall = wall
        self._ids = count(1)

    def _check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    # The table.

    @override
    async def waiting(
        self, *, limit: int, row_bytes: int, batch_bytes: int, resting: Collection[int], held: Collection[str] = ()
    ) -> list[OutboxRow]:
        self.looks += 1
        self._check()
        found: list[OutboxRow] = []
        total = 0
        for row in sorted(self.rows.values(), key=lambda row: row.id):
            if not row.waits or row.id in resting or any(f"{row.channel}:".startswith(f"{name}:") for name in held):
                continue
            if len(found) >= limit or total >= batch_bytes:
                break
            tags = b"" if row.tags is not None and len(row.tags) > row_bytes else row.tags
            data = b"" if len(row.data) > row_bytes else row.data
            total += len(data) + len(tags or b"")
            found.append(
                OutboxRow(row.id, row.channel[:_NAME], data, len(row.data), tags, len(row.tags or b""), row.tries)
            )
        return found

    @override
    async def refuse(self, refusals: Sequence[Refusal], *, token: int) -> None:
        self._check()
        if token != self.token:
            return
        for refusal in refusals:
            row = self.rows.get(refusal.id)
            if row is not None and row.waits:
                row.tries += 1
                row.error = refusal.reason
                row.set_aside_at = self._wall() if refusal.is_last else None

    @override
    async def expire(self, *, keep_seconds: float, limit: int) -> int:
        self._check()
        before = self._wall() - keep_seconds
        old = [row for row in self.rows.values() if row.published_at is not None and row.published_at < before]
        for row in old[:limit]:
            del self.rows[row.id]
        return len(old[:limit])

    @override
    async def figures(self) -> OutboxFigures:
        self._check()
        waiting = [row for row in self.rows.values() if row.waits]
        return OutboxFigures(
            len(waiting),
            self._wall() - min(waiting, key=lambda row: row.id).created_at if waiting else 0.0,
            sum(row.set_aside_at is not None for row in self.rows.values()),
        )

    # The application.

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Writer]:
        writer = _MemoryWriter(self._ids, self._wall())
        yield writer
        self.rows |= {row.id: row for row in writer.rows}

    @override
    def transaction(self) -> AbstractAsyncContextManager[Writer]:
        return self._transaction()

    @override
    async def mark(self, *row_ids: int) -> None:
        for row_id in row_ids:
            self.rows[row_id].published_at = self._wall()

    @override
    async def make_older(self, row_id: int, seconds: float) -> None:
        row = self.rows[row_id]
        row.created_at -= seconds
        if row.published_at is not None:
            row.published_at -= seconds

    @override
    async def state(self, row_id: int) -> State | None:
        row = self.rows.get(row_id)
        if row is None:
            return None
        return State(row.published_at is not None, row.tries, row.error, row.set_aside_at is not None)


class _MemoryWriter(Writer):
    def __init__(self, ids: count[int], at: float) -> None:
        self.rows: list[_Row] = []
        self._ids = ids
        self._at = at

    @override
    async def write(self, channel: str, data: bytes, tags: bytes | None = None) -> int:
        row = _Row(next(self._ids), channel, data, tags, self._at)
        self.rows.append(row)
        return row.id


class HandBell(OutboxBell):
    """A bell that a test rings."""

    def __init__(self) -> None:
        self.ring: Callable[[], None] = lambda: None

    @override
    async def run(self, ring: Callable[[], None]) -> None:
        self.ring = ring
        await asyncio.Event().wait()
