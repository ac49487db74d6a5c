"""Prometheus watches the memory and the WebSocket errors of this very workload."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploytool.checks import patterns
from deploytool.checks.workloads import container, ours
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deploytool.model.expectations import Expectations
    from deploytool.model.node import Node
    from deploytool.model.snapshot import Snapshot

__all__ = ("ERROR_RATE", "MEMORY", "Alert", "alerts")

_MEMORY = (
    "slackwater_process_resident_memory_bytes",
    "container_memory_working_set_bytes",
    "container_memory_rss",
    "container_memory_usage_bytes",
)
_ERRORS = (
    "slackwater_errors_total",
    "slackwater_upgrades_refused_total",
    "nginx_ingress_controller_requests",
    "traefik_service_requests_total",
)
_ADMIN_SERVICE = "slackwater.dev/admin-service"
_MATCHERS = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\')')
_COMPARED = re.compile(r"[^=!<>]\s*(?:>=?|<=?)\s*(?!bool)")
_THRESHOLD = re.compile(r">=?\s*((?:[\d.eE+]+\s*\*\s*)*[\d.eE+]+)\s*$")
_LONGEST_EXPRESSION = 10_000
_FACTORS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([kMGT]i?|Ki)?")


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule, wherever it was found.

    Attributes:
        is_loaded: Whether Prometheus said that it has it and could evaluate it; None when Prometheus was not asked.
        problem: Why it cannot be evaluated; empty when it can, or when that is not known.
    """

    name: str
    expression: str
    runbook: str
    evidence: Evidence
    is_loaded: bool | None = None
    problem: str = ""


def alerts(snapshot: Snapshot) -> tuple[Alert, ...]:
    """Return the alerting rules of the PrometheusRule objects, and those that Prometheus has of its own."""
    found = [*_of_objects(snapshot)]
    prometheus = snapshot.prometheus
    if isinstance(prometheus, Unseen):
        return tuple(found)
    loaded = {rule.name: rule for rule in prometheus.rules}
    joined = []
    for one in found:
        rule = loaded.get(one.name)
        problem = "" if rule is None or rule.health != "err" else rule.error or "it could not be evaluated"
        joined.append(Alert(one.name, one.expression, one.runbook, one.evidence, rule is not None, problem))
    known = {one.name for one in found}
    for rule in prometheus.rules:
        if rule.name not in known:
            evidence = Evidence(prometheus.source, rule.name, rule.query, at=prometheus.at)
            problem = rule.error or "it could not be evaluated" if rule.health == "err" else ""
            runbook = rule.annotations.get("runbook_url", "")
            joined.append(Alert(rule.name, _compact(rule.query), runbook, evidence, is_loaded=True, problem=problem))
    return tuple(joined)


def _of_objects(snapshot: Snapshot) -> Iterator[Alert]:
    for one in snapshot.of_kind("PrometheusRule"):
        for group in one.child("spec").children("groups"):
            for rule in group.children("rules"):
                if "alert" in rule:
                    runbook = rule.child("annotations").text("runbook_url")
                    yield Alert(rule.text("alert"), _compact(rule.text("expr")), runbook, rule.setting("expr").evidence)


def _compact(expression: str) -> str:
    """Return an expression without the white space that makes no difference; no honest one is endless."""
    return " ".join(expression[:_LONGEST_EXPRESSION].split())


def _watched(snapshot: Snapshot, metrics: tuple[str, ...], what: str) -> Iterator[Observation]:
    targets = [_labels_of(one) for one in ours(snapshot)]
    seen = alerts(snapshot)
    using = [(one, metric) for one in seen for metric in metrics if re.search(rf"\b{metric}\b", one.expression)]
    selecting = {
        one.name: one for one, metric in using if any(_selects(one.expression, metric, target) for target in targets)
    }
    for one in selecting.values():
        yield _judged(one)
    if selecting or not targets:
        return
    if "PrometheusRule" in snapshot.unread and isinstance(snapshot.prometheus, Unseen):
        unseen = snapshot.unread["PrometheusRule"]
        yield Observation(Verdict.UNKNOWN, "", f"alerts were not seen: {unseen.why}", remediation=unseen.way_out)
    elif using:
        others = ", ".join(sorted({one.name for one, _ in using}))
        evidence = tuple(one.evidence for one, _ in using)
        yield Observation(Verdict.VIOLATED, "", f"{others} selects another workload", evidence)
    elif seen or snapshot.target.workload:
        source = seen[0].evidence.source if seen else "prometheusrules"
        evidence = (Evidence(source, "alerts", len(seen)),)
        yield Observation(Verdict.VIOLATED, "", f"no alert looks at {what}", evidence)


def _judged(alert: Alert) -> Observation:
    evidence = (alert.evidence,)
    if alert.problem:
        return Observation(Verdict.VIOLATED, alert.name, f"is not healthy: {alert.problem}", evidence)
    if alert.is_loaded is False:
        return Observation(Verdict.VIOLATED, alert.name, "Prometheus has not loaded it", evidence)
    if not _COMPARED.search(_without_selectors(alert.expression)):
        return Observation(Verdict.VIOLATED, alert.name, "compares with nothing, so it says nothing", evidence)
    shown = "is loaded and healthy" if alert.is_loaded else "selects this workload"
    return Observation(Verdict.SATISFIED, alert.name, shown, evidence)


def _without_selectors(expression: str) -> str:
    return re.sub(r"\{[^{}]*\}", "", expression)


