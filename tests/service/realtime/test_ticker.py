from __future__ import annotations

import asyncio

import pytest
from typing_extensions import override

from service.core.codes import Disconnects
from service.core.drain import DrainPolicy
from service.core.phase import Phase
from service.core.session import SessionLimits
from service.realtime import ticker as module
from service.realtime.drainer import Origin
from service.realtime.lifecycle import Lifecycle
from service.realtime.ticker import Ticker
from tests.support.world import World


def test_looks_at_every_connection_that_is_due() -> None:
    """And at no other."""
    world = World(sessions=SessionLimits(connect_seconds=10.0))
    early = world.client()
    world.clock.advance(5.0)
    late = world.client()
    world.advance(5.0)

    early.expect_closed(Disconnects.STALE)
    late.expect_no_push()
    assert world.clock.now() == world.ticker.ticked_at


def test_a_defect_in_one_connection_does_not_cost_the_others_their_turn() -> None:
    """It is noted, and that connection alone is closed."""
    world = World(sessions=SessionLimits())
    faulty, other = world.connected("1"), world.connected("2")
    faulty.subscribe("plain:a")
    faulty.connection.memberships["plain:a"].expires_at = None  # type: ignore[assignment]  # no time at all
    world.advance(22.5)

    faulty.expect_closed(Disconnects.INTERNAL_ERROR)
    other.expect_ping()
    assert ["heartbeat"] == [where for where, _ in world.observer.of("failed")]
    world.observer.failures.clear()
    world.assert_sound()


def test_moves_everything_that_waits_for_time() -> None:
    """The gate, the announcement and the drain."""
    world = World()
    world.announcements.announce(b"1", 10.0)
    world.lifecycle.gate(10.0, "maintenance")
    world.advance(10.0)
    assert world.announcements.data is None
    assert Phase.ACTIVE is world.lifecycle.phase
    client = world.connected("1")
    world.drainer.start(Origin.ADMIN, DrainPolicy(grace_seconds=1.0), budget_seconds=5.0, ttl_seconds=5.0)
    client.expect_push("message")
    world.advance(1.0)

    client.expect_closed(Disconnects.SHUTDOWN)


def test_sweeps_once_a_second() -> None:
    """Counts whose window has passed, and what is too old in streams."""
    world = World(messages_per_minute=5, commands_per_minute=5)
    client = world.connected("1")
    client.do("publish", channel="kept:a", data=1)
    client.do("unsubscribe", channel="kept:a")
    world.context.refusals.allow("1", world.clock.now())
    limits = (world.context.messages, world.context.commands, world.context.refusals)
    stream = world.memory._streams["kept:a"]
    assert (1, 1, 1) == tuple(len(limit) for limit in limits)
    world.advance(59.5)
    assert (1, 1, 1) == tuple(len(limit) for limit in limits)
    world.advance(0.5)
    # The last sweep was half a second ago.
    assert (1, 1, 1) == tuple(len(limit) for limit in limits)
    assert 1 == len(stream)
    world.advance(0.5)

    assert (0, 0, 0) == tuple(len(limit) for limit in limits)
    assert 0 == len(stream)


def test_streams_with_members_are_watched() -> None:
    """Their top is not forgotten however long nothing is published."""
    world = World()
    client = world.connected("1")
    client.subscribe("kept:watched", recoverable=True)
    world.publish("kept:watched")
    world.publish("kept:other")
    assert 1 == client.expect_push("pub", "kept:watched")["offset"]
    world.advance(100_000.0)

    assert ["kept:watched"] == list(world.memory._streams)


async def test_run_ticks_until_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect in one tick is noted, and the next tick comes all the same."""
    world = World()
    ticks: list[int] = []
    enough = asyncio.Event()

    class Faulty(Lifecycle):
        """Fails at every tick."""

        @override
        def tick(self, now: float) -> None:
            ticks.append(len(ticks))
            if len(ticks) == 3:
                enough.set()
            raise OSError("a defect")

    monkeypatch.setattr(module, "TICK_SECONDS", 0.0)
    lifecycle = Faulty(now=world.clock.now, wall=world.clock.wall, observer=world.observer)
    ticker = Ticker(world.context, lifecycle, world.announcements, world.drainer)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(ticker.run())
        await enough.wait()
        task.cancel()

    assert ["tick"] * 3 == [where for where, _ in world.observer.of("failed")]
