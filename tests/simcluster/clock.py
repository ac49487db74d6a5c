"""The time of the simulated cluster."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

__all__ = ("SimClock", "rfc3339", "rfc3339_micro")


class SimClock:
    """Real time, run faster or shifted.

    Args:
        rate: Seconds of the cluster in one real second: back-offs, grace periods and probe periods shrink by it.
            The processes in its pods keep real time.

    Attributes:
        shift_seconds: Added to the wall clock, for a cluster whose clock is wrong.
    """

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate
        self.shift_seconds = 0.0
        self._began = time.monotonic()  # noqa: TID251 - the one reader of time here
        self._began_wall = time.time()  # noqa: TID251 - ditto

    def now(self) -> float:
        """Return seconds since the start, of the cluster's time."""
        return (time.monotonic() - self._began) * self.rate  # noqa: TID251 - ditto

    def wall(self) -> float:
        """Return Unix seconds."""
        return self._began_wall + self.now() + self.shift_seconds

    def told(self) -> float:
        """Return Unix seconds as answers over HTTP tell them: shifted, and no faster than those of clients."""
        return time.time() + self.shift_seconds  # noqa: TID251 - ditto

    async def sleep(self, seconds: float) -> None:
        """Wait for a time of the cluster."""
        await asyncio.sleep(seconds / self.rate)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """Limit a block to a time of the cluster."""
        return asyncio.timeout(seconds / self.rate)


def rfc3339(wall: float) -> str:
    """Write Unix seconds as ``metadata`` does."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(wall: float) -> str:
    """Write Unix seconds as leases do."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
