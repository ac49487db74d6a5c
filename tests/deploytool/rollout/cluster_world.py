"""The made-up world with its workload and its lock in a cluster: the API server is the simulated one, the clock is not.

Pods have no processes: a stub of a kubelet says that they start, become ready and end, by the clock that tests move.
Requests of the tool reach the API server directly, or over its socket.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import urllib3
from typing_extensions import override

from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.lease import LeaseLock
from deploytool.cluster.workload import KubernetesWorkload
from deploytool.rollout.journal import Journal
from tests.deploytool.rollout.world import NEW, OLD, Process, World
from tests.simcluster.api import Api
from tests.simcluster.certificates import server_certificate
from tests.simcluster.clock import rfc3339
from tests.simcluster.deployments import Deployments
from tests.simcluster.errors import ApiError
from tests.simcluster.faults import Cut, Faults, Hang
from tests.simcluster.http import ApiSocket
from tests.simcluster.identity import ADMIN
from tests.simcluster.kinds import RESOURCES, Kinds
from tests.simcluster.ownership import is_ready
from tests.simcluster.registry import SYSTEM, Registry
from tests.simcluster.replica_sets import ReplicaSets
from tests.simcluster.requests import Answer, Request
from tests.simcluster.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.simcluster.requests import Target
    from tests.simcluster.store import Object

__all__ = ("NAME", "Asked", "ClusterProcess", "ClusterWorld", "serving_socket")

NAME = "web"

_NAMESPACE = "default"
_LABELS = {"app": NAME}
_START_SECONDS = 3.0
_STOP_SECONDS = 1.0
_REQUEST_SECONDS = 10.0
_SOCKET_SECONDS = 1.0
_LAST_SECONDS = 20.0
_HARMLESS = ("selfsubjectaccessreviews",)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the tool.

    Attributes:
        index: Counted from 0 over all requests of a process.
    """

    index: int
    method: str
    path: str
    is_mutation: bool

    @override
    def __str__(self) -> str:
        _, _, rest = self.path.partition(f"/namespaces/{_NAMESPACE}/")
        return f"{self.method}-{(rest or self.path).replace('/', '-')}"


