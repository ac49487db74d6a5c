from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from kubernetes.dynamic.exceptions import ConflictError

from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import Target
from tests.simcluster_tests.manifests import DEPLOYMENT, idle

pytestmark = pytest.mark.e2e


def _apply(target: Target, body: dict[str, Any], manager: str, *, is_forced: bool = False) -> Any:  # noqa: ANN401 - an object as the API server has it
    client = target.client()
    resource = client.resources.get(api_version=DEPLOYMENT[0], kind=DEPLOYMENT[1])
    options = {"field_manager": manager, "force_conflicts": is_forced}
    return client.server_side_apply(resource, body=body, name="idle", namespace=target.namespace, **options).to_dict()


def test_conflict_names_the_manager_and_the_field(target: Target) -> None:
    """Two managers want another image: the second hears of the first."""
    _apply(target, idle(target, replicas=0), "first")
    other = idle(target, replicas=0, image="other:1")

    with pytest.raises(ConflictError) as caught:
        _apply(target, other, "second")

    (cause,) = json.loads(caught.value.body)["details"]["causes"]
    assert 'conflict with "first"' == cause["message"]
    assert '.spec.template.spec.containers[name="app"].image' == cause["field"]


def test_force_takes_the_field_and_no_more(target: Target) -> None:
    """Who is forced out keeps the rest."""
    _apply(target, idle(target, replicas=0), "first")
    taken = _apply(target, idle(target, replicas=0, image="other:1"), "second", is_forced=True)

    images = {
        entry["manager"]: "f:image" in str(entry["fieldsV1"])
        for entry in taken["metadata"]["managedFields"]
        if entry["operation"] == "Apply"
    }
    assert {"first": False, "second": True} == images


def test_owner_that_is_taken_off_the_list_owns_nothing(target: Target) -> None:
    """Whoever writes the list has that say; nothing else changes, and the next apply conflicts no more."""
    first = _apply(target, idle(target, replicas=0), "first")
    patch = [
        {"op": "test", "path": "/metadata/managedFields/0/manager", "value": "first"},
        {"op": "remove", "path": "/metadata/managedFields/0"},
        {"op": "add", "path": "/metadata/managedFields/-", "value": {**_entry(first), "manager": "third"}},
    ]
    kubectl(target, "patch", "deployment", "idle", "--type=json", f"--patch={json.dumps(patch)}")

    with pytest.raises(ConflictError) as caught:
        _apply(target, idle(target, replicas=0, image="other:1"), "second")

    assert {'conflict with "third"'} == {one["message"] for one in json.loads(caught.value.body)["details"]["causes"]}


def _entry(one: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = one["metadata"]["managedFields"][0]
    return found


def test_field_that_is_no_longer_applied_goes(target: Target) -> None:
    """Unless another owns it too."""
    body = idle(target, replicas=0)
    body["metadata"]["annotations"] = {"mine": "1", "ours": "1"}
    _apply(target, body, "first")
    ours = copy.deepcopy(body)
    ours["metadata"]["annotations"] = {"ours": "1"}
    _apply(target, ours, "second")
    none = copy.deepcopy(body)
    del none["metadata"]["annotations"]
    left = _apply(target, none, "first")

    annotations = left["metadata"]["annotations"]
    assert ("1", None) == (annotations.get("ours"), annotations.get("mine"))


def test_same_again_changes_nothing(target: Target) -> None:
    """No new version, no new generation."""
    first = _apply(target, idle(target, replicas=0, paused=True), "first")
    again = _apply(target, idle(target, replicas=0, paused=True), "first")

    assert first["metadata"]["generation"] == again["metadata"]["generation"]


def test_item_that_is_no_longer_applied_goes_whole(target: Target) -> None:
    """As a variable of the environment that a chart no longer sets; its neighbours stay."""
    body = idle(target, replicas=0)
    container = body["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": name, "value": "1"} for name in ("A", "D", "Z")]
    _apply(target, body, "first")
    container["env"] = [{"name": name, "value": "1"} for name in ("A", "Z")]
    left = _apply(target, body, "first")

    assert container["env"] == left["spec"]["template"]["spec"]["containers"][0]["env"]
