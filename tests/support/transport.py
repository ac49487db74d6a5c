"""A transport that writes into a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from service.core.frames import payload_of
from service.realtime.ports import Transport

if TYPE_CHECKING:
    from service.realtime.connection import Connection

__all__ = ("FakeTransport",)


class FakeTransport(Transport):
    """Keeps every frame, and how it was closed.

    Attributes:
        frames: As they were written; what is written after the close is dropped, as a socket would.
        closed: Code and reason of the first close; None while it is open.
        is_reading: Whether the peer may send.
        is_full: Set by a test: the buffer is over its limit, which the connection learns at the next write.
    """

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.is_reading = True
        self.is_full = False
        self._connection: Connection | None = None

    def attach(self, connection: Connection) -> None:
        """Say whom to tell that the buffer is over its limit."""
        self._connection = connection

    @property
    def payloads(self) -> list[bytes]:
        """What was framed."""
        return [payload_of(frame) for frame in self.frames]

    @override
    def write(self, frame: bytes) -> None:
        if self.closed is not None:
            return
        self.frames.append(frame)
        if self.is_full and self._connection is not None:
            self._connection.overfull()

    @override
    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)

    @override
    def is_over_limit(self) -> bool:
        return self.is_full

    @override
    def pause_reading(self) -> None:
        self.is_reading = False

    @override
    def resume_reading(self) -> None:
        self.is_reading = True
