"""A container of a pod: its process, its restarts, its probes and what it tells of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.simcluster.clock import rfc3339
from tests.simcluster.container_process import ContainerProcess, Log
from tests.simcluster.environment import MissingReferenceError, container_environ, relocated, with_addresses
from tests.simcluster.images import ROOT, Image, Images
from tests.simcluster.probes import look
from tests.simcluster.volumes import mounts_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.simcluster.events import Recorder
    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("ContainerRunner", "PodContext")

_FIRST_BACK_OFF_SECONDS, _MOST_BACK_OFF_SECONDS = 10.0, 300.0
_KILLED = 137


@dataclass(slots=True)
class PodContext:
    """What the containers of a pod share.

    Attributes:
        volumes: Folders by name.
        publish: Writes the pod's status.
        is_stopping: The pod is going: nothing is restarted.
    """

    registry: Registry
    images: Images
    events: Recorder
    pod: Object
    address: str
    folder: Path
    publish: Callable[[], None]
    volumes: dict[str, Path] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


class ContainerRunner:
    """Runs one container as its pod's restart policy says.

    Attributes:
        state: As in a container's status; one of waiting, running, terminated.
        exit_code: Of the last run; None before its end.
    """

    def __init__(self, context: PodContext, spec: dict[str, Any], *, is_init: bool = False) -> None:
        self._context = context
        self.spec = spec
        self.is_init = is_init
        self.process: ContainerProcess | None = None
        self.state: dict[str, Any] = {"waiting": {"reason": "PodInitializing" if not is_init else "ContainerCreating"}}
        self.last_state: dict[str, Any] = {}
        self.restart_count = 0
        self.is_ready = False
        self.is_started = False
        self.exit_code: int | None = None
        self.log = Log()
        self.previous_log: Log | None = None
        self._ended = asyncio.Event()

    @property
    def name(self) -> str:
        """Of the container."""
        return str(self.spec["name"])

    def status(self) -> dict[str, Any]:
        """Return its entry in the pod's status."""
        image = self._context.images.find(self.spec["image"])
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": f"{self.spec['image'].partition('@')[0]}@{image.digest}" if image else "",
            "containerID": f"simulated://{self.process.pid}" if self.process else "",
            "ready": self.is_ready,
            "started": self.is_started,
            "restartCount": self.restart_count,
            "state": self.state,
            "lastState": self.last_state,
        }

    async def run(self) -> None:
        """Run it until it is not to be restarted, or the pod goes."""
        clock = self._context.registry.clock
        back_off = _FIRST_BACK_OFF_SECONDS
        while True:
            image = await self._pulled()
            if image is None:
                return
            self.exit_code = await self._once(image)
            if self._context.stopping.is_set() or not self._restarts(self.exit_code):
                return
            self.last_state = self.state
            self._wait_as("CrashLoopBackOff", f"back-off {back_off:.0f}s restarting failed container={self.name}")
            self._context.events.warn(self._context.pod, "BackOff", f"Back-off restarting failed container {self.name}")
            if await self._stopped_within(back_off / clock.rate):
                return
            back_off = min(2 * back_off, _MOST_BACK_OFF_SECONDS)
            self.restart_count += 1
            self.previous_log, self.log = self.log, Log()

    def _restarts(self, code: int) -> bool:
        policy = self._context.pod["spec"]["restartPolicy"]
        if self.is_init or policy == "OnFailure":
            return code != 0 and policy != "Never"
        return bool(policy == "Always")

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._context.stopping.wait()
        except TimeoutError:
            return False
        return True

    def _wait_as(self, reason: str, message: str) -> None:
        self.is_ready = self.is_started = False
        self.state = {"waiting": {"reason": reason, "message": message}}
        self._context.publish()

    async def _pulled(self) -> Image | None:
        """Return the image once it can be pulled; None when the pod goes first."""
        reference, clock, wait = self.spec["image"], self._context.registry.clock, _FIRST_BACK_OFF_SECONDS
        while True:
            image = self._context.images.find(reference)
            if image is not None and not image.pull_error:
                return image
            text = image.pull_error if image else f'failed to resolve reference "{reference}": not found'
            self._context.events.warn(self._context.pod, "Failed", f'Failed to pull image "{reference}": {text}')
            self._wait_as("ErrImagePull", text)
            if await self._stopped_within(1 / clock.rate):
                return None
            self._wait_as("ImagePullBackOff", f'Back-off pulling image "{reference}": {text}')
            if await self._stopped_within(wait / clock.rate):
                return None
            wait = min(2 * wait, _MOST_BACK_OFF_SECONDS)

    async def _once(self, image: Image) -> int:
        """Run it once; returns its exit code."""
        prepared = await self._prepared(image)
        if prepared is None:
            return _KILLED
        argv, environ = prepared
        started = rfc3339(self._context.registry.clock.wall())
        try:
            self.process = await ContainerProcess.start(argv, environ, self._context.folder, self.log)
        except OSError as error:
            self._end("StartError", 128, started, str(error))
            return 128
        self._ended.clear()
        self.state = {"running": {"startedAt": started}}
        self.is_started = "startupProbe" not in self.spec
        self.is_ready = self.is_started and "readinessProbe" not in self.spec
        self._context.events.normal(self._context.pod, "Started", f"Started container {self.name}")
        self._context.publish()
        async with asyncio.TaskGroup() as group:
            probing = group.create_task(self._probe())
            try:
                code = await self.process.run(self._context.registry.clock.wall)
            finally:
                probing.cancel()
                self._ended.set()
        self._end("Completed" if code == 0 else "Error", code, started, "")
        return code

    def _end(self, reason: str, code: int, started: str, message: str) -> None:
        self.is_ready = self.is_started = False
        self.state = {
            "terminated": {
                "reason": reason,
                "exitCode": code,
                "startedAt": started,
                "finishedAt": rfc3339(self._context.registry.clock.wall()),
                **({"message": message} if message else {}),
            }
        }
        self._context.publish()

    async def _prepared(self, image: Image) -> tuple[list[str], dict[str, str]] | None:
        """Return what to run and in which environment, once all that it refers to is there."""
        context = self._context
        own: dict[str, str] | None = None
        while own is None:
            try:
                own = container_environ(context.registry, context.pod, self.spec, context.address)
            except MissingReferenceError as error:
                context.events.warn(context.pod, "Failed", f"Error: {error}")
                self._wait_as("CreateContainerConfigError", str(error))
                if await self._stopped_within(1 / context.registry.clock.rate):
                    return None
        data = context.folder / "data"
        data.mkdir(exist_ok=True)
        mounts = mounts_of(self.spec, context.volumes, data)
        namespace = context.pod["metadata"]["namespace"]
        own = {name: with_addresses(context.registry, namespace, value) for name, value in own.items()}
        place = partial(relocated, mounts=mounts, address=context.address)
        # What is named as in the container is placed here; the interpreter and the checkout are here already.
        environ = {name: place(value) for name, value in {**image.environ, **own}.items()}
        environ |= {"HOSTNAME": context.pod["metadata"]["name"], "PYTHONPATH": str(ROOT)}
        command, arguments = (
            [place(part) for part in parts] if (parts := self.spec.get(field)) is not None else None
            for field in ("command", "args")
        )
        return image.argv(command, arguments, environ), environ

    async def execute(self, command: list[str]) -> int:
        """Run a command beside it, in its folder; returns the exit code."""
        process = await ContainerProcess.start(command, {}, self._context.folder, Log())
        return await process.run(self._context.registry.clock.wall)

    async def _probe(self) -> None:
        """Run its probes until it ends."""
        if startup := self.spec.get("startupProbe"):
            await self._until(startup, "Startup", is_wanted=True)
            self.is_started = True
            self.is_ready = "readinessProbe" not in self.spec
            self._context.publish()
        async with asyncio.TaskGroup() as group:
            if readiness := self.spec.get("readinessProbe"):
                group.create_task(self._readiness(readiness))
            if liveness := self.spec.get("livenessProbe"):
                group.create_task(self._until(liveness, "Liveness", is_wanted=False))

    async def _readiness(self, probe: dict[str, Any]) -> None:
        clock, in_a_row = self._context.registry.clock, 0
        await clock.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            is_good = not await self._look(probe, "Readiness")
            in_a_row = in_a_row + 1 if is_good is not self.is_ready else 0
            if in_a_row >= probe["successThreshold" if is_good else "failureThreshold"]:
                self.is_ready, in_a_row = is_good, 0
                self._context.publish()
            await clock.sleep(probe["periodSeconds"])

    async def _until(self, probe: dict[str, Any], kind: str, *, is_wanted: bool) -> None:
        """Look until the first success, or for ever; too many failures in a row end the process."""
        clock, failures = self._context.registry.clock, 0
        await clock.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            is_good = not await self._look(probe, kind)
            if is_good and is_wanted:
                return
            failures = 0 if is_good else failures + 1
            if failures >= probe["failureThreshold"] and not self._context.stopping.is_set():
                text = f"Container {self.name} failed {kind.lower()} probe, will be restarted"
                self._context.events.normal(self._context.pod, "Killing", text)
                await self._stop_process(self._context.pod["spec"]["terminationGracePeriodSeconds"])
            await clock.sleep(probe["periodSeconds"])

    async def _look(self, probe: dict[str, Any], kind: str) -> str:
        text = await look(probe, self._context.pod, self._context.address, self.execute)
        if text:
            self._context.events.warn(self._context.pod, "Unhealthy", f"{kind} probe failed: {text}")
        return text

    async def stop(self, grace: asyncio.Event) -> None:
        """End it: its hook, SIGTERM, and SIGKILL when the grace period is over."""
        if self.process is None or self._ended.is_set():
            return
        async with asyncio.TaskGroup() as group:
            hook = group.create_task(self._hook_and_terminate())
            over = group.create_task(grace.wait())
            ended = group.create_task(self._ended.wait())
            await asyncio.wait({over, ended}, return_when=asyncio.FIRST_COMPLETED)
            for task in (hook, over, ended):
                task.cancel()
        self.process.kill()

    async def _hook_and_terminate(self) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("preStop") or {}
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        elif "exec" in hook:
            await self.execute(hook["exec"]["command"])
        if self.process is not None:
            self.process.terminate()

    async def _stop_process(self, grace_seconds: float) -> None:
        grace = asyncio.Event()
        handle = asyncio.get_running_loop().call_later(grace_seconds, grace.set)
        try:
            await self.stop(grace)
        finally:
            handle.cancel()
