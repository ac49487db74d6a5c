"""The realtime part of a service without sockets, without an event loop, and with time that a test moves."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from typing_extensions import override

from service.auth.tokens import TokenKeys, TokenVerifier, issue
from service.core.limits import RateLimit
from service.core.namespaces import BUILT_IN, Channel, Namespace, Namespaces
from service.core.phase import Phase
from service.core.session import SessionLimits
from service.core.tenure import Tenure
from service.core.wheel import Wheel
from service.realtime.announcements import Announcements
from service.realtime.context import Context, Limits, Procedures
from service.realtime.drainer import Drainer
from service.realtime.hub import Hub
from service.realtime.lifecycle import Lifecycle
from service.realtime.memory_streams import MemoryStreams
from service.realtime.ports import Broker, Draft, Event
from service.realtime.publisher import Publisher
from service.realtime.succession import LocalLock, Succession
from service.realtime.ticker import TICK_SECONDS, Ticker
from tests.support.client import FakeClient
from tests.support.clock import ManualClock
from tests.support.ids import SequentialIds
from tests.support.observer import RecordingObserver
from tests.support.waiting import ManualTasks, WaitingStreams

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.core.stream import Position

__all__ = ("NAMESPACES", "SECRET", "HeldBroker", "World")

SECRET = b"a secret for the fake world, long enough"

_OPEN = (
    "allow_subscribe_for_client",
    "allow_subscribe_for_anonymous",
    "allow_publish_for_client",
    "allow_publish_for_anonymous",
)


def _namespace(name: str, *switches: str, **values: object) -> Namespace:
    return msgspec.convert({"name": name, **dict.fromkeys(switches, True), **values}, Namespace)


NAMESPACES = (
    *BUILT_IN,
    # Nothing is kept, everybody may do everything.
    _namespace("plain", *_OPEN),
    # Ten publications for a minute, recovered by whoever asks; no joins to disturb a test.
    _namespace(
        "kept",
        *_OPEN,
        "allow_recovery",
        "allow_positioning",
        "allow_history_for_client",
        "allow_history_for_anonymous",
        history_size=10,
        history_ttl=60.0,
    ),
    # Checked for gaps, but not recovered.
    _namespace("checked", *_OPEN, "force_positioning", history_size=10, history_ttl=60.0),
    # Who is there, and who comes and goes for those who ask.
    _namespace("seen", *_OPEN, "presence", "join_leave", "allow_presence_for_client", "allow_presence_for_anonymous"),
    # Exists, and no option opens it.
    _namespace("shut"),
)


class HeldBroker(Broker):
    """Carries events with the tick, as the plugin does, or keeps them until a test lets them go.

    Attributes:
        is_held: Nothing is delivered but what `World.deliver` asks for.
        waiting: Still inside, oldest first.
    """

    def __init__(self) -> None:
        self.is_held = False
        self.waiting: deque[Event] = deque()

    @override
    def publish(self, event: Event) -> None:
        self.waiting.append(event)


@dataclass
class World:
    """One instance, assembled as the composition root does it, from fakes where it touches the outside.

    Attributes:
        sessions: Bounds of one session; the pings are far apart so that they do not disturb.
        refusals_per_minute: The refusal with this number ends a connection; 0 for none.
    """

    sessions: SessionLimits = field(default_factory=lambda: SessionLimits(ping_seconds=1e6, idle_seconds=0))
    namespaces: tuple[Namespace, ...] = NAMESPACES
    channels_per_client: int = 128
    connections_per_user: int = 0
    page_size: int = 300
    recovery_size: int = 10_000
    page_bytes: int = 768 * 1024
    messages_per_minute: int = 0
    commands_per_minute: int = 0
    refusals_per_minute: int = 100
    allow_anonymous: bool = True
    personal_channels: bool = False

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.observer = RecordingObserver()
        self.tasks = ManualTasks()
        self.broker = HeldBroker()
        self.procedures = Procedures()
        self._soon: deque[Callable[[], None]] = deque()
        ids = SequentialIds()
        self.tenure = Tenure(self.clock.boot, 5.0)
        self.tenure.begin(0, math.inf)
        self.hub = Hub(soon=self._soon.append, now=self.clock.now, observer=self.observer, tenure=self.tenure)
        self.hub.use(self.broker)
        self.memory = MemoryStreams(now=self.clock.now, new_epoch=ids.epoch)
        self.streams = WaitingStreams(self.memory)
        self.lifecycle = Lifecycle(now=self.clock.now, wall=self.clock.wall, observer=self.observer)
        self.announcements = Announcements(self.hub, now=self.clock.now)
        self.drainer = Drainer(self.hub, self.lifecycle, self.announcements, self.observer, now=self.clock.now)
        self.succession = Succession(
            LocalLock(),
            self.tenure,
            self.lifecycle,
            self.observer,
            boot=self.clock.boot,
            prove_seconds=2.0,
            wait_seconds=6.0,
        )
        self.context = Context(
            hub=self.hub,
            publisher=Publisher(self.streams, self.broker, self.observer),
            streams=self.streams,
            tokens=TokenVerifier(TokenKeys(hmac_secret=SECRET), self.clock.wall),
            namespaces=Namespaces(self.namespaces),
            limits=Limits(
                session=self.sessions,
                channels_per_client=self.channels_per_client,
                connections_per_user=self.connections_per_user,
                refusals_per_minute=self.refusals_per_minute,
                page_size=self.page_size,
                recovery_size=self.recovery_size,
                page_bytes=self.page_bytes,
            ),
            messages=RateLimit(self.messages_per_minute),
            commands=RateLimit(self.commands_per_minute),
            refusals=RateLimit(self.refusals_per_minute),
            wheel=Wheel(grain_seconds=TICK_SECONDS, now=self.clock.now()),
            procedures=self.procedures,
            observer=self.observer,
            tasks=self.tasks,
            clock=self.clock,
            ids=ids,
            version="1.2.3",
            greet=self.announcements.greet,
            may_serve=self.tenure.holds,
            allow_anonymous=self.allow_anonymous,
            personal_channels=self.personal_channels,
        )
        self.ticker = Ticker(self.context, self.lifecycle, self.announcements, self.drainer)
        self.lifecycle.enter(Phase.ACTIVE, "serving")

    # Clients.

    def client(self, *, address: str = "") -> FakeClient:
        """Open a WebSocket that has said nothing yet."""
        return FakeClient(self, address=address)

    def connected(self, user: str = "", **claims: object) -> FakeClient:
        """Open one and connect as ``user``; with neither user nor claims, without a token."""
        client = self.client()
        client.connect(user, **claims)
        return client

    def token(self, user: str = "", *, seconds: float | None = None, **claims: object) -> str:
        """Return a genuine token; it runs out in ``seconds``, None for never."""
        if seconds is not None:
            claims["exp"] = self.clock.wall() + seconds
        return issue(SECRET, {"sub": user, **claims})

    # The server's own doings.

    def channel(self, name: str) -> Channel:
        """Resolve a channel that exists."""
        channel = self.context.namespaces.resolve(name)
        assert isinstance(channel, Channel)
        return channel

    def publish(self, name: str, data: bytes = b"{}", **options: object) -> Position | None:
        """Publish as the server does; the event is inside the broker afterwards."""
        draft = Draft(data, **options)  # type: ignore[arg-type]  # whatever a draft takes
        positions: list[Position | None] = []

        async def work() -> None:
            positions.append(await self.context.publisher.publish(self.channel(name), draft))

        self.tasks.spawn(work())
        self.tasks.run()
        (position,) = positions
        return position

    # Time.

    def deliver(self, count: int = 1) -> None:
        """Let the oldest events out of the broker, in the middle of a tick."""
        for _ in range(count):
            self.hub.deliver(self.broker.waiting.popleft())

    def settle(self) -> None:
        """End ticks of the loop until nothing more happens by itself."""
        progress = True
        while progress:
            progress = self.tasks.run()
            while self.broker.waiting and not self.broker.is_held:
                self.deliver()
            while self._soon:
                self._soon.popleft()()
                progress = True

    def advance(self, seconds: float) -> None:
        """Let time pass at once, and do what is due then."""
        self.clock.advance(seconds)
        self.ticker.tick()
        self.settle()

    # What is left.

    def assert_sound(self) -> None:
        """Assert that no defect of our own was noted, and that the tables agree with each other."""
        assert [] == self.observer.failures
        hub = self.hub
        connections = list(hub.connections.values())
        members = [member for room in hub.rooms.values() for member in [*room.members(), *room.joining.values()]]

        assert hub.subscriptions == len(members)
        assert hub.subscriptions == sum(len(connection.memberships) for connection in connections)
        assert all(member.connection in connections for member in members)
        assert all(room.joining or len(room) for room in hub.rooms.values())
        assert len(connections) == sum(hub.addresses.values())
        assert len(connections) - hub.unauthenticated == sum(len(mine) for mine in hub.users.values())
        assert len(self.context.wheel) <= len(connections)

    def assert_empty(self) -> None:
        """Assert that nothing is left of any client in any table."""
        self.assert_sound()
        hub = self.hub

        assert {} == hub.connections
        assert {} == hub.users
        assert {} == hub.addresses
        assert {} == hub.rooms
        assert (0, 0) == (hub.subscriptions, hub.unauthenticated)
        assert {} == hub._dirty
        assert {} == hub._overfull
        assert 0 == len(self.context.wheel)
        assert 0 == len(self.tasks)
