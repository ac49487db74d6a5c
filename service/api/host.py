"""In development only this machine's own names are answered.

A page on the internet can have its own name point to 127.0.0.1 and then talk to
whatever listens there; its requests still carry that name in Host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar.enums import ScopeType

from service.auth.origins import is_loopback_host

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

__all__ = ("loopback_only",)

_BODY = b'{"status_code":403,"detail":"in development only this machine\'s own name is answered: use localhost"}'


def loopback_only(app: ASGIApp) -> ASGIApp:
    """Refuse HTTP requests to any other host; the WebSocket route has the same check."""

    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if not is_loopback_host(hosts):
                headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]
                await send({"type": "http.response.start", "status": 403, "headers": headers})
                await send({"type": "http.response.body", "body": _BODY, "more_body": False})
                return
        await app(scope, receive, send)

    return check
