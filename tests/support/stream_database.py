"""Tables of streams in a real database, as they are after a first take-over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text

from service.db.database import Database, PoolSizes, Timeouts
from service.db.identity import POSTGRES_CONFIRM, SQLITE_CONFIRM
from service.db.streams import StreamTables

__all__ = ("StreamDatabase",)


class StreamDatabase:
    """A database, its tables of streams, and statements beside them.

    Attributes:
        tables: Under test.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tables = StreamTables(database)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, token: int = 1, epoch: str = "database", size: int = 5, timeouts: Timeouts | None = None
    ) -> AsyncIterator[StreamDatabase]:
        """Empty a migrated database, take it over, and close it in the end; with ``token=0`` leave it as it is."""
        database = Database(url, pool=PoolSizes(size, 0), timeouts=timeouts)
        world = cls(database)
        try:
            if token:
                await world.clear()
                await world.take_over(token, epoch)
            yield world
        finally:
            await database.close()

    async def clear(self) -> None:
        """Make everything as in a new database, in a fraction of the time that one takes."""
        async with self.database.writer.begin() as connection:
            for table in ("publications", "streams", "idempotency", "outbox"):
                await connection.execute(text(f"DELETE FROM slackwater_{table}"))  # noqa: S608 - of this line
            await connection.execute(text("UPDATE slackwater_fence SET token = 0"))
            await connection.execute(
                text("UPDATE slackwater_identity SET epoch = '', system_identifier = '', timeline = 0")
            )

    async def take_over(self, token: int, epoch: str = "database") -> None:
        """Do in one transaction what a successor does."""
        statement = (
            POSTGRES_CONFIRM.replace("$1", ":epoch") if self.is_postgres else SQLITE_CONFIRM.replace("?", ":epoch")
        )
        async with self.database.writer.begin() as connection:
            await connection.execute(text("UPDATE slackwater_fence SET token = :token WHERE id = 1"), {"token": token})
            await connection.execute(text(statement), {"epoch": epoch})

    @property
    def is_postgres(self) -> bool:
        """Else it is SQLite."""
        return self.database.kind == "postgres"

    async def execute(self, statement: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Commit a statement, and return its rows if it has any."""
        async with self.database.engine.begin() as connection:
            result = await connection.execute(text(statement), values or {})
            return [tuple(row) for row in result] if result.returns_rows else []

    async def add_outbox_row(self) -> int:
        """Add a row to the outbox that waits."""
        rows = await self.execute("INSERT INTO slackwater_outbox (channel, data) VALUES ('o', '{}') RETURNING id")
        return int(rows[0][0])

    async def is_published(self, outbox_id: int) -> bool:
        """Return whether an outbox row is marked."""
        rows = await self.execute("SELECT published_at FROM slackwater_outbox WHERE id = :id", {"id": outbox_id})
        return rows[0][0] is not None
