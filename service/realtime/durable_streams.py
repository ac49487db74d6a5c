"""Streams in a database: what was acknowledged survives the end of the process.

The parts: `GroupCommit` writes, `StreamCache` knows and reads, `StreamTrimmer` deletes what is not kept any longer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from typing_extensions import override

from service.core.codes import Error
from service.errors import DatabaseError, NotCommitted, Overtaken
from service.realtime.group_commit import CommitLimits, GroupCommit
from service.realtime.ports import Appended, Draft, Observer, StreamStore, StreamTables, Tasks
from service.realtime.stream_cache import CacheLimits, StreamCache, Watch
from service.realtime.stream_trimmer import StreamTrimmer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from service.core.namespaces import Channel
    from service.core.recovery import Page
    from service.core.stream import Publication
    from service.core.tenure import Tenure

__all__ = ("DurableLimits", "DurableStreams")

_RENEWAL_SECONDS = 60.0
_PROBE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DurableLimits:
    """Bounds of the whole store.

    Attributes:
        commit: Of what is committed together, and what waits.
        cache: Of what is held in memory.
    """

    commit: CommitLimits = field(default_factory=CommitLimits)
    cache: CacheLimits = field(default_factory=CacheLimits)


class DurableStreams(StreamStore):
    """The streams that are kept in a database. Event loop only.

    Args:
        tables: The database.
        tenure: Nothing is committed or delivered when it does not hold; what is known is forgotten with it.
        elsewhere: Takes what leaves no row: channels without durable history, and publications that skip it.
        resolve: Finds a channel by its name, to learn how long its publications are kept.
        now: Monotonic seconds.
        wall: Unix seconds, which publications are dated with.
        new_epoch: Makes an epoch that was never used before.
        overtaken: Called when the database says that another instance has taken over.
        sleep: Waits; for attempts to reach a database that does not answer.
    """

    def __init__(  # noqa: PLR0913 - one of each
        self,
        tables: StreamTables,
        tenure: Tenure,
        *,
        elsewhere: StreamStore,
        tasks: Tasks,
        resolve: Callable[[str], Channel | Error],
        now: Callable[[], float],
        wall: Callable[[], float],
        new_epoch: Callable[[], str],
        observer: Observer,
        overtaken: Callable[[], None],
        limits: DurableLimits | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        limits = limits or DurableLimits()
        self._tables = tables
        self._tenure = tenure
        self._elsewhere = elsewhere
        self._now = now
        self._new_epoch = new_epoch
        self._observer = observer
        self._overtaken = overtaken
        self._sleep = sleep
        self._watch = Watch(observer.noted)
        self._cache = StreamCache(tables, tenure, tasks, wall=wall, watch=self._watch, limits=limits.cache)
        self._commits = GroupCommit(
            tables,
            self._cache,
            tenure,
            elsewhere=elsewhere,
            tasks=tasks,
            wall=wall,
            observer=observer,
            watch=self._watch,
            limits=limits.commit,
            overtaken=overtaken,
            sleep=sleep,
        )
        self._trimmer = StreamTrimmer(
            tables,
            tenure,
            resolve=resolve,
            wall=wall,
            idempotency_seconds=limits.commit.idempotency_seconds,
        )
        # When channels got another epoch, for a minute; oldest first.
        self._renewed: dict[str, float] = {}

    @property
    def degraded(self) -> str:
        """Why the database does not do what it is asked; empty when all is well."""
        return self._watch.reason

    @property
    def waiting(self) -> int:
        """How many publications wait for their commit."""
        return self._commits.waiting

    @property
    def read_count(self) -> int:
        """How often publications were read from the database since the start."""
        return self._cache.read_count

    @override
    def use(self, deliver: Callable[[str, Publication, str], None]) -> None:
        self._commits.deliver = deliver
        self._elsewhere.use(deliver)

    # Publishing.

    @override
    async def append(self, channel: Channel, draft: Draft) -> Appended:
        outcome = await self._commits.put(channel, draft)
        if isinstance(outcome, Error):
            raise NotCommitted(outcome)
        return outcome

    async def append_all(self, drafts: Sequence[tuple[Channel, Draft, int]], /) -> list[Appended | Error]:
        """Append drafts of the outbox in this order, each with the id of its row, which is marked with it.

        Returns:
            What became of each. Errors that are temporary say nothing about the row: it waits on, unless its
            outcome was unknown and it turns out to be committed; it is never published twice on that account.
        """
        futures = [self._commits.put(channel, draft, outbox_id=outbox_id) for channel, draft, outbox_id in drafts]
        return [await future for future in futures]

    @override
    async def remove(self, channel: Channel) -> None:
        refusal = await self._commits.change(channel)
        if refusal is not None:
            raise NotCommitted(refusal)

    @override
    async def diverged(self, channel: Channel) -> None:
        name, now = channel.name, self._now()
        if name in self._renewed and now - self._renewed[name] < _RENEWAL_SECONDS:
            return
        self._renewed.pop(name, None)
        self._renewed[name] = now
        self._observer.noted("stream.diverged", channel=name)
        await self._commits.change(channel, epoch=self._new_epoch())

    # Reading.

    @override
    async def read(self, channel: Channel, *, after: int, limit: int) -> Page:
        return await self._cache.read(channel, after=after, limit=limit)

    @override
    async def read_back(self, channel: Channel, *, before: int, limit: int) -> Page:
        return await self._cache.read_back(channel, before=before, limit=limit)

    # What happens by itself.

    @override
    def expire(self, now: float, watched: Collection[str]) -> None:
        self._commits.expire()
        self._cache.sweep(watched)
        for name, _ in list(takewhile(lambda item: now - item[1] >= _RENEWAL_SECONDS, self._renewed.items())):
            del self._renewed[name]

    def reset(self) -> None:
        """Forget everything that was known, and refuse what waits: the tenure has ended, or another one has begun."""
        self._cache.forget()
        self._commits.reset()
        self._renewed.clear()
        self._watch.forget()

    async def run(self) -> None:
        """Trim, and find out when a database that failed works again; until cancelled."""
        while True:
            await self._sleep(_PROBE_SECONDS)
            try:
                await self.tend()
            except Exception as error:  # noqa: BLE001 - the root of a task: a defect must not stop it for good
                self._observer.failed("tending streams", error)

    async def tend(self) -> None:
        """Do once what `run` does again and again."""
        if not self._tenure.holds():
            return
        token = self._tenure.token
        try:
            if self._watch.reason:
                await self._tables.probe(token=token)
                if self._commits.is_settled:
                    self._watch.fine(writing=True)
            else:
                await self._trimmer.step()
        except Overtaken:
            if token == self._tenure.token:
                self._overtaken()
        except DatabaseError as error:
            if token == self._tenure.token:
                self._watch.trouble(error, writing=True)
