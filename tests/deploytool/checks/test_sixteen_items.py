"""Each of the sixteen items: broken in several ways, seen to turn, and mended again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from deploytool.checks.catalog import ITEMS
from deploytool.model.expectations import Expectations, LoadThresholds
from deploytool.model.finding import Depth, Outcome, Report
from deploytool.model.observations import (
    AlertRule,
    Database,
    DatabaseServer,
    Drill,
    HandshakeTrial,
    OriginKind,
    PlainAnswer,
    Pool,
    PrometheusRules,
    TokenKind,
)
from deploytool.model.snapshot import Snapshot
from tests.deploytool.checks.releases import (
    ADA,
    DAY,
    EXPECTATIONS,
    NAME,
    NAMESPACE,
    NOW,
    PUBLIC,
    changed,
    edited,
    judge,
    only,
    release,
    result,
    seen,
    unread,
    unseen,
    with_objects,
    without,
)

Change = Callable[[Snapshot], Snapshot]
FAIL, WARN, UNKNOWN = Outcome.FAIL, Outcome.WARN, Outcome.INCONCLUSIVE
PASSED = frozenset({Outcome.PASS, Outcome.NOT_APPLICABLE})

HPA = {
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "eager", "namespace": NAMESPACE},
    "spec": {"scaleTargetRef": {"kind": "Deployment", "name": NAME}, "maxReplicas": 5},
}
DATABASE = Database("postgres", pool=Pool(5, 5, 1, 3), server=DatabaseServer(100, 3, 20))


def replicas(content: dict[str, Any]) -> None:
    """Ask for two."""
    content["spec"]["replicas"] = 2


def rolling(content: dict[str, Any]) -> None:
    """Let the new pod start beside the old one."""
    content["spec"]["strategy"] = {"type": "RollingUpdate"}


def second_workload(snapshot: Snapshot) -> Snapshot:
    """Put another Deployment behind the same Service."""
    (mine,) = (one for one in snapshot.objects if one.kind == "Deployment")
    other = {**mine.content, "metadata": {"name": "canary", "namespace": NAMESPACE}}
    return with_objects(other)(snapshot)


def second_pod(snapshot: Snapshot) -> Snapshot:
    """Add a pod that is ending."""
    (mine,) = (one for one in snapshot.objects if one.kind == "Pod")
    metadata = {**mine.content["metadata"], "name": "old", "deletionTimestamp": "2027-01-15T08:00:00Z"}
    return with_objects({**mine.content, "metadata": metadata})(snapshot)


def budget(**spec: object) -> Change:
    """Replace what the disruption budget says, its selector apart."""
    return edited(
        "PodDisruptionBudget", lambda content: content.update(spec={"selector": content["spec"]["selector"], **spec})
    )


def variable(name: str, value: str | None) -> Change:
    """Set an environment variable, or take it away."""

    def edit(content: dict[str, Any]) -> None:
        (container,) = content["spec"]["template"]["spec"]["containers"]
        container["env"] = [one for one in container["env"] if one["name"] != name]
        if value is not None:
            container["env"].append({"name": name, "value": value})

    return edited("Deployment", edit)


def origin(kind: OriginKind, *, accepted: bool) -> Change:
    """Turn the answer to one sort of origin around."""

    def change(snapshot: Snapshot) -> Snapshot:
        assert isinstance(snapshot.origins, tuple)
        return snapshot.with_seen(
            origins=tuple(
                dataclasses.replace(one, accepted=accepted, answer="turned") if one.kind is kind else one
                for one in snapshot.origins
            )
        )

    return change


def without_origin(kind: OriginKind) -> Change:
    """Do not try one sort of origin."""

    def change(snapshot: Snapshot) -> Snapshot:
        assert isinstance(snapshot.origins, tuple)
        return snapshot.with_seen(origins=tuple(one for one in snapshot.origins if one.kind is not kind))

    return change


def token(kind: TokenKind, *, accepted: bool) -> Change:
    """Turn the answer to one sort of token around."""

    def change(snapshot: Snapshot) -> Snapshot:
        assert isinstance(snapshot.tokens, tuple)
        return snapshot.with_seen(
            tokens=tuple(
                dataclasses.replace(one, accepted=accepted) if one.kind is kind else one for one in snapshot.tokens
            )
        )

    return change


def alert(name: str, **fields: object) -> Change:
    """Change an alert of the PrometheusRule."""

    def edit(content: dict[str, Any]) -> None:
        for group in content["spec"]["groups"]:
            for rule in group["rules"]:
                if name in {"", rule["alert"]}:
                    rule.update(fields)

    return edited("PrometheusRule", edit)


def no_alerts(*names: str) -> Change:
    """Take alerts away."""

    def edit(content: dict[str, Any]) -> None:
        for group in content["spec"]["groups"]:
            group["rules"] = [rule for rule in group["rules"] if rule["alert"] not in names]

    return edited("PrometheusRule", edit)


def attested(item: str, **fields: object) -> Change:
    """Change the attestation of an item."""

    def change(snapshot: Snapshot) -> Snapshot:
        assert isinstance(snapshot.attestations, tuple)
        return snapshot.with_seen(
            attestations=tuple(
                dataclasses.replace(one, **fields) if one.item.endswith(item) else one  # type: ignore[arg-type]  # any
                for one in snapshot.attestations
            )
        )

    return change


def unattested(item: str) -> Change:
    """Take the attestation of an item away."""

    def change(snapshot: Snapshot) -> Snapshot:
        assert isinstance(snapshot.attestations, tuple)
        kept = tuple(one for one in snapshot.attestations if not one.item.endswith(item))
        return snapshot.with_seen(attestations=kept)

    return change


def document(end: str, **fields: object) -> Change:
    """Change what a document answers."""

    def change(snapshot: Snapshot) -> Snapshot:
        assert isinstance(snapshot.documents, tuple)
        return snapshot.with_seen(
            documents=tuple(
                dataclasses.replace(one, **fields) if one.url.endswith(end) else one  # type: ignore[arg-type]  # any
                for one in snapshot.documents
            )
        )

    return change


def loaded(*rules: AlertRule) -> Change:
    """Ask a Prometheus that has the rules of the objects, but for these."""

    def change(snapshot: Snapshot) -> Snapshot:
        mine = [
            AlertRule(
                rule.text("alert"),
                rule.text("expr"),
                annotations={"runbook_url": rule.child("annotations").text("runbook_url")},
            )
            for one in snapshot.objects
            if one.kind == "PrometheusRule"
            for group in one.child("spec").children("groups")
            for rule in group.children("rules")
        ]
        others = {rule.name: rule for rule in rules}
        known = tuple(others.get(rule.name, rule) for rule in mine)
        return snapshot.with_seen(prometheus=PrometheusRules("GET /api/v1/rules", NOW, known))

    return change


def unloaded(name: str) -> Change:
    """Ask a Prometheus that has all rules but one."""

    def change(snapshot: Snapshot) -> Snapshot:
        asked = loaded()(snapshot)
        assert isinstance(asked.prometheus, PrometheusRules)
        rules = tuple(rule for rule in asked.prometheus.rules if rule.name != name)
        return asked.with_seen(prometheus=dataclasses.replace(asked.prometheus, rules=rules))

    return change


def no_memory_limit(content: dict[str, Any]) -> None:
    """Take the limit away."""
    del content["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]


def other_selector(content: dict[str, Any]) -> None:
    """Select somebody else."""
    content["spec"]["selector"]["matchLabels"] = {"app": "another"}


def ingress_timeout(seconds: str) -> Change:
    """Set the read timeout of the Ingress."""
    key = "nginx.ingress.kubernetes.io/proxy-read-timeout"
    return edited("Ingress", lambda content: content["metadata"]["annotations"].update({key: seconds}))


HTTP_VERSION = "nginx.ingress.kubernetes.io/proxy-http-version"
MEMORY = 'slackwater_process_resident_memory_bytes{namespace="%s",job="%s"} > %s'
BREAKS = [
    (
        1,
        "two replicas",
        edited("Deployment", replicas),
        FAIL,
        "kubectl --namespace realtime scale deployment/live-slackwater",
    ),
    (1, "rolling update", edited("Deployment", rolling), FAIL, "spec.strategy.type to Recreate"),
    (1, "an autoscaler", with_objects(HPA), FAIL, "kubectl --namespace realtime delete horizontalpodautoscaler"),
    (1, "a second workload", second_workload, FAIL, "labels that the Service does not select"),
    (1, "a second pod", second_pod, FAIL, "kubectl --namespace realtime get pods"),
    (1, "a budget of one", budget(minAvailable=1), FAIL, "maxUnavailable to 1"),
    (1, "a budget of none", budget(maxUnavailable=0), FAIL, "maxUnavailable to 1"),
    (1, "scale is let through", changed("scale_trial", refused=False), FAIL, "admissionPolicy.enabled=true"),
    (1, "the policy was not tried", unseen("scale_trial"), UNKNOWN, "Open the port"),
    (1, "autoscalers unread", unread("HorizontalPodAutoscaler"), UNKNOWN, "apiGroups"),
    (1, "pods unread", unread("Pod"), UNKNOWN, "apiGroups"),
    (1, "no lock", changed("status", lock="local"), WARN, "persistence.enabled=true"),
    (
        2,
        "too large a pool",
        changed("status", database=dataclasses.replace(DATABASE, pool=Pool(50, 50, 1, 3))),
        FAIL,
        "max_connections",
    ),
    (
        2,
        "others use it up",
        changed("status", database=dataclasses.replace(DATABASE, server=DatabaseServer(20, 3, 15))),
        FAIL,
        "POOL_SIZE",
    ),
    (
        2,
        "degraded",
        changed("status", database=dataclasses.replace(DATABASE, degraded="read-only")),
        FAIL,
        "kubectl --namespace realtime logs",
    ),
    (
        2,
        "the server is silent",
        changed("status", database=dataclasses.replace(DATABASE, server=None)),
        UNKNOWN,
        "POOL_SIZE",
    ),
    (
        2,
        "used up",
        changed("status", database=dataclasses.replace(DATABASE, pool=Pool(5, 5, 1, 10))),
        WARN,
        "POOL_SIZE",
    ),
    (3, "no origin", variable("FRONTEND_URL", None), FAIL, "settings.frontendUrl"),
    (3, "a path in it", variable("FRONTEND_URL", "https://app.example.org/app"), FAIL, "settings.frontendUrl"),
    (3, "refused", origin(OriginKind.ALLOWED, accepted=False), FAIL, "no proxy drops"),
    (3, "not tried", without_origin(OriginKind.ALLOWED), UNKNOWN, "deploytool.yaml"),
    (
        4,
        "HTTP 1.0",
        edited("Ingress", lambda content: content["metadata"]["annotations"].update({HTTP_VERSION: "1.0"})),
        FAIL,
        "proxy_http_version 1.1",
    ),
    (4, "cut when quiet", ingress_timeout("20"), FAIL, "proxy_read_timeout 3600s"),
    (4, "a timeout that is none", ingress_timeout("long"), UNKNOWN, "proxy_read_timeout 3600s"),
    (
        5,
        "not exported",
        changed("scrape", samples={"slackwater_connections": 1}),
        FAIL,
        "curl http://127.0.0.1:3001/metrics",
    ),
    (5, "not scraped", edited("ServiceMonitor", other_selector), FAIL, "monitoring.serviceMonitor.enabled=true"),
    (5, "does not rise", changed("gauge", during=3), FAIL, "get pods,endpointslices"),
    (5, "does not fall", changed("gauge", after=5), FAIL, "get pods,endpointslices"),
    (5, "metrics unseen", unseen("scrape"), UNKNOWN, "Open the port"),
    (5, "no monitor", without("ServiceMonitor"), WARN, "monitoring.serviceMonitor.enabled=true"),
    (
        6,
        "no alert",
        no_alerts("SlackwaterMemoryHigh", "SlackwaterScalingMemory"),
        FAIL,
        "monitoring.prometheusRule.enabled=true",
    ),
    (6, "no limit", edited("Deployment", no_memory_limit), FAIL, "set resources deployment/live-slackwater"),
    (
        6,
        "too late",
        alert("SlackwaterMemoryHigh", expr=MEMORY % (NAMESPACE, f"{NAME}-admin", "0.85 * 2147483648")),
        FAIL,
        "memoryRatio",
    ),
    (
        6,
        "not healthy",
        loaded(AlertRule("SlackwaterMemoryHigh", MEMORY % ("a", "b", 1), "err", "bad matcher")),
        FAIL,
        "monitoring.labels",
    ),
    (6, "not loaded", unloaded("SlackwaterMemoryHigh"), FAIL, "monitoring.labels"),
    (7, "no alert", no_alerts("SlackwaterWebSocketErrors"), FAIL, "monitoring.prometheusRule.enabled=true"),
    (
        7,
        "of another workload",
        alert("SlackwaterWebSocketErrors", expr='rate(slackwater_errors_total{namespace="other"}[5m]) > 1'),
        FAIL,
        "monitoring",
    ),
    (
        7,
        "compares with nothing",
        alert("SlackwaterWebSocketErrors", expr="rate(slackwater_errors_total[5m])"),
        FAIL,
        "monitoring",
    ),
    (
        8,
        "none",
        seen(load=None),
        FAIL,
        "deploytool check --probe --load --select performance-test --namespace realtime",
    ),
    (8, "another image", changed("load", image_digest="sha256:" + "00" * 32), FAIL, "deploytool check --probe"),
    (8, "out of date", changed("load", at=NOW - 91 * DAY), FAIL, "deploytool check --probe"),
    (8, "too slow", changed("load", p99_seconds=0.9), FAIL, "load in deploytool.yaml"),
    (8, "lost some", changed("load", lost=1), FAIL, "load in deploytool.yaml"),
    (8, "too few", changed("load", connections=3), FAIL, "load in deploytool.yaml"),
    (8, "unseen", unseen("load"), UNKNOWN, "Open the port"),
    (9, "anonymous", variable("WS_ANONYMOUS", "true"), FAIL, "settings.anonymous=false"),
    (
        9,
        "expired is accepted",
        token(TokenKind.EXPIRED, accepted=True),
        FAIL,
        "rollout restart deployment/live-slackwater",
    ),
    (9, "good is refused", token(TokenKind.GOOD, accepted=False), FAIL, "rollout restart deployment/live-slackwater"),
    (9, "wrong key is accepted", token(TokenKind.WRONG_KEY, accepted=True), FAIL, "rollout restart"),
    (9, "untried", unseen("tokens"), UNKNOWN, "Open the port"),
    (9, "a key in the clear", variable("ADMIN_KEY", "a" * 32), WARN, "create secret generic"),
    (10, "off", variable("WS_MESSAGES_PER_MINUTE", "0"), FAIL, "settings.messagesPerMinute=100"),
    (10, "not in force", changed("status", limits={"max_connections": 1000}), FAIL, "settings.messagesPerMinute=100"),
    (10, "never refused", changed("rate", refusal=None), FAIL, "settings.messagesPerMinute=100"),
    (10, "does not recover", changed("rate", recovered=False), FAIL, "settings.messagesPerMinute=100"),
    (10, "recovery untried", changed("rate", recovered=None), UNKNOWN, "settings.messagesPerMinute=100"),
    (11, "a wildcard", variable("WS_ALLOWED_ORIGINS", "https://*.example.org"), FAIL, "WS_ALLOWED_ORIGINS"),
    (11, "localhost", variable("REPL_URL", "http://localhost:5173"), FAIL, "WS_ALLOWED_ORIGINS"),
    (11, "an address of the net", variable("REPL_URL", "https://192.168.1.4"), FAIL, "WS_ALLOWED_ORIGINS"),
    (11, "evil is accepted", origin(OriginKind.FOREIGN, accepted=True), FAIL, "whole origins"),
    (11, "null is accepted", origin(OriginKind.NULL, accepted=True), FAIL, "whole origins"),
    (11, "a suffix is accepted", origin(OriginKind.SUFFIX, accepted=True), FAIL, "whole origins"),
    (11, "http is accepted", origin(OriginKind.INSECURE, accepted=True), FAIL, "whole origins"),
    (11, "null untried", without_origin(OriginKind.NULL), UNKNOWN, "whole origins"),
    (12, "a bad chain", changed("tls", error="self-signed certificate"), FAIL, "openssl s_client"),
    (12, "about to expire", changed("tls", not_after=NOW + 3 * DAY), FAIL, "openssl s_client"),
    (12, "expired", changed("tls", not_after=NOW - DAY), FAIL, "openssl s_client"),
    (12, "an old version", changed("tls", accepts_old=True), FAIL, "TLSv1.2 TLSv1.3"),
    (12, "plain is accepted", changed("tls", plain=PlainAnswer.ACCEPTED), FAIL, "return 301"),
    (12, "plain untried", changed("tls", plain=None), UNKNOWN, "return 301"),
    (13, "nobody", unattested("team-trained"), FAIL, "deploytool attest team-trained --namespace realtime"),
    (13, "expired", attested("team-trained", expires_at=NOW - 1), FAIL, "deploytool attest team-trained"),
    (13, "somebody else", attested("team-trained", who="eve"), FAIL, "deploytool attest team-trained"),
    (13, "shared", attested("team-trained", is_shared=True), WARN, "attest as a person"),
    (14, "nobody", unattested("deployment-procedure"), FAIL, "deploytool attest deployment-procedure"),
    (14, "changed", document("/deploy", sha256="cd" * 32), FAIL, "deploytool attest deployment-procedure"),
    (14, "gone", document("/deploy", status=404), FAIL, "deploytool attest deployment-procedure"),
    (
        14,
        "expired",
        attested("deployment-procedure", expires_at=NOW - 1),
        FAIL,
        "deploytool attest deployment-procedure",
    ),
    (14, "unreachable", document("/deploy", status=None, error="timed out"), UNKNOWN, "deploytool attest"),
    (15, "no drill", attested("rollback-procedure", drill=None), FAIL, "--drill-at"),
    (15, "an old drill", attested("rollback-procedure", drill=Drill(NOW - 200 * DAY, "rollout 2")), FAIL, "--drill-at"),
    (15, "changed", document("/rollback", sha256="cd" * 32), FAIL, "deploytool attest rollback-procedure"),
    (15, "nobody", unattested("rollback-procedure"), FAIL, "deploytool attest rollback-procedure"),
    (16, "no address", alert("SlackwaterDrainStuck", annotations={}), FAIL, "monitoring.runbookBaseUrl"),
    (16, "gone", document("/drain-stuck", status=404), FAIL, "Publish the page"),
    (16, "nobody", unattested("runbooks"), FAIL, "deploytool attest runbooks"),
    (16, "changed", document("/index", sha256="cd" * 32), FAIL, "deploytool attest runbooks"),
    (16, "unreachable", document("/drain-stuck", status=None, error="timed out"), UNKNOWN, "Publish the page"),
]
CASES = [
    pytest.param(number, change, outcome, remedy, id=f"{number}: {name}")
    for number, name, change, outcome, remedy in BREAKS
]


def done(report: Report, number: int) -> set[str]:
    """Return the remediations of what does not pass of an item."""
    return {one.remediation for one in result(report, number).findings if one.outcome not in PASSED}


def test_a_correct_release_has_no_finding() -> None:
    """One replica and Recreate, and everything around it as the chart makes it: nothing to say."""
    report = judge(release())

    assert {*range(1, 17)} == only(report, Outcome.PASS)
    assert all(finding.outcome in PASSED for one in report.results for finding in one.findings)


@pytest.mark.parametrize(("number", "change", "outcome", "remedy"), CASES)
def test_an_item_turns_alone_and_back(number: int, change: Change, outcome: Outcome, remedy: str) -> None:
    """Exactly the broken item turns, says what to do, and passes again once it is mended."""
    whole = release()

    broken = judge(change(whole))
    mended = judge(whole)

    assert {number} == {*range(1, 17)} - only(broken, Outcome.PASS)
    assert outcome is result(broken, number).outcome
    assert any(remedy in one for one in done(broken, number))
    assert all(finding.evidence for finding in result(broken, number).findings if finding.outcome is Outcome.FAIL)
    assert Outcome.PASS is result(mended, number).outcome


def test_every_item_is_broken_in_two_ways() -> None:
    """The table above leaves none out."""
    failing = [number for number, _, _, outcome, _ in BREAKS if outcome is FAIL]

    assert all(failing.count(item.number) >= 2 for item in ITEMS)


@pytest.mark.parametrize(
    "field", ["status", "origins", "handshakes", "gauge", "rate", "tls", "attestations", "documents"]
)
def test_evidence_that_is_taken_away_never_passes(field: str) -> None:
    """Whoever needs it says inconclusive, with the way out, and nobody fails for it."""
    report = judge(unseen(field)(release()))

    assert not only(report, Outcome.FAIL)
    blind = only(report, Outcome.INCONCLUSIVE, Outcome.BLOCKED)
    assert blind
    assert blind <= {item.number for item in ITEMS if field in item.needs}
    for number in blind:
        assert "Open the port, then check again." in done(report, number)


@pytest.mark.parametrize(
    ("number", "expectations"),
    [
        pytest.param(3, Expectations(roster=(ADA,), origins=("https://other.example.org",)), id="an origin is missing"),
        pytest.param(8, Expectations(roster=(ADA,), load=LoadThresholds(connections=500)), id="more is wanted"),
        pytest.param(12, Expectations(roster=(ADA,), tls_days_left=90), id="more days are wanted"),
        pytest.param(13, Expectations(roster=(ADA, "bob")), id="one more person"),
        pytest.param(15, Expectations(roster=(ADA,), drill_max_age_seconds=DAY), id="drills more often"),
    ],
)
def test_expectations_are_held_against_the_release(number: int, expectations: Expectations) -> None:
    """What passes for one team fails for a stricter one."""
    assert number in only(judge(release(), expectations), Outcome.FAIL)
    assert number in only(judge(release(), EXPECTATIONS), Outcome.PASS)


def test_without_a_roster_training_is_not_verified() -> None:
    """Nobody said who has to be trained."""
    report = judge(release(), Expectations())

    assert {13} == only(report, Outcome.INCONCLUSIVE)


def test_two_instances_that_answer_concern_two_items() -> None:
    """There is more than one instance, and the load balancer spreads over them."""
    trials = tuple(HandshakeTrial(PUBLIC, NOW, name) for name in ("i-1", "i-2", "i-1"))
    report = judge(seen(handshakes=trials)(release()))

    assert {1, 4} == only(report, Outcome.FAIL)


def test_without_browsers_no_origin_is_needed() -> None:
    """A service for programs alone has no origin to configure."""
    report = judge(variable("FRONTEND_URL", None)(release()), Expectations(roster=(ADA,), has_browsers=False))

    assert 3 in only(report, Outcome.NOT_APPLICABLE)


@pytest.mark.parametrize("database", [None, Database("sqlite")], ids=["none", "sqlite"])
def test_without_a_server_there_is_no_pool(database: Database | None) -> None:
    """A file of the service's own has no connections to share."""
    report = judge(changed("status", database=database)(release()))

    assert {2} == only(report, Outcome.NOT_APPLICABLE)


