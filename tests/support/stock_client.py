"""The stock Python client, with everything it reports written down."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from centrifuge import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("Events", "StockClient", "stock_client")

DEADLINE_SECONDS = 20.0


class Events:
    """What a client or a subscription reported; takes any ``on_...`` that the client calls.

    Attributes:
        seen: Every event as (name without ``on_``, what came with it), in order.
        times: When, in seconds of the loop's clock, by the name of the event.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self._waiting: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)

    def __getattr__(self, name: str) -> Callable[[Any], Awaitable[None]]:
        if not name.startswith("on_"):
            raise AttributeError(name)
        kind = name.removeprefix("on_")

        async def note(context: Any) -> None:  # noqa: ANN401 - one class for each event
            self.seen.append((kind, context))
            self.times[kind].append(asyncio.get_running_loop().time())
            self._waiting[kind].put_nowait(context)

        return note

    async def expect(self, kind: str) -> Any:  # noqa: ANN401 - as above
        """Return the next event of a kind that nobody asked for yet."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await self._waiting[kind].get()
        except TimeoutError:
            raise AssertionError(f"no {kind!r} came; there was: {self.seen}") from None

    def of(self, kind: str) -> list[Any]:
        """Return all events of a kind so far."""
        return [context for name, context in self.seen if name == kind]

    @property
    def publications(self) -> list[Any]:
        """Data of every publication so far, in order."""
        return [context.pub.data for context in self.of("publication")]


class StockClient:
    """One stock client and its subscriptions.

    Attributes:
        client: As it comes from its package.
        events: Of the client itself; those of server-side subscriptions are among them.
    """

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 - of the client's constructor
        self.events = Events()
        options.setdefault("min_reconnect_delay", 0.05)
        self.client = Client(url, events=self.events, proxy=None, **options)

    async def connect(self) -> Any:  # noqa: ANN401 - the client's own class
        """Connect, and return what the client reported about it."""
        await self.client.connect()
        await self.events.expect("connecting")
        return await self.events.expect("connected")

    async def subscribe(self, channel: str, **options: Any) -> tuple[Any, Events]:  # noqa: ANN401 - of the client
        """Subscribe and wait until that has been confirmed."""
        subscription, events = await self.begin_subscribe(channel, **options)
        await events.expect("subscribed")
        return subscription, events

    async def begin_subscribe(self, channel: str, **options: Any) -> tuple[Any, Events]:  # noqa: ANN401 - of the client
        """Ask for a subscription, without waiting for the answer."""
        events = Events()
        subscription = self.client.new_subscription(channel, events=events, **options)
        await subscription.subscribe()
        return subscription, events


@asynccontextmanager
async def stock_client(url: str, **options: Any) -> AsyncIterator[StockClient]:  # noqa: ANN401 - of the client
    """Connect a stock client, and disconnect it in the end."""
    stock = StockClient(url, **options)
    try:
        await stock.connect()
        yield stock
    finally:
        await stock.client.disconnect()
