"""Streams in Postgres.

Everything runs in READ COMMITTED, and each method that writes is one statement that commits by itself. The first
thing that such a statement does is to lock the row of the fence ``FOR SHARE`` where the token is ours. With a
take-over, which updates that row, there are three cases:

* The statement has the lock. The take-over waits until it has committed, and reads the tops only afterwards.
* The take-over has updated the row and not committed. The statement waits. When the take-over commits, Postgres does
  not go by the statement's snapshot: it evaluates the condition once more on the newest version of the row
  (EvalPlanQual), the token differs, and no row is left. When it rolls back, the old version still holds.
* The take-over commits after the statement's snapshot and before the lock. The snapshot shows the old version, the
  lock finds that it was updated, and the same evaluation takes place.

With no row left, every other part of the statement writes nothing. In REPEATABLE READ the second and third case
would be errors instead, which would be as safe, and no simpler. ``FOR KEY SHARE`` would not do:
it does not conflict with an update that leaves the key alone.

Source: PostgreSQL 18 documentation, 13.2.1 (Read Committed) and 13.3.2 (Row-Level Locks);
src/backend/executor/README, "EvalPlanQual (READ COMMITTED Update Checking)".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from service.core.rows import Head, Row
from service.core.stream import Position, Publication
from service.db.database import Database
from service.db.groups import Group, NewHead, make_group
from service.db.identity import IS_SAME_SERVER, decode_epoch
from service.errors import DatabaseError, OutcomeUnknown, OutOfStep, Overtaken, RowsRefused

__all__ = ("PostgresStreams",)

# The row of identity is read along, since it decides on the epochs, and on which server this is: a replica may be
# promoted behind an address that stays, and the tops that are known here are not those of its tables.
_FENCE: Final = f"""
    fence AS MATERIALIZED (
        SELECT identity.epoch
        FROM slackwater_fence AS fence JOIN slackwater_identity AS identity ON identity.id = fence.id
        WHERE fence.id = 1 AND fence.token = $1 AND (system_identifier = '' OR {IS_SAME_SERVER})
        FOR SHARE OF fence
    )
"""  # noqa: S608 - made of constants

_INSERTS: Final = """
    publications AS (
        INSERT INTO slackwater_publications (channel, "offset", data, info, tags, published_at)
        SELECT item.* FROM gate, unnest($2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[], $7::float8[])
            AS item
    ), streams AS (
        INSERT INTO slackwater_streams AS old (channel, epoch, top, version, version_epoch, updated_at)
        SELECT channel, CASE WHEN head.epoch = gate.epoch THEN head.epoch ELSE gate.epoch || ':' || head.epoch END,
            top, version, version_epoch, updated_at
        FROM gate, heads AS head
        ON CONFLICT (channel) DO UPDATE SET
            epoch = excluded.epoch,
            top = GREATEST(old.top, excluded.top),
            version = CASE WHEN excluded.version > 0 THEN excluded.version ELSE old.version END,
            version_epoch = CASE WHEN excluded.version > 0 THEN excluded.version_epoch ELSE old.version_epoch END,
            updated_at = excluded.updated_at
    ), results AS (
        -- Whether a result still counts has been looked at before; one that is here no longer does.
        INSERT INTO slackwater_idempotency AS old (channel, key, "offset", epoch, created_at)
        SELECT item.* FROM gate, unnest($15::text[], $16::text[], $17::bigint[], $18::text[], $19::float8[]) AS item
        ON CONFLICT (channel, key) DO UPDATE SET
            "offset" = excluded."offset", epoch = excluded.epoch, created_at = excluded.created_at
    ), marks AS (
        UPDATE slackwater_outbox SET published_at = now() FROM gate WHERE id = ANY ($20::bigint[])
    )
"""

_HEADS: Final = """
    heads AS MATERIALIZED (
        SELECT * FROM unnest(
            $8::text[], $9::bigint[], $10::bigint[], $11::text[], $12::bigint[], $13::text[], $14::float8[]
        ) AS head (channel, first, top, epoch, version, version_epoch, updated_at)
    )
