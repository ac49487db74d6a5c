"""Streams in SQLite.

SQLite writes for one connection at a time. A transaction that writes takes that place when it begins (``BEGIN
IMMEDIATE``), so what it compares first, token and tops, still holds when it commits. Each method is one function that
runs in the connection's thread: a hop between threads costs more than most statements.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from service.core.rows import Head, Row
from service.core.stream import Position, Publication
from service.db.database import Database
from service.db.groups import Group, make_group
from service.db.identity import decode_epoch, encode_epoch
from service.errors import OutOfStep, Overtaken, RowsRefused

__all__ = ("SqliteStreams",)

T = TypeVar("T")

_TOKEN: Final = "SELECT 1 FROM slackwater_fence WHERE id = 1 AND token = ?"  # noqa: S105 - no secret
_EPOCH: Final = "SELECT epoch FROM slackwater_identity WHERE id = 1"
_TOP: Final = "SELECT top FROM slackwater_streams WHERE channel = ?"

_ADD_PUBLICATION: Final = """
    INSERT INTO slackwater_publications (channel, "offset", data, info, tags, published_at) VALUES (?, ?, ?, ?, ?, ?)
"""
_SET_HEAD: Final = """
    INSERT INTO slackwater_streams AS old (channel, epoch, top, version, version_epoch, updated_at)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (channel) DO UPDATE SET
        epoch = excluded.epoch,
        top = max(old.top, excluded.top),
        version = CASE WHEN excluded.version > 0 THEN excluded.version ELSE old.version END,
        version_epoch = CASE WHEN excluded.version > 0 THEN excluded.version_epoch ELSE old.version_epoch END,
        updated_at = excluded.updated_at
