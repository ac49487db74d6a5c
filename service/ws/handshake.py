"""The opening handshake: whether a request may become a WebSocket. Source: RFC 6455 section 4.2.

Nearly every request is exactly what the RFC asks for, and is recognised here. What
is not goes to the websockets library, which knows why it must be refused.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import TYPE_CHECKING, Final, NamedTuple

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.utils import accept_key

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Rejection", "check", "switching")

_SWITCHING: Final = 101
_KEY_BYTES: Final = 16
_NAMES: Final = (b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version")


class Rejection(NamedTuple):
    """An HTTP answer in the place of a WebSocket."""

    status: int
    headers: dict[str, str]
    body: bytes


def check(method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> str | Rejection:
    """Return the value for ``Sec-WebSocket-Accept``, or the answer that refuses the request.

    Args:
        method: Of the request.
        target: Path and query, as they came.
        headers: Names in lower case.
    """
    key = _plain_key(method, headers)
    return accept_key(key) if key is not None else _examine(method, target, headers)


def switching(accept: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the answer that makes it a WebSocket, with further headers."""
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept.encode(),
        *(name + b": " + value for name, value in headers),
        b"\r\n",
    ]
    return b"\r\n".join(lines)


def _plain_key(method: str, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Return the key of a request that is beyond doubt; None when somebody has to look closer."""
    found = [(name, value) for name, value in headers if name in _NAMES]
    fields = dict(found)
    if method != "GET" or len(found) != len(_NAMES) or len(fields) != len(_NAMES):
        return None
    if fields[b"upgrade"].lower() != b"websocket" or fields[b"sec-websocket-version"] != b"13":
        return None
    if b"upgrade" not in [token.strip().lower() for token in fields[b"connection"].split(b",")]:
        return None
    key = fields[b"sec-websocket-key"]
    try:
        return key.decode() if len(a2b_base64(key, strict_mode=True)) == _KEY_BYTES else None
    except (Base64Error, ValueError):
        return None


def _examine(method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> str | Rejection:
    fields = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    response = ServerProtocol().accept(Request(target.decode("latin-1"), fields, method))
    if response.status_code == _SWITCHING:
        return response.headers["Sec-WebSocket-Accept"]
    # The version goes with every refusal, since it may be the reason. Source: RFC 6455 section 4.4.
    answer = {**dict(response.headers.raw_items()), "Sec-WebSocket-Version": "13"}
    return Rejection(response.status_code, answer, bytes(response.body or b""))
