from __future__ import annotations

import json

import pytest

from service.core.stream import Position
from service.realtime.ports import Event, EventKind
from tests.support.world import World


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
