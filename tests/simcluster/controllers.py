"""Runs the controllers: after each write, and now and then for what depends on time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from tests.simcluster.autoscalers import Autoscalers
from tests.simcluster.deployments import Deployments
from tests.simcluster.endpoints import EndpointsOfServices
from tests.simcluster.errors import ApiError
from tests.simcluster.garbage import Claims, Garbage, Namespaces
from tests.simcluster.replica_sets import ReplicaSets

if TYPE_CHECKING:
    from tests.simcluster.registry import Registry

__all__ = ("Controllers", "Reconciler")

_TICK_SECONDS = 1.0
_ROUNDS = 20


class Reconciler(Protocol):
    """Brings a part of the cluster nearer to what is asked for; never waits."""

    def reconcile(self) -> None:
        """Do it."""


class Controllers:
    """All of them, one after another.

    Attributes:
        autoscalers: Told by a test what the load would take.
        is_paused: Nothing is reconciled.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.autoscalers = Autoscalers(registry)
        self.is_paused = False
        self._all: tuple[Reconciler, ...] = (
            Deployments(registry),
            ReplicaSets(registry),
            EndpointsOfServices(registry),
            Claims(registry),
            Garbage(registry),
            Namespaces(registry),
            self.autoscalers,
        )
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        stop = self._registry.store.listen(self._wake.set)
        try:
            while True:
                self._wake.clear()
                self._settle()
                try:
                    async with self._registry.clock.timeout(_TICK_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            stop()

    def _settle(self) -> None:
        """Go round until nothing changes; bounded, since an autoscaler may never have enough."""
        for _ in range(_ROUNDS):
            before = self._registry.store.version
            for one in self._all if not self.is_paused else ():
                try:
                    one.reconcile()
                except ApiError:
                    # A refusal or a conflict; the next round looks again.
                    continue
            if self._registry.store.version == before:
                return
