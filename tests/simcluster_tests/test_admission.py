from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simcluster.cluster import SimCluster
from tests.simcluster.helm import HelmError, helm
from tests.simcluster.images import ROOT
from tests.simcluster.kubectl import kubectl, refused
from tests.simcluster.target import Target
from tests.simcluster_tests.manifests import DEPLOYMENT, idle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_CHART = str(ROOT / "helm" / "slackwater")
_NAME = "live-slackwater"


def _values(image: str) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    return {"image": {"repository": repository, "tag": tag}, "secret": {"generate": True}}


@pytest.fixture
def release(target: Target) -> Iterator[Target]:
    """The chart, installed; it is removed again, since its policies belong to no namespace."""
    helm(target, "install", _CHART, "live", _values(target.image), wait="watcher", timeout=60)
    yield target
    helm(target, "uninstall", "live", ignore_not_found=True)


@pytest.fixture
def policies(target: Target) -> Iterator[Target]:
    """The same, and nobody waits for its pod: the policies hold before that."""
    helm(target, "install", _CHART, "live", _values(target.image))
    yield target
    helm(target, "uninstall", "live", ignore_not_found=True)


def test_chart_is_installed_upgraded_and_rolled_back(release: Target) -> None:
    """By a real Helm, with real processes."""
    helm(release, "upgrade", _CHART, "live", _values(release.other_image), wait="watcher", timeout=60)
    upgraded = kubectl(release, "get", "deployment", _NAME, "-o", "jsonpath={..image}")
    helm(release, "rollback", "live", wait="watcher", timeout=60)
    rolled_back = kubectl(release, "get", "deployment", _NAME, "-o", "jsonpath={..image}")
    helm(release, "uninstall", "live", wait="watcher", timeout=60)

    assert (release.other_image, release.image) == (upgraded, rolled_back)
    assert "" == kubectl(release, "get", "deployments,services", "-o", "name")


def test_chart_tests_itself(release: Target) -> None:
    """Its test pod reaches both Services by their names."""
    helm(release, "test", "live", timeout=60)


def test_policy_refuses_a_second_replica(policies: Target) -> None:
    """By the scale as by a patch, in a sentence that says why; other changes pass."""
    patch = json.dumps({"spec": {"replicas": 2}})

    assert "2 replicas would lose messages" in refused(policies, "scale", f"deployment/{_NAME}", "--replicas=2")
    assert "2 replicas would lose messages" in refused(policies, "patch", "deployment", _NAME, "-p", patch)
    kubectl(policies, "scale", f"deployment/{_NAME}", "--replicas=0")
    kubectl(policies, "scale", f"deployment/{_NAME}", "--replicas=1")
    kubectl(policies, "set", "image", f"deployment/{_NAME}", f"*={policies.other_image}")


def test_policy_refuses_another_strategy(policies: Target) -> None:
    """A rolling update would have two."""
    patch = json.dumps({"spec": {"strategy": {"$retainKeys": ["type"], "type": "RollingUpdate"}}})

    assert "has to be replaced by Recreate" in refused(policies, "patch", "deployment", _NAME, "-p", patch)


def test_policy_lets_other_workloads_alone(policies: Target) -> None:
    """It speaks of the release's own by name."""
    kubectl(policies, "apply", "-f", "-", stdin=json.dumps(idle(policies, replicas=2)))


def test_policy_refuses_an_autoscaler_past_one(policies: Target) -> None:
    """Of this workload; one that stays at 1 is let through."""
    assert "may not scale" in refused(policies, "apply", "-f", "-", stdin=json.dumps(_autoscaler(_NAME, 3)))
    kubectl(policies, "apply", "-f", "-", stdin=json.dumps(_autoscaler(_NAME, 1)))
    kubectl(policies, "apply", "-f", "-", stdin=json.dumps(_autoscaler("another", 3)))


def test_dry_run_of_a_second_replica_is_refused(policies: Target) -> None:
    """What a check asks without changing anything."""
    arguments = ("scale", f"deployment/{_NAME}", "--replicas=2", "--dry-run=server")

    assert "2 replicas would lose messages" in refused(policies, *arguments)


def test_autoscaler_fights(cluster: SimCluster, target: Target) -> None:
    """It asks again after it was put back, under its own name."""
    kubectl(target, "apply", "-f", "-", stdin=json.dumps(idle(target)))
    kubectl(target, "apply", "-f", "-", stdin=json.dumps(_autoscaler("idle", 3)))
    cluster.controllers.autoscalers.demand_count = 3
    try:
        target.wait(DEPLOYMENT, "idle", lambda one: one["spec"]["replicas"] == 3)
        kubectl(target, "scale", "deployment/idle", "--replicas=1")
        fought = target.wait(DEPLOYMENT, "idle", lambda one: one["spec"]["replicas"] == 3)
        kubectl(target, "scale", "deployment/idle", "--replicas=0")
        kind = ("autoscaling/v2", "HorizontalPodAutoscaler")
        target.wait(kind, "idle", lambda one: "ScalingDisabled" in str(one.get("status")))
    finally:
        cluster.controllers.autoscalers.demand_count = 1

    assert "hpa" in {entry["manager"] for entry in fought["metadata"]["managedFields"]}


def test_chart_that_refuses_its_values_is_not_installed(target: Target) -> None:
    """Nothing is left of it."""
    with pytest.raises(HelmError, match=r"image\.repository|repository"):
        helm(target, "install", _CHART, "live", {"secret": {"generate": True}})

    assert "" == kubectl(target, "get", "deployments", "-o", "name")


def _autoscaler(name: str, most: int) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1,
            "maxReplicas": most,
        },
    }
