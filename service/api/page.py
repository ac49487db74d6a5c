"""The page at ``/``: its files, the headers that fence it in, and the token it asks for in development.

The files are read once, when the router is made. Knows nothing of connections or of
how tokens are signed; the page itself is a client of the service like any other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Final, Protocol

from litestar import HttpMethod, Request, Response, Router, post, route
from litestar.exceptions import ClientException, PermissionDeniedException
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, MsgspecError, Struct
from msgspec.json import decode

from service.auth.origins import parse_origin
from service.ids import Ids

__all__ = (
    "DEMO_CHANNEL",
    "DEMO_NAMESPACE",
    "DEMO_TOKEN_SECONDS",
    "DemoToken",
    "DemoTokenRequest",
    "IssueDemoToken",
    "create_page_router",
)

DEMO_NAMESPACE: Final = "demo"
DEMO_CHANNEL: Final = f"{DEMO_NAMESPACE}:lobby"

DEMO_TOKEN_SECONDS: Final = 300
"""Long enough to try things out, short enough that a copied one is soon worth nothing; the page renews it."""

_SCRIPTS: Final = ("page.js", "charts.js", "client.js", "elements.js", "feed.js", "figures.js", "words.js")
_MEDIA_TYPES: Final = {
    "html": "text/html",
    "js": "text/javascript",
    "css": "text/css",
    "svg": "image/svg+xml",
}

# 'self' in connect-src covers ws: and wss: of the same host and port. Source: CSP level 3, section 6.7.2.8.
# Without trusted types, no script can turn a payload into markup, whatever it tries.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_TOKEN_SOURCE: Final = re.compile(rb'(?<=data-token-source=")[a-z]*(?=")')


class IssueDemoToken(Protocol):
    """Signs what the page connects with in development."""

    def __call__(self, user: str, *, name: str, namespace: str, lifetime_seconds: int) -> str:
        """Return a connection token.

        Args:
            user: Its ``sub``.
            name: How the user wants to be called, for the ``name`` of its ``info``; text
                that a person typed, "" for none.
            namespace: The one that the token opens; it may open no other channel.
            lifetime_seconds: From now to its ``exp``.
        """
        ...


class DemoTokenRequest(Struct, frozen=True):
    """Who asks for a token.

    Attributes:
        name: Shown to others. No control characters.
        user: What an earlier answer said, to stay the same user when the token is
            renewed; None for a new one. Only a name that this service made up passes.
    """

    name: Annotated[str, Meta(max_length=40, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = ""
    user: Annotated[str, Meta(pattern=r"^guest-[0-9a-f]{8}\Z")] | None = None


class DemoToken(Struct, frozen=True, rename="camel"):
    """A token and what it is good for."""

    token: str
    user: str
    channel: str
    expires_in_seconds: int


@dataclass(frozen=True, slots=True)
class _Asset:
    """One file as it is sent; ``etag`` is the validator with its quotes."""

    content: bytes
    media_type: str
    etag: str


def create_page_router(*, issue_token: IssueDemoToken | None, ids: Ids) -> Router:
    """Return the routes of the page; without this router there is no page, and they are 404.

    Args:
        issue_token: Given in development: ``POST /demo/token`` then hands out tokens to
            the page. None leaves that route out, and the page asks a person for a token.
        ids: Where the names of demo users come from.
    """
    source = b"ask" if issue_token is None else b"demo"
    index = _TOKEN_SOURCE.sub(source, _read("index.html"), count=1)
    handlers = [_asset_handler("/", _asset("index.html", index))]
    handlers += [
        _asset_handler(f"/page/{name}", _asset(name, _read(name))) for name in (*_SCRIPTS, "page.css", "icon.svg")
    ]
    if issue_token is not None:
        handlers.append(_token_handler(issue_token, ids))
    return Router(path="/", route_handlers=handlers, include_in_schema=False)


def _read(name: str) -> bytes:
    return files("service").joinpath("page", name).read_bytes()


def _asset(name: str, content: bytes) -> _Asset:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return _Asset(content, _MEDIA_TYPES[name.rpartition(".")[2]], f'"{digest}"')


def _asset_handler(path: str, asset: _Asset) -> HTTPRouteHandler:
    # no-cache asks to revalidate, so that after an update the files of a page are never of two versions.
    headers = {**_HEADERS, "Cache-Control": "no-cache", "ETag": asset.etag}

    @route(path, http_method=[HttpMethod.GET, HttpMethod.HEAD], name=f"page:{path}")
    async def send(request: Request[Any, Any, Any]) -> Response[bytes]:
        if _is_known(asset.etag, request.headers.getall("if-none-match", [])):
            return Response(b"", status_code=304, headers=headers)
        return Response(asset.content, media_type=asset.media_type, headers=headers)

    return send


def _is_known(etag: str, if_none_match: Iterable[str]) -> bool:
    """Compare weakly, as a proxy that compresses may have made the validator weak. Source: RFC 9110, 13.1.2."""
    known = [tag.strip().removeprefix("W/") for value in if_none_match for tag in value.split(",")]
    return etag in known or "*" in known


def _token_handler(issue_token: IssueDemoToken, ids: Ids) -> HTTPRouteHandler:
    @post("/demo/token", status_code=200)
    async def hand_out(request: Request[Any, Any, Any]) -> Response[DemoToken]:
        if not _is_same_origin(request):
            raise PermissionDeniedException("only the page of this service may ask for a token")
        try:
            asked = decode(await request.body() or b"{}", type=DemoTokenRequest)
        except MsgspecError as error:
            raise ClientException(str(error)) from error
        user = asked.user or f"guest-{ids.uuid().replace('-', '')[:8]}"
        token = issue_token(user, name=asked.name, namespace=DEMO_NAMESPACE, lifetime_seconds=DEMO_TOKEN_SECONDS)
        answer = DemoToken(token, user, DEMO_CHANNEL, DEMO_TOKEN_SECONDS)
        return Response(answer, headers={**_HEADERS, "Cache-Control": "no-store"})

    return hand_out


def _is_same_origin(request: Request[Any, Any, Any]) -> bool:
    """Whether the page of this very service asks.

    A browser always sends Origin with a POST; what sends none is no page, and has other
    ways to a token. Whether Host names this machine is checked before any route.
    """
    origins, hosts = request.headers.getall("origin", []), request.headers.getall("host", [])
    if len(origins) != 1 or len(hosts) != 1:
        return False
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    ours = parse_origin(f"{request.scope['scheme']}://{hosts[0]}")
    return ours is not None and ours == parse_origin(origins[0])
