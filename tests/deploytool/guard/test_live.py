"""The guard as a process of its own, on kopf and a cluster."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.deploytool.guard.process import LABEL, deploytool, events_of, guarding
from tests.simcluster.cluster import SimCluster
from tests.simcluster.faults import Fault
from tests.simcluster.identity import User
from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import Target
from tests.simcluster_tests.manifests import DEPLOYMENT, idle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

STATEFUL_SET = ("apps/v1", "StatefulSet")


def guarded(target: Target, *, replicas: int = 1) -> dict[str, Any]:
    """Return a Deployment that is to be guarded."""
    one = idle(target, replicas=replicas)
    one["metadata"]["labels"] |= LABEL
    return one


def stateful(target: Target, *, replicas: int = 1) -> dict[str, Any]:
    """Return a StatefulSet that is to be guarded."""
    one = guarded(target, replicas=replicas)
    one["spec"].pop("strategy", None)
    return one | {"kind": "StatefulSet", "spec": one["spec"] | {"serviceName": "idle"}}


def autoscaler(most: int, *, kind: str = "Deployment") -> dict[str, Any]:
    """Return an autoscaler of it."""
    target = {"apiVersion": "apps/v1", "kind": kind, "name": "idle"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "eager"},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": most},
    }


def apply(target: Target, *objects: dict[str, Any]) -> None:
    """Apply manifests as kubectl does."""
    kubectl(target, "apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


def replicas(target: Target, kind: str = "deployment") -> str:
    """Return the count that is asked for."""
    return kubectl(target, "get", kind, "idle", "-o", "jsonpath={.spec.replicas}")


def is_one(one: dict[str, Any]) -> bool:
    """Tell whether a changed workload asks for one."""
    return bool(one["metadata"]["generation"] >= 3 and one["spec"]["replicas"] == 1)


def test_scaled_up_is_undone_with_an_event(target: Target) -> None:
    """Within five seconds; nothing of the guard stays on the object, so it can go while the guard is stopped."""
    apply(target, guarded(target))
    with guarding(target) as guard:
        guard.wait_for("guard.leave Deployment idle is scaled to 1")
        began = time.monotonic()  # noqa: TID251 - how long a real process takes
        kubectl(target, "scale", "deployment/idle", "--replicas=3")
        held = target.wait(DEPLOYMENT, "idle", is_one)
        told = events_of(target, "ReplicasSetBack")
        took = time.monotonic() - began  # noqa: TID251 - ditto

    assert took < 5
    assert "Deployment idle was scaled to 3 by kubectl (by way of scale)" in told["message"]
    assert ("Warning", "idle") == (told["type"], told["involvedObject"]["name"])
    assert not held["metadata"].get("finalizers")
    assert not any("kopf" in key for key in held["metadata"].get("annotations", {}))
    kubectl(target, "delete", "deployment", "idle", "--timeout=20s")


@pytest.mark.slow
def test_statefulset_is_held_too(target: Target) -> None:
    """What carries the label is guarded, and what does not is not."""
    other = idle(target) | {"metadata": {"name": "other", "labels": {"app": "idle"}}}
    apply(target, stateful(target), other)
    with guarding(target) as guard:
        guard.wait_for("guard.leave StatefulSet idle")
        kubectl(target, "scale", "deployment/other", "--replicas=2")
        kubectl(target, "scale", "statefulset/idle", "--replicas=3")
        target.wait(STATEFUL_SET, "idle", is_one)

    assert "2" == kubectl(target, "get", "deployment", "other", "-o", "jsonpath={.spec.replicas}")
    assert 0 == guard.count("other")


@pytest.mark.slow
def test_what_was_wrong_before_is_set_right(target: Target) -> None:
    """At the start, and when the label comes."""
    bare = idle(target, replicas=2) | {"metadata": {"name": "other", "labels": {"app": "idle"}}}
    apply(target, guarded(target, replicas=3), bare)
    with guarding(target) as guard:
        target.wait(DEPLOYMENT, "idle", lambda one: one["spec"]["replicas"] == 1)
        kubectl(target, "label", "deployment/other", "slackwater.dev/guard=true")
        target.wait(DEPLOYMENT, "other", lambda one: one["spec"]["replicas"] == 1)
        kubectl(target, "label", "deployment/other", "slackwater.dev/guard-")
        guard.wait_for("guard.lost Deployment other")


@pytest.mark.slow
def test_zero_stays(target: Target) -> None:
    """Whatever it was before, and for as long as somebody wants it."""
    apply(target, guarded(target))
    with guarding(target) as guard:
        guard.wait_for("guard.leave Deployment idle is scaled to 1")
        kubectl(target, "scale", "deployment/idle", "--replicas=0")
        guard.wait_for("guard.leave Deployment idle is scaled to 0")
        kubectl(target, "scale", "deployment/idle", "--replicas=2")
        target.wait(DEPLOYMENT, "idle", lambda one: one["spec"]["replicas"] == 1)
        kubectl(target, "scale", "deployment/idle", "--replicas=0")
        kubectl(target, "annotate", "deployment/idle", "seen=again")
        target.wait(DEPLOYMENT, "idle", lambda one: "seen" in one["metadata"].get("annotations", {}))

    assert "0" == replicas(target)
    assert 1 == guard.count("guard.set_back")


@pytest.fixture
def demand(cluster: SimCluster) -> Iterator[None]:
    """Load that would take three replicas."""
    autoscalers = cluster.controllers.autoscalers
    cluster.call(lambda: setattr(autoscalers, "demand_count", 3))
    yield
    cluster.call(lambda: setattr(autoscalers, "demand_count", 1))


@pytest.mark.slow
@pytest.mark.usefixtures("demand")
def test_autoscaler_that_keeps_asking_is_named_and_not_fought_for_ever(target: Target) -> None:
    """It is set back five times; then the guard waits, says why, and goes on once the autoscaler is gone."""
    apply(target, guarded(target), autoscaler(3))
    with guarding(target) as guard:
        told = events_of(target, "GuardWaits")
        warned = events_of(target, "ScalesPastOne")
        kubectl(target, "annotate", "deployment/idle", "seen=again")
        target.wait(DEPLOYMENT, "idle", lambda one: "seen" in one["metadata"].get("annotations", {}))
        # It asks once more in its own time, and gets what it wants.
        target.wait(DEPLOYMENT, "idle", lambda one: one["spec"]["replicas"] == 3)
        insisted = guard.count("guard.set_back")
        kubectl(target, "delete", "horizontalpodautoscaler", "eager")
        target.wait(DEPLOYMENT, "idle", lambda one: one["spec"]["replicas"] == 1)

    assert 5 == insisted
    assert told["message"].startswith(
        "hpa (by way of scale) keeps scaling Deployment idle to 3; it was set back 5 times."
    )
    assert "HorizontalPodAutoscaler eager may scale it to 3: set its maxReplicas to 1, or delete it." in told["message"]
    assert ("HorizontalPodAutoscaler", "eager") == (warned["involvedObject"]["kind"], warned["involvedObject"]["name"])


@pytest.mark.slow
def test_scaled_object_is_warned_of(target: Target) -> None:
    """Where KEDA is; a hundred is what it may ask for unless it says otherwise."""
    apply(target, guarded(target))
    scaled = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "keen"},
        "spec": {"scaleTargetRef": {"name": "idle"}},
    }
    with guarding(target) as guard:
        guard.wait_for("guard.leave")
        apply(target, scaled)
        guard.wait_for("guard.autoscaler ScaledObject keen may scale Deployment idle to 100")

    assert 9 == deploytool(target, "guard", "once").returncode


@pytest.mark.slow
def test_lost_watch_is_taken_up_again(cluster: SimCluster, target: Target) -> None:
    """Cut, with the history forgotten."""
    apply(target, guarded(target))
    with guarding(target) as guard:
        guard.wait_for("guard.leave")
        for one in tuple(cluster.api.watches):
            cluster.call(one.cut)
        cluster.call(cluster.store.compact)
        kubectl(target, "scale", "deployment/idle", "--replicas=4")
        target.wait(DEPLOYMENT, "idle", is_one)


@pytest.mark.slow
def test_metrics_and_liveness_are_served(target: Target) -> None:
    """On a port of its own."""
    apply(target, guarded(target, replicas=3))
    with guarding(target, "--port", "0") as guard:
        url = guard.wait_for(r"guard.listening (http://\S+)/metrics")[1]
        guard.wait_for("guard.leave Deployment idle is scaled to 1")
        with urllib.request.urlopen(f"{url}/metrics") as answer:  # noqa: S310 - our own
            shown = answer.read().decode()
        with urllib.request.urlopen(f"{url}/healthz") as answer:  # noqa: S310 - ditto
            live = json.load(answer)

    labels = '{kind="Deployment",workload="idle"}'
    assert {"status": "ok"} == live
    assert f"slackwater_guard_set_backs_total{labels} 1.0" in shown
    assert f"slackwater_guard_replicas{labels} 1.0" in shown
    assert f"slackwater_guard_holding_off{labels} 0.0" in shown


@pytest.mark.slow
def test_once_sets_back_and_ends(target: Target) -> None:
    """What was above one, and nothing else; with an Event."""
    apply(target, guarded(target, replicas=3), stateful(target, replicas=0))
    done = deploytool(target, "guard", "once")

    assert (0, "") == (done.returncode, done.stderr)
    assert "Deployment idle is scaled to 3 by kubectl-client-side-apply: set back to 1\n" in done.stdout
    assert "StatefulSet idle is scaled to 0: left as it is\n" in done.stdout
    assert ("1", "0") == (replicas(target), replicas(target, "statefulset"))
    assert "idle" == events_of(target, "ReplicasSetBack")["involvedObject"]["name"]


@pytest.mark.slow
@pytest.mark.usefixtures("demand")
def test_dry_run_changes_nothing(target: Target) -> None:
    """It says what it would do, having asked the API server; not even an Event is written."""
    apply(target, guarded(target, replicas=3), autoscaler(5))

    def everything() -> str:
        kinds = "deployments,horizontalpodautoscalers"
        path = "jsonpath={range .items[*]}{.metadata.name} {.spec}{end}"
        return kubectl(target, "get", kinds, "-o", path)

    before = everything()
    done = deploytool(target, "guard", "once", "--dry-run")
    written = kubectl(target, "get", "events", "-o", "jsonpath={.items[?(@.source.component=='slackwater-guard')]}")

    assert 9 == done.returncode
    assert "Deployment idle is scaled to 3 by kubectl-client-side-apply: would be set back to 1\n" in done.stdout
    assert "HorizontalPodAutoscaler eager may scale Deployment idle to 5\n" in done.stdout
    assert (before, "") == (everything(), written)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there is nothing to guard in namespace"),
        (("--workload", "absent"), "there is no guarded workload absent in namespace"),
        (("--workload", "idle"), "there is no guarded workload idle in namespace"),
    ],
)
def test_nothing_to_guard_is_said(target: Target, arguments: tuple[str, ...], words: str) -> None:
    """A mistyped namespace must not look like a workload that is well."""
    apply(target, idle(target))
    done = deploytool(target, "guard", "once", *arguments)

    assert 2 == done.returncode
    assert words in done.stderr


EVE = User("eve@example.org")
RULES: list[dict[str, Any]] = [
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["apps"],
        "resources": ["deployments/scale", "statefulsets/scale"],
        "resourceNames": ["idle"],
        "verbs": ["patch"],
    },
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list", "watch"]},
    {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
]


def role(rules: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a Role with the rules, and Eve bound to it."""
    api, name = "rbac.authorization.k8s.io", {"name": "guard"}
    subject = {"kind": "User", "name": EVE.name, "apiGroup": api}
    return (
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": name, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": "guard"},
            "subjects": [subject],
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "verb"), [(index, verb) for index, rule in enumerate(RULES) for verb in rule["verbs"]]
)
def test_missing_right_is_named_before_anything_is_changed(
    cluster: SimCluster, target: Target, index: int, verb: str
) -> None:
    """Each of the rights that it needs, one at a time, with the rule that would allow it."""
    rules = [dict(rule) for rule in RULES]
    rules[index]["verbs"] = [one for one in rules[index]["verbs"] if one != verb]
    apply(target, guarded(target, replicas=3), *role(rules))
    kubeconfig = cluster.kubeconfig(EVE, namespace=target.namespace)
    done = deploytool(target, "guard", "run", kubeconfig=kubeconfig)

    assert 5 == done.returncode
    assert f"{EVE.name} may not {verb} {RULES[index]['resources'][0]}" in done.stderr
    assert f"verbs: [{verb}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert "3" == replicas(target)


