"""A load test of this very image has been made, lately enough, and was good enough."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deploytool.checks.observing import unknown, verdict
from deploytool.checks.workloads import container, ours
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.expectations import Expectations
    from deploytool.model.observations import LoadReport
    from deploytool.model.snapshot import Snapshot

__all__ = ("ITEMS", "running_digest")

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DAY = 86_400.0


def running_digest(snapshot: Snapshot) -> str:
    """Return the digest of the image that runs; empty when nothing says which one that is."""
    if not isinstance(snapshot.status, Unseen) and snapshot.status.image_digest:
        return snapshot.status.image_digest
    for one in ours(snapshot):
        found = _DIGEST.search(container(one).text("image"))
        if found:
            return found[0]
    return ""


def _report(snapshot: Snapshot) -> LoadReport | Observation:
    load = snapshot.load
    if load is None:
        evidence = (Evidence("load reports", "newest", None),)
        return Observation(Verdict.VIOLATED, "", "no load test is on record", evidence)
    return unknown("a load report", load) if isinstance(load, Unseen) else load


def _evidence(report: LoadReport, field: str, seen: float | str) -> tuple[Evidence, ...]:
    return (Evidence(report.source, field, seen, at=report.at),)


def _on_record(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    report = _report(snapshot)
    if isinstance(report, Observation):
        yield report
        return
    message = f"{report.connections} connections, {report.deliveries} deliveries in {report.duration_seconds:g} s"
    yield Observation(Verdict.SATISFIED, "", message, _evidence(report, "connections", report.connections))


def _same_image(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    report = _report(snapshot)
    if isinstance(report, Observation):
        return
    running, tested = running_digest(snapshot), report.image_digest
    evidence = _evidence(report, "image_digest", tested or "unknown")
    if not running:
        yield Observation(Verdict.UNKNOWN, "", "nothing says which image runs", evidence)
    elif tested != running:
        message = f"the report is of {tested or 'an unknown image'}, and {running} runs"
        yield Observation(Verdict.VIOLATED, "", message, evidence)
    else:
        yield Observation(Verdict.SATISFIED, "", "the report is of the image that runs", evidence)


def _in_date(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
    report = _report(snapshot)
    if isinstance(report, Observation):
        return
    days, most = (snapshot.at - report.at) / _DAY, expectations.load.max_age_seconds / _DAY
    message = f"the report is {days:.0f} days old, of {most:.0f} allowed"
    yield Observation(verdict(days <= most), "", message, _evidence(report, "age in days", round(days, 1)))


def _good_enough(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
    report = _report(snapshot)
    if isinstance(report, Observation):
        return
    wanted = expectations.load
    least = (
        ("connections", report.connections, wanted.connections),
        ("publications", report.publications, wanted.publications),
    )
    most: tuple[tuple[str, float, float], ...] = (
        ("p99_seconds", report.p99_seconds, wanted.p99_seconds),
        ("lost", report.lost, wanted.lost),
        ("errors", report.errors, wanted.errors),
    )
    for name, count, needed in least:
        message = f"{name}: {count}, at least {needed} wanted"
        yield Observation(verdict(count >= needed), "", message, _evidence(report, name, count))
    for name, seen, bound in most:
        message = f"{name}: {seen:g}, at most {bound:g} allowed"
        yield Observation(verdict(seen <= bound), "", message, _evidence(report, name, seen))


_RUN = (
    "Run one: `deploytool check --probe --load --select performance-test --namespace {namespace} "
    "--workload {workload}`."
)

ITEMS = (
    Item(
        number=8,
        id="monitoring.performance-test",
        category=Category.MONITORING,
        title="performance testing completed",
        knows="A bounded load test made now, or a stored report of the image that runs, in date, judged again.",
        needs=frozenset({"load", "status", "objects"}),
        depends_on=("security.tls",),
        passes_from=Depth.LIVE,
        rules=(
            Rule("report", Depth.LIVE, Severity.ERROR, "a load test is on record", _RUN, _on_record),
            Rule(
                "image",
                Depth.LIVE,
                Severity.ERROR,
                "it tested the image that runs",
                f"Test this image. {_RUN} "
                "Where nothing says which image runs, pin it by the digest that `docker push` printed: "
                "`helm upgrade {release} helm/slackwater --namespace {namespace} --reuse-values --set "
                "image.digest=sha256:DIGEST`.",
                _same_image,
            ),
            Rule("age", Depth.LIVE, Severity.ERROR, "it is not out of date", _RUN, _in_date),
            Rule(
                "thresholds",
                Depth.LIVE,
                Severity.ERROR,
                "it reached the thresholds",
                "Look at the report, give the pod more (chart: resources), and test again; the thresholds stand under "
                "load in deploytool.yaml. A test opens at most a tenth of settings.maxConnections: ask for no more "
                "connections than that, or raise it.",
                _good_enough,
            ),
        ),
    ),
)
