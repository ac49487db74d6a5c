"""What becomes of an append when Postgres, or the way to it, fails: each error as it really comes about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import asyncpg
import pytest

from service.core.rows import Head, Row
from service.db.database import Timeouts
from service.errors import DatabaseUnavailable, OutcomeUnknown, OutOfStep, RowsRefused
from tests.conformance.stream_tables import all_of, row, rows
from tests.support.mute_proxy import MuteProxy
from tests.support.postgres import PostgresServer
from tests.support.stream_database import StreamDatabase

WAIT_SECONDS = 20
LATCH = 7

Session: TypeAlias = Any
"""A connection of the driver, which has no types."""

STOP_AT_LATCH = (
    """
    CREATE FUNCTION stop_at_latch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN new; END $$
    """,
    "CREATE TRIGGER stop BEFORE INSERT ON slackwater_publications FOR EACH ROW EXECUTE FUNCTION stop_at_latch()",
)


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[StreamDatabase]:
    """Return a database that was taken over with the token 1."""
    async with StreamDatabase.open(postgres_url) as world:
        yield world


@pytest.fixture
async def other(postgres_url: str) -> AsyncIterator[Session]:
    """Return a session that goes past everything."""
    async with session_at(postgres_url) as session:
        yield session


@asynccontextmanager
async def session_at(url: str) -> AsyncIterator[Session]:
    """Open a session and close it."""
    session = await asyncpg.connect(url)
    try:
        yield session
    finally:
        await session.close(timeout=WAIT_SECONDS)


@asynccontextmanager
async def latched(session: Session) -> AsyncIterator[None]:
    """Hold the latch."""
    await session.execute("SELECT pg_advisory_lock($1)", LATCH)
    yield
    await session.execute("SELECT pg_advisory_unlock($1)", LATCH)


async def expect(session: Session, what: str, expected: int) -> None:
    """Wait until a count is as expected."""
    async with asyncio.timeout(WAIT_SECONDS):
        while expected != await session.fetchval(f"SELECT count(*) FROM {what}"):  # noqa: S608 - of this file
            pass


WAITING: Final = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def fate(world: StreamDatabase, group: Sequence[Row]) -> Exception | None:
    """Return the error of an append."""
    try:
        await world.tables.append(group, token=1)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test says what it should be
        return error
    return None


async def stop_at_latch(world: StreamDatabase) -> None:
    """Let every append stop behind the fence while somebody holds the latch."""
    for statement in STOP_AT_LATCH:
        await world.execute(statement)


# Lost connections.


async def test_a_session_that_is_ended_at_work_leaves_the_outcome_unknown(
    world: StreamDatabase,
    other: Session,
) -> None:
    """By a person or a shutdown; the next append takes another session."""
    await stop_at_latch(world)
    async with latched(other), asyncio.TaskGroup() as tasks:
        append = tasks.create_task(fate(world, rows("a", 2)))
        await expect(other, WAITING, 1)
        await other.fetchval(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

    assert isinstance(append.result(), OutcomeUnknown)
    assert {} == await world.tables.heads(["a"])
    assert None is await fate(world, rows("a", 2))


async def test_a_session_that_was_ended_while_idle_costs_nothing(
    world: StreamDatabase,
    other: Session,
) -> None:
    """The pool gives another one, since nothing was sent."""
    assert None is await fate(world, rows("a", 1))
    await other.fetchval(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await asyncio.sleep(0)

    assert None is await fate(world, rows("a", 1, first=2))


async def test_a_server_that_stops_at_once_leaves_the_outcome_unknown(own_postgres_server: PostgresServer) -> None:
    """Then it cannot be reached, and when it is back nothing of the group is there."""
    server = own_postgres_server
    url = await asyncio.to_thread(server.create_database)
    async with StreamDatabase.open(url) as world, session_at(url) as other:
        await stop_at_latch(world)
        await other.execute("SELECT pg_advisory_lock($1)", LATCH)
        async with asyncio.TaskGroup() as tasks:
            append = tasks.create_task(fate(world, rows("a", 2)))
            await expect(other, WAITING, 1)
            await asyncio.to_thread(server.stop, "immediate")
        assert isinstance(append.result(), OutcomeUnknown)

        assert isinstance(await fate(world, rows("a", 2)), DatabaseUnavailable)
        with pytest.raises(DatabaseUnavailable):
            await world.tables.heads(["a"])

        await asyncio.to_thread(server.start)
        assert {} == await world.tables.heads(["a"])
        assert None is await fate(world, rows("a", 2))
        assert {"a": Head(2, "e")} == await world.tables.heads(["a"])


@asynccontextmanager
async def behind_proxy(
    server: PostgresServer, url: str, timeouts: Timeouts | None = None
) -> AsyncIterator[tuple[StreamDatabase, MuteProxy]]:
    """Open a database through a network that may lose answers."""
    async with MuteProxy.start(server.port) as proxy:
        through = url.replace(f":{server.port}/", f":{proxy.port}/")
        async with StreamDatabase.open(through, timeouts=timeouts) as world:
            yield world, proxy


async def test_an_answer_that_is_lost_leaves_the_outcome_unknown(
    postgres_server: PostgresServer,
    postgres_url: str,
    other: Session,
) -> None:
    """Although everything was committed, which the heads then say."""
    async with behind_proxy(postgres_server, postgres_url) as (world, proxy):
        assert None is await fate(world, rows("a", 1))
        proxy.is_mute = True
        async with asyncio.TaskGroup() as tasks:
            append = tasks.create_task(fate(world, rows("a", 2, first=2)))
            await expect(other, "slackwater_publications", 3)
            proxy.cut()
        proxy.is_mute = False

        assert isinstance(append.result(), OutcomeUnknown)
        assert {"a": Head(3, "e")} == await world.tables.heads(["a"])
        assert 3 == len(await all_of(world.tables, "a"))
        assert isinstance(await fate(world, rows("a", 2, first=2)), OutOfStep)


async def test_heads_wait_for_a_group_that_still_works_in_the_server(
    postgres_server: PostgresServer,
    postgres_url: str,
    other: Session,
) -> None:
    """Else they would be read before it commits, and what it commits would come as a surprise."""
    async with behind_proxy(postgres_server, postgres_url) as (world, proxy):
        await stop_at_latch(world)
        async with asyncio.TaskGroup() as tasks, latched(other):
            append = tasks.create_task(fate(world, rows("a", 2)))
            await expect(other, WAITING, 1)
            proxy.is_mute = True
            proxy.cut()
            assert isinstance(await append, OutcomeUnknown)
            proxy.is_mute = False
            heads = tasks.create_task(world.tables.heads(["a"]))
            await expect(other, WAITING, 2)
            assert not heads.done()

        assert {"a": Head(2, "e")} == heads.result()


async def test_a_server_that_does_not_answer_leaves_the_outcome_unknown(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """After the time for a statement, although the connection never closes."""
    timeouts = Timeouts(statement=0.2, connect=0.2)
    async with behind_proxy(postgres_server, postgres_url, timeouts) as (world, proxy):
        assert None is await fate(world, rows("a", 1))
        proxy.is_mute = True

        assert isinstance(await fate(world, rows("a", 1, first=2)), OutcomeUnknown)
        with pytest.raises(DatabaseUnavailable):
            await world.tables.heads(["a"])


# What surely commits nothing.


async def test_a_statement_that_takes_too_long_commits_nothing(postgres_url: str, other: Session) -> None:
    """Here because somebody holds a lock; once it is free, everything goes on over the same session."""
    async with StreamDatabase.open(postgres_url, size=1, timeouts=Timeouts(statement=0.2)) as world:
        [(pid,)] = await world.execute("SELECT pg_backend_pid()")
        async with other.transaction():
            await other.execute("LOCK TABLE slackwater_publications IN SHARE MODE")
            error = await fate(world, rows("a", 1))

        assert isinstance(error, DatabaseUnavailable)
        assert "57014" in error.reason
        assert {} == await world.tables.heads(["a"])
        assert None is await fate(world, rows("a", 1))
        assert [(pid,)] == await world.execute("SELECT pg_backend_pid()")


async def test_without_a_free_connection_nothing_is_sent(postgres_url: str) -> None:
    """It waits for one for the time that is set."""
    async with StreamDatabase.open(postgres_url, size=1, timeouts=Timeouts(pool=0.05)) as world:
        async with world.database.engine.connect():
            error = await fate(world, rows("a", 1))

        assert isinstance(error, DatabaseUnavailable)
        assert None is await fate(world, rows("a", 1))


@pytest.mark.parametrize("code", ["53100", "53200", "40001", "55P03", "58030"])
async def test_what_the_server_lacks_commits_nothing(world: StreamDatabase, code: str) -> None:
    """A full disk, memory, a conflict: an answer of the server, so that much is sure."""
    await world.execute(f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$
    """)
    await world.execute("CREATE TRIGGER fail BEFORE INSERT ON slackwater_publications EXECUTE FUNCTION fail()")

    assert isinstance(await fate(world, rows("a", 1)), DatabaseUnavailable)
    await world.execute("DROP TRIGGER fail ON slackwater_publications")
    assert {} == await world.tables.heads(["a"])
    assert None is await fate(world, rows("a", 1))