"""

# Rows of the outbox are locked before they are counted, so that a row that somebody deals with at the
# same moment is seen as it is afterwards. That the tops are read from the snapshot is enough: what else
# writes here has the token too, so it is a statement of ours whose answer was lost, and then one of
# the two violates the primary key.
_APPEND: Final = f"""
    WITH {_FENCE}, {_HEADS}, waiting AS MATERIALIZED (
        SELECT id FROM slackwater_outbox
        WHERE id = ANY ($20::bigint[]) AND published_at IS NULL AND set_aside_at IS NULL AND EXISTS (SELECT FROM fence)
        ORDER BY id FOR UPDATE
    ), step AS MATERIALIZED (
        SELECT (SELECT count(*) FROM waiting) = cardinality($20::bigint[]) AND NOT EXISTS (
            SELECT FROM heads LEFT JOIN slackwater_streams AS known ON known.channel = heads.channel
            WHERE COALESCE(known.top, 0) <> heads.first - 1
        ) AS is_right
    ), gate AS MATERIALIZED (
        SELECT fence.epoch FROM fence, step WHERE step.is_right
    ), {_INSERTS}
    SELECT EXISTS (SELECT FROM fence) AS is_held, (SELECT is_right FROM step) AS is_right
"""  # noqa: S608 - made of constants

_TRY: Final = f"""
    WITH gate AS MATERIALIZED (SELECT epoch FROM slackwater_identity WHERE $1::bigint = 0),
    {_HEADS}, {_INSERTS} SELECT
"""  # noqa: S608 - made of constants

_EPOCH: Final = "SELECT epoch FROM slackwater_identity WHERE id = 1"

_READ_HEADS: Final = """
    SELECT channel, top, stream.epoch, version, version_epoch, identity.epoch AS of_database
    FROM slackwater_streams AS stream, slackwater_identity AS identity
    WHERE channel = ANY ($1::text[]) AND identity.id = 1
"""

# Waits for a statement whose answer was lost and that still works.
_BARRIER: Final = "SELECT FROM slackwater_fence WHERE id = 1 FOR UPDATE"

_READ_RESULTS: Final = """
    SELECT channel, key, "offset", epoch
    FROM unnest($1::text[], $2::text[]) AS asked (channel, key) JOIN slackwater_idempotency USING (channel, key)
    WHERE created_at > $3
"""

# The sizes are added up in the server, so that what would be cut off is not sent; nor is it read: the length
# of a large value is known without its bytes.
_READ: Final = """
    SELECT "offset", data, info, tags, published_at FROM (
        SELECT *, sum(octet_length(data)) OVER (ORDER BY "offset" {order}) AS size,
            row_number() OVER (ORDER BY "offset" {order}) AS place
        FROM (
            SELECT * FROM slackwater_publications
            WHERE channel = $1 AND "offset" {side} $2 AND published_at > $3
            ORDER BY "offset" {order} LIMIT $4
        ) AS candidates
    ) AS sized WHERE size <= $5 OR place = 1 ORDER BY "offset" {order}
"""
_READ_AFTER: Final = _READ.format(order="ASC", side=">")
_READ_BEFORE: Final = _READ.format(order="DESC", side="<")

_REMOVE: Final = f"""
    WITH {_FENCE}, gone AS (
        DELETE FROM slackwater_publications USING fence WHERE channel = $2
    ) SELECT EXISTS (SELECT FROM fence) AS is_held
"""  # noqa: S608 - made of constants

_RENEW: Final = f"""
    WITH {_FENCE}, renewed AS (
        UPDATE slackwater_streams AS stream
        SET epoch = CASE WHEN $3::text = fence.epoch THEN fence.epoch ELSE fence.epoch || ':' || $3::text END
        FROM fence WHERE channel = $2
    ) SELECT EXISTS (SELECT FROM fence) AS is_held
