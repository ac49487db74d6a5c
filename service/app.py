"""The composition root: puts the parts of one instance together and lays the surfaces over them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components

from service import __version__
from service.api.admin import create_admin_router
from service.api.health import create_health_router
from service.api.host import loopback_only
from service.api.metrics import create_metrics_router
from service.api.organizations import create_organizations_router
from service.api.page import IssueDemoToken, create_page_router
from service.api.requests import explain_unmatched
from service.api.server_api import SECURITY_SCHEMES, create_server_api_router
from service.api.tokens import create_tokens_router
from service.auth.origins import AllowedOrigins
from service.auth.probe import ProbeTokens
from service.auth.tokens import issue
from service.channels import Channels
from service.clock import Clock, SystemClock
from service.composition import Outside, create_instance
from service.db.database import Database
from service.ids import Ids, SystemIds
from service.observability.figures import Figures
from service.observability.logs import LoggingObserver
from service.observability.metrics import Metrics
from service.observability.observers import Observers
from service.realtime.context import Procedures
from service.realtime.instance import Instance
from service.realtime.ports import Observer
from service.ws.endpoint import Door, create_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from litestar.types import ControllerRouterHandler, Scope

    from service.settings import Settings

__all__ = ("Application", "build", "create_app")

_PATIENCE_SECONDS: Final = 3.0
"""What commands that still wait have left once every connection is gone; the platform's patience is short by then."""


@dataclass(frozen=True, slots=True)
class Application:
    """The surfaces over one instance.

    Attributes:
        door: Lets WebSockets in; our own server asks it before the application.
        public: Serves clients and back ends.
        admin: Serves operators, on a socket of its own; it has no lifespan.
        database: What is kept; None when nothing is.
    """

    instance: Instance
    door: Door
    public: Litestar
    admin: Litestar
    database: Database | None


def create_app(
    settings: Settings,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    route_handlers: Sequence[ControllerRouterHandler] = (),
    procedures: Procedures | None = None,
) -> Litestar:
    """Return the public application, for any ASGI server.

    Under ``service.server`` it also drains on a signal; another server closes its sockets
    itself. The instance is in ``app.state.instance``.

    Args:
        clock: The system's unless told otherwise.
        ids: Random unless told otherwise.
        route_handlers: Of the application around it. They may ask for ``channels:
            ChannelsPlugin`` and publish.
        procedures: What ``rpc`` and ``send`` of clients reach.
    """
    application = build(settings, clock=clock, ids=ids, route_handlers=route_handlers, procedures=procedures)
    return application.public


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    route_handlers: Sequence[ControllerRouterHandler] = (),
    procedures: Procedures | None = None,
) -> Application:
    """Put one instance together and lay its surfaces over it; nothing runs before the application starts."""
    clock, ids = clock or SystemClock(), ids or SystemIds()
    metrics = Metrics()
    observer = Observers(metrics, LoggingObserver(now=clock.now))
    channels = Channels()
    admin_key = settings.admin.key
    probe = ProbeTokens(admin_key.reveal() if admin_key is not None else ids.secret(), wall=clock.wall, ids=ids)
    database = Database.of(settings)
    outside = Outside(clock, ids, observer)
    instance = create_instance(settings, outside, channels, procedures or Procedures(), probe, database)
    metrics.watch(instance)
    figures = Figures(instance, metrics, settings.limits)
    door = Door(
        context=instance.context,
        admission=instance.admission,
        origins=_origins(settings),
        trusted_proxies=settings.http.trusted_proxies,
        loopback_only=settings.is_development,
        instance=instance.id,
        send_buffer_bytes=settings.limits.send_buffer_bytes,
        max_frame_bytes=settings.limits.max_frame_bytes,
    )
    routes: list[ControllerRouterHandler] = [
        create_endpoint(door),
        create_server_api_router(instance, settings.api, settings.http),
        create_organizations_router(instance, settings.api, ids),
        create_tokens_router(instance, settings.api, settings.tokens),
        create_health_router(instance, figures),
        *route_handlers,
    ]
    if settings.http.demo_page:
        issue_token = _demo_tokens(settings, clock) if settings.is_development else None
        routes.append(create_page_router(issue_token=issue_token, ids=ids))
    public = Litestar(
        route_handlers=routes,
        plugins=[channels],
        lifespan=[_running(instance, figures, database)],
        on_startup=[_start_serving(instance, channels)],
        middleware=[loopback_only] if settings.is_development else [],
        after_exception=[_noting(observer)],
        exception_handlers={HTTPException: explain_unmatched},
        request_max_body_size=settings.http.max_body_bytes,
        openapi_config=_openapi(
            "Slackwater",
            "Real-time messaging for an application that runs as one replica.",
            Components(security_schemes=SECURITY_SCHEMES),
        ),
        logging_config=None,
    )
    public.state.instance = instance
    admin = Litestar(
        route_handlers=[
            create_admin_router(instance, settings.admin, probe, settings.limits),
            create_metrics_router(metrics),
            create_health_router(instance, figures),
        ],
        middleware=[loopback_only] if settings.is_development else [],
        after_exception=[_noting(observer)],
        openapi_config=_openapi("Slackwater admin API", "What an operator and the deploy tool work with."),
        logging_config=None,
    )
    return Application(instance, door, public, admin, database)


