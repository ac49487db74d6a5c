"""The only reader of time. Everything else is told what time it is."""

from __future__ import annotations

import time
from typing import Protocol

from typing_extensions import override

__all__ = ("Clock", "SystemClock")


class Clock(Protocol):
    """Three clocks: one to measure with, one to compare with other processes, one to write down."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back. For deadlines and durations."""
        ...

    def boot(self) -> float:
        """Seconds since the machine started, those included in which it slept; never goes back.

        For how long something that others rely on may go on: a deadline by `now` would
        lie too late by as long as the machine was suspended.
        """
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch; may jump. For token expiry and what people read."""
        ...


# Linux alone tells the two apart; elsewhere the monotonic clock is the nearest that there is.
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock(Clock):
    """The clocks of this machine."""

    @override
    def now(self) -> float:
        return time.monotonic()

    @override
    def boot(self) -> float:
        return time.clock_gettime(_BOOT)

    @override
    def wall(self) -> float:
        return time.time()
