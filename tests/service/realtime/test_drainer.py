from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.codes import Disconnects
from service.core.drain import DrainPolicy
from service.core.phase import Phase
from service.realtime.drainer import Origin
from tests.support.client import FakeClient
from tests.support.world import World

AT_ONCE = DrainPolicy()
SPREAD = DrainPolicy(grace_seconds=2.0, spread_seconds=4.0, interval_seconds=1.0)
TTL, BUDGET = 120.0, 25.0


@pytest.fixture
def world() -> World:
    """An instance with nobody in it."""
    return World()


def start(world: World, policy: DrainPolicy = SPREAD, origin: Origin = Origin.ADMIN, *, budget: float = BUDGET) -> bool:
    """Begin a drain or renew it."""
    ttl = math.inf if origin is Origin.SIGNAL else TTL
    return world.drainer.start(origin, policy, budget_seconds=budget, ttl_seconds=ttl)


def phase(world: World) -> Phase:
    """Return where the process stands now."""
    return world.lifecycle.phase


def closed(clients: list[FakeClient]) -> list[bool]:
    """Return which of them were closed."""
    return [client.transport.closed is not None for client in clients]


def test_announces_waits_and_closes_in_batches(world: World) -> None:
    """Oldest first, with 3001 behind the announcement; then there is nobody left."""
    clients = [world.connected(str(number)) for number in range(8)]
    assert start(world)
    assert Phase.DRAINING is phase(world)
    for client in clients:
        expected = {"type": "maintenance", "state": "draining", "seconds": 6.0}
        assert {"data": expected} == client.expect_push("message")
    world.advance(1.9)
    assert [False] * 8 == closed(clients)
    seen = []
    for _ in range(4):
        world.advance(1.0)
        seen.append(sum(closed(clients)))
        assert closed(clients) == sorted(closed(clients), reverse=True)

    assert [2, 4, 6, 8] == seen
    for client in clients:
        client.expect_closed(Disconnects.SHUTDOWN)
    assert Phase.DRAINED is phase(world)
    assert world.drainer.done.is_set()
    assert [(1, 2, 6), (2, 2, 4), (3, 2, 2), (4, 2, 0)] == world.observer.of("drained")
    world.assert_empty()


def test_of_nobody_is_done_at_once(world: World) -> None:
    """There is nothing to wait for."""
    assert start(world)
    assert Phase.DRAINED is phase(world)
    assert not world.drainer.is_running
    assert world.drainer.done.is_set()


def test_says_how_far_it_is(world: World) -> None:
    """For the status."""
    [world.connected(str(number)) for number in range(8)]
    began = world.clock.now()
    start(world)
    drain = world.drainer.drain
    assert drain is not None
    assert world.drainer.is_running
    assert (Origin.ADMIN, 8, 0, began, 6.0, math.inf) == (
        drain.origin,
        drain.total,
        drain.closed,
        drain.started_at,
        drain.seconds,
        drain.finished_at,
    )
    world.advance(3.0)
    assert 4 == drain.closed
    world.advance(10.0)

    assert (8, began + 13.0) == (drain.closed, drain.finished_at)
    assert not world.drainer.is_running


def test_what_was_published_before_goes_out_before_the_close(world: World) -> None:
    """Also what came in the same tick."""
    client = world.connected("1")
    client.subscribe("plain:a")
    world.publish("plain:a", b"1")
    world.deliver()
    start(world, AT_ONCE)

    client.expect_push("message")
    assert {"data": 1} == client.expect_push("pub", "plain:a")
    client.expect_closed(Disconnects.SHUTDOWN)


def test_who_leaves_alone_is_not_closed(world: World) -> None:
    """And does not count as closed."""
    clients = [world.connected(str(number)) for number in range(8)]
    start(world)
    for client in clients[:3]:
        client.lose()
    world.advance(20.0)

    assert world.drainer.drain is not None
    assert 5 == world.drainer.drain.closed
    assert 5 == sum(count for _, count, _ in world.observer.of("drained"))
    assert Phase.DRAINED is phase(world)
    world.assert_empty()


def test_waits_for_who_came_while_it_began_until_the_budget_ends(world: World) -> None:
    """A handshake that was under way is no reason never to end."""
    world.connected("1")
    start(world)
    late = world.connected("2")
    world.advance(BUDGET - 0.1)
    assert Phase.DRAINING is phase(world)
    late.expect_no_push()
    world.advance(0.1)

    late.expect_closed(Disconnects.SHUTDOWN)
    assert Phase.DRAINED is phase(world)


def test_the_end_of_the_budget_closes_all_that_is_left(world: World) -> None:
    """At once, however long the spread."""
    clients = [world.connected(str(number)) for number in range(100)]
    start(world, DrainPolicy(spread_seconds=1000.0), budget=5.0)
    world.advance(4.9)
    assert 1 == sum(closed(clients))
    world.advance(0.1)

    assert [True] * 100 == closed(clients)
    assert Phase.DRAINED is phase(world)


def test_hurry_closes_all_that_is_left(world: World) -> None:
    """A second signal; without a drain it does nothing."""
    world.drainer.hurry()
    clients = [world.connected(str(number)) for number in range(8)]
    start(world)
    world.drainer.hurry()

    assert [True] * 8 == closed(clients)
    assert Phase.DRAINED is phase(world)


@pytest.mark.parametrize("before", [Phase.STARTING, Phase.STANDBY, Phase.CLOSED])
def test_is_refused_where_nothing_is_served(world: World, before: Phase) -> None:
    """And tells nobody."""
    client = world.connected("1")
    world.lifecycle.phase = before

    assert not start(world)
    assert world.drainer.drain is None
    client.expect_no_push()


