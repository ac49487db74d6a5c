"""The realtime shell without sockets: what a back end does, and what its users' clients get of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from service.auth.tokens import TokenKeys, TokenVerifier, issue
from service.core.codes import Error
from service.core.frames import payload_of
from service.core.limits import RateLimit
from service.core.namespaces import BUILT_IN, Namespace, Namespaces
from service.core.session import SessionLimits
from service.core.wheel import Wheel
from service.realtime.connection import Connection
from service.realtime.context import Context, Limits, Procedures
from service.realtime.hub import Hub
from service.realtime.instance import Background, Instance
from service.realtime.memory_streams import MemoryStreams
from service.realtime.ports import Event, Observer, Transport
from service.realtime.publisher import Publisher
from tests.support.clock import ManualClock
from tests.support.ids import SequentialIds

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("PLAIN", "Backstage", "Recorder", "StageClient")

SECRET = b"a secret of thirty-two bytes or more"

PLAIN = Namespace(name="plain", allow_subscribe_for_client=True)
"""Nothing is switched on in it but subscribing."""


class Recorder(Observer):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.limits: list[str] = []
        self.errors: list[tuple[str, Error]] = []
        self.failures: list[tuple[str, BaseException]] = []

    @override
    def command(self, method: str) -> None:
        self.commands.append(method)

    @override
    def error(self, method: str, error: Error) -> None:
        self.errors.append((method, error))

    @override
    def limited(self, limit: str) -> None:
        self.limits.append(limit)

    @override
    def failed(self, where: str, error: BaseException) -> None:
        self.failures.append((where, error))


class _Wire(Transport):
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None

    @override
    def write(self, frame: bytes) -> None:
        if self.closed is None:
            self.lines += [json.loads(line) for line in payload_of(frame).split(b"\n")]

    @override
    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)

    @override
    def is_over_limit(self) -> bool:
        return False

    @override
    def pause_reading(self) -> None: ...

    @override
    def resume_reading(self) -> None: ...


class StageClient:
    """A client of the service."""

    def __init__(self, stage: Backstage) -> None:
        self._stage = stage
        self._wire = _Wire()
        self._ids = 0
        self.connection = Connection(stage.context, self._wire)

    @property
    def id(self) -> str:
        """The client id."""
        return self.connection.client

    def send(self, method: str, **params: object) -> None:
        """Send a command."""
        self._ids += 1
        self.connection.receive(json.dumps({"id": self._ids, method: params}).encode())

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        """Send a command and return the reply; what came before it is forgotten."""
        self._wire.lines.clear()
        self.send(method, **params)
        (reply,) = [line for line in self._wire.lines if line.get("id") == self._ids]
        self._stage.settle()
        self._wire.lines.clear()
        return reply

    def lines(self) -> list[dict[str, Any]]:
        """Return everything that was written since the last look."""
        lines, self._wire.lines = self._wire.lines, []
        return lines

    def pushes(self) -> list[dict[str, Any]]:
        """Return what was pushed since the last look."""
        self._stage.settle()
        lines = [line["push"] for line in self._wire.lines]
        self._wire.lines.clear()
        return lines

    @property
    def closed(self) -> tuple[int, str] | None:
        """Code and reason of the close frame; None while it is open."""
        return self._wire.closed


class _Loopback:
    """Delivers on the spot."""

    reaches_others = False

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def publish(self, event: Event) -> None:
        self._hub.deliver(event)


class Backstage:
    """An instance as back ends see it, with a clock that stands still.

    Args:
        message_bytes: Most bytes of data in a publication.
        channels_per_client: Most subscriptions of a connection.
    """

    def __init__(self, *, message_bytes: int = 65_536, channels_per_client: int = 128) -> None:
        self._later: list[Callable[[], None]] = []
        self.clock = ManualClock()
        self.observer = Recorder()
        self.procedures = Procedures()
        self.background = Background(self.observer.failed)
        ids = SequentialIds()
        self.hub = Hub(soon=self._later.append, now=self.clock.now, observer=self.observer)
        broker = _Loopback(self.hub)
        self.hub.use(broker)
        self.streams = MemoryStreams(now=self.clock.now, new_epoch=ids.epoch)
        self.context = Context(
            hub=self.hub,
            publisher=Publisher(self.streams, broker, self.observer),
            streams=self.streams,
            tokens=TokenVerifier(TokenKeys(hmac_secret=SECRET), self.clock.wall),
            namespaces=Namespaces([*BUILT_IN, PLAIN]),
            limits=Limits(SessionLimits(message_bytes=message_bytes), channels_per_client=channels_per_client),
            messages=RateLimit(0),
            commands=RateLimit(0),
            refusals=RateLimit(0),
            wheel=Wheel(grain_seconds=0.05, now=self.clock.now()),
            procedures=self.procedures,
            observer=self.observer,
            tasks=self.background,
            clock=self.clock,
            ids=ids,
            version="1.2.3",
            greet=lambda _: None,
            allow_anonymous=True,
            personal_channels=False,
        )

    @property
    def instance(self) -> Instance:
        """As the composition root makes it, with only those parts that the server API looks at."""
        parts: Any = dict.fromkeys(Instance.__slots__)
        parts |= {"id": "instance-1", "version": "1.2.3", "started_at": self.clock.now(), "context": self.context}
        return Instance(**cast("dict[str, Any]", parts))

    def settle(self) -> None:
        """Let the tick end in which something was published."""
        while self._later:
            self._later.pop(0)()

    def connect(self, user: str = "", **claims: object) -> StageClient:
        """Return a client that is connected; without a user it is anonymous."""
        client = self.connecting(user, **claims)
        assert "connect" in client.lines()[0]
        self.settle()
        client.lines()
        return client

    def connecting(self, user: str = "", **claims: object) -> StageClient:
        """Return a client that has sent its connect command."""
        client = StageClient(self)
        client.send("connect", token=issue(SECRET, {"sub": user, **claims}) if user else "")
        return client

    def subscribed(self, user: str, channel: str) -> StageClient:
        """Return a client that is connected and subscribed."""
        client = self.connect(user)
        assert "subscribe" in client.ask("subscribe", channel=channel)
        return client
