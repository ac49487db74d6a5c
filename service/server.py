"""uvicorn, but connections are drained before it closes them.

uvicorn closes every WebSocket at once on SIGTERM and runs the application's own shutdown
only afterwards, so the drain lives here, before the parent's `shutdown`.
Source: uvicorn 0.54 ``Server.shutdown``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

import uvicorn
from typing_extensions import override
from uvicorn.server import HANDLED_SIGNALS

from service.app import build
from service.errors import DatabaseUnfit
from service.realtime.drainer import Origin
from service.ws.endpoint import PATHS
from service.ws.uvicorn_protocol import http_protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator
    from types import FrameType

    from litestar import Litestar

    from service.app import Application
    from service.realtime.instance import Instance
    from service.settings import Settings
    from service.ws.endpoint import Door

__all__ = ("EXIT_OK", "EXIT_START_FAILED", "DrainingServer", "serve")

EXIT_OK: Final = 0
"""Stopped by a signal, after the drain."""

EXIT_START_FAILED: Final = 3
"""Could not start, a port being taken for one. What uvicorn uses for the same."""

_CLOSE_SECONDS: Final = 8
_OTHER_SOCKETS: Final = 512
"""TCP connections beside the WebSockets: HTTP requests, and handshakes that are under way or being refused."""

_OTHER_DESCRIPTORS: Final = 64
"""Files, listeners, and what the process has open anyway."""


_logger = logging.getLogger("slackwater.server")


class DrainingServer(uvicorn.Server):
    """Serves until a signal, then announces, closes connections in batches, and stops.

    Args:
        instance: What is drained.
        started: Called with the bound port once the listener is open.
    """

    def __init__(self, config: uvicorn.Config, instance: Instance, *, started: Callable[[int], None]) -> None:
        super().__init__(config)
        self._instance = instance
        self._started = started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_urgent = False

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            # Before the listener is there, so that nobody is sent away by an instance that serves in a moment.
            await self._instance.succession.first()
        except DatabaseUnfit as error:
            _logger.error("cannot serve on this database: %s", error.reason)  # noqa: TRY400 - the words are the news
            sys.exit(EXIT_START_FAILED)
        await super().startup(sockets)
        if self.started:
            self._started(self.servers[0].sockets[0].getsockname()[1])

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # From now on a lock that is lost is not sought again.
        self._instance.succession.retire()
        # The listener stays open meanwhile: readiness and progress can be read, new WebSockets get 503.
        if self._instance.drain(Origin.SIGNAL):
            if self._is_urgent:
                # The second signal came before the first was looked at.
                self._instance.drainer.hurry()
            await self._instance.drainer.done.wait()
        await super().shutdown(sockets)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and self._loop is not None:
            # Asked twice: whoever waits does not want to.
            self._is_urgent = True
            self._loop.call_soon_threadsafe(self._instance.drainer.hurry)
        self.should_exit = True

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As the parent, but the signal is not raised again afterwards: a clean stop exits with `EXIT_OK`.

        The parent's way ends the process by the signal, or with 0 where it is the
        first process of a container; one documented code is easier to tell apart.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sig: signal.signal(sig, self.handle_exit) for sig in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def serve(settings: Settings, *, ready: Callable[[Instance, str, str], None]) -> int:
    """Run the service until a signal.

    Args:
        ready: Called with the instance, and the public and the admin address, once both listen.

    Returns:
        The exit code.
    """
    _raise_descriptor_limit(settings.limits.max_connections + _OTHER_SOCKETS + _OTHER_DESCRIPTORS)
    application = build(settings)
    # What was imported and built so far stays for good: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    loop_factory = _config(settings, application.public, settings.http.host, settings.http.port).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            return runner.run(_serve(settings, application, ready))
        except SystemExit as exit_request:
            # uvicorn leaves this way when it cannot start; it has logged why.
            return EXIT_START_FAILED if exit_request.code else EXIT_OK


def _raise_descriptor_limit(needed: int) -> None:
    """Ask for as many open files as the limits need; a shell's default of 1,024 is less than 1,000 connections take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        _logger.warning(
            "only %d files may be open, %d are needed for WS_MAX_CONNECTIONS: raise the hard limit (ulimit -Hn)",
            allowed,
            needed,
        )


async def _serve(settings: Settings, application: Application, ready: Callable[[Instance, str, str], None]) -> int:
    admin_config = _config(settings, application.admin, settings.admin.host, settings.admin.port, lifespan="off")
    admin = uvicorn.Server(admin_config)
    admin_config.load()
    admin.lifespan = admin_config.lifespan_class(admin_config)
    await admin.startup()
    admin_port = admin.servers[0].sockets[0].getsockname()[1]

    def started(port: int) -> None:
        ready(application.instance, _address(settings.http.host, port), _address(settings.admin.host, admin_port))

    config = _config(settings, application.public, settings.http.host, settings.http.port, door=application.door)
    server = DrainingServer(config, application.instance, started=started)
    async with asyncio.TaskGroup() as tasks:
        admin_loop = tasks.create_task(admin.main_loop())
        try:
            await server.serve()
        finally:
            admin_loop.cancel()
            await admin.shutdown()
    return EXIT_OK


def _config(
    settings: Settings, app: Litestar, host: str, port: int, *, door: Door | None = None, lifespan: str = "on"
) -> uvicorn.Config:
    limits = settings.limits
    protocol = http_protocol(
        head_seconds=settings.http.request_head_timeout_seconds,
        max_sockets=limits.max_connections + _OTHER_SOCKETS,
        send_buffer_bytes=limits.send_buffer_bytes,
        max_frame_bytes=limits.max_frame_bytes,
        doors={path.encode(): door.enter for path in PATHS} if door is not None else {},
    )
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        # Upgrades go to our own protocol, which `HttpProtocol` starts itself; uvicorn only asks whether there is one.
        ws="websockets-sansio" if door is not None else "none",
        lifespan=lifespan,  # type: ignore[arg-type]  # one of the words that uvicorn takes
        loop="auto",
        backlog=4096,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        timeout_keep_alive=30,
    )


def _address(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - shown to a person, who cannot open a wildcard
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
