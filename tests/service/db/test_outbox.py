from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from typing_extensions import override

from service.db.database import Database
from service.db.outbox import OutboxListener, OutboxTable
from service.errors import DatabaseError
from tests.conformance.outbox_table import OutboxTableSuite, fill, ids, waiting
from tests.support.outbox_application import PostgresApplication, application_on
from tests.support.outbox_table import Application
from tests.support.postgres import PostgresServer

_DEADLINE_SECONDS = 20.0


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database of each kind, with its tables."""
    database = Database(database_url)
    await database.start()
    yield database
    await database.close()


@pytest_asyncio.fixture
async def table_application(database: Database, database_url: str) -> Application:
    """The application on it."""
    application = application_on(database_url, OutboxTable(database))
    await application.set_token()
    return application


class TestOutboxTable(OutboxTableSuite):
    """On Postgres and on SQLite."""

    @pytest.fixture
    @override
    def application(self, table_application: Application) -> Application:
        """The application on each."""
        return table_application


class TestOutboxOfPostgres:
    """What only a database with concurrent writers can show."""

    async def test_a_smaller_id_may_commit_late(self, postgres_url: str) -> None:
        """It is found when it is there, however many were published before it."""
        async with opened(postgres_url) as table:
            application = application_on(postgres_url, table)
            async with application.transaction() as slow:
                late = await slow.write("news:a", b"1")
                early = await fill(application, 2)

                assert early == await ids(table)

                await application.mark(*early)

            assert late < min(early)
            assert [late] == await ids(table)

    async def test_a_database_that_is_not_there_is_trouble(self, postgres_url: str) -> None:
        """Of the kind that passes."""
        async with opened(postgres_url) as table:
            connection = await asyncpg.connect(postgres_url)
            await connection.execute("ALTER TABLE slackwater_outbox RENAME TO elsewhere")
            await connection.close()
            with pytest.raises(DatabaseError):
                await waiting(table)


class Rings:
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self.count = 0
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Count."""
        self.count += 1
        self._rung.set()

    async def expect(self) -> None:
        """Wait for a ring that nobody waited for yet."""
        async with asyncio.timeout(_DEADLINE_SECONDS):
            await self._rung.wait()
        self._rung.clear()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[OutboxTable]:
    """Open the table of a database."""
    database = Database(url)
    await database.start()
    try:
        yield OutboxTable(database)
    finally:
        await database.close()


@asynccontextmanager
async def listening(listener: OutboxListener) -> AsyncIterator[Rings]:
    """Listen, and count the rings after the one at the beginning."""
    rings = Rings()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(listener.run(rings.ring))
        await rings.expect()
        yield rings
        task.cancel()


class TestOutboxListener:
    """Only Postgres tells by itself that rows have come."""

    async def test_hears_a_commit(self, postgres_url: str) -> None:
        """Once for a transaction, and not before it is committed."""
        application = PostgresApplication(postgres_url)
        async with listening(OutboxListener(lambda: asyncpg.connect(postgres_url))) as rings:
            async with application.transaction() as writer:
                for _ in range(3):
                    await writer.write("news:a", b"1")
                before = rings.count
            await rings.expect()

            assert 1 == before

            # A later transaction is heard later: what of the first one could still come would have come by then.
            await fill(application, 1)
            await rings.expect()

            assert 3 == rings.count

    async def test_does_not_hear_a_rollback(self, postgres_url: str) -> None:
        """There is nothing to fetch."""
        application = PostgresApplication(postgres_url)

        async def fail() -> None:
            async with application.transaction() as writer:
                await writer.write("news:a", b"1")
                raise ZeroDivisionError

        async with listening(OutboxListener(lambda: asyncpg.connect(postgres_url))) as rings:
            with pytest.raises(ZeroDivisionError):
                await fail()
            await fill(application, 1)
            await rings.expect()

            assert 2 == rings.count

    async def test_connects_again_after_a_loss(self, postgres_server: PostgresServer, postgres_url: str) -> None:
        """And rings, since it was deaf in between."""
        application = PostgresApplication(postgres_url)
        listener = OutboxListener(lambda: asyncpg.connect(postgres_url), pauses_seconds=[0.0])
        name = postgres_url.rpartition("/")[2]
        async with listening(listener) as rings:
            await asyncio.to_thread(
                postgres_server.sql,
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",  # noqa: S608 - a name that the fixture made up
            )
            await rings.expect()
            await fill(application, 1)
            await rings.expect()

            assert 3 == rings.count

    async def test_goes_on_trying_when_it_cannot_connect(self, postgres_url: str) -> None:
        """With longer and longer pauses, and quietly."""
        tries = 0

        async def connect() -> Any:  # noqa: ANN401 - asyncpg has no types
            nonlocal tries
            tries += 1
            if tries <= 5:
                raise ConnectionRefusedError
            return await asyncpg.connect(postgres_url)

        async with listening(OutboxListener(connect, pauses_seconds=[0.0, 0.001])):
            assert 6 == tries

    async def test_asks_a_silent_connection_whether_it_is_still_there(self) -> None:
        """One that does not answer is given up."""
        made: list[SilentConnection] = []

        async def connect() -> SilentConnection:
            made.append(SilentConnection())
            return made[-1]

        listener = OutboxListener(connect, check_seconds=0.001, pauses_seconds=[0.0])
        async with listening(listener) as rings:
            await rings.expect()

            assert made[0].is_closed
            assert len(made) > 1


class SilentConnection:
    """A connection that ends without a word."""

    def __init__(self) -> None:
        self.is_closed = False

    def add_termination_listener(self, _: object) -> None:
        """Never call it."""

    async def add_listener(self, *_: object) -> None:
        """Never call it either."""

    async def execute(self, _: str) -> None:
        """Notice that nobody is there."""
        raise TimeoutError

    async def close(self) -> None:
        """End."""
        self.is_closed = True
