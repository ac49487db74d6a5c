"""When to close which connection while draining: arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Batch", "DrainPolicy", "default_spread", "schedule")

_CONNECTIONS_PER_SECOND = 1000
_LONGEST_SPREAD_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """How gently to empty the process.

    Attributes:
        grace_seconds: Wait between announcing the drain and the first close.
        spread_seconds: Time over which all closes are spread; 0 closes all at once.
        interval_seconds: Time between two batches; above 0.
    """

    grace_seconds: float = 0.0
    spread_seconds: float = 0.0
    interval_seconds: float = 0.05


@dataclass(frozen=True, slots=True)
class Batch:
    """Close ``count`` connections ``at_seconds`` after the drain began."""

    at_seconds: float
    count: int


def default_spread(connections: int) -> float:
    """Return the seconds in which the next instance can take ``connections`` back; at most 10.

    Clients closed early only wait longer, so the spread is as short as can be.
    """
    return min(_LONGEST_SPREAD_SECONDS, connections / _CONNECTIONS_PER_SECOND)


def schedule(connections: int, policy: DrainPolicy) -> Iterator[Batch]:
    """Yield batches that together close every connection exactly once, in order of time.

    Args:
        connections: Open connections when the drain began; 0 yields nothing.
        policy: Durations, in seconds.
    """
    rounds = max(1, int(policy.spread_seconds / policy.interval_seconds))
    rounds = min(rounds, connections) or 1
    step = policy.spread_seconds / rounds
    base, extra = divmod(connections, rounds)
    for index in range(rounds):
        # The larger batches come last, when the next instance is warm.
        count = base + (index >= rounds - extra)
        if count:
            yield Batch(policy.grace_seconds + index * step, count)
