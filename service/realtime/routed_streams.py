"""Streams in memory or in a database, as the channel's namespace says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from service.realtime.ports import Appended, Draft, StreamStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from service.core.namespaces import Channel
    from service.core.recovery import Page
    from service.core.stream import Publication

__all__ = ("RoutedStreams",)


class RoutedStreams(StreamStore):
    """Two stores that look like one.

    Args:
        memory: For channels whose history is not durable, and for those without one.
        durable: For the others.
    """

    def __init__(self, memory: StreamStore, durable: StreamStore) -> None:
        self._memory = memory
        self._durable = durable

    def _of(self, channel: Channel) -> StreamStore:
        return self._durable if channel.namespace.is_durable else self._memory

    @override
    def use(self, deliver: Callable[[str, Publication, str], None]) -> None:
        self._memory.use(deliver)
        self._durable.use(deliver)

    @override
    async def append(self, channel: Channel, draft: Draft) -> Appended:
        return await self._of(channel).append(channel, draft)

    @override
    async def read(self, channel: Channel, *, after: int, limit: int) -> Page:
        return await self._of(channel).read(channel, after=after, limit=limit)

    @override
    async def read_back(self, channel: Channel, *, before: int, limit: int) -> Page:
        return await self._of(channel).read_back(channel, before=before, limit=limit)

    @override
    async def remove(self, channel: Channel) -> None:
        await self._of(channel).remove(channel)

    @override
    async def diverged(self, channel: Channel) -> None:
        await self._of(channel).diverged(channel)

    @override
    def expire(self, now: float, watched: Collection[str]) -> None:
        self._memory.expire(now, watched)
        self._durable.expire(now, watched)
