"""Every optional part, on and off."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.helm.rendering import MINIMAL, Manifest, edited, render, texts, values_of

US = "live-slackwater"
ALWAYS = {("Deployment", US), ("Service", US), ("Service", f"{US}-admin")}

NOTHING = (
    "serviceAccount.create=false",
    "networkPolicy.enabled=false",
    "podDisruptionBudget.enabled=false",
    "admissionPolicy.enabled=false",
    "rbac.create=false",
    "tests.enabled=false",
    "monitoring.serviceMonitor.enabled=false",
    "monitoring.prometheusRule.enabled=false",
)
PARTS = [
    (("serviceAccount.create=true",), {("ServiceAccount", US)}),
    (("networkPolicy.enabled=true",), {("NetworkPolicy", US)}),
    (("podDisruptionBudget.enabled=true",), {("PodDisruptionBudget", US)}),
    (
        ("admissionPolicy.enabled=true",),
        {
            (kind, f"realtime.{US}.{name}")
            for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
            for name in ("single-replica", "attestations")
        },
    ),
    (("rbac.create=true",), {("Role", f"{US}-{role}") for role in ("check", "attest", "rollout", "guard")}),
    (("tests.enabled=true",), {("Pod", f"{US}-test")}),
    (("monitoring.serviceMonitor.enabled=true",), {("ServiceMonitor", US)}),
    (("monitoring.prometheusRule.enabled=true",), {("PrometheusRule", US)}),
    (("monitoring.dashboard.enabled=true",), {("ConfigMap", f"{US}-dashboard")}),
    (("persistence.enabled=true",), {("PersistentVolumeClaim", f"{US}-data")}),
    (("persistence.enabled=true", "persistence.existingClaim=mine"), set()),
    (("ingress.enabled=true", "ingress.host=a.example.org"), {("Ingress", US)}),
    (("httpRoute.enabled=true", "httpRoute.parentRefs[0].name=public"), {("HTTPRoute", US)}),
    (("existingSecret=", "secret.generate=true"), {("Secret", f"{US}-keys")}),
    (("namespaces[0].name=chat",), {("ConfigMap", f"{US}-namespaces")}),
    (("database.existingSecret=pg",), set()),
    (
        ("guard.enabled=true",),
        {(kind, f"{US}-guard") for kind in ("Deployment", "Service", "ServiceAccount")}
        | {(kind, f"{US}-guard-pod") for kind in ("Role", "RoleBinding")},
    ),
]

CLASHING = {"existingSecret=", "secret.generate=true", "persistence.existingClaim=mine"}


def test_without_its_parts_the_service_is_left() -> None:
    """A Deployment and two Services."""
    assert render(values_of(*NOTHING)).keys() == ALWAYS


@pytest.mark.parametrize(("changes", "objects"), PARTS, ids=[changes[-1] for changes, _ in PARTS])
def test_each_part_brings_its_objects(changes: Iterable[str], objects: set[tuple[str, str]]) -> None:
    """And nothing else."""
    assert render(values_of(*NOTHING, *changes)).keys() == ALWAYS | objects


def test_all_parts_together() -> None:
    """They do not get in each other's way, and every object is in the release's namespace or in none."""
    objects = render(values_of(*(change for changes, _ in PARTS for change in changes if change not in CLASHING)))
    scoped = [o for (kind, _), o in objects.items() if not kind.startswith(("Validating", "Cluster"))]

    assert {"realtime"} == {one["metadata"]["namespace"] for one in scoped}
    assert all(one["metadata"]["labels"]["app.kubernetes.io/instance"] == "live" for one in objects.values())


@pytest.mark.parametrize(
    ("value", "api", "kind"),
    [
        ("monitoring.serviceMonitor.enabled", "monitoring.coreos.com/v1", "ServiceMonitor"),
        ("monitoring.prometheusRule.enabled", "monitoring.coreos.com/v1", "PrometheusRule"),
        ("httpRoute.enabled", "gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("admissionPolicy.enabled", "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    ],
)
def test_auto_makes_it_where_the_cluster_has_the_api(value: str, api: str, kind: str, tmp_path: Path) -> None:
    """Helm offline knows only built-in APIs, so the chart is made to ask for one that is there, and one that is not."""
    values = values_of("httpRoute.parentRefs[0].name=public", f"{value}=auto")
    template = f"templates/{kind.lower().removeprefix('validating')}.yaml"
    there = edited(tmp_path / "there", template, lambda text: text.replace(f'"{api}"', '"apps/v1"'))
    absent = edited(tmp_path / "absent", template, lambda text: text.replace(f'"{api}"', '"example.org/v1"'))

    assert kind in {made for made, _ in render(values, chart=there)}
    assert kind not in {made for made, _ in render(values, chart=absent)}


def ingress(*changes: str) -> Manifest:
    """Return the Ingress of a release with one."""
    return render(values_of("ingress.enabled=true", "ingress.host=a.example.org", *changes))["Ingress", US]


def test_nginx_waits_for_quiet_connections() -> None:
    """Longer than ping and pong together; and it takes bodies as long as the service does."""
    annotations = ingress("settings.maxBodyBytes=2000000")["metadata"]["annotations"]

    assert {
        "nginx.ingress.kubernetes.io/proxy-body-size": "2000000",
        "nginx.ingress.kubernetes.io/proxy-http-version": "1.1",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
        "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
        "nginx.ingress.kubernetes.io/ssl-redirect": "true",
    } == annotations


def test_traefik_takes_the_entry_point_with_tls() -> None:
    """Or the one without, when TLS ends elsewhere."""
    name = "traefik.ingress.kubernetes.io/router.entrypoints"

    assert ingress("ingress.controller=traefik")["metadata"]["annotations"][name] == "websecure"
    plain = ingress("ingress.controller=traefik", "ingress.tls.enabled=false")
    assert plain["metadata"]["annotations"][name] == "web"
    assert "tls" not in plain["spec"]


def test_own_annotations_win() -> None:
    """Over the chart's."""
    name = "nginx.ingress.kubernetes.io/proxy-read-timeout"
    values: dict[str, Any] = {
        **MINIMAL,
        "ingress": {"enabled": True, "host": "a.example.org", "annotations": {name: "99"}},
    }

    assert render(values)["Ingress", US]["metadata"]["annotations"][name] == "99"
    assert "annotations" not in ingress("ingress.controller=none")["metadata"]


