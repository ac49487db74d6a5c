"""A rollout as the person who runs it sees it: real processes, stock clients, and a Helm that owns the release."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest

from tests.deploytool.live.release import CHART, deploytool
from tests.simcluster.helm import helm
from tests.simcluster.images import ROOT, service_image
from tests.simcluster.kubectl import kubectl
from tests.support.stock_client import stock_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

_NAME = "live-slackwater"
_CLIENTS = 50
_CHANNEL = "room"
_BROKEN = "slackwater:broken"


@dataclass
class _Outside:
    """Clients and a publisher, in a thread of their own, while the tool runs.

    Attributes:
        sent: Publications that were acknowledged, in order.
        received: Of each client, in order.
    """

    address: str
    keys: dict[str, str]
    sent: list[int] = field(default_factory=list)
    received: dict[int, list[int]] = field(default_factory=dict)
    connected: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    def main(self) -> None:
        try:
            asyncio.run(self._to_the_end())
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failure = error
            self.connected.set()

    async def _to_the_end(self) -> None:
        await self._run()
        # A stock client that is disconnected closes its socket in a task of its own.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=10)

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            events = {}
            for number in range(_CLIENTS):
                claims = {"sub": f"u{number}", "exp": int(time.time()) + 3600}  # noqa: TID251 - of a real token
                token = jwt.encode(claims, self.keys["TOKEN_HMAC_SECRET"], "HS256")
                url = f"ws://{self.address}/connection/websocket"
                stock = await stack.enter_async_context(stock_client(url, token=token, max_reconnect_delay=1.0))
                _, events[number] = await stock.subscribe(_CHANNEL, recoverable=True, positioned=True)
            self.connected.set()
            await self._publish()
            async with asyncio.timeout(30):
                while any(len(one.publications) < len(self.sent) for one in events.values()):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.1)
            self.received = {number: [data["n"] for data in one.publications] for number, one in events.items()}

    async def _publish(self) -> None:
        headers = {"X-API-Key": self.keys["API_KEY"]}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=2.0) as http:
            number = 0
            while not self.stop.is_set():
                body = {"channel": _CHANNEL, "data": {"n": number}, "idempotency_key": f"n{number}"}
                try:
                    answer = await http.post(f"http://{self.address}/api/publish", json=body)
                    accepted = answer.status_code == 200 and "result" in answer.json()
                except (httpx.HTTPError, ValueError):
                    accepted = False
                if accepted:
                    self.sent.append(number)
                    number += 1
                await asyncio.sleep(0.1)


@dataclass(frozen=True)
class _Live:
    target: Target
    folder: Path
    address: str
    keys: dict[str, str]

    def run(self, *arguments: str) -> Any:  # noqa: ANN401 - of subprocess
        return deploytool(*arguments, kubeconfig=str(self.target.kubeconfig), folder=self.folder)

    def image(self) -> str:
        return kubectl(
            self.target, "get", "deployment", _NAME, "-o", "jsonpath={.spec.template.spec.containers[0].image}"
        )

    @contextmanager
    def clients(self) -> Iterator[_Outside]:
        outside = _Outside(self.address, self.keys)
        thread = threading.Thread(target=outside.main, daemon=True)
        thread.start()
        assert outside.connected.wait(60)
        try:
            yield outside
        finally:
            outside.stop.set()
            thread.join(60)
        if outside.failure is not None:
            raise outside.failure


@pytest.fixture
def live(cluster: SimCluster, target: Target) -> Iterator[_Live]:
    """The chart with a volume, as a release of Helm's."""
    cluster.images.add(_BROKEN, replace(service_image(), entrypoint=("python", "-c", "raise SystemExit('no good')")))
    repository, _, tag = target.image.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag},
        "secret": {"generate": True},
        "persistence": {"enabled": True},
        "monitoring": {"serviceMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}},
    }
    folder = target.folder / "ada"
    folder.mkdir()
    helm(target, "install", CHART, "live", values, wait="watcher", timeout=60)
    try:
        secret = json.loads(kubectl(target, "get", "secret", f"{_NAME}-keys", "-o", "json"))
        keys = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
        address = cluster.address(target.namespace, _NAME, 80)
        windows = {"zone": "UTC", "open": [{"name": "always", "rule": "FREQ=DAILY", "at": "00:00", "length": "1d"}]}
        (folder / "deploytool.yaml").write_text(
            json.dumps({"namespace": target.namespace, "url": f"ws://{address}", "browsers": False, "windows": windows})
        )
        yield _Live(target, folder, address, keys)
    finally:
        helm(target, "uninstall", "live", ignore_not_found=True)