def test_live_says_what_takes_traffic() -> None:
    """Without --probe, what only traffic shows is inconclusive, and says so."""
    report = judge(dataclasses.replace(release(), depth=Depth.LIVE))

    assert {1, 3, 4, 5, 9, 10, 11, 12} == only(report, Outcome.INCONCLUSIVE)
    assert all("Add --probe." in done(report, number) for number in only(report, Outcome.INCONCLUSIVE))


def test_no_authorship_policy_warns_on_what_people_vouch_for() -> None:
    """Anybody could have written it in anybody's name."""
    report = judge(without("ValidatingAdmissionPolicy", ".attestations")(release()))

    assert {13, 14, 15, 16} == only(report, Outcome.WARN)


def test_a_release_that_is_gone_is_not_verified() -> None:
    """No Deployment, no pass."""
    report = judge(without("Deployment")(release()))

    assert 1 in only(report, Outcome.INCONCLUSIVE)


def test_no_report_repeats_a_secret() -> None:
    """Reports go into logs and reviews."""
    secrets = {name: f"{name}-in-the-clear-0123456789" for name in ("API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET")}
    snapshot = variable("DATABASE_URL", "postgresql://me:hunter2-hunter2@db/x")(release())
    for name, value in secrets.items():
        snapshot = variable(name, value)(snapshot)

    report = judge(snapshot)

    assert "stands in the clear" in repr(report)
    assert not [value for value in (*secrets.values(), "hunter2") if value in repr(report)]
