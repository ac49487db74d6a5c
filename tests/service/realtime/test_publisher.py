from __future__ import annotations

import json

import pytest
from typing_extensions import override

from service.core.namespaces import Channel, Namespace
from service.core.stream import Position
from service.realtime.memory_streams import MemoryStreams
from service.realtime.ports import Broker, Draft, Event, EventKind
from service.realtime.publisher import Publisher
from tests.support.observer import RecordingObserver
from tests.support.world import World

ROOM = Channel("room", Namespace(history_size=10, history_ttl=60.0))


@pytest.fixture
def world() -> World:
    """An instance whose broker keeps what it gets."""
    world = World()
    world.broker.is_held = True
    return world


def test_gives_an_offset_and_hands_to_the_broker(world: World) -> None:
    """In that order, with everything that the draft holds."""
    position = world.publish("kept:a", b'{"x":1}', info=b'{"user":"1"}', tags=b'{"t":"u"}')
    (event,) = world.broker.waiting

    assert isinstance(position, Position)
    assert (EventKind.PUBLICATION, "kept:a", 1, position.epoch) == event[:4]
    expected = {"data": {"x": 1}, "info": {"user": "1"}, "offset": 1, "tags": {"t": "u"}}
    assert expected == json.loads(event.body)
    assert [(7,)] == world.observer.of("published")


def test_needs_no_history(world: World) -> None:
    """There is no position, and the event has none."""
    assert world.publish("plain:a", b"1") is None
    assert [Event(EventKind.PUBLICATION, "plain:a", 0, "", b'{"data":1}')] == list(world.broker.waiting)


def test_a_repetition_is_not_delivered(world: World) -> None:
    """It gets the position of the first, and is not counted."""
    positions = [world.publish("kept:a", b"1", idempotency_key="k") for _ in range(3)]

    assert 1 == len(world.broker.waiting)
    assert 1 == len(set(positions))
    assert [(1,)] == world.observer.of("published")


def test_events_keep_the_order_of_their_offsets(world: World) -> None:
    """Otherwise subscribers would see gaps."""
    for _ in range(5):
        world.publish("kept:a")

    assert [1, 2, 3, 4, 5] == [event.offset for event in world.broker.waiting]


class _Broker(Broker):
    def __init__(self, *, reaches_others: bool) -> None:
        self.reaches_others = reaches_others
        self.events: list[Event] = []

    @override
    def publish(self, event: Event) -> None:
        self.events.append(event)


@pytest.mark.parametrize(
    ("reaches_others", "rooms", "sent"),
    [
        pytest.param(False, {"room"}, 1, id="somebody is in it"),
        pytest.param(False, set(), 0, id="nobody is"),
        pytest.param(True, set(), 1, id="somebody elsewhere may be"),
        pytest.param(False, None, 1, id="nobody knows"),
    ],
)
async def test_sends_what_somebody_may_hear(reaches_others: bool, rooms: set[str] | None, sent: int) -> None:  # noqa: FBT001 - a parameter of the cases
    """What nobody hears is kept all the same, and counted."""
    streams = MemoryStreams(now=lambda: 0.0, new_epoch=lambda: "epoch")
    broker, observer = _Broker(reaches_others=reaches_others), RecordingObserver()
    publisher = Publisher(streams, broker, observer, rooms=rooms)

    position = await publisher.publish(ROOM, Draft(b"1"))

    assert position is not None
    assert sent == len(broker.events)
    assert 1 == position.offset == len((await streams.read(ROOM, after=0, limit=9)).items)
