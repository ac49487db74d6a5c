"""Whether good tokens open the door, and others do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from deploytool.model.observations import TokenKind, TokenTrial
from deploytool.probes.client import open_client
from deploytool.probes.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytool.clock import Clock
    from deploytool.probes.address import Address
    from deploytool.probes.client import Reply

__all__ = ("Credentials", "try_tokens")

# No header, no claims, no signature that anybody would make.
_GARBAGE: Final = "e30.e30.AAAA"

# 3005 and 3006 say that the token's time is over.
_SAYS_NOTHING: Final = frozenset({100, 111, 1006, 1011, 1012, *range(3000, 3500)}) - {3005, 3006}
"""Refusals that have nothing to do with tokens."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Tokens of one probe.

    Attributes:
        channel: The one that they open.
        connection: Tokens to connect with, by kind; the empty text is none.
        subscription: Tokens to subscribe with, by kind.
    """

    channel: str
    connection: Mapping[TokenKind, str]
    subscription: Mapping[TokenKind, str]

    @classmethod
    def of(cls, channel: str, pairs: Mapping[TokenKind, tuple[str, str]]) -> Credentials:
        """Put the kinds that nobody has to make beside those that the service made."""
        made_up = {TokenKind.NONE: ("", ""), TokenKind.GARBAGE: (_GARBAGE, _GARBAGE)}
        whole = {**pairs, **made_up}
        return cls(
            channel,
            {kind: pair[0] for kind, pair in whole.items()},
            {kind: pair[1] for kind, pair in whole.items()},
        )


async def try_tokens(address: Address, credentials: Credentials, clock: Clock) -> tuple[TokenTrial, ...]:
    """Connect with each kind of token, and subscribe with each kind; one connection at a time."""
    trials = []
    for kind, token in credentials.connection.items():
        async with open_client(address) as client:
            reply = await client.ask("connect", _with_token({}, token))
            trials.append(_trial(address, clock, kind, reply, "connect"))
    for kind, token in credentials.subscription.items():
        async with open_client(address) as client:
            welcome = await client.ask("connect", {"token": credentials.connection[TokenKind.GOOD]})
            if not welcome.is_accepted:
                # Said above already; without a connection there is nothing to subscribe on.
                return tuple(trials)
            reply = await client.ask("subscribe", _with_token({"channel": credentials.channel}, token))
            trials.append(_trial(address, clock, kind, reply, "subscribe"))
    return tuple(trials)


def _with_token(body: dict[str, Any], token: str) -> dict[str, Any]:
    return {**body, "token": token} if token else body


def _trial(address: Address, clock: Clock, kind: TokenKind, reply: Reply, purpose: str) -> TokenTrial:
    if not reply.is_accepted and reply.code in _SAYS_NOTHING:
        raise ProbeError(f"{address.url} answered a {purpose} with {reply.text}, which says nothing of tokens")
    return TokenTrial(f"{purpose} at {address.url}", clock.wall(), kind, reply.is_accepted, reply.text, purpose)