def _events(done: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - of subprocess
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_good_and_bad_image(live: _Live) -> None:
    """To a new image and back from one that does not start; every publication once and in order, to every client."""
    with live.clients() as outside:
        good = live.run("rollout", "run", "--image", live.target.other_image, "--reason", "1.4", "-o", "json")
        assert 0 == good.returncode, good.stderr + good.stdout
        assert live.target.other_image == live.image()

        bad = live.run("rollout", "run", "--image", _BROKEN, "--no-check", "-o", "json")
        assert 8 == bad.returncode, bad.stderr + bad.stdout
        assert live.target.other_image == live.image()

    assert len(outside.sent) > 50
    assert all(outside.sent == one for one in outside.received.values())
    drained = [one["data"]["left"] for one in _events(good) if one["phase"] == "DRAIN" and one["kind"] == "progress"]
    assert _CLIENTS == drained[0]
    ends = [one["text"] for one in (_events(good)[-1], _events(bad)[-1])]
    assert f"{_CLIENTS} of {_CLIENTS} clients are back" in ends[0]
    assert "rolled back to" in ends[1]
    assert any("log:" in one["text"] or "event:" in one["text"] for one in _events(bad))

    status = live.run("rollout", "status", "-o", "json")
    record = json.loads(status.stdout)
    assert record["holder"] is None
    assert "ROLLED_BACK" == record["journal"]["steps"][-1]["phase"]
    assert live.keys["ADMIN_KEY"] not in status.stdout
    managers = kubectl(live.target, "get", "deployment", _NAME, "-o", "json", "--show-managed-fields")
    assert "deploytool" not in {one["manager"] for one in json.loads(managers)["metadata"]["managedFields"]}


def test_second_rollout_loses_and_a_killed_one_is_resumed(live: _Live) -> None:
    """One wins, the other names it; after `kill -9` the first is gone on with by somebody else."""
    is_there, may_go = live.folder / "there", live.folder / "go"
    wait = f"touch {is_there}; while [ ! -e {may_go} ]; do sleep 0.05; done"
    run = ("rollout", "run", "--image", live.target.other_image, "--no-check", "--lease", "9s", "-o", "json")
    environ = {**os.environ, "KUBECONFIG": str(live.target.kubeconfig), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "deploytool", *run, "--reason", "first", "--hook", f"after-GATE={wait}"]
    with subprocess.Popen(command, cwd=live.folder, env=environ, stdout=subprocess.DEVNULL) as first:  # noqa: S603 - ours
        _until_there(is_there)
        second = live.run(*run)
        shown = live.run("lock", "status")
        first.kill()
    may_go.touch()

    assert 6 == second.returncode, second.stderr
    assert "the lock is held by " in second.stderr
    assert "(first)" in second.stderr
    assert "begun GATE" in shown.stdout
    assert live.target.image == live.image()

    resumed = live.run("rollout", "resume", "--lease", "9s", "-o", "json")

    assert 0 == resumed.returncode, resumed.stderr + resumed.stdout
    assert "GATE was the last phase; start again" in resumed.stdout
    assert live.target.other_image == live.image()
    again = live.run("rollout", "resume")
    assert 3 == again.returncode
    assert "no rollout that was left unfinished" in again.stderr


def _until_there(path: Path) -> None:
    until = time.monotonic() + 30.0  # noqa: TID251 - a deadline of a real process
    while not path.exists():
        assert time.monotonic() < until  # noqa: TID251 - ditto
        time.sleep(0.05)


def test_interrupted_rollout_is_aborted(live: _Live) -> None:
    """Ctrl-C where nobody can answer leaves it at the next safe point; whoever aborts has nothing to undo."""
    is_there, may_go = live.folder / "there", live.folder / "go"
    wait = f"touch {is_there}; while [ ! -e {may_go} ]; do sleep 0.05; done"
    command = [
        *(sys.executable, "-m", "deploytool", "rollout", "run", "--image", live.target.other_image, "--no-check"),
        *("--lease", "9s", "--hook", f"after-ANNOUNCE={wait}"),
    ]
    environ = {**os.environ, "KUBECONFIG": str(live.target.kubeconfig), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(  # noqa: S603 - ours
        command, cwd=live.folder, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        _until_there(is_there)
        run.send_signal(signal.SIGINT)
        may_go.touch()
        _, said = run.communicate(timeout=30)

    assert 130 == run.returncode, said
    assert "Traceback" not in said
    assert f"deploytool rollout resume --workload {_NAME}" in said

    aborted = live.run("rollout", "abort", "--lease", "9s")

    assert 0 == aborted.returncode, aborted.stderr
    assert "CANCELLED END cancelled, and nothing was changed" in aborted.stderr
    assert live.target.image == live.image()
    assert "nobody rolls out" in live.run("lock", "status").stdout


def test_drain_alone_and_plan(live: _Live) -> None:
    """Emptied, kept so, let in again; the image stays. The plan changes nothing."""
    plan = live.run("rollout", "plan", "--image", live.target.other_image)
    same = live.run("rollout", "plan", "--image", live.target.image)
    drained = live.run("drain", "--hold", "1s", "-o", "json")

    assert 0 == plan.returncode, plan.stderr
    assert "it may start now" in plan.stdout
    assert "helm upgrade live from revision 1" in plan.stdout
    assert 3 == same.returncode
    assert "runs slackwater:1 already" in same.stdout
    assert 0 == drained.returncode, drained.stderr + drained.stdout
    assert "ROLLED_BACK" == _events(drained)[-1]["phase"]
    assert live.target.image == live.image()
    status = httpx.get(f"http://{live.address}/api/health/websocket", trust_env=False).json()
    assert "ACTIVE" == status["phase"]

    kubectl(live.target, "set", "image", f"deployment/{_NAME}", f"*={_BROKEN}")
    kubectl(live.target, "set", "image", f"deployment/{_NAME}", f"*={live.target.image}")
    other = live.run("rollout", "plan", "--image", live.target.other_image)
    assert 3 == other.returncode
    assert "is owned by kubectl-set" in other.stdout
