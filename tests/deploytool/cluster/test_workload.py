"""A Deployment that Helm does not own, as a rollout sees and switches it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from deploytool.cluster import pods as pod_states
from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.resources import DEPLOYMENTS
from deploytool.cluster.workload import KubernetesWorkload, image_of, managers_of
from deploytool.rollout.errors import RefusedError, TransientError
from deploytool.rollout.journal import Journal
from tests.deploytool.cluster.test_lease import _Clock
from tests.simcluster.cluster import SimCluster
from tests.simcluster.identity import User
from tests.simcluster.images import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(60)

_JOURNAL = Journal("r", "web", "a", "", "idle:1", "idle:2")
_LABELS = {"app": "web"}


@pytest.fixture(scope="module")
def sim() -> Iterator[SimCluster]:
    """A cluster that is ten times as quick."""
    with SimCluster.start(rate=10.0) as sim:
        for tag in ("1", "2"):
            sim.images.add(f"idle:{tag}", Image())
        sim.images.add("idle:dies", Image())
        yield sim


@pytest.fixture
def cluster(sim: SimCluster) -> Iterator[Cluster]:
    """One Deployment in it, with an init container of the same image."""
    with Cluster.connect(kubeconfig_path=str(sim.kubeconfig()), limits=Limits(total_seconds=float("inf"))) as cluster:
        cluster.create(DEPLOYMENTS, _deployment())
        yield cluster
        cluster.delete(DEPLOYMENTS, "web")


def _deployment() -> dict[str, Any]:
    spec = {
        "terminationGracePeriodSeconds": 1,
        "initContainers": [{"name": "migrate", "image": "idle:1", "command": ["true"]}],
        "containers": [
            {"name": "side", "image": "idle:2", "command": ["sleep", "3600"]},
            {"name": "app", "image": "idle:1", "command": ["sleep", "3600"]},
        ],
    }
    annotations = {"kubectl.kubernetes.io/default-container": "app"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": _LABELS},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _LABELS},
            "template": {"metadata": {"labels": _LABELS, "annotations": annotations}, "spec": spec},
        },
    }


def _until(cluster: Cluster, workload: KubernetesWorkload, is_wanted: Callable[[Any], bool]) -> Any:  # noqa: ANN401 - objects as the API server has them
    """Look until it is as wanted; the cluster answers slowly enough for this not to be a busy loop."""
    began = cluster.clock.now()
    while not is_wanted(state := workload.observe()):
        assert cluster.clock.now() - began < 20.0, state
    return state


def test_image_is_switched_and_restored(cluster: Cluster) -> None:
    """One pod after the other, never two; the init container goes along."""
    workload = KubernetesWorkload(cluster, "web", _Clock())
    _until(cluster, workload, lambda state: state.is_serving("idle:1"))

    changes = workload.preflight("idle:2").changes
    done = workload.switch(_JOURNAL)
    seen: list[int] = []
    state = _until(
        cluster,
        workload,
        lambda state: seen.append(len(state.pods) + state.terminating) or state.is_serving("idle:2"),  # type: ignore[func-returns-value]  # a stand-in with the methods that are called
    )

    assert "patched idle:1 to idle:2" == done
    assert any(".containers[app].image: idle:1 -> idle:2" in one for one in changes)
    assert any("initContainers[migrate].image: idle:1 -> idle:2" in one for one in changes)
    assert max(seen) <= 1
    assert "deploytool" == state.manager
    workload.restore(_JOURNAL)
    _until(cluster, workload, lambda state: state.is_serving("idle:1"))


def test_image_that_is_not_there_is_known_soon(cluster: Cluster) -> None:
    """The second failure of the pull is enough; what the node says is shown."""
    workload = KubernetesWorkload(cluster, "web", _Clock())
    _until(cluster, workload, lambda state: state.is_serving("idle:1"))
    workload.switch(replace(_JOURNAL, new="idle:gone"))

    state = _until(cluster, workload, lambda state: bool(state.failure))

    assert "ImagePullBackOff" in state.failure or "ErrImagePull" in state.failure
    assert any(one.startswith("event: web-") for one in workload.diagnose())
    # Going back, the failure of the other image says nothing any more.
    workload.restore(replace(_JOURNAL, new="idle:gone"))
    _until(cluster, workload, lambda state: state.is_serving("idle:1"))


def test_what_somebody_else_asked_for_is_left_alone(cluster: Cluster) -> None:
    """The patch tests what it replaces."""
    workload = KubernetesWorkload(cluster, "web", _Clock())
    cluster.patch(
        DEPLOYMENTS, "web", [{"op": "replace", "path": "/spec/template/spec/containers/1/image", "value": "idle:9"}]
    )

    with pytest.raises(TransientError, match="it asks for idle:9 meanwhile"):
        workload.switch(_JOURNAL)
    assert "idle:9" == image_of(cluster.get(DEPLOYMENTS, "web"))


def test_pod_that_does_not_go_is_lost_by_our_own_clock(cluster: Cluster) -> None:
    """Whatever the cluster's clocks say."""
    clock = _Clock()
    workload = KubernetesWorkload(cluster, "web", clock)
    pod = {
        "metadata": {"name": "web-1", "uid": "u", "deletionTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"nodeName": "n1"},
    }

    assert "" == workload._lost({**pod, "metadata": {**pod["metadata"], "deletionGracePeriodSeconds": 30}})
    clock.at += 89.0
    assert "" == workload._lost(pod)
    clock.at += 1.0
    assert "pod web-1 on n1 was told to end 90 s ago" in workload._lost(pod)


def test_strategy_that_starts_a_second_pod_is_refused(cluster: Cluster) -> None:
    """Before anything is changed."""
    cluster.patch(DEPLOYMENTS, "web", {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": None}}})

    with pytest.raises(RefusedError, match="has the strategy RollingUpdate"):
        KubernetesWorkload(cluster, "web", _Clock()).preflight("idle:2")


def test_missing_rights_are_named_all_at_once(cluster: Cluster, sim: SimCluster) -> None:
    """A person who may only read."""
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]},
    ]
    role, binding = _rights(rules)
    cluster.create(_resource("roles", "Role"), role)
    cluster.create(_resource("rolebindings", "RoleBinding"), binding)
    with Cluster.connect(kubeconfig_path=str(sim.kubeconfig(User("eve@example.org")))) as eve:
        workload = KubernetesWorkload(eve, "web", _Clock(), admin_service="web:admin")
        with pytest.raises(RefusedError) as caught:
            workload.preflight("idle:2")

    said = str(caught.value)
    assert "patch leases of coordination.k8s.io web-rollout" in said
    assert "create leases of coordination.k8s.io" in said
    assert "patch deployments of apps web" in said
    assert "create services/proxy web:admin" in said
    assert "list pods" not in said


