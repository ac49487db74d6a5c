"""The broker over Litestar's channels plugin, and the only module that knows that plugin.

The plugin carries events between whoever publishes and the hub. It is not the model
of our channels: its history dies with the last subscriber, its full backlogs drop without
a sign, and it never forgets a channel's name. So it sees one channel of its own, subscribed for as long as
the process lives, and the hub knows the real ones. With a backend that several
instances share, the same events reach the hubs of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.channels.subscriber import Subscriber
from typing_extensions import override

from service.core import codec
from service.core.codes import Error
from service.realtime.ports import Draft, Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from litestar.channels.backends.base import ChannelsBackend

    from service.core.namespaces import Channel, Namespaces
    from service.realtime.ports import Tasks
    from service.realtime.publisher import Publisher

__all__ = ("Channels", "PluginBroker")

_CARRIER = "slackwater:events"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, int, str, bytes]).decode


class _Inlet(Subscriber):
    """Takes events from the plugin on the spot: without a queue there is no backlog to overflow."""

    deliver: Callable[[Event], None]
    failed: Callable[[str, BaseException], None]

    @override
    def put_nowait(self, item: bytes | None) -> bool:
        if item is not None:
            try:
                kind, channel, offset, epoch, body = _decode(item)
                self.deliver(Event(EventKind(kind), channel, offset, epoch, body))
            except Exception as error:  # noqa: BLE001 - it would end the plugin's only worker, and all delivery with it
                self.failed("delivery", error)
        return True

    @override
    async def put(self, item: bytes | None) -> None:
        self.put_nowait(item)


class Channels(ChannelsPlugin):
    """Litestar's plugin, with our channels behind its ``publish``.

    Any handler may ask for ``channels: ChannelsPlugin`` and publish: the data goes
    through the publisher like every other publication, so it gets its offset, is kept in history and is
    recovered by those who missed it.

    Args:
        backend: Carries events; the memory backend of this process unless told otherwise.
    """

    def __init__(self, backend: ChannelsBackend | None = None) -> None:
        super().__init__(backend=backend or MemoryChannelsBackend(), channels=[_CARRIER], subscriber_class=_Inlet)
        self._is_connected = False
        self._publisher: Publisher
        self._namespaces: Namespaces
        self._tasks: Tasks

    @property
    def reaches_others(self) -> bool:
        """Whether the backend carries events to other processes."""
        return not isinstance(self._backend, MemoryChannelsBackend)

    def connect(self, publisher: Publisher, namespaces: Namespaces, tasks: Tasks) -> None:
        """Say who publishes what handlers hand in."""
        self._publisher = publisher
        self._namespaces = namespaces
        self._tasks = tasks
        self._is_connected = True

    async def start_delivery(
        self, deliver: Callable[[Event], None], failed: Callable[[str, BaseException], None]
    ) -> None:
        """Hand every event that the backend brings to ``deliver``; once, after start-up.

        Args:
            failed: Told where and with what a delivery failed; those after it go on.
        """
        inlet = cast("_Inlet", await self.subscribe(_CARRIER))  # subscriber_class says so
        inlet.deliver, inlet.failed = deliver, failed

    def carry(self, event: Event) -> None:
        """Put an event on its way to the hub, behind those that are on it; nowhere once the plugin has stopped."""
        if self._pub_queue is not None:
            super().publish(_encode(tuple(event)), _CARRIER)

    @override
    def publish(self, data: Any, channels: str | Iterable[str]) -> None:
        """Publish ``data`` to channels of ours, without waiting for it.

        Raises:
            ValueError: No namespace knows a channel, or ``data`` is not JSON; nothing is published then.
        """
        draft, targets = self._prepare(data, channels)
        self._tasks.spawn(self._publish(draft, targets))

    @override
    async def wait_published(self, data: Any, channels: str | Iterable[str]) -> None:
        """Publish ``data`` to channels of ours, and return when each has kept it.

        Raises:
            ValueError: As in `publish`.
            NotCommitted: A channel has not kept it as far as is known; those named before it have.
        """
        draft, targets = self._prepare(data, channels)
        await self._publish(draft, targets)

    def _prepare(self, data: Any, channels: str | Iterable[str]) -> tuple[Draft, list[Channel]]:  # noqa: ANN401 - whatever can be encoded as JSON
        if not self._is_connected:
            raise RuntimeError("the service has not started yet: publish from a handler or after start-up")
        body = codec.compact(self.encode_data(data))
        if not codec.is_json(body):
            raise ValueError("a publication must be JSON; text that is not JSON has to be encoded first")
        targets: list[Channel] = []
        for name in (channels,) if isinstance(channels, str) else channels:
            channel = self._namespaces.resolve(name)
            if isinstance(channel, Error):
                # The type says that it is no channel; to the caller it is the value that is wrong.
                raise ValueError(f"cannot publish to {name!r}: {channel.message}")  # noqa: TRY004 - to the caller the value is wrong, not its type
            targets.append(channel)
        return Draft(body), targets

    async def _publish(self, draft: Draft, targets: Iterable[Channel]) -> None:
        for channel in targets:
            await self._publisher.publish(channel, draft)


class PluginBroker:
    """A `Broker` that hands events to the plugin."""

    __slots__ = ("publish", "reaches_others")

    def __init__(self, channels: Channels) -> None:
        self.publish: Callable[[Event], None] = channels.carry
        self.reaches_others = channels.reaches_others
