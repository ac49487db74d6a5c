"""The table of the outbox, and how its rows make themselves heard.

Rows are marked by the append statement of the streams; here they are read, refused, counted and deleted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg
from sqlalchemy import TextClause, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.outbox import OutboxFigures, OutboxRow, Refusal
from service.db.database import Database
from service.db.url import Target, connect

__all__ = ("OutboxListener", "OutboxTable")

_CHANNEL_CHARACTERS: Final = 1024
_COUNTED_AT_MOST: Final = 100_000
_NOTIFICATION: Final = "slackwater_outbox"
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 20.0
_CLOSE_SECONDS: Final = 2.0
_PAUSES_SECONDS: Final = (0.1, 0.5, 2.0, 5.0)

_LOSSES: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""How a connection ends, in the words of the driver."""

_SESSION: Final = {"application_name": "slackwater outbox", "idle_session_timeout": "0"}

_WAITS: Final = "published_at IS NULL AND set_aside_at IS NULL"


class _Statements(NamedTuple):
    """What differs between the databases.

    Attributes:
        listed: How ids and names to pass over are handed over.
    """

    listed: Callable[[Collection[object]], object]
    waiting: TextClause
    refuse: TextClause
    expire: TextClause
    figures: TextClause


def _waiting(candidates: str) -> TextClause:
    """Return the statement that cuts candidates off behind the row that fills the batch."""
    # What is counted is what is sent: a row that is too long costs its length and no more.
    return text(f"""
        SELECT id, channel, CASE WHEN data_bytes <= :row_bytes THEN data ELSE '' END AS data, data_bytes,
            CASE WHEN tags_bytes <= :row_bytes THEN tags ELSE '' END AS tags, tags_bytes, tries
        FROM (
            SELECT candidate.*, coalesce(sum(
                CASE WHEN data_bytes <= :row_bytes THEN data_bytes ELSE 0 END
                + CASE WHEN tags_bytes <= :row_bytes THEN tags_bytes ELSE 0 END
            ) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
            FROM ({candidates}) AS candidate
        ) AS counted
        WHERE bytes_before < :batch_bytes
        ORDER BY id
    """)  # noqa: S608 - made of constants


def _figures(age: str) -> TextClause:
    def count(where: str) -> str:
        return (
            f"(SELECT count(*) FROM (SELECT 1 FROM slackwater_outbox WHERE {where}"  # noqa: S608 - made of constants
            f" LIMIT {_COUNTED_AT_MOST}) AS counted)"
        )

    oldest = f"SELECT {age} FROM slackwater_outbox WHERE {_WAITS} ORDER BY id LIMIT 1"  # noqa: S608 - made of constants
    return text(f"SELECT {count(_WAITS)}, coalesce(({oldest}), 0), {count('set_aside_at IS NOT NULL')}")


_POSTGRES: Final = _Statements(
    listed=list,
    waiting=_waiting(f"""
        SELECT id, left(channel, {_CHANNEL_CHARACTERS}) AS channel, data::text AS data, tags::text AS tags, tries,
            octet_length(data::text) AS data_bytes, coalesce(octet_length(tags::text), 0) AS tags_bytes
        FROM slackwater_outbox
        WHERE {_WAITS} AND id <> ALL (CAST(:resting AS bigint[])) AND NOT EXISTS (
            SELECT FROM unnest(CAST(:held AS text[])) AS held (name)
            WHERE channel = held.name OR starts_with(channel, held.name || ':')
        )
        ORDER BY id LIMIT :limit
    """),  # noqa: S608 - made of constants
    refuse=text(f"""
        UPDATE slackwater_outbox SET tries = tries + 1, error = :reason,
            set_aside_at = CASE WHEN CAST(:is_last AS boolean) THEN CURRENT_TIMESTAMP END
        WHERE id = :id AND {_WAITS} AND EXISTS (SELECT 1 FROM slackwater_fence WHERE token = :token)
    """),  # noqa: S608 - made of constants
    expire=text("""
        DELETE FROM slackwater_outbox WHERE id IN (
            SELECT id FROM slackwater_outbox
            WHERE published_at < CURRENT_TIMESTAMP - :keep_seconds * interval '1 second'
            ORDER BY published_at LIMIT :limit
        )
    """),
    figures=_figures("greatest(extract(epoch FROM CURRENT_TIMESTAMP - created_at), 0)::double precision"),
)

_SQLITE: Final = _Statements(
    listed=lambda items: json.dumps(list(items)),
    waiting=_waiting(f"""
        SELECT id, substr(channel, 1, {_CHANNEL_CHARACTERS}) AS channel, data, tags, tries,
            length(CAST(data AS BLOB)) AS data_bytes, coalesce(length(CAST(tags AS BLOB)), 0) AS tags_bytes
        FROM slackwater_outbox
        WHERE {_WAITS} AND id NOT IN (SELECT value FROM json_each(:resting)) AND NOT EXISTS (
            SELECT 1 FROM json_each(:held) AS held
            WHERE channel = held.value OR substr(channel, 1, length(held.value) + 1) = held.value || ':'
        )
        ORDER BY id LIMIT :limit
    """),  # noqa: S608 - made of constants
    refuse=text(f"""
        UPDATE slackwater_outbox SET tries = tries + 1, error = :reason,
            set_aside_at = CASE WHEN :is_last THEN CURRENT_TIMESTAMP END
        WHERE id = :id AND {_WAITS} AND EXISTS (SELECT 1 FROM slackwater_fence WHERE token = :token)
    """),  # noqa: S608 - made of constants
    # Times come in more than one form of text there, with fractions of a second and without.
    expire=text("""
        DELETE FROM slackwater_outbox WHERE id IN (
            SELECT id FROM (
                SELECT id, published_at FROM slackwater_outbox
                WHERE published_at IS NOT NULL ORDER BY published_at LIMIT :limit
            )
            WHERE (julianday('now') - julianday(published_at)) * 86400 > :keep_seconds
        )
    """),
    figures=_figures("max((julianday('now') - julianday(created_at)) * 86400, 0)"),
)