@dataclass
class ClusterWorld(World):
    """A cluster with one Deployment.

    Attributes:
        images: For which the Deployment asked, one after the other.
        journals: Texts that were in the Lease, one after the other.
        most_running: Pods that ran at one time, at most, whether they were going or not.
    """

    faults: Faults = field(default_factory=Faults)
    images: list[str] = field(default_factory=list)
    journals: list[str] = field(default_factory=list)
    most_running: int = 0

    def __post_init__(self) -> None:
        self.store, self.kinds = Store(), Kinds(RESOURCES)
        clock = SimpleNamespace(now=lambda: self.now, wall=self._wall, told=self._wall)
        self.registry = Registry(self.store, self.kinds, clock)  # type: ignore[arg-type]  # both kinds of time are all that is asked
        self.api = Api(self.registry)
        self.api.proxies["log"] = _log
        self._controllers = (Deployments(self.registry), ReplicaSets(self.registry))
        self._pods = self.kinds.get("Pod")
        self._deployments = self.kinds.get("Deployment")
        self._leases = self.kinds.get("Lease")
        self._began: dict[tuple[str, str], float] = {}
        self._settled = -1
        self._serving = ""
        self.run_in: Callable[[Callable[[], None]], None] = lambda work: work()
        self.store.listen(self._witness)
        self.registry.create(self.kinds.get("Namespace"), "", {"metadata": {"name": _NAMESPACE}}, SYSTEM)
        self.registry.create(self._deployments, _NAMESPACE, _deployment(), SYSTEM)
        self.running, self.clients = "", 0.0
        self.advance(30.0)

    def _wall(self) -> float:
        return self.now + self.wall_offset

    @property
    @override
    def journal(self) -> Journal | None:
        return Journal.from_json(self.journals[-1]) if self.journals else None

    def lease(self) -> dict[str, Any]:
        """Return what the Lease specifies; empty where there is none."""
        found = self.store.get(self._leases, _NAMESPACE, f"{NAME}-rollout")
        return {} if found is None else dict(found["spec"])

    @property
    def is_locked(self) -> bool:
        """Whether somebody holds the lock, whose time is not over."""
        return bool(self.lease().get("holderIdentity")) and self.now - self.renewed_at < 60.0

    def _witness(self) -> None:
        running = [one for one in self.store.all(self._pods) if (one.get("status") or {}).get("phase") == "Running"]
        self.most_running = max(self.most_running, len(running))
        for one in self.store.all(self._deployments):
            image = one["spec"]["template"]["spec"]["containers"][0]["image"]
            if self.images[-1:] != [image]:
                self.images.append(image)
        lease = self.store.get(self._leases, _NAMESPACE, f"{NAME}-rollout")
        text = "" if lease is None else lease["metadata"]["annotations"].get("slackwater.dev/rollout-journal", "")
        if text and self.journals[-1:] != [text]:
            self.journals.append(text)
        self.held_by = "" if lease is None else lease["spec"].get("holderIdentity") or ""
        if lease is not None and self._renewal != lease["spec"]["renewTime"]:
            self._renewal, self.renewed_at = lease["spec"]["renewTime"], self.now

    _renewal = ""

    @override
    def _live(self, step: float) -> None:
        for at, action in [one for one in self.on_time if one[0] <= self.now]:
            self.on_time.remove((at, action))
            action(self)
        self.run_in(self._settle)
        self._flow(step)

    def _settle(self) -> None:
        if self._is_calm and self._settled == self.store.version:
            return
        self._is_calm = True
        for pod in list(self.store.all(self._pods)):
            self._keep(pod)
        while self._settled != self.store.version:
            self._settled, self._is_calm = self.store.version, False
            for one in self._controllers:
                try:
                    one.reconcile()
                except ApiError:
                    continue
        self.image = self.images[-1]
        found = [one for one in self.store.all(self._pods) if (one.get("status") or {}).get("phase") == "Running"]
        uid = found[0]["metadata"]["uid"] if found else ""
        if uid != self._serving:
            self._serving = uid
            self.instance, self.clients = self.instance + 1, 0.0
            self.gate_until = self.drain_until = self.announce_until = 0.0
        self.running = _image(found[0]) if found else ""
        self._is_up = any(is_ready(one) for one in found)

    _is_up = False
    _is_calm = False

    @property
    @override
    def is_ready(self) -> bool:
        return self._is_up

    def _keep(self, pod: Object) -> None:
        """Be the kubelet of a pod."""
        uid, meta = pod["metadata"]["uid"], pod["metadata"]
        if meta.get("deletionTimestamp"):
            self._is_calm = False
            if self._since(uid, "stop") >= _STOP_SECONDS and not self.is_stuck:
                self.store.remove(self._pods, _NAMESPACE, meta["name"])
            return
        is_bad = _image(pod) == NEW and self.behaviour in ("never ready", "cannot be pulled")
        status: dict[str, Any] = {"phase": "Running", "startTime": rfc3339(self.registry.clock.wall())}
        seconds = self._since(uid, "start")
        if is_bad and self.behaviour == "cannot be pulled":
            waiting = {"reason": "ImagePullBackOff", "message": "not found"}
            status["phase"] = "Pending"
            status["containerStatuses"] = [{"name": NAME, "state": {"waiting": waiting}, "restartCount": 0}]
        ready = "True" if seconds >= _START_SECONDS and not is_bad else "False"
        status["conditions"] = [{"type": "Ready", "status": ready, "lastTransitionTime": status["startTime"]}]
        self._is_calm = self._is_calm and (is_bad or ready == "True")
        before = pod.get("status") or {}
        if (before.get("phase"), is_ready(pod)) != (status["phase"], ready == "True"):
            self.registry.set_status(self._pods, pod, status)

    def _since(self, uid: str, what: str) -> float:
        return self.now - self._began.setdefault((uid, what), self.now)

    def serve(self, request: Request) -> Answer:
        """Answer a request, or be hit by a fault."""
        fault = self.faults.hit(request)
        if fault is not None and not fault.is_after:
            fault.strike()
        answer = _finished(self.api.handle(request))
        if fault is not None:
            fault.strike()
        return answer


class ClusterProcess(Process):
    """One run of the tool against the API server of a world.

    Args:
        session: Of this process alone.
        socket: Path of the kubeconfig of the API server's socket; empty to reach it directly.

    Attributes:
        asked: What it asked of the API server.
        before: Called before each of these requests is carried out.
        after: Called when it was carried out, before it is answered.
    """

    world: ClusterWorld

    def __init__(self, world: ClusterWorld, *, name: str = "ada@laptop", session: str = "s1", socket: str = "") -> None:
        super().__init__(world, name=name)
        self.asked: list[Asked] = []
        self.before: Callable[[Asked], None] = lambda _asked: None
        self.after: Callable[[Asked], None] = lambda _asked: None
        clock = self.ports.clock
        if socket:
            self._opened = Cluster.connect(
                kubeconfig_path=socket,
                clock=clock,
                limits=Limits(request_seconds=_SOCKET_SECONDS, total_seconds=float("inf")),
                pause=clock.pause,
            )
            cluster = self._opened.__enter__()
            cluster.pool = _Counted(self, cluster.pool)
        else:
            config = SimpleNamespace(host="https://cluster", auth_settings=dict)
            limits = Limits(request_seconds=_REQUEST_SECONDS, total_seconds=float("inf"))
            cluster = Cluster(_Direct(self), config, _NAMESPACE, clock, limits, pause=clock.pause)
        self.lock = LeaseLock(cluster, NAME, holder=f"{name}/r1", session=session, clock=clock)
        workload = KubernetesWorkload(cluster, NAME, clock)
        self.ports = replace(self.ports, workload=workload, lock=self.lock)

    def note(self, method: str, url: str) -> Asked:
        """Count a request."""
        parts = urlsplit(url)
        is_harmless = "dryRun=All" in parts.query or parts.path.endswith(_HARMLESS)
        asked = Asked(len(self.asked), method, parts.path, method != "GET" and not is_harmless)
        self.asked.append(asked)
        return asked


