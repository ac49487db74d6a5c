"""The transport for any ASGI server: the same behaviour through ``receive`` and ``send``.

ASGI can only send by awaiting, so this transport holds what is not sent yet and
sends it from a task of its own. Under uvicorn `uvicorn_protocol` needs neither.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from service.core.codes import Disconnect, Disconnects
from service.core.frames import payload_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.realtime.connection import Connection

__all__ = ("AsgiTransport",)

_CLOSE_SECONDS: Final = 5.0


class AsgiTransport:
    """A `Transport` over one accepted ASGI WebSocket.

    Args:
        receive: Of ASGI.
        send: Of ASGI.
        limit: Bytes that may wait to be sent.
        max_frame_bytes: Longest message taken in.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        *,
        limit: int,
        max_frame_bytes: int,
    ) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._max_frame_bytes = max_frame_bytes
        self._connection: Connection | None = None
        self._frames: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._is_paused = False
        self._closing: tuple[int, str] | None = None

    def attach(self, connection: Connection) -> None:
        """Hand what comes to ``connection``."""
        self._connection = connection

    async def run(self) -> None:
        """Serve until the socket is gone; call it after the handshake was accepted."""
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read())
                writer = tasks.create_task(self._write())
                writer.add_done_callback(lambda _: reader.cancel())
                reader.add_done_callback(lambda _: self._wake.set())
        finally:
            self._lost()

    def _lost(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost()

    async def _read(self) -> None:
        while True:
            await self._may_read.wait()
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                self._closing = self._closing or (1000, "")
                self._frames.clear()
                self._lost()
                return
            if self._connection is not None and self._closing is None:
                self._take(self._connection, event)

    def _take(self, connection: Connection, event: dict[str, Any]) -> None:
        text = event.get("text")
        if text is None:
            connection.receive_binary()
            return
        message = text.encode("utf-8", "surrogatepass")
        if len(message) > self._max_frame_bytes:
            reason = f"message too big: at most {self._max_frame_bytes} bytes"
            connection.close(Disconnect(Disconnects.MESSAGE_TOO_BIG.code, reason))
        else:
            connection.receive(message)

    async def _write(self) -> None:
        while True:
            while self._frames:
                frame = self._frames.popleft()
                await self._bounded({"type": "websocket.send", "text": payload_of(frame).decode()})
                self._waiting_bytes -= len(frame)
                self._read_or_not()
                if self._connection is not None and not self.is_over_limit():
                    self._connection.drained()
            if self._closing is not None:
                break
            self._wake.clear()
            await self._wake.wait()
        if self._connection is not None:
            code, reason = self._closing
            await self._bounded({"type": "websocket.close", "code": code, "reason": reason})

    async def _bounded(self, event: dict[str, Any]) -> None:
        """Send; once the connection is closing a peer that does not read has only some seconds left."""
        try:
            if self._closing is not None:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._send(event)
            else:
                await self._send(event)
        except (OSError, RuntimeError, TimeoutError):
            # The peer went away: ASGI servers say so in different ways.
            self._frames.clear()
            self._closing = self._closing or (1000, "")

    # Transport.

    def write(self, frame: bytes) -> None:
        """Put a frame behind those that wait."""
        if self._closing is not None:
            return
        self._frames.append(frame)
        self._waiting_bytes += len(frame)
        self._wake.set()
        if self.is_over_limit():
            self._read_or_not()
            if self._connection is not None:
                self._connection.overfull()

    def close(self, code: int, reason: str) -> None:
        """Close behind what waits; idempotent."""
        if self._closing is None:
            self._closing = (code, reason)
            self._wake.set()
            self._may_read.set()

    def is_over_limit(self) -> bool:
        """Whether more than the limit waits."""
        return self._waiting_bytes > self._limit

    def pause_reading(self) -> None:
        """Take nothing more in."""
        self._is_paused = True
        self._read_or_not()

    def resume_reading(self) -> None:
        """Take in again."""
        self._is_paused = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        if (self._is_paused or self.is_over_limit()) and self._closing is None:
            self._may_read.clear()
        else:
            self._may_read.set()
