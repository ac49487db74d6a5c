"""The tables of streams in memory, with every kind of trouble that a database can make."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from typing_extensions import override

from service.core.rows import Head, Row
from service.core.stream import Position, Publication
from service.errors import DatabaseError, DatabaseUnavailable, OutcomeUnknown, OutOfStep, Overtaken, RowsRefused
from service.realtime.ports import StreamTables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

__all__ = ("FakeStreamTables", "Fault", "Tables")


@dataclass
class Tables:
    """What a database holds: it outlives the processes that work on it.

    Attributes:
        token: The fencing token.
        streams: Heads by channel.
        publications: By channel, then by offset, ascending.
        results: (when, position) by channel and key.
        outbox: Whether a row is published, by its id.
    """

    epoch: str = "database"
    token: int = 1
    streams: dict[str, Head] = field(default_factory=dict)
    publications: dict[str, dict[int, Publication]] = field(default_factory=dict)
    results: dict[tuple[str, str], tuple[float, Position]] = field(default_factory=dict)
    outbox: dict[int, bool] = field(default_factory=dict)


@dataclass
class Fault:
    """What happens to one call.

    Attributes:
        error: Is raised; None for a call that is only slow.
        is_committed: Whether the call does its work all the same.
        gate: Is waited for before anything is done; None for nothing.
    """

    error: BaseException | None = None
    is_committed: bool = False
    gate: asyncio.Event | None = None

    @classmethod
    def unavailable(cls, reason: str = "the database cannot be reached") -> Fault:
        """Nothing is done."""
        return cls(DatabaseUnavailable(reason))

    @classmethod
    def unknown(cls, *, is_committed: bool) -> Fault:
        """The connection is lost, before or after the commit."""
        return cls(OutcomeUnknown("the connection was lost"), is_committed=is_committed)


class FakeStreamTables(StreamTables):
    """One process's way to the tables.

    Args:
        tables: What it works on; new and empty unless several work on the same.
        refuses: Says whether the database refuses a row for what is in it.
        tells_indexes: Whether it says which rows it refuses.

    Attributes:
        faults: What happens to the next calls of a method, by its name, the first at the left.
        broken: Is raised by every call as long as it is there.
        calls: How often each method was called.
        groups: How many rows each append brought.
        sent: What the last append brought, and under which token.
        is_lost: Whether its connection was lost before it was committed, so that it may still come late.
        arrived: Set whenever a call has come to its gate; a test clears it.
    """

    def __init__(
        self,
        tables: Tables | None = None,
        *,
        refuses: Callable[[Row], bool] = lambda _: False,
        tells_indexes: bool = True,
    ) -> None:
        self.tables = tables or Tables()
        self.faults: dict[str, deque[Fault]] = {}
        self.broken: DatabaseError | None = None
        self.calls: Counter[str] = Counter()
        self.groups: list[int] = []
        self.sent: tuple[Sequence[Row], int] = ((), 0)
        self.is_lost = False
        self.arrived = asyncio.Event()
        self._refuses = refuses
        self._tells_indexes = tells_indexes

    def fail(self, method: str, *faults: Fault) -> None:
        """Let the next calls of a method end so."""
        self.faults.setdefault(method, deque()).extend(faults)

    def commit_late(self) -> bool:
        """Do what the last append wanted, as a server that was cut off in the middle may; False when it cannot."""
        try:
            self._commit(*self.sent)
        except DatabaseError:
            return False
        return True

    async def _begin(self, method: str) -> Fault:
        """Count a call and let happen what has to before it does anything."""
        self.calls[method] += 1
        waiting = self.faults.get(method)
        fault = waiting.popleft() if waiting else Fault()
        if fault.gate is not None:
            self.arrived.set()
            await fault.gate.wait()
        else:
            # As over a socket: nobody is answered within the same turn of the loop.
            await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
        if fault.error is not None and not fault.is_committed:
            raise fault.error
        return fault

    def _end(self, fault: Fault) -> None:
        if fault.error is not None:
            raise fault.error

    def _fence(self, token: int) -> None:
        if token != self.tables.token:
            raise Overtaken

    @override
    async def epoch(self) -> str:
        self._end(await self._begin("epoch"))
        return self.tables.epoch

    @override
    async def heads(self, channels: Collection[str]) -> dict[str, Head]:
        self._end(await self._begin("heads"))
        streams = self.tables.streams
        return {name: streams[name] for name in channels if name in streams}

    @override
    async def results(self, keys: Collection[tuple[str, str]], *, since: float) -> dict[tuple[str, str], Position]:
        self._end(await self._begin("results"))
        known = self.tables.results
        return {key: known[key][1] for key in keys if key in known and known[key][0] > since}

    @override
    async def append(self, rows: Sequence[Row], *, token: int) -> None:
        self.groups.append(len(rows))
        self.sent = (rows, token)
        self.is_lost = True
        try:
            fault = await self._begin("append")
        except DatabaseUnavailable:
            self.is_lost = False
            raise
        self.is_lost = False
        self._commit(rows, token)
        self._end(fault)

    def _commit(self, rows: Sequence[Row], token: int) -> None:
        tables = self.tables
        self._fence(token)
        refused = [index for index, row in enumerate(rows) if self._refuses(row)]
        if refused:
            raise RowsRefused("refused for what is in it", refused if self._tells_indexes else ())
        tables.streams |= self._heads_behind(rows)
        for row in rows:
            if row.offset:
                publication = Publication(row.offset, row.data, row.info, row.tags, row.at)
                tables.publications.setdefault(row.channel, {})[row.offset] = publication
                if row.key:
                    tables.results[row.channel, row.key] = (row.at, Position(row.offset, row.epoch))
            if row.outbox_id:
                tables.outbox[row.outbox_id] = True

    def _heads_behind(self, rows: Sequence[Row]) -> dict[str, Head]:
        """Return the heads as they will be, unless a place or a mark is taken."""
        heads: dict[str, Head] = {}
        for row in rows:
            if row.outbox_id and self.tables.outbox.get(row.outbox_id, True):
                raise OutOfStep
            if row.offset:
                head = heads.get(row.channel) or self.tables.streams.get(row.channel) or Head(0, row.epoch)
                if row.offset != head.top + 1:
                    raise OutOfStep
                version = (row.version, row.version_epoch) if row.version else (head.version, head.version_epoch)
                heads[row.channel] = Head(row.offset, row.epoch, *version)
        return heads

    @override
    async def read(self, channel: str, *, after: int, limit: int, oldest: float, max_bytes: int) -> list[Publication]:
        self._end(await self._begin("read"))
        kept = self.tables.publications.get(channel, {}).values()
        return _within((item for item in kept if item.offset > after and item.at > oldest), limit, max_bytes)

    @override
    async def read_back(
        self, channel: str, *, before: int, limit: int, oldest: float, max_bytes: int
    ) -> list[Publication]:
        self._end(await self._begin("read_back"))
        kept = reversed(list(self.tables.publications.get(channel, {}).values()))
        return _within((item for item in kept if item.offset < before and item.at > oldest), limit, max_bytes)

    @override
    async def remove(self, channel: str, *, token: int) -> None:
        fault = await self._begin("remove")
        self._fence(token)
        self.tables.publications.pop(channel, None)
        self._end(fault)

    @override
    async def renew(self, channel: str, epoch: str, *, token: int) -> None:
        fault = await self._begin("renew")
        self._fence(token)
        head = self.tables.streams.get(channel)
        if head is not None:
            self.tables.streams[channel] = head._replace(epoch=epoch)
        self._end(fault)

    @override
    async def trim(self, bounds: Mapping[str, tuple[int, float]], *, limit: int, token: int) -> int:
        fault = await self._begin("trim")
        self._fence(token)
        gone = [
            (name, item.offset)
            for name, (lowest, until) in bounds.items()
            for item in self.tables.publications.get(name, {}).values()
            if item.offset < lowest or item.at <= until
        ][:limit]
        for name, offset in gone:
            del self.tables.publications[name][offset]
        self._end(fault)
        return len(gone)

    @override
    async def names(self, *, after: str, limit: int) -> list[tuple[str, int]]:
        self._end(await self._begin("names"))
        behind = sorted((name, head.top) for name, head in self.tables.streams.items() if name > after)
        return behind[:limit]

    @override
    async def expire_results(self, before: float, *, limit: int, token: int) -> int:
        fault = await self._begin("expire_results")
        self._fence(token)
        old = list(islice((key for key, (at, _) in self.tables.results.items() if at <= before), limit))
        for key in old:
            del self.tables.results[key]
        self._end(fault)
        return len(old)

    @override
    async def probe(self, *, token: int) -> None:
        fault = await self._begin("probe")
        self._fence(token)
        self._end(fault)


def _within(items: Iterable[Publication], limit: int, max_bytes: int) -> list[Publication]:
    found: list[Publication] = []
    size = 0
    for item in islice(items, limit):
        size += len(item.data)
        if size > max_bytes and found:
            break
        found.append(item)
    return found
