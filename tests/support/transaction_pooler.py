"""A pooler in front of Postgres that gives a session another backend for each transaction.

It speaks as much of the protocol as asyncpg needs, and lets everybody in: its own connections go over
the server's Unix socket, which asks for no password. Source: PostgreSQL documentation, chapter 54.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("TransactionPooler",)

_SSL_REQUEST: Final = 80877103
_ENDS: Final = (b"Q", b"S")
"""Messages of a client after which the server answers with ReadyForQuery."""


@dataclass(slots=True)
class _Backend:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: bytes = b""

    async def answer(self, to: asyncio.StreamWriter | None = None) -> bool:
        """Hand on everything up to ReadyForQuery; return whether a transaction is open then."""
        while True:
            kind, message = await _message(self.reader)
            if to is None:
                self.greeting += message
            else:
                to.write(message)
            if kind == b"Z":
                return message[-1:] != b"I"


class TransactionPooler:
    """Listens in front of one server.

    Args:
        socket: The server's Unix socket.
        order: Which free backend is taken next: the one that was used last (``last``), as real poolers do, or the
            one that was used longest ago (``turns``).

    Attributes:
        port: Where clients connect, on 127.0.0.1.
    """

    def __init__(self, socket: str, order: Literal["last", "turns"]) -> None:
        self._socket = socket
        self._order = order
        self._free: list[_Backend] = []
        self._clients: list[asyncio.StreamWriter] = []
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def start(cls, socket: str, order: Literal["last", "turns"]) -> AsyncIterator[TransactionPooler]:
        """Listen on loopback."""
        pooler = cls(socket, order)
        server = await asyncio.start_server(pooler._serve, "127.0.0.1", 0)
        pooler.port = server.sockets[0].getsockname()[1]
        try:
            yield pooler
        finally:
            server.close()
            for writer in pooler._clients:
                writer.transport.abort()
            await server.wait_closed()
            for backend in pooler._free:
                backend.writer.close()
                await backend.writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend: _Backend | None = None
        self._clients.append(writer)
        try:
            startup = await self._startup(reader, writer)
            while len(self._free) < 2:
                self._free.append(await self._open(startup))
            writer.write(self._free[0].greeting)
            while True:
                kind, message = await _message(reader)
                backend = backend or self._take() or await self._open(startup)
                async with asyncio.TaskGroup() as tasks:
                    answer = tasks.create_task(backend.answer(writer))
                    backend.writer.write(message)
                    while kind not in _ENDS:
                        kind, message = await _message(reader)
                        backend.writer.write(message)
                if not answer.result():
                    self._free.append(backend)
                    backend = None
        except* (asyncio.IncompleteReadError, ConnectionError):
            # The client has gone.
            pass
        finally:
            if backend is not None:
                backend.writer.close()
            writer.close()

    async def _startup(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        while True:
            length = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack(">I", length)[0] - 4)
            if struct.unpack(">I", body[:4])[0] != _SSL_REQUEST:
                return length + body
            writer.write(b"N")

    def _take(self) -> _Backend | None:
        if not self._free:
            return None
        return self._free.pop(-1 if self._order == "last" else 0)

    async def _open(self, startup: bytes) -> _Backend:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        writer.write(startup)
        backend = _Backend(reader, writer)
        await backend.answer()
        return backend


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    if head[:1] == b"X":
        raise ConnectionResetError
    return head[:1], head + await reader.readexactly(struct.unpack(">I", head[1:])[0] - 4)
