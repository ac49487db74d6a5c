"""A bad network between a client and the service."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("TcpProxy",)

_CHUNK_BYTES = 65536


class TcpProxy:
    """Passes bytes on, until it is told not to.

    Attributes:
        port: Where clients connect.
        is_open: Whether new connections are passed on; while it is false they are reset.
    """

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._may_read = asyncio.Event()
        self._may_read.set()
        self.is_open = True
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def start(cls, upstream_port: int) -> AsyncIterator[TcpProxy]:
        """Listen on loopback, in front of a port on loopback."""
        proxy = cls(upstream_port)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut()
            await server.wait_closed()

    @property
    def ws_url(self) -> str:
        """Where stock clients connect."""
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        self._may_read.set()
        for client, upstream in list(self._pairs.items()):
            _reset(client)
            _reset(upstream)

    def stall(self) -> None:
        """Take nothing more from the service, as a client that does not read."""
        self._may_read.clear()

    def flow(self) -> None:
        """Go on after a stall."""
        self._may_read.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_open:
            _reset(writer)
            return
        # A small buffer towards the service, so that a stall is felt soon.
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)  # noqa: FBT003 - as the standard library has it
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._upstream_port))
        upstream_reader, upstream = await asyncio.open_connection(sock=sock, limit=8192)
        self._pairs[writer] = upstream
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass_on(reader, upstream, None))
                tasks.create_task(_pass_on(upstream_reader, writer, self._may_read))
        finally:
            del self._pairs[writer]
            writer.close()
            upstream.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None) -> None:
    try:
        while True:
            if gate is not None:
                await gate.wait()
            chunk = await reader.read(_CHUNK_BYTES)
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        # Cut, here or there; the other direction ends by itself.
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
