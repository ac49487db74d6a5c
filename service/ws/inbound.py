"""Bytes of a WebSocket client into messages, without anything kept while it is quiet.

The frames are parsed by the sans-I/O part of the websockets library. Its parser and
buffer are made when bytes come in and dropped with the last of them, so an
idle connection holds neither.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ("Inbound", "Kind", "Message")


class Kind(enum.Enum):
    """What a client sent, or how it broke the rules."""

    TEXT = "text"
    BINARY = "binary"
    PING = "ping"
    PONG = "pong"
    CLOSE = "close"
    FAULT = "fault"
    """Not RFC 6455: nothing after it is read. Its code says what was wrong."""


class Message(NamedTuple):
    """One whole message or control frame.

    Attributes:
        data: Payload; UTF-8 is checked for text.
        code: Of a close (1005 when it held none) or a fault; 0 otherwise.
        reason: Of a close or a fault.
    """

    kind: Kind
    data: bytes = b""
    code: int = 0
    reason: str = ""


_PROTOCOL_ERROR = 1002
_INVALID_DATA = 1007
_TOO_BIG = 1009

_FRAGMENT = Message(Kind.TEXT)
"""Stands for a part of a message that is not whole yet; never leaves this module."""


class Inbound:
    """What of a client's bytes is not a whole message yet.

    Args:
        max_bytes: Longest message; a longer one is refused by its header, before its payload is read.
    """

    __slots__ = ("_fragments", "_max_bytes", "_opcode", "_parser", "_reader", "_size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._reader: StreamReader | None = None
        self._parser: Generator[None, None, Frame] | None = None
        # One buffer: a list would hold a million parts of one byte, at forty times their size.
        self._fragments: bytearray | None = None
        self._opcode = Opcode.TEXT
        self._size = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is kept, so that this object can be dropped."""
        return self._reader is None and self._fragments is None

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes in and yield what they complete, in order; ends after a fault or a close."""
        reader = self._reader
        if reader is None:
            reader = self._reader = StreamReader()
        reader.feed_data(data)
        while reader.buffer or self._parser is not None:
            message = self._step(reader)
            if message is None:
                return
            if message is not _FRAGMENT:
                yield message
            if message.kind in (Kind.FAULT, Kind.CLOSE):
                return
        self._reader = None

    def _step(self, reader: StreamReader) -> Message | None:
        """Read one frame; None when it is not whole yet."""
        try:
            frame = self._next(reader)
            return None if frame is None else self._take(frame)
        except PayloadTooBig:
            return Message(Kind.FAULT, code=_TOO_BIG, reason=f"message too big: at most {self._max_bytes} bytes")
        except ProtocolError as error:
            return Message(Kind.FAULT, code=_PROTOCOL_ERROR, reason=f"protocol error: {error}")
        except UnicodeDecodeError:
            return Message(Kind.FAULT, code=_INVALID_DATA, reason="text is not UTF-8")

    def _next(self, reader: StreamReader) -> Frame | None:
        """Go on with the frame that is under way, or begin the next; None until it is whole."""
        parser = self._parser
        if parser is None:
            parser = Frame.parse(reader.read_exact, mask=True, max_size=self._max_bytes - self._size)
        try:
            next(parser)
        except StopIteration as whole:
            self._parser = None
            frame: Frame = whole.value
            return frame
        self._parser = parser
        return None

    def _take(self, frame: Frame) -> Message:
        data = bytes(frame.data)
        if frame.opcode is Opcode.PING:
            return Message(Kind.PING, data)
        if frame.opcode is Opcode.PONG:
            return Message(Kind.PONG, data)
        if frame.opcode is Opcode.CLOSE:
            close = Close.parse(data)
            return Message(Kind.CLOSE, data, close.code, close.reason)
        return self._collect(frame, data)

    def _collect(self, frame: Frame, data: bytes) -> Message:
        """Put a message together; control frames may stand between its parts. Source: RFC 6455 section 5.4."""
        if frame.opcode is Opcode.CONT:
            if self._fragments is None:
                raise ProtocolError("continuation of nothing")
        elif self._fragments is not None:
            raise ProtocolError("new message inside a fragmented one")
        else:
            self._opcode = frame.opcode
            if frame.fin:
                return _message(self._opcode, data)
            self._fragments = bytearray()
        self._fragments += data
        self._size += len(data)
        if not frame.fin:
            return _FRAGMENT
        data = bytes(self._fragments)
        self._fragments = None
        self._size = 0
        return _message(self._opcode, data)


def _message(opcode: Opcode, data: bytes) -> Message:
    if opcode is Opcode.BINARY:
        return Message(Kind.BINARY, data)
    if not data.isascii():
        data.decode()
    return Message(Kind.TEXT, data)
