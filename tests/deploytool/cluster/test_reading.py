from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.errors import AnswerError, NotServedError, UnreachableError
from deploytool.cluster.resources import CONFIG_MAPS, DAEMON_SETS, SCALED_OBJECTS
from deploytool.cluster.snapshot import Release, find, read_objects, try_scale
from deploytool.model.observations import ScaleTrial, Unseen
from tests.simcluster.cluster import SimCluster
from tests.simcluster.faults import Fault
from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import Target, open_target
from tests.simcluster_tests.manifests import idle

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimCluster]:
    """One without add-ons."""
    with SimCluster.start(rate=10.0, without=["keda.sh", "gateway.networking.k8s.io"]) as cluster:
        yield cluster


@pytest.fixture
def target(cluster: SimCluster) -> Iterator[Target]:
    """A namespace with a workload that has to stay single, and nothing else of ours."""
    with open_target(cluster) as target:
        one = idle(target, replicas=0)
        one["metadata"]["labels"]["slackwater.dev/guard"] = "true"
        kubectl(target, "apply", "-f", "-", stdin=json.dumps(one))
        yield target
        cluster.faults.clear()


@pytest.fixture
def client(target: Target) -> Iterator[Cluster]:
    """A client that reads two objects at a time."""
    limits = Limits(page_items=2, pages=2)
    with Cluster.connect(kubeconfig_path=str(target.kubeconfig), namespace=target.namespace, limits=limits) as client:
        yield client


@pytest.fixture
def release(client: Cluster) -> Release:
    """The workload."""
    return find(client, "")


def test_list_that_has_no_end_is_cut_and_said_to_be(client: Cluster, target: Target) -> None:
    """Two pages of two are read."""
    for number in range(5):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"a{number}", "labels": {"x": "y"}}}
        kubectl(target, "apply", "-f", "-", stdin=json.dumps(body))

    whole = client.all(CONFIG_MAPS, labels="x=none")
    cut = client.all(CONFIG_MAPS, labels="x=y")

    assert (0, True) == (len(whole.items), whole.is_complete)
    assert (4, False) == (len(cut.items), cut.is_complete)
    assert {"ConfigMap"} == {one["kind"] for one in cut.items}


def test_absent_kind_is_no_object_and_no_gap(client: Cluster, release: Release) -> None:
    """A cluster without an add-on has none of its objects."""
    with pytest.raises(NotServedError):
        client.all(SCALED_OBJECTS)

    assert {} == read_objects(client, release).unread


def test_forbidden_kind_of_an_absent_add_on_is_no_gap(cluster: SimCluster, client: Cluster, release: Release) -> None:
    """A real API server judges rights before it looks whether the kind is there."""
    cluster.faults.add(Fault("GET", "/scaledobjects$", 403))
    cluster.faults.add(Fault("GET", f"/{DAEMON_SETS.plural}$", 403))

    assert {"DaemonSet"} == read_objects(client, release).unread.keys()


def test_dry_run_that_is_let_through_is_no_refusal(client: Cluster, release: Release, target: Target) -> None:
    """Without a policy; and nothing was scaled."""
    trial = try_scale(client, release.name)

    assert isinstance(trial, ScaleTrial)
    assert not trial.refused
    assert "0" == kubectl(target, "get", "deployment", "idle", "-o", "jsonpath={.spec.replicas}")


def test_dry_run_that_is_forbidden_is_not_seen(cluster: SimCluster, client: Cluster, release: Release) -> None:
    """A missing right is no policy."""
    cluster.faults.add(Fault("PATCH", "/scale$", 403))
    trial = try_scale(client, release.name)

    assert isinstance(trial, Unseen)
    assert "deployments/scale" in trial.way_out


def test_busy_server_is_asked_again_once(cluster: SimCluster, client: Cluster) -> None:
    """When it said to; a second refusal is the answer."""
    cluster.faults.add(Fault("GET", "/configmaps$", 429, retry_after_seconds=0))
    found = client.all(CONFIG_MAPS)
    cluster.faults.add(Fault("GET", "/configmaps$", 429, retry_after_seconds=0, times=2))
    with pytest.raises(AnswerError, match="answered 429"):
        client.all(CONFIG_MAPS)

    assert found.is_complete
    assert 4 == client.calls


def test_connection_that_is_cut_is_a_sentence(cluster: SimCluster, client: Cluster) -> None:
    """Whatever was under way is not known, and is not done again by itself."""
    cluster.faults.add(Fault("GET", "/configmaps$", is_cut=True))
    with pytest.raises(UnreachableError, match="cannot be reached"):
        client.all(CONFIG_MAPS)

    assert 1 == client.calls
