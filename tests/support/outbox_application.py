"""An application that writes into the outbox of a real database, over connections of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
from typing_extensions import override

from service.realtime.outbox import OutboxTable
from tests.support.outbox_table import Application, State, Writer

__all__ = ("PostgresApplication", "SqliteApplication", "application_on")

_STATE = "SELECT published_at IS NOT NULL, tries, error, set_aside_at IS NOT NULL FROM slackwater_outbox WHERE id = "
_BUSY_SECONDS = 30.0


class PostgresApplication(Application):
    """On Postgres, with asyncpg and nothing above it.

    Args:
        url: Of the database.
        table: What the suite of the tables looks at; other tests need none.
    """

    def __init__(self, url: str, table: OutboxTable | None = None, *, token: int = 1) -> None:
        self._url = url
        self.table = table  # type: ignore[assignment]  # whoever gave none does not ask
        self.token = token

    async def _execute(self, sql: str, *values: object) -> list[Any]:
        connection = await asyncpg.connect(self._url)
        try:
            rows: list[Any] = await connection.fetch(sql, *values)
            return rows
        finally:
            await connection.close()

    async def set_token(self) -> None:
        """Let the token be the current one."""
        await self._execute("UPDATE slackwater_fence SET token = $1", self.token)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Writer]:
        connection = await asyncpg.connect(self._url)
        try:
            async with connection.transaction():
                yield _PostgresWriter(connection)
        finally:
            await connection.close()

    @override
    def transaction(self) -> AbstractAsyncContextManager[Writer]:
        return self._transaction()

    @override
    async def mark(self, *row_ids: int) -> None:
        await self._execute(
            "UPDATE slackwater_outbox SET published_at = CURRENT_TIMESTAMP WHERE id = ANY ($1)", list(row_ids)
        )

    @override
    async def make_older(self, row_id: int, seconds: float) -> None:
        await self._execute(
            "UPDATE slackwater_outbox SET created_at = created_at - $2 * interval '1 second',"
            " published_at = published_at - $2 * interval '1 second' WHERE id = $1",
            row_id,
            seconds,
        )

    @override
    async def state(self, row_id: int) -> State | None:
        rows = await self._execute(f"{_STATE} $1", row_id)
        return State(*rows[0]) if rows else None


class _PostgresWriter(Writer):
    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg has no types
        self._connection = connection

    @override
    async def write(self, channel: str, data: bytes, tags: bytes | None = None) -> int:
        row_id: int = await self._connection.fetchval(
            "INSERT INTO slackwater_outbox (channel, data, tags) VALUES ($1, $2, $3) RETURNING id",
            channel,
            data.decode(),
            None if tags is None else tags.decode(),
        )
        return row_id


class SqliteApplication(Application):
    """On an SQLite file; its transactions are one after the other."""

    def __init__(self, path: Path, table: OutboxTable | None = None, *, token: int = 1) -> None:
        self._path = path
        self.table = table  # type: ignore[assignment]  # whoever gave none does not ask
        self.token = token

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiosqlite.Connection]:
        async with aiosqlite.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None) as connection:
            yield connection

    async def _execute(self, sql: str, *values: object) -> list[Any]:
        async with self._connected() as connection:
            return list(await connection.execute_fetchall(sql, values))

    async def set_token(self) -> None:
        """Let the token be the current one."""
        await self._execute("UPDATE slackwater_fence SET token = ?", self.token)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Writer]:
        async with self._connected() as connection:
            await connection.execute("BEGIN IMMEDIATE")
            try:
                yield _SqliteWriter(connection)
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()

    @override
    def transaction(self) -> AbstractAsyncContextManager[Writer]:
        return self._transaction()

    @override
    async def mark(self, *row_ids: int) -> None:
        for row_id in row_ids:
            await self._execute("UPDATE slackwater_outbox SET published_at = CURRENT_TIMESTAMP WHERE id = ?", row_id)

    @override
    async def make_older(self, row_id: int, seconds: float) -> None:
        ago = f"-{seconds} seconds"
        await self._execute(
            "UPDATE slackwater_outbox SET created_at = datetime(created_at, ?),"
            " published_at = datetime(published_at, ?)"
            " WHERE id = ?",
            ago,
            ago,
            row_id,
        )

    @override
    async def state(self, row_id: int) -> State | None:
        rows = await self._execute(f"{_STATE} ?", row_id)
        if not rows:
            return None
        is_published, tries, error, is_set_aside = rows[0]
        return State(bool(is_published), tries, error, bool(is_set_aside))


class _SqliteWriter(Writer):
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @override
    async def write(self, channel: str, data: bytes, tags: bytes | None = None) -> int:
        values = (channel, data.decode(), None if tags is None else tags.decode())
        rows = await self._connection.execute_fetchall(
            "INSERT INTO slackwater_outbox (channel, data, tags) VALUES (?, ?, ?) RETURNING id", values
        )
        (row,) = rows
        return int(row[0])


def application_on(url: str, table: OutboxTable | None = None) -> PostgresApplication | SqliteApplication:
    """Return an application on the database of a URL."""
    if url.startswith("sqlite:///"):
        return SqliteApplication(Path(url.removeprefix("sqlite:///")), table)
    return PostgresApplication(url, table)
