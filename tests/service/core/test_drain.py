from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.drain import Batch, DrainPolicy, default_spread, schedule


@pytest.mark.parametrize(
    ("connections", "policy", "batches"),
    [
        pytest.param(0, DrainPolicy(), [], id="nobody"),
        pytest.param(3, DrainPolicy(), [Batch(0.0, 3)], id="at-once"),
        pytest.param(3, DrainPolicy(grace_seconds=2.0), [Batch(2.0, 3)], id="after-the-grace"),
        pytest.param(
            5,
            DrainPolicy(grace_seconds=1.0, spread_seconds=1.0, interval_seconds=0.5),
            [Batch(1.0, 2), Batch(1.5, 3)],
            id="larger-batches-last",
        ),
        pytest.param(2, DrainPolicy(spread_seconds=10.0), [Batch(0.0, 1), Batch(5.0, 1)], id="fewer-than-intervals"),
        pytest.param(4, DrainPolicy(spread_seconds=0.01), [Batch(0.0, 4)], id="shorter-than-an-interval"),
    ],
)
def test_schedules(connections: int, policy: DrainPolicy, batches: list[Batch]) -> None:
    """Batches over the spread, behind the grace."""
    assert batches == list(schedule(connections, policy))


@given(
    st.integers(0, 20_000),
    st.builds(
        DrainPolicy,
        grace_seconds=st.floats(0, 100),
        spread_seconds=st.floats(0, 100),
        interval_seconds=st.floats(0.01, 10),
    ),
)
def test_closes_every_connection_exactly_once(connections: int, policy: DrainPolicy) -> None:
    """For any numbers: the counts add up, none is empty, they come in order of time and within the spread."""
    batches = list(schedule(connections, policy))

    assert connections == sum(batch.count for batch in batches)
    assert all(batch.count > 0 for batch in batches)
    assert all(before.at_seconds < after.at_seconds for before, after in pairwise(batches))
    assert all(before.count <= after.count for before, after in pairwise(batches))
    assert all(
        policy.grace_seconds <= batch.at_seconds <= policy.grace_seconds + policy.spread_seconds for batch in batches
    )
    assert max((batch.count for batch in batches), default=0) - min((batch.count for batch in batches), default=0) <= 1


@pytest.mark.parametrize(
    ("connections", "seconds"), [(0, 0.0), (1, 0.001), (1000, 1.0), (10_000, 10.0), (10_001, 10.0), (1_000_000, 10.0)]
)
def test_default_spread_is_a_thousand_a_second(connections: int, seconds: float) -> None:
    """And at most ten seconds."""
    assert pytest.approx(seconds) == default_spread(connections)