def _origins(settings: Settings) -> AllowedOrigins:
    return AllowedOrigins(settings.origins.allowed)


def _demo_tokens(settings: Settings, clock: Clock) -> IssueDemoToken | None:
    """Return what signs tokens for the page, None when this service cannot sign."""
    if settings.tokens.hmac_secret is None:
        return None
    secret = settings.tokens.hmac_secret.reveal().encode()

    def issue_demo(user: str, *, name: str, namespace: str, lifetime_seconds: int) -> str:
        now = int(clock.wall())
        claims: dict[str, object] = {"sub": user, "iat": now, "exp": now + lifetime_seconds, "namespaces": [namespace]}
        if name:
            claims["info"] = {"name": name}
        return issue(secret, claims)

    return issue_demo


def _openapi(title: str, description: str, components: Components | None = None) -> OpenAPIConfig:
    # The viewers that Litestar offers load their scripts from elsewhere; the document itself needs nobody.
    return OpenAPIConfig(
        title=title,
        version=__version__,
        description=description,
        components=components or Components(),
        path="/schema",
        render_plugins=[JsonRenderPlugin(), YamlRenderPlugin()],
    )


def _noting(observer: Observer) -> Callable[[Exception, Scope], Awaitable[None]]:
    """Return a hook that notes what nobody expected; a refusal that a handler raised on purpose is not news."""

    async def note(error: Exception, _: Scope) -> None:
        if getattr(error, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR) >= HTTPStatus.INTERNAL_SERVER_ERROR:
            observer.failed("http", error)

    return note


def _running(
    instance: Instance, figures: Figures, database: Database | None
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            instance.background.use(group)
            loops = (instance.ticker.run, figures.run, *instance.loops)
            running = [group.create_task(loop()) for loop in loops]
            keeper = group.create_task(instance.succession.run())
            try:
                yield
            finally:
                instance.succession.retire()
                instance.close()
                for task in running:
                    task.cancel()
                # The lock is proven until the last commit is done, and marked as released after it.
                await instance.background.end(patience_seconds=_PATIENCE_SECONDS)
                keeper.cancel()
                await instance.succession.close()
                if database is not None:
                    await database.close()

    return lifespan


def _start_serving(instance: Instance, channels: Channels) -> Callable[[], Awaitable[None]]:
    async def start() -> None:
        # The plugin has started by now, so that what is published from here on has a way to go.
        await channels.start_delivery(instance.hub.deliver, instance.context.observer.failed)
        await instance.succession.open()

    return start
