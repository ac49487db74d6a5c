from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from service.core.stream import Publication
from service.errors import DatabaseUnavailable, NotCommitted
from service.realtime.memory_streams import MemoryStreams
from service.realtime.ports import Draft, StreamStore
from service.realtime.routed_streams import RoutedStreams
from tests.conformance.stream_store import StreamStoreSuite, channel
from tests.support.clock import ManualClock
from tests.support.durable import Durable, running
from tests.support.ids import SequentialIds

MEMORY = channel("volatile", durability="memory")
PLAIN = channel("plain", history_size=0, history_ttl=0)


@pytest.fixture
async def durable(clock: ManualClock) -> AsyncIterator[Durable]:
    """A process with a database."""
    async with running(clock=clock) as durable:
        yield durable


@pytest.fixture
def clock() -> ManualClock:
    """The time that the stores are told."""
    return ManualClock()


@pytest.fixture
def routed(durable: Durable, clock: ManualClock) -> RoutedStreams:
    """Both stores."""
    return RoutedStreams(MemoryStreams(now=clock.now, new_epoch=SequentialIds().epoch), durable.store)


class TestRoutedStreams(StreamStoreSuite):
    """Two stores are one."""

    @override
    def instant(self, clock: ManualClock) -> float:
        return clock.wall()

    @override
    @pytest.fixture
    async def store(self, clock: ManualClock) -> AsyncIterator[StreamStore]:
        async with running(clock=clock) as durable:
            yield RoutedStreams(MemoryStreams(now=clock.now, new_epoch=SequentialIds().epoch), durable.store)


async def test_memory_goes_on_while_the_database_fails(routed: RoutedStreams, durable: Durable) -> None:
    """Channels without durable history ask it nothing."""
    delivered: list[tuple[str, int, str]] = []

    def deliver(name: str, publication: Publication, epoch: str) -> None:
        delivered.append((name, publication.offset, epoch))

    routed.use(deliver)
    durable.tables.broken = DatabaseUnavailable("gone")
    for where in (MEMORY, PLAIN):
        await routed.append(where, Draft(b"1"))
    page = await routed.read(MEMORY, after=0, limit=9)
    await routed.read_back(MEMORY, before=9, limit=9)
    await routed.diverged(MEMORY)
    await routed.remove(MEMORY)
    with pytest.raises(NotCommitted):
        await routed.append(channel(), Draft(b"1"))

    assert [("volatile", 1, page.top.epoch), ("plain", 0, "")] == delivered
    assert 0 == durable.tables.calls["append"]


async def test_what_is_durable_is_in_the_database(routed: RoutedStreams, durable: Durable) -> None:
    """And nothing else."""
    for where in (MEMORY, PLAIN, channel()):
        await routed.append(where, Draft(b"1"))

    assert ["room"] == list(durable.tables.tables.streams)
