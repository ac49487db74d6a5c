"""Pauses that end when a test moves the clock."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.clock import ManualClock

__all__ = ("ManualPauses",)

_TURNS = 30
"""Of the loop, after which everything that could go on has gone on."""


class ManualPauses:
    """Stands in for ``asyncio.sleep``, on a clock that only a test moves."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved on."""
        over = asyncio.Event()
        heapq.heappush(self._waiting, (self._clock.boot() + seconds, next(self._numbers), over))
        await over.wait()

    async def advance(self, seconds: float) -> None:
        """Move the clock, from the end of one pause to the next, and let all go on that can."""
        until = self._clock.boot() + seconds
        await self.settle()
        while self._waiting and self._waiting[0][0] <= until:
            at, _, over = heapq.heappop(self._waiting)
            self._clock.advance(max(0.0, at - self._clock.boot()))
            over.set()
            await self.settle()
        self._clock.advance(max(0.0, until - self._clock.boot()))
        await self.settle()

    async def settle(self) -> None:
        """Let everything go on as far as it gets."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
