"""The transport under uvicorn: writes built frames, and keeps next to nothing for an idle connection.

`HttpProtocol` is uvicorn's own with bounds on what a request may take. On the paths of
the client protocol it asks a door, which attaches a connection to the new
`WebSocketProtocol` on the spot: messages go straight to the connection, and neither a
task nor an ASGI scope is made. Any other path runs the ASGI application, as every server would.
Compression is never negotiated: it would cost more memory than all the rest, and a
frame could not be shared.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from websockets.frames import Close, Frame, Opcode

from service.core.codes import Disconnect, Disconnects
from service.ws import handshake
from service.ws.inbound import Inbound, Kind, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from service.realtime.connection import Connection

__all__ = ("HttpProtocol", "WebSocketProtocol", "http_protocol")

_CLOSE_SECONDS: Final = 5.0
_MAX_HEAD_BYTES: Final = 64 * 1024
_GOING_AWAY: Final = 1012
_TOO_BIG: Final = 1009
_ABNORMAL: Final = 1006

_logger = logging.getLogger("slackwater.ws")


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with bounds on what a request may take of anybody.

    Source: uvicorn 0.54 ``HttpToolsProtocol``, which bounds neither the time nor the size of a
    head, takes trailers for headers, and counts no connections; and whose WebSocket protocols answer 400
    to an empty ``Sec-WebSocket-Protocol``, as older Python clients send it.

    Attributes:
        doors: By path, what lets a request in without the application: it accepts and attaches
            a connection, or refuses, on the spot. Every other path is the application's.
        head_seconds: From the first byte that could begin a head to its end.
        body_seconds: From the end of the head to the end of the body.
        max_sockets: TCP connections at once, WebSockets among them; 0 for no limit.
    """

    doors: Mapping[bytes, Callable[[Mapping[str, Any], WebSocketProtocol], None]] = MappingProxyType({})
    head_seconds = 5.0
    body_seconds = 30.0
    max_sockets = 0
    send_buffer_bytes = 1024 * 1024
    max_frame_bytes = 1024 * 1024

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._timer: asyncio.TimerHandle | None = None
        self._is_in_head = True
        self._head_bytes = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if self.max_sockets and len(self.connections) > self.max_sockets:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            return
        self._await_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too long")
        elif self._timer is None and self._is_quiet():
            # Bytes that begin nothing have ended the keep-alive timer.
            self._await_head()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._await_head()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:
            # Trailers: nobody reads them, and there is no end to how many may come. Source: RFC 9110 section 6.5.1.
            self._refuse(HTTPStatus.BAD_REQUEST, "trailers are not taken")
        elif value or name.lower() != b"sec-websocket-protocol":
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()
        self._start_timer(self.body_seconds, "the request body did not come in time")

    @override
    def on_message_complete(self) -> None:
        self._stop_timer()
        super().on_message_complete()

    @override
    def handle_websocket_upgrade(self) -> None:
        self._stop_timer()
        problem = self._cannot_upgrade()
        if problem is not None:
            self._refuse(HTTPStatus.BAD_REQUEST, problem)
            return
        self.connections.discard(self)
        protocol = WebSocketProtocol(
            self.config,
            self.server_state,
            send_buffer_bytes=self.send_buffer_bytes,
            max_frame_bytes=self.max_frame_bytes,
        )
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.upgrade(self.scope, self.url, self.doors.get(self.url.partition(b"?")[0]))

    def _cannot_upgrade(self) -> str | None:
        """What would mix HTTP into the WebSocket: a request before it that is not answered, or a body of its own."""
        if self.pipeline or (self.cycle is not None and not self.cycle.response_complete):
            return "an upgrade has to wait for the answer to the request before it"
        length = [value for name, value in self.headers if name in (b"content-length", b"transfer-encoding")]
        return "an upgrade has no body" if any(value != b"0" for value in length) else None

    def _is_quiet(self) -> bool:
        """Whether nothing is under way: no request, and no timer of uvicorn's either."""
        is_working = self.cycle is not None and not self.cycle.response_complete
        is_ours = self.transport.get_protocol() is self
        return is_ours and not is_working and self.timeout_keep_alive_task is None and not self.transport.is_closing()

    def _await_head(self) -> None:
        if self._timer is None:
            self._start_timer(self.head_seconds, "the request head did not come in time")

    def _start_timer(self, seconds: float, reason: str) -> None:
        if seconds and not self.transport.is_closing():
            self._timer = self.loop.call_later(seconds, self._is_late, reason)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self, reason: str) -> None:
        self._timer = None
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, reason)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
                self.transport.write(_response(status, {}, f"{reason}\n".encode()))
            self.transport.close()


