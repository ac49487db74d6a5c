"""Bring a database to the schema of this code. Never back, and never twice at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, NamedTuple

from advanced_alchemy.alembic.commands import AlembicCommands
from sqlalchemy import Connection, text

from service.db import schema
from service.db.database import Database
from service.db.schema import Schema

__all__ = ("LOCK_KEY", "Migrated", "current", "migrate", "migrate_url")

LOCK_KEY: Final = 0x534C41434B4D4947
"""Of the advisory lock of whoever migrates: the letters SLACKMIG."""


class Migrated(NamedTuple):
    """What a database had, and what it has."""

    before: Schema
    after: Schema


async def current(database: Database) -> Schema:
    """Return the schema that a database has. Changes nothing; a SQLite file that is not there stays so.

    Raises:
        DatabaseError: As of `migrate`.
    """
    if database.kind == "sqlite" and not database.path.exists():
        return Schema()
    await database.check_server()
    async with database.engine.connect() as connection:
        return await schema.read(connection)


async def migrate(database: Database) -> Migrated:
    """Apply the migrations that are missing, all or none of them.

    The directory of a SQLite file is made, but not the one that it lies in. Whoever else migrates at the same
    time is waited for, and then finds nothing left to do.

    Raises:
        DatabaseUnfit: A person has to change something first.
        DatabaseUnavailable: Not now; nothing was changed.
        OutcomeUnknown: Perhaps it was; doing it once more does no harm.
    """
    if database.kind == "sqlite":
        # What cannot be made is said by the check.
        with suppress(OSError):
            database.path.parent.mkdir(mode=0o700, exist_ok=True)
    await database.check_server()
    commands = AlembicCommands(database.config)

    def upgrade(connection: Connection) -> None:
        commands.config.attributes["connection"] = connection
        commands.upgrade("head")

    is_sent = False
    try:
        async with database.writer.begin() as connection:
            if database.kind == "postgres":
                # What waits for locks, and builds indexes on tables with rows, takes its time.
                await connection.execute(text("SET LOCAL statement_timeout = 0"))
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            before = await schema.read(connection)
            if before.is_behind:
                await connection.run_sync(upgrade)
            after = await schema.read(connection)
            is_sent = True
    except Exception as error:
        raise database.translate(error, committing=is_sent) from error
    return Migrated(before, after)


def migrate_url(url: str) -> Migrated:
    """Do as `migrate`, without an event loop, on the database of an address."""

    async def run() -> Migrated:
        database = Database(url)
        try:
            return await migrate(database)
        finally:
            await database.close()

    return asyncio.run(run())