@pytest.mark.slow
def test_watch_that_is_forbidden_meanwhile_is_said_in_words(cluster: SimCluster, target: Target) -> None:
    """The guard lives on, and hears again once it may."""
    apply(target, guarded(target), *role(RULES))
    kubeconfig = cluster.kubeconfig(EVE, namespace=target.namespace)
    with guarding(target, "--look-every", "1", kubeconfig=kubeconfig) as guard:
        guard.wait_for("guard.leave")
        apply(target, role(RULES[1:])[0])
        for one in tuple(cluster.api.watches):
            cluster.call(one.cut)
        guard.wait_for(rf"guard.failed cannot look: {EVE.name} may not list deployments of apps in namespace")
        kubectl(target, "scale", "deployment/idle", "--replicas=2")
        apply(target, role(RULES)[0])
        target.wait(DEPLOYMENT, "idle", is_one)

    assert 0 == guard.count("Traceback")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault("PATCH", "/scale$", 500), Fault("PATCH", "/scale$", 409),
                                   Fault("PATCH", "/scale$", 429, retry_after_seconds=1),
                                   Fault("PATCH", "/scale$", is_cut=True, is_after=True),
                                   Fault("POST", "/events$", 500)],
                         ids=["500", "409", "429", "cut-after", "no-event"])  # fmt: skip
