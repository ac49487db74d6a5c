"""Stock subscribers that write down, in few bytes, what reached them."""

from __future__ import annotations

import asyncio

from centrifuge import (
    Client,
    ClientEventHandler,
    ConnectedContext,
    ConnectingContext,
    DisconnectedContext,
    PublicationContext,
    SubscribedContext,
    SubscribingContext,
    SubscriptionErrorContext,
    SubscriptionEventHandler,
    UnsubscribedContext,
)

from tests.rounds.ledger import Seen

__all__ = ("Subscriber",)

_DEADLINE_SECONDS = 60.0


class _Connection(ClientEventHandler):
    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.closes: list[int] = []

    async def on_connected(self, _: ConnectedContext) -> None:
        self.connected.set()

    async def on_connecting(self, context: ConnectingContext) -> None:
        self.connected.clear()
        self.closes.append(context.code)

    async def on_disconnected(self, context: DisconnectedContext) -> None:
        self.connected.clear()
        self.closes.append(context.code)


class Subscriber(SubscriptionEventHandler):
    """One connection with one subscription.

    Attributes:
        seen: Every publication, in the order in which they came.
        recoveries: How often it came back and had missed nothing.
        losses: How often it was told that something is lost.
        closes: Codes with which its connection ended.
        troubles: What its subscription was refused with, and what ended it.
    """

    def __init__(self, url: str, token: str, channel: str) -> None:
        self.channel = channel
        self.seen: list[Seen] = []
        self.recoveries = 0
        self.losses = 0
        self.troubles: list[str] = []
        self._connection = _Connection()
        self._subscribed = asyncio.Event()
        self._awaited = 0
        self._reached = asyncio.Event()
        self._client = Client(
            url,
            events=self._connection,
            token=token,
            proxy=None,
            timeout=5.0,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.5,
        )

    @property
    def closes(self) -> list[int]:
        """Why its connection ended, each time; the first entry is its beginning."""
        return self._connection.closes

    async def start(self) -> None:
        """Connect, and return when subscribed."""
        await self._client.connect()
        self._subscription = self._client.new_subscription(
            self.channel, events=self, recoverable=True, positioned=True, min_resubscribe_delay=0.05
        )
        await self._subscription.subscribe()
        async with asyncio.timeout(_DEADLINE_SECONDS):
            await self._subscribed.wait()

    async def stop(self) -> None:
        """Disconnect."""
        await self._client.disconnect()

    async def until(self, offset: int) -> None:
        """Wait for the publication at an offset, or one behind it."""
        self._awaited = offset
        self._reached.clear()
        if self.seen and self.seen[-1].offset >= offset:
            return
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await self._reached.wait()
        except TimeoutError:
            top = self.seen[-1] if self.seen else None
            raise AssertionError(
                f"{self.channel}: waited for {offset}, got as far as {top}; connection {self._client.state.value},"
                f" closes {self.closes}, subscription {self._subscription.state.value},"
                f" recoveries {self.recoveries}, losses {self.losses}, troubles {self.troubles}"
            ) from None

    async def on_subscribed(self, context: SubscribedContext) -> None:
        """Count how it came back."""
        if context.was_recovering:
            self.recoveries += context.recovered
            self.losses += not context.recovered
        self._subscribed.set()

    async def on_subscribing(self, context: SubscribingContext) -> None:
        """Write down what it was that ended."""
        self.troubles.append(f"{context.code} {context.reason}")

    async def on_unsubscribed(self, context: UnsubscribedContext) -> None:
        """Write down why it gave up."""
        self.troubles.append(f"unsubscribed: {context.code} {context.reason}")

    async def on_error(self, context: SubscriptionErrorContext) -> None:
        """Write down why it was refused."""
        self.troubles.append(f"error: {context.code} {context.error}")

    async def on_publication(self, context: PublicationContext) -> None:
        """Write it down."""
        self.seen.append(Seen(context.pub.offset, context.pub.data))
        if context.pub.offset >= self._awaited:
            self._reached.set()
