"""A network that loses answers: what a client sends arrives, and what it is told does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ("MuteProxy",)

_CHUNK_BYTES = 65536


class MuteProxy:
    """Passes bytes on in both directions, until it is told not to.

    Attributes:
        port: Where clients connect.
        is_mute: Whether the server's answers are swallowed. What clients send is passed on all the same.
    """

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self.is_mute = False
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def start(cls, upstream_port: int) -> AsyncIterator[MuteProxy]:
        """Listen on loopback, in front of a port on loopback."""
        proxy = cls(upstream_port)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut()
            for upstream in proxy._pairs.values():
                upstream.transport.abort()
            await proxy._is_idle.wait()
            await server.wait_closed()

    def cut(self) -> None:
        """Reset every client. The server finds out when it next waits for something to do."""
        for client in self._pairs:
            client.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        self._pairs[writer] = upstream
        self._is_idle.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ask(reader, upstream))
                tasks.create_task(self._answer(upstream_reader, writer))
        finally:
            writer.close()
            upstream.close()
            del self._pairs[writer]
            if not self._pairs:
                self._is_idle.set()

    async def _ask(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                upstream.write(chunk)
        with suppress(OSError):
            upstream.write_eof()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if not self.is_mute:
                    writer.write(chunk)
        # Else the other direction would wait for a client that waits for us.
        writer.transport.abort()
