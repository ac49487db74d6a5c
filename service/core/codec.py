"""Bytes of the JSON protocol: lines into commands, and replies and pushes into bytes.

A text message holds one or more JSON objects, one a line, in both directions.
Everything is built by joining bytes, since payloads are raw JSON that must not
be parsed and written anew on its way through.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from service.core.messages import Command

if TYPE_CHECKING:
    from service.core.codes import Disconnect, Error, Unsubscribe
    from service.core.stream import Publication

__all__ = (
    "MAX_DEPTH",
    "PING",
    "client_info",
    "compact",
    "decode_command",
    "disconnect_reason",
    "encode",
    "error_reply",
    "is_json",
    "is_readable",
    "join_push",
    "leave_push",
    "message_push",
    "publication",
    "publication_push",
    "push",
    "quote",
    "reply",
    "split",
    "too_deep",
    "unsubscribe_push",
)

PING = b"{}"
"""What the server sends as a ping, and a client as its pong."""

MAX_DEPTH = 128
"""Nesting of arrays and objects in one command or payload; deeper JSON overflows the parsers of some clients."""

encode = msgspec.json.encode
# Both run on whatever a stranger sends, so each byte is looked at once: nothing is given back, a string that does not
# end takes all that is left, and a number is only tried from its first digit on.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
# Python's own parser refuses integers of more digits, so one publication could break every Python client of a channel.
_LONG_NUMBER: Final = re.compile(rb"(?<![0-9])[0-9]{4301}")
_BRACKET: Final = re.compile(rb"[\[\]{}]")
_decode_command = msgspec.json.Decoder(Command).decode


def split(frame: bytes) -> list[bytes]:
    """Cut a text message into its lines; a newline at the end is tolerated, an empty line stays and will not parse."""
    if b"\n" not in frame:
        return [frame]
    return frame.removesuffix(b"\n").split(b"\n")


def decode_command(line: bytes) -> Command | None:
    """Read one line; None when it is not a command that the protocol knows."""
    if not is_readable(line):
        return None
    try:
        return _decode_command(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def too_deep(data: bytes) -> bool:
    """Whether arrays and objects nest deeper than ``MAX_DEPTH``; brackets inside strings do not count."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def is_readable(data: bytes) -> bool:
    """Whether the parsers of all clients take this JSON: nested no deeper than ``MAX_DEPTH``, no endless integer."""
    if too_deep(data):
        return False
    return _LONG_NUMBER.search(data) is None or _LONG_NUMBER.search(_STRING.sub(b"", data)) is None


def is_json(data: bytes) -> bool:
    """Whether ``data`` is one JSON value in UTF-8 that every client can read."""
    try:
        data.decode()
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return bool(data) and is_readable(data)


def compact(data: bytes | msgspec.Raw) -> bytes:
    """Return a payload of its own without line breaks, which would end a line of the protocol.

    JSON allows raw line breaks only between tokens, so a space in their place
    changes nothing.
    """
    raw = bytes(data)
    if b"\n" in raw or b"\r" in raw:
        return raw.replace(b"\n", b" ").replace(b"\r", b" ").strip()
    return raw


def quote(text: str) -> bytes:
    """Return ``text`` as a JSON string."""
    return encode(text)


def reply(request_id: int, method: str, result: bytes = b"{}") -> bytes:
    """Answer a command; the method's key is there even when its result is empty."""
    return b'{"id":%d,"%b":%b}' % (request_id, method.encode(), result)


def error_reply(request_id: int, error: Error) -> bytes:
    """Refuse a command."""
    temporary = b',"temporary":true' if error.temporary else b""
    return b'{"id":%d,"error":{"code":%d,"message":%b%b}}' % (request_id, error.code, quote(error.message), temporary)


def client_info(user: str, client: str, conn_info: bytes | None, chan_info: bytes | None) -> bytes:
    """Describe a connection in a channel; both infos are raw JSON, None when there is none."""
    parts = [b'{"user":', quote(user), b',"client":', quote(client)]
    if conn_info is not None:
        parts += (b',"conn_info":', conn_info)
    if chan_info is not None:
        parts += (b',"chan_info":', chan_info)
    parts.append(b"}")
    return b"".join(parts)


def publication(item: Publication) -> bytes:
    """Encode a publication as it stands in pushes, recovery and history alike."""
    parts = [b'{"data":', item.data]
    if item.info is not None:
        parts += (b',"info":', item.info)
    if item.offset:
        parts.append(b',"offset":%d' % item.offset)
    if item.tags is not None:
        parts += (b',"tags":', item.tags)
    parts.append(b"}")
    return b"".join(parts)


def push(channel: str, kind: str, body: bytes) -> bytes:
    """Something about a channel that no command asked for."""
    return b'{"push":{"channel":%b,"%b":%b}}' % (quote(channel), kind.encode(), body)


def publication_push(channel: str, encoded: bytes) -> bytes:
    """A publication, already encoded, on its way to a subscriber."""
    return push(channel, "pub", encoded)


def join_push(channel: str, info: bytes) -> bytes:
    """Somebody subscribed."""
    return push(channel, "join", b'{"info":%b}' % info)


def leave_push(channel: str, info: bytes) -> bytes:
    """Somebody left."""
    return push(channel, "leave", b'{"info":%b}' % info)


def unsubscribe_push(channel: str, why: Unsubscribe) -> bytes:
    """The server ended a subscription."""
    return push(channel, "unsubscribe", b'{"code":%d,"reason":%b}' % (why.code, quote(why.reason)))


def message_push(data: bytes) -> bytes:
    """A message to the connection as a whole, such as an announcement."""
    return b'{"push":{"message":{"data":%b}}}' % data


def disconnect_reason(why: Disconnect) -> str:
    """Cut a reason to the 123 bytes that a close frame holds, at a whole character."""
    return why.reason.encode()[:123].decode(errors="ignore")
