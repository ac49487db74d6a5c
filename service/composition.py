"""Puts the parts of one instance together; nothing runs before the application starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from platform import node as host_name
from typing import TYPE_CHECKING, NamedTuple

from service import __version__
from service.auth.probe import ProbeTokens, ProbingVerifier
from service.auth.tokens import TokenKeys
from service.channels import Channels, PluginBroker
from service.core.limits import RateLimit
from service.core.session import SessionLimits
from service.core.tenure import Tenure
from service.core.wheel import Wheel
from service.db.instance_lock import Holder, create_lock
from service.db.migrate import migrate
from service.db.organizations import OrganizationTables
from service.db.outbox import OutboxListener, OutboxTable
from service.db.streams import StreamTables
from service.db.watch import DatabaseWatch
from service.realtime.admission import Admission, AdmissionLimits
from service.realtime.announcements import Announcements
from service.realtime.context import Context, Limits, Procedures
from service.realtime.drainer import Drainer
from service.realtime.durable_streams import DurableLimits, DurableStreams
from service.realtime.group_commit import CommitLimits
from service.realtime.hub import Hub
from service.realtime.instance import Background, DrainDefaults, Instance
from service.realtime.lifecycle import Lifecycle
from service.realtime.memory_streams import MemoryStreams
from service.realtime.organizations import Organizations
from service.realtime.outbox import Outbox, OutboxOptions
from service.realtime.publisher import Publisher
from service.realtime.routed_streams import RoutedStreams
from service.realtime.stream_cache import CacheLimits
from service.realtime.succession import LocalLock, Succession
from service.realtime.ticker import TICK_SECONDS, Ticker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from service.clock import Clock
    from service.db.database import Database
    from service.ids import Ids
    from service.realtime.ports import InstanceLock, Observer, StreamStore
    from service.settings import Settings

__all__ = ("Outside", "create_instance")


class Outside(NamedTuple):
    """What every part may need from the outside."""

    clock: Clock
    ids: Ids
    observer: Observer


@dataclass(frozen=True, slots=True)
class _Kept:
    """What works with the database."""

    streams: DurableStreams
    watch: DatabaseWatch
    outbox: Outbox | None
    bell: OutboxListener | None

    @property
    def loops(self) -> tuple[Callable[[], Coroutine[object, object, None]], ...]:
        """What runs as long as the application."""
        outbox = self.outbox
        relay = () if outbox is None else (lambda: outbox.run(self.bell),)
        return (self.streams.run, self.watch.run, *relay)


def create_instance(
    settings: Settings,
    outside: Outside,
    channels: Channels,
    procedures: Procedures,
    probe: ProbeTokens,
    database: Database | None,
) -> Instance:
    """Put one instance together.

    Args:
        settings: As they were read.
        outside: Time, randomness, and who is told what happens.
        channels: The plugin, which carries publications.
        procedures: What ``rpc`` and ``send`` of clients reach.
        probe: Makes the tokens of probes, which are believed besides those of the settings.
        database: None when nothing is kept: then every namespace is in memory, and there are no organizations.
    """
    clock, ids, observer = outside
    instance_id = ids.uuid()
    tenure = Tenure(clock.boot, settings.lock.serve_seconds)
    hub = Hub(soon=_next_turn, now=clock.now, observer=observer, tenure=tenure)
    broker = PluginBroker(channels)
    hub.use(broker)
    lifecycle = Lifecycle(now=clock.now, wall=clock.wall, observer=observer)
    announcements = Announcements(hub, now=clock.now)
    drainer = Drainer(hub, lifecycle, announcements, observer, now=clock.now)
    background = Background(observer.failed)
    memory = MemoryStreams(
        now=clock.now,
        new_epoch=ids.epoch,
        idempotency_seconds=settings.channels.idempotency_seconds,
        max_bytes=settings.channels.history_max_bytes // (1 if database is None else 2),
    )
    on_end = [hub.send_all_away, drainer.reset, announcements.reset, memory.reset]
    succession = Succession(
        _lock(settings, outside, instance_id),
        tenure,
        lifecycle,
        observer,
        boot=clock.boot,
        prove_seconds=settings.lock.prove_seconds,
        wait_seconds=settings.lock.wait_seconds,
        prepare=None if database is None else _preparing(settings, database),
        on_end=on_end,
    )
    organizations = Organizations(
        None if database is None else OrganizationTables(database),
        tasks=background,
        clock=clock,
        token=lambda: tenure.token,
        observer=observer,
        may_serve=succession.may_serve,
    )
    hub.watch(organizations)
    on_end.append(organizations.reset)
    streams: StreamStore = memory
    kept = None
    if database is not None:
        kept = _keep(settings, outside, database, (memory, tenure, succession, organizations, background))
        streams = RoutedStreams(memory, kept.streams)
        on_end.append(kept.streams.reset)
    publisher = Publisher(streams, broker, observer, may_publish=succession.may_serve, rooms=hub.rooms)
    channels.connect(publisher, settings.namespaces, background)
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
        procedures=procedures,
        observer=observer,
        tasks=background,
        clock=clock,
        ids=ids,
        version=__version__,
        greet=announcements.greet,
        may_serve=succession.may_serve,
        organizations=organizations,
        allow_anonymous=settings.channels.anonymous,
        personal_channels=settings.channels.personal_channels,
    )
    admission_limits = AdmissionLimits(
        connections=limits.max_connections,
        unauthenticated=limits.max_unauthenticated,
        per_address=limits.max_connections_per_address,
    )
    return Instance(
        id=instance_id,
        version=__version__,
        image_digest=settings.process.image_digest,
        started_at=clock.now(),
        context=context,
        lifecycle=lifecycle,
        announcements=announcements,
        drainer=drainer,
        succession=succession,
        admission=Admission(hub, lifecycle, admission_limits, observer, may_serve=succession.may_serve),
        admission_limits=admission_limits,
        ticker=Ticker(context, lifecycle, announcements, drainer),
        background=background,
        drain_defaults=DrainDefaults(
            grace_seconds=settings.drain.grace_seconds,
            spread_seconds=settings.drain.spread_for,
            budget_seconds=settings.drain.budget_seconds,
        ),
        ttl_seconds=settings.admin.ttl_seconds,
        database=None if kept is None else kept.watch,
        durable=None if kept is None else kept.streams,
        loops=() if kept is None else kept.loops,
    )


def _keep(
    settings: Settings,
    outside: Outside,
    database: Database,
    parts: tuple[MemoryStreams, Tenure, Succession, Organizations, Background],
) -> _Kept:
    """Put together what works with the database."""
    clock, ids, observer = outside
    memory, tenure, succession, organizations, background = parts
    streams = DurableStreams(
        StreamTables(database),
        tenure,
        elsewhere=memory,
        tasks=background,
        resolve=settings.namespaces.resolve,
        now=clock.now,
        wall=clock.wall,
        new_epoch=ids.epoch,
        observer=observer,
        overtaken=succession.overtaken,
        limits=DurableLimits(
            CommitLimits(idempotency_seconds=settings.channels.idempotency_seconds),
            CacheLimits(
                held_bytes=settings.channels.history_max_bytes // 2,
                page_size=_limits(settings).page_size,
                page_bytes=settings.channels.recovery_max_bytes,
            ),
        ),
    )
    outbox = bell = None
    if settings.outbox.enabled:
        outbox = Outbox(
            OutboxTable(database),
            streams.append_all,
            token=lambda: tenure.token if succession.may_serve() else 0,
            namespaces=settings.namespaces,
            options=OutboxOptions(
                message_bytes=settings.limits.max_message_bytes,
                poll_seconds=settings.outbox.poll_seconds,
                max_tries=settings.outbox.max_tries,
                keep_seconds=settings.outbox.keep_seconds,
            ),
            now=clock.now,
            observer=observer,
            admit=organizations.admit,
        )
        if database.kind == "postgres":
            bell = OutboxListener.at(
                settings.direct_target, connect_timeout_seconds=settings.database.connect_timeout_seconds
            )
    watch = DatabaseWatch(database, degraded=lambda: streams.degraded, may_look=succession.may_serve)
    return _Kept(streams, watch, outbox, bell)


def _preparing(settings: Settings, database: Database) -> Callable[[], Awaitable[None]]:
    """Return what has to go well once before this instance may ask for the lock."""

    async def prepare() -> None:
        if settings.database.url is None:
            # The directory for data is ours to make; one that an address names is not.
            settings.process.data_dir.mkdir(parents=True, exist_ok=True)
        if settings.migrates_at_start:
            await migrate(database)
        await database.start()

    return prepare


def _lock(settings: Settings, outside: Outside, instance_id: str) -> InstanceLock:
    """Return the lock of whatever instances may share: the database, or the volume that its file is on."""
    holder = Holder(f"{host_name() or 'localhost'} {instance_id}", settings.lock.pod or "")
    return create_lock(settings, holder, boot=outside.clock.boot, new_epoch=outside.ids.epoch) or LocalLock()


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
        page_bytes=settings.channels.recovery_max_bytes,
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
