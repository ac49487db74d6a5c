"""Whether the count of connections follows the connections."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from deploytool.model.observations import GaugeTrial
from deploytool.probes.client import open_client
from deploytool.probes.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploytool.clock import Clock
    from deploytool.probes.address import Address

__all__ = ("METRIC", "try_gauge")

METRIC: Final = "slackwater_connections_probe"

_MOST: Final = 5
_FOLLOWS_WITHIN_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.1


async def try_gauge(address: Address, token: str, allowance: int, read: Callable[[], int], clock: Clock) -> GaugeTrial:
    """Open a few connections and look whether the count rises by as many, and falls again.

    Args:
        address: Where.
        token: Opens a connection as a probe.
        allowance: Connections that probes may have open.
        read: Returns the count now; blocks.
        clock: Says when.
    """
    count = min(_MOST, allowance)
    before = await asyncio.to_thread(read)
    async with AsyncExitStack() as stack:
        for _ in range(count):
            client = await stack.enter_async_context(open_client(address))
            welcome = await client.ask("connect", {"token": token})
            if not welcome.is_accepted:
                raise ProbeError(f"{address.url} answered a connect with {welcome.text}, so there was nothing to count")
        during = await _reaches(read, before + count, clock)
    after = await _reaches(read, before, clock)
    return GaugeTrial(f"GET /metrics, {METRIC}", clock.wall(), count, before, during, after, METRIC)


async def _reaches(read: Callable[[], int], wanted: int, clock: Clock) -> int:
    """Read until the count is as wanted, or long enough; returns the last one."""
    until = clock.now() + _FOLLOWS_WITHIN_SECONDS
    while True:
        seen = await asyncio.to_thread(read)
        if seen == wanted or clock.now() >= until:
            return seen
        await asyncio.sleep(_PAUSE_SECONDS)
