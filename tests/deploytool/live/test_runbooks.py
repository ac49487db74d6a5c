"""The pages for operators, carried out as they stand there: every command, in the scene that the page is about.

A page is read from top to bottom in one terminal. Where a heading begins another situation (a tool that was killed, an
image that is lost), the table of its test brings that about. What a page shows below a command has to come, in that
order; a program that is not in the terminal, or an exit code that the page does not name, fails.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.deploytool.guard.process import events_of
from tests.deploytool.guard.test_live import autoscaler
from tests.deploytool.live.crowd import crowd
from tests.deploytool.live.pages import Command, missing, sections
from tests.deploytool.live.terminal import Terminal, open_terminal
from tests.simcluster.cluster import SimCluster
from tests.simcluster.helm import helm
from tests.simcluster.identity import User
from tests.simcluster.images import ROOT, service_image
from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import SIMULATED_ONLY, Target, is_real
from tests.simcluster_tests.manifests import DEPLOYMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

_NAME = "slackwater"
_NAMESPACE = "realtime"
_REPOSITORY = "registry.example.org/slackwater"
_RATE = 10.0
_LEASE = "9s"
_SECONDS = 90.0
_PIPELINE = User("pipeline@example.org")


@dataclass
class _Rollout:
    """One that somebody else began, and that waits at a hook until it is let go.

    Attributes:
        log: Where it writes what it says.
    """

    process: subprocess.Popen[bytes]
    log: Path
    may_go: Path

    def go(self, code: int) -> None:
        """Let it go on to its end."""
        self.may_go.touch()
        assert code == self.process.wait(_SECONDS), self.log.read_text()

    def kill(self) -> None:
        """As when the machine is switched off."""
        self.process.kill()
        self.process.wait(_SECONDS)
        self.may_go.touch()

    def leave(self) -> None:
        """As when somebody presses Ctrl-C where nobody can be asked."""
        self.process.send_signal(signal.SIGINT)
        self.go(130)


@dataclass
class _Scene:
    """A release, and an operator before a terminal.

    Attributes:
        address: Of the public port.
        keys: That its Secret holds.
        replaced: What stands otherwise on the pages, as they cannot know it.
    """

    cluster: SimCluster
    target: Target
    folder: Path
    terminal: Terminal
    address: str
    keys: Mapping[str, str]
    stack: ExitStack
    replaced: dict[str, str]
    rollouts: int = 0

    def play(self, page: str, before: Mapping[str, Callable[[], None]]) -> None:
        """Carry a page out.

        Args:
            before: What happens when a heading is come to.
        """
        found = sections(page)
        assert set(before) <= {section.heading for section in found}
        for section in found:
            if section.settings:
                (self.folder / "deploytool.yaml").write_text(self._here(section.settings))
            before.get(section.heading, lambda: None)()
            for command in section.commands:
                self._do(page, command)

    def _do(self, page: str, command: Command) -> None:
        text = self._here(command.text)
        done = self.terminal.run(text)
        assert done.code in command.codes, f"{page}: {text}: ended with {done.code}\n{done.text}"
        assert [] == missing(command.shows, done.text), f"{page}: {text}:\n{done.text}"

    def _here(self, text: str) -> str:
        for written, meant in self.replaced.items():
            text = text.replace(written, meant)
        return text

    def _settings(self, *windows: Mapping[str, str]) -> None:
        content = {
            "namespace": _NAMESPACE,
            "workload": _NAME,
            "url": f"ws://{self.address}",
            "origins": ["https://app.example.org"],
            "windows": {"zone": "UTC", "open": windows},
        }
        (self.folder / "deploytool.yaml").write_text(json.dumps(content))

    def night(self) -> None:
        """Let a window be open, whatever time it is."""
        self._settings({"name": "tonight", "rule": "FREQ=DAILY", "at": "00:00", "length": "1d"})

    def afternoon(self) -> None:
        """Let no window be open until tomorrow."""
        day = datetime.now(UTC).date() + timedelta(days=1)  # noqa: TID251 - of a real process
        self._settings({"name": "tomorrow", "on": day.isoformat(), "at": "23:00", "length": "1h"})

    def waiting(self, tag: str) -> _Rollout:
        """Begin a rollout elsewhere that waits for its window, and renews its lock meanwhile."""
        self.afternoon()
        rollout = self.begin(tag, "before-AWAIT_WINDOW", "--wait", "2d")
        rollout.may_go.touch()
        until(lambda: "the window opens in" in rollout.log.read_text(), rollout.log.read_text)
        return rollout

    def begin(self, tag: str, at: str, *more: str, reason: str = "first") -> _Rollout:
        """Begin a rollout elsewhere, and return when it has come to a hook.

        Args:
            tag: Of the new image.
            at: Such as ``after-GATE``.
            more: Options.
        """
        self.rollouts += 1
        there, may_go = (self.folder / f"{word}-{self.rollouts}" for word in ("there", "go"))
        log = self.folder / f"rollout-{self.rollouts}.log"
        hook = f"{at}=touch {there}; while [ ! -e {may_go} ]; do sleep 0.05; done"
        command = ("rollout", "run", "--namespace", _NAMESPACE, "--image", f"{_REPOSITORY}:{tag}", "--reason", reason)
        with log.open("w") as file:
            process = subprocess.Popen(  # noqa: S603 - ours
                [sys.executable, "-m", "deploytool", *command, "--lease", _LEASE, "--hook", hook, *more],
                cwd=self.folder,
                env={**os.environ, "KUBECONFIG": str(self.target.kubeconfig), "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.stack.callback(process.kill)
        self.stack.callback(may_go.touch)
        until(there.exists, log.read_text)
        return _Rollout(process, log, may_go)

    def home(self) -> None:
        """Bring the release back to what it was installed as."""
        helm(self.target, "rollback", _NAME, version=1, wait="watcher", timeout=60)

    def lose(self, tag: str) -> None:
        """Remove an image from the registry."""
        self.cluster.images.remove(f"{_REPOSITORY}:{tag}")

    def push(self, tag: str) -> None:
        """Bring an image into the registry."""
        push(self.cluster, tag)

    def clients(self, count: int) -> None:
        """Connect stock clients, until the end."""
        url = f"ws://{self.address}/connection/websocket"
        secret = self.keys["TOKEN_HMAC_SECRET"]
        self.stack.enter_context(crowd(url, secret, ["room"], count, most_back_off_seconds=1.0))

    def image(self) -> str:
        """Return the image of the workload, without its registry."""
        way = "jsonpath={.spec.template.spec.containers[0].image}"
        return kubectl(self.target, "get", "deployment", _NAME, "-o", way).removeprefix(_REPOSITORY)


def until(is_so: Callable[[], bool], said: Callable[[], str] = str) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + _SECONDS  # noqa: TID251 - a deadline of real processes
    while not is_so():
        assert time.monotonic() < end, said()  # noqa: TID251 - ditto
        time.sleep(0.05)


def push(cluster: SimCluster, tag: str, **environ: str) -> None:
    """Bring an image of the service into the registry of a cluster; ``broken`` is one that ends at once."""
    digest = "sha256:" + {"0.1.0": "1", "0.2.0": "2", "0.3.0": "3"}.get(tag, "b") * 64
    image = service_image(IMAGE_DIGEST=digest, **environ)
    if tag == "broken":
        image = replace(image, entrypoint=("python", "-c", "raise SystemExit('no good')"))
    cluster.images.add(f"{_REPOSITORY}:{tag}", replace(image, digest=digest))


@contextmanager
def staged(tmp_path: Path, more: Mapping[str, Any] | None = None) -> Iterator[_Scene]:
    """Install a release by the names that stand on the pages, and sit down before a terminal.

    Args:
        tmp_path: For files.
        more: Values of the chart.
    """
    if is_real():
        pytest.skip(SIMULATED_ONLY)
    with ExitStack() as stack:
        cluster = stack.enter_context(SimCluster.start(rate=_RATE))
        # A pod finds the API server by files at a fixed path, which this machine does not have.
        account = User.service_account(_NAMESPACE, f"{_NAME}-guard")
        environ = {"KUBECONFIG": str(cluster.kubeconfig(account, namespace=_NAMESPACE))}
        for tag in ("0.1.0", "0.2.0", "0.3.0", "broken"):
            push(cluster, tag, **environ)
        target = Target(cluster.kubeconfig(namespace=_NAMESPACE), _NAMESPACE, tmp_path, f"{_REPOSITORY}:0.1.0", "")
        kubectl(target, "create", "namespace", _NAMESPACE)
        values = {
            "image": {"repository": _REPOSITORY, "tag": "0.1.0"},
            "secret": {"generate": True},
            "settings": {"frontendUrl": "https://app.example.org"},
            "persistence": {"enabled": True},
            "rbac": {"rollout": [{"kind": "User", "name": _PIPELINE.name}]},
            **(more or {}),
        }
        helm(target, "install", str(ROOT / "helm" / "slackwater"), _NAME, values, wait="watcher", timeout=60)
        secret = json.loads(kubectl(target, "get", "secret", f"{_NAME}-keys", "-o", "json"))
        keys = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
        folder = tmp_path / "operator"
        folder.mkdir()
        # What the pages take from the checkout.
        (folder / "helm").symlink_to(ROOT / "helm")
        terminal = stack.enter_context(open_terminal(folder, {"KUBECONFIG": str(target.kubeconfig)}))
        address = cluster.address(_NAMESPACE, _NAME, 80)
        replaced = {"wss://realtime.example.org": f"ws://{address}", "8001": str(free_port())}
        scene = _Scene(cluster, target, folder, terminal, address, keys, stack, replaced)
        scene.night()
        yield scene


def test_first_rollout(tmp_path: Path) -> None:
    """From the installation of the tool to a rollout from a pipeline."""
    with staged(tmp_path) as scene:
        begun: list[_Rollout] = []

        def _again(at: str) -> None:
            scene.home()
            begun.append(scene.begin("0.2.0", at, reason="release 0.2.0"))

        def _leave() -> None:
            begun[-1].leave()

        def _go_back() -> None:
            _again("after-SWITCH")
            _leave()

        def _without_helm() -> None:
            kubectl(scene.target, "annotate", "deployment", _NAME, "meta.helm.sh/release-name-")
            kubeconfig = scene.cluster.kubeconfig(_PIPELINE, namespace=_NAMESPACE)
            (scene.folder / "pipeline.yaml").write_text(kubeconfig.read_text())
            (scene.folder / "admin-key").write_text(scene.keys["ADMIN_KEY"])

        scene.play(
            "how-to/rollout.md",
            {
                "4. Roll out": scene.night,
                "From another terminal": lambda: _again("before-GATE"),
                "Stop it": _leave,
                "Or go back": _go_back,
                "From a pipeline": _without_helm,
            },
        )

        assert ":0.3.0" == scene.image()
        assert "<svg" in (scene.folder / "drill.html").read_text()


def test_lock_that_is_stuck(tmp_path: Path) -> None:
    """Its holder is at work, was killed before the switch, and after it."""
    with staged(tmp_path) as scene:
        begun: list[_Rollout] = []

        def _died() -> None:
            begun[-1].kill()
            scene.night()

        def _killed(at: str) -> None:
            scene.home()
            scene.begin("0.2.0", at).kill()

        scene.play(
            "runbooks/lock-stuck.md",
            {
                "Look": lambda: begun.append(scene.waiting("0.2.0")),
                "Go on": _died,
                "Go back": lambda: _killed("after-GATE"),
                "By force": lambda: _killed("after-SWITCH"),
            },
        )

        assert ":0.1.0" == scene.image()


def test_rollback_that_failed(tmp_path: Path) -> None:
    """The old image is lost, for a time and for good; then somebody else changes the workload meanwhile."""
    with staged(tmp_path) as scene:

        def _fail() -> None:
            rollout = scene.begin("broken", "before-ROLLING_BACK", "--no-check", "--no-trial")
            scene.lose("0.1.0")
            rollout.go(9)
            told = rollout.log.read_text().partition("What a person can do now:")[2]
            assert f"  deploytool rollout abort --workload {_NAME} --namespace {_NAMESPACE}\n" in told

        def _drift() -> None:
            scene.push("0.1.0")
            scene.home()
            rollout = scene.begin("0.2.0", "after-SWITCH")
            kubectl(scene.target, "set", "image", f"deployment/{_NAME}", f"*={_REPOSITORY}:0.3.0")
            rollout.go(9)

        scene.play(
            "runbooks/rollback-failed.md",
            {
                "Look": _fail,
                "The old version can run": lambda: scene.push("0.1.0"),
                "Only another version can run": _fail,
                "Somebody else changed it": _drift,
            },
        )

        assert ":0.1.0" == scene.image()


def test_drain_that_is_stuck(tmp_path: Path) -> None:
    """A rollout waits for it, somebody drains by hand, and a node is lost with its pod."""
    slow = {"drain": {"spread": "40s", "budget": "60s"}}
    with staged(tmp_path, slow) as scene:
        begun: list[_Rollout] = []

        def _drain(tag: str) -> None:
            begun.append(scene.begin(tag, "before-DRAIN", "--drain-timeout", "5s"))
            begun[-1].may_go.touch()
            log = begun[-1].log
            until(lambda: "connections left" in log.read_text(), log.read_text)

        def _leave() -> None:
            begun[-1].leave()

        def _drain_and_leave() -> None:
            _drain("0.3.0")
            _leave()

        def _by_hand() -> None:
            address = scene.cluster.address(_NAMESPACE, f"{_NAME}-admin", 3001)
            httpx.post(
                f"http://{address}/api/admin/drain",
                headers={"X-Admin-Key": scene.keys["ADMIN_KEY"]},
                json={"spread_seconds": 50, "budget_seconds": 90, "ttl_seconds": 100},
                trust_env=False,
            ).raise_for_status()

        def _lose_node() -> None:
            rollout = scene.begin("0.3.0", "before-SWITCH", "--drain-policy", "force", "--drain-timeout", "1s")
            scene.cluster.call(scene.cluster.kubelet.lose)
            rollout.may_go.touch()
            until(lambda: "READY" in rollout.log.read_text(), rollout.log.read_text)
            rollout.kill()

        scene.clients(20)
        scene.play(
            "runbooks/drain-stuck.md",
            {
                "Look": lambda: _drain("0.2.0"),
                "A rollout waits": _leave,
                "Or let everybody in again": _drain_and_leave,
                "Somebody drains by hand": _by_hand,
                "The pod does not end": _lose_node,
                "Then go on": lambda: scene.cluster.call(scene.cluster.kubelet.find),
            },
        )

        assert ":0.3.0" == scene.image()


def test_guard_in_a_fight(tmp_path: Path) -> None:
    """With an autoscaler that does not give in."""
    guarded = {"admissionPolicy": {"enabled": False}, "guard": {"enabled": True}}
    with staged(tmp_path, guarded) as scene:
        autoscalers = scene.cluster.controllers.autoscalers

        def _fight() -> None:
            eager = autoscaler(3)
            eager["spec"]["scaleTargetRef"]["name"] = _NAME
            scene.cluster.call(lambda: setattr(autoscalers, "demand_count", 3))
            kubectl(scene.target, "apply", "-f", "-", stdin=json.dumps(eager))
            events_of(scene.target, "GuardWaits")

        scene.play("runbooks/guard-in-a-fight.md", {"Look": _fight})

        scene.target.wait(DEPLOYMENT, _NAME, lambda one: one["spec"]["replicas"] == 1)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
