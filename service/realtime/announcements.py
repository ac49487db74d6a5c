"""What every client is told about maintenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.core import codec
from service.core.session import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.realtime.connection import Connection
    from service.realtime.hub import Hub

__all__ = ("Announcements",)


class Announcements:
    """The announcement in force, if any. Event loop only.

    Attributes:
        data: Raw JSON that clients get as the data of a ``message`` push; None when none is in force.
        until: Monotonic seconds when it lapses unless it is renewed.
    """

    def __init__(self, hub: Hub, *, now: Callable[[], float]) -> None:
        self._hub = hub
        self._now = now
        self.data: bytes | None = None
        self.until = 0.0

    def announce(self, data: bytes, ttl_seconds: float) -> int:
        """Tell every client, and those who connect while it is in force.

        To announce the same again renews it without telling anybody twice.

        Returns:
            How many were told now.
        """
        is_new = data != self.data
        self.data, self.until = data, self._now() + ttl_seconds
        return self.tell_all(data) if is_new else 0

    def tell_all(self, data: bytes) -> int:
        """Send a message to every client once; returns how many there were."""
        told = 0
        line = codec.message_push(data)
        for connection in list(self._hub.connections.values()):
            if connection.session.state is State.CONNECTED:
                connection.push(line)
                told += 1
        return told

    def greet(self, connection: Connection) -> None:
        """Tell somebody who has just connected what is in force."""
        if self.data is not None:
            connection.session.push(codec.message_push(self.data))

    def cancel(self) -> bool:
        """Withdraw it and say so; False when none was in force."""
        if self.data is None:
            return False
        self.data = None
        self.tell_all(codec.encode({"type": "maintenance", "state": "cancelled"}))
        return True

    def reset(self) -> None:
        """Forget it without a word: nobody is served any more."""
        self.data = None

    def tick(self, now: float) -> None:
        """Let it lapse when nobody renewed it."""
        if self.data is not None and now >= self.until:
            self.data = None
