"""The whole cluster, in a thread of its own, so that synchronous clients can be tested against it."""

from __future__ import annotations

import asyncio
import base64
import secrets
import tempfile
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from tests.simcluster.addresses import Addresses, listening_port
from tests.simcluster.admission import Policies
from tests.simcluster.api import Api
from tests.simcluster.certificates import server_certificate
from tests.simcluster.clock import SimClock
from tests.simcluster.controllers import Controllers
from tests.simcluster.faults import Faults
from tests.simcluster.http import ApiSocket
from tests.simcluster.identity import ADMIN, User
from tests.simcluster.images import Images, service_image
from tests.simcluster.kinds import OPTIONAL_GROUPS, RESOURCES, Kinds
from tests.simcluster.kubelet import Kubelet
from tests.simcluster.network import Network
from tests.simcluster.proxies import Logs, Proxies
from tests.simcluster.registry import SYSTEM, Registry
from tests.simcluster.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = ("SimCluster",)

_START_SECONDS = 20.0
_STOP_SECONDS = 30.0
_NAMESPACES = ("default", "kube-system")

_T = TypeVar("_T")


class SimCluster:
    """A simulated cluster; see `start`.

    Its parts belong to its own thread: a test goes through the API, or through `call`.

    Args:
        rate: Of its clock: 10 makes probes and back-offs ten times as quick.
        without: Groups of add-ons that it does not have.

    Attributes:
        faults: What is to go wrong.
        images: What can be pulled: ``slackwater:1`` and ``slackwater:2`` are the service.
        controllers: With the autoscaler that a test tells what to want.
        kubelet: With the node that a test can lose.
    """

    def __init__(self, folder: Path, *, rate: float = 1.0, without: Collection[str] = ()) -> None:
        if unknown := set(without) - set(OPTIONAL_GROUPS):
            raise ValueError(f"not an optional group: {sorted(unknown)}")
        self.clock = SimClock(rate)
        self.kinds = Kinds(one for one in RESOURCES if one.group not in without)
        self.store = Store()
        self.registry = Registry(self.store, self.kinds, self.clock)
        self.faults = Faults()
        self.api = Api(self.registry)
        self.socket = ApiSocket(self.api, self.faults)
        self.folder = folder
        self.images = Images()
        for tag in ("1", "2"):
            digest = "sha256:" + tag * 64
            self.images.add(f"slackwater:{tag}", replace(service_image(IMAGE_DIGEST=digest), digest=digest))
        self._addresses = Addresses()
        self._network = Network(self.registry, self._addresses)
        self.registry.admit = Policies(self.store, self.kinds).judge
        self.registry.complete = self._network.allocate
        self.controllers = Controllers(self.registry)
        self.kubelet = Kubelet(self.registry, self.images, self._addresses, folder)
        self.api.proxies = {
            "proxy": Proxies(self.registry).handle,
            "log": Logs(self.registry, self.kubelet).handle,
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    @classmethod
    @contextmanager
    def start(cls, *, rate: float = 1.0, without: Collection[str] = ()) -> Iterator[SimCluster]:
        """Run a cluster; its processes are ended with it."""
        with tempfile.TemporaryDirectory(prefix="simcluster-") as folder:
            cluster = cls(Path(folder), rate=rate, without=without)
            ready: Future[None] = Future()
            thread = threading.Thread(target=cluster._main, args=(ready,), name="simcluster", daemon=True)
            thread.start()
            try:
                ready.result(_START_SECONDS)
                yield cluster
            finally:
                cluster._end()
                thread.join(_STOP_SECONDS)

    def _main(self, ready: Future[None]) -> None:
        try:
            asyncio.run(self._run(ready))
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _run(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        for name in _NAMESPACES:
            namespace = self.kinds.get("Namespace")
            self.registry.create(namespace, "", {"metadata": {"name": name}}, SYSTEM)
        await self.socket.open()
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(part.run()) for part in (self.controllers, self.kubelet, self._network)]
                ready.set_result(None)
                await self._stop.wait()
                for part in parts:
                    part.cancel()
        finally:
            await self.socket.close()
            self._addresses.close()

    def _end(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    def call(self, work: Callable[[], _T]) -> _T:
        """Run something in the cluster's thread and return what it returns."""
        future: Future[_T] = Future()

        def _work() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                future.set_exception(error)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(_work)
        return future.result(_STOP_SECONDS)

    @property
    def url(self) -> str:
        """Address of the API server."""
        return self.socket.url

    def address(self, namespace: str, service: str, port: int) -> str:
        """Return ``host:port`` where a Service is reached from outside of the cluster."""
        found = self.call(lambda: self.registry.get(self.kinds.get("Service"), namespace, service))
        return f"{found['spec']['clusterIP']}:{listening_port(port)}"

    def token(self, user: User) -> str:
        """Return a bearer token that speaks for a user."""
        for token, known in self.socket.users.items():
            if known == user:
                return token
        token = secrets.token_urlsafe(16)
        self.socket.users[token] = user
        return token

    def kubeconfig(self, user: User = ADMIN, *, namespace: str = "default") -> Path:
        """Write a kubeconfig for a user, and return its path."""
        _, pem = server_certificate()
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "simulated",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority-data": base64.b64encode(pem).decode(),
                    },
                }
            ],
            "users": [{"name": user.name, "user": {"token": self.token(user)}}],
            "contexts": [
                {
                    "name": "simulated",
                    "context": {"cluster": "simulated", "user": user.name, "namespace": namespace},
                }
            ],
            "current-context": "simulated",
        }
        path = self.folder / f"kubeconfig-{user.name.replace(':', '-')}-{namespace}.yaml"
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path
