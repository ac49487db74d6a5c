"""The replica checks, each over manifests as people write them."""

from __future__ import annotations

import textwrap

import pytest

from deploytool import manifests
from deploytool.checks import catalog
from deploytool.model.finding import Finding, Outcome, Report

DEPLOYMENT = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      replicas: %s
      strategy: {type: Recreate}
"""
AUTOSCALER = """
    kind: HorizontalPodAutoscaler
    metadata: {name: web}
    spec:
      scaleTargetRef: {kind: Deployment, name: web}
      maxReplicas: %s
"""


def judge(text: str, source: str = "web.yaml") -> Report:
    """Run every check over one file."""
    return catalog.evaluate(manifests.parse(source, textwrap.dedent(text).encode()))


def findings(report: Report, check: str) -> list[Finding]:
    """Return what one check says."""
    return [finding for finding in report.findings if finding.check == check]


@pytest.mark.parametrize(
    ("count", "outcome"),
    [
        pytest.param("0", Outcome.PASS, id="scaled to nothing"),
        pytest.param("1", Outcome.PASS, id="one"),
        pytest.param("null", Outcome.PASS, id="null is the default"),
        pytest.param("2", Outcome.FAIL, id="one too many"),
        pytest.param("0x10", Outcome.FAIL, id="sixteen"),
        pytest.param("2147483648", Outcome.FAIL, id="past 32 bits"),
        pytest.param("'1'", Outcome.INCONCLUSIVE, id="text"),
        pytest.param("true", Outcome.INCONCLUSIVE, id="a truth value is not 1"),
        pytest.param("1.5", Outcome.INCONCLUSIVE, id="a fraction"),
        pytest.param("-1", Outcome.INCONCLUSIVE, id="negative"),
        pytest.param("[1]", Outcome.INCONCLUSIVE, id="a list"),
        pytest.param("${REPLICAS}", Outcome.INCONCLUSIVE, id="a variable"),
    ],
)
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Rollout"])
def test_single_judges_the_count_of_every_kind(kind: str, count: str, outcome: Outcome) -> None:
    """At most one copy passes, more fail, and what is no number is not guessed at."""
    report = judge(DEPLOYMENT.replace("Deployment", kind) % count)

    assert [outcome] == [finding.outcome for finding in findings(report, "replicas.single")]
    assert outcome is report.outcome


def test_single_says_what_it_saw_and_where() -> None:
    """The evidence names file, document and field, so that a person finds the line."""
    (_, found) = findings(judge(DEPLOYMENT % 1 + "---\nnull\n---" + DEPLOYMENT % 3), "replicas.single")

    (evidence,) = found.evidence
    assert ("web.yaml", 3, "spec.replicas", 3) == (evidence.source, evidence.document, evidence.field, evidence.seen)
    assert found.subject == "Deployment web"
    assert found.remediation


def test_single_takes_an_absent_count_for_one() -> None:
    """Kubernetes defaults to 1."""
    (found,) = findings(judge("{kind: StatefulSet, metadata: {name: db}}"), "replicas.single")

    assert found.outcome is Outcome.PASS
    assert "absent" in found.message


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        pytest.param("services: {web: {deploy: {replicas: 2}}}", 2, id="deploy.replicas"),
        pytest.param("services: {web: {scale: 3}}", 3, id="scale"),
        pytest.param("services: {web: {scale: 4, deploy: {replicas: 1}}}", 4, id="the two disagree"),
        pytest.param("services: {web: {deploy: {mode: global}}}", "global", id="one on every node"),
        pytest.param("{kind: DaemonSet, metadata: {name: web}}", "DaemonSet", id="DaemonSet"),
        pytest.param("{kind: Kustomization, replicas: [{name: web, count: 5}]}", 5, id="kustomization"),
        pytest.param(
            "{kind: List, items: [{kind: Deployment, metadata: {name: web}, spec: {replicas: 6}}]}",
            6,
            id="inside a list",
        ),
    ],
)
def test_single_finds_a_count_wherever_it_can_stand(text: str, seen: int | str) -> None:
    """Compose files, DaemonSets, kustomizations and lists are all read."""
    report = judge(text)

    (found,) = [finding for finding in report.findings if finding.outcome is Outcome.FAIL]
    assert [seen] == [evidence.seen for evidence in found.evidence]
    assert "web" in found.subject


def test_single_reads_a_kustomization_by_its_file_name() -> None:
    """The kind may be left out of a kustomization.yaml."""
    report = judge("replicas: [{name: web, count: 2}]", source="overlays/kustomization.yaml")

    assert report.outcome is Outcome.FAIL


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty file"),
        pytest.param("replicaCount: 3", id="chart values"),
        pytest.param("- kind: Deployment", id="not a mapping"),
        pytest.param("{kind: Service, spec: {replicas: 5}}", id="no workload"),
        pytest.param("{kind: List, items: 5}", id="a list without items"),
        pytest.param("{kind: List, items: [5, null]}", id="a list of no objects"),
    ],
)
def test_report_is_inconclusive_when_nothing_could_be_verified(text: str) -> None:
    """No workload means that nothing was checked, which is no pass."""
    assert judge(text).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        pytest.param(AUTOSCALER % 1, Outcome.PASS, id="cannot pass one"),
        pytest.param(AUTOSCALER % 2, Outcome.FAIL, id="can"),
        pytest.param(AUTOSCALER % "null", Outcome.INCONCLUSIVE, id="without a ceiling"),
        pytest.param("{kind: ScaledObject, spec: {maxReplicaCount: 1}}", Outcome.PASS, id="KEDA, held at one"),
        pytest.param("{kind: ScaledObject, spec: {}}", Outcome.FAIL, id="KEDA, whose default is 100"),
    ],
)
def test_no_autoscaler_judges_the_ceiling(text: str, outcome: Outcome) -> None:
    """An autoscaler is harmless only when it cannot ask for a second copy."""
    report = judge(DEPLOYMENT % 1 + "---\n" + textwrap.dedent(text))

    assert [outcome] == [finding.outcome for finding in findings(report, "replicas.no-autoscaler")]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        pytest.param("{kind: Deployment, spec: {strategy: {type: Recreate}}}", Outcome.PASS, id="Recreate"),
        pytest.param("{kind: Deployment, spec: {strategy: {type: RollingUpdate}}}", Outcome.WARN, id="RollingUpdate"),
        pytest.param("{kind: Deployment, spec: {}}", Outcome.WARN, id="the default"),
        pytest.param("{kind: StatefulSet, spec: {}}", Outcome.NOT_APPLICABLE, id="cannot overlap"),
        pytest.param(
            "services: {web: {deploy: {update_config: {order: start-first}}}}", Outcome.WARN, id="compose, start-first"
        ),
        pytest.param(
            "services: {web: {deploy: {update_config: {order: stop-first}}}}", Outcome.PASS, id="compose, stop-first"
        ),
        pytest.param("services: {web: {}}", Outcome.NOT_APPLICABLE, id="compose, whose default is stop-first"),
    ],
)
def test_no_overlap_warns_of_an_update_with_two_copies(text: str, outcome: Outcome) -> None:
    """During an overlapping update two copies serve, however many are asked for."""
    assert [outcome] == [finding.outcome for finding in findings(judge(text), "replicas.no-overlap")]


def test_only_keeps_the_named_workload_and_what_scales_it() -> None:
    """Others in the same files may have as many copies as they like."""
    text = (
        DEPLOYMENT % 1 + "---" + DEPLOYMENT.replace("web", "front") % 5 + "---" + AUTOSCALER.replace("web", "front") % 9
    )
    snapshot = manifests.parse("all.yaml", textwrap.dedent(text).encode())

    assert catalog.evaluate(snapshot.only(frozenset({"web"}))).outcome is Outcome.PASS
    assert catalog.evaluate(snapshot.only(frozenset({"front"}))).outcome is Outcome.FAIL
    assert catalog.evaluate(snapshot.only(frozenset({"typo"}))).outcome is Outcome.INCONCLUSIVE


def test_checks_have_ids_of_their_own() -> None:
    """An id is an anchor in the documentation and in reports."""
    ids = [check.id for check in catalog.CHECKS]

    assert len(set(ids)) == len(ids)
