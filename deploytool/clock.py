"""Where the time comes from: the only place that asks the operating system for it."""

from __future__ import annotations

import time
from typing import Final, Protocol

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


# `time.monotonic` stands still while a machine sleeps, on Linux and on macOS alike; what others wait for does not.
_SLEEPLESS: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class SystemClock(Clock):
    """The clocks of this machine; they go on while it sleeps."""

    @override
    def now(self) -> float:
        return time.monotonic() if _SLEEPLESS is None else time.clock_gettime(_SLEEPLESS)

    @override
    def wall(self) -> float:
        return time.time()
