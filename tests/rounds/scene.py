"""A service that is ended again and again, and everybody around it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from service.db.database import Database
from service.db.outbox import OutboxTable
from tests.rounds.ledger import Ledger
from tests.rounds.publishers import HttpPublisher, OutboxPublisher, Publisher, WebSocketPublisher
from tests.rounds.subscribers import Subscriber
from tests.support.process import API_KEY
from tests.support.restarts import RestartedService
from tests.support.service_api import figures, local_http

__all__ = ("Counts", "Scene")

_CHANNELS = 20
_RATE = 200.0
_WEBSOCKETS, _BACK_ENDS, _OUTBOXES = 3, 3, 2
_DEADLINE_SECONDS = 60.0
_MARKER = "marker"

# A tenth of what they are in production, but for the time to serve: on a machine with two
# cores, a hundred clients and a database, half a second passes easily.
_ENVIRON = {
    "LOCK_PROVE_SECONDS": "0.2",
    "LOCK_SERVE_SECONDS": "1.0",
    "LOCK_WAIT_SECONDS": "1.2",
    "LOCK_SESSION_SECONDS": "3.0",
    "OUTBOX_POLL_SECONDS": "0.1",
    "WS_MESSAGES_PER_MINUTE": "0",
    "WS_COMMANDS_PER_MINUTE": "0",
    "WS_PING_INTERVAL": "5000",
    "DRAIN_SPREAD_SECONDS": "0",
}

_NAMESPACE = {
    "name": "rounds",
    "history_size": 1_000_000,
    "history_ttl": "24h",
    "force_recovery": True,
    "allow_recovery": True,
    "allow_positioning": True,
    "allow_subscribe_for_client": True,
    "allow_publish_for_client": True,
}


@dataclass
class Counts:
    """What happened in all rounds so far.

    Attributes:
        in_flight: Rounds at whose end something was being committed: sent and not answered.
        committed_unanswered: Rounds in which something was kept although its publisher never heard of it.
        unknown: Commits whose outcome the service did not know.
        unanswered: Publications that nobody confirmed.
        kept: Those of them that came all the same.
        acknowledged: Publications in the time before the ends, of which ``seconds`` is the sum.
    """

    rounds: int = 0
    in_flight: int = 0
    committed_unanswered: int = 0
    unknown: int = 0
    unanswered: int = 0
    kept: int = 0
    acknowledged: int = 0
    seconds: float = 0.0


class Scene:
    """The service as a process, publishers of three kinds, and a hundred stock subscribers.

    Args:
        database_url: Migrated.
        directory: For what the service is told in files.
        subscribers: Spread over the twenty channels.

    Attributes:
        counts: What happened so far.
        service: Restarted by a test.
    """

    def __init__(self, database_url: str, directory: Path, *, subscribers: int) -> None:
        self.counts = Counts()
        self.service: RestartedService
        self.chance = random.Random()  # noqa: S311 - moments and channels
        self._database_url = database_url
        self._namespaces = directory / "namespaces.json"
        self._namespaces.write_text(json.dumps({"namespaces": [_NAMESPACE]}))
        self._ledger = Ledger(lambda: asyncio.get_running_loop().time())
        self._channels = [f"rounds:{number}" for number in range(_CHANNELS)]
        self._subscriber_count = subscribers
        self._subscribers: list[Subscriber] = []
        self._publishers: list[Publisher] = []
        self._markers = 0
        self._known_unanswered: set[str] = set()

    @property
    def environ(self) -> Mapping[str, str]:
        """Settings of the service."""
        return {
            **_ENVIRON,
            "DATABASE_URL": self._database_url,
            "NAMESPACES_FILE": str(self._namespaces),
        }

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start everything; at the end of the block everything is stopped."""
        async with RestartedService.run(self.environ) as self.service:
            try:
                async with asyncio.TaskGroup() as tasks:
                    running = [tasks.create_task(publisher.run()) for publisher in await self._enter()]
                    yield
                    for task in running:
                        task.cancel()
            finally:
                await self._leave()

    async def _enter(self) -> list[Publisher]:
        service, ledger, channels = self.service.process, self._ledger, self._channels
        for number in range(self._subscriber_count):
            self._subscribers.append(
                Subscriber(service.ws_url, service.token(f"s{number}"), channels[number % _CHANNELS])
            )
        async with asyncio.TaskGroup() as tasks:
            for subscriber in self._subscribers:
                tasks.create_task(subscriber.start())
        shared = {"rate": _RATE / (_WEBSOCKETS + _BACK_ENDS + _OUTBOXES), "chance": self.chance}
        sockets = [
            WebSocketPublisher(service.ws_url, service.token(f"w{number}"), f"ws{number}", ledger, channels, **shared)
            for number in range(_WEBSOCKETS)
        ]
        for publisher in sockets:
            await publisher.start()
        self._publishers += sockets
        self._publishers += [
            HttpPublisher(service.url, f"http{number}", ledger, channels, **shared) for number in range(_BACK_ENDS)
        ]
        self._publishers += [
            OutboxPublisher.on(self._database_url, f"outbox{number}", ledger, channels, **shared)
            for number in range(_OUTBOXES)
        ]
        return self._publishers

    async def _leave(self) -> None:
        for publisher in self._publishers:
            await publisher.stop()
        for subscriber in self._subscribers:
            await subscriber.stop()

    async def unknown_outcomes(self) -> int:
        """Return how many commits of this process had an outcome that it did not know."""
        return int((await figures(self.service.process)).get('events_total{event="database.unsettled"}', 0))

    # A round.

    async def publish_for(self, seconds: float) -> None:
        """Let the publishers publish for a while; a random moment is then over."""
        for publisher in self._publishers:
            publisher.may_publish.set()
        before = sum(publisher.answered for publisher in self._publishers)
        # The load goes on meanwhile: this is no wait for anything.
        await asyncio.sleep(seconds)
        self.counts.acknowledged += sum(publisher.answered for publisher in self._publishers) - before
        self.counts.seconds += seconds

    async def until_in_flight(self, *, at_least_seconds: float = 0.001, within_seconds: float = 0.5) -> bool:
        """Wait until something that was sent a moment ago has not been answered yet; False when that does not come."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_seconds
        while loop.time() < deadline:
            if self._ledger.waits_since() >= at_least_seconds:
                return True
            await asyncio.sleep(0.0002)
        return False

    async def until_answered(self) -> None:
        """Wait until every publisher was acknowledged once more: the service is back for all of them."""
        before = {publisher: publisher.answered for publisher in self._publishers}
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                for publisher in self._publishers:
                    await publisher.until_answered(before[publisher] + 1)
        except TimeoutError:
            late = [publisher.name for publisher in before if publisher.answered == before[publisher]]
            raise AssertionError(f"nobody answers {late}\n{self.service.process.log()}") from None

    async def settle(self) -> None:
        """Stop publishing, wait until everybody has everything, and check what they have."""
        for publisher in self._publishers:
            publisher.may_publish.clear()
        async with asyncio.timeout(_DEADLINE_SECONDS):
            for publisher in self._publishers:
                await publisher.is_idle.wait()
        await self._until_outbox_is_empty()
        self._markers += 1
        async with local_http() as http, asyncio.TaskGroup() as tasks:
            tops = [tasks.create_task(self._mark(http, channel)) for channel in self._channels]
        for subscriber in self._subscribers:
            await subscriber.until(tops[self._channels.index(subscriber.channel)].result())
        self._check()

    async def _until_outbox_is_empty(self) -> None:
        database = Database(self._database_url)
        table = OutboxTable(database)
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                while (await table.figures()).waiting:  # noqa: ASYNC110 - each look takes its time
                    await asyncio.sleep(0.02)
        finally:
            await database.close()

    async def _mark(self, http: httpx.AsyncClient, channel: str) -> int:
        """Publish something behind everything else, and return its offset."""
        entry = self._ledger.begin(f"{_MARKER}-{channel}:{self._markers}", channel)
        answer = await http.post(
            f"{self.service.process.url}/api/publish",
            json={"channel": channel, "data": entry.name},
            headers={"X-API-Key": API_KEY},
            timeout=_DEADLINE_SECONDS,
        )
        self._ledger.acknowledge(entry)
        return int(answer.json()["result"]["offset"])

    def _of(self, channel: str) -> Iterator[Subscriber]:
        return (subscriber for subscriber in self._subscribers if subscriber.channel == channel)

    def _check(self) -> None:
        seen: set[str] = set()
        for channel in self._channels:
            subscribers = list(self._of(channel))
            self._ledger.check(channel, [subscriber.seen for subscriber in subscribers])
            seen.update(item.name for item in subscribers[0].seen)

        assert 0 == sum(subscriber.losses for subscriber in self._subscribers), "recovered: false"

        counts = self.counts
        unanswered = {name for name, entry in self._ledger.entries.items() if not entry.acknowledged}
        news = unanswered - self._known_unanswered
        self._known_unanswered = unanswered
        counts.rounds += 1
        counts.unanswered += len(news)
        counts.kept += len(news & seen)
        counts.committed_unanswered += bool(news & seen)

    def summary(self) -> str:
        """Return what happened, for people."""
        counts = self.counts
        return (
            f"{counts.rounds} rounds, {len(self._ledger.entries)} publications, before the ends"
            f" {counts.acknowledged / counts.seconds:.0f} acknowledged a second, {counts.unanswered} unanswered,"
            f" {counts.kept} of them kept; in {counts.in_flight} rounds something was being committed at the end, in"
            f" {counts.committed_unanswered} something was kept without an answer; {counts.unknown} unknown outcomes;"
            f" {sum(subscriber.recoveries for subscriber in self._subscribers)} recoveries"
        )
