from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.core.codes import Error, Errors
from service.core.namespaces import Channel
from service.errors import DatabaseUnavailable
from service.realtime import stream_trimmer
from tests.support.durable import Durable, running


@pytest.fixture
async def durable() -> AsyncIterator[Durable]:
    """A process; its channels keep ten publications for 100 s."""
    async with running() as durable:
        yield durable


def kept(durable: Durable, name: str = "room") -> list[int]:
    """Return what is in the database."""
    return list(durable.tables.tables.publications.get(name, {}))


@pytest.mark.parametrize(("count", "lowest"), [(10, 1), (11, 2), (25, 16)])
async def test_trims_to_the_size(durable: Durable, count: int, lowest: int) -> None:
    """At the size and past it; the top stays."""
    await durable.fill(count)
    await durable.store.tend()

    assert list(range(lowest, count + 1)) == kept(durable)
    assert count == durable.tables.tables.streams["room"].top


async def test_trims_what_is_too_old(durable: Durable) -> None:
    """By the time of day, also in channels that nobody publishes to any more."""
    await durable.fill(2)
    durable.clock.advance(50.0)
    await durable.fill(2, first=3)
    durable.clock.advance(50.0)
    await durable.store.tend()
    assert [3, 4] == kept(durable)

    durable.clock.advance(50.0)
    await durable.store.tend()

    assert [] == kept(durable)
    await durable.fill(1, first=5)
    assert [5] == kept(durable)


async def test_goes_round_all_channels_a_batch_at_a_time(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that this process has never touched; and begins again."""
    monkeypatch.setattr(stream_trimmer, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(stream_trimmer, "_BATCHES_AT_ONCE", 3)
    monkeypatch.setattr(stream_trimmer, "_CHANNELS_AT_ONCE", 2)
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        await durable.fill(13, name)
    steps = 0
    while any(len(kept(durable, name)) > 10 for name in names):
        await durable.store.tend()
        steps += 1
        assert steps < 20

    assert [list(range(4, 14))] * 5 == [kept(durable, name) for name in names]
    await durable.fill(1, "a", first=14)
    for _ in range(10):
        await durable.store.tend()
    assert list(range(5, 15)) == kept(durable, "a")


async def test_leaves_what_it_does_not_know(durable: Durable) -> None:
    """A namespace that is gone may come back, and one that is kept in memory now may be durable again."""
    await durable.fill(12, "gone")
    await durable.fill(12, "memory")

    def resolve(name: str) -> Channel | Error:
        return Errors.UNKNOWN_CHANNEL if name == "gone" else durable.channel(name, durability="memory")

    durable.resolve = resolve
    await durable.store.tend()

    assert [12, 12] == [len(kept(durable, name)) for name in ("gone", "memory")]


async def test_deletes_old_results(durable: Durable) -> None:
    """A while after their keys stopped counting."""
    await durable.publish(idempotency_key="a")
    durable.clock.advance(200.0)
    await durable.publish(idempotency_key="b")
    durable.clock.advance(100.0)
    await durable.store.tend()

    assert [("room", "b")] == list(durable.tables.tables.results)


async def test_does_nothing_without_a_tenure(durable: Durable) -> None:
    """Whoever serves now does it."""
    await durable.fill(12)
    durable.tenure.end()
    await durable.store.tend()

    assert 12 == len(kept(durable))


async def test_finds_out_that_another_instance_has_taken_over(durable: Durable) -> None:
    """Also when nobody publishes."""
    await durable.fill(12)
    durable.tables.tables.token = 2
    await durable.store.tend()

    assert (1, "") == (durable.overtaken, durable.store.degraded)


async def test_trouble_is_noted_and_passes(durable: Durable) -> None:
    """What was under way goes on later."""
    await durable.fill(12)
    durable.tables.broken = DatabaseUnavailable("gone")
    await durable.store.tend()
    assert "gone" == durable.store.degraded

    durable.tables.broken = None
    await durable.store.tend()
    await durable.store.tend()

    assert 10 == len(kept(durable))


async def test_runs_until_it_is_cancelled(durable: Durable) -> None:
    """A defect stops it no more than trouble does."""
    await durable.fill(12)
    durable.background.spawn(durable.store.run())

    def fail(name: str) -> Channel | Error:
        raise OSError(f"a defect at {name}")

    durable.resolve = fail
    for _ in range(2):
        await durable.end_nap()
    durable.resolve = durable.channel
    for _ in range(2):
        await durable.end_nap()

    assert 10 == len(kept(durable))
    assert "a defect at room" == str(durable.observer.failures[0])


async def test_deletes_many_results(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few batches at a time."""
    monkeypatch.setattr(stream_trimmer, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(stream_trimmer, "_BATCHES_AT_ONCE", 3)
    for number in range(7):
        await durable.publish(idempotency_key=f"k{number}")
    durable.clock.advance(300.0)
    left = []
    for _ in range(2):
        await durable.store.tend()
        left.append(len(durable.tables.tables.results))

    assert [1, 0] == left
