"""The replica checks, each over manifests as people write them."""

from __future__ import annotations

import dataclasses
import textwrap

import pytest

from deploytool import manifests
from deploytool.checks import catalog, evaluation
from deploytool.model.expectations import Expectations
from deploytool.model.finding import Finding, Outcome, Report
from deploytool.model.observations import Unseen
from deploytool.model.snapshot import Snapshot, Target

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


def evaluate(snapshot: Snapshot) -> Report:
    """Judge the first item alone."""
    return evaluation.evaluate(snapshot, Expectations(), catalog.find("single-instance"))


def judge(text: str, source: str = "web.yaml") -> Report:
    """Judge one file."""
    return evaluate(manifests.parse(source, textwrap.dedent(text).encode()))


def findings(report: Report, rule: str) -> list[Finding]:
    """Return what one rule says."""
    return [finding for result in report.results for finding in result.findings if finding.rule == rule]


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

    assert [outcome] == [finding.outcome for finding in findings(report, "replicas")]
    assert outcome is report.outcome


def test_single_says_what_it_saw_and_where() -> None:
    """The evidence names file, document and field, so that a person finds the line."""
    (_, found) = findings(judge(DEPLOYMENT % 1 + "---\nnull\n---" + DEPLOYMENT % 3), "replicas")

    (evidence,) = found.evidence
    assert ("web.yaml", 3, "spec.replicas", 3) == (evidence.source, evidence.document, evidence.field, evidence.seen)
    assert found.subject == "Deployment web"
    assert found.remediation


def test_single_takes_an_absent_count_for_one() -> None:
    """Kubernetes defaults to 1."""
    (found,) = findings(judge("{kind: StatefulSet, metadata: {name: db}}"), "replicas")

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
        pytest.param("replicaCount: 3", 3, id="values of a chart"),
        pytest.param("{replicaCount: 1, autoscaling: {enabled: true, maxReplicas: 4}}", 4, id="values that scale"),
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

    (found,) = [one for one in findings(report, "replicas") if one.outcome is Outcome.FAIL]
    assert [seen] == [evidence.seen for evidence in found.evidence]
    assert "web" in found.subject  # the file's name, where nothing else has one


def test_single_reads_a_kustomization_by_its_file_name() -> None:
    """The kind may be left out of a kustomization.yaml."""
    report = judge("replicas: [{name: web, count: 2}]", source="overlays/kustomization.yaml")

    assert report.outcome is Outcome.FAIL


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty file"),
        pytest.param("image: {tag: x}", id="values without a count"),
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

    assert [outcome] == [finding.outcome for finding in findings(report, "autoscaler")]


@pytest.mark.parametrize(
    ("text", "outcomes"),
    [
        pytest.param("{kind: Deployment, spec: {strategy: {type: Recreate}}}", [Outcome.PASS], id="Recreate"),
        pytest.param("{kind: Deployment, spec: {strategy: {type: RollingUpdate}}}", [Outcome.FAIL], id="RollingUpdate"),
        pytest.param("{kind: Deployment, spec: {}}", [Outcome.FAIL], id="the default"),
        pytest.param("{kind: StatefulSet, spec: {}}", [], id="cannot overlap"),
        pytest.param(
            "services: {web: {deploy: {update_config: {order: start-first}}}}",
            [Outcome.FAIL],
            id="compose, start-first",
        ),
        pytest.param(
            "services: {web: {deploy: {update_config: {order: stop-first}}}}", [Outcome.PASS], id="compose, stop-first"
        ),
        pytest.param("services: {web: {}}", [], id="compose, whose default is stop-first"),
    ],
)
def test_strategy_fails_on_an_update_with_two_copies(text: str, outcomes: list[Outcome]) -> None:
    """During an overlapping update two copies serve, or the new one waits for ever, however many are asked for."""
    assert outcomes == [finding.outcome for finding in findings(judge(text), "strategy")]


def test_only_keeps_the_named_workload_and_what_scales_it() -> None:
    """Others in the same files may have as many copies as they like."""
    text = (
        DEPLOYMENT % 1 + "---" + DEPLOYMENT.replace("web", "front") % 5 + "---" + AUTOSCALER.replace("web", "front") % 9
    )
    snapshot = manifests.parse("all.yaml", textwrap.dedent(text).encode())

    assert evaluate(snapshot.only(frozenset({"web"}))).outcome is Outcome.PASS
    assert evaluate(snapshot.only(frozenset({"front"}))).outcome is Outcome.FAIL
    assert evaluate(snapshot.only(frozenset({"typo"}))).outcome is Outcome.INCONCLUSIVE


def test_a_chart_that_was_not_rendered_is_not_verified() -> None:
    """Its values are judged, and that is not enough for a pass."""
    values = manifests.parse("values.yaml", b"replicaCount: 1")
    snapshot = dataclasses.replace(values, unrendered={"chart": Unseen("there is no helm", "Install Helm.")})

    report = evaluate(snapshot)

    assert Outcome.INCONCLUSIVE is report.outcome
    assert "Install Helm." in {finding.remediation for finding in findings(report, "replicas")}


def test_a_kustomization_of_another_workload_is_left_out() -> None:
    """As everything else that was not named."""
    snapshot = manifests.parse("x.yaml", b"{kind: Kustomization, replicas: [{name: web, count: 5}]}")

    assert Outcome.INCONCLUSIVE is evaluate(snapshot.only(frozenset({"other"}))).outcome


def test_only_keeps_compose_services_with_dots_in_their_names() -> None:
    """The path of a service ends in its name."""
    snapshot = manifests.parse("x.yaml", b"services: {my.web: {scale: 2}, other: {}}")

    assert 1 == len(snapshot.only(frozenset({"my.web"})).compose)


def test_targets_are_named_for_people() -> None:
    """Files offline, the place in the cluster live."""
    assert "a.yaml, b.yaml" == str(Target(sources=("a.yaml", "b.yaml")))
    assert "realtime/web in blue" == str(Target("web", "realtime", context="blue"))
    assert "web" == str(Target("web"))
