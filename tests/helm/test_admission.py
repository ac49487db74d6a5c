from __future__ import annotations

from typing import Any

import pytest

from tests.helm.admission import Request, matches, refusals
from tests.helm.rendering import Manifest, render, values_of

US = "live-slackwater"
DEPLOYMENT = render()["Deployment", US]
SINGLE: Manifest = render()["ValidatingAdmissionPolicy", f"realtime.{US}.single-replica"]
ATTESTATIONS: Manifest = render()["ValidatingAdmissionPolicy", f"realtime.{US}.attestations"]


def changed(**spec: Any) -> Manifest:  # noqa: ANN401 - any field of a Deployment
    """Return our Deployment with other fields in its spec; None takes one away."""
    merged = {name: value for name, value in {**DEPLOYMENT["spec"], **spec}.items() if value is not None}
    return {**DEPLOYMENT, "spec": merged}


def deployment(operation: str = "UPDATE", **spec: Any) -> Request:  # noqa: ANN401 - parts of an object
    """Return a request to write our Deployment."""
    return Request(operation, "apps", "deployments", changed(**spec))


def scale(replicas: int | None, *, name: str = US, namespace: str = "realtime") -> Request:
    """Return a request to scale; a Scale to 0 has no field for it."""
    content = {"metadata": {"name": name, "namespace": namespace}, "spec": {"replicas": replicas} if replicas else {}}
    return Request("UPDATE", "apps", "deployments/scale", content, namespace)


def autoscaler(maximum: int, *, target: str = US, kind: str = "Deployment", operation: str = "CREATE") -> Request:
    """Return a request to write an autoscaler."""
    spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": target}, "maxReplicas": maximum}
    return Request(operation, "autoscaling", "horizontalpodautoscalers", {"metadata": {"name": "any"}, "spec": spec})


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        pytest.param(deployment(replicas=2), "2 replicas would lose messages", id="two replicas"),
        pytest.param(deployment("CREATE", replicas=3), "3 replicas would lose messages", id="made with three"),
        pytest.param(deployment(strategy={"type": "RollingUpdate"}), "has to be replaced by Recreate", id="rolling"),
        pytest.param(deployment(strategy=None), "has to be replaced by Recreate", id="no strategy"),
        pytest.param(scale(2), "2 replicas would lose messages", id="scaled to two"),
        pytest.param(autoscaler(2), "an autoscaler may not scale live-slackwater to 2", id="autoscaler"),
        pytest.param(autoscaler(5, operation="UPDATE"), "to 5", id="autoscaler changed"),
    ],
)
def test_second_replica_is_refused(request_: Request, words: str) -> None:
    """With one sentence, which says what was asked for and why not."""
    (message,) = refusals(SINGLE, request_)

    assert words in message


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(deployment(), id="unchanged"),
        pytest.param(deployment("CREATE"), id="made"),
        pytest.param(deployment(replicas=0), id="stopped"),
        pytest.param(deployment(replicas=None), id="no replicas, which is one"),
        pytest.param(deployment(template={"spec": {"containers": [{"name": "x", "image": "other"}]}}), id="image"),
        pytest.param(scale(None), id="scaled to zero"),
        pytest.param(scale(1), id="scaled to one"),
        pytest.param(scale(2, name="other"), id="another workload scaled"),
        pytest.param(scale(2, namespace="elsewhere"), id="another namespace"),
        pytest.param(autoscaler(1), id="autoscaler that stays at one"),
        pytest.param(autoscaler(9, target="other"), id="another's autoscaler"),
        pytest.param(autoscaler(9, kind="StatefulSet"), id="another kind of the same name"),
        pytest.param(
            Request(
                "UPDATE",
                "apps",
                "deployments",
                {
                    "metadata": {"name": US, "deletionTimestamp": "2027-01-15T08:00:00Z"},
                    "spec": {"replicas": 2, "strategy": {"type": "RollingUpdate"}},
                },
            ),
            id="being deleted",
        ),
    ],
)
def test_everything_else_is_let_through(request_: Request) -> None:
    """Rollouts, stops and other people's workloads are none of its business."""
    assert refusals(SINGLE, request_) == []


def test_two_releases_have_two_policies() -> None:
    """Names of cluster-wide objects hold the namespace and the release, and cannot be mixed up."""
    made = [
        {name for kind, name in render(release=release, namespace=namespace) if kind.startswith("Validating")}
        for release, namespace in (("a-b", "c"), ("b", "c-a"), ("live", "realtime"), ("live", "other"))
    ]

    assert sum(map(len, made)) == len(set().union(*made)) == 8


def test_status_is_not_looked_at() -> None:
    """The controller's own writes never meet the policy."""
    assert not matches(SINGLE, Request("UPDATE", "apps", "deployments/status", changed(replicas=2)))


@pytest.mark.parametrize("name", ["single-replica", "attestations"])
def test_policy_is_bound_and_denies(name: str) -> None:
    """A policy without a binding does nothing."""
    binding = render()["ValidatingAdmissionPolicyBinding", f"realtime.{US}.{name}"]

    assert {"policyName": f"realtime.{US}.{name}", "validationActions": ["Deny"]} == binding["spec"]


def attestation(user: str, who: str | None = "ada", operation: str = "CREATE", **content: Any) -> Request:  # noqa: ANN401 - parts of an object
    """Return a request of ``user`` to write an attestation of ``who``."""
    label = {"slackwater.dev/attestation-of": US}
    whole = {
        "metadata": {"name": "a", "labels": label},
        "immutable": True,
        "data": {} if who is None else {"who": who},
        **content,
    }
    return Request(operation, "", "configmaps", whole, user=user, labels_before=label if operation == "UPDATE" else {})


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        pytest.param(attestation("eve"), "data.who has to be eve", id="in another's name"),
        pytest.param(attestation("eve", operation="UPDATE"), "data.who has to be eve", id="changed by another"),
        pytest.param(attestation("ada", None), "data.who has to be ada", id="nobody"),
        pytest.param(attestation("ada", immutable=False), "immutable", id="can be changed"),
        pytest.param(
            attestation("ada", operation="UPDATE", metadata={"name": "a"}), "cannot be taken away", id="label taken"
        ),
    ],
)
def test_attestation_in_another_name_is_refused(request_: Request, words: str) -> None:
    """Who attests is asked of the API server."""
    (message,) = refusals(ATTESTATIONS, request_)

    assert words in message


def test_own_attestation_and_other_config_maps_are_let_through() -> None:
    """Only what carries the label is looked at."""
    assert refusals(ATTESTATIONS, attestation("ada")) == []
    assert refusals(ATTESTATIONS, attestation("eve", metadata={"name": "settings"})) == []


def test_policies_can_be_left_out() -> None:
    """Whoever may not make cluster-wide objects still installs."""
    off = render(values_of("admissionPolicy.enabled=false", "rbac.clusterRole=false"))
    single_only = render(values_of("admissionPolicy.attestations=false"))

    assert not {kind for kind, _ in off if kind.startswith(("Validating", "Cluster"))}
    assert ("ValidatingAdmissionPolicy", f"realtime.{US}.single-replica") in single_only
    assert ("ValidatingAdmissionPolicy", f"realtime.{US}.attestations") not in single_only
