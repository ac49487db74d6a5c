"""Which address a request comes from, when proxies stand between.

``X-Forwarded-For`` is text that anybody can send. Each proxy appends the address that
it saw, so only what listed proxies appended can be believed: the walk goes from the
right and ends at the first address that is not a listed proxy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple

__all__ = ("ClientAddress", "Network", "client_address")

Network = IPv4Network | IPv6Network

_MAX_HOPS: Final = 32  # a chain of listed proxies is shorter; a header can be much longer
_PORT_OF_IPV4: Final = 1  # colons in "192.0.2.1:4711"; an IPv6 address has two or more


class ClientAddress(NamedTuple):
    """Where a request comes from.

    Attributes:
        address: In its one spelling, IPv4 also where it came mapped into IPv6; as given
            when the peer has no such address, ``""`` when it has none at all.
        unlisted_forwarder: The address says it forwards for others and is no listed proxy,
            so it was not believed. Worth a log line: either the list is not complete, or
            somebody tries to be somebody else.
    """

    address: str
    unlisted_forwarder: bool


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted_networks: Sequence[Network]
) -> ClientAddress:
    """Find the nearest address that is not one of our own proxies.

    Args:
        peer: The other end of the TCP connection; None when unknown, as on a Unix socket.
        forwarded_for: The values of every ``X-Forwarded-For`` header, in their order; each
            a list separated by commas, nearest last.
        trusted_networks: The listed proxies; empty believes nobody.

    Returns:
        The farthest listed proxy when there is nothing beyond it, or nothing readable.
    """
    nearest = _parse(peer or "")
    if nearest is None:
        return ClientAddress(peer or "", unlisted_forwarder=any(forwarded_for))
    entries = _right_to_left(forwarded_for)
    for _ in range(_MAX_HOPS):
        if not any(nearest in network for network in trusted_networks):
            return ClientAddress(str(nearest), unlisted_forwarder=next(entries, None) is not None)
        farther = _parse(next(entries, ""))
        if farther is None:
            break
        nearest = farther
    return ClientAddress(str(nearest), unlisted_forwarder=False)


def _right_to_left(values: Sequence[str]) -> Iterator[str]:
    """Yield the entries nearest first, cutting no more of a long header than is asked for."""
    for value in reversed(values):
        rest = value
        while rest:
            rest, _, entry = rest.rpartition(",")
            yield entry.strip(" \t")


@lru_cache(maxsize=4096)  # a proxy's address comes with every connection, and to take one apart is not cheap
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, with a port or in brackets as some proxies write it."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == _PORT_OF_IPV4:
        host = text.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
