from __future__ import annotations

import time

import pytest

from deploytool.clock import SystemClock


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has this clock")
def test_time_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that others may have taken meanwhile must not look fresh to whoever wakes up."""
    slept = {time.CLOCK_BOOTTIME: 5000.0, time.CLOCK_MONOTONIC: 10.0}
    monkeypatch.setattr(time, "clock_gettime", slept.__getitem__)

    assert 5000.0 == SystemClock().now()