def test_fault_of_the_api_server_is_outlived(cluster: SimCluster, target: Target, fault: Fault) -> None:
    """Once each; a few seconds later the count is right."""
    apply(target, guarded(target))
    remove = cluster.faults.add(replace(fault))
    try:
        with guarding(target) as guard:
            guard.wait_for("guard.leave")
            apply(target, guarded(target, replicas=3))
            target.wait(DEPLOYMENT, "idle", is_one)
            guard.wait_for("guard.leave Deployment idle is scaled to 1")
    finally:
        remove()

    assert 0 == guard.count("Traceback")


@pytest.mark.slow
def test_guard_that_is_stopped_as_soon_as_it_has_begun_ends_in_order(target: Target) -> None:
    """Before kopf listens to signals; the block asks for the exit code."""
    apply(target, guarded(target))
    for _ in range(3):
        with guarding(target) as guard:
            pass

        assert 1 == guard.count("guard.stop")


@pytest.mark.slow
def test_port_that_is_taken_is_said(target: Target) -> None:
    """Before anything is guarded."""
    apply(target, guarded(target, replicas=3))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = deploytool(target, "guard", "run", "--port", str(taken.getsockname()[1]))

    assert 2 == done.returncode
    assert "cannot listen on 127.0.0.1:" in done.stderr
    assert "3" == replicas(target)


@pytest.mark.slow
def test_right_that_is_taken_away_is_said_in_words(cluster: SimCluster, target: Target) -> None:
    """In the log, in an Event, and not for ever: with the right back the count is set back."""
    apply(target, guarded(target), *role(RULES))
    with guarding(target, kubeconfig=cluster.kubeconfig(EVE, namespace=target.namespace)) as guard:
        guard.wait_for("guard.leave")
        apply(target, role([rule for rule in RULES if rule["verbs"] != ["patch"]])[0])
        kubectl(target, "scale", "deployment/idle", "--replicas=2")
        guard.wait_for(r"guard.failed cannot set Deployment idle back: .* may not patch deployments/scale of apps idle")
        told = events_of(target, "SetBackFailed")
        apply(target, role(RULES)[0])
        target.wait(DEPLOYMENT, "idle", is_one)

    assert "This rule of a Role would allow it" in told["message"]