class OutboxTable:
    """The outbox of one database; the port of this name in ``service.realtime.outbox`` says what is promised."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = _POSTGRES if database.kind == "postgres" else _SQLITE

    @asynccontextmanager
    async def _connected(self, *, writes: bool = False) -> AsyncIterator[AsyncConnection]:
        """Lend a connection with a transaction that commits at the end of the block."""
        engine = self._database.writer if writes else self._database.engine
        try:
            async with engine.begin() as connection:
                yield connection
        except (*_LOSSES, SQLAlchemyError) as error:
            # Whether something was committed does not matter: each statement may be repeated.
            raise self._database.translate(error, committing=False) from error

    async def waiting(
        self, *, limit: int, row_bytes: int, batch_bytes: int, resting: Collection[int], held: Collection[str] = ()
    ) -> list[OutboxRow]:
        """Return rows that wait, from the smallest id."""
        bounds = {
            "limit": limit,
            "row_bytes": row_bytes,
            "batch_bytes": batch_bytes,
            "resting": self._statements.listed(resting),
            "held": self._statements.listed(held),
        }
        async with self._connected() as connection:
            found = (await connection.execute(self._statements.waiting, bounds)).all()
        return [
            OutboxRow(
                id_, channel, data.encode(), data_bytes, None if tags is None else tags.encode(), tags_bytes, tries
            )
            for id_, channel, data, data_bytes, tags, tags_bytes, tries in found
        ]

    async def refuse(self, refusals: Sequence[Refusal], *, token: int) -> None:
        """Count a try for each, and set aside those that are refused for good."""
        # In one order everywhere, so that two that do the same at once wait for each other and do not deadlock.
        values = [{**refusal._asdict(), "token": token} for refusal in sorted(refusals)]
        async with self._connected(writes=True) as connection:
            await connection.execute(self._statements.refuse, values)

    async def expire(self, *, keep_seconds: float, limit: int) -> int:
        """Delete rows that were published long ago."""
        bounds = {"keep_seconds": keep_seconds, "limit": limit}
        async with self._connected(writes=True) as connection:
            return (await connection.execute(self._statements.expire, bounds)).rowcount

    async def figures(self) -> OutboxFigures:
        """Count."""
        async with self._connected() as connection:
            return OutboxFigures(*(await connection.execute(self._statements.figures)).one())


Connect: TypeAlias = Callable[[], Awaitable[Any]]
"""Opens a connection of asyncpg within some seconds, to the server itself: a pooler passes no notifications on."""


class OutboxListener:
    """Hears that rows were committed, on a connection of its own; the port ``OutboxBell`` says what is promised.

    While it cannot connect, nobody is told: the table is asked now and then anyway.

    Args:
        connect: Makes the connection, anew after each loss.
        check_seconds: Of silence, after which the connection is asked whether it is still there.
        pauses_seconds: Before each try to connect again; the last one holds for all that follow.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        check_seconds: float = _CHECK_SECONDS,
        pauses_seconds: Sequence[float] = _PAUSES_SECONDS,
    ) -> None:
        self._connect = connect
        self._check_seconds = check_seconds
        self._pauses_seconds = pauses_seconds
        self._failures = 0

    @classmethod
    def at(cls, target: Target, *, connect_timeout_seconds: float = _CONNECT_SECONDS) -> OutboxListener:
        """Listen to a Postgres; the address must not be that of a pooler that changes sessions."""

        async def open_session() -> Any:  # noqa: ANN401 - asyncpg has no types
            return await connect(target, connect_timeout_seconds=connect_timeout_seconds, session=_SESSION)

        return cls(open_session)

    async def run(self, ring: Callable[[], None]) -> None:
        """Listen until cancelled; ``ring`` is called in the event loop."""
        while True:
            try:
                await self._listen(ring)
            except _LOSSES:
                # The table's own statements meet the same trouble, and those are heard of.
                self._failures += 1
            await asyncio.sleep(self._pauses_seconds[min(self._failures, len(self._pauses_seconds) - 1)])

    async def _listen(self, ring: Callable[[], None]) -> None:
        """Listen until the connection is lost."""
        connection = await self._connect()
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            async with asyncio.timeout(_ANSWER_SECONDS):
                await connection.add_listener(_NOTIFICATION, lambda *_: ring())
            self._failures = 0
            # What was committed before was not heard.
            ring()
            while not lost.is_set():
                await self._check(connection, lost)
        finally:
            await _close(connection)

    async def _check(self, connection: Any, lost: asyncio.Event) -> None:  # noqa: ANN401 - asyncpg has no types
        """Wait for the end of a connection, and ask it for a sign of life after a while."""
        try:
            async with asyncio.timeout(self._check_seconds):
                await lost.wait()
        except TimeoutError:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await connection.execute("SELECT 1")


async def _close(connection: Any) -> None:  # noqa: ANN401 - asyncpg has no types
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.close()
    except _LOSSES:
        connection.terminate()
