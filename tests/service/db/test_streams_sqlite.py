"""What becomes of an append when SQLite cannot do it, and what a commit is worth there."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager

import pytest

from service.core.rows import Head
from service.db.database import Timeouts
from service.errors import DatabaseError, DatabaseUnavailable, OutcomeUnknown, RowsRefused
from tests.conformance.stream_tables import row, rows
from tests.support.stream_database import StreamDatabase


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[StreamDatabase]:
    """Return a database with one connection, which was taken over with the token 1."""
    async with StreamDatabase.open(sqlite_url, size=1, timeouts=Timeouts(statement=0.2)) as world:
        yield world


async def test_a_commit_waits_for_the_disk(world: StreamDatabase) -> None:
    """On the very connection that appends: there is one in the pool."""
    seen: list[tuple[object, object]] = []
    async with world.database.engine.connect() as connection:
        session = (await connection.get_raw_connection()).driver_connection
        assert session is not None
        for pragma in ("journal_mode", "synchronous"):
            async with session.execute(f"PRAGMA {pragma}") as cursor:
                seen.append((pragma, (await cursor.fetchone())[0]))
    await world.tables.append(rows("a", 1), token=1)

    full = 2
    assert [("journal_mode", "wal"), ("synchronous", full)] == seen


async def test_a_full_disk_commits_nothing(world: StreamDatabase) -> None:
    """Neither in the middle of a group; with room again, everything goes on."""
    await world.tables.append(rows("a", 1), token=1)
    [(pages,)] = await world.execute("PRAGMA page_count")
    await world.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(DatabaseUnavailable) as caught:
        await world.tables.append([row("a", number, b"x" * 10_000) for number in range(2, 10)], token=1)

    assert "SQLITE_FULL" in caught.value.reason
    assert {"a": Head(1, "e")} == await world.tables.heads(["a"])
    await world.execute("PRAGMA max_page_count = 1000000")
    await world.tables.append(rows("a", 8, first=2), token=1)
    assert {"a": Head(9, "e")} == await world.tables.heads(["a"])


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Let the system refuse to write further than this in any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_fails_leaves_the_outcome_unknown(world: StreamDatabase) -> None:
    """What was written to the log before may count after a crash; the heads say that it does not now."""
    await world.tables.append(rows("a", 1), token=1)
    log = world.database.path.with_name(world.database.path.name + "-wal")
    with largest_file(log.stat().st_size + 10_000), pytest.raises(OutcomeUnknown):
        await world.tables.append([row("a", number, b"x" * 10_000) for number in range(2, 10)], token=1)

    assert {"a": Head(1, "e")} == await world.tables.heads(["a"])
    await world.tables.append(rows("a", 1, first=2), token=1)
    assert {"a": Head(2, "e")} == await world.tables.heads(["a"])


@contextmanager
def locked_by_another_process(path: str) -> Iterator[None]:
    """Let another process begin to write and not go on."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        " c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert b"locked\n" == process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


async def test_a_lock_of_another_process_is_waited_for_and_then_nothing_is_committed(world: StreamDatabase) -> None:
    """Reading goes on meanwhile."""
    await world.tables.append(rows("a", 1), token=1)
    with locked_by_another_process(str(world.database.path)):
        with pytest.raises(DatabaseUnavailable) as caught:
            await world.tables.append(rows("a", 1, first=2), token=1)
        assert {"a": Head(1, "e")} == await world.tables.heads(["a"])

    assert "SQLITE_BUSY" in caught.value.reason
    await world.tables.append(rows("a", 1, first=2), token=1)
    assert {"a": Head(2, "e")} == await world.tables.heads(["a"])


async def test_rows_that_a_constraint_refuses_are_named(world: StreamDatabase) -> None:
    """They are found by trying each alone; neither that nor the refused group leaves anything behind."""
    await world.execute("""
        CREATE TRIGGER refuse BEFORE INSERT ON slackwater_publications WHEN new.data = x'626164'
        BEGIN SELECT RAISE(ABORT, 'no'); END
    """)
    with pytest.raises(RowsRefused) as caught:
        await world.tables.append([row("a", 1), row("b", 1, b"bad", key="k"), row("a", 2, b"bad")], token=1)

    assert (1, 2) == caught.value.indexes
    assert {} == await world.tables.heads("ab")
    await world.tables.append([row("a", 1)], token=1)
    assert {"a": Head(1, "e")} == await world.tables.heads("ab")


async def test_an_append_takes_the_lock_before_it_compares(world: StreamDatabase) -> None:
    """A take-over that was first decides, although the append had begun to wait before it committed."""
    with closing(sqlite3.connect(world.database.path, isolation_level=None, check_same_thread=False)) as successor:
        successor.execute("BEGIN IMMEDIATE")
        successor.execute("UPDATE slackwater_fence SET token = 2")
        async with asyncio.TaskGroup() as tasks:
            append = tasks.create_task(fate(world))
            # Its statement is handed to the thread in a few turns of the loop, and waits there for the lock.
            for _ in range(20):
                await asyncio.sleep(0)
            successor.execute("COMMIT")

    assert "another instance has taken over" == append.result()
    assert {} == await world.tables.heads(["a"])


async def fate(world: StreamDatabase) -> str:
    """Return why an append failed; empty when it did not."""
    try:
        await world.tables.append(rows("a", 1), token=1)
    except DatabaseError as error:
        return error.reason
    return ""
