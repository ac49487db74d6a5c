"""Who may open a WebSocket at all: decided before the upgrade, so that a refusal costs next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.core.tenure import Tenure

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.realtime.hub import Hub
    from service.realtime.lifecycle import Lifecycle
    from service.realtime.ports import Observer

__all__ = ("Admission", "AdmissionLimits", "Refusal")


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Bounds on connections.

    Attributes:
        connections: Open at once.
        unauthenticated: Of those, whose connect command has not been accepted yet; at least 1.
        per_address: From one client address; 0 for no limit.
    """

    connections: int = 1000
    unauthenticated: int = 200
    per_address: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """An upgrade that is not let in.

    Attributes:
        status: Of HTTP. Load is always 503: clients come back after that, and not after a terminal code.
        reason: One of few words, for metrics.
        text: For whoever reads the answer.
        retry_after: Seconds; 0 when to try again is of no use.
    """

    status: int
    reason: str
    text: str
    retry_after: int = 0


class Admission:
    """Decides over upgrades by the right to serve, phase and load.

    Args:
        may_serve: Whether this instance may let somebody in at this moment; always unless told otherwise.
    """

    __slots__ = ("_hub", "_lifecycle", "_limits", "_may_serve", "_observer")

    def __init__(
        self,
        hub: Hub,
        lifecycle: Lifecycle,
        limits: AdmissionLimits,
        observer: Observer,
        *,
        may_serve: Callable[[], bool] | None = None,
    ) -> None:
        self._hub = hub
        self._lifecycle = lifecycle
        self._limits = limits
        self._observer = observer
        self._may_serve = may_serve or Tenure.always().holds

    def check(self, address: str) -> Refusal | None:
        """Return why a WebSocket from ``address`` may not be opened now; None lets it in."""
        refusal = self._check(address)
        if refusal is not None:
            self._observer.upgrade_refused(refusal.reason)
        return refusal

    def _check(self, address: str) -> Refusal | None:
        limits, hub = self._limits, self._hub
        if not self._may_serve() or not self._lifecycle.phase.admits:
            phase = self._lifecycle.phase.value
            return Refusal(503, "phase", f"no new connections now: the service is {phase}", retry_after=2)
        if len(hub.connections) >= limits.connections:
            return Refusal(503, "connections", f"all {limits.connections} connections are taken", retry_after=5)
        if hub.unauthenticated >= limits.unauthenticated:
            text = f"{limits.unauthenticated} connections have not said yet who they are"
            return Refusal(503, "unauthenticated", text, retry_after=1)
        if limits.per_address and hub.addresses.get(address, 0) >= limits.per_address:
            text = f"{limits.per_address} connections are open from this address"
            return Refusal(503, "address", text, retry_after=5)
        return None
