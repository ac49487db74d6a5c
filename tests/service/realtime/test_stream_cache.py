from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.core.recovery import Page
from service.errors import DatabaseUnavailable
from service.realtime.durable_streams import DurableLimits
from service.realtime.ports import Draft
from service.realtime.stream_cache import CacheLimits
from tests.support.clock import ManualClock
from tests.support.durable import Durable, running
from tests.support.stream_tables import Fault, Tables

HUGE = 2**63 - 1


@pytest.fixture
async def durable() -> AsyncIterator[Durable]:
    """A process that knows nothing of its database, in which ten publications are kept in a channel."""
    tables, clock = Tables(), ManualClock()
    async with running(tables, clock=clock) as before:
        await before.fill(10)
    async with running(tables, clock=clock) as durable:
        yield durable


def offsets(page: Page) -> list[int]:
    """Return where they stand."""
    return [item.offset for item in page.items]


async def at_once(durable: Durable, *afters: int) -> list[Page]:
    """Let many read at the same time."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(durable.read(after=after, limit=300)) for after in afters]
    return [task.result() for task in tasks]


def reads(durable: Durable) -> int:
    """Return how often publications were read from the database."""
    return durable.tables.calls["read"] + durable.tables.calls["read_back"]


class TestSharing:
    """Many come back at once."""

    async def test_one_read_serves_everybody(self, durable: Durable) -> None:
        """Wherever each of them was, and those who come later too."""
        pages = await at_once(durable, *range(10), *range(10))
        later = await at_once(durable, 0, 5)

        assert [10 - after for after in [*range(10)] * 2] == [len(page.items) for page in pages]
        assert [list(range(1, 11)), list(range(6, 11))] == [offsets(page) for page in later]
        assert (1, 1) == (durable.tables.calls["heads"], reads(durable))

    async def test_heads_of_many_channels_are_one_question(self, durable: Durable) -> None:
        """Of those that are asked for in one turn of the loop."""
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(durable.read(f"c{number % 25}", limit=0))

        assert 1 == durable.tables.calls["heads"]

    async def test_what_is_known_is_read_without_waiting(self, durable: Durable) -> None:
        """Even the top of a channel that does not exist."""
        for name in ("room", "other"):
            await durable.read(name, limit=300)
        durable.tables.broken = DatabaseUnavailable("gone")

        assert [10, 0] == [(await durable.read(name)).top.offset for name in ("room", "other")]

    async def test_who_goes_away_takes_nothing_from_others(self, durable: Durable) -> None:
        """The question is everybody's."""
        for method in ("heads", "read_back"):
            gate = durable.hold(method)
            async with asyncio.TaskGroup() as group:
                gone = group.create_task(durable.read())
                stays = group.create_task(durable.read())
                await durable.until_held()
                gone.cancel()
                await asyncio.sleep(0)
                gate.set()

            assert 10 == len(stays.result().items)
            durable.store.reset()

    @pytest.mark.parametrize("method", ["epoch", "heads", "read_back"])
    async def test_a_failure_is_everybodys_and_passes(self, durable: Durable, method: str) -> None:
        """Nothing wrong is remembered."""
        durable.tables.fail(method, Fault.unavailable("gone"))
        counts: list[list[int]] = []
        for _ in range(2):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._try(durable)) for _ in range(3)]
            counts.append([task.result() for task in tasks])

        assert [[-1] * 3, [10] * 3] == counts
        assert "" == durable.store.degraded

    @staticmethod
    async def _try(durable: Durable) -> int:
        try:
            return len((await durable.read()).items)
        except DatabaseUnavailable:
            return -1

    async def test_a_defect_does_not_leave_anybody_waiting(self, durable: Durable) -> None:
        """It is noted, and those who wait are refused."""
        for method in ("heads", "read_back"):
            durable.tables.fail(method, Fault(OSError("a defect")))
            assert -1 == await self._try(durable)
        assert 10 == await self._try(durable)
        assert ["a defect"] * 2 == [str(failure) for failure in durable.observer.failures]

    async def test_reading_needs_a_tenure(self, durable: Durable) -> None:
        """What another instance commits cannot be known."""
        await durable.read()
        durable.tenure.end()

        with pytest.raises(DatabaseUnavailable):
            await durable.read()

    @pytest.mark.parametrize("method", ["heads", "read_back"])
    async def test_what_comes_for_an_earlier_tenure_is_not_taken_in(self, durable: Durable, method: str) -> None:
        """Others may have published since it was read."""
        gate = durable.hold(method)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._try(durable))
            await durable.until_held()
            durable.tenure.end()
            durable.store.reset()
            assert -1 == await task
            async with running(durable.tables.tables, clock=durable.clock) as other:
                await other.fill(1, first=11)
            durable.tables.tables.token = 2
            durable.tenure.begin(2, durable.clock.boot())
            gate.set()
        page = await durable.read(after=8)

        assert [9, 10, 11] == offsets(page)
        held = sum(stream.window.bytes for stream in durable.store._cache.streams.values())
        assert held == durable.store._cache._bytes


