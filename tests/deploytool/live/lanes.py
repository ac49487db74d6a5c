"""Several releases side by side, so that rollouts that mostly wait do not wait one after the other.

Each has a person of its own who rolls it out: what that person's tool asks of the API server can be told from the rest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from tests.deploytool.live.rollouts import NAME, Live, installed
from tests.simcluster.cluster import SimCluster
from tests.simcluster.identity import User
from tests.simcluster.images import ROOT
from tests.simcluster.ownership import is_ready
from tests.simcluster.target import open_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simcluster.requests import Request

__all__ = ("LEASE_SECONDS", "Lane", "Witness", "distribute", "kill", "lanes")

LEASE_SECONDS = 9.0
"""Of the locks: long enough for a slow machine, and short enough to be waited for."""

_TTL_SECONDS = 12.0
_RATE = 3.0
_END_SECONDS = 120.0
_LAPSE_SECONDS = 60.0
_JOURNAL = "slackwater.dev/rollout-journal"
_HARMLESS = ("selfsubjectaccessreviews", "selfsubjectreviews", "probe-tokens")
_OPTIONS = ("--settle=1s", f"--ttl={_TTL_SECONDS:g}s", "-o", "json")
_UNTRIED = ("--no-check", "--no-trial")

_T = TypeVar("_T")


@dataclass
class Witness:
    """Sees every moment of a namespace.

    Attributes:
        most_ready: Pods of the release that were ready at one time, at most, whether they were going or not.
        most_running: Pods of the release that ran at one time, at most.
    """

    cluster: SimCluster
    namespace: str
    most_ready: int = 0
    most_running: int = 0

    def look(self) -> None:
        """Look, in the cluster's thread."""
        found = [
            one
            for one in self.cluster.store.all(self.cluster.kinds.get("Pod"), self.namespace)
            if one["metadata"].get("ownerReferences") and (one.get("status") or {}).get("phase") == "Running"
        ]
        self.most_running = max(self.most_running, len(found))
        self.most_ready = max(self.most_ready, sum(is_ready(one) for one in found))


