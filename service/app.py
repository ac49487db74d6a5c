"""The composition root: puts the parts of one instance together and lays the surfaces over them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components

from service import __version__
from service.api.admin import create_admin_router
from service.api.health import create_health_router
from service.api.host import loopback_only
from service.api.metrics import create_metrics_router
from service.api.page import IssueDemoToken, create_page_router
from service.api.server_api import SECURITY_SCHEMES, create_server_api_router
from service.auth.origins import AllowedOrigins
from service.auth.probe import ProbeTokens, ProbingVerifier
from service.auth.tokens import TokenKeys, issue
from service.channels import Channels, PluginBroker
from service.clock import Clock, SystemClock
from service.core.limits import RateLimit
from service.core.phase import Phase
from service.core.session import SessionLimits
from service.core.wheel import Wheel
from service.ids import Ids, SystemIds
from service.observability.figures import Figures
from service.observability.logs import LoggingObserver
from service.observability.metrics import Metrics
from service.observability.observers import Observers
from service.realtime.admission import Admission, AdmissionLimits
from service.realtime.announcements import Announcements
from service.realtime.context import Context, Limits, Procedures
from service.realtime.drainer import Drainer
from service.realtime.hub import Hub
from service.realtime.instance import Background, DrainDefaults, Instance
from service.realtime.lifecycle import Lifecycle
from service.realtime.memory_streams import MemoryStreams
from service.realtime.publisher import Publisher
from service.realtime.ticker import TICK_SECONDS, Ticker
from service.ws.endpoint import Door, create_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from litestar.types import ControllerRouterHandler, Scope

    from service.realtime.ports import Observer
    from service.settings import Settings

__all__ = ("Application", "build", "create_app")

_PAGE_BYTES: Final = 768 * 1024
_PATIENCE_SECONDS: Final = 3.0
"""What commands that still wait have left once every connection is gone; the platform's patience is short by then."""


@dataclass(frozen=True, slots=True)
class Application:
    """The surfaces over one instance.

    Attributes:
        door: Lets WebSockets in; our own server asks it before the application.
        public: Serves clients and back ends.
        admin: Serves operators, on a socket of its own; it has no lifespan.
    """

    instance: Instance
    door: Door
    public: Litestar
    admin: Litestar


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
    instance = _instance(settings, clock, ids, observer, channels, procedures, probe)
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
        create_health_router(instance, figures),
        *route_handlers,
    ]
    if settings.http.demo_page:
        issue_token = _demo_tokens(settings, clock) if settings.is_development else None
        routes.append(create_page_router(issue_token=issue_token, ids=ids))
    public = Litestar(
        route_handlers=routes,
        plugins=[channels],
        lifespan=[_running(instance, figures)],
        on_startup=[_start_serving(instance, channels)],
        middleware=[loopback_only] if settings.is_development else [],
        after_exception=[_noting(observer)],
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
    return Application(instance, door, public, admin)


def _instance(  # noqa: PLR0913, PLR0917 - what the composition root was given, handed on once
    settings: Settings,
    clock: Clock,
    ids: Ids,
    observer: Observer,
    channels: Channels,
    procedures: Procedures | None,
    probe: ProbeTokens,
) -> Instance:
    hub = Hub(soon=_next_turn, now=clock.now, observer=observer)
    broker = PluginBroker(channels)
    hub.use(broker)
    streams = MemoryStreams(now=clock.now, new_epoch=ids.epoch, max_bytes=settings.channels.history_max_bytes)
    publisher = Publisher(streams, broker, observer)
    background = Background(observer.failed)
    channels.connect(publisher, settings.namespaces, background)
    lifecycle = Lifecycle(now=clock.now, wall=clock.wall, observer=observer)
    announcements = Announcements(hub, now=clock.now)
    drainer = Drainer(hub, lifecycle, announcements, observer, now=clock.now)
    limits = settings.limits
    context = Context(
        hub=hub,
        publisher=publisher,
        streams=streams,
        tokens=ProbingVerifier(_token_keys(settings), clock.wall, probe),
        namespaces=settings.namespaces,
        limits=_limits(settings),
        messages=RateLimit(limits.messages_per_minute),
        commands=RateLimit(limits.commands_per_minute),
        refusals=RateLimit(0),
        wheel=Wheel(grain_seconds=TICK_SECONDS, now=clock.now()),
        procedures=procedures or Procedures(),
        observer=observer,
        tasks=background,
        clock=clock,
        ids=ids,
        version=__version__,
        greet=announcements.greet,
        allow_anonymous=settings.channels.anonymous,
        personal_channels=settings.channels.personal_channels,
    )
    admission_limits = AdmissionLimits(
        connections=limits.max_connections,
        unauthenticated=limits.max_unauthenticated,
        per_address=limits.max_connections_per_address,
    )
    return Instance(
        id=ids.uuid(),
        version=__version__,
        image_digest=settings.process.image_digest,
        started_at=clock.now(),
        context=context,
        lifecycle=lifecycle,
        announcements=announcements,
        drainer=drainer,
        admission=Admission(hub, lifecycle, admission_limits, observer),
        admission_limits=admission_limits,
        ticker=Ticker(context, lifecycle, announcements, drainer),
        background=background,
        drain_defaults=DrainDefaults(
            grace_seconds=settings.drain.grace_seconds,
            spread_seconds=settings.drain.spread_for,
            budget_seconds=settings.drain.budget_seconds,
        ),
        ttl_seconds=settings.admin.ttl_seconds,
    )


def _next_turn(call: Callable[[], None]) -> None:
    """Call in the loop's next turn: publications whose bytes have come by then are joined with those of this one.

    Measured with 32 in flight: 26 publications in a frame in place of 11, and twice the deliveries a second.
    """
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, call)


