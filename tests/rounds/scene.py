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
from tests.rounds.witness import Moment, Witness, until_all_is_read
from tests.support.postgres import PostgresServer
from tests.support.process import API_KEY
from tests.support.restarts import RestartedService
from tests.support.service_api import figures, local_http

__all__ = ("Counts", "Scene")

_CHANNELS = 20
# More than is to be acknowledged: each publisher waits for its answer, and makes up for nothing.
_RATE = 264.0
_WEBSOCKETS, _BACK_ENDS, _OUTBOXES = 4, 4, 3
# At which moments it is looked at whether something is being committed, until it is.
_LOOKS = 500
_LONGEST_LOOKING_AWAY_SECONDS = 0.01
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
        writing: Rounds at whose end a transaction of the service had written and not ended.
        answered: Rounds at whose end one had been committed, and nobody had been told of it.
        looks: How often it was looked at whether that was so.
        committed_unanswered: Rounds in which something was kept although its publisher never heard of it.
        unknown: Commits whose outcome the service did not know.
        unanswered: Publications that nobody confirmed.
        kept: Those of them that came all the same.
        acknowledged: Publications in the time before the ends, of which ``seconds`` is the sum.
    """

    rounds: int = 0
    writing: int = 0
    answered: int = 0
    looks: int = 0
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
        self._ledger = Ledger()
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

    async def kill_during_commit(self, witness: Witness) -> None:
        """Kill the service at a moment by chance at which a commit is under way.

        At such a moment the service is stopped, and the database is asked from outside. When nothing is being
        committed the service goes on, and there is another moment. After many in vain it is killed all the same.
        """
        service, moment = self.service, None
        for _ in range(_LOOKS):
            self.counts.looks += 1
            await service.freeze()
            moment = await witness.look(service.process.pid)
            if moment is not None:
                break
            service.thaw()
            await asyncio.sleep(self.chance.uniform(0.0, _LONGEST_LOOKING_AWAY_SECONDS))
        if moment is Moment.WRITING:
            self.counts.writing += 1
        elif moment is Moment.ANSWERED:
            await until_all_is_read(service.process.port)
            tops = await witness.tops()
            self.counts.answered += any(top > self._told(channel) for channel, top in tops.items())
        await service.kill()

    async def stop_during_statement(self, server: PostgresServer) -> None:
        """Stop Postgres at a moment by chance at which it works on a statement; most of them are appends.

        At such a moment it is paused, and looked at. After many moments in vain it is stopped all the same.
        """
        for _ in range(_LOOKS):
            self.counts.looks += 1
            await asyncio.to_thread(server.pause)
            # As what an append counts there; what the applications of the outbox do is another word.
            if "SELECT" in await asyncio.to_thread(server.at_work):
                break
            await asyncio.to_thread(server.resume)
            await asyncio.sleep(self.chance.uniform(0.0, _LONGEST_LOOKING_AWAY_SECONDS))
        await asyncio.to_thread(server.stop_where_it_stands)

    def _told(self, channel: str) -> int:
        """Return the highest offset of a channel that any subscriber has heard of; 0 for none."""
        return max((subscriber.seen[-1].offset for subscriber in self._of(channel) if subscriber.seen), default=0)

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
        entry.acknowledged = True
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
            f" {counts.kept} of them kept; at the end of {counts.writing} rounds a transaction was writing, of"
            f" {counts.answered} one was committed and nobody told, after {counts.looks} looks; in"
            f" {counts.committed_unanswered} something was kept without an answer; {counts.unknown} unknown outcomes;"
            f" {sum(subscriber.recoveries for subscriber in self._subscribers)} recoveries"
        )
