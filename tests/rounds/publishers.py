"""Publishers of three kinds, each at a steady rate, one publication at a time, whatever becomes of it."""

from __future__ import annotations

import asyncio
import enum
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import aiosqlite
import asyncpg
import httpx
from centrifuge import CentrifugeError, Client, ClientState
from typing_extensions import override

from tests.rounds.ledger import Entry, Ledger
from tests.support.process import API_KEY
from tests.support.service_api import local_http

__all__ = ("HttpPublisher", "OutboxPublisher", "Outcome", "Publisher", "WebSocketPublisher")

_ANSWER_SECONDS = 3.0
_RETRY_SECONDS = 0.05
_LOSSES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class Outcome(enum.Enum):
    """What a publisher knows in the end."""

    ACKNOWLEDGED = "acknowledged"
    UNANSWERED = "unanswered"
    NOT_SENT = "not sent"


class Publisher(ABC):
    """Publishes its own name and a number that grows, into channels by chance.

    Args:
        name: Of this publisher.
        rate: Publications a second.
        chance: What decides on the channels.

    Attributes:
        may_publish: Closed while a test looks at what came.
        is_idle: Set while it waits for that.
        answered: How many were acknowledged.
    """

    def __init__(
        self, name: str, ledger: Ledger, channels: Sequence[str], *, rate: float, chance: random.Random
    ) -> None:
        self.name = name
        self.answered = 0
        self.may_publish = asyncio.Event()
        self.is_idle = asyncio.Event()
        self._ledger = ledger
        self._channels = channels
        self._rate = rate
        self._chance = chance
        self._number = 0
        self._progress = asyncio.Condition()

    async def until_answered(self, count: int) -> None:
        """Wait until so many were acknowledged."""
        async with self._progress:
            await self._progress.wait_for(lambda: self.answered >= count)

    async def run(self) -> None:
        """Publish until cancelled."""
        now = asyncio.get_running_loop().time
        due = now()
        while True:
            if not self.may_publish.is_set():
                self.is_idle.set()
                await self.may_publish.wait()
                self.is_idle.clear()
                due = now()
            self._number += 1
            entry = self._ledger.begin(f"{self.name}:{self._number}", self._chance.choice(self._channels))
            outcome = await self.publish(entry)
            if outcome is Outcome.ACKNOWLEDGED:
                entry.acknowledged = True
                self.answered += 1
                async with self._progress:
                    self._progress.notify_all()
            elif outcome is Outcome.NOT_SENT:
                self._ledger.cancel(entry)
                await asyncio.sleep(_RETRY_SECONDS)
            # What could not be sent in time is not made up for: it would come in one heap.
            due = max(due + 1 / self._rate, now())
            await asyncio.sleep(due - now())

    async def stop(self) -> None:  # noqa: B027 - most have nothing to close
        """Give back what it holds."""

    @abstractmethod
    async def publish(self, entry: Entry) -> Outcome:
        """Publish once."""


class HttpPublisher(Publisher):
    """A back end that uses the server API."""

    def __init__(self, url: str, *options: Any, **more: Any) -> None:  # noqa: ANN401 - of the base class
        super().__init__(*options, **more)
        self._url = f"{url}/api/publish"
        self._http = local_http()
        self._http.headers["X-API-Key"] = API_KEY

    @override
    async def stop(self) -> None:
        await self._http.aclose()

    @override
    async def publish(self, entry: Entry) -> Outcome:
        try:
            answer = await self._http.post(
                self._url, json={"channel": entry.channel, "data": entry.name}, timeout=_ANSWER_SECONDS
            )
            return Outcome.ACKNOWLEDGED if "result" in answer.json() else Outcome.UNANSWERED
        except httpx.ConnectError:
            return Outcome.NOT_SENT
        except (httpx.HTTPError, ValueError):
            return Outcome.UNANSWERED


class WebSocketPublisher(Publisher):
    """A stock client."""

    def __init__(self, url: str, token: str, *options: Any, **more: Any) -> None:  # noqa: ANN401 - of the base class
        super().__init__(*options, **more)
        self._client = Client(
            url, token=token, proxy=None, timeout=_ANSWER_SECONDS, min_reconnect_delay=0.05, max_reconnect_delay=0.5
        )

    async def start(self) -> None:
        """Connect."""
        await self._client.connect()
        await self._client.ready()

    @override
    async def stop(self) -> None:
        """Disconnect."""
        await self._client.disconnect()

    @override
    async def publish(self, entry: Entry) -> Outcome:
        if self._client.state is not ClientState.CONNECTED:
            # The client would hold it back until it is connected; this way it is known what was under way.
            return Outcome.NOT_SENT
        try:
            await self._client.publish(entry.channel, entry.name)
        except (CentrifugeError, OSError):
            return Outcome.UNANSWERED
        return Outcome.ACKNOWLEDGED


class OutboxPublisher(Publisher):
    """An application that inserts rows, each in a transaction of its own.

    What is acknowledged is the commit.

    Args:
        connect: Makes a connection to the database.
    """

    def __init__(self, connect: Callable[[], Any], *options: Any, **more: Any) -> None:  # noqa: ANN401 - of the base class
        super().__init__(*options, **more)
        self._connect = connect
        self._connection: Any = None

    @classmethod
    def on(cls, url: str, *options: Any, **more: Any) -> OutboxPublisher:  # noqa: ANN401 - as above
        """Return one for the database of a URL."""
        if url.startswith("sqlite:///"):
            path = url.removeprefix("sqlite:///")
            return cls(lambda: aiosqlite.connect(path, timeout=30.0, isolation_level=None), *options, **more)
        return cls(lambda: asyncpg.connect(url, timeout=_ANSWER_SECONDS), *options, **more)

    @override
    async def publish(self, entry: Entry) -> Outcome:
        try:
            if self._connection is None:
                self._connection = await self._connect()
        except _LOSSES:
            return Outcome.NOT_SENT
        try:
            await self._connection.execute(*_insert(self._connection, entry))
        except _LOSSES:
            await self.stop()
            return Outcome.UNANSWERED
        return Outcome.ACKNOWLEDGED

    @override
    async def stop(self) -> None:
        """Close its connection."""
        connection, self._connection = self._connection, None
        if isinstance(connection, aiosqlite.Connection):
            await connection.close()
        elif connection is not None:
            connection.terminate()


def _insert(connection: Any, entry: Entry) -> tuple[Any, ...]:  # noqa: ANN401 - of two drivers
    data = json.dumps(entry.name)
    if isinstance(connection, aiosqlite.Connection):
        return "INSERT INTO slackwater_outbox (channel, data) VALUES (?, ?)", (entry.channel, data)
    return "INSERT INTO slackwater_outbox (channel, data) VALUES ($1, $2)", entry.channel, data