@dataclass
class Lane:
    """One release, and the person who rolls it out.

    Attributes:
        lease_seconds: Of its locks.
        said: By the tool, in the rollouts since the last look.
    """

    live: Live
    witness: Witness
    kubeconfig: str
    token: str
    lease_seconds: float = LEASE_SECONDS
    said: list[str] = field(default_factory=list)

    @property
    def cluster(self) -> SimCluster:
        """Where it is."""
        return self.live.cluster

    def is_mine(self, request: Request) -> bool:
        """Tell whether the tool, or a Helm that it started, asked for this."""
        return request.headers.get("authorization", "") == f"Bearer {self.token}"

    def is_change(self, request: Request) -> bool:
        """Tell whether the tool changes something: whoever only renews the lock does not."""
        if request.method == "GET" or "dryRun" in request.query or request.path.endswith(_HARMLESS):
            return False
        is_renewal = "/leases" in request.path and _JOURNAL.encode() not in request.body
        return self.is_mine(request) and not is_renewal

    @property
    def image(self) -> str:
        """The image that is asked for."""
        return str(self._object("Deployment", NAME)["spec"]["template"]["spec"]["containers"][0]["image"])

    @property
    def other_image(self) -> str:
        """The other one."""
        images = {self.live.target.image, self.live.target.other_image}
        return (images - {self.image}).pop()

    @property
    def lease(self) -> dict[str, Any]:
        """The Lease of rollouts; empty when there is none."""
        return self._object("Lease", f"{NAME}-rollout")

    @property
    def journal(self) -> dict[str, Any]:
        """What is on record; empty for nothing."""
        found: dict[str, Any] = json.loads(self.notes.get(_JOURNAL) or "{}")
        return found

    @property
    def notes(self) -> dict[str, Any]:
        """Annotations of the Lease."""
        return dict((self.lease.get("metadata") or {}).get("annotations") or {})

    @property
    def holder(self) -> str:
        """Who holds the lock; empty for nobody."""
        return str((self.lease.get("spec") or {}).get("holderIdentity") or "")

    def pending(self) -> list[str]:
        """Return what Helm has left half done."""
        store, kinds, namespace = self.cluster.store, self.cluster.kinds, self.live.target.namespace
        found = self.cluster.call(lambda: store.all(kinds.get("Secret"), namespace))
        statuses = [str((one["metadata"].get("labels") or {}).get("status") or "") for one in found]
        return [one for one in statuses if one.startswith("pending")]

    def _object(self, kind: str, name: str) -> dict[str, Any]:
        store, kinds = self.cluster.store, self.cluster.kinds
        found = self.cluster.call(lambda: store.get(kinds.get(kind), self.live.target.namespace, name))
        return found or {}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin to run the tool."""
        environ = {**os.environ, "KUBECONFIG": self.kubeconfig, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        return subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "-m", "deploytool", *arguments],
            cwd=self.live.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def rollout(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command of ``deploytool rollout``, with deadlines for tests."""
        more = _UNTRIED if arguments[0] == "run" else ()
        return self.start("rollout", *arguments, *more, *_OPTIONS, f"--lease={self.lease_seconds:g}s")

    def run(self, *arguments: str) -> int:
        """Run a command of ``deploytool rollout`` to its end, and return its exit code."""
        return self.finish(self.rollout(*arguments))

    def finish(self, process: subprocess.Popen[str]) -> int:
        """Wait for the end of the tool, and return its exit code."""
        said, _ = process.communicate(timeout=_END_SECONDS)
        self.said.append(said)
        assert "Traceback" not in said, said
        assert "internal error" not in said, said
        return process.returncode

    def serves(self, image: str = "") -> str:
        """Wait until an image is asked for, and serves by itself; returns why it does not, empty when it does.

        Args:
            image: Empty for whatever is asked for.
        """
        until = time.monotonic() + _LAPSE_SECONDS  # noqa: TID251 - a deadline of real processes
        while True:
            problem = self._problem(image)
            if not problem or time.monotonic() > until:  # noqa: TID251 - ditto
                return problem
            time.sleep(0.2)

    def _problem(self, image: str) -> str:
        import httpx  # noqa: PLC0415 - of the deploy tool's extra

        if image and self.image != image:
            return f"{self.image} is asked for, and not {image}"
        try:
            answer = httpx.get(f"http://{self.live.address}/api/health/websocket", trust_env=False, timeout=5.0)
            phase = str(answer.json().get("phase"))
        except (httpx.HTTPError, ValueError) as error:
            return f"nobody answers: {type(error).__name__}"
        return "" if phase == "ACTIVE" else f"the service is {phase}"


def kill(process: subprocess.Popen[str], *, with_children: bool) -> None:
    """End the tool as ``kill -9`` does, and a Helm that it started where the machine is meant to go down."""
    children: list[psutil.Process] = []
    if with_children:
        children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    for one in children:
        one.kill()


@contextmanager
def lanes(count: int) -> Iterator[Sequence[Lane]]:
    """Install the chart so many times, each in a namespace of its own, in a cluster that waits long for slow starts."""
    found: list[Lane] = []
    with ExitStack() as stack:
        cluster = stack.enter_context(SimCluster.start(rate=_RATE))
        for number in range(count):
            target = stack.enter_context(open_target(cluster))
            live = stack.enter_context(installed(cluster, target))
            person = User(f"ada-{number}-{target.namespace}", ("system:masters",))
            kubeconfig = cluster.kubeconfig(person, namespace=target.namespace)
            witness = Witness(cluster, target.namespace)
            stop = cluster.call(lambda witness=witness: cluster.store.listen(witness.look))  # type: ignore[misc]  # bound now
            stack.callback(cluster.call, stop)
            found.append(Lane(live, witness, str(kubeconfig), cluster.token(person)))
        yield found


def distribute(lanes: Sequence[Lane], cases: Sequence[_T], do: Callable[[Lane, _T], None]) -> dict[str, str]:
    """Do something for each case, in whichever lane is free; returns what went wrong, by case."""
    queue: SimpleQueue[_T] = SimpleQueue()
    for case in cases:
        queue.put(case)
    problems: dict[str, str] = {}

    def _work(lane: Lane) -> None:
        while True:
            try:
                case = queue.get_nowait()
            except Empty:
                return
            try:
                do(lane, case)
            except BaseException as error:  # noqa: BLE001 - told to the test
                problems[str(case)] = f"{type(error).__name__}: {error}\n{''.join(lane.said)[-4000:]}"
            lane.said.clear()

    threads = [threading.Thread(target=_work, args=(lane,), daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems
