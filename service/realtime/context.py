"""What every connection of a process shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.core.tenure import Tenure
from service.realtime.organizations import Organizations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.auth.tokens import TokenVerifier
    from service.clock import Clock
    from service.core.codes import Error
    from service.core.limits import RateLimit
    from service.core.namespaces import Namespaces
    from service.core.session import SessionLimits
    from service.core.wheel import Wheel
    from service.ids import Ids
    from service.realtime.connection import Connection
    from service.realtime.hub import Hub
    from service.realtime.ports import Observer, StreamStore, Tasks
    from service.realtime.publisher import Publisher

__all__ = ("Call", "Context", "Limits", "Procedures")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what clients may do; 0 switches one off where said.

    Attributes:
        session: Bounds and times of one session.
        channels_per_client: Subscriptions that one connection may make; those of its token are bounded by the same
            number for themselves.
        connections_per_user: Of one user id; 0 for no limit.
        refusals_per_minute: Refusals for rate after which a connection is closed; 0 for no limit.
        page_size: Publications in one page of history.
        recovery_size: Publications that one recovery brings. At 50 a second it is what somebody misses within 200 s.
        page_bytes: Bytes of publications in one answer; a recovery that needs more is answered as not recovered, and
            a page of history ends there.
    """

    session: SessionLimits
    channels_per_client: int = 128
    connections_per_user: int = 0
    refusals_per_minute: int = 100
    page_size: int = 300
    recovery_size: int = 10_000
    page_bytes: int = 768 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the application by a client.

    Attributes:
        data: Raw JSON; empty when none was sent.
    """

    user: str
    client: str
    data: bytes


@dataclass(slots=True)
class Procedures:
    """What the application offers to clients; filled before the service starts.

    Attributes:
        methods: By the name that ``rpc`` calls. Each returns raw JSON, or an error for the caller.
        on_send: Takes what ``send`` brings; None refuses it.
    """

    methods: dict[str, Callable[[Call], Awaitable[bytes | Error]]] = field(default_factory=dict)
    on_send: Callable[[Call], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that a connection works with; made once, by the composition root.

    Attributes:
        refusals: Counts them; the number that ends a connection is one of ``limits``.
        may_serve: Whether this instance may answer and deliver at this moment.
        greet: Tells a client that has just connected what everybody was told before.
        organizations: Whose members may enter which channels; none unless told otherwise.
    """

    hub: Hub
    publisher: Publisher
    streams: StreamStore
    tokens: TokenVerifier
    namespaces: Namespaces
    limits: Limits
    messages: RateLimit
    commands: RateLimit
    refusals: RateLimit
    wheel: Wheel[Connection]
    procedures: Procedures
    observer: Observer
    tasks: Tasks
    clock: Clock
    ids: Ids
    version: str
    greet: Callable[[Connection], None]
    may_serve: Callable[[], bool] = Tenure.always().holds
    organizations: Organizations = field(default_factory=Organizations)
    allow_anonymous: bool = False
    personal_channels: bool = True
