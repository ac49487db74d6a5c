from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from service.core.stream import Position
from service.realtime import memory_streams
from service.realtime.memory_streams import MemoryStreams
from service.realtime.ports import Draft, StreamStore
from service.realtime.steps import DONE, first_step
from tests.conformance.stream_store import StreamStoreSuite, channel, everything
from tests.support.clock import ManualClock
from tests.support.ids import SequentialIds


def streams(clock: ManualClock, *, top_seconds: float = 86_400.0) -> MemoryStreams:
    """Return an empty store."""
    return MemoryStreams(now=clock.now, new_epoch=SequentialIds().epoch, top_seconds=top_seconds)


class TestMemoryStreams(StreamStoreSuite):
    """The suite of every store."""

    @override
    @pytest.fixture
    def store(self, clock: ManualClock) -> StreamStore:
        return streams(clock)


class TestMemory:
    """What is its own."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time that the store is told."""
        return ManualClock()

    def test_nothing_suspends(self) -> None:
        """A command on a channel in memory is decided without a task."""
        store = streams(ManualClock())

        async def work() -> None:
            await store.append(channel(), Draft(b"1"))
            await store.read(channel(), after=0, limit=1)
            await store.read_back(channel(), before=5, limit=1)
            await store.remove(channel())

        assert DONE is first_step(work())

    async def test_memory_is_bounded_over_all_streams(self) -> None:
        """At the bound everything is kept; one byte past it the oldest publication goes, wherever it is."""
        store = MemoryStreams(now=ManualClock().now, new_epoch=SequentialIds().epoch, max_bytes=30)
        for name in ("a", "b", "a"):
            await store.append(channel(name), Draft(b"x" * 10))
        assert [2, 1] == [len((await store.read(channel(name), after=0, limit=9)).items) for name in "ab"]

        await store.append(channel("c"), Draft(b"x"))

        page = await store.read(channel("a"), after=0, limit=9)
        assert ([2], 2) == ([item.offset for item in page.items], page.top.offset)
        assert 1 == len((await store.read(channel("b"), after=0, limit=9)).items)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["append", "append", "remove", "wait"]))))
    async def test_bytes_are_counted_right(self, operations: list[tuple[str, str]]) -> None:
        """Whatever drops a publication: its stream's size or age, the bound, or a removal."""
        clock = ManualClock()
        store = MemoryStreams(now=clock.now, new_epoch=SequentialIds().epoch, max_bytes=25)
        for name, operation in operations:
            where = channel(name, history_size=3, history_ttl=5.0)
            if operation == "append":
                await store.append(where, Draft(b"x" * 7))
            elif operation == "remove":
                await store.remove(where)
            else:
                clock.advance(2.0)
            store.expire(clock.now(), ())

            kept = [len((await store.read(channel(known), after=0, limit=9)).items) for known in "abc"]
            assert 7 * sum(kept) == store._bytes <= 25

    async def test_order_holds_no_more_than_history(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One publication that is kept for long does not keep the places of all that were made after it."""
        monkeypatch.setattr(memory_streams, "_TIDY_FROM", 20)
        store = streams(ManualClock())
        await store.append(channel("quiet"), Draft(b"0"))
        for _ in range(1000):
            await store.append(channel("busy"), Draft(b"1"))
        kept = sum(len(stream) for stream in store._streams.values())
        assert len(store._order) <= 2 * kept + 21

    async def test_sweep_takes_its_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A call looks at some streams alone, since everybody waits for it, and the next calls at the others."""
        monkeypatch.setattr(memory_streams, "_SWEPT_AT_ONCE", 3)
        clock = ManualClock()
        store = streams(clock, top_seconds=200.0)
        for number in range(10):
            await store.append(channel(f"room{number}"), Draft(b"1"))
        clock.advance(400.0)
        left = []
        for _ in range(4):
            store.expire(clock.now(), {"room4"})
            left.append(len(store))
        assert [7, 5, 2, 1] == left
        assert ["room4"] == list(store._streams)

    async def test_forgets_the_empty_ones_when_there_are_too_many(self) -> None:
        """A new name with every publication must not fill the memory for a day; history is kept all the same."""
        clock = ManualClock()
        store = MemoryStreams(now=clock.now, new_epoch=SequentialIds().epoch, max_streams=4)
        for number in range(10):
            await store.append(channel(f"room{number}"), Draft(b"1"))
        store.expire(clock.now(), {})
        assert 10 == len(store)
        before = (await store.read(channel("room0"), after=0, limit=0)).top
        clock.advance(400.0)
        store.expire(clock.now(), {"room9"})
        assert 4 == len(store)
        assert "room9" in store._streams
        assert before.epoch != (await store.read(channel("room0"), after=0, limit=0)).top.epoch

    async def test_forgets_what_is_old(self) -> None:
        """No table grows for ever: neither streams, nor keys, nor promises."""
        clock = ManualClock()
        store = streams(clock, top_seconds=200.0)
        for number in range(10):
            await store.append(channel(f"room{number}"), Draft(b"1", idempotency_key="k"))
        clock.advance(250.0)
        await store.append(channel("young"), Draft(b"1", idempotency_key="k"))
        store.expire(clock.now(), {"watched"})
        assert 1 == len(store)
        assert {"watched"} == store._promised.keys()
        assert 11 == len(store._results)
        clock.advance(50.0)
        store.expire(clock.now(), {})
        assert [("young", "k")] == list(store._results)
        clock.advance(300.0)
        store.expire(clock.now(), {})

        assert 0 == len(store)
        assert {} == store._promised
        assert {} == store._results

    async def test_keys_without_a_stream_are_kept_apart_from_it(self) -> None:
        """A channel without history has a result and no stream."""
        store = streams(ManualClock())
        await store.append(channel(history_size=0, history_ttl=0), Draft(b"1", idempotency_key="k"))

        assert 0 == len(store)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["append", "watch", "leave", "wait"]), st.sampled_from("abc"), st.integers(1, 9)),
            max_size=40,
        )
    )
    async def test_a_position_never_comes_back_for_something_else(self, operations: list[tuple[str, str, int]]) -> None:
        """An offset in an epoch is given once; a watched channel never changes its epoch."""
        clock = ManualClock()
        store = streams(clock, top_seconds=10.0)
        given_out: dict[str, set[tuple[str, int]]] = {name: set() for name in "abc"}
        watched: dict[str, str] = {}
        for operation, name, seconds in operations:
            where = channel(name, history_ttl=5.0)
            if operation == "append":
                (position, _) = await store.append(where, Draft(b"1"))
                assert position is not None
                assert (position.epoch, position.offset) not in given_out[name]
                assert watched.get(name, position.epoch) == position.epoch
                given_out[name].add((position.epoch, position.offset))
            elif operation == "watch":
                watched.setdefault(name, (await store.read(where, after=0, limit=0)).top.epoch)
            elif operation == "leave":
                watched.pop(name, None)
            else:
                clock.advance(seconds)
            store.expire(clock.now(), watched)
            for known, epoch in watched.items():
                assert epoch == (await store.read(channel(known), after=0, limit=0)).top.epoch

    async def test_a_forgotten_stream_begins_with_another_epoch(self, clock: ManualClock) -> None:
        """Offsets begin again, and must not look like those of before."""
        store = streams(clock)
        (position, _) = await store.append(channel(), Draft(b"1"))
        assert position is not None
        clock.advance(86_400.0)
        store.expire(clock.now(), {})
        page = await everything(store, channel())

        assert 0 == page.top.offset
        assert position.epoch != page.top.epoch
        (again, _) = await store.append(channel(), Draft(b"1"))
        assert Position(1, page.top.epoch) == again

    async def test_promises_to_members_end_with_the_last_of_them(self, clock: ManualClock) -> None:
        """What nobody waits for any more is not remembered."""
        store = streams(clock)
        told = (await everything(store, channel("watched"))).top
        await store.append(channel("other"), Draft(b"1"))
        clock.advance(86_400.0)
        store.expire(clock.now(), {"watched"})
        store.expire(clock.now(), {})

        assert told != (await everything(store, channel("watched"))).top

    async def test_reset_goes_on_from_nowhere(self, clock: ManualClock) -> None:
        """Nobody takes what comes for the continuation of what was."""
        store = streams(clock)
        before = (await store.append(channel(), Draft(b"1", idempotency_key="k"))).position
        store.reset()
        page = await everything(store, channel())
        again = await store.append(channel(), Draft(b"1", idempotency_key="k"))

        assert before is not None
        assert (0, False) == (page.top.offset, page.top.epoch == before.epoch)
        assert Position(1, page.top.epoch) == again.position
