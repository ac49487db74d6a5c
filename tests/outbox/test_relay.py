"""The relay, the streams and both tables together, ended without a word and started again under load."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.core.namespaces import Namespace, Namespaces
from service.core.stream import Publication
from service.core.tenure import Tenure
from service.db.database import Database
from service.db.identity import renew
from service.db.outbox import OutboxListener, OutboxTable
from service.db.streams import StreamTables
from service.ids import SystemIds
from service.realtime.durable_streams import DurableStreams
from service.realtime.instance import Background
from service.realtime.memory_streams import MemoryStreams
from service.realtime.outbox import Outbox, OutboxOptions
from tests.outbox.load import CHANNELS, Load, check_order
from tests.support.observer import RecordingObserver
from tests.support.outbox_application import application_on

pytestmark = pytest.mark.timeout(300)

_DEADLINE_SECONDS = 120.0
_RESTARTS = 3
_TRIES = 10  # each waits for the file by itself
_NAMESPACES = Namespaces([Namespace(name="news", history_size=100_000, history_ttl=86_400.0)])


async def _take_over(database: Database) -> int:
    """Raise the token; again and again, as the service does, while writers of the application have the file."""
    for _ in range(_TRIES):
        with suppress(OperationalError):
            async with database.writer.begin() as connection:
                taken = await connection.execute(
                    text("UPDATE slackwater_fence SET token = token + 1 WHERE id = 1 RETURNING token")
                )
                return int(taken.scalar_one())
    raise AssertionError("the database was never free")


class Lives:
    """What the instances, one after the other, have delivered.

    Attributes:
        delivered: By the number of the life: channel, offset and data in order.
    """

    def __init__(self, url: str) -> None:
        self.delivered: list[list[tuple[str, int, bytes]]] = []
        self.observers: list[RecordingObserver] = []
        self._url = url

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Take over, publish what waits, and end without a word."""
        database = Database(self._url)
        await database.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(self._run(database))
                yield
                task.cancel()
        finally:
            await database.close()

    async def _run(self, database: Database) -> None:
        observer = RecordingObserver()
        delivered: list[tuple[str, int, bytes]] = []
        self.observers.append(observer)
        self.delivered.append(delivered)

        def deliver(channel: str, publication: Publication, _: str) -> None:
            delivered.append((channel, publication.offset, publication.data))

        tenure = Tenure(time.monotonic, 5.0)  # noqa: TID251 - it never runs out
        tenure.begin(await _take_over(database), math.inf)
        ids = SystemIds()
        background = Background(observer.failed)
        memory = MemoryStreams(now=time.monotonic, new_epoch=ids.epoch)  # noqa: TID251 - a real process lives in real time
        streams = DurableStreams(
            StreamTables(database),
            tenure,
            elsewhere=memory,
            tasks=background,
            resolve=_NAMESPACES.resolve,
            now=time.monotonic,  # noqa: TID251 - a real process lives in real time
            wall=time.time,  # noqa: TID251 - a real process lives in real time
            new_epoch=ids.epoch,
            observer=observer,
            overtaken=tenure.end,
        )
        streams.use(deliver)
        outbox = Outbox(
            OutboxTable(database),
            streams.append_all,
            token=lambda: tenure.token if tenure.holds() else 0,
            namespaces=_NAMESPACES,
            options=OutboxOptions(message_bytes=65_536, poll_seconds=0.05),
            now=time.monotonic,  # noqa: TID251 - a real process lives in real time
            observer=observer,
        )
        bell = OutboxListener.at(database.target) if database.kind == "postgres" else None
        async with asyncio.TaskGroup() as tasks:
            background.use(tasks)
            tasks.create_task(streams.run())
            await outbox.run(bell)


async def stored(url: str) -> dict[str, list[Publication]]:
    """Return what is in the streams."""
    database = Database(url)
    await database.start()
    tables = StreamTables(database)
    found = {name: await tables.read(name, after=0, limit=1_000_000, oldest=0.0, max_bytes=2**40) for name in CHANNELS}
    await database.close()
    return found


async def until_published(url: str) -> None:
    """Wait until nothing waits in the outbox."""
    database = Database(url)
    await database.start()
    table = OutboxTable(database)
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            while (await table.figures()).waiting:  # noqa: ASYNC110 - each look takes its time
                await asyncio.sleep(0.02)
    finally:
        await database.close()


async def _live_through(url: str, *, rows: int) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - told when it fails
    overlaps = not url.startswith("sqlite")
    # Transactions on SQLite are one after the other, so that more connections would only wait.
    load = Load(application_on(url), rows=rows, connections=8 if overlaps else 2, seed=seed, overlaps=overlaps)
    database = Database(url)
    await database.start()
    await renew(database, "firstone")
    await database.close()
    lives = Lives(url)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run())
        for number in range(1, _RESTARTS + 1):
            async with lives.live():
                await load.until_committed(rows * number // (_RESTARTS + 1))
        async with lives.live():
            await load.until_over()
            await until_published(url)
    streams = await stored(url)

    assert load.rolled_back
    for name, items in streams.items():
        assert list(range(1, len(items) + 1)) == [item.offset for item in items], name
    check_order(load, {name: [item.data for item in items] for name, items in streams.items()})
    _check_deliveries(lives, streams)
    assert [] == [error for observer in lives.observers for error in observer.failures], seed


def _check_deliveries(lives: Lives, streams: dict[str, list[Publication]]) -> None:
    """What each life delivered stands in the streams like that; nothing was delivered twice, and little not at all."""
    data = {(name, item.offset): item.data for name, items in streams.items() for item in items}
    seen: set[tuple[str, int]] = set()
    for delivered in lives.delivered:
        tops: defaultdict[str, int] = defaultdict(int)
        for name, offset, sent in delivered:
            assert data[name, offset] == sent
            assert (name, offset) not in seen
            assert tops[name] < offset

            tops[name] = offset
            seen.add((name, offset))
    # What a life had committed when it ended, nobody delivers again: clients recover it.
    assert len(data) - len(seen) <= _RESTARTS * 512


async def test_survives_ends_without_a_word(database_url: str) -> None:
    """Eight connections on Postgres, two on SQLite, and three ends in between."""
    await _live_through(database_url, rows=1_500)


@pytest.mark.rounds
async def test_survives_ends_without_a_word_in_ten_thousand_rows(database_url: str) -> None:
    """The whole load."""
    await _live_through(database_url, rows=10_000)
