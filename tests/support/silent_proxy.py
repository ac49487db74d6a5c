"""A network between the service and its database that can fall silent: nothing is closed, and nothing arrives."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("SilentProxy",)

_CHUNK_BYTES = 65536


class SilentProxy:
    """Passes bytes on in both directions, until it is told not to.

    Attributes:
        port: Where the service connects, on 127.0.0.1.
    """

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._may_pass = asyncio.Event()
        self._may_pass.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def start(cls, upstream_port: int) -> AsyncIterator[SilentProxy]:
        """Listen on loopback, in front of a port on loopback."""
        proxy = cls(upstream_port)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut()
            proxy.resume()
            await server.wait_closed()

    def silence(self) -> None:
        """Hold back everything from now on, the opening of new connections and the closing of old ones included."""
        self._may_pass.clear()

    def resume(self) -> None:
        """Pass on what was held back, and whatever comes."""
        self._may_pass.set()

    def cut(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._may_pass.wait()
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            self._writers.add(upstream)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._pass_on(reader, upstream))
                    tasks.create_task(self._pass_on(upstream_reader, writer))
            finally:
                self._writers.discard(upstream)
                upstream.close()
        except OSError:
            # The database is not there: the service sees its connection end.
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._may_pass.wait()
                writer.write(chunk)
                await writer.drain()
            await self._may_pass.wait()
        except OSError:
            # Gone on one side; the other is told below.
            pass
        writer.close()
