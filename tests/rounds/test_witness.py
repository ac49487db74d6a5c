"""Whoever decides which rounds count is watched too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import asyncpg
import pytest

from tests.rounds.witness import Moment, PostgresWitness, SqliteWitness
from tests.support.postgres import PostgresServer

_DEADLINE_SECONDS = 20.0
_APPEND = """
    WITH added AS (
        INSERT INTO slackwater_publications (channel, "offset", data, published_at) VALUES ('a', $1, '', 0) RETURNING 1
    ) SELECT pg_sleep($2) FROM added
"""


@pytest.fixture
async def witness(postgres_server: PostgresServer, postgres_url: str) -> AsyncIterator[PostgresWitness]:
    """Look at a database with a session of its superuser."""
    async with PostgresWitness.at(postgres_server.admin_dsn(postgres_url.rpartition("/")[2])) as found:
        yield found


@pytest.fixture
async def session(postgres_url: str) -> AsyncIterator[Any]:
    """Return a session such as the service has."""
    connection = await asyncpg.connect(postgres_url, server_settings={"application_name": "slackwater"})
    yield connection
    await connection.close()


async def until(witness: PostgresWitness, moment: Moment | None) -> None:
    """Look until that is what is seen."""
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while await witness.look(0) is not moment:
            pass


async def test_sees_a_transaction_that_writes_to_postgres(witness: PostgresWitness, session: Any) -> None:  # noqa: ANN401 - asyncpg has no types
    """Until it ends."""
    assert await witness.look(0) is None

    async with asyncio.TaskGroup() as tasks:
        append = tasks.create_task(session.execute(_APPEND, 1, 600.0))
        await until(witness, Moment.WRITING)
        append.cancel()
    await until(witness, None)


async def test_sees_that_an_answer_of_postgres_was_not_read(witness: PostgresWitness, session: Any) -> None:  # noqa: ANN401 - asyncpg has no types
    """And no longer when it was."""
    await session.execute(_APPEND, 1, 0.0)

    assert await witness.look(0) is None

    async with asyncio.TaskGroup() as tasks:
        session._transport.pause_reading()
        tasks.create_task(session.execute(_APPEND, 2, 0.0))
        await until(witness, Moment.ANSWERED)

        assert {} == await witness.tops()

        session._transport.resume_reading()

    assert await witness.look(0) is None


async def test_does_not_take_other_statements_for_a_commit(witness: PostgresWitness, session: Any) -> None:  # noqa: ANN401 - asyncpg has no types
    """Not even for a transaction that writes somewhere else."""
    await session.execute(_APPEND, 1, 0.0)
    async with session.transaction():
        await session.execute("UPDATE slackwater_identity SET epoch = epoch")

        assert await witness.look(0) is None


async def test_sees_who_writes_to_sqlite(sqlite_url: str) -> None:
    """Only the process that was asked for counts."""
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    witness = SqliteWitness(path)
    with closing(connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM slackwater_fence").fetchall()

        assert await witness.look(os.getpid()) is None

        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")

        assert Moment.WRITING is await witness.look(os.getpid())
        assert await witness.look(os.getppid()) is None

        connection.execute("ROLLBACK")

        assert await witness.look(os.getpid()) is None