"""  # noqa: S608 - made of constants

# Publications go in the order of their offsets, so only the first ones of a channel are looked at,
# and a batch costs the same however long the channel is. What is found is deleted by its place: the planner
# might join by the key through the whole table, where it knows too little of it.
_TRIM: Final = f"""
    WITH {_FENCE}, old AS MATERIALIZED (
        SELECT first.place
        FROM fence, unnest($2::text[], $3::bigint[], $4::float8[]) AS bound (channel, lowest, until)
        CROSS JOIN LATERAL (
            SELECT publication.ctid AS place, "offset", published_at FROM slackwater_publications AS publication
            WHERE publication.channel = bound.channel ORDER BY "offset" LIMIT $5
        ) AS first
        WHERE first."offset" < bound.lowest OR first.published_at <= bound.until
        LIMIT $5
    ), gone AS (
        DELETE FROM slackwater_publications WHERE ctid = ANY (ARRAY(SELECT place FROM old)) RETURNING 1
    ) SELECT EXISTS (SELECT FROM fence) AS is_held, (SELECT count(*) FROM gone) AS count
"""  # noqa: S608 - made of constants

# The condition is repeated, since a key may be used anew between the two: Postgres then looks at
# the newest version of the row, and that one stays.
_EXPIRE: Final = f"""
    WITH {_FENCE}, old AS MATERIALIZED (
        SELECT result.ctid AS place FROM slackwater_idempotency AS result, fence
        WHERE created_at <= $2 ORDER BY created_at LIMIT $3
    ), gone AS (
        DELETE FROM slackwater_idempotency
        WHERE ctid = ANY (ARRAY(SELECT place FROM old)) AND created_at <= $2 RETURNING 1
    ) SELECT EXISTS (SELECT FROM fence) AS is_held, (SELECT count(*) FROM gone) AS count
"""  # noqa: S608 - made of constants

_NAMES: Final = "SELECT channel, top FROM slackwater_streams WHERE channel > $1 ORDER BY channel LIMIT $2"

_PROBE: Final = f"""
    WITH {_FENCE}, touched AS (
        UPDATE slackwater_identity AS identity SET epoch = identity.epoch FROM fence WHERE identity.id = 1
    ) SELECT EXISTS (SELECT FROM fence) AS is_held
