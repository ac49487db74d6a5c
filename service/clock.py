"""The only reader of time. Everything else is told what time it is."""

from __future__ import annotations

import time
from typing import Protocol

from typing_extensions import override

__all__ = ("Clock", "SystemClock")


class Clock(Protocol):
    """Two clocks: one to measure with, one to write down."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back. For deadlines and durations."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch; may jump. For token expiry and what people read."""
        ...


class SystemClock(Clock):
    """The clocks of this machine."""

    @override
    def now(self) -> float:
        return time.monotonic()

    @override
    def wall(self) -> float:
        return time.time()
