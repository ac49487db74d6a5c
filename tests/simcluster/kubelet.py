"""The node: takes every pod and runs it."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING

from tests.simcluster.clock import rfc3339
from tests.simcluster.events import Recorder
from tests.simcluster.pod_runner import NODE, PodRunner
from tests.simcluster.registry import SYSTEM

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simcluster.addresses import Addresses
    from tests.simcluster.container_runner import ContainerRunner
    from tests.simcluster.images import Images
    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("Kubelet",)


class Kubelet:
    """Starts a runner for each pod; schedules it, too.

    Attributes:
        is_unschedulable: New pods stay pending.
    """

    def __init__(self, registry: Registry, images: Images, addresses: Addresses, folder: Path) -> None:
        self._registry = registry
        self._images = images
        self._addresses = addresses
        self._folder = folder
        self._events = Recorder(registry, "kubelet")
        self._scheduler = Recorder(registry, "default-scheduler")
        self._pods = registry.kinds.get("Pod")
        self._nodes = registry.kinds.get("Node")
        self._runners: dict[str, PodRunner] = {}
        self._wake = asyncio.Event()
        self._is_lost = False
        self.is_unschedulable = False

    async def run(self) -> None:
        """Run pods until cancelled; their processes end with it."""
        stop = self._registry.store.listen(self._wake.set)
        self._register()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    for pod in self._registry.store.all(self._pods) if not self._is_lost else ():
                        if pod["metadata"]["uid"] not in self._runners and self._schedules(pod):
                            group.create_task(self._run_pod(self._bound(pod)))
                    for runner in self._runners.values():
                        runner.heard()
                    await self._wake.wait()
        finally:
            stop()

    def _register(self) -> None:
        node = self._registry.create(self._nodes, "", {"metadata": {"name": NODE}, "spec": {}}, SYSTEM)
        self._report_node(node, "True", "KubeletReady")

    def _report_node(self, node: Object, status: str, reason: str) -> None:
        now = rfc3339(self._registry.clock.wall())
        ready = {"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": now}
        addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
        content = {"conditions": [ready], "addresses": addresses, "capacity": {"cpu": "2", "memory": "4Gi"}}
        self._registry.set_status(self._nodes, node, content)

    def _schedules(self, pod: Object) -> bool:
        if pod["metadata"].get("deletionTimestamp"):
            return False
        if self.is_unschedulable and not pod["spec"].get("nodeName"):
            if not (pod.get("status") or {}).get("conditions"):
                unscheduled = {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/1 nodes are available: 1 Insufficient memory.",
                }
                self._registry.set_status(self._pods, pod, {"phase": "Pending", "conditions": [unscheduled]})
                self._scheduler.warn(pod, "FailedScheduling", unscheduled["message"])
            return False
        return True

    def _bound(self, pod: Object) -> Object:
        after = copy.deepcopy(pod)
        after["spec"]["nodeName"] = NODE
        bound = self._registry.store.put(self._pods, after)
        self._scheduler.normal(bound, "Scheduled", f"Successfully assigned {pod['metadata']['name']} to {NODE}")
        runner = PodRunner(self._registry, self._images, self._events, bound, self._addresses.take_pod())
        self._runners[pod["metadata"]["uid"]] = runner
        return bound

    async def _run_pod(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        runner = self._runners[uid]
        try:
            await runner.run(self._folder / "pods", self._folder / "claims")
        finally:
            self._addresses.give_back(runner.address)
            del self._runners[uid]

    def lose(self) -> None:
        """Let the node fall silent; its processes run on."""
        self._is_lost = True
        for runner in self._runners.values():
            runner.is_silent = True
        self._report_node(self._registry.get(self._nodes, "", NODE), "Unknown", "NodeStatusUnknown")

    def find(self) -> None:
        """Let it be heard again."""
        self._is_lost = False
        for runner in self._runners.values():
            runner.is_silent = False
        self._report_node(self._registry.get(self._nodes, "", NODE), "True", "KubeletReady")

    def container(self, pod: Object, name: str) -> ContainerRunner | None:
        """Return a container of a pod, the first one for an empty name; None when it does not run here."""
        runner = self._runners.get(pod["metadata"]["uid"])
        if runner is None:
            return None
        candidates = [*runner.containers, *runner.inits]
        return next((one for one in candidates if name in ("", one.name)), None)
