"""A pod that is deleted: its replacement starts beside it, and serves after it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from tests.simcluster.helm import helm
from tests.simcluster.images import ROOT
from tests.simcluster.kubectl import kubectl

if TYPE_CHECKING:
    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_CHART = str(ROOT / "helm" / "slackwater")
_NAME = "live-slackwater"
_ATTEMPTS = 200


def _pods(target: Target) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl(target, "get", "pods", "-o", "json"))["items"]
    return found


def _replacement(target: Target, old: str) -> str:
    for _ in range(_ATTEMPTS):
        for pod in _pods(target):
            if pod["metadata"]["name"] != old:
                return str(pod["metadata"]["name"])
    raise AssertionError("no other pod was made")


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _phases(log: str) -> list[tuple[str, str]]:
    """Return the phases that a process went through, each with its instant, from its log."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [(line["after"], line["timestamp"]) for line in lines if line["event"] == "phase.changed"]


def test_replacement_waits_until_its_predecessor_has_ended(cluster: SimCluster, target: Target) -> None:
    """Its probes pass while it stands by, however long the drain takes, and at no moment do both serve."""
    repository, _, tag = target.image.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag},
        "secret": {"generate": True},
        "persistence": {"enabled": True},
        "drain": {"grace": "4s"},
    }
    helm(target, "install", _CHART, "live", values, wait="watcher", timeout=60)
    try:
        old = str(_pods(target)[0]["metadata"]["name"])
        address = cluster.address(target.namespace, _NAME, 80)
        # Somebody is connected, or there would be nothing to drain.
        with ThreadPoolExecutor(1) as pool, connect(f"ws://{address}/connection/websocket", proxy=None):
            followed = pool.submit(kubectl, target, "logs", "-f", old)
            kubectl(target, "delete", "pod", old, "--wait=false")
            new = _replacement(target, old)
            ready = target.wait(("v1", "Pod"), new, _is_ready, seconds=60)
            before = _phases(followed.result())
        after = _phases(kubectl(target, "logs", new))
    finally:
        helm(target, "uninstall", "live", ignore_not_found=True)

    assert ["ACTIVE", "DRAINING", "DRAINED", "CLOSED"] == [phase for phase, _ in before]
    assert ["STANDBY", "ACTIVE"] == [phase for phase, _ in after]
    assert before[-1][1] <= after[-1][1]
    assert 0 == ready["status"]["containerStatuses"][0]["restartCount"]
