"""Waiting without an event loop: what a test opens by hand, and what runs until it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from service.core.codes import Errors
from service.errors import DatabaseError, NotCommitted
from service.realtime.ports import Appended, Draft, StreamStore, Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Generator

    from service.core.namespaces import Channel
    from service.core.recovery import Page
    from service.core.stream import Publication

__all__ = ("Gate", "ManualTasks", "WaitingStreams")


class Gate:
    """Something to wait for; open until a test closes it."""

    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        """Let nobody through from now on."""
        self.is_open = False

    def open(self) -> None:
        """Let everybody through, at the next run of the tasks."""
        self.is_open = True

    def __await__(self) -> Generator[Gate, None, None]:
        while not self.is_open:
            yield self


class ManualTasks(Tasks):
    """Background work that goes on when a test says so."""

    def __init__(self) -> None:
        self._running: list[tuple[Coroutine[Any, Any, None], Gate | None]] = []

    def __len__(self) -> int:
        return len(self._running)

    @override
    def spawn(self, work: Coroutine[object, object, None]) -> None:
        self._running.append((work, None))

    def run(self) -> bool:
        """Take every task as far as it gets; False when none got any further."""
        running, self._running = self._running, []
        moved = False
        for work, gate in running:
            if gate is not None and not gate.is_open:
                self._running.append((work, gate))
                continue
            moved = True
            try:
                self._running.append((work, work.send(None)))
            except StopIteration:
                continue
        return moved


class WaitingStreams(StreamStore):
    """A store that has to wait for something, such as a database.

    Args:
        store: Does the work.

    Attributes:
        reads: Closed by a test: reads wait there, after they have seen the stream.
        appends: Closed by a test: appends wait there, before the stream is changed.
        broken: Why nothing can be read or kept, as of a database; None while all is well.
    """

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self.reads = Gate()
        self.appends = Gate()
        self.broken: DatabaseError | None = None

    @override
    def use(self, deliver: Callable[[str, Publication, str], None]) -> None:
        self._store.use(deliver)

    @override
    async def append(self, channel: Channel, draft: Draft) -> Appended:
        await self.appends
        if self.broken is not None:
            raise NotCommitted(Errors.INTERNAL)
        return await self._store.append(channel, draft)

    @override
    async def read(self, channel: Channel, *, after: int, limit: int) -> Page:
        page = await self._store.read(channel, after=after, limit=limit)
        await self.reads
        if self.broken is not None:
            raise self.broken
        return page

    @override
    async def read_back(self, channel: Channel, *, before: int, limit: int) -> Page:
        page = await self._store.read_back(channel, before=before, limit=limit)
        await self.reads
        if self.broken is not None:
            raise self.broken
        return page

    @override
    async def remove(self, channel: Channel) -> None:
        if self.broken is not None:
            raise NotCommitted(Errors.INTERNAL)
        await self._store.remove(channel)

    @override
    async def diverged(self, channel: Channel) -> None:
        await self._store.diverged(channel)

    @override
    def expire(self, now: float, watched: Collection[str]) -> None:
        self._store.expire(now, watched)
