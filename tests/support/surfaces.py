"""The HTTP surfaces of operators over a fake world: no network, no lifespan, time that a test moves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
from litestar import Litestar
from typing_extensions import override

from service.api.admin import create_admin_router
from service.api.health import create_health_router
from service.api.metrics import create_metrics_router
from service.auth.probe import ProbeTokens, ProbingVerifier
from service.auth.tokens import TokenKeys
from service.core.secret import Secret
from service.observability.figures import Figures
from service.observability.metrics import Metrics
from service.observability.process import Process
from service.realtime.admission import Admission, AdmissionLimits
from service.realtime.instance import Background, DrainDefaults, Instance
from service.settings import Admin, Drain, Limits
from tests.support.ids import SequentialIds
from tests.support.world import SECRET, World

if TYPE_CHECKING:
    from service.core.phase import Phase
    from tests.support.client import FakeClient

__all__ = ("ADMIN_KEY", "INSTANCE_ID", "FixedProcess", "Surfaces", "instance_of")

ADMIN_KEY = "an admin key of more than thirty-two characters"
INSTANCE_ID = "5f0c1f0e-9a4f-4d43-8f0e-0c7d6b1d3a11"


class FixedProcess(Process):
    """A process that uses what a test says."""

    def __init__(self, *, memory_bytes: int = 256_901_120, cpu_seconds: float = 0.0) -> None:
        self.memory = memory_bytes
        self.cpu = cpu_seconds

    @override
    def memory_bytes(self) -> int:
        return self.memory

    @override
    def cpu_seconds(self) -> float:
        return self.cpu


def instance_of(world: World, limits: Limits | None = None, *, image_digest: str | None = None) -> Instance:
    """Return the parts of a world as the composition root hands them on, with the defaults of the settings."""
    limits = limits or Limits()
    bounds = AdmissionLimits(connections=limits.max_connections, unauthenticated=limits.max_unauthenticated)
    drain = Drain()
    return Instance(
        id=INSTANCE_ID,
        version="1.2.3",
        image_digest=image_digest,
        started_at=world.clock.now(),
        context=world.context,
        lifecycle=world.lifecycle,
        announcements=world.announcements,
        drainer=world.drainer,
        succession=world.succession,
        admission=Admission(world.hub, world.lifecycle, bounds, world.observer),
        admission_limits=bounds,
        ticker=world.ticker,
        background=Background(world.observer.failed),
        drain_defaults=DrainDefaults(drain.grace_seconds, drain.spread_for, drain.budget_seconds),
        ttl_seconds=Admin().ttl_seconds,
    )


class Surfaces:
    """The admin socket of one instance, and the world behind it.

    Attributes:
        tokens: Those of the world, with probes' beside them.
    """

    def __init__(self, *, key: str | None = ADMIN_KEY, image_digest: str | None = None) -> None:
        self.world = World()
        self.limits = Limits()
        self.admin = Admin(key=Secret(key) if key else None)
        self.process = FixedProcess()
        self.metrics = Metrics(self.process)
        wall = self.world.clock.wall
        self.probe = ProbeTokens(ADMIN_KEY, wall=wall, ids=SequentialIds())
        tokens = ProbingVerifier(TokenKeys(hmac_secret=SECRET), wall, self.probe)
        self.world.context = replace(self.world.context, tokens=tokens)
        self.instance = instance_of(self.world, self.limits, image_digest=image_digest)
        self.metrics.watch(self.instance)
        self.figures = Figures(self.instance, self.metrics, self.limits)
        self.app = Litestar(
            route_handlers=[
                create_admin_router(self.instance, self.admin, self.probe, self.limits),
                create_health_router(self.instance, self.figures),
                create_metrics_router(self.metrics),
            ],
            openapi_config=None,
            logging_config=None,
        )

    def enter(self, phase: Phase) -> None:
        """Put the process into a phase, reachable from here or not."""
        self.world.lifecycle.phase = phase

    def clients(self, count: int) -> list[FakeClient]:
        """Connect clients of different users."""
        return [self.world.connected(str(number)) for number in range(count)]

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:  # noqa: ANN401 - JSON
        """Send a request with the admin key, unless ``headers`` says otherwise."""
        more.setdefault("headers", {"X-Admin-Key": ADMIN_KEY})
        if body is not None:
            more["json"] = body
        transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type]  # its own idea of ASGI types
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **more)

    async def status(self) -> dict[str, Any]:
        """Return the status."""
        answer = await self.ask("GET", "/api/admin/status")
        assert 200 == answer.status_code, answer.text
        status: dict[str, Any] = answer.json()
        return status
