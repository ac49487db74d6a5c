"""The pod that keeps the replica count at one."""

from __future__ import annotations

import pytest

from tests.helm.rendering import Manifest, render, values_of

US = "live-slackwater"
NAME = f"{US}-guard"
ON = ("guard.enabled=true",)


def pod(*changes: str) -> Manifest:
    """Return the guard's pod."""
    spec: Manifest = render(values_of(*ON, *changes))["Deployment", NAME]["spec"]["template"]["spec"]
    return spec


def test_off_unless_asked_for() -> None:
    """It takes a pod of its own."""
    assert not {key for key in render() if key[1].startswith(NAME)} - {("Role", NAME)}


def test_runs_with_no_more_rights_than_it_needs() -> None:
    """The restricted profile of Kubernetes and a read-only root; its token is what it works with."""
    (one,) = pod()["containers"]
    security = pod()["securityContext"]

    assert (True, 10001) == (security["runAsNonRoot"], security["runAsUser"])
    assert {"type": "RuntimeDefault"} == security["seccompProfile"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == one["securityContext"]
    assert {"memory"} == one["resources"]["limits"].keys()
    assert pod()["automountServiceAccountToken"] is True
    assert not pod().get("volumes")


def test_is_bound_to_a_role_of_its_own() -> None:
    """Without rbac.create too; it can change the scale of one workload, and nothing else."""
    objects = render(values_of(*ON, "rbac.create=false"))
    binding, role = objects["RoleBinding", f"{NAME}-pod"], objects["Role", f"{NAME}-pod"]
    writes = [rule for rule in role["rules"] if not set(rule["verbs"]) <= {"get", "list", "watch"}]

    assert [{"kind": "ServiceAccount", "name": NAME, "namespace": "realtime"}] == binding["subjects"]
    assert NAME == pod()["serviceAccountName"]
    assert [
        (["deployments/scale", "statefulsets/scale"], ["patch"], [US]),
        (["events"], ["create"], None),
    ] == [(rule["resources"], rule["verbs"], rule.get("resourceNames")) for rule in writes]
    assert "ClusterRole" not in {kind for kind, _ in objects}


def test_guards_the_release_and_not_itself() -> None:
    """Nor what other releases of the namespace have."""
    objects = render(values_of(*ON))
    labelled = {
        name for (kind, name), one in objects.items()
        if kind == "Deployment" and "slackwater.dev/guard" in one["metadata"]["labels"]
    }  # fmt: skip

    assert {US} == labelled
    assert f"--workload={US}" in pod()["containers"][0]["args"]


def test_traffic_of_the_service_does_not_reach_it() -> None:
    """Nor does the service's Deployment take its pod for its own, or a disruption budget count it."""
    objects = render(values_of(*ON))
    labels = objects["Deployment", NAME]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        objects["Deployment", US]["spec"]["selector"]["matchLabels"],
        objects["Service", US]["spec"]["selector"],
        objects["Service", f"{US}-admin"]["spec"]["selector"],
        objects["PodDisruptionBudget", US]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy", US]["spec"]["podSelector"]["matchLabels"],
    ]

    assert not any(selector.items() <= labels for selector in selectors)
    assert objects["Service", NAME]["spec"]["selector"].items() <= labels
    assert objects["NetworkPolicy", NAME]["spec"]["podSelector"]["matchLabels"].items() <= labels


def test_metrics_are_scraped_where_it_serves_them() -> None:
    """By a ServiceMonitor of its own, which finds its Service alone."""
    objects = render(values_of(*ON, "monitoring.serviceMonitor.enabled=true"))
    wanted = objects["ServiceMonitor", NAME]["spec"]["selector"]["matchLabels"].items()
    services = {name for (kind, name), one in objects.items() if kind == "Service"
                and wanted <= one["metadata"]["labels"].items()}  # fmt: skip

    assert {NAME} == services
    assert "--port=8080" in pod()["containers"][0]["args"]
    assert [{"name": "metrics", "containerPort": 8080}] == pod()["containers"][0]["ports"]


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("nodeSelector.pool=small", "nodeSelector", {"pool": "small"}),
        ("image.pullSecrets[0]=registry", "imagePullSecrets", [{"name": "registry"}]),
        ("tolerations[0].key=small", "tolerations", [{"key": "small"}]),
    ],
)
def test_runs_where_the_service_may(change: str, key: str, value: object) -> None:
    """On the same nodes, from the same registry."""
    assert value == pod(change)[key]


def test_name_is_valid_whatever_the_release_is_called() -> None:
    """Short enough with the longest suffix."""
    objects = render(values_of(*ON), release="r" * 53)

    assert all(len(name) <= 63 for kind, name in objects if not kind.startswith(("Validating", "Cluster")))
