from __future__ import annotations

import asyncio
import threading

from service.realtime.instance import Background
from tests.support.observer import RecordingObserver


class TestBackground:
    """Where commands that have to wait go on."""

    async def test_end_cancels_what_never_returns(self) -> None:
        """A handler of the application must not keep the process alive; what ends in time is left to end."""
        observer, patient, ended = RecordingObserver(), asyncio.Event(), []
        background = Background(observer.failed)

        async def never() -> None:
            patient.set()
            await asyncio.Event().wait()

        async def soon() -> None:
            await patient.wait()
            ended.append("soon")

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            background.use(group)
            background.spawn(never())
            background.spawn(soon())
            await background.end(patience_seconds=0.05)

        assert ["soon"] == ended
        assert not background._tasks
        assert ["1 still ran 0.05 s after the drain"] == [str(failure) for failure in observer.failures]

    async def test_spawns_from_a_thread(self) -> None:
        """Litestar runs handlers that are no coroutines in threads; the work itself runs where all of ours does."""
        background, threads = Background(RecordingObserver().failed), list[int]()
        done = asyncio.Event()

        async def work() -> None:
            threads.append(threading.get_ident())
            done.set()

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            background.use(group)
            await asyncio.to_thread(background.spawn, work())
            await done.wait()

        assert [threading.get_ident()] == threads

    async def test_end_of_nothing(self) -> None:
        """There is nothing to wait for."""
        async with asyncio.timeout(10):
            await Background(RecordingObserver().failed).end(patience_seconds=3600)
