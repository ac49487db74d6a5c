from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from litestar import Litestar, post
from litestar.channels import ChannelsPlugin  # noqa: TID251 - what a handler asks for
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.testing import AsyncTestClient
from typing_extensions import override

from service.channels import Channels, PluginBroker
from service.core.codes import Errors
from service.core.namespaces import Channel, Namespaces
from service.core.stream import Position
from service.errors import NotCommitted
from service.realtime.instance import Background
from service.realtime.memory_streams import MemoryStreams
from service.realtime.ports import Appended, Draft, Event, EventKind
from service.realtime.publisher import Publisher
from tests.support.clock import ManualClock
from tests.support.ids import SequentialIds
from tests.support.observer import RecordingObserver
from tests.support.world import NAMESPACES

DEADLINE_SECONDS = 10.0


@dataclass
class Plugin:
    """The plugin with what is behind it, started.

    Attributes:
        delivered: Events that came out, oldest first.
    """

    channels: Channels
    observer: RecordingObserver
    delivered: asyncio.Queue[Event]

    async def next(self) -> Event:
        """Wait for the next event that comes out."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.delivered.get()


@pytest.fixture
async def plugin() -> AsyncIterator[Plugin]:
    """A plugin under way."""
    channels, observer = Channels(), RecordingObserver()
    delivered: asyncio.Queue[Event] = asyncio.Queue()
    streams = MemoryStreams(now=ManualClock().now, new_epoch=SequentialIds().epoch)
    background = Background(observer.failed)
    channels.connect(Publisher(streams, PluginBroker(channels), observer), Namespaces(NAMESPACES), background)

    def deliver(event: Event) -> None:
        if event.channel == "faulty":
            raise OSError("a defect")
        delivered.put_nowait(event)

    async with asyncio.TaskGroup() as group, channels:
        background.use(group)
        await channels.start_delivery(deliver, observer.failed)
        yield Plugin(channels, observer, delivered)


def event(number: int, kind: EventKind = EventKind.PUBLICATION, channel: str = "kept:a") -> Event:
    """Return one with everything in it."""
    return Event(kind, channel, number, "epoch", b'{"data":"\xc3\xa9"}')


class TestBroker:
    """Events on their way to the hub."""

    @pytest.mark.parametrize("kind", EventKind)
    async def test_carries_everything_of_an_event(self, plugin: Plugin, kind: EventKind) -> None:
        """To the byte, and the kind is one again."""
        PluginBroker(plugin.channels).publish(event(7, kind))
        received = await plugin.next()

        assert event(7, kind) == received
        assert isinstance(received.kind, EventKind)

    async def test_keeps_the_order(self, plugin: Plugin) -> None:
        """And loses nothing, however many there are at once."""
        broker = PluginBroker(plugin.channels)
        for number in range(5000):
            broker.publish(event(number))

        assert list(range(5000)) == [(await plugin.next()).offset for _ in range(5000)]

    async def test_does_not_deliver_within_the_call(self, plugin: Plugin) -> None:
        """Whoever publishes is not in the middle of something for the hub."""
        PluginBroker(plugin.channels).publish(event(1))

        assert plugin.delivered.empty()
        await plugin.next()

    async def test_a_defect_behind_it_does_not_end_it(self, plugin: Plugin) -> None:
        """It is noted, and what comes after is delivered."""
        broker = PluginBroker(plugin.channels)
        broker.publish(event(1, channel="faulty"))
        broker.publish(event(2))

        assert 2 == (await plugin.next()).offset
        assert ["delivery"] == [where for where, _ in plugin.observer.of("failed")]


class TestPublish:
    """The plugin's own methods, as a handler uses them."""

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            pytest.param({"x": [1]}, {"x": [1]}, id="value"),
            pytest.param('{"x":\n 1}', {"x": 1}, id="json-text"),
            pytest.param(b"[1,\r\n2]", [1, 2], id="json-bytes"),
        ],
    )
    async def test_goes_through_the_publisher(self, plugin: Plugin, data: object, expected: object) -> None:
        """It gets its offset and is kept; it is on one line."""
        await plugin.channels.wait_published(data, "kept:a")
        received = await plugin.next()

        assert (EventKind.PUBLICATION, "kept:a", 1) == received[:3]
        assert {"data": expected, "offset": 1} == json.loads(received.body)
        assert b"\n" not in received.body
        assert 1 == len(plugin.observer.of("published"))

    async def test_goes_to_several_channels(self, plugin: Plugin) -> None:
        """In their order."""
        await plugin.channels.wait_published(1, ["kept:a", "plain:b"])

        assert ["kept:a", "plain:b"] == [(await plugin.next()).channel for _ in range(2)]

    async def test_need_not_be_waited_for(self, plugin: Plugin) -> None:
        """The order of the calls is kept."""
        for number in range(3):
            plugin.channels.publish(number, "kept:a")

        assert [1, 2, 3] == [(await plugin.next()).offset for _ in range(3)]

    @pytest.mark.parametrize(
        ("data", "channel", "problem"),
        [
            pytest.param("plain text", "kept:a", "must be JSON", id="text"),
            pytest.param(b"\xff", "kept:a", "must be JSON", id="bytes"),
            pytest.param(1, "nowhere:a", "unknown channel", id="unknown-channel"),
            pytest.param(1, "two words", "bad request", id="no-channel"),
        ],
    )
    async def test_refuses_what_no_client_could_read(
        self, plugin: Plugin, data: object, channel: str, problem: str
    ) -> None:
        """And names the channel that does not exist."""
        with pytest.raises(ValueError, match=problem):
            await plugin.channels.wait_published(data, channel)

        assert plugin.delivered.empty()

    async def test_what_is_not_kept_is_raised(self, plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever waits for it has to know."""

        async def append(*_: object) -> Appended:
            raise NotCommitted(Errors.INTERNAL)

        monkeypatch.setattr(MemoryStreams, "append", append)
        with pytest.raises(NotCommitted):
            await plugin.channels.wait_published(1, "kept:a")

        assert plugin.delivered.empty()

    async def test_before_the_start(self) -> None:
        """There is nobody yet to publish."""
        channels = Channels()

        with pytest.raises(RuntimeError, match="has not started"):
            channels.publish(1, "kept:a")
        with pytest.raises(RuntimeError, match="has not started"):
            await channels.wait_published(1, "kept:a")

    async def test_before_there_is_a_task_group(self) -> None:
        """The same, one step later."""
        channels = Channels()
        background = Background(RecordingObserver().failed)
        channels.connect(None, Namespaces(NAMESPACES), background)  # type: ignore[arg-type]  # it gets no further

        with pytest.raises(RuntimeError, match="has not started"):
            channels.publish(1, "kept:a")

    async def test_refuses_at_once_also_without_waiting(self, plugin: Plugin) -> None:
        """The caller hears of it, and of several channels none gets anything."""
        with pytest.raises(ValueError, match="unknown channel"):
            plugin.channels.publish(1, ["kept:a", "nowhere:a"])
        plugin.channels.publish(2, "kept:a")

        assert 1 == (await plugin.next()).offset
        assert [] == plugin.observer.of("failed")

    async def test_what_fails_in_the_background_is_noted(self, plugin: Plugin) -> None:
        """And ends nothing else."""
        reached = asyncio.Event()

        class Broken(Publisher):
            @override
            async def publish(self, channel: Channel, draft: Draft) -> Position | None:
                reached.set()
                raise OSError(f"no room for {draft.data!r} in {channel.name}")

        working = plugin.channels._publisher
        plugin.channels._publisher = Broken(working._store, working._broker, working._observer)
        plugin.channels.publish(1, "kept:a")
        await reached.wait()
        plugin.channels._publisher = working
        plugin.channels.publish(1, "kept:a")

        assert 1 == (await plugin.next()).offset
        assert ["background"] == [where for where, _ in plugin.observer.of("failed")]


async def test_is_injected_into_handlers(plugin: Plugin) -> None:
    """As Litestar's own plugin is: by its type and by the name ``channels``."""

    @post("/shout")
    async def shout(channels: NamedDependency[ChannelsPlugin], data: JSONBody[dict[str, Any]]) -> None:
        await channels.wait_published(data, "kept:a")

    carried = Channels()
    carried.connect(plugin.channels._publisher, Namespaces(NAMESPACES), plugin.channels._tasks)
    async with AsyncTestClient(Litestar([shout], plugins=[carried])) as client:
        answer = await client.post("/shout", json={"x": 1})

    assert 201 == answer.status_code
    assert {"data": {"x": 1}, "offset": 1} == json.loads((await plugin.next()).body)
