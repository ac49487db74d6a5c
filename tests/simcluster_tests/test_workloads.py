from __future__ import annotations

import json
from typing import Any

import pytest

from tests.simcluster.cluster import SimCluster
from tests.simcluster.images import Image
from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import Target
from tests.simcluster_tests.manifests import DEPLOYMENT, idle, service_objects

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def _is_available(one: dict[str, Any]) -> bool:
    status = one.get("status") or {}
    wanted = one["spec"]["replicas"]
    return bool(
        status.get("observedGeneration") == one["metadata"]["generation"]
        and wanted == status.get("updatedReplicas", 0) == status.get("replicas", 0)
        and status.get("availableReplicas", 0) == wanted
    )


def _apply(target: Target, *objects: dict[str, Any]) -> None:
    kubectl(target, "apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


def _pods(target: Target) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl(target, "get", "pods", "-o", "json"))["items"]
    return found


def test_service_runs_and_drains(target: Target) -> None:
    """A real process is started, probed, reached through the proxy, drained by SIGTERM and replaced."""
    _apply(target, *service_objects(target))
    target.wait(DEPLOYMENT, "slackwater", _is_available, seconds=60)
    (pod,) = _pods(target)
    path = f"/api/v1/namespaces/{target.namespace}/services/slackwater:http/proxy/api/health/ready"
    answer = json.loads(kubectl(target, "get", "--raw", path))
    stream = target.client().resources.get(api_version="v1", kind="Pod").watch(namespace=target.namespace, timeout=60)
    kubectl(target, "set", "env", "deployment/slackwater", "LOG_LEVEL=info")
    alive: set[str] = set()
    most = 0
    for event in stream:
        name = event["raw_object"]["metadata"]["name"]
        alive = alive - {name} if event["type"] == "DELETED" else alive | {name}
        most = max(most, len(alive))
        conditions = event["raw_object"].get("status", {}).get("conditions") or []
        is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        if name != pod["metadata"]["name"] and is_ready:
            break

    assert "ACTIVE" == answer["phase"]
    assert 1 == most, "Recreate never has two pods"
    assert "service.ready" in kubectl(target, "logs", "deployment/slackwater")


def test_terminated_process_had_time_to_drain(cluster: SimCluster, target: Target) -> None:
    """It ends by itself, with the code of a clean end, before the grace period is over."""
    _apply(target, *service_objects(target))
    target.wait(DEPLOYMENT, "slackwater", _is_available, seconds=60)
    (pod,) = _pods(target)
    container = cluster.call(lambda: cluster.kubelet.container(pod, ""))
    kubectl(target, "scale", "deployment/slackwater", "--replicas=0")
    kubectl(target, "wait", "--for=delete", f"pod/{pod['metadata']['name']}", "--timeout=30s")

    assert container is not None
    assert 0 == container.exit_code
    assert any("DRAINING" in text for _, text in container.log.lines)


def test_deleted_pod_is_replaced_at_once(target: Target) -> None:
    """The ReplicaSet does not count what is going: the next pod starts beside it."""
    _apply(target, idle(target))
    target.wait(DEPLOYMENT, "idle", _is_available)
    (before,) = _pods(target)
    kubectl(target, "delete", "pod", before["metadata"]["name"])
    target.wait(DEPLOYMENT, "idle", _is_available)

    (after,) = [pod for pod in _pods(target) if not pod["metadata"].get("deletionTimestamp")]
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_rolling_update_keeps_one_available(target: Target) -> None:
    """The old pod goes when the new one is there."""
    _apply(target, idle(target, replicas=2))
    target.wait(DEPLOYMENT, "idle", _is_available)
    kubectl(target, "set", "env", "deployment/idle", "A=1")
    fewest = 2

    def _note(one: dict[str, Any]) -> bool:
        nonlocal fewest
        fewest = min(fewest, (one.get("status") or {}).get("availableReplicas", 0))
        return _is_available(one)

    target.wait(DEPLOYMENT, "idle", _note)

    assert 2 == fewest
    path = r"jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}"
    assert "2" == kubectl(target, "get", "deployment", "idle", "-o", path)


def test_image_that_is_not_there_is_told(target: Target) -> None:
    """The pod waits, and says what for."""
    _apply(target, idle(target, image="nowhere.invalid/nothing:1"))

    def _is_told(one: dict[str, Any]) -> bool:
        statuses = one.get("status", {}).get("containerStatuses") or []
        reasons = {entry["state"].get("waiting", {}).get("reason") for entry in statuses}
        return bool(reasons & {"ErrImagePull", "ImagePullBackOff"})

    target.wait(DEPLOYMENT, "idle", lambda one: one.get("status", {}).get("replicas") == 1)
    (pod,) = _pods(target)
    target.wait(("v1", "Pod"), pod["metadata"]["name"], _is_told)


def test_process_that_ends_is_started_again(target: Target) -> None:
    """Later each time, and its last words are kept."""
    body = idle(target)
    body["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-c", "echo last words; exit 3"]
    _apply(target, body)
    target.wait(DEPLOYMENT, "idle", lambda one: one.get("status", {}).get("replicas") == 1)
    (pod,) = _pods(target)
    name = pod["metadata"]["name"]

    def _has_restarted(one: dict[str, Any]) -> bool:
        statuses = one.get("status", {}).get("containerStatuses") or [{}]
        return bool(statuses[0].get("restartCount", 0) >= 1)

    shown = target.wait(("v1", "Pod"), name, _has_restarted)

    assert 3 == shown["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"]
    assert "last words\n" == kubectl(target, "logs", name, "--previous")


def test_missing_secret_is_waited_for(target: Target) -> None:
    """The container is started once it is there."""
    body = idle(target)
    source = {"secretKeyRef": {"name": "later", "key": "a"}}
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "valueFrom": source}]
    _apply(target, body)
    target.wait(DEPLOYMENT, "idle", lambda one: one.get("status", {}).get("unavailableReplicas") == 1)
    kubectl(target, "create", "secret", "generic", "later", "--from-literal=a=b")

    target.wait(DEPLOYMENT, "idle", _is_available)


def test_lost_node_keeps_its_pod(cluster: SimCluster, target: Target) -> None:
    """Its pod stays Terminating, and Recreate starts no other, until the node is heard again."""
    cluster.images.add("idle:2", Image())
    _apply(target, idle(target, strategy={"type": "Recreate"}))
    target.wait(DEPLOYMENT, "idle", _is_available)
    cluster.call(cluster.kubelet.lose)
    try:
        kubectl(target, "set", "image", "deployment/idle", "app=idle:2")
        target.wait(DEPLOYMENT, "idle", lambda one: one["status"].get("terminatingReplicas") == 1)
        (pod,) = _pods(target)
    finally:
        cluster.call(cluster.kubelet.find)

    assert pod["metadata"]["deletionTimestamp"]
    target.wait(DEPLOYMENT, "idle", _is_available)
