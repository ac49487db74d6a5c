"""The application in this process, behind each of the servers that it must behave the same under.

Time stands still in it until a test moves it: pings, idle limits and deadlines of the
client protocol need no waiting. The sockets are real.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
import uvicorn
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config as HypercornConfig
from typing_extensions import override

from service.app import Application, build
from service.core.codes import Error
from service.realtime.ports import Draft
from service.server import DrainingServer, _config
from service.settings import load
from tests.support.clock import ManualClock
from tests.support.process import ADMIN_KEY, API_KEY, HMAC_SECRET
from tests.support.raw_websocket import DEADLINE_SECONDS, RawWebSocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from litestar import Litestar
    from litestar.types import ControllerRouterHandler

    from service.realtime.instance import Instance
    from service.settings import Settings

__all__ = ("ENVIRON", "Kind", "Served", "serve", "until")

ENVIRON = {
    "HOST": "127.0.0.1",
    "PORT": "0",
    "ADMIN_PORT": "0",
    "DATABASE_URL": "memory:",
    "API_KEY": API_KEY,
    "ADMIN_KEY": ADMIN_KEY,
    "TOKEN_HMAC_SECRET": HMAC_SECRET,
    "WS_ALLOWED_ORIGINS": "https://app.example.com",
    # Tests ask and publish a lot as one user; those of limits set their own.
    "WS_MESSAGES_PER_MINUTE": "0",
    "WS_COMMANDS_PER_MINUTE": "0",
    "DRAIN_SPREAD_SECONDS": "0",
}


class Kind(enum.Enum):
    """Under which server, and so with which transport."""

    OURS = "our protocol under uvicorn"
    UVICORN = "plain ASGI under uvicorn"
    HYPERCORN = "plain ASGI under hypercorn"


async def until(condition: Callable[[], bool], what: str) -> None:
    """Let the loop turn until something holds; it is checked at every turn, and has a deadline."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 - there is no event for the inside of somebody else's server
                await asyncio.sleep(0)
    except TimeoutError:
        raise AssertionError(f"this did not come about: {what}") from None


@dataclass(slots=True)
class Served:
    """A running application.

    Attributes:
        clock: Its time, which stands still until ``advance``.
        server_state: uvicorn's own tables; None under another server.
    """

    kind: Kind
    port: int
    instance: Instance
    clock: ManualClock
    server_state: Any = None
    _users: int = field(default=0)

    def user(self) -> str:
        """Return a user that nobody else was."""
        self._users += 1
        return f"user{self._users}"

    def token(self, user: str, *, seconds: float = 86_400 * 30, **claims: object) -> str:
        """Return a token that is good in the time of this application."""
        payload = {"sub": user, "exp": int(self.clock.wall() + seconds), **claims}
        return jwt.encode(payload, HMAC_SECRET, algorithm="HS256")

    async def open(self, path: str = "/connection/websocket", **options: Any) -> RawWebSocket:  # noqa: ANN401 - options of RawWebSocket
        """Open a WebSocket; options as in `RawWebSocket.open`."""
        return await RawWebSocket.open(self.port, path, **options)

    async def connected(self, user: str = "", **options: Any) -> RawWebSocket:  # noqa: ANN401 - options of RawWebSocket
        """Open a WebSocket and connect, as a new user unless one is named."""
        raw = await self.open(**options)
        await raw.connect(self.token(user or self.user()))
        return raw

    async def publish(self, channel: str, data: bytes) -> None:
        """Publish from the server's side."""
        resolved = self.instance.context.namespaces.resolve(channel)

        assert not isinstance(resolved, Error)

        await self.instance.context.publisher.publish(resolved, Draft(data))

    async def delivered(self, channel: str) -> None:
        """Wait until all that was published in a channel has been handed to the sockets of those in it."""
        context = self.instance.context
        resolved = context.namespaces.resolve(channel)

        assert not isinstance(resolved, Error)

        top = (await context.streams.read(resolved, after=0, limit=0)).top.offset
        rooms = context.hub.rooms
        await until(
            lambda: channel not in rooms or (rooms[channel].offset >= top and not rooms[channel].lines),
            "everything published was written",
        )

    async def advance(self, seconds: float) -> None:
        """Move time, and see that what was due then was done."""
        self.clock.advance(seconds)
        self.instance.ticker.tick()

    async def until_empty(self) -> None:
        """Wait until nothing is left of any connection."""
        await until(lambda: not any(self.tables().values()), "every table is empty")

    def tables(self) -> dict[str, int]:
        """Return how many entries each table has that must not outlive a connection."""
        hub, context = self.instance.hub, self.instance.context
        return {
            "connections": len(hub.connections),
            "users": len(hub.users),
            "addresses": len(hub.addresses),
            "rooms": len(hub.rooms),
            "subscriptions": hub.subscriptions,
            "unauthenticated": hub.unauthenticated,
            "wheel": len(context.wheel),
            "tasks of uvicorn": len(self.server_state.tasks) if self.server_state is not None else 0,
            "connections of uvicorn": len(self.server_state.connections) if self.server_state is not None else 0,
        }


@asynccontextmanager
async def serve(
    kind: Kind, environ: Mapping[str, str] | None = None, *, route_handlers: Sequence[ControllerRouterHandler] = ()
) -> AsyncIterator[Served]:
    """Run the application under one of the servers, with the settings of tests and ``environ`` over them."""
    settings = load({**ENVIRON, **(environ or {})}, secret=str)
    clock = ManualClock()
    application = build(settings, clock=clock, route_handlers=route_handlers)
    app, instance = application.public, application.instance
    if kind is Kind.HYPERCORN:
        async with _hypercorn(app) as port:
            yield Served(kind, port, instance, clock)
    else:
        server = _ours(settings, application) if kind is Kind.OURS else _uvicorn(app)
        async with _running(server) as port:
            yield Served(kind, port, instance, clock, server.server_state)


class _Stock(uvicorn.Server):
    @contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        yield


class _Draining(DrainingServer):
    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _ours(settings: Settings, application: Application) -> uvicorn.Server:
    app, instance, door = application.public, application.instance, application.door
    config = _config(settings, app, settings.http.host, settings.http.port, door=door)
    return _Draining(config, instance, started=lambda _port: None)


def _uvicorn(app: Litestar) -> uvicorn.Server:
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, ws="websockets-sansio", log_config=None, access_log=False, lifespan="on"
    )
    config.timeout_graceful_shutdown = 5
    return _Stock(config)


@asynccontextmanager
async def _running(server: uvicorn.Server) -> AsyncIterator[int]:
    serving = asyncio.get_running_loop().create_task(server.serve())
    try:
        await until(lambda: server.started or serving.done(), "uvicorn has started")
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def _hypercorn(app: Litestar) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = int(listener.getsockname()[1])
    config = HypercornConfig()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = 1.0
    config.accesslog = config.errorlog = None
    stop = asyncio.Event()
    serving = asyncio.get_running_loop().create_task(hypercorn_serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]  # Litestar is an ASGI application
    try:
        # The socket takes connections already; they wait until hypercorn accepts them.
        yield port
    finally:
        stop.set()
        await serving