def _labels_of(workload: Node) -> Mapping[str, str]:
    """Return what Prometheus labels a workload's metrics with, as far as its objects tell."""
    service = workload.child("metadata", "annotations").text(_ADMIN_SERVICE).partition(":")[0]
    known = {
        "namespace": workload.namespace,
        "exported_namespace": workload.namespace,
        "job": service,
        "service": service,
        "container": container(workload).text("name"),
    }
    return {label: value for label, value in known.items() if value} | {"pod": f"{workload.name}-0a1b2c3d4-e5f6g"}


def _selects(expression: str, metric: str, labels: Mapping[str, str]) -> bool:
    """Whether every use of a metric leaves this workload in; labels that are not known cannot leave it out."""
    for use in re.finditer(rf"\b{metric}\b\s*(?:\{{([^}}]*)\}})?", expression):
        for label, operator, one, other in _MATCHERS.findall(use[1] or ""):
            if label in labels and not _holds(labels[label], operator, one or other):
                return False
    return True


def _holds(value: str, operator: str, wanted: str) -> bool:
    if operator in {"=", "!="}:
        return (value == wanted) is (operator == "=")
    found = patterns.matches(wanted.replace("\\\\", "\\"), value, whole=True)
    return found is not None and found is (operator == "=~")


def _memory_alert(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    yield from _watched(snapshot, _MEMORY, "memory")


def _memory_threshold(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    limits = [limit for one in ours(snapshot) if (limit := _bytes(_limit(one))) is not None]
    for one in alerts(snapshot):
        threshold = _threshold(one.expression) if any(name in one.expression for name in _MEMORY) else None
        if threshold is not None and limits:
            limit = max(limits)
            shown = f"fires from {threshold / 2**20:.0f} MiB, of {limit / 2**20:.0f} MiB"
            if threshold >= limit:
                message = f"{shown}: the pod is killed before"
                yield Observation(Verdict.VIOLATED, one.name, message, (one.evidence,))
            else:
                yield Observation(Verdict.SATISFIED, one.name, shown, (one.evidence,))


def _threshold(expression: str) -> float | None:
    found = _THRESHOLD.search(expression.strip())
    try:
        return math.prod(float(factor) for factor in found[1].split("*")) if found else None
    except ValueError:
        return None


def _memory_limit(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for one in ours(snapshot):
        setting = container(one).child("resources", "limits").setting("memory")
        if _bytes(_limit(one)) is None:
            message = "no memory limit" if setting.value is None else f"{setting.field} is no amount of memory"
            yield Observation(Verdict.VIOLATED, one.subject, message, (setting.evidence,))
        else:
            yield Observation(Verdict.SATISFIED, one.subject, f"may use {setting.value}", (setting.evidence,))


def _limit(workload: Node) -> str:
    return container(workload).child("resources", "limits").text("memory")


def _bytes(text: str) -> float | None:
    found = _QUANTITY.fullmatch(text)
    return float(found[1]) * _FACTORS[found[2] or ""] if found else None


def _error_alert(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    yield from _watched(snapshot, _ERRORS, "errors of WebSockets")


_RULES = (
    "`helm upgrade {release} helm/slackwater --namespace {namespace} --reuse-values "
    "--set monitoring.prometheusRule.enabled=true`"
)
_SEEN = frozenset({"objects", "prometheus"})

MEMORY: tuple[Item, ...] = (
    Item(
        number=6,
        id="monitoring.memory-alert",
        category=Category.MONITORING,
        title="memory usage alerts configured",
        knows=(
            "An alerting rule on memory that selects this workload, by PrometheusRule object or by Prometheus's own "
            "API, and is healthy; a memory limit, and a threshold below it."
        ),
        needs=_SEEN,
        rules=(
            Rule(
                "limit",
                Depth.OFFLINE,
                Severity.ERROR,
                "the container has a memory limit",
                "Set resources.limits.memory (`kubectl --namespace {namespace} set resources deployment/{workload} "
                "--limits=memory=768Mi`; chart: resources.limits.memory).",
                _memory_limit,
            ),
            Rule(
                "alert",
                Depth.OFFLINE,
                Severity.ERROR,
                "an alert looks at the memory of this workload, and works",
                f"Let the chart make its alerts: {_RULES}. Where Prometheus does not load them, give them the labels "
                "that it selects by: monitoring.labels.",
                _memory_alert,
            ),
            Rule(
                "threshold",
                Depth.OFFLINE,
                Severity.ERROR,
                "the alert fires before the limit is reached",
                "Lower the alert's threshold (chart: monitoring.prometheusRule.memoryRatio) or raise "
                "resources.limits.memory.",
                _memory_threshold,
            ),
        ),
    ),
)

ERROR_RATE: tuple[Item, ...] = (
    Item(
        number=7,
        id="monitoring.error-rate",
        category=Category.MONITORING,
        title="error rate monitoring for WebSocket routes",
        knows="As for memory, an alerting rule on refused upgrades and failed commands.",
        needs=_SEEN,
        rules=(
            Rule(
                "alert",
                Depth.OFFLINE,
                Severity.ERROR,
                "an alert looks at the WebSocket errors of this workload, and works",
                f"Let the chart make its alerts: {_RULES}. Where Prometheus does not load them, give them the labels "
                "that it selects by: monitoring.labels.",
                _error_alert,
            ),
        ),
    ),
)
