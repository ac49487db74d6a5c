"""The one kind of WebSocket frame that is built by hand: a whole, unmasked text message.

A frame is built once and the same bytes are written to every subscriber, which
is what makes the fan-out fast. Source: RFC 6455 section 5.2.
"""

from __future__ import annotations

from typing import Final

__all__ = ("payload_of", "text_frame")


# Up to here a length stands in the second byte itself; from 126 on that byte says how many bytes it takes.
_SHORT: Final = 126
_LONG: Final = 127
_LONG_FROM: Final = 65536


def text_frame(payload: bytes) -> bytes:
    """Frame ``payload`` as one final text message from a server."""
    length = len(payload)
    if length < _SHORT:
        return bytes((0x81, length)) + payload
    if length < _LONG_FROM:
        return bytes((0x81, _SHORT, length >> 8, length & 255)) + payload
    return bytes((0x81, _LONG)) + length.to_bytes(8, "big") + payload


def payload_of(frame: bytes) -> bytes:
    """Return what `text_frame` was given, for transports that frame by themselves."""
    return frame[{_SHORT: 4, _LONG: 10}.get(frame[1], 2) :]
