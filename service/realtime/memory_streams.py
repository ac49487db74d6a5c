"""Streams in this process's memory: gone when it ends, which its epoch tells every client."""

from __future__ import annotations

from collections import deque
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from typing_extensions import override

from service.core.recovery import Page
from service.core.stream import Position, Publication, Stream
from service.realtime.ports import Appended, Draft, StreamStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from service.core.namespaces import Channel

__all__ = ("MemoryStreams",)

_IDEMPOTENCY_SECONDS = 300.0
_TOP_SECONDS = 86_400.0
_RENEWAL_SECONDS = 60.0
_MAX_BYTES = 256 * 1024 * 1024
_MAX_STREAMS = 100_000  # empty, about 1 KiB each
_SWEPT_AT_ONCE = 5_000  # a few milliseconds
_TIDY_FROM = 10_000


class MemoryStreams(StreamStore):
    """The one owner of the streams of a process. Event loop only; nothing here suspends.

    Args:
        now: Monotonic seconds.
        new_epoch: Makes an epoch that was never used before.
        idempotency_seconds: How long the result of a key is remembered.
        top_seconds: How long the top of a stream is remembered after its last publication.
        max_bytes: Of payloads that are kept, over all streams; past it the oldest are forgotten first.
        max_streams: While there are more, a stream is forgotten as soon as it is empty and nobody is subscribed.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        new_epoch: Callable[[], str],
        idempotency_seconds: float = _IDEMPOTENCY_SECONDS,
        top_seconds: float = _TOP_SECONDS,
        max_bytes: int = _MAX_BYTES,
        max_streams: int = _MAX_STREAMS,
    ) -> None:
        self._now = now
        self._new_epoch = new_epoch
        self._epoch = new_epoch()
        self._deliver: Callable[[str, Publication, str], None] = _to_nobody
        self._idempotency_seconds = idempotency_seconds
        self._top_seconds = top_seconds
        self._max_bytes = max_bytes
        self._max_streams = max_streams
        self._bytes = 0
        # Every publication that was kept, oldest first; those that a stream has dropped by itself are passed over.
        self._order: deque[tuple[Stream, int]] = deque()
        self._tidy_at = _TIDY_FROM
        self._streams: dict[str, Stream] = {}
        # Of the names whose streams the next calls of `expire` look at.
        self._unswept: Iterator[str] = iter(())
        # Of watched channels without a stream: the epoch that their members were told.
        self._promised: dict[str, str] = {}
        # (channel, key) -> (when, result), oldest first
        self._results: dict[tuple[str, str], tuple[float, Position | None]] = {}
        # When channels got another epoch, for a minute; oldest first.
        self._renewed: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._streams)

    @override
    def use(self, deliver: Callable[[str, Publication, str], None]) -> None:
        self._deliver = deliver

    @override
    async def append(self, channel: Channel, draft: Draft) -> Appended:
        now = self._now()
        key = (channel.name, draft.idempotency_key)
        if draft.idempotency_key:
            known = self._results.get(key)
            if known is not None and now - known[0] < self._idempotency_seconds:
                return Appended(known[1], None)
        appended = self._append(channel, draft, now)
        if draft.idempotency_key:
            self._results.pop(key, None)
            self._results[key] = (now, appended.position)
        if appended.publication is not None:
            position = appended.position
            self._deliver(channel.name, appended.publication, position.epoch if position is not None else "")
        return appended

    def _append(self, channel: Channel, draft: Draft, now: float) -> Appended:
        namespace = channel.namespace
        if not namespace.has_history or draft.skip_history:
            return Appended(None, Publication(0, draft.data, draft.info, draft.tags, now))
        stream = self._streams.get(channel.name)
        if stream is None:
            epoch = self._promised.pop(channel.name, self._epoch)
            stream = Stream(epoch=epoch, size=namespace.history_size, ttl=namespace.history_ttl)
            self._streams[channel.name] = stream
        if stream.is_outdated(draft.version, draft.version_epoch):
            return Appended(stream.position, None)
        before = stream.bytes
        publication = stream.append(draft.data, info=draft.info, tags=draft.tags, now=now)
        self._bytes += stream.bytes - before
        self._order.append((stream, publication.offset))
        self._bound()
        return Appended(stream.position, publication)

    def _bound(self) -> None:
        """Forget the oldest publications while all together take too much."""
        order = self._order
        while order and (self._bytes > self._max_bytes or not order[0][0].holds(order[0][1])):
            stream, offset = order.popleft()
            if stream.holds(offset):
                before = stream.bytes
                stream.drop_oldest()
                self._bytes += stream.bytes - before
        if len(order) > self._tidy_at:
            # One publication that is kept for long must not keep the place of every other one made after it.
            self._order = deque((stream, offset) for stream, offset in order if stream.holds(offset))
            self._tidy_at = 2 * len(self._order) + _TIDY_FROM

    def _expire(self, stream: Stream, now: float) -> None:
        before = stream.bytes
        stream.expire(now)
        self._bytes += stream.bytes - before

    @override
    async def read(self, channel: Channel, *, after: int, limit: int) -> Page:
        stream = self._fresh(channel)
        if stream is None:
            return Page((), Position(0, self._promised.get(channel.name, self._epoch)))
        return Page(stream.after(after, limit), stream.position)

    @override
    async def read_back(self, channel: Channel, *, before: int, limit: int) -> Page:
        stream = self._fresh(channel)
        if stream is None:
            return Page((), Position(0, self._promised.get(channel.name, self._epoch)))
        return Page(stream.before(before, limit), stream.position)

    @override
    async def remove(self, channel: Channel) -> None:
        stream = self._streams.get(channel.name)
        if stream is not None:
            self._bytes -= stream.bytes
            stream.clear()

    @override
    async def diverged(self, channel: Channel) -> None:
        name, now = channel.name, self._now()
        if name in self._renewed and now - self._renewed[name] < _RENEWAL_SECONDS:
            return
        self._renewed.pop(name, None)
        self._renewed[name] = now
        stream = self._streams.get(name)
        if stream is not None:
            stream.epoch = self._new_epoch()
        else:
            self._promised[name] = self._new_epoch()

    def reset(self) -> None:
        """Forget everything: others have published meanwhile, and what is known here goes on from nowhere."""
        self._epoch = self._new_epoch()
        self._bytes = 0
        self._unswept = iter(())
        for memory in (self._order, self._streams, self._promised, self._results, self._renewed):
            memory.clear()

    @override
    def expire(self, now: float, watched: Collection[str]) -> None:
        self._expire_results(now)
        self._bound()
        forgotten = False
        for name in self._next_names():
            stream = self._streams.get(name)
            if stream is None:
                continue
            self._expire(stream, now)
            if not len(stream) and name not in watched and self._is_over(stream, now):
                del self._streams[name]
                forgotten = True
        if forgotten:
            # A stream that begins again must not look like the one that was forgotten; those who wait for the
            # first publication of another channel know its epoch already, and it stays.
            for name in watched:
                if name not in self._streams:
                    self._promised.setdefault(name, self._epoch)
            self._epoch = self._new_epoch()
        for name in [name for name in self._promised if name not in watched]:
            del self._promised[name]

    def _next_names(self) -> list[str]:
        """Return the next part of all names; everybody waits meanwhile, so it is never all of very many."""
        names = list(islice(self._unswept, _SWEPT_AT_ONCE))
        if len(names) < _SWEPT_AT_ONCE:
            self._unswept = iter(tuple(self._streams))
            names += islice(self._unswept, _SWEPT_AT_ONCE - len(names))
        return names

    def _is_over(self, stream: Stream, now: float) -> bool:
        return now - stream.last_at >= self._top_seconds or len(self._streams) > self._max_streams

    def _expire_results(self, now: float) -> None:
        known = self._results.items()
        for key, _ in list(takewhile(lambda item: now - item[1][0] >= self._idempotency_seconds, known)):
            del self._results[key]
        for name, _ in list(takewhile(lambda item: now - item[1] >= _RENEWAL_SECONDS, self._renewed.items())):
            del self._renewed[name]

    def _fresh(self, channel: Channel) -> Stream | None:
        stream = self._streams.get(channel.name)
        if stream is not None:
            self._expire(stream, self._now())
        return stream


def _to_nobody(channel: str, publication: Publication, epoch: str) -> None:
    """Deliver to nobody: the store is used alone."""
