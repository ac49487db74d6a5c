from __future__ import annotations

import time

import pytest

from service.clock import SystemClock
from tests.support.clock import ManualClock


def test_system_clock_never_goes_back() -> None:
    """Two readings in a row are in order."""
    clock = SystemClock()
    first = clock.now()

    assert first <= clock.now()


def test_system_clock_tells_the_time_of_day() -> None:
    """After this was written, in seconds and not in anything smaller."""
    assert 1_700_000_000 < SystemClock().wall() < 100_000_000_000


def test_manual_clock_moves_both_hands_when_told() -> None:
    """And not by itself."""
    clock = ManualClock(now=5.0, wall=70.0)
    clock.advance(2.5)

    assert (7.5, 72.5) == (clock.now(), clock.wall())


def test_manual_clock_does_not_go_back() -> None:
    """That would be a mistake of the test."""
    with pytest.raises(ValueError, match="does not go back"):
        ManualClock().advance(-0.1)


def test_the_clock_since_the_start_of_the_machine_goes_on() -> None:
    """It is the system's own, that other processes read too."""
    first = SystemClock().boot()

    assert 0 < first <= SystemClock().boot()
    assert abs(time.clock_gettime(time.CLOCK_BOOTTIME) - first) < 60


def test_a_machine_that_sleeps_moves_but_one_of_them() -> None:
    """That which measures stands still meanwhile."""
    clock = ManualClock(now=5.0, wall=70.0)
    clock.advance(1.0)
    clock.sleep(2.5)

    assert (6.0, 8.5, 73.5) == (clock.now(), clock.boot(), clock.wall())