class TestRenewal:
    """An admin's drain has a time to live."""

    def test_is_undone_when_nobody_renews_it(self, world: World) -> None:
        """The instance admits again and says so; who is still there stays."""
        client = world.connected("1")
        start(world, DrainPolicy(grace_seconds=1000.0), budget=math.inf)
        client.expect_push("message")
        world.advance(TTL - 0.1)
        assert Phase.DRAINING is phase(world)
        world.advance(0.1)

        assert Phase.ACTIVE is phase(world)
        assert "not renewed" in world.lifecycle.reason
        assert world.drainer.drain is None
        assert "cancelled" == client.expect_push("message")["data"]["state"]
        client.expect_no_push()

    def test_is_undone_also_when_it_is_done(self, world: World) -> None:
        """DRAINED is reversible."""
        start(world)
        world.advance(TTL)

        assert Phase.ACTIVE is phase(world)

    def test_goes_on_when_it_is_renewed(self, world: World) -> None:
        """Nothing begins anew: nobody is told twice, and the batches stay where they are."""
        clients = [world.connected(str(number)) for number in range(8)]
        start(world, DrainPolicy(spread_seconds=200.0, interval_seconds=1.0), budget=math.inf)
        world.advance(TTL - 1)
        assert start(world)
        world.advance(TTL - 1)
        assert [True] * 8 == closed(clients)
        assert 1 == len([line for line in clients[7].transport.payloads if b"draining" in line])
        world.advance(1)

        assert Phase.ACTIVE is phase(world)

    def test_a_signal_takes_it_over(self, world: World) -> None:
        """Who is left goes by the signal's own plan, however long the operator's was, and nothing undoes it."""
        clients = [world.connected(str(number)) for number in range(8)]
        start(world, DrainPolicy(grace_seconds=1000.0), budget=math.inf)
        world.advance(TTL - 10)
        assert start(world, DrainPolicy(grace_seconds=15.0, spread_seconds=8.0), Origin.SIGNAL, budget=50.0)
        assert not world.drainer.cancel("too late")
        world.advance(14.9)
        assert [False] * 8 == closed(clients)
        assert Phase.DRAINING is phase(world)
        world.advance(4.0)
        assert 4 == sum(closed(clients))
        world.advance(4.0)

        assert [True] * 8 == closed(clients)
        assert Phase.DRAINED is phase(world)

    def test_nobody_takes_over_a_signals(self, world: World) -> None:
        """An admin's start changes nothing about it."""
        world.connected("1")
        start(world, DrainPolicy(grace_seconds=10.0), Origin.SIGNAL)
        assert start(world)
        assert world.drainer.drain is not None

        assert (Origin.SIGNAL, math.inf) == (world.drainer.drain.origin, world.drainer.drain.until)


class TestCancel:
    """Changing one's mind."""

    def test_stops_closing(self, world: World) -> None:
        """Those closed stay closed, and the rest stays; everybody is let in again."""
        clients = [world.connected(str(number)) for number in range(8)]
        start(world)
        world.advance(2.5)
        assert world.drainer.cancel("changed")
        world.advance(100.0)

        assert [True, True] + [False] * 6 == closed(clients)
        assert (Phase.ACTIVE, "changed") == (world.lifecycle.phase, world.lifecycle.reason)
        assert world.drainer.done.is_set()

    def test_a_drain_may_follow(self, world: World) -> None:
        """From the beginning."""
        clients = [world.connected(str(number)) for number in range(8)]
        start(world)
        world.advance(2.5)
        world.drainer.cancel("changed")
        assert start(world, AT_ONCE)

        assert [True] * 8 == closed(clients)
        assert world.drainer.drain is not None
        assert 6 == world.drainer.drain.total

    @pytest.mark.parametrize(
        "begin", [lambda _: None, lambda world: start(world, origin=Origin.SIGNAL)], ids=["nothing", "signal"]
    )
    def test_is_refused(self, world: World, begin: Callable[[World], object]) -> None:
        """Where there is none, and where a signal began it."""
        begin(world)

        assert not world.drainer.cancel("changed")

    def test_leaves_another_phase_alone(self, world: World) -> None:
        """The process has gone on meanwhile."""
        world.connected("1")
        start(world)
        world.lifecycle.enter(Phase.STANDBY, "lost the lock")

        assert world.drainer.cancel("changed")
        assert Phase.STANDBY is phase(world)


@given(
    st.integers(0, 30),
    st.builds(
        DrainPolicy,
        grace_seconds=st.floats(0, 5),
        spread_seconds=st.floats(0, 10),
        interval_seconds=st.floats(0.05, 3),
    ),
    st.floats(0, 20),
    st.sets(st.integers(0, 29)),
    st.lists(st.floats(0, 5), max_size=10),
)
def test_closes_everybody_exactly_once(
    count: int, policy: DrainPolicy, budget: float, leaving: set[int], steps: list[float]
) -> None:
    """For any numbers, with some who leave by themselves and with any steps of time."""
    world = World()
    clients = [world.connected() for _ in range(count)]
    start(world, policy, Origin.SIGNAL, budget=budget)
    for index, seconds in enumerate([*steps, 20.0]):
        if index in leaving and index < count:
            clients[index].lose()
        world.advance(seconds)

    assert Phase.DRAINED is phase(world)
    assert world.drainer.drain is not None
    shut = [client for client in clients if client.transport.closed == (3001, "shutdown")]
    assert len(shut) == world.drainer.drain.closed
    assert count == world.drainer.drain.total
    assert count == len(world.observer.of("connection_closed"))
    assert all(client.transport.closed is not None for client in clients)
    world.assert_empty()
