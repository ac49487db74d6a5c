"""A clock that moves only when a test moves it."""

from __future__ import annotations

from typing_extensions import override

from service.clock import Clock

__all__ = ("ManualClock",)


class ManualClock(Clock):
    """Both clocks stand still until ``advance``.

    Args:
        now: First answer of ``now()``, in seconds.
        wall: First answer of ``wall()``, in seconds since the Unix epoch.
    """

    def __init__(self, now: float = 1000.0, wall: float = 1_800_000_000.0) -> None:
        self._now = now
        self._wall = wall

    @override
    def now(self) -> float:
        return self._now

    @override
    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move both clocks forward; a negative value is a mistake of the test."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back, asked for {seconds} s")
        self._now += seconds
        self._wall += seconds
