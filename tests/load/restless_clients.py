"""Clients that come, talk, vanish without closing, and come back: a process of its own.

    python -m tests.load.restless_clients PORT COUNT SECONDS

Each client connects, subscribes to one of a hundred channels, publishes about once a second, and
after some seconds vanishes: most by a reset, some by never answering again until the
service gives them up. Then it comes back as the same user. At the end it writes a line of JSON with what
happened, resets what is left, and ends.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter

from typing_extensions import override

from tests.support.process import ServiceProcess
from tests.support.raw_websocket import TEXT, build_frame, upgrade_request

_CHANNELS = 100
_SILENT_SHARE = 0.2
_GIVEN_UP_SECONDS = 30.0


class RestlessClient(asyncio.Protocol):
    """One connection of a client.

    Attributes:
        subscribed: Done when the subscribe reply has come, cancelled when the connection ends before.
        lost: Set when the connection has ended.
    """

    def __init__(self, token: str, channel: str, counts: Counter[str]) -> None:
        self._token, self._channel, self._counts = token, channel, counts
        self._head = b""
        self._next_id = 3
        self._is_silent = False
        self.subscribed = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()
        self.transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(upgrade_request())

    @override
    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        if self._is_silent:
            return
        if not self.subscribed.done():
            self._head += data
            if b"\r\n\r\n" in self._head and b" 101 " in self._head[:20] and self._next_id == 3:
                self._next_id = 4
                lines = (
                    {"id": 1, "connect": {"token": self._token}},
                    {"id": 2, "subscribe": {"channel": self._channel}},
                )
                self.transport.write(build_frame(TEXT, "\n".join(map(json.dumps, lines)).encode()))
            if b'"id":2,"subscribe"' in self._head:
                self.subscribed.set_result(None)
                self._head = b""
            return
        self._counts["pushes"] += data.count(b'"pub"')
        self._counts["refusals"] += data.count(b'"error"')
        if data.endswith(b"\x81\x02{}"):
            self.transport.write(build_frame(TEXT, b"{}"))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.subscribed.cancel()
        self.lost.set()

    def publish(self, number: int) -> None:
        """Send a publication of some hundred bytes."""
        assert self.transport is not None
        self._next_id += 1
        command = {"id": self._next_id, "publish": {"channel": self._channel, "data": {"n": number, "pad": "x" * 200}}}
        self.transport.write(build_frame(TEXT, json.dumps(command).encode()))
        self._counts["published"] += 1

    async def vanish(self, chance: random.Random) -> None:
        """Be gone without a word."""
        assert self.transport is not None
        if self.transport.is_closing():
            return
        if chance.random() < _SILENT_SHARE:
            self._counts["silent"] += 1
            self._is_silent = True
            try:
                async with asyncio.timeout(_GIVEN_UP_SECONDS):
                    await self.lost.wait()
            except TimeoutError:
                self._counts["never given up"] += 1
        self._counts["vanished"] += 1
        self.transport.abort()


async def _live(number: int, port: int, ends_at: float, counts: Counter[str]) -> None:
    loop, chance = asyncio.get_running_loop(), random.Random(number)  # noqa: S311 - so that runs repeat
    token = ServiceProcess.token(f"restless{number}", seconds=7200)
    channel = f"soak{number % _CHANNELS}"
    await asyncio.sleep(chance.random() * 5)
    while loop.time() < ends_at:
        try:
            async with asyncio.timeout(20):
                _, client = await loop.create_connection(
                    lambda: RestlessClient(token, channel, counts), "127.0.0.1", port
                )
                await client.subscribed
        except (OSError, TimeoutError, asyncio.CancelledError):
            counts["refused"] += 1
            await asyncio.sleep(1 + chance.random())
            continue
        counts["connected"] += 1
        for publication in range(chance.randrange(2, 12)):
            await asyncio.sleep(0.7 + chance.random())
            if client.lost.is_set():
                counts["cut"] += 1
                break
            client.publish(publication)
        await client.vanish(chance)
        await asyncio.sleep(chance.random() * 2)


async def main(port: int, count: int, seconds: float) -> None:
    """Do what the module says."""
    counts: Counter[str] = Counter()
    ends_at = asyncio.get_running_loop().time() + seconds
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(_live(number, port, ends_at, counts))
    print(json.dumps(counts), flush=True)  # noqa: T201 - how it speaks with whoever started it


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
