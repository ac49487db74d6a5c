"""The durable store on real databases: the suite of every store, and what a crash leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from typing_extensions import override

from service.core.namespaces import Channel, Namespace
from service.core.tenure import Tenure
from service.realtime.durable_streams import DurableStreams
from service.realtime.instance import Background
from service.realtime.memory_streams import MemoryStreams
from service.realtime.ports import Draft, StreamStore
from tests.conformance.stream_store import StreamStoreSuite
from tests.support.clock import ManualClock
from tests.support.ids import SequentialIds
from tests.support.observer import RecordingObserver
from tests.support.postgres import PostgresServer
from tests.support.stream_database import StreamDatabase

ROOM = Namespace(name="", history_size=10, history_ttl=100.0)


@asynccontextmanager
async def serving(world: StreamDatabase, clock: ManualClock, *, token: int = 1) -> AsyncIterator[DurableStreams]:
    """Run a store over a database; at the end whatever it still does is given up, as by a kill."""
    observer, ids = RecordingObserver(), SequentialIds()
    background = Background(observer.failed)
    tenure = Tenure(clock.boot, 5.0)
    tenure.begin(token, clock.boot() + 1e9)
    store = DurableStreams(
        world.tables,
        tenure,
        elsewhere=MemoryStreams(now=clock.now, new_epoch=ids.epoch),
        tasks=background,
        resolve=room,
        now=clock.now,
        wall=clock.wall,
        new_epoch=ids.epoch,
        observer=observer,
        overtaken=lambda: None,
    )
    store.use(lambda channel, publication, epoch: None)  # noqa: ARG005 - nobody listens
    async with asyncio.TaskGroup() as tasks:
        background.use(tasks)
        try:
            yield store
            assert [] == observer.failures
        finally:
            await background.end(patience_seconds=0)


def room(name: str = "room", **options: object) -> Channel:
    """Return a channel that keeps ten publications for 100 s, unless told otherwise."""
    return Channel(name, msgspec.structs.replace(ROOM, **options))


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


class TestDurableStreams(StreamStoreSuite):
    """The suite that the store in memory passes too."""

    @override
    def instant(self, clock: ManualClock) -> float:
        return clock.wall()

    @override
    @pytest.fixture
    async def store(self, clock: ManualClock, world: StreamDatabase) -> AsyncIterator[StreamStore]:
        async with serving(world, clock) as store:
            yield store


async def test_a_new_process_goes_on_where_the_old_one_was_killed(world: StreamDatabase) -> None:
    """With the tops, the epochs and the results of the one before; nothing that was acknowledged is missing."""
    clock = ManualClock()
    async with serving(world, clock) as store:
        first = [await store.append(room(), Draft(b"%d" % number, idempotency_key=str(number))) for number in range(3)]
    await world.take_over(2)
    async with serving(world, clock, token=2) as store:
        again = await store.append(room(), Draft(b"0", idempotency_key="0"))
        page = await store.read(room(), after=0, limit=10)
        next_one = await store.append(room(), Draft(b"next"))

    assert first[0].position == again.position
    assert again.publication is None
    assert [b"0", b"1", b"2"] == [item.data for item in page.items]
    assert next_one.position is not None
    assert (4, page.top.epoch) == (next_one.position.offset, next_one.position.epoch)


async def test_publications_at_once_are_committed_together(world: StreamDatabase) -> None:
    """In order, and in far fewer commits than there are of them."""
    commits = 0
    append = world.tables.append

    async def count(*arguments: object, **options: object) -> None:
        nonlocal commits
        commits += 1
        await append(*arguments, **options)  # type: ignore[arg-type]  # counted around the real method

    world.tables.append = count  # type: ignore[method-assign]  # counted around the real method
    async with serving(world, ManualClock()) as store, asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(store.append(room(history_size=300), Draft(b"%d" % one))) for one in range(200)]

    assert list(range(1, 201)) == [task.result().position.offset for task in made]  # type: ignore[union-attr]  # counted around the real method
    assert commits <= 4
    kept = await world.tables.read("room", after=0, limit=1000, oldest=0, max_bytes=10_000)
    assert [b"%d" % one for one in range(200)] == [item.data for item in kept]