class TestPages:
    """What a page holds."""

    async def test_what_is_being_committed_is_cut_off(self, durable: Durable) -> None:
        """It is in the database already, and nobody was told yet."""
        await durable.read(limit=0)
        gate = durable.hold("append", Fault.unknown(is_committed=True))
        tops = []
        async with asyncio.TaskGroup() as group:
            group.create_task(durable.publish(b"11"))
            await durable.until_held()
            assert durable.tables.commit_late()
            tops.append(offsets(await durable.read(after=7, limit=300)))
            gate.set()

        assert [[8, 9, 10]] == tops

    async def test_what_is_committed_during_a_read_is_in_it(self) -> None:
        """A reader must not get a page that ends before the top that it is told."""
        tables, clock = Tables(), ManualClock()
        limits = DurableLimits(cache=CacheLimits(page_size=4, tail_size=4))
        async with running(tables, clock=clock) as before:
            await before.fill(10)
        async with running(tables, clock=clock, limits=limits) as durable:
            await durable.publish(b"11")
            gate = durable.hold("read")
            async with asyncio.TaskGroup() as group:
                task = group.create_task(durable.read(after=2, limit=300))
                await durable.until_held()
                items = dict(tables.publications["room"])
                await durable.publish(b"12")
                # What the read saw was from before.
                after, tables.publications["room"] = tables.publications["room"], items
                gate.set()
                await task
                tables.publications["room"] = after

            assert list(range(3, 13)) == offsets(task.result())
            assert 12 == task.result().top.offset

    async def test_who_missed_more_has_more_read_for_all(self) -> None:
        """In a few steps, up to a bound; past that everybody reads alone."""
        tables, clock = Tables(), ManualClock()
        limits = DurableLimits(cache=CacheLimits(page_size=4, tail_size=40))
        async with running(tables, clock=clock) as before:
            for number in range(60):
                await before.store.append(Durable.channel(history_size=100), Draft(b"%d" % number))
        async with running(tables, clock=clock, limits=limits) as durable:
            seen = []
            for after in (58, 57, 50, 45, 25, 20, 19, 18):
                page = await durable.store.read(Durable.channel(history_size=100), after=after, limit=300)
                assert list(range(after + 1, 61)) == offsets(page)
                seen.append(reads(durable))

        assert [1, 1, 2, 2, 3, 3, 4, 5] == seen

    @pytest.mark.parametrize("page_size", [3, 4, 300])
    @pytest.mark.parametrize("held_bytes", [0, 5, 1000])
    async def test_windows_change_nothing_that_a_reader_sees(self, page_size: int, held_bytes: int) -> None:
        """Whatever is held in memory, and in whichever order it was asked for."""
        tables, clock = Tables(), ManualClock()
        limits = DurableLimits(cache=CacheLimits(page_size=page_size, held_bytes=held_bytes))
        async with running(tables, clock=clock) as before:
            await before.fill(14)
        for first in range(6):
            async with running(tables, clock=clock, limits=limits) as durable:
                for after in range(first, 16):
                    page = await durable.read(after=after, limit=5)
                    assert list(range(max(5, after + 1), 15))[:5] == offsets(page)
                for before_offset in (HUGE, 15, 14, 9, 6, 5, 4, 1):
                    back = await durable.store.read_back(durable.channel(), before=before_offset, limit=5)
                    assert [offset for offset in range(14, 4, -1) if offset < before_offset][:5] == offsets(back)

    async def test_memory_is_bounded_over_all_streams(self) -> None:
        """The oldest is forgotten first; the database still has it."""
        async with running(limits=DurableLimits(cache=CacheLimits(held_bytes=30))) as durable:
            for number, name in enumerate("aab"):
                await durable.publish(b"%d" % number * 10, name)
            assert [2, 1] == [len((await durable.read(name)).items) for name in "ab"]
            assert 0 == reads(durable)

            await durable.publish(b"x", "c")

            assert 1 == len((await durable.read("a", after=1)).items)
            assert 0 == reads(durable)
            assert 2 == len((await durable.read("a")).items)
            assert 0 < reads(durable)

    async def test_a_page_is_bounded_in_bytes(self) -> None:
        """It ends before the top then, and whoever wants to recover is told that he cannot."""
        tables, clock = Tables(), ManualClock()
        async with running(tables, clock=clock) as before:
            for _ in range(5):
                await before.publish(b"x" * 100)
        limits = DurableLimits(cache=CacheLimits(page_bytes=300))
        async with running(tables, clock=clock, limits=limits) as durable:
            page = await durable.read()
            assert [1, 2, 3] == offsets(page)[:3]
            assert [3, 4, 5] == offsets(await durable.read(after=2))
            assert 5 == page.top.offset

    async def test_a_gap_at_the_beginning_is_remembered(self, durable: Durable) -> None:
        """What was trimmed is not looked for again and again."""
        for offset in range(1, 6):
            del durable.tables.tables.publications["room"][offset]
        assert [6, 7, 8, 9, 10] == offsets(await durable.read())
        seen = reads(durable)

        assert [[6, 7, 8, 9, 10]] * 2 == [offsets(page) for page in await at_once(durable, 0, 3)]
        assert seen == reads(durable)

    async def test_time_to_live_holds_for_what_is_read(self, durable: Durable) -> None:
        """By the time of day, which is all that a restart leaves."""
        durable.clock.advance(50)
        await durable.fill(1, first=11)
        durable.clock.advance(50)

        assert [11] == offsets(await durable.read())
        assert [11] == offsets(await durable.store.read_back(durable.channel(), before=HUGE, limit=10))
        durable.clock.advance(50)
        assert [] == offsets(await durable.read())

    async def test_removal_during_a_read_wins(self, durable: Durable) -> None:
        """What was read before is not shown after."""
        await durable.read(limit=0)
        gate = durable.hold("read_back")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(durable.read())
            await durable.until_held()
            await durable.store.remove(durable.channel())
            gate.set()

        assert [] == offsets(task.result())
        assert 10 == task.result().top.offset


