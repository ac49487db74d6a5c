"""Figures are averages over a short window, and words for people."""

from __future__ import annotations

import asyncio

import pytest

from service.observability import figures as module
from service.observability.figures import Figures, Indicator, Rates, limits_in_force, memory_text, uptime_text
from service.observability.metrics import Metrics
from service.settings import Limits
from tests.support.surfaces import FixedProcess, instance_of
from tests.support.world import World


class Rig:
    """Figures over counters that a test sets."""

    def __init__(self) -> None:
        self.world = World()
        self.process = FixedProcess(memory_bytes=1024)
        self.metrics = Metrics(self.process)
        self.figures = Figures(instance_of(self.world), self.metrics, Limits())

    def second(self, *, publications: int = 0, deliveries: int = 0, cpu_seconds: float = 0.0) -> None:
        """Let a second pass in which this happens, and take a sample."""
        self.metrics.publications += publications
        self.metrics.deliveries += deliveries
        self.process.cpu += cpu_seconds
        self.world.clock.advance(1)
        self.figures.sample()


@pytest.fixture
def rig() -> Rig:
    """Just started."""
    return Rig()


def test_rates_are_zero_at_the_start(rig: Rig) -> None:
    """When no time has passed there is nothing to divide by."""
    assert Rates(0.0, 0.0, 0.0) == rig.figures.rates()


def test_rates_are_averages_over_ten_seconds(rig: Rig) -> None:
    """What was before is forgotten."""
    for _ in range(100):
        rig.second(publications=1000, deliveries=1000, cpu_seconds=1)
    for _ in range(10):
        rig.second(publications=5, deliveries=50, cpu_seconds=0.25)

    assert Rates(5.0, 50.0, 25.0) == rig.figures.rates()


def test_rates_count_up_to_this_moment(rig: Rig) -> None:
    """Not only up to the last sample."""
    rig.second(publications=10)
    rig.world.clock.advance(1)
    rig.metrics.publications += 20

    assert 15.0 == rig.figures.rates().messages_per_second


def test_rates_without_samples_reach_back_to_the_start(rig: Rig) -> None:
    """Where nobody runs the sampling."""
    rig.world.clock.advance(100)
    rig.metrics.publications = 50

    assert 0.5 == rig.figures.rates().messages_per_second


def test_samples_do_not_pile_up(rig: Rig) -> None:
    """Those of one window are kept."""
    for _ in range(1000):
        rig.second()

    assert 11 == len(rig.figures._samples)


async def test_run_takes_samples_until_it_is_cancelled(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a sample that fails is noted, and does not end it."""
    monkeypatch.setattr(module, "_SAMPLE_SECONDS", 0)
    taken = asyncio.Event()
    calls = 0

    def sample() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("no such process")
        taken.set()

    monkeypatch.setattr(rig.figures, "sample", sample)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        running = group.create_task(rig.figures.run())
        await taken.wait()
        running.cancel()

    assert ["figures"] == [where for where, _ in rig.world.observer.of("failed")]


def test_uptime_and_memory_come_from_clock_and_process(rig: Rig) -> None:
    """In seconds and bytes."""
    rig.world.clock.advance(12.5)

    assert (12.5, 1024) == (rig.figures.uptime_seconds, rig.figures.memory_bytes)


@pytest.mark.parametrize(
    ("connections", "memory_bytes", "cpu_percent", "exceeded"),
    [
        (799, 524_287_999, 69.9, set()),
        (800, 0, 0.0, {"connections"}),
        (0, 524_288_000, 0.0, {"memory_bytes"}),
        (0, 0, 70.0, {"cpu_percent"}),
    ],
)
def test_indicators_have_the_thresholds_of_the_guide(
    rig: Rig, connections: int, memory_bytes: int, cpu_percent: float, exceeded: set[str]
) -> None:
    """800 connections, 500 MB, 70 % of a core: past them one instance will not be enough for long."""
    rig.world.hub.connections.update(dict.fromkeys(map(str, range(connections))))  # type: ignore[arg-type]  # counted only

    indicators = rig.figures.indicators(Rates(0.0, 0.0, cpu_percent), memory_bytes)

    assert exceeded == {indicator.name for indicator in indicators if indicator.exceeded}
    assert ["connections", "memory_bytes", "cpu_percent"] == [indicator.name for indicator in indicators]


def test_indicator_is_exceeded_at_its_threshold() -> None:
    """Not only past it."""
    assert Indicator("connections", 800, 800).exceeded


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m 0s"),
        (3599, "59m 59s"),
        (3600, "1h 0m"),
        (8100, "2h 15m"),
        (86_399, "23h 59m"),
        (86_400, "1d 0h"),
        (1_000_000, "11d 13h"),
    ],
)
def test_uptime_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    """As a person would."""
    assert text == uptime_text(seconds)


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0MB"), (1_048_575, "0MB"), (256_901_120, "245MB"), (256_901_119, "244MB")]
)
def test_memory_is_told_in_whole_megabytes(size_bytes: int, text: str) -> None:
    """Rounded down."""
    assert text == memory_text(size_bytes)


def test_limits_are_told_as_they_are_set() -> None:
    """With the share turned into a number of connections."""
    limits = limits_in_force(Limits(max_connections=50, messages_per_minute=0))

    assert (50, 10, 0) == (limits["max_connections"], limits["max_unauthenticated"], limits["messages_per_minute"])
    assert "unauthenticated_share" not in limits
