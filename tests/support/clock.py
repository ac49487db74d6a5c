"""A clock that moves only when a test moves it."""

from __future__ import annotations

from typing_extensions import override

from service.clock import Clock

__all__ = ("ManualClock",)


class ManualClock(Clock):
    """All clocks stand still until ``advance``.

    Args:
        now: First answer of ``now()`` and of ``boot()``, in seconds.
        wall: First answer of ``wall()``, in seconds since the Unix epoch.
    """

    def __init__(self, now: float = 1000.0, wall: float = 1_800_000_000.0) -> None:
        self._now = now
        self._wall = wall
        self._slept = 0.0

    @override
    def now(self) -> float:
        return self._now

    @override
    def boot(self) -> float:
        return self._now + self._slept

    @override
    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move all clocks forward; a negative value is a mistake of the test."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back, asked for {seconds} s")
        self._now += seconds
        self._wall += seconds

    def sleep(self, seconds: float) -> None:
        """Move on as a machine that was suspended: the clock that measures stands still."""
        self._slept += seconds
        self._wall += seconds
