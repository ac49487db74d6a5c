from __future__ import annotations

import json

import pytest
from kubernetes import client, config, watch
from kubernetes.client import ApiException

from tests.simcluster.cluster import SimCluster
from tests.simcluster.kubectl import refused
from tests.simcluster.target import Target
from tests.simcluster_tests.manifests import idle

pytestmark = pytest.mark.e2e

_KIND = {"apiVersion": "v1", "kind": "ConfigMap"}


@pytest.fixture
def core(target: Target) -> client.CoreV1Api:
    """The official client's core API."""
    return client.CoreV1Api(config.new_client_from_config(str(target.kubeconfig)))


def _map(name: str, **data: str) -> dict[str, object]:
    return {**_KIND, "metadata": {"name": name, "labels": {"of": name}}, "data": data}


def test_object_is_made_read_changed_and_deleted(core: client.CoreV1Api, target: Target) -> None:
    """The life of an object, with a version for each change."""
    made = core.create_namespaced_config_map(target.namespace, _map("a", k="1"))
    changed = core.patch_namespaced_config_map("a", target.namespace, {"data": {"k": "2"}})
    core.delete_namespaced_config_map("a", target.namespace)

    assert made.metadata.uid == changed.metadata.uid
    assert made.metadata.resource_version != changed.metadata.resource_version
    assert changed.data == {"k": "2"}
    with pytest.raises(ApiException) as caught:
        core.read_namespaced_config_map("a", target.namespace)
    assert caught.value.status == 404


def test_stale_write_is_a_conflict(core: client.CoreV1Api, target: Target) -> None:
    """Of two writers who read the same version, the second is refused."""
    stale = core.create_namespaced_config_map(target.namespace, _map("a", k="1"))
    core.patch_namespaced_config_map("a", target.namespace, {"data": {"k": "2"}})

    with pytest.raises(ApiException) as caught:
        core.replace_namespaced_config_map("a", target.namespace, stale)

    assert caught.value.status == 409


def test_json_patch_with_a_failed_test_changes_nothing(core: client.CoreV1Api, target: Target) -> None:
    """The guard of a compare-and-swap holds."""
    core.create_namespaced_config_map(target.namespace, _map("a", k="1"))
    patch = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "replace", "path": "/data/k", "value": "2"},
    ]

    with pytest.raises(ApiException) as caught:
        core.patch_namespaced_config_map("a", target.namespace, patch)

    assert caught.value.status in (409, 422)
    assert core.read_namespaced_config_map("a", target.namespace).data == {"k": "1"}


def test_dry_run_judges_and_keeps_nothing(core: client.CoreV1Api, target: Target) -> None:
    """The answer is there, the object is not."""
    made = core.create_namespaced_config_map(target.namespace, _map("a", k="1"), dry_run="All")

    assert made.data == {"k": "1"}
    assert [] == core.list_namespaced_config_map(target.namespace, label_selector="of=a").items


def test_watch_tells_each_change_from_a_version_on(core: client.CoreV1Api, target: Target) -> None:
    """Changes between the list and the watch are not lost, and other objects not told."""
    version = core.list_namespaced_config_map(target.namespace).metadata.resource_version
    for name in ("a", "b"):
        core.create_namespaced_config_map(target.namespace, _map(name, k="1"))
    core.patch_namespaced_config_map("a", target.namespace, {"data": {"k": "2"}})
    core.patch_namespaced_config_map("a", target.namespace, {"metadata": {"labels": {"of": "nobody"}}})

    told = []
    stream = watch.Watch()
    for event in stream.stream(
        core.list_namespaced_config_map,
        target.namespace,
        label_selector="of=a",
        resource_version=version,
        timeout_seconds=20,
    ):
        told.append(event["type"])
        if event["type"] == "DELETED":
            stream.stop()

    assert told == ["ADDED", "MODIFIED", "DELETED"]


def test_list_comes_in_pages(core: client.CoreV1Api, target: Target) -> None:
    """A token leads from one page to the next."""
    for number in range(5):
        core.create_namespaced_config_map(target.namespace, _map(f"page-{number}", k="1"))
    found: list[str] = []
    token = None
    while token != "":
        page = core.list_namespaced_config_map(target.namespace, limit=2, _continue=token)
        found += [one.metadata.name for one in page.items]
        token = page.metadata._continue or ""

    assert [f"page-{number}" for number in range(5)] == [name for name in found if name.startswith("page-")]


def test_scale_is_read_and_set(core: client.CoreV1Api, target: Target) -> None:
    """The generation counts a change of the scale, and not one of a label."""
    apps = client.AppsV1Api(core.api_client)
    apps.create_namespaced_deployment(target.namespace, idle(target, replicas=0))
    scaled = apps.patch_namespaced_deployment_scale("idle", target.namespace, {"spec": {"replicas": 0}})
    apps.patch_namespaced_deployment("idle", target.namespace, {"metadata": {"labels": {"a": "b"}}})
    before = apps.read_namespaced_deployment("idle", target.namespace).metadata.generation
    apps.patch_namespaced_deployment("idle", target.namespace, {"spec": {"paused": True}})

    assert scaled.spec.replicas in (0, None)
    assert (1, 2) == (before, apps.read_namespaced_deployment("idle", target.namespace).metadata.generation)


def test_caller_learns_who_it_is_and_what_it_may(core: client.CoreV1Api, target: Target) -> None:
    """The self-subject reviews answer."""
    who = client.AuthenticationV1Api(core.api_client).create_self_subject_review({})
    asked = {"spec": {"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": target.namespace}}}
    may = client.AuthorizationV1Api(core.api_client).create_self_subject_access_review(asked)

    assert who.status.user_info.username
    assert may.status.allowed


def test_list_can_be_watched(core: client.CoreV1Api, target: Target) -> None:
    """WatchList: what is there comes first, and a bookmark says where it ends."""
    core.create_namespaced_config_map(target.namespace, _map("a", k="1"))
    stream = core.list_namespaced_config_map(
        target.namespace,
        watch=True,
        send_initial_events=True,
        allow_watch_bookmarks=True,
        resource_version_match="NotOlderThan",
        label_selector="of=a",
        _preload_content=False,
        _request_timeout=20,
    )
    try:
        lines = b""
        for piece in stream:
            lines += piece
            if b"initial-events-end" in lines:
                break
    finally:
        stream.close()
    events = [json.loads(line) for line in lines.splitlines()]

    assert ["ADDED", "BOOKMARK"] == [event["type"] for event in events]


def test_what_is_not_served_is_said_to_be(cluster: SimCluster, target: Target) -> None:
    """A gap of the simulation is never mistaken for an answer of a server."""
    text = refused(target, "get", "--raw", "/metrics")

    assert "the simulated cluster does not serve /metrics" in text
    assert any(one.path == "/metrics" for one in cluster.socket.seen)
