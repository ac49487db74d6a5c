"""A WebSocket client that may break every rule, and reads nothing that it was not asked to read.

Frames are built and taken apart here by hand, so that a test does not check a library
against itself. There is no buffer but the kernel's: a client that does not read is
one whose ``receive_frame`` nobody calls. Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

__all__ = (
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Closed",
    "RawFrame",
    "RawWebSocket",
    "Response",
    "build_frame",
    "close_payload",
    "upgrade_request",
)

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

DEADLINE_SECONDS: Final = 15.0
"""For everything that must happen; long, since a loaded machine is no defect."""

_CHUNK_BYTES: Final = 65536
_NO_STATUS: Final = 1005


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One frame from the server.

    Attributes:
        reserved: The three reserved bits, 0 to 7.
        wire: All its bytes as they came.
    """

    is_final: bool
    reserved: int
    opcode: int
    is_masked: bool
    payload: bytes
    wire: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """Head of an HTTP response, and its body where there is one.

    Attributes:
        headers: By lower-case name.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:  # noqa: ANN401 - whatever JSON it holds
        """Return what the body says."""
        return json.loads(self.body)


class Closed(Exception):  # noqa: N818 - an end, not always an error
    """The server ended the connection.

    Attributes:
        code: Of its close frame; 1005 for one without a code, 1006 when there was no close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason

    @override
    def __str__(self) -> str:
        return f"closed with {self.code} {self.reason!r}"


def close_payload(code: int, reason: str = "") -> bytes:
    """Return the payload of a close frame."""
    return struct.pack("!H", code) + reason.encode()


def build_frame(  # noqa: PLR0913 - every bit of a frame can be wrong
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length_bytes: int | None = None,
    length: int | None = None,
) -> bytes:
    """Return one frame, right or wrong.

    Args:
        length_bytes: Extra bytes of the length: 0, 2 or 8; None for the shortest.
        length: What the header says, when that is not the length of ``payload``.
    """
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    mark = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes((final << 7 | reserved << 4 | opcode, masked << 7 | mark))
    head += size.to_bytes(length_bytes, "big") if length_bytes else b""
    if not masked:
        return head + payload
    key = os.urandom(4)
    stream = key * (len(payload) // 4 + 1)
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stream[: len(payload)], "big")
    return head + key + mixed.to_bytes(len(payload), "big")


def upgrade_request(
    path: str = "/connection/websocket",
    headers: Iterable[tuple[str, str]] = (),
    *,
    host: str = "127.0.0.1",
    leave_out: Iterable[str] = (),
) -> bytes:
    """Return the head of an upgrade request.

    Args:
        headers: Added, in this order; a name that is one of the usual ones takes its place.
        leave_out: Names, in lower case, of usual headers that are not sent.
    """
    usual = {
        "host": host,
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
        "sec-websocket-version": "13",
    }
    extra = list(headers)
    given = {name.lower() for name, _ in extra} | set(leave_out)
    lines = [f"{name}: {value}" for name, value in usual.items() if name not in given]
    lines += [f"{name}: {value}" for name, value in extra]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