"""  # noqa: S608 - made of constants


class PostgresStreams:
    """See ``service.db.streams``. Sends through the driver itself, over a connection of the pool.

    A statement of many arrays is what the driver is best at: it keeps it prepared, and packs the arrays as
    they are. SQLAlchemy would look at each of them first.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # A group may still be at work in the server although nobody waits for it any longer.
        self._is_unsettled = False

    async def epoch(self) -> str:
        """Return the epoch of the database."""
        return str((await self._fetch(_EPOCH))[0]["epoch"])

    async def heads(self, channels: Sequence[str]) -> dict[str, Head]:
        """Return the heads that there are; what was sent before has been committed by then, or never will be."""
        if self._is_unsettled:
            self._is_unsettled = False
            try:
                await self._fetch(_BARRIER)
            except BaseException:
                self._is_unsettled = True
                raise
        return {
            channel: Head(top, decode_epoch(epoch, of_database), version, version_epoch)
            for channel, top, epoch, version, version_epoch, of_database in await self._fetch(_READ_HEADS, channels)
        }

    async def results(self, keys: Sequence[tuple[str, str]], since: float) -> dict[tuple[str, str], Position]:
        """Return the results that there are."""
        channels, names = zip(*keys, strict=True)
        rows = await self._fetch(_READ_RESULTS, channels, names, since)
        return {(channel, key): Position(offset, epoch) for channel, key, offset, epoch in rows}

    async def append(self, group: Group, token: int) -> None:
        """Commit a group."""
        try:
            row = await self._write(_APPEND, token, *_columns(group))
        except (OutcomeUnknown, asyncio.CancelledError):
            self._is_unsettled = True
            raise
        except DatabaseError as error:
            if isinstance(error.__cause__, asyncpg.UniqueViolationError):
                # Only a publication can be there already; heads and results are written over.
                raise OutOfStep("a publication is there already") from error.__cause__
            raise
        if not row["is_right"]:
            raise OutOfStep

    async def refused(self, rows: Sequence[Row]) -> list[int]:
        """Return the indexes of the rows that are refused when each is written alone; nothing stays."""
        refused: list[int] = []
        async with self._session() as session:
            attempts = session.transaction()
            await attempts.start()
            try:
                for index, row in enumerate(rows):
                    try:
                        async with session.transaction():
                            await session.execute(_TRY, 0, *_columns(make_group((row,))))
                    except asyncpg.PostgresError as error:
                        if not isinstance(self._database.translate(error, committing=False), RowsRefused):
                            raise
                        refused.append(index)
            finally:
                if not session.is_closed():
                    await attempts.rollback()
        return refused

    async def read(self, channel: str, after: int, limit: int, oldest: float, max_bytes: int) -> list[Publication]:
        """Return publications in ascending order."""
        return _publications(await self._fetch(_READ_AFTER, channel, after, oldest, limit, max_bytes))

    async def read_back(
        self, channel: str, before: int, limit: int, oldest: float, max_bytes: int
    ) -> list[Publication]:
        """Return publications in descending order."""
        return _publications(await self._fetch(_READ_BEFORE, channel, before, oldest, limit, max_bytes))

    async def remove(self, channel: str, token: int) -> None:
        """Delete the publications of a channel."""
        await self._write(_REMOVE, token, channel)

    async def renew(self, channel: str, epoch: str, token: int) -> None:
        """Give a stream another epoch."""
        await self._write(_RENEW, token, channel, epoch)

    async def trim(self, bounds: Mapping[str, tuple[int, float]], limit: int, token: int) -> int:
        """Delete some publications and say how many."""
        lowest, until = zip(*bounds.values(), strict=True)
        return int((await self._write(_TRIM, token, list(bounds), lowest, until, limit))["count"])

    async def names(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Return some channels and their tops."""
        return [(channel, top) for channel, top in await self._fetch(_NAMES, after, limit)]

    async def expire_results(self, before: float, limit: int, token: int) -> int:
        """Delete some results and say how many."""
        return int((await self._write(_EXPIRE, token, before, limit))["count"])

    async def probe(self, token: int) -> None:
        """Write, and change nothing."""
        await self._write(_PROBE, token)

    async def _fetch(self, statement: str, *arguments: object) -> Sequence[Any]:
        async with self._session() as session:
            rows: Sequence[Any] = await session.fetch(statement, *arguments)
        return rows

    async def _write(self, statement: str, token: int, *arguments: object) -> Any:  # noqa: ANN401 - a row of the driver
        async with self._session(writes=True) as session:
            row = await session.fetchrow(statement, token, *arguments)
        if not row["is_held"]:
            raise Overtaken
        return row

    @asynccontextmanager
    async def _session(self, *, writes: bool = False) -> AsyncIterator[Any]:
        """Lend a connection of the driver, in which every statement commits by itself."""
        is_sent = False
        try:
            async with self._database.engine.connect() as connection:
                session: Any = (await connection.get_raw_connection()).driver_connection
                is_sent = True
                try:
                    yield session
                except BaseException as error:
                    # After a plain error the session is as before. Otherwise nobody knows what it is still at.
                    if session.is_closed() or not isinstance(error, asyncpg.PostgresError):
                        await connection.invalidate()
                    raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError, TimeoutError) as error:
            raise self._database.translate(error, committing=is_sent and writes) from error


def _columns(group: Group) -> tuple[Sequence[object], ...]:
    """Return the arrays of `_APPEND` behind the token."""
    publications, heads, results = group.publications, group.heads, group.results
    return (
        [row.channel for row in publications],
        [row.offset for row in publications],
        [row.data for row in publications],
        [row.info for row in publications],
        [row.tags for row in publications],
        [row.at for row in publications],
        *([head[index] for head in heads] for index in range(len(NewHead._fields))),
        [row.channel for row in results],
        [row.key for row in results],
        [row.offset for row in results],
        [row.epoch for row in results],
        [row.at for row in results],
        group.outbox_ids,
    )


def _publications(rows: Sequence[Any]) -> list[Publication]:
    return [Publication(*row) for row in rows]
