"""The protocol state of one connection.

Sans-I/O, in the manner of h11 and websockets: the shell calls `Session.receive`
with each text message and gets the requests that need a decision; it answers
them with `accept`, `reply` or `reject`, then writes what `frames_to_send` holds and looks at
`close_due`. Time comes in as an argument: `deadline` says when `elapse` wants to be called
next. Nothing here awaits, and nothing raises for what the peer did.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from service.core import codec
from service.core.codes import Disconnect, Disconnects, Errors
from service.core.messages import Command, Request

if TYPE_CHECKING:
    from service.core.codes import Error

__all__ = ("Session", "SessionLimits", "State")

_METHODS: Final = Command.__struct_fields__[1:]
_all_params: Final = attrgetter(*_METHODS)
_WITH_CHANNEL: Final = frozenset(
    {"subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "sub_refresh"}
)
_WITH_DATA: Final = frozenset({"publish"})


class State(enum.Enum):
    """How far a connection has come; it only ever moves down this list."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds and times of every session of a process.

    Attributes:
        message_bytes: Size of one command; one byte more is answered with error 107.
        commands_per_frame: Commands in one text message.
        ping_seconds: Time between two pings, a whole number for the wire.
        pong_seconds: Time that a client has for its pong; below ``ping_seconds``.
        connect_seconds: Time until the connect command must have come.
        idle_seconds: Time without a command or a publication; 0 for no limit.
        grace_seconds: Time that a client has to refresh after its token ran out.
    """

    message_bytes: int = 65536
    commands_per_frame: int = 512
    ping_seconds: float = 30.0
    pong_seconds: float = 10.0
    connect_seconds: float = 10.0
    idle_seconds: float = 86400.0
    grace_seconds: float = 25.0


class Session:
    """Protocol state of one connection; the connection that made it is its only owner.

    Attributes:
        pending_bytes: Of what `frames_to_send` holds.

    Args:
        limits: Shared by all sessions.
        client: Identity of the connection, unique in the process and beyond.
        now: Monotonic seconds.
        phase: In [0, 1); moves the first ping within the interval, so that pings of
            connections that came together do not go out together.
    """

    __slots__ = (
        "_close",
        "_limits",
        "_out",
        "_phase",
        "active_at",
        "client",
        "expires_at",
        "next_ping",
        "opened_at",
        "pending_bytes",
        "pong_due",
        "state",
        "user",
    )

    def __init__(self, limits: SessionLimits, client: str, *, now: float, phase: float) -> None:
        self._limits = limits
        self._out: list[bytes] | None = None
        self._close: Disconnect | None = None
        self._phase = phase
        self.pending_bytes = 0
        self.client = client
        self.user = ""
        self.state = State.NEW
        self.opened_at = now
        self.active_at = now
        self.next_ping = math.inf
        self.pong_due = math.inf
        self.expires_at = math.inf

    # Receiving.

    def receive(self, frame: bytes, now: float) -> list[Request]:
        """Take one text message in and return what somebody has to decide, in order.

        A message with a violation anywhere in it is refused as a whole: nothing of it is returned.

        Args:
            frame: UTF-8, already checked.
            now: Monotonic seconds.
        """
        if self.state is State.CLOSED:
            return []
        lines = codec.split(frame)
        if len(lines) > self._limits.commands_per_frame:
            self.close(Disconnect(Disconnects.BAD_REQUEST.code, "too many commands in one frame"))
            return []
        requests: list[Request] = []
        for line in lines:
            command = codec.decode_command(line)
            if command is None:
                self._violation("malformed command")
                return []
            request = self._check(command, len(line), now)
            if self._close is not None:
                return []
            if request is not None:
                requests.append(request)
        return requests

    def receive_binary(self) -> None:
        """Refuse a binary message: only the JSON codec is spoken."""
        self.close(Disconnects.INAPPROPRIATE_PROTOCOL)

    def _check(self, command: Command, size: int, now: float) -> Request | None:
        """Hold a command against the rules; None when nobody has to decide it."""
        methods = [name for name, params in zip(_METHODS, _all_params(command), strict=True) if params is not None]
        if not methods:
            self._pong(command)
            return None
        self.active_at = now
        method = methods[0]
        request = Request(command.id, method, getattr(command, method), size)
        problem = "more than one method in a command" if len(methods) > 1 else self._out_of_turn(command, method)
        if problem is None and size > self._limits.message_bytes:
            return self._too_big(request)
        problem = problem or _incomplete(request)
        if problem is not None:
            self._violation(problem)
            return None
        # Refused in its turn, so that its reply does not overtake those of the commands before it.
        return request._replace(refusal=Errors.NOT_AVAILABLE) if method == "ping" else request

    def _out_of_turn(self, command: Command, method: str) -> str | None:
        """Rules that hold for every command. Source: client protocol, framing."""
        if command.id == 0 and method != "send":
            return "command without an id"
        if method == "connect":
            if self.state is not State.NEW:
                return "second connect"
            self.state = State.CONNECTING
            return None
        # A client may send subscribes behind its connect in one frame, so CONNECTING is enough to be read.
        return "connect must come first" if self.state is State.NEW else None

    def _pong(self, command: Command) -> None:
        if command.id:
            self._violation("unknown method")
        elif self.pong_due == math.inf:
            self._violation("pong without a ping")
        else:
            self.pong_due = math.inf

    def _too_big(self, request: Request) -> Request | None:
        if request.id == 0 or request.method == "connect":
            limit = self._limits.message_bytes
            self.close(Disconnect(Disconnects.MESSAGE_TOO_BIG.code, f"message too big: at most {limit} bytes"))
            return None
        return request._replace(refusal=Errors.BAD_REQUEST)

    def _violation(self, problem: str) -> None:
        self.close(Disconnect(Disconnects.BAD_REQUEST.code, f"bad request: {problem}"))

    # Deciding.

    def accept(self, request: Request, user: str, result: bytes, *, expires_at: float, now: float) -> None:
        """Answer connect: from here on this is the connection of ``user``.

        Args:
            request: The connect request.
            user: Empty for an anonymous one.
            result: The encoded connect result.
            expires_at: Monotonic seconds when the token runs out; infinity for never.
            now: Monotonic seconds.
        """
        if self.state is State.CLOSED:
            return
        self.state = State.CONNECTED
        self.user = user
        self.expires_at = expires_at
        # Spread the first ping over the second half of the interval.
        self.next_ping = now + self._limits.ping_seconds * (0.5 + self._phase / 2)
        self.reply(request, result)

    def reply(self, request: Request, result: bytes = b"{}") -> None:
        """Answer a request with its result."""
        self._send(codec.reply(request.id, request.method, result))

    def reject(self, request: Request, error: Error) -> None:
        """Answer a request with an error; ``send`` has no answer, so nothing is sent for it."""
        if request.id:
            self._send(codec.error_reply(request.id, error))

    def push(self, line: bytes) -> None:
        """Send an encoded push to this connection alone."""
        self._send(line)

    def close(self, why: Disconnect) -> None:
        """End the connection; the first reason wins."""
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self._close = why

    # Sending.

    def _send(self, line: bytes) -> None:
        if self.state is State.CLOSED:
            # The close frame is the last thing that a peer gets.
            return
        self.pending_bytes += len(line)
        if self._out is None:
            self._out = [line]
        else:
            self._out.append(line)

    def frames_to_send(self) -> bytes:
        """Return everything to write, in order, as one text message; empty when there is nothing."""
        out = self._out
        if out is None:
            return b""
        self._out = None
        self.pending_bytes = 0
        return out[0] if len(out) == 1 else b"\n".join(out)

    def close_due(self) -> Disconnect | None:
        """Return why the connection must be closed after the last write; None when it lives on."""
        return self._close

    # Time.

    def deadline(self) -> float:
        """Return the monotonic time at which `elapse` must be called; infinity when nothing is due."""
        if self.state is State.CONNECTED:
            idle = self._limits.idle_seconds
            return min(
                self.next_ping,
                self.pong_due,
                self.expires_at + self._limits.grace_seconds,
                self.active_at + idle if idle else math.inf,
            )
        return math.inf if self.state is State.CLOSED else self.opened_at + self._limits.connect_seconds

    def elapse(self, now: float, *, published_at: float = 0.0) -> None:
        """Do what the passing of time asks for: ping, or close.

        Args:
            now: Monotonic seconds.
            published_at: When the last publication went out to this connection; 0 for never.
        """
        if self.state is not State.CONNECTED:
            if self.state is not State.CLOSED and now >= self.opened_at + self._limits.connect_seconds:
                self.close(Disconnects.STALE)
            return
        self.active_at = max(self.active_at, published_at)
        idle = self._limits.idle_seconds
        if now >= self.pong_due:
            self.close(Disconnects.NO_PONG)
        elif now >= self.expires_at + self._limits.grace_seconds:
            self.close(Disconnects.EXPIRED)
        elif idle and now >= self.active_at + idle:
            self.close(Disconnects.IDLE)
        elif now >= self.next_ping:
            self._send(codec.PING)
            self.pong_due = now + self._limits.pong_seconds
            self.next_ping = now + self._limits.ping_seconds


def _incomplete(request: Request) -> str | None:
    method, params = request.method, request.params
    if method in _WITH_CHANNEL and not getattr(params, "channel", ""):
        return f"{method} without a channel"
    if method in _WITH_DATA and not bytes(getattr(params, "data", b"")):
        return f"{method} without data"
    return None
