"""Whether the process works, whether requests should be sent to it, and its figures.

For platforms and people; needs no key and tells nothing about anybody.
"""

from __future__ import annotations

from typing import Final, Literal

from litestar import Response, Router, get
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct

from service.core.phase import Phase
from service.observability.figures import Figures, limits_in_force, memory_text, uptime_text
from service.realtime.instance import Instance

__all__ = ("STALL_SECONDS", "Health", "Indicator", "WebsocketHealth", "create_health_router")

STALL_SECONDS: Final = 5.0
"""Without a tick for so long, connections are neither pinged nor drained any more, and only a restart helps."""

_HEADERS: Final = {"Cache-Control": "no-store"}
_WITHOUT_TICKS: Final = frozenset({Phase.STARTING, Phase.CLOSED})


class Health(Struct, frozen=True):
    """An answer to a probe of the platform.

    Attributes:
        reasons: Why it is unavailable, or what is out of the ordinary; empty when nothing is.
    """

    status: Literal["ok", "degraded", "unavailable"]
    phase: str
    reasons: list[str]


class Indicator(Struct, frozen=True):
    """A figure that tells when one instance will soon be too small; the unit is in the name."""

    name: str
    value: float
    threshold: float
    exceeded: bool


class WebsocketHealth(Struct, frozen=True, rename="camel"):
    """Figures for a person or a dashboard.

    Attributes:
        connected_clients: Open WebSockets.
        active_rooms: Channels with a subscriber.
        authenticated_clients: Connections that have said who they are.
        memory_bytes: Resident memory of the process.
        messages_per_second: Publications taken in, averaged over ten seconds.
        deliveries_per_second: Publications sent out, one for each receiver, averaged over ten seconds.
        cpu_percent: Of one core, averaged over ten seconds.
        limits: By name in camel case; 0 is no limit.
    """

    connected_clients: int
    active_rooms: int
    authenticated_clients: int
    uptime: str
    memory_usage: str
    uptime_seconds: float
    memory_bytes: int
    phase: str
    instance: str
    messages_per_second: float
    deliveries_per_second: float
    cpu_percent: float
    limits: dict[str, float]
    indicators: list[Indicator]


_UNAVAILABLE: Final = {503: ResponseSpec(Health, description="No, and why", generate_examples=False)}


def create_health_router(instance: Instance, figures: Figures) -> Router:
    """Return the routes of health; the same on the public socket and on the admin socket."""

    @get("/live", summary="Whether the process works at all", responses=_UNAVAILABLE)
    async def live() -> Response[Health]:
        return _answer(instance, _stalled(instance), [])

    @get("/ready", summary="Whether requests should be sent here", responses=_UNAVAILABLE)
    async def ready() -> Response[Health]:
        reasons = _phase(instance)
        if not instance.lifecycle.phase.is_ready:
            return _answer(instance, reasons, [])
        # Degraded is ready all the same: with one replica, not to be ready would take the only endpoint away.
        return _answer(instance, [], reasons, degraded=instance.database.degraded if instance.database else "")

    @get("/startup", summary="Whether the process has started", responses=_UNAVAILABLE)
    async def startup() -> Response[Health]:
        return _answer(instance, _phase(instance) if instance.lifecycle.phase in _WITHOUT_TICKS else [], [])

    @get("/websocket", summary="Figures for a person or a dashboard")
    async def websocket() -> Response[WebsocketHealth]:
        return Response(_figures(instance, figures), headers=_HEADERS)

    return Router(path="/api/health", route_handlers=[live, ready, startup, websocket], tags=["observe"])


def _answer(instance: Instance, failures: list[str], remarks: list[str], *, degraded: str = "") -> Response[Health]:
    status: Literal["ok", "degraded", "unavailable"] = "unavailable" if failures else "degraded" if degraded else "ok"
    reasons = [*(failures or remarks), *([f"the database: {degraded}"] if degraded else [])]
    health = Health(status, instance.lifecycle.phase.value, reasons)
    return Response(health, status_code=503 if failures else 200, headers=_HEADERS)


def _phase(instance: Instance) -> list[str]:
    """Say in which phase the process is, unless it is the ordinary one."""
    phase, reason = instance.lifecycle.phase, instance.lifecycle.reason
    return [] if phase is Phase.ACTIVE else [f"{phase.value}: {reason}"]


def _stalled(instance: Instance) -> list[str]:
    silent_seconds = instance.context.clock.now() - instance.ticker.ticked_at
    if silent_seconds < STALL_SECONDS or instance.lifecycle.phase in _WITHOUT_TICKS:
        return []
    return [f"timers have not run for {silent_seconds:.1f} s: clients are neither pinged nor drained"]


def _figures(instance: Instance, figures: Figures) -> WebsocketHealth:
    hub, rates, memory_bytes, uptime_seconds = (
        instance.hub,
        figures.rates(),
        figures.memory_bytes,
        figures.uptime_seconds,
    )
    return WebsocketHealth(
        connected_clients=len(hub.connections),
        active_rooms=len(hub.rooms),
        authenticated_clients=len(hub.connections) - hub.unauthenticated,
        uptime=uptime_text(uptime_seconds),
        memory_usage=memory_text(memory_bytes),
        uptime_seconds=round(uptime_seconds, 3),
        memory_bytes=memory_bytes,
        phase=instance.lifecycle.phase.value,
        instance=instance.id,
        messages_per_second=rates.messages_per_second,
        deliveries_per_second=rates.deliveries_per_second,
        cpu_percent=rates.cpu_percent,
        limits={_camel(name): value for name, value in limits_in_force(figures.limits).items()},
        indicators=[
            Indicator(item.name, item.value, item.threshold, item.exceeded)
            for item in figures.indicators(rates, memory_bytes)
        ],
    )


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
