"""Who answers at the public address, and which pages may connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from deploytool.model.observations import HandshakeTrial, OriginKind, OriginTrial
from deploytool.probes.client import upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploytool.clock import Clock
    from deploytool.probes.address import Address

__all__ = ("origins_to_try", "try_handshakes", "try_origins")

_HANDSHAKES: Final = 6
_FOREIGN: Final = "https://evil.example"
_MOST_ALLOWED: Final = 5


async def try_handshakes(address: Address, clock: Clock) -> tuple[HandshakeTrial, ...]:
    """Connect several times, each on a connection of its own, and note which process answers."""
    trials = []
    for _ in range(_HANDSHAKES):
        _, answer, instance = await upgrade(address)
        trials.append(HandshakeTrial(f"GET {address.url}", clock.wall(), instance, answer))
    return tuple(trials)


async def try_origins(address: Address, allowed: Sequence[str], clock: Clock) -> tuple[OriginTrial, ...]:
    """Connect as pages of several sites would.

    Args:
        address: Where.
        allowed: Origins that have to be let in.
        clock: Says when.
    """
    trials = []
    for kind, origin in origins_to_try(allowed):
        accepted, answer, _ = await upgrade(address, origin)
        trials.append(OriginTrial(f"GET {address.url}", clock.wall(), kind, origin, accepted, answer))
    return tuple(trials)


def origins_to_try(allowed: Sequence[str]) -> Iterator[tuple[OriginKind, str]]:
    """Yield the allowed origins, and those that look like them and are not; each once."""
    known = list(allowed)
    seen = set(known)
    yield from ((OriginKind.ALLOWED, origin) for origin in known[:_MOST_ALLOWED])
    yield OriginKind.FOREIGN, _FOREIGN
    yield OriginKind.NULL, "null"
    for origin in known[:_MOST_ALLOWED]:
        parts = urlsplit(origin)
        for kind, trick in (
            (OriginKind.SUFFIX, f"{origin}.evil.example"),
            (OriginKind.SUFFIX, f"{parts.scheme}://evil-{parts.netloc}"),
            (OriginKind.INSECURE, f"http://{parts.netloc}"),
        ):
            if trick not in seen:
                seen.add(trick)
                yield kind, trick
