from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simcluster.cluster import SimCluster
from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import Target
from tests.simcluster_tests.manifests import DEPLOYMENT, idle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

_OPERATOR = """
import kopf

@kopf.on.event("apps", "v1", "deployments")
def hold(event, body, patch, **_):
    if event["type"] != "DELETED" and body["spec"]["replicas"] > 1:
        patch.spec["replicas"] = 1
        kopf.event(body, type="Warning", reason="Held", message="one is enough")
"""


@pytest.fixture
def operator(target: Target) -> Iterator[subprocess.Popen[bytes]]:
    """An operator on the stock framework, in a process of its own."""
    path = target.folder / "operator.py"
    path.write_text(_OPERATOR)
    environ = {**os.environ, "KUBECONFIG": str(target.kubeconfig), "HOME": str(target.folder)}
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--quiet", "-n", target.namespace, str(path)]
    with subprocess.Popen(command, env=environ) as process:  # noqa: S603 - of the tests' own making
        yield process
        process.terminate()
        assert 0 == process.wait(30)


def _is_held(one: dict[str, Any]) -> bool:
    return bool(one["metadata"]["generation"] >= 3 and one["spec"]["replicas"] == 1)


@pytest.mark.usefixtures("operator")
def test_operator_holds_a_workload_at_one(target: Target) -> None:
    """It watches, patches, and tells so in an Event; nothing of it stays on the object."""
    kubectl(target, "apply", "-f", "-", stdin=json.dumps(idle(target)))
    kubectl(target, "scale", "deployment/idle", "--replicas=3")
    held = target.wait(DEPLOYMENT, "idle", _is_held)
    events = target.client().resources.get(api_version="v1", kind="Event")
    told = next(
        event["raw_object"]
        for event in events.watch(namespace=target.namespace, timeout=30)
        if event["raw_object"].get("reason") == "Held"
    )

    assert "one is enough" == told["message"]
    assert not held["metadata"].get("finalizers")
    assert not any("kopf" in key for key in held["metadata"].get("annotations", {}))


@pytest.mark.usefixtures("operator")
def test_operator_survives_a_lost_watch(cluster: SimCluster, target: Target) -> None:
    """Its watch is cut and the history forgotten: it lists again, and goes on."""
    kubectl(target, "apply", "-f", "-", stdin=json.dumps(idle(target, replicas=3)))
    target.wait(DEPLOYMENT, "idle", lambda one: one["spec"]["replicas"] == 1)
    for one in tuple(cluster.api.watches):
        cluster.call(one.cut)
    cluster.call(cluster.store.compact)
    kubectl(target, "scale", "deployment/idle", "--replicas=4")

    target.wait(DEPLOYMENT, "idle", lambda one: one["metadata"]["generation"] >= 4 and one["spec"]["replicas"] == 1)
