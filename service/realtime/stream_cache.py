"""What this process knows of streams that a database keeps: their heads, and recent publications.

One instance writes, so what is known stays true until the tenure changes: then everything is forgotten by
itself. Whoever wants to know the same thing at the same time shares one question to the database.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from service.core.recovery import Page
from service.core.rows import Head
from service.core.stream import Publication, Stream
from service.errors import DatabaseError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence

    from service.core.namespaces import Channel
    from service.core.tenure import Tenure
    from service.realtime.ports import StreamTables, Tasks

    _Wanted: TypeAlias = dict[str, tuple[Channel, asyncio.Future[DatabaseError | None]]]

__all__ = ("NO_TENURE", "CacheLimits", "CachedStream", "StreamCache", "Watch")

T = TypeVar("T")

_GIVEN_UP = "the question was given up"
NO_TENURE = "this instance does not hold the lock"
"""Why nothing is asked of the database."""

_ALL = sys.maxsize
_TAIL_GROWTH = 4
_SWEPT_AT_ONCE = 5_000  # a few milliseconds
_TIDY_FROM = 10_000


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """Bounds of what is held in memory.

    Attributes:
        held_bytes: Of payloads, over all streams; past it the oldest are forgotten first.
        streams: While there are more, one is forgotten as soon as nobody is subscribed.
        page_size: Publications that the first read of the newest brings; whoever missed more has more of them read.
        tail_size: Publications that such a read brings at most.
        page_bytes: Bytes of data that one read brings.
    """

    held_bytes: int = 256 * 1024 * 1024
    streams: int = 100_000
    page_size: int = 300
    tail_size: int = 10_000
    page_bytes: int = 768 * 1024


class Watch:
    """What went well or wrong with the database, for whoever shows it.

    Reading and writing are apart: a full disk can still be read, and that it is does not mean that all is well.
    """

    __slots__ = ("_noted", "_reading", "_writing")

    def __init__(self, noted: Callable[..., None]) -> None:
        self._reading = ""
        self._writing = ""
        self._noted = noted

    @property
    def reason(self) -> str:
        """Reason of the trouble that has not passed yet; empty when all is well."""
        return self._writing or self._reading

    def trouble(self, error: BaseException, *, writing: bool = False) -> None:
        """Note that the database failed."""
        before, reason = self.reason, error.reason if isinstance(error, DatabaseError) else "a defect of this service"
        if writing:
            self._writing = reason
        else:
            self._reading = reason
        if self.reason != before:
            self._noted("database.degraded", reason=self.reason)

    def fine(self, *, writing: bool = False) -> None:
        """Note that the database did what it was asked; what can write can read."""
        before = self.reason
        self._reading = ""
        if writing:
            self._writing = ""
        if before and not self.reason:
            self._noted("database.recovered")

    def forget(self) -> None:
        """Know of no trouble any more, without a word."""
        self._reading = self._writing = ""


class CachedStream:
    """One stream as this process knows it. Changed by whoever commits, and by the cache.

    Attributes:
        window: The newest publications, without a gap up to the top; it has the top and the epoch too.
        size: Publications that the namespace keeps.
        has_row: Whether the database knows it.
        version: Of the last publication that had one, and which count of versions that was.
        floor: Nothing at or below this offset is kept, surely.
        tail: How many of the newest the window holds, or all that a read of so many gave.
        generation: Grows whenever what a read is about to bring would be wrong.
    """

    __slots__ = ("floor", "generation", "has_row", "name", "size", "tail", "ttl", "version", "window")

    def __init__(self, channel: Channel, head: Head, *, has_row: bool) -> None:
        namespace = channel.namespace
        self.name = channel.name
        self.size = namespace.history_size
        self.ttl = namespace.history_ttl
        self.window = Stream(epoch=head.epoch, size=self.size, ttl=self.ttl, top=head.top)
        self.has_row = has_row
        self.version = (head.version, head.version_epoch)
        self.floor = 0
        self.tail = 0 if head.top else _ALL
        self.generation = 0

    @property
    def lowest(self) -> int:
        """Offset of the oldest publication in the window; one past the top when it is empty."""
        return self.window.top - len(self.window) + 1

    @property
    def is_whole(self) -> bool:
        """Whether nothing is kept below the window."""
        return self.lowest - 1 <= max(self.floor, self.window.top - self.size)

    def expire(self, now: float) -> None:
        """Forget what is too old, and so is everything before it."""
        held = len(self.window)
        self.window.expire(now)
        if len(self.window) < held:
            self.floor = self.lowest - 1

    def removed(self) -> None:
        """Forget all publications, since they are gone from the database."""
        self.window.clear()
        self.floor = self.window.top
        self.tail = _ALL
        self.generation += 1


class StreamCache:
    """The one owner of what is known of streams. Event loop only.

    Args:
        tables: Are asked what is not known.
        tenure: Everything is forgotten when its token changes; without it nothing is read.
        tasks: Where questions are asked.
        wall: Unix seconds.
        watch: Told how the database does.

    Attributes:
        streams: By channel.
        epoch: Of the database; empty while it is not known.
        busy: Channels that a commit is under way for: they are not forgotten.
        read_count: Reads of publications from the database since the start.
    """

    def __init__(
        self,
        tables: StreamTables,
        tenure: Tenure,
        tasks: Tasks,
        *,
        wall: Callable[[], float],
        watch: Watch,
        limits: CacheLimits,
    ) -> None:
        self._tables = tables
        self._tenure = tenure
        self._tasks = tasks
        self._wall = wall
        self._watch = watch
        self._limits = limits
        self.streams: dict[str, CachedStream] = {}
        self.epoch = ""
        self.read_count = 0
        self.busy: Collection[str] = ()
        self._token = tenure.token
        self._bytes = 0
        # Every publication that is held, in the order in which they are forgotten.
        self._order: deque[tuple[CachedStream, int]] = deque()
        self._tidy_at = _TIDY_FROM
        self._unswept: Iterator[str] = iter(())
        # Heads that are wanted, and those that are asked for; a future is everybody's who waits for it.
        self._wanted: _Wanted = {}
        self._asked: _Wanted = {}
        self._asker: object | None = None
        # Reads under way, by what they read.
        self._reads: dict[tuple[object, ...], asyncio.Future[Sequence[Publication] | DatabaseError]] = {}

    def forget(self) -> None:
        """Forget everything. What is on its way from the database is not taken in any more."""
        self._token = self._tenure.token
        self.streams = {}
        self.epoch = ""
        self._order.clear()
        self._unswept = iter(())
        self._bytes = 0
        gone = DatabaseUnavailable(NO_TENURE)
        _settle_all(self._asked, gone)
        _settle_all(self._wanted, gone)
        self._asked, self._wanted, self._asker = {}, {}, None
        reads, self._reads = self._reads, {}
        for read in reads.values():
            _settle(read, gone)

    def check(self) -> None:
        """Forget everything when another tenure has begun.

        Raises:
            DatabaseUnavailable: There is no tenure.
        """
        if self._token != self._tenure.token:
            self.forget()
        if not self._tenure.holds():
            raise DatabaseUnavailable(NO_TENURE)

    # Heads.

    async def stream(self, channel: Channel) -> CachedStream:
        """Return a stream; what is awaited first is a future.

        Raises:
            DatabaseError: Nothing is known of it, and nothing can be learned.
        """
        self.check()
        known = self.streams.get(channel.name)
        while known is None:
            trouble = await asyncio.shield(self._want(channel))
            if trouble is not None:
                raise trouble
            self.check()
            known = self.streams.get(channel.name)
        return known

    async def know(self, channels: Mapping[str, Channel]) -> None:
        """Learn the heads of channels, by name, that are not known yet; all with one question.

        Raises:
            DatabaseError: Something cannot be learned.
        """
        self.check()
        while missing := [channel for name, channel in channels.items() if name not in self.streams]:
            for future in [self._want(channel) for channel in missing]:
                trouble = await asyncio.shield(future)
                if trouble is not None:
                    raise trouble
            self.check()

    def _want(self, channel: Channel) -> asyncio.Future[DatabaseError | None]:
        name = channel.name
        wanted = self._asked.get(name) or self._wanted.get(name)
        if wanted is None:
            wanted = self._wanted[name] = (channel, asyncio.get_running_loop().create_future())
        if self._asker is None:
            asker = object()
            self._tasks.spawn(self._ask(asker))
            self._asker = asker
        return wanted[1]

    async def _ask(self, asker: object) -> None:
        """Ask for all heads that are wanted, until none is, or this asker's time is over."""
        try:
            while self._wanted and self._asker is asker:
                asked, self._asked, self._wanted = self._wanted, self._wanted, {}
                trouble: DatabaseError | None = DatabaseUnavailable(_GIVEN_UP)
                try:
                    trouble = await self._take_heads([channel for channel, _ in asked.values()], self._token)
                finally:
                    _settle_all(asked, trouble)
                    if self._asker is asker:
                        self._asked = {}
        finally:
            if self._asker is asker:
                self._asker = None
                _settle_all(self._wanted, DatabaseUnavailable(_GIVEN_UP))
                self._wanted = {}

    async def _take_heads(self, channels: Sequence[Channel], token: int) -> DatabaseError | None:
        try:
            epoch = self.epoch or await self._tables.epoch()
            heads = await self._tables.heads([channel.name for channel in channels])
        except DatabaseError as error:
            self._watch.trouble(error)
            return error
        if token != self._token or token != self._tenure.token:
            return DatabaseUnavailable(NO_TENURE)
        self._watch.fine()
        self.epoch = epoch
        for channel in channels:
            head = heads.get(channel.name)
            if channel.name not in self.streams:
                self.streams[channel.name] = CachedStream(channel, head or Head(0, epoch), has_row=head is not None)
        return None

    # Publications.

    def add(self, stream: CachedStream, publication: Publication) -> None:
        """Take in a publication that was committed behind the top."""
        window = stream.window
        before = window.bytes
        window.add(publication)
        self._bytes += window.bytes - before
        self._order.append((stream, publication.offset))

    def bound(self) -> None:
        """Forget the oldest publications while all together take too much."""
        order = self._order
        while order and (self._bytes > self._limits.held_bytes or not order[0][0].window.holds(order[0][1])):
            stream, offset = order.popleft()
            window = stream.window
            if self.streams.get(stream.name) is not stream:
                continue
            before = window.bytes
            while window.holds(offset):
                window.drop_oldest()
                stream.tail = _ALL if stream.is_whole else 0
            self._bytes += window.bytes - before
        if len(order) > self._tidy_at:
            self._order = deque(entry for entry in order if entry[0].window.holds(entry[1]))
            self._tidy_at = 2 * len(self._order) + _TIDY_FROM

    def drop(self, name: str) -> None:
        """Forget a stream, so that it is read anew."""
        stream = self.streams.pop(name, None)
        if stream is not None:
            self._bytes -= stream.window.bytes
            stream.window.clear()
            stream.generation += 1

    def clear(self, stream: CachedStream) -> None:
        """Note that the publications of a stream are gone."""
        self._bytes -= stream.window.bytes
        stream.removed()

    def _freshen(self, stream: CachedStream) -> None:
        before = stream.window.bytes
        stream.expire(self._wall())
        self._bytes += stream.window.bytes - before

    # Reading.

    async def read(self, channel: Channel, *, after: int, limit: int) -> Page:
        """Read as `StreamStore.read` says."""
        has_tried = False
        while True:
            stream = await self.stream(channel)
            self._freshen(stream)
            window, generation, top = stream.window, stream.generation, stream.window.top
            if limit <= 0 or after >= stream.lowest - 1 or stream.is_whole:
                return Page(window.after(after, max(limit, 0)), window.position)
            if not has_tried and (size := self._tail_size(stream, top - after)):
                has_tried = True
                await self._load_tail(stream, size)
                continue
            after = max(after, top - stream.size)
            items = await self._read_range(stream, after, limit)
            if not self._is_current(stream, generation):
                continue
            first = items[0].offset if items else top + 1
            if first > after + 1:
                # What is kept has no gaps: so nothing is kept below this one.
                stream.floor = max(stream.floor, first - 1)
            return Page(_up_to_now(items, after, limit, stream), window.position)

    async def read_back(self, channel: Channel, *, before: int, limit: int) -> Page:
        """Read as `StreamStore.read_back` says."""
        has_tried, limit = False, max(limit, 0)
        while True:
            stream = await self.stream(channel)
            self._freshen(stream)
            window, generation = stream.window, stream.generation
            start = min(before, window.top + 1)
            if start <= 1 or start - limit >= stream.lowest or stream.is_whole:
                return Page(window.before(start, limit), window.position)
            if not has_tried and (size := self._tail_size(stream, window.top + 1 - start + limit)):
                has_tried = True
                await self._load_tail(stream, size)
                continue
            lowest = window.top - stream.size
            items = await self._read_range(stream, start, limit, is_backward=True)
            if self._is_current(stream, generation):
                return Page(tuple(item for item in items if item.offset > lowest), window.position)

    def _is_current(self, stream: CachedStream, generation: int) -> bool:
        return stream.generation == generation and self.streams.get(stream.name) is stream

    def _tail_size(self, stream: CachedStream, count: int) -> int:
        """Return how many of the newest to read for a reader of so many, and others after it; 0 where none helps."""
        count, size = min(count, stream.size), self._limits.page_size
        most = max(self._limits.tail_size, size)
        if count > most:
            return 0
        # In few sizes: those who come back at the same time missed about the same, and one read serves them.
        while size < count:
            size = min(size * _TAIL_GROWTH, most)
        return size if size > stream.tail else 0

    async def _load_tail(self, stream: CachedStream, size: int) -> None:
        """Fill the window up to a number of the newest publications."""
        generation, lowest = stream.generation, stream.lowest
        limit, most = size - len(stream.window), self._limits.page_bytes - stream.window.bytes
        if limit <= 0 or most <= 0:
            stream.tail = size if limit <= 0 else _ALL
            return

        async def read() -> Sequence[Publication]:
            items = await self._tables.read_back(
                stream.name, before=lowest, limit=limit, oldest=self._wall() - stream.ttl, max_bytes=most
            )
            # Meanwhile the oldest in the window may have been forgotten, and then these have no place any more.
            if self._is_current(stream, generation) and stream.lowest <= lowest:
                self._fill_back(stream, [item for item in items if item.offset < stream.lowest], size)
            return ()

        await self._share((stream, generation, "tail", lowest, limit), read)

    def _fill_back(self, stream: CachedStream, items: Sequence[Publication], size: int) -> None:
        before, lowest = stream.window.bytes, stream.lowest
        stream.window.fill_back(items)
        stream.tail = max(stream.tail, size)
        self._bytes += stream.window.bytes - before
        if not items:
            stream.floor = max(stream.floor, lowest - 1)
        self._order.extend((stream, offset) for offset in range(stream.lowest, lowest))
        self.bound()

    async def _read_range(
        self, stream: CachedStream, start: int, limit: int, *, is_backward: bool = False
    ) -> Sequence[Publication]:
        """Read from the database, together with everybody who wants the same."""

        async def read() -> Sequence[Publication]:
            name, oldest, most = stream.name, self._wall() - stream.ttl, self._limits.page_bytes
            if is_backward:
                return await self._tables.read_back(name, before=start, limit=limit, oldest=oldest, max_bytes=most)
            return await self._tables.read(name, after=start, limit=limit, oldest=oldest, max_bytes=most)

        return await self._share((stream, stream.generation, is_backward, start, limit), read)

    async def _share(
        self, key: tuple[object, ...], read: Callable[[], Coroutine[object, object, Sequence[Publication]]]
    ) -> Sequence[Publication]:
        future = self._reads.get(key)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._tasks.spawn(self._run_read(key, future, read))
            self._reads[key] = future
        outcome = await asyncio.shield(future)
        if isinstance(outcome, DatabaseError):
            raise outcome
        return outcome

    async def _run_read(
        self,
        key: tuple[object, ...],
        future: asyncio.Future[Sequence[Publication] | DatabaseError],
        read: Callable[[], Coroutine[object, object, Sequence[Publication]]],
    ) -> None:
        outcome: Sequence[Publication] | DatabaseError = DatabaseUnavailable(_GIVEN_UP)
        self.read_count += 1
        try:
            outcome = await read()
            self._watch.fine()
        except DatabaseError as error:
            self._watch.trouble(error)
            outcome = error
        finally:
            if self._reads.get(key) is future:
                del self._reads[key]
            _settle(future, outcome)

    # Forgetting.

    def sweep(self, watched: Collection[str]) -> None:
        """Forget what is too old, and streams that nobody listens to and of which nothing is held."""
        now = self._wall()
        for name in self._next_names():
            stream = self.streams.get(name)
            if stream is None:
                continue
            before = stream.window.bytes
            stream.expire(now)
            self._bytes += stream.window.bytes - before
            is_idle = not len(stream.window) or len(self.streams) > self._limits.streams
            if is_idle and name not in watched and name not in self.busy:
                self.drop(name)
        self.bound()

    def _next_names(self) -> list[str]:
        names = list(islice(self._unswept, _SWEPT_AT_ONCE))
        if len(names) < _SWEPT_AT_ONCE:
            self._unswept = iter(tuple(self.streams))
            names += islice(self._unswept, _SWEPT_AT_ONCE - len(names))
        return names


def _up_to_now(items: Sequence[Publication], after: int, limit: int, stream: CachedStream) -> Sequence[Publication]:
    """Cut off what a commit under way has put above the top, and add what was committed behind the read."""
    window = stream.window
    found = [item for item in items if item.offset <= window.top]
    last = found[-1].offset if found else after
    if stream.lowest - 1 <= last < window.top:
        found += window.after(last, limit - len(found))
    return tuple(found)


def _settle_all(wanted: _Wanted, outcome: DatabaseError | None) -> None:
    for _, future in wanted.values():
        _settle(future, outcome)


def _settle(future: asyncio.Future[T], outcome: T) -> None:
    if not future.done():
        future.set_result(outcome)
