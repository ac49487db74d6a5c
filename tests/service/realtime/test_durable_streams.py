from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from service.core.namespaces import Channel
from service.core.stream import Position, Publication
from service.errors import NotCommitted, RowsRefused
from service.realtime.ports import Draft, StreamStore
from service.realtime.steps import first_step, rest
from tests.conformance.stream_store import StreamStoreSuite
from tests.support.clock import ManualClock
from tests.support.durable import Durable, running
from tests.support.stream_tables import Fault, Tables


class TestDurableStreams(StreamStoreSuite):
    """The suite of every store."""

    @override
    def instant(self, clock: ManualClock) -> float:
        return clock.wall()

    @override
    @pytest.fixture
    async def store(self, clock: ManualClock) -> AsyncIterator[StreamStore]:
        async with running(clock=clock) as durable:
            yield durable.store
            assert [] == durable.observer.failures


async def test_the_first_step_needs_no_task() -> None:
    """What is awaited first is a plain future, also where several wait for the same."""
    async with running() as durable:
        await durable.fill(2)
        durable.store.reset()
        found: list[object] = []

        async def work(number: int) -> None:
            found.append((await durable.store.read(durable.channel("room"), after=number, limit=9)).top.offset)
            found.append((await durable.store.append(durable.channel("room"), Draft(b"%d" % number))).position)

        works = [work(number) for number in range(3)]
        awaited: list[object] = []
        asyncio.get_running_loop().call_soon(lambda: awaited.extend(first_step(item) for item in works))
        await asyncio.sleep(0)
        assert all(isinstance(item, asyncio.Future) for item in awaited)
        async with asyncio.TaskGroup() as group:
            for item, future in zip(works, awaited, strict=True):
                group.create_task(_finish(item, future))

        assert 3 == sum(isinstance(item, int) for item in found)
        assert {3, 4, 5} == {item.offset for item in found if isinstance(item, Position)}


async def _finish(work: Coroutine[Any, Any, None], awaited: object) -> None:
    await rest(work, awaited)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=6)),
        st.tuples(st.just("append"), st.sampled_from(["unavailable", "lost", "committed", "defect", "refused"])),
        st.tuples(st.just("heads"), st.just("unavailable")),
        st.tuples(st.just("late"), st.just(None)),
        st.tuples(st.just("kill"), st.booleans()),
        st.tuples(st.just("lose"), st.booleans()),
        st.tuples(st.just("remember"), st.just(None)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 200.0])),
    ),
    max_size=25,
)


class Model:
    """What must hold, whatever happens.

    Attributes:
        acknowledged: By channel and offset, what a publisher was told is there.
        seen: By channel, what a subscriber that always comes back got, in order.
    """

    def __init__(self) -> None:
        self.tables = Tables()
        self.clock = ManualClock()
        self.acknowledged: dict[tuple[str, int], bytes] = {}
        self.by_key: dict[tuple[str, str], tuple[float, int]] = {}
        self.seen: dict[str, list[bytes]] = {"a": [], "b": []}
        self.published = 0

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Durable]:
        """Run a process; its predecessor is gone, and its token with it."""
        self.tables.token += 1
        async with running(self.tables, clock=self.clock) as durable:
            durable.is_sleepless, durable.resolve = True, self.channel
            await self.recover(durable)
            yield durable

    async def recover(self, durable: Durable) -> None:
        """Let the subscriber come back, and from then on get what is delivered."""
        for name, seen in self.seen.items():
            page = await durable.store.read(self.channel(name), after=len(seen), limit=1000)
            assert [item.offset for item in page.items] == list(range(len(seen) + 1, page.top.offset + 1))
            seen += [item.data for item in page.items]
        durable.store.use(self.deliver)

    def deliver(self, name: str, publication: Publication, epoch: str) -> None:
        """Get a publication."""
        assert epoch == "database"
        assert publication.offset == len(self.seen[name]) + 1
        self.seen[name].append(publication.data)

    @staticmethod
    def channel(name: str) -> Channel:
        """Return one that keeps all there is."""
        return Durable.channel(name, history_size=1000, history_ttl=1e6)

    async def publish(self, durable: Durable, what: list[tuple[str, int]]) -> None:
        """Publish some at the same time; a number above 0 is a key."""
        async with asyncio.TaskGroup() as group:
            for name, number in what:
                group.create_task(self.publish_one(durable, name, f"k{number}" if number else ""))

    async def publish_one(self, durable: Durable, name: str, key: str) -> None:
        """Publish something that was never published before, and remember the answer."""
        self.published += 1
        data = b"%d" % self.published
        started_at = self.clock.wall()
        try:
            position, publication = await durable.store.append(self.channel(name), Draft(data, idempotency_key=key))
        except NotCommitted:
            return
        assert position is not None
        if publication is not None:
            assert self.acknowledged.setdefault((name, position.offset), data) == data
            # It is there before the answer.
            assert self.seen[name][position.offset - 1] == data
        known = self.by_key.get((name, key))
        if key and known is not None and started_at - known[0] < 300.0:
            assert position.offset == known[1]
        elif key:
            # It may have been published by an attempt that was never acknowledged, and counts from then on.
            self.by_key[name, key] = (self.tables.publications[name][position.offset].at, position.offset)

    def check(self) -> None:
        """Compare with what the database holds."""
        for name, seen in self.seen.items():
            kept = self.tables.publications.get(name, {})
            assert list(kept) == list(range(1, len(kept) + 1))
            assert [item.data for item in kept.values()] == seen
            assert len(set(seen)) == len(seen)
        for (name, offset), data in self.acknowledged.items():
            assert self.seen[name][offset - 1] == data


