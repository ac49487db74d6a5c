from __future__ import annotations

import pytest

from tests.support.world import World

SOON = b'{"type":"maintenance","state":"soon"}'
TTL = 120.0


@pytest.fixture
def world() -> World:
    """An instance with nobody in it."""
    return World()


def test_tells_every_client_once(world: World) -> None:
    """Those that have connected; the others have not said who they are."""
    clients = [world.connected("1"), world.connected("2")]
    silent = world.client()

    assert 2 == world.announcements.announce(SOON, TTL)
    for client in clients:
        assert {"data": {"type": "maintenance", "state": "soon"}} == client.expect_push("message")
        client.expect_no_push()
    silent.expect_no_push()


def test_tells_who_connects_while_it_is_in_force(world: World) -> None:
    """Right behind the connect reply."""
    world.announcements.announce(SOON, TTL)
    client = world.connected("1")

    assert "soon" == client.expect_push("message")["data"]["state"]


def test_the_same_again_tells_nobody_twice(world: World) -> None:
    """It renews the time."""
    client = world.connected("1")
    world.announcements.announce(SOON, TTL)
    client.expect_push("message")
    world.advance(TTL - 1)

    assert 0 == world.announcements.announce(SOON, TTL)
    client.expect_no_push()
    world.advance(TTL - 1)
    assert world.announcements.data is not None
    world.advance(1)
    assert world.announcements.data is None


def test_another_one_replaces_it(world: World) -> None:
    """And is told to everybody."""
    client = world.connected("1")
    world.announcements.announce(SOON, TTL)
    client.expect_push("message")

    assert 1 == world.announcements.announce(b'"now"', TTL)
    assert {"data": "now"} == client.expect_push("message")


@pytest.mark.parametrize(("seconds", "is_in_force"), [(TTL - 0.01, True), (TTL, False)])
def test_lapses_when_nobody_renews_it(world: World, seconds: float, *, is_in_force: bool) -> None:
    """Without a word, and nobody who comes later is told."""
    client = world.connected("1")
    world.announcements.announce(SOON, TTL)
    client.expect_push("message")
    world.advance(seconds)
    later = world.connected("2")

    if is_in_force:
        later.expect_push("message")
    later.expect_no_push()
    client.expect_no_push()


def test_may_be_announced_again_after_it_lapsed(world: World) -> None:
    """It is news again."""
    client = world.connected("1")
    world.announcements.announce(SOON, TTL)
    client.expect_push("message")
    world.advance(TTL)

    assert 1 == world.announcements.announce(SOON, TTL)


def test_cancel_says_so(world: World) -> None:
    """To everybody who is there, and nobody is told afterwards."""
    client = world.connected("1")
    world.announcements.announce(SOON, TTL)
    client.expect_push("message")

    assert world.announcements.cancel()
    assert {"data": {"type": "maintenance", "state": "cancelled"}} == client.expect_push("message")
    world.connected("2").expect_no_push()


def test_cancel_of_nothing(world: World) -> None:
    """Tells nobody."""
    client = world.connected("1")

    assert not world.announcements.cancel()
    client.expect_no_push()
