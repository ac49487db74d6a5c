from __future__ import annotations

import json

import pytest

from tests.simcluster.kubectl import kubectl, refused
from tests.simcluster.target import Target
from tests.simcluster_tests.manifests import DEPLOYMENT, idle

pytestmark = pytest.mark.e2e


def test_apply_merges_what_changed(target: Target) -> None:
    """A second apply changes a list's item by its name, and leaves what others set."""
    first, second = idle(target, replicas=0), idle(target, replicas=0)
    app = first["spec"]["template"]["spec"]["containers"][0]
    app["env"] = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    second["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "3"}]
    kubectl(target, "apply", "-f", "-", stdin=json.dumps(first))
    kubectl(target, "annotate", "deployment/idle", "by=somebody")
    kubectl(target, "apply", "-f", "-", stdin=json.dumps(second))

    got = json.loads(kubectl(target, "get", "deployment", "idle", "-o", "json"))
    assert [{"name": "A", "value": "3"}] == got["spec"]["template"]["spec"]["containers"][0]["env"]
    assert "somebody" == got["metadata"]["annotations"]["by"]


def test_get_prints_a_table(target: Target) -> None:
    """With the columns of its kind."""
    kubectl(target, "apply", "-f", "-", stdin=json.dumps(idle(target, replicas=0)))

    printed = kubectl(target, "get", "deployments")

    assert ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"] == printed.splitlines()[0].split()


def test_scale_and_delete(target: Target) -> None:
    """The scale goes by the subresource; what was deleted is gone when the command ends."""
    kubectl(target, "apply", "-f", "-", stdin=json.dumps(idle(target, replicas=0)))
    kubectl(target, "scale", "deployment/idle", "--replicas=2")
    target.wait(DEPLOYMENT, "idle", lambda one: one.get("status", {}).get("replicas") == 2)
    kubectl(target, "delete", "deployment", "idle")

    assert "NotFound" in refused(target, "get", "deployment", "idle")


def test_diff_shows_and_keeps_nothing(target: Target) -> None:
    """The dry run of the server is what it shows."""
    kubectl(target, "apply", "-f", "-", stdin=json.dumps(idle(target, replicas=0)))
    before = kubectl(target, "get", "deployment", "idle", "-o", "jsonpath={.metadata.resourceVersion}")
    kubectl(target, "apply", "--dry-run=server", "-f", "-", stdin=json.dumps(idle(target, image="other:1")))

    assert before == kubectl(target, "get", "deployment", "idle", "-o", "jsonpath={.metadata.resourceVersion}")


def test_caller_is_known(target: Target) -> None:
    """The reviews answer kubectl, too."""
    assert "Username" in kubectl(target, "auth", "whoami")
    assert "yes" in kubectl(target, "auth", "can-i", "delete", "pods")
