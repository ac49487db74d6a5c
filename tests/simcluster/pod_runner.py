"""A pod on its node, from its first status to its last."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simcluster.clock import rfc3339
from tests.simcluster.container_runner import ContainerRunner, PodContext
from tests.simcluster.environment import MissingReferenceError
from tests.simcluster.identity import User
from tests.simcluster.ownership import condition
from tests.simcluster.registry import Options
from tests.simcluster.volumes import make_volumes

if TYPE_CHECKING:
    from tests.simcluster.events import Recorder
    from tests.simcluster.images import Images
    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("NODE", "PodRunner")

NODE = "simulated-node"

_OPTIONS = Options(User(f"system:node:{NODE}", ("system:masters", "system:nodes")), "kubelet")


class PodRunner:
    """Runs the containers of one pod and writes its status.

    Attributes:
        is_silent: The node is lost: processes go on, nothing is written, nothing is heard.
    """

    def __init__(self, registry: Registry, images: Images, events: Recorder, pod: Object, address: str) -> None:
        self._registry = registry
        self._resource = registry.kinds.get("Pod")
        self._pod = pod
        self._phase = "Pending"
        self._started = rfc3339(registry.clock.wall())
        self._changed = asyncio.Event()
        self._grace_over = asyncio.Event()
        self.is_silent = False
        self.is_over = False
        self.address = address
        self._context = PodContext(registry, images, events, pod, address, Path(), self._publish)
        spec = pod["spec"]
        self.inits = [ContainerRunner(self._context, one, is_init=True) for one in spec.get("initContainers") or ()]
        self.containers = [ContainerRunner(self._context, one) for one in spec["containers"]]

    def heard(self) -> None:
        """The pod was written: look at it."""
        self._changed.set()

    async def run(self, folder: Path, claims: Path) -> None:
        """Run it until it is deleted."""
        self._context.folder = folder / self._pod["metadata"]["uid"]
        self._context.folder.mkdir(parents=True)
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self._run_containers(claims))
                await self._until_deleted()
                self._context.stopping.set()
                stopping = group.create_task(self._stop_containers())
                await self._until_ended(stopping)
                running.cancel()
        finally:
            for one in (*self.inits, *self.containers):
                if one.process is not None:
                    one.process.kill()
            self.is_over = True
        self._remove()
        shutil.rmtree(self._context.folder, ignore_errors=True)

    def _current(self) -> Object | None:
        meta = self._pod["metadata"]
        found = self._registry.store.get(self._resource, meta["namespace"], meta["name"])
        return found if found and found["metadata"]["uid"] == meta["uid"] else None

    async def _until_deleted(self) -> None:
        while True:
            self._changed.clear()
            current = self._current()
            if not self.is_silent and (current is None or current["metadata"].get("deletionTimestamp")):
                return
            await self._changed.wait()

    async def _until_ended(self, stopping: asyncio.Task[None]) -> None:
        """Wait for the containers' end; the grace period may be cut short by a second deletion."""
        loop = asyncio.get_running_loop()
        # In real time, whatever the cluster's clock does: what ends is a real process.
        began = loop.time()
        while not stopping.done():
            current = self._current()
            grace = current["metadata"].get("deletionGracePeriodSeconds", 0) if current else 0
            left = began + grace - loop.time()
            if left <= 0:
                self._grace_over.set()
            self._changed.clear()
            waiting = asyncio.timeout(left if left > 0 else None)
            try:
                async with waiting, asyncio.TaskGroup() as group:
                    heard = group.create_task(self._changed.wait())
                    await asyncio.wait({stopping, heard}, return_when=asyncio.FIRST_COMPLETED)
                    heard.cancel()
            except TimeoutError:
                continue

    async def _run_containers(self, claims: Path) -> None:
        self._publish()
        await self._make_volumes(claims)
        for one in self.inits:
            await one.run()
            if one.exit_code != 0:
                self._phase = "Failed"
                self._publish()
                return
            one.is_ready = True
        self._phase = "Running"
        async with asyncio.TaskGroup() as group:
            for one in self.containers:
                group.create_task(one.run())
        if not self._context.stopping.is_set():
            self._phase = "Succeeded" if all(one.exit_code == 0 for one in self.containers) else "Failed"
            self._publish()

    async def _make_volumes(self, claims: Path) -> None:
        while True:
            try:
                self._context.volumes = make_volumes(self._registry, self._pod, self._context.folder, claims)
            except MissingReferenceError as error:
                self._context.events.warn(self._pod, "FailedMount", f"MountVolume.SetUp failed: {error}")
                await self._registry.clock.sleep(1)
            else:
                return

    async def _stop_containers(self) -> None:
        async with asyncio.TaskGroup() as group:
            for one in (*self.inits, *self.containers):
                group.create_task(one.stop(self._grace_over))

    def _remove(self) -> None:
        current = self._current()
        if current is None or self.is_silent:
            return
        meta = current["metadata"]
        self._phase = "Succeeded" if all(one.exit_code == 0 for one in self.containers) else "Failed"
        self._publish()
        self._registry.store.remove(self._resource, meta["namespace"], meta["name"])

    def _publish(self) -> None:
        current = self._current()
        if current is None or self.is_silent:
            return
        if self._phase == "Running" and not any("running" in one.state or one.restart_count for one in self.containers):
            phase = "Pending"
        else:
            phase = self._phase
        status = {
            "phase": phase,
            "conditions": self._conditions(current),
            "hostIP": "127.0.0.1",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self._started,
            "qosClass": "Burstable",
            "containerStatuses": [one.status() for one in self.containers],
            **({"initContainerStatuses": [one.status() for one in self.inits]} if self.inits else {}),
        }
        self._registry.set_status(self._resource, current, status, _OPTIONS)

    def _conditions(self, current: Object) -> list[dict[str, Any]]:
        is_ready = self._phase == "Running" and all(one.is_ready for one in self.containers)
        is_initialized = self._phase not in ("Pending", "Failed")
        wanted = {
            "PodScheduled": True,
            "Initialized": is_initialized,
            "ContainersReady": is_ready,
            "Ready": is_ready,
        }
        return [self._condition(current, kind, "True" if holds else "False") for kind, holds in wanted.items()]

    def _condition(self, current: Object, kind: str, status: str) -> dict[str, Any]:
        before = condition(current, kind)
        if before.get("status") == status:
            return before
        return {"type": kind, "status": status, "lastTransitionTime": rfc3339(self._registry.clock.wall())}