def _resource(plural: str, kind: str) -> Any:  # noqa: ANN401 - of the tool
    return replace(DEPLOYMENTS, group="rbac.authorization.k8s.io", plural=plural, kind=kind)


def _rights(rules: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    api = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": "eve"}, "rules": rules}
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "eve"},
        "roleRef": {"apiGroup": api, "kind": "Role", "name": "eve"},
        "subjects": [{"kind": "User", "name": "eve@example.org", "apiGroup": api}],
    }
    return role, binding


# Pure parts.


@pytest.mark.parametrize(
    ("status", "seconds", "said"),
    [
        ({}, 0.0, ""),
        ({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}}]}, 0.0, ""),
        ({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ErrImagePull"}}}]}, 0.0, ""),
        (
            {
                "containerStatuses": [
                    {"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "x"}}}
                ]
            },
            0.0,
            "container app of pod web-1: ImagePullBackOff: x",
        ),
        (
            {"initContainerStatuses": [{"name": "migrate", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            0.0,
            "container migrate of pod web-1: CrashLoopBackOff",
        ),
        (
            {"containerStatuses": [{"name": "app", "restartCount": 3, "ready": False}]},
            0.0,
            "container app of pod web-1 was restarted 3 times",
        ),
        ({"containerStatuses": [{"name": "app", "restartCount": 3, "ready": True}]}, 0.0, ""),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}]}, 30.0, ""),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}]},
            60.0,
            "pod web-1 finds no node: no room",
        ),
    ],
)
def test_failure_of_a_pod(status: dict[str, Any], seconds: float, said: str) -> None:
    """What will not mend itself, and what may."""
    assert said == pod_states.failure_of({"metadata": {"name": "web-1"}, "status": status}, seconds)


def test_managers_are_those_of_the_field() -> None:
    """The one who wrote last at the end; who owns something else is none."""
    path = ("f:spec", "f:image")
    fields: dict[str, Any] = {"f:spec": {"f:image": {}}}
    entries = [
        {"manager": "kubectl", "time": "2026-01-02T00:00:00Z", "fieldsV1": fields},
        {"manager": "helm", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields},
        {"manager": "other", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]

    assert ("helm", "kubectl") == managers_of({"metadata": {"managedFields": entries}}, path)