def http_protocol(**values: Any) -> type[HttpProtocol]:  # noqa: ANN401 - the attributes of HttpProtocol
    """Return the protocol class for uvicorn's configuration, which takes no arguments of ours."""
    unknown = values.keys() - HttpProtocol.__annotations__.keys() - vars(HttpProtocol).keys()
    if unknown:
        raise TypeError(f"HttpProtocol has no {', '.join(sorted(unknown))}")
    return type("HttpProtocol", (HttpProtocol,), values)


class WebSocketProtocol(asyncio.Protocol):
    """One WebSocket under uvicorn; the `Transport` of a connection that is attached to it."""

    __slots__ = (
        "__weakref__",
        "_accept_key",
        "_app",
        "_close_timer",
        "_connection",
        "_drained",
        "_events",
        "_inbound",
        "_is_accepted",
        "_is_broken",
        "_is_closing",
        "_is_paused",
        "_is_stalled",
        "_limit",
        "_max_frame_bytes",
        "_refusal",
        "_server_state",
        "_waiter",
        "transport",
        "write",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        *,
        send_buffer_bytes: int,
        max_frame_bytes: int,
    ) -> None:
        self._app = config.loaded_app
        self._server_state = server_state
        self._limit = send_buffer_bytes
        self._max_frame_bytes = max_frame_bytes
        self._connection: Connection | None = None
        self._inbound: Inbound | None = None
        self._events: deque[dict[str, Any]] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._accept_key = ""
        self._refusal: dict[str, Any] | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._is_accepted = False
        self._is_broken = False
        self._is_closing = False
        self._is_paused = False
        self._is_stalled = False
        self.transport: Any = None
        self.write: Any = None

    # asyncio.Protocol.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.set_write_buffer_limits(high=self._limit)
        self.write = self.transport.write
        self._connections.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._is_closing = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost()
        else:
            self._put({"type": "websocket.disconnect", "code": _ABNORMAL})
        self._resume_sender()

    @override
    def eof_received(self) -> None:
        """Nothing more will come: the transport closes itself."""

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            self._await_close(data)
            return
        inbound = self._inbound
        if inbound is None:
            inbound = self._inbound = Inbound(self._max_frame_bytes)
        for message in inbound.feed(data):
            if self._take(message):
                # The peer's own close may be in the same bytes.
                self._await_close(b"")
                return
            if self._is_stalled:
                # What came with it waits until the answers so far have been read.
                return
        if inbound.is_idle:
            self._inbound = None

    @override
    def pause_writing(self) -> None:
        self._is_stalled = True
        # A peer that does not read its answers may not ask for more.
        self._read_or_not()
        if self._connection is not None:
            self._connection.overfull()

    @override
    def resume_writing(self) -> None:
        self._is_stalled = False
        self._read_or_not()
        self._resume_sender()
        if self._connection is not None:
            self._connection.drained()
        if self._inbound is not None:
            asyncio.get_running_loop().call_soon(self._take_rest)

    def _take_rest(self) -> None:
        """Go on with what was left when the peer had to be held back."""
        if self._inbound is not None and not self._is_stalled:
            self.data_received(b"")

    @property
    def _connections(self) -> set[Any]:
        # uvicorn's own type names its own classes alone.
        return cast("set[Any]", self._server_state.connections)

    def shutdown(self) -> None:
        """Close for uvicorn, which has drained its connections before and calls this for what is left."""
        if self._connection is not None:
            self._connection.close(Disconnects.SHUTDOWN)
        elif self._is_accepted:
            self.close(_GOING_AWAY, "service restart")
            self._put({"type": "websocket.disconnect", "code": _GOING_AWAY})
        else:
            self.transport.close()

    # The handshake.

    def upgrade(
        self,
        request: Mapping[str, Any],
        target: bytes,
        door: Callable[[Mapping[str, Any], WebSocketProtocol], None] | None,
    ) -> None:
        """Check an upgrade request and run the application for it.

        Args:
            request: What uvicorn gathered of it: method, scheme, both addresses, headers.
            target: Path and query, as they came.
            door: Of this path, see `HttpProtocol.doors`; None runs the application.
        """
        verdict = handshake.check(request["method"], target, request["headers"])
        if isinstance(verdict, handshake.Rejection):
            self.refuse(*verdict)
            return
        self._accept_key = verdict
        if door is not None:
            try:
                door(request, self)
            except Exception as error:  # noqa: BLE001 - the root of a connection: it ends, and nothing else
                self._failed(error)
            return
        self._events = deque(({"type": "websocket.connect"},))
        # The root of the application for this connection; uvicorn's shutdown waits for what is in its set.
        task = asyncio.get_running_loop().create_task(self._run(self._scope(request, target)))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    def _scope(self, request: Mapping[str, Any], target: bytes) -> dict[str, Any]:
        raw_path, _, query = target.partition(b"?")
        headers = request["headers"]
        offered = [value.decode("latin-1") for name, value in headers if name == b"sec-websocket-protocol"]
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if request["scheme"] == "https" else "ws",
            "server": request["server"],
            "client": request["client"],
            "root_path": "",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "subprotocols": [token.strip() for value in offered for token in value.split(",")],
            "state": request["state"],
            "extensions": {"websocket.http.response": {}},
        }

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self._app(scope, self._receive, self._send)
        except ClientDisconnected:
            pass
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(error)
        if self._connection is None and not self._is_closing:
            # A handler that returns without a connection of ours has no more use for the socket.
            self.close(1000, "done") if self._is_accepted else self.transport.close()

    def _failed(self, error: Exception) -> None:
        """Note a defect in whoever handles the connection, and end it."""
        _logger.error("websocket handler failed", exc_info=error)
        if self._is_accepted:
            self.close(Disconnects.INTERNAL_ERROR.code, Disconnects.INTERNAL_ERROR.reason)
        elif not self.transport.is_closing():
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, {}, b"internal server error\n")

    # The application's side, as ASGI has it.

    async def _receive(self) -> dict[str, Any]:
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        event = self._events.popleft()
        if not self._events:
            self._is_paused = False
            self._read_or_not()
        return event

    def _put(self, event: dict[str, Any]) -> None:
        if self._events is None:
            return
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if event["type"] == "websocket.receive":
            # One at a time: what the application has not taken yet waits in the peer's socket.
            self.pause_reading()

    async def _send(  # noqa: C901, PLR0912 - one branch for each message of the ASGI specification
        self, event: Mapping[str, Any]
    ) -> None:
        if self._is_stalled and not self._is_closing:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        if self._is_closing:
            raise ClientDisconnected
        match event["type"]:
            case "websocket.accept":
                self._accept(event)
            case "websocket.send":
                self._send_message(event)
            case "websocket.close" if self._is_accepted:
                self.close(event.get("code", 1000), event.get("reason") or "")
            case "websocket.close":
                self.refuse(HTTPStatus.FORBIDDEN, {}, b"")
            case "websocket.http.response.start":
                self._refusal = dict(event)
            case "websocket.http.response.body" if self._refusal is not None:
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._refusal["headers"]}
                self.refuse(self._refusal["status"], headers, event.get("body", b""))
            case kind:
                raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def _send_message(self, event: Mapping[str, Any]) -> None:
        text = event.get("text")
        data, opcode = (event["bytes"], Opcode.BINARY) if text is None else (text.encode(), Opcode.TEXT)
        self.write(Frame(opcode, data).serialize(mask=False))

    def _accept(self, event: Mapping[str, Any]) -> None:
        headers = list(event.get("headers", ()))
        if event.get("subprotocol"):
            headers.append((b"Sec-WebSocket-Protocol", event["subprotocol"].encode()))
        self.accept(headers)

    def accept(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Answer the handshake; for a handler that holds this transport, as good as ``websocket.accept``."""
        self.write(handshake.switching(self._accept_key, headers))
        self._accept_key = ""
        self._is_accepted = True

    def refuse(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Answer the handshake with a status of HTTP instead, and end."""
        self._begin_closing()
        self.write(_response(status, headers, body))
        self.transport.close()

    def _resume_sender(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # Messages.

    def _take(self, message: Message) -> bool:
        """Hand a message on; returns whether the connection is closing now."""
        match message.kind:
            case Kind.TEXT | Kind.BINARY:
                self._deliver(message)
            case Kind.PING:
                self.write(Frame(Opcode.PONG, message.data).serialize(mask=False))
            case Kind.CLOSE:
                self._closed_by_peer(message)
            case Kind.FAULT:
                self._fail(message)
            case Kind.PONG:
                """Heartbeats are the client protocol's own; a pong of WebSocket's is nobody's answer."""
        return self._is_closing

    def _deliver(self, message: Message) -> None:
        is_text = message.kind is Kind.TEXT
        if self._connection is None:
            data = {"text": message.data.decode()} if is_text else {"bytes": message.data}
            self._put({"type": "websocket.receive", **data})
        elif is_text:
            self._connection.receive(message.data)
        else:
            self._connection.receive_binary()

    def _closed_by_peer(self, message: Message) -> None:
        """Answer a close with its own code and end. Source: RFC 6455 section 5.5.1."""
        self._begin_closing()
        self.write(Frame(Opcode.CLOSE, message.data[:2]).serialize(mask=False))
        self.transport.close()
        if self._connection is not None:
            self._connection.lost()
        else:
            self._put({"type": "websocket.disconnect", "code": message.code, "reason": message.reason})

    def _fail(self, message: Message) -> None:
        """End a connection that broke the rules."""
        self._is_broken = True
        connection, code = self._connection, message.code
        if code == _TOO_BIG and connection is not None:
            # 1009 would be the end for the JavaScript client; this code lets it come back.
            connection.close(Disconnect(Disconnects.MESSAGE_TOO_BIG.code, message.reason))
        else:
            self.close(code, message.reason)
            if connection is not None:
                connection.lost()
            else:
                self._put({"type": "websocket.disconnect", "code": code, "reason": message.reason})
        # What still comes cannot be parsed. To close now would reset the connection and take our close frame along.
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def _await_close(self, data: bytes) -> None:
        """After our close frame: wait for the peer's, or for the end of the stream."""
        if self._is_broken:
            return
        if self._inbound is None:
            self._inbound = Inbound(self._max_frame_bytes)
        for message in self._inbound.feed(data):
            if message.kind in (Kind.CLOSE, Kind.FAULT):
                self._is_broken = True
                self.transport.close()
                return

    # Transport.

    def attach(self, connection: Connection) -> None:
        """Hand every further message to ``connection``; the handler may return."""
        self._connection = connection
        events, self._events = self._events, None
        self._waiter = None
        for event in events or ():
            if event["type"] == "websocket.disconnect":
                connection.lost()

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and wait some seconds for the peer's; idempotent."""
        if self._is_closing:
            return
        self._begin_closing()
        self.write(Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False))
        self._is_paused = False
        self._read_or_not()

    def _begin_closing(self) -> None:
        """Take nothing more from anybody, and do not wait for ever for a peer that does not read."""
        self._is_closing = True
        self._close_timer = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self.transport.abort)

    def is_over_limit(self) -> bool:
        """Whether more than the limit is still unsent."""
        return bool(self.transport.get_write_buffer_size() > self._limit)

    def pause_reading(self) -> None:
        """Take nothing more from the socket."""
        self._is_paused = True
        self._read_or_not()

    def resume_reading(self) -> None:
        """Take from the socket again."""
        self._is_paused = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        """A transport that is closing refuses both, and needs neither."""
        if self.transport.is_closing():
            return
        if (self._is_paused or self._is_stalled) and not self._is_closing:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


def _response(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Build a whole HTTP response that ends the connection."""
    fields = {"content-type": "text/plain; charset=utf-8"}
    fields |= {name.lower(): value for name, value in headers.items()}
    fields |= {"content-length": str(len(body)), "connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode("latin-1") + body