FAULTS: dict[str, Callable[[], Fault]] = {
    "unavailable": Fault.unavailable,
    "lost": lambda: Fault.unknown(is_committed=False),
    "committed": lambda: Fault.unknown(is_committed=True),
    "defect": lambda: Fault(OSError("a defect"), is_committed=True),
    "refused": lambda: Fault(RowsRefused("bad", [0])),
}


@settings(max_examples=300, deadline=None)
@given(st.lists(OPERATIONS, min_size=1, max_size=4))
async def test_whatever_happens(lives: list[list[tuple[str, Any]]]) -> None:
    """What was acknowledged is there; everybody sees one sequence without gaps; no place is given twice."""
    model = Model()
    for operations in lives:
        async with model.process() as durable:
            await live(model, durable, operations)
    async with model.process():
        model.check()


async def live(  # noqa: C901 - a branch for each operation
    model: Model, durable: Durable, operations: list[tuple[str, Any]]
) -> None:
    """Do what a process does until it is killed."""
    for kind, what in operations:
        if kind == "kill":
            await kill(model, durable, is_committed=what)
            return
        if kind == "publish":
            await model.publish(durable, what)
        elif kind in ("append", "heads"):
            durable.tables.fail(kind, FAULTS[what]())
        elif kind == "late" and durable.tables.is_lost:
            durable.tables.commit_late()
        elif kind == "wait":
            model.clock.advance(what)
            durable.store.expire(model.clock.now(), model.seen)
        elif kind == "remember":
            await durable.store.tend()
        elif kind == "lose":
            await lose_tenure(model, durable, is_told=what)
    await works_again(model, durable)


async def works_again(model: Model, durable: Durable) -> None:
    """Assert that whatever it was passes by itself; the first to publish may still find something that came late."""
    durable.tables.faults.clear()
    await model.publish(durable, [("a", 0), ("b", 0)])
    before = len(model.acknowledged)
    await model.publish(durable, [("a", 0), ("b", 0)])
    assert before + 2 == len(model.acknowledged)
    assert not durable.store.degraded


async def lose_tenure(model: Model, durable: Durable, *, is_told: bool) -> None:
    """Let another process serve for a while, and this one again after it."""
    durable.tables.faults.clear()
    durable.tenure.end()
    if is_told:
        durable.store.reset()
    async with model.process() as other:
        await model.publish(other, [("a", 1), ("b", 0)])
    model.tables.token += 1
    durable.tenure.begin(model.tables.token, model.clock.boot() + 1e9)
    durable.store.reset()
    await model.recover(durable)


async def kill(model: Model, durable: Durable, *, is_committed: bool) -> None:
    """End the process while a commit is under way."""
    durable.tables.faults.clear()
    durable.hold("append")
    async with asyncio.TaskGroup() as group:
        group.create_task(model.publish(durable, [("a", 0), ("b", 1), ("a", 2)]))
        await durable.until_held()
        if is_committed:
            durable.tables.commit_late()
        await durable.background.end(patience_seconds=0)