def test_ingress_has_tls_unless_told_otherwise() -> None:
    """For its one host, from a Secret that cert-manager can make."""
    made = ingress("ingress.tls.clusterIssuer=letsencrypt")

    assert [{"hosts": ["a.example.org"], "secretName": f"{US}-tls"}] == made["spec"]["tls"]
    assert made["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"


def test_ways_in_lead_to_the_public_port_alone() -> None:
    """Whatever the way, the admin port is not behind it."""
    objects = render(
        values_of(
            "ingress.enabled=true",
            "ingress.host=a.example.org",
            "httpRoute.enabled=true",
            "httpRoute.parentRefs[0].name=public",
        )
    )
    (path,) = objects["Ingress", US]["spec"]["rules"][0]["http"]["paths"]
    (rule,) = objects["HTTPRoute", US]["spec"]["rules"]

    assert {"name": US, "port": {"name": "http"}} == path["backend"]["service"]
    assert [{"name": US, "port": 80}] == rule["backendRefs"]
    assert rule["timeouts"] == {"request": "0s"}


def test_timeout_of_the_route_can_be_left_out() -> None:
    """Some controllers refuse a rule that has any."""
    made = render(values_of("httpRoute.enabled=true", "httpRoute.parentRefs[0].name=p", "httpRoute.requestTimeout="))

    assert "timeouts" not in made["HTTPRoute", US]["spec"]["rules"][0]


def test_network_policy_opens_two_ports_and_little_outwards() -> None:
    """Names, the database where there is one, and what is asked for."""
    policy = render(
        values_of(
            "networkPolicy.ingressFrom[0].namespaceSelector.matchLabels.name=ingress",
            "networkPolicy.adminFrom[0].ipBlock.cidr=10.0.0.1/32",
            "database.existingSecret=pg",
            "networkPolicy.databaseTo[0].podSelector.matchLabels.app=pg",
        )
    )["NetworkPolicy", US]["spec"]
    public, admin, testing = policy["ingress"]

    assert ["Ingress", "Egress"] == policy["policyTypes"]
    assert ["http", "admin"] == [port["port"] for rule in (public, admin) for port in rule["ports"]]
    assert [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}] == public["from"]
    assert [{"ipBlock": {"cidr": "10.0.0.1/32"}}] == admin["from"]
    assert testing["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert [53, 53, 5432] == [port["port"] for rule in policy["egress"] for port in rule["ports"]]


def test_budget_never_keeps_a_node_from_being_drained() -> None:
    """The one pod may always be evicted."""
    spec = render()["PodDisruptionBudget", US]["spec"]

    assert (1, "AlwaysAllow") == (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"])
    assert "minAvailable" not in spec


def test_claim_is_for_one_pod_and_stays() -> None:
    """A second pod could not even mount it."""
    claim = render(values_of("persistence.enabled=true"))["PersistentVolumeClaim", f"{US}-data"]

    assert ["ReadWriteOncePod"] == claim["spec"]["accessModes"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    gone = render(values_of("persistence.enabled=true", "persistence.keep=false"))
    assert "annotations" not in gone["PersistentVolumeClaim", f"{US}-data"]["metadata"]


def test_service_monitor_selects_the_admin_service_alone() -> None:
    """The public port has no metrics."""
    objects = render(values_of("monitoring.serviceMonitor.enabled=true", "monitoring.labels.release=prom"))
    monitor = objects["ServiceMonitor", US]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = {name: one["metadata"]["labels"] for (kind, name), one in objects.items() if kind == "Service"}

    assert [f"{US}-admin"] == [name for name, labels in services.items() if wanted <= labels.items()]
    assert [{"port": "admin", "path": "/metrics", "interval": "15s"}] == monitor["spec"]["endpoints"]
    assert monitor["metadata"]["labels"]["release"] == "prom"


def roles() -> dict[str, list[Manifest]]:
    """Return the rules of each Role by what it is for."""
    return {name.removeprefix(f"{US}-"): o["rules"] for (kind, name), o in render().items() if kind == "Role"}


def test_proxy_rights_reach_the_admin_service_alone() -> None:
    """Never pods/proxy, which opens every port of every pod."""
    rules = [rule for each in roles().values() for rule in each]
    proxies = [rule["resourceNames"] for rule in rules if "services/proxy" in rule["resources"]]
    services = {re.sub(r"^http:|:(admin|3001)$", "", name) for names in proxies for name in names}

    assert not any("pods/proxy" in rule["resources"] or "*" in rule["resources"] + rule["verbs"] for rule in rules)
    assert len(proxies) == 2
    assert services == {f"{US}-admin"}


def test_what_changes_the_workload_is_limited_to_it() -> None:
    """Nobody gets a right over somebody else's Deployment, nor any over Secrets."""
    for rule in (rule for each in roles().values() for rule in each):
        if {"deployments", "deployments/scale"} & set(rule["resources"]) and "patch" in rule["verbs"]:
            assert [US] == rule["resourceNames"]
        assert "secrets" not in rule["resources"]


@pytest.mark.parametrize(
    ("role", "group", "resource", "verb"),
    [
        ("check", "apps", "deployments/scale", "patch"),
        ("check", "", "services/proxy", "create"),
        ("check", "", "pods", "list"),
        ("check", "monitoring.coreos.com", "prometheusrules", "list"),
        ("attest", "", "configmaps", "create"),
        ("rollout", "apps", "deployments", "patch"),
        ("rollout", "coordination.k8s.io", "leases", "update"),
        ("rollout", "", "services/proxy", "delete"),
        ("rollout", "", "pods/log", "get"),
        ("guard", "apps", "deployments", "watch"),
        ("guard", "apps", "deployments/scale", "patch"),
        ("guard", "", "events", "create"),
    ],
)
def test_roles_allow_what_they_are_for(role: str, group: str, resource: str, verb: str) -> None:
    """One right that each cannot do without."""
    assert any(group in r["apiGroups"] and resource in r["resources"] and verb in r["verbs"] for r in roles()[role])


def test_people_are_bound_to_the_roles_that_they_are_named_for() -> None:
    """And check's to the ClusterRole too."""
    objects = render(
        values_of(
            "rbac.check[0].kind=Group,rbac.check[0].name=developers",
            "rbac.guard[0].kind=ServiceAccount,rbac.guard[0].name=guard,rbac.guard[0].namespace=ops",
        )
    )
    group = {"kind": "Group", "name": "developers", "apiGroup": "rbac.authorization.k8s.io"}

    assert [group] == objects["RoleBinding", f"{US}-check"]["subjects"]
    assert [group] == objects["ClusterRoleBinding", f"realtime.{US}.check"]["subjects"]
    guard = objects["RoleBinding", f"{US}-guard"]["subjects"]
    assert [{"kind": "ServiceAccount", "name": "guard", "namespace": "ops"}] == guard
    assert ("RoleBinding", f"{US}-rollout") not in objects


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((), "Neither a database nor a volume (DATABASE_URL=memory:)"),
        (("persistence.enabled=true", "database.migrate=false"), "run `python -m service migrate` before each new"),
        ((), "No origin is allowed"),
        ((), "There are no alerts"),
        ((), "helm test live --namespace realtime --logs"),
        ((), "deploytool check --namespace realtime --workload live-slackwater --probe --load"),
        (("replicaCount=0",), "nothing runs until it is 1 again"),
        (("existingSecret=", "secret.generate=true"), "The Secret live-slackwater-keys was made up by Helm"),
        (("admissionPolicy.enabled=false",), "nothing in the API server refuses a second replica"),
        (("ingress.enabled=true", "ingress.host=a.example.org"), "wss://a.example.org/connection/websocket"),
        (("ingress.enabled=true", "ingress.host=a.example.org"), "settings.trustedProxies is empty"),
        (("ingress.enabled=true", "ingress.host=a.b", "ingress.tls.enabled=false"), "Tokens travel in the clear"),
        (("httpRoute.enabled=auto", "httpRoute.parentRefs[0].name=p"), "no HTTPRoute was made"),
        (("monitoring.prometheusRule.enabled=true",), "Alerts have no runbook_url"),
    ],
)
def test_notes_say_what_is_next(changes: tuple[str, ...], words: str) -> None:
    """And what is missing before production."""
    assert words in texts(values_of(*changes))["NOTES.txt"]


def test_notes_of_a_whole_release_warn_of_nothing() -> None:
    """So that a warning is worth reading."""
    notes = texts(
        values_of(
            "persistence.enabled=true",
            "settings.frontendUrl=https://app.example.org",
            "settings.trustedProxies={10.0.0.0/8}",
            "ingress.enabled=true",
            "ingress.host=a.example.org",
            "monitoring.prometheusRule.enabled=true",
            "monitoring.runbookBaseUrl=https://docs.example.org/runbooks",
        )
    )["NOTES.txt"]

    assert "Before production" not in notes