class _Counted:
    """The pool of the official client, which counts."""

    def __init__(self, process: ClusterProcess, pool: Any) -> None:  # noqa: ANN401 - of urllib3
        self._process, self._pool = process, pool

    def request(self, method: str, url: str, **more: Any) -> Any:  # noqa: ANN401 - of urllib3
        asked = self._process.note(method, url)
        self._process.before(asked)
        answer = self._pool.request(method, url, **more)
        self._process.after(asked)
        return answer

    def clear(self) -> None:
        self._pool.clear()


class _Direct:
    """In the place of a pool of connections: no sockets, and waiting moves the clock."""

    def __init__(self, process: ClusterProcess) -> None:
        self._process = process

    def request(  # noqa: PLR0913 - as urllib3 has it
        self,
        method: str,
        url: str,
        *,
        body: bytes | None,
        headers: dict[str, str],
        timeout: urllib3.Timeout,
        retries: bool,
        redirect: bool,
        preload_content: bool,
    ) -> Any:  # noqa: ANN401 - of urllib3
        assert (retries, redirect, preload_content) == (False, False, False)
        process, parts = self._process, urlsplit(url)
        asked = process.note(method, url)
        process.before(asked)
        request = Request(
            method,
            unquote(parts.path),
            dict(parse_qsl(parts.query)),
            {name.lower(): value for name, value in headers.items()},
            body or b"",
            ADMIN,
            parts.query,
        )
        try:
            answer = process.world.serve(request)
        except ApiError as error:
            answer = Answer(error.code, error.status(), dict(error.headers))
        except Cut:
            raise urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError()) from None
        except Hang:
            assert isinstance(timeout.total, float)
            process.world.advance(timeout.total)
            raise urllib3.exceptions.ReadTimeoutError(None, url, "Read timed out.") from None  # type: ignore[arg-type]  # there is no pool
        process.after(asked)
        content = answer.encoded()
        return SimpleNamespace(
            status=answer.code, headers=answer.headers, stream=lambda _size: iter((content,)), close=lambda: None
        )


class _Serving:
    """The socket of a world's API server, in a thread of its own; what changes the world is done there, too."""

    def __init__(self, world: ClusterWorld) -> None:
        self._socket = ApiSocket(world.api, world.faults)
        self._socket.users["t"] = ADMIN
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    async def _main(self) -> None:
        await self._socket.open()
        self._ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        await self._socket.close()

    def begin(self) -> str:
        """Open it, and return its address."""
        self._thread.start()
        self._ready.result(_LAST_SECONDS)
        return self._socket.url

    def run_in(self, work: Callable[[], None]) -> None:
        """Do something in its thread."""
        done: Future[None] = Future()

        def _work() -> None:
            try:
                work()
                done.set_result(None)
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                done.set_exception(error)

        self._ready.result().call_soon_threadsafe(_work)
        done.result(_LAST_SECONDS)

    def end(self) -> None:
        """Close it."""
        self._ready.result().call_soon_threadsafe(self._stop.set)
        self._thread.join(_LAST_SECONDS)


@contextmanager
def serving_socket(world: ClusterWorld, folder: Path) -> Iterator[str]:
    """Open the socket of a world's API server; gives the path of a kubeconfig."""
    serving = _Serving(world)
    _, pem = server_certificate()
    cluster = {"server": serving.begin(), "certificate-authority-data": base64.b64encode(pem).decode()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": _NAMESPACE}}],
        "current-context": "c",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    world.run_in = serving.run_in
    try:
        yield str(path)
    finally:
        world.run_in = lambda work: work()
        serving.end()


async def _log(_request: Request, _target: Target) -> Answer:
    return Answer(body=b"Traceback", content_type="text/plain")


def _finished(work: Any) -> Answer:  # noqa: ANN401 - a coroutine
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    raise AssertionError("a request waits for something")


def _image(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def _deployment() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "labels": _LABELS},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _LABELS},
            "template": {"metadata": {"labels": _LABELS}, "spec": {"containers": [{"name": NAME, "image": OLD}]}},
        },
    }
