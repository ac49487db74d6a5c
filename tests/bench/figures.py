"""The figures of the benchmark and their arithmetic: medians, spread, ratios, goals.

Pure: it knows neither servers nor processes, only numbers by server and figure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import inf
from statistics import median

__all__ = (
    "FIGURES",
    "Assessment",
    "Better",
    "Figure",
    "Goal",
    "Standing",
    "Summary",
    "Verdict",
    "assess",
    "ratio",
    "summarise",
    "verdict",
)

TIE_RATIO = 1.15
"""Two medians within this factor count as equal: runs on a shared machine differ by as much."""


class Better(Enum):
    """Which direction of a figure is good."""

    HIGHER = "higher"
    LOWER = "lower"


class Verdict(Enum):
    """How a figure compares with the reference."""

    BETTER = "better"
    TIE = "tie"
    WORSE = "worse"


class Standing(Enum):
    """How a figure stands against its goal."""

    MET = "met"
    BARELY_MET = "met, within the spread"
    NEARLY_MET = "missed, within the spread"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Goal:
    """What we aim for: at least this where higher is better, else at most."""

    value: float
    is_ratio: bool = True
    """Of our figure to the reference's; otherwise of the figure itself."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    key: str
    """Stable name in the JSON output."""
    title: str
    unit: str
    better: Better
    digits: int = 0
    """Decimal places shown."""
    goal: Goal | None = None


FIGURES = (
    Figure("deliveries_1", "deliveries, 1 in flight", "1/s", Better.HIGHER, goal=Goal(2.5)),
    Figure("deliveries_32", "deliveries, 32 in flight", "1/s", Better.HIGHER, goal=Goal(14.0)),
    Figure("latency_p50", "publish to delivery, p50", "ms", Better.LOWER, digits=2, goal=Goal(0.45)),
    Figure("latency_p99", "publish to delivery, p99", "ms", Better.LOWER, digits=2, goal=Goal(0.6)),
    Figure("cpu_rate", "CPU at 10 publications/s", "% of a core", Better.LOWER, digits=1),
    Figure("load_delivered", "full load: delivered", "%", Better.HIGHER, digits=2, goal=Goal(99.0, is_ratio=False)),
    Figure(
        "load_growth", "full load: queues grow by", "% of load", Better.LOWER, digits=1, goal=Goal(1, is_ratio=False)
    ),
    Figure("load_p99", "full load: latency, p99", "ms", Better.LOWER, digits=1),
    Figure("load_cpu", "full load: CPU", "% of a core", Better.LOWER, digits=1),
    Figure("load_memory", "full load: memory at the end", "MiB", Better.LOWER, digits=1),
    Figure("rooms_cpu", "50 rooms of 20: CPU", "% of a core", Better.LOWER, digits=1, goal=Goal(0.75)),
    Figure("rooms_p99", "50 rooms of 20: latency, p99", "ms", Better.LOWER, digits=2),
    Figure("memory_idle", "idle process", "MiB", Better.LOWER, digits=1),
    Figure("memory_1000", "per connection at 1,000", "KiB", Better.LOWER, digits=1),
    Figure("memory_10000", "per connection at 10,000", "KiB", Better.LOWER, digits=1, goal=Goal(1 / 6)),
    Figure("memory_added", "added by 10,000", "MiB", Better.LOWER, digits=1, goal=Goal(60.0, is_ratio=False)),
    Figure("connects_1000", "connects, first 1,000", "1/s", Better.HIGHER, goal=Goal(2.0)),
    Figure("connects_10000", "connects, 1,000 to 10,000", "1/s", Better.HIGHER, goal=Goal(2.0)),
    Figure(
        "storm_break", "all clients back after a break", "s", Better.LOWER, digits=2, goal=Goal(8.0, is_ratio=False)
    ),
    Figure(
        "storm_restart", "all clients back after a restart", "s", Better.LOWER, digits=2, goal=Goal(8.0, is_ratio=False)
    ),
    Figure("restart_seconds", "SIGTERM until ready again", "s", Better.LOWER, digits=2),
    Figure("api_publish", "API: publish", "1/s", Better.HIGHER, goal=Goal(3_000, is_ratio=False)),
    Figure("api_batch", "API: batch of 100", "publications/s", Better.HIGHER, goal=Goal(40_000, is_ratio=False)),
    Figure("heartbeat_cpu", "CPU, 1,000 idle", "% of a core", Better.LOWER, digits=2, goal=Goal(2.0, is_ratio=False)),
)