"""
# Whether a result still counts has been looked at before; one that is here no longer does.
_SET_RESULT: Final = """
    INSERT INTO slackwater_idempotency (channel, key, "offset", epoch, created_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (channel, key) DO UPDATE SET
        "offset" = excluded."offset", epoch = excluded.epoch, created_at = excluded.created_at
"""
_MARK: Final = """
    UPDATE slackwater_outbox SET published_at = CURRENT_TIMESTAMP
    WHERE id = ? AND published_at IS NULL AND set_aside_at IS NULL
"""

_READ_HEAD: Final = "SELECT top, epoch, version, version_epoch FROM slackwater_streams WHERE channel = ?"
_READ_RESULT: Final = """
    SELECT "offset", epoch FROM slackwater_idempotency WHERE channel = ? AND key = ? AND created_at > ?
"""
# The length of a blob is known without its bytes, so what would be cut off is not read.
_READ: Final = """
    SELECT "offset", data, info, tags, published_at FROM (
        SELECT *, sum(length(data)) OVER (ORDER BY "offset" {order}) AS size,
            row_number() OVER (ORDER BY "offset" {order}) AS place
        FROM (
            SELECT * FROM slackwater_publications
            WHERE channel = ? AND "offset" {side} ? AND published_at > ?
            ORDER BY "offset" {order} LIMIT ?
        )
    ) WHERE size <= ? OR place = 1 ORDER BY "offset" {order}
"""
_READ_AFTER: Final = _READ.format(order="ASC", side=">")
_READ_BEFORE: Final = _READ.format(order="DESC", side="<")

_REMOVE: Final = "DELETE FROM slackwater_publications WHERE channel = ?"
_RENEW: Final = "UPDATE slackwater_streams SET epoch = ? WHERE channel = ?"
# Publications go in the order of their offsets, so only the first ones are looked at.
_TRIM: Final = """
    DELETE FROM slackwater_publications WHERE channel = ?1 AND "offset" IN (
        SELECT "offset" FROM (
            SELECT "offset", published_at FROM slackwater_publications
            WHERE channel = ?1 ORDER BY "offset" LIMIT ?4
        ) WHERE "offset" < ?2 OR published_at <= ?3
    )
"""
_EXPIRE: Final = """
    DELETE FROM slackwater_idempotency WHERE rowid IN (
        SELECT rowid FROM slackwater_idempotency WHERE created_at <= ? ORDER BY created_at LIMIT ?
    )
"""
_NAMES: Final = "SELECT channel, top FROM slackwater_streams WHERE channel > ? ORDER BY channel LIMIT ?"
_TOUCH: Final = "UPDATE slackwater_identity SET epoch = epoch WHERE id = 1"


class SqliteStreams:
    """See ``service.db.streams``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # SQLite would find out by trying again after ever longer pauses that another of our threads is done.
        self._turn = asyncio.Lock()

    async def epoch(self) -> str:
        """Return the epoch of the database."""
        return await self._read(_epoch)

    async def heads(self, channels: Sequence[str]) -> dict[str, Head]:
        """Return the heads that there are."""

        def read(connection: sqlite3.Connection) -> dict[str, Head]:
            of_database = _epoch(connection)
            found = ((channel, connection.execute(_READ_HEAD, (channel,)).fetchone()) for channel in channels)
            return {
                channel: Head(row[0], decode_epoch(row[1], of_database), row[2], row[3])
                for channel, row in found
                if row is not None
            }

        return await self._read(read)

    async def results(self, keys: Sequence[tuple[str, str]], since: float) -> dict[tuple[str, str], Position]:
        """Return the results that there are."""

        def read(connection: sqlite3.Connection) -> dict[tuple[str, str], Position]:
            found = ((key, connection.execute(_READ_RESULT, (*key, since)).fetchone()) for key in keys)
            return {key: Position(*row) for key, row in found if row is not None}

        return await self._read(read)

    async def append(self, group: Group, token: int) -> None:
        """Commit a group."""
        await self._write(token, partial(_append, group))

    async def refused(self, rows: Sequence[Row]) -> list[int]:
        """Return the indexes of the rows that are refused when each is written alone; nothing stays."""

        def attempt(connection: sqlite3.Connection) -> list[int]:
            refused: list[int] = []
            connection.execute("BEGIN IMMEDIATE")
            try:
                for index, row in enumerate(rows):
                    connection.execute("SAVEPOINT attempt")
                    try:
                        _insert(connection, make_group((row,)))
                    except sqlite3.Error as error:
                        if not isinstance(self._database.translate(error, committing=False), RowsRefused):
                            raise
                        refused.append(index)
                    connection.execute("ROLLBACK TO attempt")
            finally:
                _roll_back(connection)
            return refused

        async with self._turn:
            return await self._run(attempt, writes=False)

    async def read(self, channel: str, after: int, limit: int, oldest: float, max_bytes: int) -> list[Publication]:
        """Return publications in ascending order."""
        return await self._read(partial(_publications, _READ_AFTER, (channel, after, oldest, limit, max_bytes)))

    async def read_back(
        self, channel: str, before: int, limit: int, oldest: float, max_bytes: int
    ) -> list[Publication]:
        """Return publications in descending order."""
        return await self._read(partial(_publications, _READ_BEFORE, (channel, before, oldest, limit, max_bytes)))

    async def remove(self, channel: str, token: int) -> None:
        """Delete the publications of a channel."""
        await self._write(token, partial(_change, _REMOVE, (channel,)))

    async def renew(self, channel: str, epoch: str, token: int) -> None:
        """Give a stream another epoch."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(_RENEW, (encode_epoch(epoch, _epoch(connection)), channel))

        await self._write(token, write)

    async def trim(self, bounds: Mapping[str, tuple[int, float]], limit: int, token: int) -> int:
        """Delete some publications and say how many."""

        def write(connection: sqlite3.Connection) -> int:
            count = 0
            for channel, (lowest, until) in bounds.items():
                count += connection.execute(_TRIM, (channel, lowest, until, limit - count)).rowcount
                if count >= limit:
                    break
            return count

        return await self._write(token, write)

    async def names(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Return some channels and their tops."""
        return await self._read(lambda connection: connection.execute(_NAMES, (after, limit)).fetchall())

    async def expire_results(self, before: float, limit: int, token: int) -> int:
        """Delete some results and say how many."""
        return await self._write(token, partial(_change, _EXPIRE, (before, limit)))

    async def probe(self, token: int) -> None:
        """Write, and change nothing."""
        await self._write(token, partial(_change, _TOUCH, ()))

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(partial(_in_transaction, "BEGIN", read), writes=False)

    async def _write(self, token: int, write: Callable[[sqlite3.Connection], T]) -> T:
        transaction = partial(_in_transaction, "BEGIN IMMEDIATE", partial(_fenced, token, write))
        async with self._turn:
            return await self._run(transaction, writes=True)

    async def _run(self, function: Callable[[sqlite3.Connection], T], *, writes: bool) -> T:
        """Call a function in the thread of a connection; it leaves no transaction behind."""
        try:
            async with self._database.engine.connect() as connection:
                session: Any = (await connection.get_raw_connection()).driver_connection
                plain = session._conn  # noqa: SLF001 - the driver's other methods take one statement a hop
                try:
                    result: T = await session._execute(partial(function, plain))  # noqa: SLF001 - as above
                except asyncio.CancelledError:
                    plain.interrupt()
                    # Its thread does one thing after the other: once this is done, nothing of ours runs there.
                    await session._execute(_nothing)  # noqa: SLF001 - as above
                    raise
        except (sqlite3.Error, SQLAlchemyError, OSError) as error:
            raise self._database.translate(error, committing=writes) from error
        return result


def _in_transaction(begin: str, function: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    connection.execute(begin)
    try:
        result = function(connection)
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return result


def _fenced(token: int, write: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    if connection.execute(_TOKEN, (token,)).fetchone() is None:
        raise Overtaken
    return write(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    # Some errors, such as a full disk, roll back by themselves.
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _nothing() -> None:
    """Do nothing, in its turn."""


def _epoch(connection: sqlite3.Connection) -> str:
    return str(connection.execute(_EPOCH).fetchone()[0])


def _change(statement: str, arguments: Sequence[object], connection: sqlite3.Connection) -> int:
    return connection.execute(statement, arguments).rowcount


def _publications(statement: str, arguments: Sequence[object], connection: sqlite3.Connection) -> list[Publication]:
    return [Publication(*row) for row in connection.execute(statement, arguments)]


def _append(group: Group, connection: sqlite3.Connection) -> None:
    for head in group.heads:
        known = connection.execute(_TOP, (head.channel,)).fetchone()
        if (known[0] if known else 0) != head.first - 1:
            raise OutOfStep
    marked = _insert(connection, group)
    if marked != len(group.outbox_ids):
        raise OutOfStep


def _insert(connection: sqlite3.Connection, group: Group) -> int:
    """Write everything, and return how many rows of the outbox were waiting."""
    of_database = _epoch(connection)
    connection.executemany(
        _ADD_PUBLICATION,
        [(row.channel, row.offset, row.data, row.info, row.tags, row.at) for row in group.publications],
    )
    connection.executemany(
        _SET_HEAD,
        [
            (head.channel, encode_epoch(head.epoch, of_database), head.top, head.version, head.version_epoch, head.at)
            for head in group.heads
        ],
    )
    connection.executemany(
        _SET_RESULT, [(row.channel, row.key, row.offset, row.epoch, row.at) for row in group.results]
    )
    if not group.outbox_ids:
        return 0
    return connection.executemany(_MARK, [(outbox_id,) for outbox_id in group.outbox_ids]).rowcount