class TestForgetting:
    """Streams that nobody needs."""

    async def test_an_empty_stream_is_forgotten_unless_somebody_listens(self, durable: Durable) -> None:
        """It is read again when somebody comes."""
        await durable.read("watched", limit=0)
        await durable.read("other", limit=0)
        durable.store.expire(durable.clock.now(), {"watched"})
        calls = durable.tables.calls["heads"]
        await durable.read("watched", limit=0)
        assert calls == durable.tables.calls["heads"]
        await durable.read("other", limit=0)

        assert calls + 1 == durable.tables.calls["heads"]

    @pytest.mark.parametrize(("most", "asked"), [(1, 0), (0, 1)])
    async def test_too_many_streams_are_forgotten_though_they_hold_something(self, most: int, asked: int) -> None:
        """At the bound and one past it."""
        async with running(limits=DurableLimits(cache=CacheLimits(streams=most))) as durable:
            await durable.fill(1)
            before = durable.tables.calls["heads"]
            durable.store.expire(durable.clock.now(), ())

            assert [1] == offsets(await durable.read())
            assert before + asked == durable.tables.calls["heads"]

    async def test_a_stream_that_is_committed_to_is_not_forgotten(self, durable: Durable) -> None:
        """Its new top has to be put somewhere."""
        gate = durable.hold("append")
        async with asyncio.TaskGroup() as group:
            group.create_task(durable.publish(b"11"))
            await durable.until_held()
            durable.store.expire(durable.clock.now(), ())
            assert 10 == (await durable.read(limit=0)).top.offset
            gate.set()

        assert [11] == offsets(await durable.read(after=10))
