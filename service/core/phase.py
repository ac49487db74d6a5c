"""Phases of the process, and which may follow which.

Everything about transitions stands in one table; nobody else decides them.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ("TRANSITIONS", "Phase")


class Phase(enum.Enum):
    """What the process does for its clients now."""

    STARTING = "STARTING"
    """Not serving yet."""
    STANDBY = "STANDBY"
    """Running, but another instance serves; not ready."""
    ACTIVE = "ACTIVE"
    """Serving."""
    GATED = "GATED"
    """New WebSockets are refused; those open stay, and publications are taken."""
    DRAINING = "DRAINING"
    """Gated, and open WebSockets are being closed in batches."""
    DRAINED = "DRAINED"
    """Gated, and no WebSocket is left; reversible."""
    CLOSED = "CLOSED"
    """Nothing is served any more."""

    @property
    def admits(self) -> bool:
        """Whether a new WebSocket is let in."""
        return self is Phase.ACTIVE

    @property
    def is_ready(self) -> bool:
        """Whether HTTP requests should be sent here: a gated instance goes on taking publications."""
        return self in _READY


_READY: Final = frozenset({Phase.ACTIVE, Phase.GATED, Phase.DRAINING, Phase.DRAINED})

TRANSITIONS: Final = {
    Phase.STARTING: frozenset({Phase.STANDBY, Phase.ACTIVE, Phase.CLOSED}),
    Phase.STANDBY: frozenset({Phase.ACTIVE, Phase.CLOSED}),
    Phase.ACTIVE: frozenset({Phase.GATED, Phase.DRAINING, Phase.STANDBY, Phase.CLOSED}),
    Phase.GATED: frozenset({Phase.ACTIVE, Phase.DRAINING, Phase.STANDBY, Phase.CLOSED}),
    Phase.DRAINING: frozenset({Phase.ACTIVE, Phase.GATED, Phase.DRAINED, Phase.STANDBY, Phase.CLOSED}),
    Phase.DRAINED: frozenset({Phase.ACTIVE, Phase.GATED, Phase.DRAINING, Phase.STANDBY, Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}
"""Each phase and the phases that may follow it."""
