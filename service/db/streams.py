"""The tables that streams are kept in, on either database.

One instance writes at a time, so nothing here reads before it writes: the engine above knows
tops, epochs and versions, and what it hands in is committed wholly or not at all. Two things are
compared by the very transaction that writes: the fencing token, since another instance may have
taken over, and the tops, since an answer may have been lost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from service.core.rows import Head, Row
from service.core.stream import Position, Publication
from service.db.database import Database
from service.db.groups import Group, is_storable, make_group, refused_rows
from service.db.postgres_streams import PostgresStreams
from service.db.sqlite_streams import SqliteStreams
from service.errors import RowsRefused

__all__ = ("StreamTables",)

_REFUSED: Final = "the database refuses what is in a row"


class _Statements(Protocol):
    """What differs between the databases. Never called for nothing: collections have at least one item."""

    async def epoch(self) -> str: ...

    async def heads(self, channels: Sequence[str]) -> dict[str, Head]: ...

    async def results(self, keys: Sequence[tuple[str, str]], since: float) -> dict[tuple[str, str], Position]: ...

    async def append(self, group: Group, token: int) -> None: ...

    async def refused(self, rows: Sequence[Row]) -> list[int]: ...

    async def read(self, channel: str, after: int, limit: int, oldest: float, max_bytes: int) -> list[Publication]: ...

    async def read_back(
        self, channel: str, before: int, limit: int, oldest: float, max_bytes: int
    ) -> list[Publication]: ...

    async def remove(self, channel: str, token: int) -> None: ...

    async def renew(self, channel: str, epoch: str, token: int) -> None: ...

    async def trim(self, bounds: Mapping[str, tuple[int, float]], limit: int, token: int) -> int: ...

    async def names(self, after: str, limit: int) -> list[tuple[str, int]]: ...

    async def expire_results(self, before: float, limit: int, token: int) -> int: ...

    async def probe(self, token: int) -> None: ...


class StreamTables:
    """Implements ``service.realtime.ports.StreamTables``, whose docstrings hold here. Event loop only.

    Args:
        database: Started, and closed by whoever made it.
    """

    def __init__(self, database: Database) -> None:
        self._statements: _Statements = (
            PostgresStreams(database) if database.kind == "postgres" else SqliteStreams(database)
        )

    async def epoch(self) -> str:
        """Return the epoch of the database; empty before the first take-over."""
        return await self._statements.epoch()

    async def heads(self, channels: Collection[str]) -> dict[str, Head]:
        """Return what is known of streams.

        After an outcome was unknown the first call waits until the group in question has ended,
        one way or the other, as far as the server knows of it.
        """
        known = [channel for channel in channels if is_storable(channel)]
        return await self._statements.heads(known) if known else {}

    async def results(self, keys: Collection[tuple[str, str]], *, since: float) -> dict[tuple[str, str], Position]:
        """Return the results of idempotency keys."""
        known = [key for key in keys if is_storable(key[0]) and is_storable(key[1])]
        return await self._statements.results(known, since) if known else {}

    async def append(self, rows: Sequence[Row], *, token: int) -> None:
        """Commit rows and all that goes with them.

        Raises:
            RowsRefused: With indexes, unless rows are refused together that are taken one by one.
        """
        if not rows:
            return
        refused = refused_rows(rows)
        if refused:
            raise RowsRefused(_REFUSED, refused)
        try:
            await self._statements.append(make_group(rows), token)
        except RowsRefused as error:
            raise RowsRefused(error.reason, await self._statements.refused(rows)) from error

    async def read(self, channel: str, *, after: int, limit: int, oldest: float, max_bytes: int) -> list[Publication]:
        """Return publications, oldest first; their ``at`` is in Unix seconds."""
        if limit <= 0 or not is_storable(channel):
            return []
        return await self._statements.read(channel, after, limit, oldest, max_bytes)

    async def read_back(
        self, channel: str, *, before: int, limit: int, oldest: float, max_bytes: int
    ) -> list[Publication]:
        """Return publications, newest first; their ``at`` is in Unix seconds."""
        if limit <= 0 or not is_storable(channel):
            return []
        return await self._statements.read_back(channel, before, limit, oldest, max_bytes)

    async def remove(self, channel: str, *, token: int) -> None:
        """Delete the publications of a channel."""
        await self._statements.remove(channel, token)

    async def renew(self, channel: str, epoch: str, *, token: int) -> None:
        """Give a stream another epoch."""
        await self._statements.renew(channel, epoch, token)

    async def trim(self, bounds: Mapping[str, tuple[int, float]], *, limit: int, token: int) -> int:
        """Delete up to ``limit`` publications that are no longer to be kept."""
        return await self._statements.trim(bounds, limit, token) if bounds and limit > 0 else 0

    async def names(self, *, after: str, limit: int) -> list[tuple[str, int]]:
        """Return channels and their tops."""
        return await self._statements.names(after, limit)

    async def expire_results(self, before: float, *, limit: int, token: int) -> int:
        """Delete up to ``limit`` old results."""
        return await self._statements.expire_results(before, limit, token)

    async def probe(self, *, token: int) -> None:
        """Commit a write that changes nothing."""
        await self._statements.probe(token)
