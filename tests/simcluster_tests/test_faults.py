from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

import pytest
from kubernetes import client, config, watch
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError, ProtocolError

from tests.simcluster.cluster import SimCluster
from tests.simcluster.faults import Fault
from tests.simcluster.identity import User
from tests.simcluster.kubectl import kubectl, refused
from tests.simcluster.target import Target

pytestmark = pytest.mark.e2e

_MAP = {"metadata": {"name": "a"}, "data": {"k": "1"}}


@pytest.fixture
def core(cluster: SimCluster, target: Target) -> Iterator[client.CoreV1Api]:
    """A client that never tries again; every fault is taken back at the end."""
    configuration = client.Configuration()
    config.load_kube_config(str(target.kubeconfig), client_configuration=configuration)
    configuration.retries = False
    yield client.CoreV1Api(client.ApiClient(configuration))
    cluster.faults.clear()


@pytest.mark.parametrize("code", [409, 410, 429, 500])
def test_refusal_is_answered_once(cluster: SimCluster, core: client.CoreV1Api, target: Target, code: int) -> None:
    """The first request is refused, with the headers of the refusal, and nothing was done."""
    cluster.faults.add(Fault("POST", "/configmaps$", code, retry_after_seconds=3))

    with pytest.raises(ApiException) as caught:
        core.create_namespaced_config_map(target.namespace, _MAP)
    core.create_namespaced_config_map(target.namespace, _MAP)

    assert (code, "3") == (caught.value.status, caught.value.headers["Retry-After"])


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_connection_is_cut(cluster: SimCluster, core: client.CoreV1Api, target: Target, *, is_after: bool) -> None:
    """Before the work is done, or after: the client cannot tell."""
    cluster.faults.add(Fault("POST", "/configmaps$", is_cut=True, is_after=is_after))

    with pytest.raises((HTTPError, OSError)):
        core.create_namespaced_config_map(target.namespace, _MAP)

    names = [one.metadata.name for one in core.list_namespaced_config_map(target.namespace).items]
    assert is_after is ("a" in names)


def test_server_that_hangs_runs_into_the_clients_limit(
    cluster: SimCluster, core: client.CoreV1Api, target: Target
) -> None:
    """No answer comes."""
    cluster.faults.add(Fault("GET", "/configmaps$", is_hanging=True))

    with pytest.raises(HTTPError):
        core.list_namespaced_config_map(target.namespace, _request_timeout=0.3)


def test_watch_from_a_forgotten_version_is_told_410(
    cluster: SimCluster, core: client.CoreV1Api, target: Target
) -> None:
    """The history is gone: the client has to list again."""
    version = core.list_namespaced_config_map(target.namespace).metadata.resource_version
    core.create_namespaced_config_map(target.namespace, _MAP)
    cluster.call(cluster.store.compact)

    with pytest.raises(ApiException) as caught:
        list(
            watch.Watch().stream(
                core.list_namespaced_config_map, target.namespace, resource_version=version, timeout_seconds=5
            )
        )

    assert 410 == caught.value.status


def test_watch_that_is_cut_ends(cluster: SimCluster, core: client.CoreV1Api, target: Target) -> None:
    """As when a load balancer closes it."""
    core.create_namespaced_config_map(target.namespace, _MAP)
    stream = core.list_namespaced_config_map(target.namespace, watch=True, _preload_content=False, _request_timeout=20)
    first = next(iter(stream))
    for one in tuple(cluster.api.watches):
        cluster.call(one.cut)

    assert b"ADDED" in first
    with contextlib.suppress(ProtocolError):
        assert b"" == stream.read()


def test_bookmarks_tell_how_far_a_watch_is(cluster: SimCluster, core: client.CoreV1Api, target: Target) -> None:
    """Whoever asks for them gets them while nothing happens."""
    cluster.api.bookmark_seconds = 0.05
    stream = core.list_namespaced_config_map(
        target.namespace,
        watch=True,
        allow_watch_bookmarks=True,
        resource_version=core.list_namespaced_config_map(target.namespace).metadata.resource_version,
        _preload_content=False,
        _request_timeout=20,
    )
    try:
        first = next(iter(stream))
    finally:
        stream.close()
        cluster.api.bookmark_seconds = 15.0

    assert b'"BOOKMARK"' in first


def test_forbidden_verb_is_named(cluster: SimCluster, target: Target) -> None:
    """A user without a role is told verb, resource and namespace; a Role lets it through."""
    someone = User("someone")
    theirs = Target(
        cluster.kubeconfig(someone, namespace=target.namespace),
        target.namespace,
        target.folder,
        target.image,
        target.other_image,
    )
    text = refused(theirs, "get", "pods")
    group = "rbac.authorization.k8s.io"
    meta = {"apiVersion": f"{group}/v1", "metadata": {"name": "reader"}}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    reference = {"apiGroup": group, "kind": "Role", "name": "reader"}
    subjects = [{"apiGroup": group, "kind": "User", "name": "someone"}]
    for body in (
        {**meta, "kind": "Role", "rules": rules},
        {**meta, "kind": "RoleBinding", "roleRef": reference, "subjects": subjects},
    ):
        kubectl(target, "apply", "-f", "-", stdin=json.dumps(body))

    assert f'User "someone" cannot list resource "pods" in API group "" in the namespace "{target.namespace}"' in text
    kubectl(theirs, "get", "pods")
    assert "cannot delete" in refused(theirs, "delete", "pod", "any")


async def test_store_writes_belong_to_the_thread_of_the_cluster(cluster: SimCluster) -> None:
    """A test's own loop is another than the cluster's."""
    theirs = await asyncio.to_thread(cluster.call, asyncio.get_running_loop)

    assert theirs is not asyncio.get_running_loop()
