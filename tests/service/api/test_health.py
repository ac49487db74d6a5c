"""Health answers from the phase, and the figures are the seed's with the plain numbers beside them."""

from __future__ import annotations

import pytest

from service.core.phase import Phase
from tests.support.surfaces import INSTANCE_ID, Surfaces

LIVE, READY, STARTUP, WEBSOCKET = (f"/api/health/{name}" for name in ("live", "ready", "startup", "websocket"))


@pytest.fixture
def surfaces() -> Surfaces:
    """One instance that serves, with nobody connected."""
    return Surfaces()


@pytest.mark.parametrize(
    ("phase", "live", "ready", "startup"),
    [
        (Phase.STARTING, 200, 503, 503),
        (Phase.STANDBY, 200, 503, 200),
        (Phase.ACTIVE, 200, 200, 200),
        (Phase.GATED, 200, 200, 200),
        (Phase.DRAINING, 200, 200, 200),
        (Phase.DRAINED, 200, 200, 200),
        (Phase.CLOSED, 200, 503, 503),
    ],
)
async def test_phase_decides_over_health(surfaces: Surfaces, phase: Phase, live: int, ready: int, startup: int) -> None:
    """No phase is a reason for a restart."""
    surfaces.enter(phase)
    surfaces.world.lifecycle.reason = "for a test"

    answers = [await surfaces.ask("GET", path) for path in (LIVE, READY, STARTUP)]

    assert [live, ready, startup] == [answer.status_code for answer in answers]
    assert {phase.value} == {answer.json()["phase"] for answer in answers}
    for answer in answers:
        body = answer.json()
        assert ("ok" if answer.status_code == 200 else "unavailable") == body["status"]
        assert answer.status_code == 200 or [f"{phase.value}: for a test"] == body["reasons"]


async def test_ready_says_what_is_out_of_the_ordinary(surfaces: Surfaces) -> None:
    """Gated is ready, and yet not quite as always."""
    assert [] == (await surfaces.ask("GET", READY)).json()["reasons"]

    surfaces.world.lifecycle.gate(60, "rollout 7")

    assert ["GATED: rollout 7"] == (await surfaces.ask("GET", READY)).json()["reasons"]


async def test_live_fails_when_timers_do_not_run(surfaces: Surfaces) -> None:
    """Nobody is pinged then, and no gate opens by itself; it recovers with the next tick."""
    surfaces.world.clock.advance(4.9)
    assert 200 == (await surfaces.ask("GET", LIVE)).status_code

    surfaces.world.clock.advance(0.1)

    answer = await surfaces.ask("GET", LIVE)
    assert 503 == answer.status_code
    assert ["timers have not run for 5.0 s: clients are neither pinged nor drained"] == answer.json()["reasons"]
    assert 200 == (await surfaces.ask("GET", READY)).status_code
    surfaces.world.ticker.tick()
    assert 200 == (await surfaces.ask("GET", LIVE)).status_code


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.CLOSED])
async def test_live_does_not_wait_for_timers_that_are_not_meant_to_run(surfaces: Surfaces, phase: Phase) -> None:
    """Before the start and after the end."""
    surfaces.enter(phase)
    surfaces.world.clock.advance(60)

    assert 200 == (await surfaces.ask("GET", LIVE)).status_code


async def test_figures_are_complete(surfaces: Surfaces) -> None:
    """Every field, by name and value."""
    first, _ = surfaces.clients(2)
    first.subscribe("chat:lobby")
    surfaces.world.client()
    surfaces.world.clock.advance(8100)
    surfaces.metrics.publications, surfaces.metrics.deliveries, surfaces.process.cpu = 81_000, 810_000, 405.0

    answer = await surfaces.ask("GET", WEBSOCKET)

    body = answer.json()
    limits = body.pop("limits")
    assert {
        "connectedClients": 3,
        "activeRooms": 1,
        "authenticatedClients": 2,
        "uptime": "2h 15m",
        "memoryUsage": "245MB",
        "uptimeSeconds": 8100.0,
        "memoryBytes": 256_901_120,
        "phase": "ACTIVE",
        "instance": INSTANCE_ID,
        "messagesPerSecond": 10.0,
        "deliveriesPerSecond": 100.0,
        "cpuPercent": 5.0,
        "indicators": [
            {"name": "connections", "value": 3, "threshold": 800, "exceeded": False},
            {"name": "memory_bytes", "value": 256_901_120, "threshold": 524_288_000, "exceeded": False},
            {"name": "cpu_percent", "value": 5.0, "threshold": 70, "exceeded": False},
        ],
    } == body
    assert {
        "maxConnections": 1000,
        "maxUnauthenticated": 200,
        "messagesPerMinute": 100,
        "maxMessageBytes": 65_536,
        "idleTimeoutSeconds": 86_400.0,
        "pingIntervalSeconds": 30.0,
    }.items() <= limits.items()
    assert "no-store" == answer.headers["cache-control"]
