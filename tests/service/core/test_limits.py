from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.limits import RateLimit


def test_allows_as_many_as_the_limit() -> None:
    """One more is too many, and so is every further one."""
    limit = RateLimit(3)

    assert [True, True, True, False, False] == [limit.allow("a", 10.0) for _ in range(5)]


def test_counts_each_key_by_itself() -> None:
    """One does not use up the other's share."""
    limit = RateLimit(1)

    assert limit.allow("a", 0.0)
    assert limit.allow("b", 0.0)
    assert not limit.allow("a", 0.0)


@pytest.mark.parametrize(("later", "allowed"), [(59.999, False), (60.0, True)])
def test_begins_anew_when_the_window_has_passed(later: float, *, allowed: bool) -> None:
    """It begins with the first event, not with the last, and refusals do not lengthen it."""
    limit = RateLimit(1)
    limit.allow("a", 100.0)
    limit.allow("a", 130.0)

    assert allowed is limit.allow("a", 100.0 + later)


def test_zero_is_no_limit() -> None:
    """And remembers nobody."""
    limit = RateLimit(0)

    assert all(limit.allow("a", 0.0) for _ in range(1000))
    assert 0 == len(limit)


def test_counts_whatever_the_limit() -> None:
    """The number of the event in its window."""
    limit = RateLimit(1)

    assert [1, 2, 3] == [limit.count("a", 0.0) for _ in range(3)]
    assert 1 == limit.count("a", 60.0)


def test_forgets_a_key() -> None:
    """One that cannot come back; one that was never seen does not matter."""
    limit = RateLimit(1)
    limit.allow("a", 0.0)
    limit.forget("a")
    limit.forget("b")

    assert 0 == len(limit)


def test_expires_windows_that_have_passed() -> None:
    """And no others."""
    limit = RateLimit(1, window_seconds=10.0)
    limit.allow("old", 0.0)
    limit.allow("new", 0.1)
    limit.expire(10.0)

    assert 1 == len(limit)
    assert not limit.allow("new", 10.0)


@given(st.integers(1, 5), st.lists(st.floats(0, 40)))
def test_never_lets_more_through_than_the_limit_in_a_window(most: int, gaps: list[float]) -> None:
    """Whatever the times of the events, counted from the first of a window on; expiring changes nothing."""
    limit, swept = RateLimit(most), RateLimit(most)
    now, start, allowed = 0.0, 0.0, 0
    for index, gap in enumerate(gaps):
        now += gap
        swept.expire(now)
        if index == 0 or now - start >= 60.0:
            start, allowed = now, 0
        verdict = limit.allow("a", now)
        allowed += verdict

        assert allowed <= most
        assert verdict or allowed == most
        assert verdict is swept.allow("a", now)