@dataclass(frozen=True, slots=True)
class Summary:
    """All values of one figure for one server, one per run."""

    values: tuple[float, ...]
    """In the order of the runs, never empty."""

    @property
    def median(self) -> float:
        """The middle value; the mean of the two in the middle for an even number of runs."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """Half the distance from lowest to highest, as a share of the median. 0 for a single run."""
        middle = self.median
        return (max(self.values) - min(self.values)) / 2 / middle if middle else 0.0


def summarise(samples: Iterable[tuple[str, str, float]]) -> dict[str, dict[str, Summary]]:
    """Group samples by figure and server.

    Args:
        samples: (server name, figure key, value) in the order of the runs.

    Returns:
        Figure key to server name to summary. What was never measured is absent.
    """
    grouped: dict[str, dict[str, list[float]]] = {}
    for server, figure, value in samples:
        grouped.setdefault(figure, {}).setdefault(server, []).append(value)
    return {
        figure: {server: Summary(tuple(values)) for server, values in by_server.items()}
        for figure, by_server in grouped.items()
    }


def ratio(summaries: Mapping[str, Summary], server: str, reference: str) -> float | None:
    """Median of a server divided by that of the reference.

    Returns:
        None where either is missing or the reference is zero.
    """
    if server not in summaries or reference not in summaries:
        return None
    divisor = summaries[reference].median
    return summaries[server].median / divisor if divisor else None


def verdict(figure: Figure, value: float) -> Verdict:
    """Judge a ratio, treating differences within `TIE_RATIO` as none."""
    gain = value if figure.better is Better.HIGHER else (1 / value if value else TIE_RATIO)
    if gain >= TIE_RATIO:
        return Verdict.BETTER
    return Verdict.WORSE if gain <= 1 / TIE_RATIO else Verdict.TIE


@dataclass(frozen=True, slots=True)
class Assessment:
    """One figure against its goal."""

    value: float
    """What the goal speaks of: the ratio to the reference, or the figure itself."""
    spread: float
    """Of the value, as a share of it; of a ratio the sum of both sides' spreads."""
    standing: Standing
    gain: float
    """Above 1: so many times better than the goal asks for. Infinity for a figure of zero that should be low."""


def assess(figure: Figure, by_server: Mapping[str, Summary], ours: str, reference: str) -> Assessment | None:
    """Hold our figure against its goal.

    Returns:
        None where there is no goal, or where what it speaks of was not measured.
    """
    goal = figure.goal
    if goal is None or ours not in by_server:
        return None
    value: float | None = by_server[ours].median
    spread = by_server[ours].spread
    if goal.is_ratio:
        value = ratio(by_server, ours, reference)
        spread += by_server[reference].spread if reference in by_server else 0.0
    if value is None:
        return None
    is_higher = figure.better is Better.HIGHER
    is_met = value >= goal.value if is_higher else value <= goal.value
    is_within = value * (1 - spread) <= goal.value <= value * (1 + spread) and spread > 0
    if is_met:
        standing = Standing.BARELY_MET if is_within else Standing.MET
    else:
        standing = Standing.NEARLY_MET if is_within else Standing.MISSED
    gain = value / goal.value if is_higher else (goal.value / value if value else inf)
    return Assessment(value, spread, standing, gain)
