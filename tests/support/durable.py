"""The durable store over tables in memory, running."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from service.core.namespaces import Channel, Namespace
from service.core.tenure import Tenure
from service.errors import NotCommitted
from service.realtime.durable_streams import DurableLimits, DurableStreams
from service.realtime.instance import Background
from service.realtime.memory_streams import MemoryStreams
from service.realtime.ports import Appended, Draft
from tests.support.clock import ManualClock
from tests.support.ids import SequentialIds
from tests.support.observer import RecordingObserver
from tests.support.stream_tables import FakeStreamTables, Fault, Tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from service.core.codes import Error
    from service.core.recovery import Page
    from service.core.stream import Publication

__all__ = ("DEADLINE_SECONDS", "Durable", "running")

DEADLINE_SECONDS = 10.0

ROOM = Namespace(name="", history_size=10, history_ttl=100.0)


class Durable:
    """A process: its store, and what stands around it.

    Args:
        tables: The database that it works on.
        clock: Shared by processes that follow each other.

    Attributes:
        delivered: (channel, offset, data), in order.
        overtaken: How often it was told that somebody has taken over.
        naps: Waits between attempts to reach the database; the test ends them.
        is_sleepless: Whether it does not wait then.
    """

    def __init__(
        self, tables: FakeStreamTables, clock: ManualClock, *, limits: DurableLimits | None = None, ids: SequentialIds
    ) -> None:
        self.tables = tables
        self.clock = clock
        self.observer = RecordingObserver()
        self.background = Background(self.observer.failed)
        self.tenure = Tenure(clock.boot, 5.0)
        self.tenure.begin(tables.tables.token, clock.boot() + 1e9)
        self.delivered: list[tuple[str, int, bytes]] = []
        self.epochs: list[str] = []
        self.overtaken = 0
        self.naps: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.is_sleepless = False
        memory = MemoryStreams(now=clock.now, new_epoch=ids.epoch)
        self.store = DurableStreams(
            tables,
            self.tenure,
            elsewhere=memory,
            tasks=self.background,
            resolve=lambda name: self.resolve(name),  # noqa: PLW0108 - a test may replace it later
            now=clock.now,
            wall=clock.wall,
            new_epoch=ids.epoch,
            observer=self.observer,
            overtaken=self._count,
            limits=limits,
            sleep=self._nap,
        )
        self.store.use(self._deliver)
        self.resolve: Callable[[str], Channel | Error] = self.channel
        self.on_delivery: Callable[[], None] = lambda: None

    def _count(self) -> None:
        self.overtaken += 1

    def _deliver(self, channel: str, publication: Publication, epoch: str) -> None:
        self.delivered.append((channel, publication.offset, publication.data))
        self.epochs.append(epoch)
        self.on_delivery()

    async def _nap(self, _: float) -> None:
        if self.is_sleepless:
            await asyncio.sleep(0)
            return
        nap = asyncio.Event()
        self.naps.put_nowait(nap)
        await nap.wait()

    @staticmethod
    def channel(name: str = "room", **options: object) -> Channel:
        """Return a channel that keeps ten publications for 100 s, unless told otherwise."""
        return Channel(name, msgspec.structs.replace(ROOM, **options))

    async def publish(self, data: bytes = b"{}", name: str = "room", **options: object) -> Appended | Error:
        """Publish, and return what became of it."""
        try:
            return await self.store.append(self.channel(name), Draft(data, **options))  # type: ignore[arg-type]  # fields of Draft
        except NotCommitted as refused:
            return refused.error

    async def fill(self, count: int, name: str = "room", *, first: int = 1) -> None:
        """Publish numbers from ``first`` on."""
        for number in range(first, first + count):
            assert isinstance(await self.publish(b"%d" % number, name), Appended)

    async def read(self, name: str = "room", *, after: int = 0, limit: int = 1000) -> Page:
        """Read forward."""
        return await self.store.read(self.channel(name), after=after, limit=limit)

    def hold(self, method: str, fault: Fault | None = None) -> asyncio.Event:
        """Let the next call of a method wait for what is returned, and then end as ``fault`` says."""
        fault = fault or Fault()
        fault.gate = asyncio.Event()
        self.tables.fail(method, fault)
        self.tables.arrived.clear()
        return fault.gate

    async def until_held(self) -> None:
        """Return when a call has come to its gate."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.tables.arrived.wait()
        self.tables.arrived.clear()

    def of(self, name: str) -> list[tuple[int, bytes]]:
        """Return what was delivered in a channel."""
        return [(offset, data) for channel, offset, data in self.delivered if channel == name]

    async def end_nap(self) -> None:
        """Let the next wait be over."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            (await self.naps.get()).set()


@asynccontextmanager
async def running(
    tables: Tables | None = None,
    *,
    clock: ManualClock | None = None,
    limits: DurableLimits | None = None,
    fake: FakeStreamTables | None = None,
) -> AsyncIterator[Durable]:
    """Run a process; at the end whatever it still does is given up, as by a kill."""
    durable = Durable(fake or FakeStreamTables(tables), clock or ManualClock(), limits=limits, ids=SequentialIds())
    async with asyncio.TaskGroup() as group:
        durable.background.use(group)
        try:
            yield durable
        finally:
            await durable.background.end(patience_seconds=0)