def _limits(settings: Settings) -> Limits:
    limits = settings.limits
    return Limits(
        session=SessionLimits(
            message_bytes=limits.max_message_bytes,
            commands_per_frame=limits.max_commands_per_frame,
            ping_seconds=limits.ping_interval_seconds,
            pong_seconds=limits.pong_timeout_seconds,
            connect_seconds=limits.connect_timeout_seconds,
            idle_seconds=limits.idle_timeout_seconds,
        ),
        channels_per_client=limits.max_channels_per_client,
        connections_per_user=limits.max_connections_per_user,
        refusals_per_minute=limits.refusals_per_minute,
        # A recovery must fit into the send buffer with room to spare, or it would make its own client slow.
        page_bytes=min(_PAGE_BYTES, limits.send_buffer_bytes * 3 // 4),
    )


def _token_keys(settings: Settings) -> TokenKeys:
    tokens = settings.tokens
    return TokenKeys(
        hmac_secret=tokens.hmac_secret.reveal().encode() if tokens.hmac_secret is not None else None,
        rsa_public_pem=tokens.rsa_public_key,
        ecdsa_public_pem=tokens.ecdsa_public_key,
        audience=tokens.audience,
        issuer=tokens.issuer,
    )


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


def _running(instance: Instance, figures: Figures) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            instance.background.use(group)
            clocks = (group.create_task(instance.ticker.run()), group.create_task(figures.run()))
            try:
                yield
            finally:
                instance.close()
                for task in clocks:
                    task.cancel()
                await instance.background.end(patience_seconds=_PATIENCE_SECONDS)

    return lifespan


def _start_serving(instance: Instance, channels: Channels) -> Callable[[], Awaitable[None]]:
    async def start() -> None:
        # The plugin has started by now, so that what is published from here on has a way to go.
        await channels.start_delivery(instance.hub.deliver, instance.context.observer.failed)
        instance.lifecycle.enter(Phase.ACTIVE, "serving")

    return start
