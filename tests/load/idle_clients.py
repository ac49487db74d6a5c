"""Many connections that only sit there: a process of its own, so that its descriptors are not the service's.

    python -m tests.load.idle_clients PORT COUNT

It connects COUNT clients with a token each, writes ``connected`` on a line of its own, waits
for a line on its input, closes all of them at once, writes ``closed`` and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys

from typing_extensions import override

from tests.support.process import ServiceProcess
from tests.support.raw_websocket import TEXT, build_frame, upgrade_request

_AT_ONCE = 100
"""Handshakes under way; few enough for the share of those who have not said who they are."""


class IdleClient(asyncio.Protocol):
    """One connection: shakes hands, connects, answers pings, says nothing else.

    Attributes:
        connected: Done when the connect reply has come; fails when the connection ends before.
    """

    __slots__ = ("_buffer", "_is_open", "_token", "connected", "transport")

    def __init__(self, token: str) -> None:
        self._token = token
        self._buffer = b""
        self._is_open = False
        self.connected = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(upgrade_request())

    @override
    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        if self.connected.done():
            if data == b"\x81\x02{}":
                self.transport.write(build_frame(TEXT, b"{}"))
            return
        self._buffer += data
        if not self._is_open and b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 "):
                self.connected.set_exception(ConnectionError(head.decode("latin-1")))
                return
            self._is_open = True
            command = {"id": 1, "connect": {"token": self._token}}
            self.transport.write(build_frame(TEXT, json.dumps(command).encode()))
        if b'"connect":{' in self._buffer:
            self._buffer = b""
            self.connected.set_result(None)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.connected.done():
            self.connected.set_exception(exc or ConnectionError("closed before it was connected"))


async def main(port: int, count: int) -> None:
    """Do what the module says."""
    loop = asyncio.get_running_loop()
    places = asyncio.Semaphore(_AT_ONCE)
    clients: list[IdleClient] = []

    async def connect(number: int) -> None:
        async with places:
            token = ServiceProcess.token(f"idle{number}")
            _, client = await loop.create_connection(lambda: IdleClient(token), "127.0.0.1", port)
            await client.connected
            clients.append(client)

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(connect(number))
    print("connected", flush=True)  # noqa: T201 - how it speaks with the test
    await asyncio.to_thread(sys.stdin.readline)
    for client in clients:
        if client.transport is not None:
            client.transport.abort()
    # The sockets are closed in the next turn of the loop.
    await asyncio.sleep(0)
    print("closed", flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