async def test_rows_that_a_constraint_refuses_are_named(world: StreamDatabase) -> None:
    """They are found by trying each alone; neither that nor the refused group leaves anything behind."""
    await world.execute("ALTER TABLE slackwater_publications ADD CHECK (data <> 'bad')")
    await world.tables.append(rows("a", 1), token=1)
    group = [row("a", 2), row("b", 1, b"bad", key="k"), row("a", 3, b"bad"), row("c", 1, key="k")]
    error = await fate(world, group)

    assert isinstance(error, RowsRefused)
    assert (1, 2) == error.indexes
    assert {"a": Head(1, "e")} == await world.tables.heads("abc")
    assert {} == await world.tables.results([("b", "k"), ("c", "k")], since=0)
    assert None is await fate(world, [row("a", 2), row("c", 1, key="k")])


# Cancelled calls.


async def test_a_cancelled_append_stops_in_the_server_too(
    world: StreamDatabase,
    other: Session,
) -> None:
    """It commits nothing afterwards, and its session is not lent to anybody while it works."""
    await stop_at_latch(world)
    async with latched(other):
        async with asyncio.TaskGroup() as tasks:
            append = tasks.create_task(world.tables.append(rows("a", 1), token=1))
            await expect(other, WAITING, 1)
            append.cancel()
        await expect(other, WAITING, 0)

    assert {} == await world.tables.heads(["a"])
    assert None is await fate(world, rows("a", 1))
    assert 0 == world.database.pool_state().in_use
