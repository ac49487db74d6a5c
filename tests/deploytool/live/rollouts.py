"""What a rollout is about: a release, its clients, and an application behind it that goes on writing."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.deploytool.live.application import Writing, writing
from tests.deploytool.live.crowd import Crowd, Seen, crowd
from tests.deploytool.live.release import CHART, NAME, deploytool, deploytool_process
from tests.simcluster.helm import helm
from tests.simcluster.images import ROOT, Image, service_image
from tests.simcluster.kubectl import kubectl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

__all__ = (
    "ALWAYS",
    "BROKEN",
    "CHANNELS",
    "NAME",
    "RATE",
    "Hook",
    "Live",
    "Traffic",
    "arrive",
    "bad_image",
    "events",
    "hook",
    "installed",
    "values",
)

BROKEN = "slackwater:broken"
"""An image whose process ends at once."""

CHANNELS = tuple(f"feed:{number}" for number in range(25))
"""So many that whoever was away for two minutes has missed no more of one than one recovery brings."""

ALWAYS = {"zone": "UTC", "open": [{"name": "always", "rule": "FREQ=DAILY", "at": "00:00", "length": "1d"}]}
"""A window that never closes."""

RATE = 50.0
"""Durable publications a second."""

_DEADLINE_SECONDS = 60.0
_NAMESPACE = {
    "name": "feed",
    # More than a client misses that was away for the longest back-off of all.
    "history_size": 100_000,
    "history_ttl": "24h",
    "force_recovery": True,
    "allow_recovery": True,
    "allow_subscribe_for_client": True,
}


@dataclass(slots=True)
class Traffic:
    """Clients and the application behind them.

    Attributes:
        last: What each client had seen when it was asked last.
    """

    clients: Crowd
    application: Writing
    last: list[Seen] = field(default_factory=list)

    def settle(self, *, visits: int = 1) -> int:
        """Wait until every client has all that was committed so far, once and in order; returns how much that is.

        Args:
            visits: How often each client has been subscribed at least.
        """
        count = self.application.committed
        self.last = self.clients.until(count)
        assert not [one for one in self.last if one.odd or one.gaps or one.count < count]
        assert visits <= min(one.subscribed for one in self.last)
        return count


@dataclass(frozen=True)
class Live:
    """A release, and somebody who rolls it out.

    Attributes:
        folder: Where that person works: it holds ``deploytool.yaml``.
        address: Of the public port, without a scheme.
        keys: What the Secret of the release holds.
        database: Address of the database, as the application knows it.
    """

    cluster: SimCluster
    target: Target
    folder: Path
    address: str
    keys: dict[str, str]
    database: str

    def run(self, *arguments: str, kubeconfig: str = "") -> subprocess.CompletedProcess[str]:
        """Run the tool to its end."""
        return deploytool(*arguments, kubeconfig=kubeconfig or str(self.target.kubeconfig), folder=self.folder)

    def run_process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the tool to its end, as a process of its own."""
        return deploytool_process(*arguments, kubeconfig=str(self.target.kubeconfig), folder=self.folder)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin to run the tool, as a process of its own."""
        environ = {**os.environ, "KUBECONFIG": str(self.target.kubeconfig), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        return subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "-m", "deploytool", *arguments],
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def configure(self, **settings: Any) -> None:  # noqa: ANN401 - JSON
        """Write ``deploytool.yaml``, over what it holds else."""
        path = self.folder / "deploytool.yaml"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, **settings}))

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace of the release, as its administrator."""
        return kubectl(self.target, *arguments)

    def image(self) -> str:
        """Return the image that is asked for."""
        return self.kubectl("get", "deployment", NAME, "-o", "jsonpath={.spec.template.spec.containers[0].image}")

    def record(self) -> dict[str, Any]:
        """Return what ``rollout status`` says."""
        done = self.run("rollout", "status", "-o", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def phases(self) -> list[str]:
        """Return the phases in the journal."""
        return [one["phase"] for one in self.record()["journal"]["steps"]]

    @contextmanager
    def traffic(
        self, count: int, *, processes: int = 1, most_back_off_seconds: float = 1.0, rate: float = RATE
    ) -> Iterator[Traffic]:
        """Have clients connected, and durable publications written for them, until the block ends."""
        with ExitStack() as stack:
            clients = stack.enter_context(
                crowd(
                    f"ws://{self.address}/connection/websocket",
                    self.keys["TOKEN_HMAC_SECRET"],
                    CHANNELS,
                    count,
                    processes=processes,
                    most_back_off_seconds=most_back_off_seconds,
                )
            )
            yield Traffic(clients, stack.enter_context(writing(self.database, CHANNELS, rate)))


def values(target: Target, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - values of the chart
    """Return the values of the chart: its own SQLite on a volume, and nothing to monitor it."""
    repository, _, tag = target.image.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag},
        "secret": {"generate": True},
        "persistence": {"enabled": True},
        "namespaces": [_NAMESPACE],
        "monitoring": {"serviceMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}},
        **more,
    }


@contextmanager
def installed(
    cluster: SimCluster,
    target: Target,
    *,
    database: str = "",
    **more: Any,  # noqa: ANN401 - values of the chart
) -> Iterator[Live]:
    """Install the chart as a release of Helm's, and remove it again.

    Args:
        database: Address of a Postgres; empty for SQLite on the release's volume.
        more: Over the values of `values`.
    """
    cluster.images.add(BROKEN, replace(service_image(), entrypoint=("python", "-c", "raise SystemExit('no good')")))
    if database:
        kubectl(target, "create", "secret", "generic", "database", f"--from-literal=url={database}")
        more = {"persistence": {"enabled": False}, "database": {"existingSecret": "database"}, **more}
    folder = target.folder / "ada"
    folder.mkdir()
    helm(target, "install", CHART, "live", values(target, **more), wait="watcher", timeout=60)
    try:
        file = cluster.folder / "claims" / target.namespace / f"{NAME}-data" / "slackwater.db"
        yield arrive(cluster, target, folder, database or f"sqlite:///{file}")
    finally:
        helm(target, "uninstall", "live", ignore_not_found=True)


def arrive(cluster: SimCluster, target: Target, folder: Path, database: str) -> Live:
    """Find out where the release is, and write the settings of the person who rolls it out."""
    secret = json.loads(kubectl(target, "get", "secret", f"{NAME}-keys", "-o", "json"))
    keys = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    live = Live(cluster, target, folder, cluster.address(target.namespace, NAME, 80), keys, database)
    live.configure(namespace=target.namespace, url=f"ws://{live.address}", browsers=False, windows=ALWAYS)
    return live


def bad_image(twist: str, *more: str) -> Image:
    """Return an image of the service that is bad in one way.

    Args:
        twist: Which, of `tests.deploytool.live.bad_service`.
        more: Others.
    """
    return replace(
        service_image(), entrypoint=("python", "-m", "tests.deploytool.live.bad_service", ",".join((twist, *more)))
    )


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return what the tool said with ``-o json``."""
    return [json.loads(line) for line in done.stdout.splitlines()]


@dataclass(frozen=True, slots=True)
class Hook:
    """A place where a rollout waits until a test lets it go on.

    Attributes:
        arguments: For the tool.
    """

    arguments: tuple[str, ...]
    _there: Path
    _go: Path

    def wait(self, process: subprocess.Popen[str]) -> None:
        """Wait until the rollout is there."""
        until = time.monotonic() + _DEADLINE_SECONDS  # noqa: TID251 - a deadline of a real process
        while not self._there.exists():
            assert time.monotonic() < until  # noqa: TID251 - ditto
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)

    def let_go(self) -> None:
        """Let it go on."""
        self._go.touch()


def hook(folder: Path, when: str, name: str = "") -> Hook:
    """Make a rollout wait.

    Args:
        when: Such as ``after-GATE``.
        name: Tells rollouts apart that wait at the same place.
    """
    there, go = folder / f"there-{when}{name}", folder / f"go-{when}{name}"
    command = f"touch {there}; while [ ! -e {go} ]; do sleep 0.05; done"
    return Hook(("--hook", f"{when}={command}"), there, go)
