"""An append and a take-over at the same time, in every order that two sessions of Postgres can come in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg
import pytest

from service.core.rows import Head
from service.errors import DatabaseUnavailable, Overtaken
from tests.conformance.stream_tables import row
from tests.support.stream_database import StreamDatabase

WAIT_SECONDS = 20
LATCH = 7

Session: TypeAlias = Any
"""A connection of the driver, which has no types."""


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[StreamDatabase]:
    """Return a database that was taken over with the token 1."""
    async with StreamDatabase.open(postgres_url) as world:
        await world.execute("""
            CREATE FUNCTION pass_latch() RETURNS boolean LANGUAGE plpgsql VOLATILE AS
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN true; END $$
        """)
        yield world


@pytest.fixture
async def other(postgres_url: str) -> AsyncIterator[Session]:
    """Return a second session, the successor's."""
    connection = await asyncpg.connect(postgres_url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def observer(postgres_url: str) -> AsyncIterator[Session]:
    """Return a third session, which looks at what the others wait for."""
    connection = await asyncpg.connect(postgres_url)
    try:
        yield connection
    finally:
        await connection.close()


async def expect_waiting(observer: Session, count: int) -> None:
    """Wait until so many sessions wait for a lock."""
    async with asyncio.timeout(WAIT_SECONDS):
        while count != await observer.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            pass


async def outcome(append: Awaitable[object]) -> str:
    """Return what became of an append."""
    try:
        await append
    except Overtaken:
        return "overtaken"
    except DatabaseUnavailable:
        return "conflict"
    return "committed"


async def take_over(session: Session) -> None:
    """Raise the token, as part of the transaction of the session."""
    await session.execute("UPDATE slackwater_fence SET token = 2 WHERE id = 1")


async def test_an_append_that_was_first_is_seen_by_the_take_over(
    world: StreamDatabase,
    other: Session,
    observer: Session,
) -> None:
    """The take-over waits for it, and finds its top afterwards."""
    # The append stops behind the fence, when it has rows to insert.
    await world.execute("""
        CREATE FUNCTION stop_at_latch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pass_latch(); RETURN new; END $$
    """)
    await world.execute("""
        CREATE TRIGGER stop BEFORE INSERT ON slackwater_publications FOR EACH ROW EXECUTE FUNCTION stop_at_latch()
    """)
    await observer.execute("SELECT pg_advisory_lock($1)", LATCH)
    async with asyncio.TaskGroup() as tasks:
        append = tasks.create_task(outcome(world.tables.append([row("a", 1)], token=1)))
        await expect_waiting(observer, 1)
        successor = tasks.create_task(take_over(other))
        await expect_waiting(observer, 2)
        assert not successor.done()
        await observer.execute("SELECT pg_advisory_unlock($1)", LATCH)
        await successor
        tops = await other.fetch("SELECT channel, top FROM slackwater_streams")

    assert "committed" == append.result()
    assert [("a", 1)] == [tuple(one) for one in tops]


@pytest.mark.parametrize(("end", "expected"), [("COMMIT", "overtaken"), ("ROLLBACK", "committed")])
async def test_an_append_waits_for_a_take_over_that_was_first(
    world: StreamDatabase,
    other: Session,
    observer: Session,
    end: str,
    expected: str,
) -> None:
    """Its end decides."""
    await other.execute("BEGIN")
    await take_over(other)
    async with asyncio.TaskGroup() as tasks:
        append = tasks.create_task(outcome(world.tables.append([row("a", 1, key="k")], token=1)))
        await expect_waiting(observer, 1)
        await other.execute(end)

    assert expected == append.result()
    found = {"a": Head(1, "e")} if expected == "committed" else {}
    assert found == await world.tables.heads(["a"])
    assert len(found) == len(await world.tables.results([("a", "k")], since=0))


async def stop_behind_the_snapshot(world: StreamDatabase) -> None:
    """Let every statement stop at the latch: it reads the identity beside the fence, under the same snapshot."""
    await world.execute("ALTER TABLE slackwater_identity RENAME TO slackwater_identity_rows")
    await world.execute("CREATE VIEW slackwater_identity AS SELECT * FROM slackwater_identity_rows WHERE pass_latch()")


@pytest.mark.parametrize("change", ["append", "remove", "renew", "trim", "expire", "probe"])
async def test_a_take_over_between_snapshot_and_lock_is_noticed(
    world: StreamDatabase,
    other: Session,
    observer: Session,
    change: str,
) -> None:
    """The statement began before it and finds the old token in its snapshot; the row has a newer version by then."""
    await world.tables.append([row("a", 1, key="k", at=1.0)], token=1)
    await stop_behind_the_snapshot(world)
    tables = world.tables
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "append": lambda: tables.append([row("a", 2), row("b", 1, key="k")], token=1),
        "remove": lambda: tables.remove("a", token=1),
        "renew": lambda: tables.renew("a", "other", token=1),
        "trim": lambda: tables.trim({"a": (9, 9.0)}, limit=9, token=1),
        "expire": lambda: tables.expire_results(9.0, limit=9, token=1),
        "probe": lambda: tables.probe(token=1),
    }
    await observer.execute("SELECT pg_advisory_lock($1)", LATCH)
    async with asyncio.TaskGroup() as tasks:
        result = tasks.create_task(outcome(changes[change]()))
        await expect_waiting(observer, 1)
        await take_over(other)
        await observer.execute("SELECT pg_advisory_unlock($1)", LATCH)

    assert "overtaken" == result.result()
    assert {"a": Head(1, "e")} == await tables.heads(["a", "b"])
    assert 1 == len(await tables.read("a", after=0, limit=9, oldest=0, max_bytes=9))
    assert 1 == len(await tables.results([("a", "k")], since=0))


async def test_a_result_that_is_written_anew_meanwhile_does_not_expire(
    world: StreamDatabase, other: Session, observer: Session
) -> None:
    """It is old in the snapshot of the statement that deletes old ones, and new in the table."""
    tables = world.tables
    await tables.append([row("a", 1, key="k", at=1.0), row("a", 2, key="l", at=1.0)], token=1)
    await stop_behind_the_snapshot(world)
    await observer.execute("SELECT pg_advisory_lock($1)", LATCH)
    async with asyncio.TaskGroup() as tasks:
        expired = tasks.create_task(tables.expire_results(2.0, limit=9, token=1))
        await expect_waiting(observer, 1)
        await other.execute("UPDATE slackwater_idempotency SET created_at = 3 WHERE key = 'k'")
        await observer.execute("SELECT pg_advisory_unlock($1)", LATCH)

    assert 1 == expired.result()
    assert [("a", "k")] == list(await tables.results([("a", "k"), ("a", "l")], since=0))


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_the_isolation_of_the_database_does_not_hold_for_us(
    postgres_url: str, other: Session, observer: Session, level: str
) -> None:
    """Whatever it has by default, our sessions read what is committed, and see that they were overtaken."""
    name = postgres_url.rpartition("/")[2]
    await other.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    async with StreamDatabase.open(postgres_url) as world:
        assert [("read committed",)] == await world.execute("SHOW transaction_isolation")
        await other.execute("BEGIN")
        await take_over(other)
        async with asyncio.TaskGroup() as tasks:
            append = tasks.create_task(outcome(world.tables.append([row("a", 1)], token=1)))
            await expect_waiting(observer, 1)
            await other.execute("COMMIT")

        assert "overtaken" == append.result()
        assert {} == await world.tables.heads(["a"])


async def test_tokens_are_never_mixed_in_a_race(world: StreamDatabase, other: Session) -> None:
    """Appends and take-overs at full speed: what the successor finds when it has taken over is what stays."""
    top, token = 0, 1
    for _ in range(25):
        async with asyncio.TaskGroup() as tasks:
            appends = [tasks.create_task(_append_on(world, f"c{number}", token)) for number in range(3)]
            await other.fetchval("UPDATE slackwater_fence SET token = token + 1 WHERE id = 1 RETURNING token")
            seen = await other.fetchval("SELECT count(*) FROM slackwater_publications")
        token += 1
        committed = await other.fetchval("SELECT count(*) FROM slackwater_publications")
        assert seen == committed
        assert top <= committed
        assert committed - top == sum(task.result() for task in appends)
        top = committed


async def _append_on(world: StreamDatabase, channel: str, token: int) -> int:
    """Append until overtaken; return how many were committed."""
    head = (await world.tables.heads([channel])).get(channel, Head(0, ""))
    for count in range(1000):
        if "overtaken" == await outcome(world.tables.append([row(channel, head.top + 1 + count)], token=token)):
            return count
    raise AssertionError("never overtaken")