class RawWebSocket:
    """One TCP connection to the service, and the WebSocket on it once it was upgraded.

    Attributes:
        response: Of the handshake.
        client: Identity from the connect reply; empty before.
        answers_pings: Whether pings of the client protocol are answered while lines are read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._lines: deque[dict[str, Any]] = deque()
        self._id = 0
        self.response = Response(0, {})
        self.client = ""
        self.answers_pings = True
        self.pings = 0

    # The connection.

    @classmethod
    async def dial(cls, port: int, *, receive_buffer_bytes: int = 0) -> RawWebSocket:
        """Open a TCP connection and send nothing.

        Args:
            receive_buffer_bytes: Of the kernel; 0 leaves it to the kernel.
        """
        sock = socket.socket()
        try:
            sock.setblocking(False)  # noqa: FBT003 - as the standard library has it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @classmethod
    async def handshake(
        cls,
        port: int,
        path: str = "/connection/websocket",
        headers: Iterable[tuple[str, str]] = (),
        *,
        receive_buffer_bytes: int = 0,
    ) -> RawWebSocket:
        """Ask for an upgrade and read the answer, whatever it is."""
        raw = await cls.dial(port, receive_buffer_bytes=receive_buffer_bytes)
        try:
            await raw.send(upgrade_request(path, headers))
            await raw.read_response()
        except BaseException:
            raw.abandon()
            raise
        return raw

    @classmethod
    async def open(
        cls,
        port: int,
        path: str = "/connection/websocket",
        headers: Iterable[tuple[str, str]] = (),
        *,
        receive_buffer_bytes: int = 0,
    ) -> RawWebSocket:
        """Open a WebSocket; it is an error of the test when it is refused."""
        raw = await cls.handshake(port, path, headers, receive_buffer_bytes=receive_buffer_bytes)
        if raw.response.status != 101:
            raw.abandon()
            raise AssertionError(f"refused with {raw.response.status}: {raw.response.body!r}")
        return raw

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without a word; idempotent."""
        self._sock.close()

    def reset(self) -> None:
        """Have the kernel send a reset instead of an orderly end."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def finish_sending(self) -> None:
        """Send the end of the stream, and go on reading; a server that has reset the connection needs no end."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    @property
    def local_port(self) -> int:
        """Of this end, by which the server's end can be found."""
        return int(self._sock.getsockname()[1])

    # Bytes.

    async def send(self, data: bytes | memoryview, *, seconds: float = DEADLINE_SECONDS) -> None:
        """Send bytes as they are; raises ``TimeoutError`` when the peer does not take them."""
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def try_send(self, data: bytes) -> bool:
        """Send bytes to a peer that may be gone already; False when it was."""
        try:
            await self.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def send_now(self, data: bytes | memoryview) -> int:
        """Hand the kernel what it takes without waiting; returns how many bytes that were, 0 when the peer is gone."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return 0

    async def _receive(self) -> bool:
        """Read once; False at the end of the stream."""
        try:
            chunk = await asyncio.get_running_loop().sock_recv(self._sock, _CHUNK_BYTES)
        except ConnectionResetError:
            return False
        self._buffer += chunk
        return bool(chunk)

    async def _fill(self, count: int) -> None:
        while len(self._buffer) < count:
            if not await self._receive():
                raise Closed(1006, "end of stream")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def read_response(self) -> Response:
        """Read an HTTP response."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                await self._fill(len(self._buffer) + 1)
            lines = self._take(end + 4).decode("latin-1").split("\r\n")
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
            }
            status = int(lines[0].split(" ")[1])
            body = await self._body(headers) if status != 101 else b""
        self.response = Response(status, headers, body)
        return self.response

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b""
            while True:
                while (end := self._buffer.find(b"\r\n")) < 0:
                    await self._fill(len(self._buffer) + 1)
                size = int(self._take(end + 2), 16)
                await self._fill(size + 2)
                body += self._take(size + 2)[:size]
                if not size:
                    return body
        if "content-length" in headers:
            await self._fill(int(headers["content-length"]))
            return self._take(int(headers["content-length"]))
        while await self._receive():
            pass
        return self._take(len(self._buffer))

    async def expect_end(self) -> None:
        """Wait for the end of the TCP connection; what still comes is thrown away."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self._receive():
                self._buffer.clear()

    # Frames.

    async def send_frame(self, opcode: int, payload: bytes = b"", **bits: Any) -> None:  # noqa: ANN401 - of build_frame
        """Send one frame; ``bits`` as in `build_frame`."""
        await self.send(build_frame(opcode, payload, **bits))

    async def send_text(self, text: str | bytes) -> None:
        """Send one text message."""
        await self.send_frame(TEXT, text.encode() if isinstance(text, str) else text)

    async def receive_frame(self) -> RawFrame:
        """Read the next frame; raises `Closed` at the end of the stream."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._fill(2)
            mark = self._buffer[1] & 127
            extra = {126: 2, 127: 8}.get(mark, 0)
            head = 2 + extra + (4 if self._buffer[1] & 128 else 0)
            await self._fill(head)
            size = int.from_bytes(self._buffer[2 : 2 + extra], "big") if extra else mark
            await self._fill(head + size)
        wire = self._take(head + size)
        first, second = wire[0], wire[1]
        return RawFrame(bool(first & 128), first >> 4 & 7, first & 15, bool(second & 128), wire[head:], wire)

    async def expect_frame(self, opcode: int) -> RawFrame:
        """Read the next frame, which must be a correct one of this kind."""
        frame = await self.receive_frame()
        if frame.opcode == CLOSE != opcode:
            raise _closed(frame.payload)

        assert (opcode, True, 0, False) == (frame.opcode, frame.is_final, frame.reserved, frame.is_masked)

        return frame

    async def expect_closed(self, code: int, *, answer: bool = True) -> str:
        """Read until the server ends the connection; returns the reason.

        Args:
            code: Expected; 1006 for an end without a close frame.
            answer: Send the close frame back, as RFC 6455 wants, and wait for the end.
        """
        closed = await self.until_closed()

        assert code == closed.code, closed

        if closed.code != 1006:
            if answer:
                await self.try_send(build_frame(CLOSE, close_payload(code) if code != _NO_STATUS else b""))
            await self.expect_end()
        return closed.reason

    async def until_closed(self) -> Closed:
        """Read and drop everything up to the end."""
        try:
            while True:
                frame = await self.receive_frame()
                if frame.opcode == CLOSE:
                    return _closed(frame.payload)
                if self.answers_pings and frame.payload == b"{}":
                    await self.try_send(build_frame(TEXT, b"{}"))
        except Closed as closed:
            return closed

    # The client protocol.

    async def say(self, *commands: Mapping[str, Any]) -> None:
        """Send commands in one message."""
        await self.send_text("\n".join(json.dumps(command) for command in commands))

    def next_id(self) -> int:
        """Return an id for a command."""
        self._id += 1
        return self._id

    async def receive_line(self) -> dict[str, Any]:
        """Read the next reply or push; raises `Closed` when the connection ends instead."""
        while True:
            while self._lines:
                line = self._lines.popleft()
                if line:
                    return line
                self.pings += 1
                if self.answers_pings:
                    await self.send_text(b"{}")
            frame = await self.expect_frame(TEXT)
            self._lines.extend(json.loads(line) for line in frame.payload.split(b"\n"))

    async def expect_line(self) -> dict[str, Any]:
        """As `receive_line`, and a test that reads a close here has failed."""
        return await self.receive_line()

    async def expect_reply(self, command_id: int | None = None) -> dict[str, Any]:
        """Read the next line, which must be a reply."""
        line = await self.receive_line()

        assert "id" in line, line
        assert command_id in (None, line["id"]), line

        return line

    async def expect_push(self, kind: str, channel: str | None = None) -> Any:  # noqa: ANN401 - whatever it carries
        """Read the next line, which must be a push of this kind; returns what it carries."""
        line = await self.receive_line()

        assert kind in line.get("push", ()), line
        assert channel in (None, line["push"].get("channel")), line

        return line["push"][kind]

    async def publications_until_closed(self) -> tuple[list[Any], Closed]:
        """Read publications until the end; returns them, and the end."""
        found: list[Any] = []
        try:
            while True:
                found.append(await self.expect_push("pub"))
        except Closed as closed:
            return found, closed

    async def expect_no_push(self) -> None:
        """See that nothing came before the answer to a question asked now."""
        await self.call("unsubscribe", {"channel": "nothing-was-pushed"})

    async def call(self, method: str, params: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the result's own shape
        """Send a command and return its result; the next line must be its reply."""
        command_id = self.next_id()
        await self.say({"id": command_id, method: params})
        reply = await self.expect_reply(command_id)

        assert method in reply, reply

        return reply[method]

    async def refused(self, method: str, params: Mapping[str, Any]) -> int:
        """Send a command that is refused, and return the code of the error."""
        command_id = self.next_id()
        await self.say({"id": command_id, method: params})
        reply = await self.expect_reply(command_id)

        assert "error" in reply, reply

        return int(reply["error"]["code"])

    async def connect(self, token: str = "", **fields: object) -> dict[str, Any]:
        """Say who it is, and return the result of connect."""
        result: dict[str, Any] = await self.call("connect", {"token": token, **fields} if token else fields)
        self.client = result["client"]
        return result

    async def subscribe(self, channel: str, **fields: object) -> dict[str, Any]:
        """Subscribe and return the result."""
        result: dict[str, Any] = await self.call("subscribe", {"channel": channel, **fields})
        return result


def _closed(payload: bytes) -> Closed:
    if not payload:
        return Closed(_NO_STATUS, "")
    return Closed(struct.unpack("!H", payload[:2])[0], payload[2:].decode())
