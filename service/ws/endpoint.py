"""The door of the client protocol: checks who may come in, then hands the socket to a connection.

Under our own server the door is asked directly; under any other ASGI server a Litestar
route asks it, and serves the connection for as long as it lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from litestar import WebSocket, websocket
from litestar.handlers import WebsocketRouteHandler

from service.auth.origins import AllowedOrigins, is_loopback_host
from service.auth.remote import Network, client_address
from service.realtime.admission import Admission, Refusal
from service.realtime.connection import Connection
from service.realtime.context import Context
from service.ws.asgi import AsgiTransport
from service.ws.uvicorn_protocol import WebSocketProtocol

__all__ = ("PATHS", "Door", "create_endpoint")

PATHS = ["/connection/websocket", "/ws"]
"""Where the client protocol is spoken."""

_JSON_SUBPROTOCOL = "centrifuge-json"


@dataclass(frozen=True, slots=True)
class Door:
    """What the route checks before it upgrades.

    Attributes:
        trusted_proxies: Whose forwarded addresses are believed.
        loopback_only: Refuse a Host that is not this machine, as in development.
        instance: Identity of this process, told in every accepted handshake.
        send_buffer_bytes: For transports of other ASGI servers.
        max_frame_bytes: The same.
    """

    context: Context
    admission: Admission
    origins: AllowedOrigins
    trusted_proxies: tuple[Network, ...]
    loopback_only: bool
    instance: str
    send_buffer_bytes: int
    max_frame_bytes: int

    def enter(self, request: Mapping[str, Any], transport: WebSocketProtocol) -> None:
        """Let a request in, or refuse it, on the spot: the way under our own server.

        Args:
            request: An ASGI scope, of which headers and client are read.
            transport: Its handshake is whole and not answered yet.
        """
        verdict = self.check(request)
        if isinstance(verdict, Refusal):
            headers = {name.decode(): value.decode() for name, value in _headers(verdict)}
            transport.refuse(verdict.status, headers, _body(verdict))
            return
        answer = [(b"X-Slackwater-Instance", self.instance.encode())]
        if any(_JSON_SUBPROTOCOL in value for value in _values(request, b"sec-websocket-protocol")):
            answer.append((b"Sec-WebSocket-Protocol", _JSON_SUBPROTOCOL.encode()))
        transport.accept(answer)
        transport.attach(Connection(self.context, transport, address=verdict))

    def check(self, request: Mapping[str, Any]) -> Refusal | str:
        """Return why a request is refused, or the address that it comes from."""
        hosts, origins, forwarded = (_values(request, name) for name in (b"host", b"origin", b"x-forwarded-for"))
        if self.loopback_only and not is_loopback_host(hosts):
            self.context.observer.upgrade_refused("host")
            return Refusal(403, "host", "in development only this machine's own name is answered: use localhost")
        # In development the page of this very service may connect, under whichever loopback name it was opened.
        allowed = self.origins.including([f"http://{hosts[0]}"]) if self.loopback_only else self.origins
        if not allowed.allows(origins):
            self.context.observer.upgrade_refused("origin")
            return Refusal(403, "origin", "this origin is not allowed: add it to WS_ALLOWED_ORIGINS")
        peer = request["client"]
        where = client_address(peer[0] if peer else None, forwarded, self.trusted_proxies)
        if where.unlisted_forwarder:
            self.context.observer.noted("forwarder.unlisted", address=where.address)
        return self.admission.check(where.address) or where.address


def create_endpoint(door: Door) -> WebsocketRouteHandler:
    """Return the route of the client protocol, at each of its paths."""

    @websocket(PATHS)
    async def connect(socket: WebSocket[Any, Any, Any]) -> None:
        """Speak the client protocol."""
        verdict = door.check(cast("Mapping[str, Any]", socket.scope))
        if isinstance(verdict, Refusal):
            await _refuse(socket, verdict)
        else:
            await _serve(door, socket, verdict)

    return connect


async def _serve(door: Door, socket: WebSocket[Any, Any, Any], address: str) -> None:
    """Do the same through ASGI, under any other server."""
    transport = AsgiTransport(
        socket.receive, socket.send, limit=door.send_buffer_bytes, max_frame_bytes=door.max_frame_bytes
    )
    # Made before the handshake is answered, so that the place it takes is counted from the start.
    connection = Connection(door.context, transport, address=address)
    try:
        await socket.accept(
            subprotocols=_JSON_SUBPROTOCOL if _JSON_SUBPROTOCOL in socket.scope["subprotocols"] else None,
            headers={"X-Slackwater-Instance": door.instance},
        )
    except BaseException:
        connection.lost()
        raise
    transport.attach(connection)
    await transport.run()


def _values(request: Mapping[str, Any], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in request["headers"] if key == name]


async def _refuse(socket: WebSocket[Any, Any, Any], refusal: Refusal) -> None:
    """Answer with a status of HTTP. Litestar itself would turn every refusal into 403."""
    if "websocket.http.response" not in (socket.scope.get("extensions") or {}):
        await socket.send({"type": "websocket.close", "code": 1008, "reason": refusal.text})
        return
    start = {"type": "websocket.http.response.start", "status": refusal.status, "headers": _headers(refusal)}
    await socket.send(cast("Any", start))
    await socket.send(cast("Any", {"type": "websocket.http.response.body", "body": _body(refusal), "more_body": False}))


def _headers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    return headers


def _body(refusal: Refusal) -> bytes:
    return msgspec.json.encode({"error": refusal.reason, "message": refusal.text})
