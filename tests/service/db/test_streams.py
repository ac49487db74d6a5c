"""Streams in both databases: the suite of the port, and what is the same for both beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from typing_extensions import override

from service.core.rows import Head, Row
from service.core.stream import Position
from service.db import identity
from service.errors import DatabaseError, OutOfStep, Overtaken, RowsRefused
from service.realtime.ports import StreamTables as Port
from tests.conformance.stream_tables import StreamTablesSuite, row
from tests.support.postgres import PostgresServer
from tests.support.stream_database import StreamDatabase


@pytest.fixture(scope="module")
def shared_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the URL of a Postgres database that these tests share: each begins by emptying it."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=["postgres", "sqlite"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[StreamDatabase]:
    """Return an empty database that was taken over with the token 1."""
    url: str = request.getfixturevalue("shared_url" if request.param == "postgres" else "sqlite_url")
    async with StreamDatabase.open(url) as world:
        yield world


class TestStreamTables(StreamTablesSuite):
    """The suite of the port, on Postgres and on SQLite."""

    @override
    @pytest.fixture
    def tables(self, world: StreamDatabase) -> Port:
        self.world = world
        return world.tables

    @override
    async def take_over(self, tables: Port, token: int) -> None:
        await self.world.take_over(token)

    @override
    async def add_outbox_row(self, tables: Port) -> int:
        return await self.world.add_outbox_row()

    @override
    async def is_published(self, tables: Port, outbox_id: int) -> bool:
        return await self.world.is_published(outbox_id)


async def fate(world: StreamDatabase, group: list[Row]) -> Exception | None:
    """Return the error of an append."""
    try:
        await world.tables.append(group, token=1)
    except DatabaseError as error:
        return error
    return None


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(row("b", 1, key="nul\0"), id="NUL in a key"),
        pytest.param(row("b", 1, key="\ud800"), id="half a character"),
        pytest.param(row("b\0", 1), id="NUL in a channel"),
        pytest.param(row("b", 1, version=1, version_epoch="\0"), id="NUL in an epoch of versions"),
        pytest.param(row("b", 1, version=2**63), id="too large a version"),
        pytest.param(row("b", 1, key="é" * 1300), id="too long a key"),
        pytest.param(row("b", 1, key="x" * 2600), id="too long a key of one byte each"),
    ],
)
async def test_a_row_that_cannot_be_kept_is_named(world: StreamDatabase, bad: Row) -> None:
    """And none of the group is kept; without it the rest is."""
    error = await fate(world, [row("a", 1), bad, row("c", 1)])

    assert isinstance(error, RowsRefused)
    assert (1,) == error.indexes
    assert {} == await world.tables.heads(["a", "b", "c"])
    assert None is await fate(world, [row("a", 1), row("c", 1)])


async def test_what_cannot_be_kept_is_not_there(world: StreamDatabase) -> None:
    """Asking for it is no error."""
    tables = world.tables

    assert {} == await tables.heads(["\0", "\ud800"])
    assert {} == await tables.results([("a", "\0"), ("\0", "a")], since=0)
    assert [] == await tables.read("\0", after=0, limit=9, oldest=0, max_bytes=9)
    assert [] == await tables.read_back("\ud800", before=9, limit=9, oldest=0, max_bytes=9)


async def test_the_longest_names_are_kept(world: StreamDatabase) -> None:
    """Of 255 characters of 4 bytes each, as much as may come in, and hard to compress."""
    channel = "".join(chr(0x10000 + 7919 * number % 0xFFFF) for number in range(255))
    key = "".join(chr(0x10000 + 104729 * number % 0xFFFF) for number in range(255))
    await world.tables.append([row(channel, 1, key=key)], token=1)

    assert {(channel, key): Position(1, "e")} == await world.tables.results([(channel, key)], since=0)


async def test_a_key_twice_in_a_group_has_the_last_result(world: StreamDatabase) -> None:
    """The engine does not do so, and it should not fail the whole group."""
    await world.tables.append([row("a", 1, key="k"), row("a", 2, key="k")], token=1)

    assert {("a", "k"): Position(2, "e")} == await world.tables.results([("a", "k")], since=0)


async def test_an_outbox_row_that_is_set_aside_is_not_published(world: StreamDatabase) -> None:
    """Nor is one that is gone; nothing of the group is kept."""
    outbox_id = await world.add_outbox_row()
    await world.execute("UPDATE slackwater_outbox SET set_aside_at = CURRENT_TIMESTAMP")

    for unfit in (outbox_id, outbox_id + 1):
        assert isinstance(await fate(world, [row("a", 1, outbox_id=unfit)]), OutOfStep)
    assert {} == await world.tables.heads(["a"])


async def test_large_publications_beyond_the_bound_are_not_read(world: StreamDatabase) -> None:
    """The bound holds for what a recovery may have missed, whatever there is."""
    await world.tables.append([row("a", number, b"x" * 65_536) for number in range(1, 65)], token=1)
    found = await world.tables.read("a", after=0, limit=10_000, oldest=0, max_bytes=786_432)

    assert 12 == len(found)
    assert {"a": Head(64, "e")} == await world.tables.heads(["a"])


async def test_trimming_takes_the_same_time_however_long_a_channel_is(world: StreamDatabase) -> None:
    """Batch by batch, to the end."""
    await world.tables.append([row("a", number, at=float(number)) for number in range(1, 1001)], token=1)
    deleted = []
    while count := await world.tables.trim({"a": (0, 950.0)}, limit=300, token=1):
        deleted.append(count)

    assert [300, 300, 300, 50] == deleted
    kept = await world.tables.read("a", after=0, limit=9999, oldest=0, max_bytes=2**31)
    assert list(range(951, 1001)) == [item.offset for item in kept]


async def test_a_cancelled_append_leaves_nothing_half_done(world: StreamDatabase) -> None:
    """Wherever it is cancelled: the group is there as a whole or not at all, and the pool is whole again."""
    group = [row("a", number, b"x" * 1000, key=str(number)) for number in range(1, 401)]
    for turns in range(40):
        top = (await world.tables.heads(["a"])).get("a", Head(0, "e")).top
        moved = [item._replace(offset=item.offset + top) for item in group]
        async with asyncio.TaskGroup() as tasks:
            append = tasks.create_task(world.tables.append(moved, token=1))
            for _ in range(turns):
                await asyncio.sleep(0)
            append.cancel()
        after = (await world.tables.heads(["a"])).get("a", Head(0, "e")).top
        assert after in (top, top + 400)
        [(count,)] = await world.execute("SELECT count(*) FROM slackwater_publications")
        assert after == count
    assert 0 == world.database.pool_state().in_use


# Epochs.


async def test_the_epoch_of_a_database_is_there_from_the_first_take_over(world: StreamDatabase) -> None:
    """And stays."""
    assert "database" == await world.tables.epoch()
    await world.take_over(2, "another")

    assert "database" == await world.tables.epoch()


async def test_streams_have_the_epoch_of_the_database_or_their_own(world: StreamDatabase) -> None:
    """As their rows say."""
    await world.tables.append([row("a", 1, epoch="database"), row("b", 1, epoch="own")], token=1)
    await world.tables.append([row("c", 1, epoch="database")], token=1)
    await world.tables.renew("c", "renewed", token=1)

    expected = {"a": Head(1, "database"), "b": Head(1, "own"), "c": Head(1, "renewed")}
    assert expected == await world.tables.heads("abc")


async def test_the_token_after_a_restore_is_above_all_that_were_given_before(world: StreamDatabase) -> None:
    """Although the backup has an old one: an instance from before the restore may still be about."""
    await identity.renew(world.database, "before")
    for _ in range(10):
        await world.execute("UPDATE slackwater_fence SET token = token + 1")
    [(given,)] = await world.execute("SELECT token - 10 FROM slackwater_fence")
    await world.execute("UPDATE slackwater_fence SET token = 3")
    await identity.renew(world.database, "after")
    [(token,)] = await world.execute("SELECT token FROM slackwater_fence")

    assert token >= given
    assert 3 < given


async def test_a_new_epoch_of_the_database_is_one_of_every_stream(world: StreamDatabase) -> None:
    """Of those with an epoch of their own too; offsets go on, and whoever serves is overtaken."""
    await world.tables.append([row("a", 1, epoch="database"), row("b", 1, epoch="own")], token=1)
    await identity.renew(world.database, "new")

    assert "new" == await world.tables.epoch()
    assert {"a": Head(1, "new"), "b": Head(1, "new")} == await world.tables.heads("ab")
    assert isinstance(await fate(world, [row("a", 2, epoch="database")]), Overtaken)

    [(token,)] = await world.execute("SELECT token FROM slackwater_fence")
    await world.tables.append([row("a", 2, epoch="new"), row("b", 2, epoch="new")], token=token)
    await world.tables.renew("b", "newer", token=token)

    assert {"a": Head(2, "new"), "b": Head(2, "newer")} == await world.tables.heads("ab")
