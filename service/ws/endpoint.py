"""The WebSocket route: checks who may come in, then hands the socket to a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.handlers import WebsocketRouteHandler

from service.auth.origins import AllowedOrigins, is_loopback_host
from service.auth.remote import Network, client_address
from service.realtime.admission import Admission, Refusal
from service.realtime.connection import Connection
from service.realtime.context import Context
from service.ws.asgi import AsgiTransport

__all__ = ("Door", "create_endpoint")

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

    def check(self, headers: Any, peer: str | None) -> Refusal | str:  # noqa: ANN401 - Litestar's own type of headers
        """Return why a request is refused, or the address that it comes from."""
        if self.loopback_only and not is_loopback_host(headers.getall("host", [])):
            self.context.observer.upgrade_refused("host")
            return Refusal(403, "host", "in development only this machine's own name is answered: use localhost")
        # In development the page of this very service may connect, under whichever loopback name it was opened.
        origins = self.origins.including([f"http://{headers['host']}"]) if self.loopback_only else self.origins
        if not origins.allows(headers.getall("origin", [])):
            self.context.observer.upgrade_refused("origin")
            return Refusal(403, "origin", "this origin is not allowed: add it to WS_ALLOWED_ORIGINS")
        where = client_address(peer, headers.getall("x-forwarded-for", []), self.trusted_proxies)
        if where.unlisted_forwarder:
            self.context.observer.noted("forwarder.unlisted", address=where.address)
        return self.admission.check(where.address) or where.address


def create_endpoint(door: Door) -> WebsocketRouteHandler:
    """Return the route of the client protocol, at both of its paths."""

    @websocket(["/connection/websocket", "/ws"])
    async def connect(socket: WebSocket[Any, Any, Any]) -> None:
        """Speak the client protocol."""
        peer = socket.client.host if socket.client is not None else None
        verdict = door.check(socket.headers, peer)
        if isinstance(verdict, Refusal):
            await _refuse(socket, verdict)
            return
        extensions: dict[str, Any] = socket.scope.get("extensions") or {}
        transport: Any = extensions.get(_EXTENSION) or AsgiTransport(
            socket.receive, socket.send, limit=door.send_buffer_bytes, max_frame_bytes=door.max_frame_bytes
        )
        # Made before the handshake is answered, so that the place it takes is counted from the start.
        connection = Connection(door.context, transport, address=verdict)
        try:
            await socket.accept(
                subprotocols=_JSON_SUBPROTOCOL if _JSON_SUBPROTOCOL in socket.scope["subprotocols"] else None,
                headers={"X-Slackwater-Instance": door.instance},
            )
        except BaseException:
            connection.lost()
            raise
        transport.attach(connection)
        if isinstance(transport, AsgiTransport):
            await transport.run()

    return connect


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
