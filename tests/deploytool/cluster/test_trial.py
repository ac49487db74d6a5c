"""The pod of a trial, and what its end means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploytool.cluster.trial import judged, trial_pod
from deploytool.rollout.errors import RefusedError

_ANSWER = {
    "trial": 1,
    "version": "1.4",
    "code_level": 2,
    "oldest_level": 1,
    "migrates": True,
    "database": {"kind": "postgres", "level": 1, "oldest_level": 1},
}
_OVER = {"status": {"phase": "Succeeded"}}


def _deployment() -> dict[str, Any]:
    container = {
        "name": "slackwater",
        "image": "web:2",
        "command": ["tini"],
        "args": ["serve"],
        "env": [{"name": "A", "value": "b"}],
        "ports": [{"containerPort": 3000, "hostPort": 3000}],
        "livenessProbe": {},
        "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}},
        "securityContext": {"runAsNonRoot": True},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    template = {
        "metadata": {"labels": {"app": "web", "team": "chat"}, "annotations": {"note": "kept"}},
        "spec": {
            "serviceAccountName": "web",
            "initContainers": [{"name": "migrate", "args": ["migrate"]}],
            "containers": [container, {"name": "sidecar", "image": "envoy"}],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "web"}},
                {"name": "names", "configMap": {"name": "web"}},
            ],
        },
    }
    return {
        "metadata": {"name": "web", "uid": "u1"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


def test_pod_is_found_by_nobody_and_writes_on_nobodys_volume() -> None:
    """It has the settings of the one that would be asked for, and little else."""
    deployment = _deployment()
    pod = trial_pod(deployment, deployment["spec"]["template"], "r1", node="n1")

    meta, spec = pod["metadata"], pod["spec"]
    assert "web-trial" == meta["name"]
    assert {"team": "chat", "slackwater.dev/rollout": "r1", "app.kubernetes.io/managed-by": "deploytool"} == meta[
        "labels"
    ]
    assert [("Deployment", "u1")] == [(one["kind"], one["uid"]) for one in meta["ownerReferences"]]
    assert not any(one.get("controller") for one in meta["ownerReferences"])
    assert ["slackwater"] == [one["name"] for one in spec["containers"]]
    container = spec["containers"][0]
    assert ["trial"] == container["args"]
    assert not {"command", "ports", "livenessProbe"} & container.keys()
    assert ([{"name": "A", "value": "b"}], {"runAsNonRoot": True}) == (container["env"], container["securityContext"])
    assert {"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}} == container["resources"]
    assert [{"name": "data", "emptyDir": {}}, {"name": "names", "configMap": {"name": "web"}}] == spec["volumes"]
    assert ("Never", [], 300) == (spec["restartPolicy"], spec["initContainers"], spec["activeDeadlineSeconds"])
    wishes = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert ["n1"] == wishes[0]["preference"]["matchExpressions"][0]["values"]
    # What it was made from is as it was.
    assert _deployment() == deployment


def _judged(changes: dict[str, Any] | None = None, *, old_level: int | None = 1, is_migrated: bool = True) -> str:
    lines = ["starting", json.dumps({**_ANSWER, **(changes or {})}), "a line that came late"]
    return "; ".join(judged(_OVER, lines, old_level=old_level, is_migrated=is_migrated))


def test_says_what_would_happen_to_the_database() -> None:
    """Whatever it is."""
    assert "from schema level 1 to 2" in _judged()
    assert "nothing to migrate" in _judged({"database": {"kind": "postgres", "level": 2, "oldest_level": 1}})
    assert "was not looked at" in _judged({"database": {"kind": "sqlite", "level": None, "oldest_level": None}})
    assert "the new image starts: version 1.4" == _judged({"database": None, "oldest_level": 2})
    assert "warning: the running version does not say its schema level" in _judged(old_level=None)
    assert "from schema level 1 to 2" in _judged({"migrates": False})
    assert "from schema level 1 to 2" in _judged(is_migrated=False)


@pytest.mark.parametrize(
    ("changes", "is_migrated", "problem"),
    [
        pytest.param({"oldest_level": 2}, True, "there would be no way back", id="barred"),
        pytest.param({"migrates": False}, False, "nothing migrates", id="nobody-migrates"),
        pytest.param({"trial": 2}, True, "the trial of the new image failed: starting", id="another-answer"),
        pytest.param({"code_level": None}, True, "the trial of the new image failed", id="garbage"),
    ],
)
def test_refuses(changes: dict[str, Any], is_migrated: bool, problem: str) -> None:  # noqa: FBT001 - of the table
    """What must not be switched to."""
    with pytest.raises(RefusedError, match=problem):
        _judged(changes, is_migrated=is_migrated)


@pytest.mark.parametrize(
    ("status", "lines", "problem"),
    [
        ({"phase": "Failed"}, ["no such file"], "failed: no such file"),
        ({"phase": "Failed"}, ["Error: No such command 'trial'."], "It knows no `trial`"),
        (
            {
                "phase": "Failed",
                "containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}],
            },
            [],
            "it ended with 137: OOMKilled",
        ),
        ({"phase": "Failed", "message": "evicted: the node was low on memory"}, [], "evicted"),
        ({"phase": "Failed"}, [json.dumps(_ANSWER)], "the trial of the new image failed"),
        ({"phase": "Succeeded"}, ["{" * 100_000], "the trial of the new image failed"),
    ],
)
def test_end_without_an_answer_is_a_refusal(status: dict[str, Any], lines: list[str], problem: str) -> None:
    """With what it said last, and the way out."""
    with pytest.raises(RefusedError, match=problem) as refused:
        judged({"status": status}, lines, old_level=1, is_migrated=True)
    assert "--no-trial" in str(refused.value)
