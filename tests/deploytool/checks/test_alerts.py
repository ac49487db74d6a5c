"""Which alerts look at this workload, and what is wrong with them."""

from __future__ import annotations

import dataclasses

import pytest

from deploytool.checks.alerts import alerts
from deploytool.model.finding import Outcome
from deploytool.model.observations import AlertRule, PrometheusRules
from deploytool.model.snapshot import Snapshot, Target
from tests.deploytool.checks.releases import NAME, NAMESPACE, NOW, judge, release, result, unread, with_objects, without

RESIDENT = "slackwater_process_resident_memory_bytes"
ERRORS = "slackwater_errors_total"


def with_alert(expression: str) -> Snapshot:
    """Return a release that has this alert alone."""
    rule = {"alert": "Mine", "expr": expression, "annotations": {"runbook_url": "https://docs.example.org/deploy"}}
    spec = {"groups": [{"rules": [rule, {"record": "x", "expr": "y"}]}]}
    return with_objects({"kind": "PrometheusRule", "metadata": {"name": "mine"}, "spec": spec})(
        without("PrometheusRule")(release())
    )


@pytest.mark.parametrize(
    ("selector", "selects"),
    [
        pytest.param("", True, id="none"),
        pytest.param(f'{{namespace="{NAMESPACE}"}}', True, id="the namespace"),
        pytest.param('{namespace="other"}', False, id="another namespace"),
        pytest.param('{namespace!="other"}', True, id="all but another"),
        pytest.param(f'{{namespace!="{NAMESPACE}"}}', False, id="all but ours"),
        pytest.param(f'{{job=~"{NAME}-.*"}}', True, id="the job by a pattern"),
        pytest.param('{job=~"shop-.*"}', False, id="another job"),
        pytest.param('{job!~"shop-.*"}', True, id="no other job"),
        pytest.param(f'{{pod=~"{NAME}-.+"}}', True, id="the pod"),
        pytest.param('{container="slackwater"}', True, id="the container"),
        pytest.param("{container='proxy'}", False, id="another container"),
        pytest.param('{cluster="blue"}', True, id="a label that is not known"),
        pytest.param('{job=~"("}', False, id="no pattern"),
        pytest.param('{job=~"(a+)+"}', False, id="a pattern that is not judged"),
    ],
)
def test_alerts_that_select_us_are_told_from_others(selector: str, selects: bool) -> None:  # noqa: FBT001  # a case
    """By the labels that Prometheus gives our metrics."""
    found = result(judge(with_alert(f"rate({ERRORS}{selector}[5m]) > 0")), 7)

    assert (Outcome.PASS if selects else Outcome.FAIL) is found.outcome


@pytest.mark.parametrize(
    ("expression", "outcome"),
    [
        pytest.param(f"{RESIDENT} > 0.85 * 805306368", Outcome.PASS, id="a part of the limit"),
        pytest.param(f"{RESIDENT} > 805306368", Outcome.FAIL, id="the limit itself"),
        pytest.param(f"{RESIDENT} > 1e9", Outcome.FAIL, id="more than the limit"),
        pytest.param(f"{RESIDENT} > 1.2.3", Outcome.PASS, id="no number"),
        pytest.param(f"{RESIDENT} > on(pod) kube_pod_container_resource_limits", Outcome.PASS, id="not a constant"),
        pytest.param(f"container_memory_working_set_bytes{{pod=~'{NAME}-.*'}} > 7e8", Outcome.PASS, id="of the node"),
        pytest.param(f"{RESIDENT}{' ' * 50_000}> 1", Outcome.FAIL, id="endless white space"),
        pytest.param(RESIDENT, Outcome.FAIL, id="compares with nothing"),
    ],
)
def test_memory_alerts_have_to_fire_in_time(expression: str, outcome: Outcome) -> None:
    """Before the pod is killed."""
    assert outcome is result(judge(with_alert(expression)), 6).outcome


def test_alerts_of_prometheus_itself_count() -> None:
    """Wherever they were written; with what Prometheus says of their health."""
    bare = without("PrometheusRule")(release())
    rules = tuple(
        AlertRule(name, f"{metric} > 1", health, "it is odd" if health == "err" else "", {"runbook_url": "https://x"})
        for name, metric, health in (("Memory", RESIDENT, "ok"), ("Errors", ERRORS, "err"))
    )

    report = judge(bare.with_seen(prometheus=PrometheusRules("GET rules", NOW, rules)))

    assert [True, True] == [
        one.is_loaded for one in alerts(bare.with_seen(prometheus=PrometheusRules("x", NOW, rules)))
    ]
    assert Outcome.PASS is result(report, 6).outcome
    assert Outcome.FAIL is result(report, 7).outcome
    assert "it is odd" in result(report, 7).findings[0].message


def test_alerts_that_could_not_be_read_are_not_missed() -> None:
    """Neither from the cluster nor from Prometheus."""
    report = judge(unread("PrometheusRule")(release()))

    assert Outcome.INCONCLUSIVE is result(report, 6).outcome
    assert Outcome.INCONCLUSIVE is result(report, 7).outcome


def test_files_without_alerts_say_nothing() -> None:
    """They may be elsewhere; only a cluster shows that there is none."""
    bare = dataclasses.replace(without("PrometheusRule")(release()), target=Target())

    assert "no alert" not in " ".join(one.message for one in result(judge(bare), 7).findings)


def test_a_runbook_that_is_no_address_fails() -> None:
    """Nobody can open it at night."""
    snapshot = with_alert(f"{ERRORS} > 0")
    rules = AlertRule("Mine", f"{ERRORS} > 0", annotations={"runbook_url": "see the wiki"})

    report = judge(without("PrometheusRule")(snapshot).with_seen(prometheus=PrometheusRules("x", NOW, (rules,))))

    assert "its runbook_url is no address" in " ".join(one.message for one in result(report, 16).findings)
