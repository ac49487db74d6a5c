"""The procedures for operators, carried out as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import pytest

from deploytool.cli import cli
from tests.deploytool.live.release import CHART, NAME, Release, deploytool, installed
from tests.deploytool.live.rollouts import ALWAYS
from tests.simcluster.cluster import SimCluster
from tests.simcluster.helm import helm
from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import SIMULATED_ONLY, is_real, open_target
from tests.simcluster_tests.manifests import DEPLOYMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGES: Final = Path(__file__).parents[2] / "docs" / "how-to"
_RATE: Final = 10.0
_HELM_RELEASE: Final = "live"


def commands(page: str) -> list[list[str]]:
    """Return the commands of a page's shell blocks, in words."""
    blocks = re.findall(r"```sh\n(.*?)```", (_PAGES / page).read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line]


@pytest.mark.parametrize(
    "page",
    ["deploy.md", "rollback.md", "install-with-helm.md", "check-a-release.md", "attest.md", "drain-and-restart.md"],
)
def test_every_option_exists(page: str) -> None:
    """Of each command of ours on the pages that an operator reads."""
    found = [words[1:] for words in commands(page) if words[0] == "deploytool"]
    context = click.Context(cli)

    for name, *arguments in found:
        command = cli.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            # A word that is no command of it is the item.
            _, command, arguments = command.resolve_command(context, arguments)  # noqa: PLW2901 - one step down
            assert command is not None
        command.make_context(command.name, arguments)
    assert found


class _Operator:
    """Carries commands out on a release with another name."""

    def __init__(self, release: Release) -> None:
        self._release = release

    def do(self, words: list[str]) -> None:
        program, *arguments = words
        if program in ("helm", "kubectl", "deploytool"):
            getattr(self, f"_{program}")(arguments)

    def _helm(self, arguments: list[str]) -> None:
        target = self._release.admin
        waiting: dict[str, Any] = {"wait": "watcher", "timeout": 60}
        match arguments:
            case ["upgrade", _, _, *_]:
                values = {"image": {"tag": target.other_image.rpartition(":")[2]}}
                helm(target, "upgrade", CHART, _HELM_RELEASE, values, reuse_values=True, **waiting)
            case ["rollback", _, revision, *_]:
                helm(target, "rollback", _HELM_RELEASE, version=int(revision), **waiting)
            case ["history", *_]:
                assert helm(target, "history", _HELM_RELEASE)
            case ["test", *_]:
                assert "it receives what it publishes" in json.dumps(helm(target, "test", _HELM_RELEASE, logs=True))
            case _:
                raise AssertionError(arguments)

    def _kubectl(self, arguments: list[str]) -> None:
        assert ["--namespace", "realtime"] == arguments[:2]
        kubectl(
            self._release.admin, *(one.replace("deployment/slackwater", f"deployment/{NAME}") for one in arguments[2:])
        )

    def _deploytool(self, arguments: list[str]) -> None:
        if "--offline" in arguments:
            return
        if arguments[0] == "rollout":
            self._rollout(arguments)
            return
        # Traffic takes a minute and is tried elsewhere.
        words = [one for one in arguments if one not in ("--probe", "--load")]
        words[words.index("--namespace") + 1] = self._release.admin.namespace
        words[words.index("--workload") + 1] = NAME
        if "--drill-at" in words:
            words[words.index("--drill-at") + 1] = datetime.now(UTC).strftime("%Y-%m-%d")  # noqa: TID251 - the API server's clock
        words = [one.replace("https://docs.example.org", self._release.site) for one in words]
        done = self._release.deploytool(*words)
        # Before the attestations there are findings.
        assert done.returncode == 0 or words[0] == "check", done.stderr

    def _rollout(self, arguments: list[str]) -> None:
        release = self._release
        target, front = release.admin, (release.folder / "connect-to").read_text()
        there = {"--namespace": target.namespace, "--workload": NAME, "--image": target.other_image}
        for option, meant in there.items():
            arguments[arguments.index(option) + 1] = meant
        # The certificate is of our own making.
        way = ("--connect-to", front, "--ca-file", "authority.pem")
        done = deploytool(*arguments, *way, kubeconfig=str(target.kubeconfig), folder=release.folder)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def release() -> Iterator[Release]:
    """A release whose documents are the pages themselves."""
    if is_real():
        pytest.skip(SIMULATED_ONLY)
    with SimCluster.start(rate=_RATE) as cluster, open_target(cluster) as target, installed(cluster, target) as release:
        for name in ("deploy.md", "rollback.md"):
            release.pages[f"/{name}"] = (_PAGES / name).read_bytes()
        settings = release.folder / "deploytool.yaml"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "windows": ALWAYS}))
        yield release


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_operator_deploys_and_rolls_back(release: Release) -> None:
    """By the letter of both pages; in the end they are attested to, and the first image runs again."""
    operator, target = _Operator(release), release.admin
    images = []
    for page in ("deploy.md", "rollback.md"):
        for words in commands(page):
            operator.do(words)
        deployment = target.wait(DEPLOYMENT, NAME, lambda one: one.get("status", {}).get("availableReplicas") == 1)
        images.append(deployment["spec"]["template"]["spec"]["containers"][0]["image"])
    checked = release.deploytool("check", "--select", "14", "--select", "15", "-o", "json")

    assert [target.other_image, target.image] == images
    assert {"pass"} == {one["outcome"] for one in json.loads(checked.stdout)["items"]}, checked.stdout
