"""The WebSocket route: checks who may come in, then hands the socket to a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.handlers import WebsocketRouteHandler
from litestar.types import WebSocketScope

from service.auth.origins import AllowedOrigins, is_loopback_host
from service.auth.remote import Network, client_address
from service.realtime.admission import Admission, Refusal
from service.realtime.connection import Connection
from service.realtime.context import Context
from service.ws.asgi import AsgiTransport

__all__ = ("PATHS", "Door", "create_endpoint")

PATHS = ["/connection/websocket", "/ws"]
"""Where the client protocol is spoken."""

_EXTENSION = "slackwater.transport"
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

    def check(self, scope: WebSocketScope) -> Refusal | str:
        """Return why a request is refused, or the address that it comes from."""
        hosts, origins, forwarded = (_values(scope, name) for name in (b"host", b"origin", b"x-forwarded-for"))
        if self.loopback_only and not is_loopback_host(hosts):
            self.context.observer.upgrade_refused("host")
            return Refusal(403, "host", "in development only this machine's own name is answered: use localhost")
        # In development the page of this very service may connect, under whichever loopback name it was opened.
        allowed = self.origins.including([f"http://{hosts[0]}"]) if self.loopback_only else self.origins
        if not allowed.allows(origins):
            self.context.observer.upgrade_refused("origin")
            return Refusal(403, "origin", "this origin is not allowed: add it to WS_ALLOWED_ORIGINS")
        peer = scope["client"]
        where = client_address(peer[0] if peer else None, forwarded, self.trusted_proxies)
        if where.unlisted_forwarder:
            self.context.observer.noted("forwarder.unlisted", address=where.address)
        return self.admission.check(where.address) or where.address


def create_endpoint(door: Door) -> WebsocketRouteHandler:
    """Return the route of the client protocol, at each of its paths."""
    marked = [(b"X-Slackwater-Instance", door.instance.encode())]

    @websocket(PATHS)
    async def connect(socket: WebSocket[Any, Any, Any]) -> None:
        """Speak the client protocol."""
        verdict = door.check(socket.scope)
        if isinstance(verdict, Refusal):
            await _refuse(socket, verdict)
            return
        headers = marked
        if _JSON_SUBPROTOCOL in socket.scope["subprotocols"]:
            headers = [*marked, (b"Sec-WebSocket-Protocol", _JSON_SUBPROTOCOL.encode())]
        extensions: dict[str, Any] = socket.scope.get("extensions") or {}
        transport = extensions.get(_EXTENSION)
        if transport is not None:
            transport.accept(headers)
            transport.attach(Connection(door.context, transport, address=verdict))
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


def _values(scope: WebSocketScope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


async def _refuse(socket: WebSocket[Any, Any, Any], refusal: Refusal) -> None:
    """Answer with a status of HTTP. Litestar itself would turn every refusal into 403."""
    if "websocket.http.response" not in (socket.scope.get("extensions") or {}):
        await socket.send({"type": "websocket.close", "code": 1008, "reason": refusal.text})
        return
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    body = msgspec.json.encode({"error": refusal.reason, "message": refusal.text})
    await socket.send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await socket.send({"type": "websocket.http.response.body", "body": body, "more_body": False})
