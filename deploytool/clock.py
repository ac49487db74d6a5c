"""Where the time comes from: the only place that asks the operating system for it."""

from __future__ import annotations

import time
from typing import Protocol

from typing_extensions import override

__all__ = ("Clock", "SystemClock")


class Clock(Protocol):
    """Both kinds of time."""

    def now(self) -> float:
        """Return seconds of a clock that never goes back; its zero means nothing."""
        ...

    def wall(self) -> float:
        """Return seconds since the Unix epoch."""
        ...


class SystemClock(Clock):
    """The clocks of this machine."""

    @override
    def now(self) -> float:
        return time.monotonic()

    @override
    def wall(self) -> float:
        return time.time()
