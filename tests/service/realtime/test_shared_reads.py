from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.errors import DatabaseUnavailable
from service.realtime.instance import Background
from service.realtime.shared_reads import SharedReads
from tests.support.backstage import Recorder


class Source:
    """Something slow to read from.

    Attributes:
        gate: Closed: reads wait.
        failures: Raised by the next reads.
    """

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, key: str) -> str:
        """Read a value."""
        self.reads.append(key)
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop()
        return key.upper()


class Shared:
    """What is tested, and what is around it."""

    def __init__(self) -> None:
        self.source = Source()
        self.observer = Recorder()
        self.background = Background(self.observer.failed)
        self.reads = SharedReads[str, str](
            self.source.read, name="source", tasks=self.background, observer=self.observer
        )


@pytest.fixture
async def shared() -> AsyncIterator[Shared]:
    """One that runs."""
    shared = Shared()
    async with asyncio.TaskGroup() as group:
        shared.background.use(group)
        yield shared
        await shared.background.end(patience_seconds=0.0)


async def test_value_is_read_once(shared: Shared) -> None:
    """For all who ask while it is read, and for those after them."""
    shared.source.gate.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(shared.reads.load("a")) for _ in range(100)]
        await asyncio.sleep(0)
        shared.source.gate.set()

    assert {"A"} == {task.result() for task in tasks}
    assert "A" == await shared.reads.load("a")
    assert ["a"] == shared.source.reads == list(shared.reads)


async def test_failure_is_told_to_all_and_not_kept(shared: Shared) -> None:
    """A defect as well, which is noted besides."""
    for failure in (DatabaseUnavailable("down"), ZeroDivisionError()):
        shared.source.failures = [failure]
        with pytest.raises(DatabaseUnavailable):
            await shared.reads.load("a")
    assert ["source"] == [where for where, _ in shared.observer.failures]
    assert "a" not in shared.reads
    assert "A" == await shared.reads.load("a")


async def test_reset_ends_the_wait_and_the_read_does_not_count(shared: Shared) -> None:
    """What began to be read before is out of date after."""
    shared.source.gate.clear()

    async def refused() -> None:
        with pytest.raises(DatabaseUnavailable):
            await shared.reads.load("a")

    async with asyncio.TaskGroup() as group:
        group.create_task(refused())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        shared.reads.reset()
    shared.reads.put("a", "newer")
    shared.source.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)

    assert "newer" == shared.reads.get("a")


async def test_nothing_is_read_before_the_start() -> None:
    """Who asks is told, and may ask again."""
    shared = Shared()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await shared.reads.load("a")
    assert [] == shared.source.reads
