"""Whether a burst of messages is refused, and the refusal passes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from deploytool.model.observations import RateTrial
from deploytool.probes.client import open_client
from deploytool.probes.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytool.clock import Clock
    from deploytool.probes.address import Address
    from deploytool.probes.client import ProbeClient, Reply

__all__ = ("MOST_MESSAGES", "RATE_SECONDS", "try_rate")

MOST_MESSAGES: Final = 1000
"""A burst is never longer; a limit above it is not tried."""

RATE_SECONDS: Final = 100.0
"""Hard limit of time of the whole trial."""

_BEYOND: Final = 5
_AT_ONCE: Final = 50
_WINDOW_SECONDS: Final = 60.5
_TRIES: Final = 4
_PAUSE_SECONDS: Final = 3.0
_TERMINAL_CODES: Final = 3500


async def try_rate(address: Address, token: str, subscription: tuple[str, str], limit: int, clock: Clock) -> RateTrial:
    """Send more messages than one user may in a minute, as one user, and see whether it is let in again afterwards.

    Nobody else's count is touched: the user is made up, and so is the channel.

    Args:
        address: Where.
        token: Opens a connection as a probe.
        subscription: Channel of the probe, and the token that opens it.
        limit: Messages a minute that the service says it allows; above 0.
        clock: Says when, and measures the minute.

    Raises:
        ProbeError: The limit is higher than what a probe may send.
    """
    if limit > MOST_MESSAGES:
        raise ProbeError(f"the limit is {limit} messages a minute, and a probe sends at most {MOST_MESSAGES}")
    source = f"publish at {address.url}"
    async with open_client(address) as client:
        await _enter(client, address, token, subscription)
        began = clock.now()
        sent, refused = await _burst(client, subscription[0], limit + _BEYOND)
        if refused is None:
            text = f"{sent} messages in {clock.now() - began:.1f} s, none of them refused"
            return RateTrial(source, clock.wall(), sent, None, None, text)
        if client.end is None:
            recovered = await _recovers(client, subscription[0], began, clock)
            return RateTrial(source, clock.wall(), sent, refused.code, recovered, refused.text)
    # It was closed with a code: a real client would come back by itself.
    if refused.code >= _TERMINAL_CODES:
        return RateTrial(source, clock.wall(), sent, refused.code, recovered=False, answer=refused.text)
    async with open_client(address) as client:
        await _enter(client, address, token, subscription)
        recovered = await _recovers(client, subscription[0], began, clock)
    return RateTrial(source, clock.wall(), sent, refused.code, recovered, refused.text)


async def _enter(client: ProbeClient, address: Address, token: str, subscription: tuple[str, str]) -> None:
    channel, channel_token = subscription
    for method, body in (("connect", {"token": token}), ("subscribe", {"channel": channel, "token": channel_token})):
        reply = await client.ask(method, body)
        if not reply.is_accepted:
            raise ProbeError(f"{address.url} answered a {method} with {reply.text}, so no message could be sent")


async def _burst(client: ProbeClient, channel: str, most: int) -> tuple[int, Reply | None]:
    sent = 0
    while sent < most:
        size = min(_AT_ONCE, most - sent)
        message: Mapping[str, Any] = {"channel": channel, "data": {"probe": "rate"}}
        for reply in await client.ask_all("publish", [message] * size):
            sent += 1
            if not reply.is_accepted:
                return sent, reply
    return sent, None


async def _recovers(client: ProbeClient, channel: str, began: float, clock: Clock) -> bool:
    """Wait until the minute is over, and send one more."""
    await asyncio.sleep(max(0.0, began + _WINDOW_SECONDS - clock.now()))
    for _ in range(_TRIES):
        if (await client.ask("publish", {"channel": channel, "data": {"probe": "rate"}})).is_accepted:
            return True
        await asyncio.sleep(_PAUSE_SECONDS)
    return False
