"""The guard as the chart runs it: with its own account, and no right that it does not need."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploytool.guard.process import deploytool, events_of, guarding
from tests.deploytool.guard.release import CHART, GUARD, NAME, installed, values
from tests.simcluster.cluster import SimCluster
from tests.simcluster.helm import helm
from tests.simcluster.images import ROOT
from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import Target
from tests.simcluster_tests.manifests import DEPLOYMENT

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(180)]


def is_held(one: dict[str, Any]) -> bool:
    """Tell whether a changed workload asks for one."""
    return bool(one["metadata"]["generation"] >= 3 and one["spec"]["replicas"] == 1)


@pytest.fixture
def release(cluster: SimCluster, target: Target) -> Iterator[Target]:
    """The chart with its guard."""
    with installed(cluster, target):
        yield target


def test_guard_of_the_chart_holds_its_workload(release: Target) -> None:
    """Helm goes on to work afterwards: it asks for one, too."""
    kubectl(release, "scale", f"deployment/{NAME}", "--replicas=3")
    release.wait(DEPLOYMENT, NAME, is_held)
    told = events_of(release, "ReplicasSetBack")
    helm(release, "upgrade", CHART, "live", values(), wait="watcher", timeout=60)

    assert f"Deployment {NAME} was scaled to 3 by kubectl (by way of scale)" in told["message"]
    assert "1" == kubectl(release, "get", "deployment", NAME, "-o", "jsonpath={.spec.replicas}")


def test_uninstall_ends_with_the_guard_stopped(release: Target) -> None:
    """It was at work, and left nothing on any object that would hold it."""
    kubectl(release, "scale", f"deployment/{NAME}", "--replicas=3")
    release.wait(DEPLOYMENT, NAME, is_held)
    kubectl(release, "scale", f"deployment/{GUARD}", "--replicas=0")
    kubectl(release, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=guard", "--timeout=60s")
    held = kubectl(release, "get", "deployment", NAME, "-o", "jsonpath={.metadata.finalizers}{.metadata.annotations}")
    helm(release, "uninstall", "live", wait="watcher", timeout=60)

    assert "kopf" not in held
    assert "" == kubectl(release, "get", "deployments,services,serviceaccounts,roles,rolebindings", "-o", "name")


def test_service_that_was_stopped_stays_stopped(release: Target) -> None:
    """By scaling it, the guard running."""
    kubectl(release, "scale", f"deployment/{NAME}", "--replicas=0")
    kubectl(release, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=server", "--timeout=60s")

    assert "0" == kubectl(release, "get", "deployment", NAME, "-o", "jsonpath={.spec.replicas}")


# Every command of the page, in its order; those of the runbook are carried out with the other runbooks.


def commands(page: str) -> list[str]:
    """Return the commands of a page."""
    text = (ROOT / "docs" / page).read_text()
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ").splitlines()
    return [line for line in lines if line]


def run(target: Target, command: str) -> str:
    """Run a command of a page in the namespace of the test; returns what it printed."""
    name, *arguments = shlex.split(command.replace("--namespace realtime", ""))
    if name == "kubectl":
        return kubectl(target, *arguments)
    if name == "helm":
        return upgrade(target, arguments)
    if arguments[:2] == ["guard", "run"]:
        with guarding(target) as guard:
            guard.wait_for("guard.leave")
            return "".join(guard.lines)
    done = deploytool(target, *arguments)
    assert done.returncode in (0, 9), done.stderr
    return done.stdout


def upgrade(target: Target, arguments: list[str]) -> str:
    """Do by the SDK what the command line asks of a ``helm`` that is not here."""
    action, release, chart, reuse, _, change = arguments
    assert ["upgrade", "--reuse-values", "helm/slackwater"] == [action, reuse, chart]
    key, _, value = change.partition("=")
    group, _, field = key.partition(".")
    merged = values(is_guarded=False) | {group: {field: json.loads(value)}}
    helm(target, "upgrade", str(ROOT / Path(chart)), release, merged, wait="watcher", timeout=60)
    return ""


def test_commands_of_the_how_to_work(cluster: SimCluster, target: Target) -> None:
    """On a release that has no guard yet."""
    with installed(cluster, target, is_guarded=False):
        printed = {command: run(target, command) for command in commands("how-to/guard.md")}

    assert 7 == len(printed)
    assert "successfully rolled out" in next(said for command, said in printed.items() if "rollout status" in command)
    assert all(f"Deployment {NAME} is scaled to 1" in said for command, said in printed.items() if "once" in command)
