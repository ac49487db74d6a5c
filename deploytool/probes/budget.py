"""How much a probe may take of a service that others use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploytool.probes.errors import ProbeError

if TYPE_CHECKING:
    from deploytool.model.observations import Status

__all__ = ("allowance",)

_SHARE: Final = 10
"""One part in so many of the connections that the service allows."""

_ROOM: Final = 2
"""How many times that has to be free."""


def allowance(status: Status) -> int:
    """Return how many connections all probes together may have open.

    Raises:
        ProbeError: The service is not in a state to be probed, or too full.
    """
    if status.phase != "ACTIVE":
        raise ProbeError(f"the service is {status.phase}, and probes run against an ACTIVE one alone")
    cap = int(status.limits.get("max_connections", 0))
    most = cap // _SHARE
    if most < 1:
        raise ProbeError(f"the service allows {cap} connections, and a tenth of that is not one")
    free = cap - status.connections
    if free < _ROOM * most:
        raise ProbeError(
            f"the service has {status.connections} of {cap} connections open: probes may take {most} and want "
            f"{_ROOM * most} free",
            "Try again when fewer clients are connected.",
        )
    # What one address may have is shared with whoever is behind the same one.
    for_address = int(status.limits.get("max_connections_per_address", 0))
    return max(1, min(most, for_address // 2)) if for_address else most
