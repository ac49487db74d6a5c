"""Stock clients in processes of their own, and what each of them received.

As a program (``python -m tests.deploytool.live.crowd``) it is one part of a crowd: what it is to do comes on stdin, a
line of JSON each, and what has happened goes to stdout in the same way.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler
from typing_extensions import override

from tests.simcluster.images import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from centrifuge import (
        ConnectedContext,
        ConnectingContext,
        PublicationContext,
        SubscribedContext,
        UnsubscribedContext,
    )

__all__ = ("Crowd", "Seen", "crowd")

_START_SECONDS = 90.0
_TURN_SECONDS = 0.05
_LINE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Seen:
    """What one client saw.

    Attributes:
        count: Of publications, over all channels; those of a channel are numbered from 0 on.
        odd: The first of each channel that came out of turn, as the channel, its number and that of the one before;
            empty when each came once and in order.
        subscribed: How often it was subscribed to a channel at least: once, and once more for each time it came back.
        gaps: How often it was told that it had missed something, or was sent away for good.
        lost_at: When its connections were lost, in unix seconds.
        back_at: When it was connected again.
    """

    count: int
    odd: list[str]
    subscribed: int
    gaps: int
    lost_at: list[float]
    back_at: list[float]


class Crowd:
    """Clients that are subscribed to the same channels, each in one of a few processes."""

    def __init__(self, parts: Sequence[subprocess.Popen[str]]) -> None:
        self._parts = parts

    def until(self, count: int, *, seconds: float = 60.0) -> list[Seen]:
        """Wait until each has received so many publications, or the time is over; returns what each saw."""
        for part in self._parts:
            _tell(part, {"until": count, "seconds": seconds})
        return [Seen(**one) for part in self._parts for one in _told(part)["seen"]]

    def now(self) -> list[Seen]:
        """Return what each has seen so far."""
        return self.until(0)


@contextmanager
def crowd(
    url: str,
    secret: str,
    channels: Sequence[str],
    count: int,
    *,
    processes: int = 1,
    most_back_off_seconds: float = 20.0,
) -> Iterator[Crowd]:
    """Connect and subscribe stock clients; yields when all are subscribed.

    Args:
        url: Of the WebSocket.
        secret: That their tokens are signed with.
        channels: That each of them subscribes to.
        count: Of clients.
        processes: Over which they are spread: one is a processor at most.
        most_back_off_seconds: Between two attempts of a client to come back; 20 is its default.
    """
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with ExitStack() as stack:
        parts = []
        for number in range(processes):
            command = [sys.executable, "-m", "tests.deploytool.live.crowd"]
            part = stack.enter_context(
                subprocess.Popen(  # noqa: S603 - ours
                    command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            stack.callback(part.kill)
            names = [f"u{one}" for one in range(number, count, processes)]
            until = int(time.time()) + 3600  # noqa: TID251 - of real tokens
            tokens = [jwt.encode({"sub": name, "exp": until}, secret, "HS256") for name in names]
            _tell(part, {"url": url, "channels": channels, "tokens": tokens, "back_off": most_back_off_seconds})
            parts.append(part)
        for part in parts:
            _told(part)
        yield Crowd(parts)
        for part in parts:
            _tell(part, {"end": True})
        for part in parts:
            assert part.wait(_START_SECONDS) == 0


def _tell(part: subprocess.Popen[str], what: dict[str, Any]) -> None:
    assert part.stdin is not None
    part.stdin.write(json.dumps(what) + "\n")
    part.stdin.flush()


def _told(part: subprocess.Popen[str]) -> dict[str, Any]:
    assert part.stdout is not None
    line = part.stdout.readline()
    assert line, "a part of the crowd ended"
    found: dict[str, Any] = json.loads(line)
    return found


@dataclass(slots=True)
class _Connections(ClientEventHandler):
    connected_at: list[float] = field(default_factory=list)
    lost_at: list[float] = field(default_factory=list)

    @override
    async def on_connecting(self, ctx: ConnectingContext) -> None:
        if self.connected_at:
            self.lost_at.append(time.time())  # noqa: TID251 - of real connections

    @override
    async def on_connected(self, ctx: ConnectedContext) -> None:
        self.connected_at.append(time.time())  # noqa: TID251 - ditto


@dataclass(slots=True)
class _Events(SubscriptionEventHandler):
    channel: str
    count: int = 0
    odd: str = ""
    subscribed: int = 0
    gaps: int = 0
    last: int = -1
    is_subscribed: asyncio.Event = field(default_factory=asyncio.Event)

    @override
    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self.subscribed += 1
        self.gaps += ctx.was_recovering and not ctx.recovered
        self.is_subscribed.set()

    @override
    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        self.gaps += 1

    @override
    async def on_publication(self, ctx: PublicationContext) -> None:
        number: int = ctx.pub.data["n"]
        if number != self.last + 1 and not self.odd:
            self.odd = f"{self.channel}: {number} after {self.last}"
        self.last = number
        self.count += 1


class _Part:
    """Some of the clients, with the events of each in each channel."""

    def __init__(self) -> None:
        self._clients: list[tuple[_Connections, list[_Events]]] = []

    async def connect(self, begin: Mapping[str, Any], stack: AsyncExitStack) -> None:
        """Connect and subscribe all of them."""
        for token in begin["tokens"]:
            connections = _Connections()
            client = Client(begin["url"], connections, token=token, max_reconnect_delay=begin["back_off"], proxy=None)
            stack.push_async_callback(client.disconnect)
            await client.connect()
            self._clients.append((connections, [_Events(channel) for channel in begin["channels"]]))
            for events in self._clients[-1][1]:
                options = {"recoverable": True, "positioned": True}
                await client.new_subscription(events.channel, events, **options).subscribe()
        async with asyncio.timeout(_START_SECONDS):
            for _, channels in self._clients:
                for events in channels:
                    await events.is_subscribed.wait()

    async def until(self, count: int, seconds: float) -> None:
        """Wait until each client has so many publications, or the time is over."""
        until = asyncio.get_running_loop().time() + seconds
        while any(one["count"] < count for one in self.seen()):
            if asyncio.get_running_loop().time() >= until:
                return
            await asyncio.sleep(_TURN_SECONDS)

    def seen(self) -> list[dict[str, Any]]:
        """Return what each has seen."""
        return [
            {
                "count": sum(one.count for one in channels),
                "odd": [one.odd for one in channels if one.odd],
                "subscribed": min(one.subscribed for one in channels),
                "gaps": sum(one.gaps for one in channels),
                "lost_at": connections.lost_at,
                "back_at": connections.connected_at[1:],
            }
            for connections, channels in self._clients
        ]


async def _main() -> None:
    """Be a part of a crowd until stdin says that it is over."""
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    part = _Part()
    async with AsyncExitStack() as stack:
        await part.connect(json.loads(await reader.readline()), stack)
        _say({"subscribed": True})
        while not (told := json.loads(await reader.readline())).get("end"):
            await part.until(told["until"], told["seconds"])
            _say({"seen": part.seen()})


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main())
