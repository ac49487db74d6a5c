"""Every code of the client protocol, one row each.

The range of a code tells a client what to do, so a code is never written as a
literal anywhere else. Source: Centrifuge client protocol v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ("Disconnect", "Disconnects", "Error", "Errors", "Unsubscribe", "Unsubscribes", "rows")

_TERMINAL: Final = (range(3500, 4000), range(4500, 5000))
_RESUBSCRIBES_FROM: Final = 2500


@dataclass(frozen=True, slots=True)
class Error:
    """A coded failure of one command; the connection lives on.

    Attributes:
        temporary: True when the same command may succeed later; clients retry by themselves.
    """

    code: int
    message: str
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A coded end of a connection.

    Attributes:
        reason: Plain text, 1 to 123 bytes. Never empty: the JavaScript client reads a
            terminal code only when a reason comes with it.
    """

    code: int
    reason: str

    @property
    def reconnects(self) -> bool:
        """Whether a client comes back by itself after this code."""
        return not any(self.code in codes for codes in _TERMINAL)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A coded end of one subscription; at 2500 and above the client subscribes again by itself."""

    code: int
    reason: str

    @property
    def resubscribes(self) -> bool:
        """Whether a client subscribes again by itself after this code."""
        return self.code >= _RESUBSCRIBES_FROM


class Errors:
    """What a command can be answered with."""

    INTERNAL = Error(100, "internal server error", temporary=True)
    UNAUTHORIZED = Error(101, "unauthorized")
    UNKNOWN_CHANNEL = Error(102, "unknown channel")
    PERMISSION_DENIED = Error(103, "permission denied")
    METHOD_NOT_FOUND = Error(104, "method not found")
    ALREADY_SUBSCRIBED = Error(105, "already subscribed")
    LIMIT_EXCEEDED = Error(106, "limit exceeded")
    BAD_REQUEST = Error(107, "bad request")
    NOT_AVAILABLE = Error(108, "not available")
    TOKEN_EXPIRED = Error(109, "token expired")
    EXPIRED = Error(110, "expired")
    TOO_MANY_REQUESTS = Error(111, "too many requests", temporary=True)
    UNRECOVERABLE_POSITION = Error(112, "unrecoverable position")


class Disconnects:
    """Why the server closed a connection."""

    CONNECTION_CLOSED = Disconnect(3000, "connection closed")
    IDLE = Disconnect(3000, "idle for too long")
    MESSAGE_TOO_BIG = Disconnect(3000, "message too big")
    SHUTDOWN = Disconnect(3001, "shutdown")
    INTERNAL_ERROR = Disconnect(3004, "internal server error")
    EXPIRED = Disconnect(3005, "connection expired")
    SUBSCRIPTION_EXPIRED = Disconnect(3006, "subscription expired")
    SLOW = Disconnect(3008, "slow")
    WRITE_ERROR = Disconnect(3009, "write error")
    INSUFFICIENT_STATE = Disconnect(3010, "insufficient state")
    FORCE_RECONNECT = Disconnect(3011, "force reconnect")
    NO_PONG = Disconnect(3012, "no pong")
    TOO_MANY_REQUESTS = Disconnect(3013, "too many requests")
    STATE_INVALIDATED = Disconnect(3014, "state invalidated")
    INVALID_TOKEN = Disconnect(3500, "invalid token")
    BAD_REQUEST = Disconnect(3501, "bad request")
    STALE = Disconnect(3502, "stale")
    FORCE_DISCONNECT = Disconnect(3503, "force disconnect")
    CONNECTION_LIMIT = Disconnect(3504, "connection limit")
    CHANNEL_LIMIT = Disconnect(3505, "channel limit")
    INAPPROPRIATE_PROTOCOL = Disconnect(3506, "inappropriate protocol")
    PERMISSION_DENIED = Disconnect(3507, "permission denied")
    NOT_AVAILABLE = Disconnect(3508, "not available")
    TOO_MANY_ERRORS = Disconnect(3509, "too many errors")


class Unsubscribes:
    """Why the server ended a subscription."""

    SERVER = Unsubscribe(2000, "server unsubscribe")
    INSUFFICIENT_STATE = Unsubscribe(2500, "insufficient state")
    EXPIRED = Unsubscribe(2501, "subscription expired")
    STATE_INVALIDATED = Unsubscribe(2502, "state invalidated")


def rows(table: type) -> tuple[tuple[str, Error | Disconnect | Unsubscribe], ...]:
    """Return (name, code) of every row of a table, in the order of the source."""
    return tuple((name, row) for name, row in vars(table).items() if isinstance(row, (Error, Disconnect, Unsubscribe)))
