"""The count of WebSockets is there for Prometheus, is read by it, and is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.checks import selectors
from deploytool.checks.observing import unknown, verdict
from deploytool.checks.workloads import ours
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.expectations import Expectations
    from deploytool.model.node import Node
    from deploytool.model.snapshot import Snapshot

__all__ = ("ITEMS",)

_METRICS = ("slackwater_connections", "slackwater_connections_probe", "slackwater_connections_limit")
_PATH = "/metrics"


def _exported(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    scrape = snapshot.scrape
    if isinstance(scrape, Unseen):
        yield unknown("what the service exports", scrape)
        return
    missing = [name for name in _METRICS if name not in scrape.samples]
    count = scrape.samples.get(_METRICS[0])
    evidence = (Evidence(scrape.source, _METRICS[0], count, at=scrape.at),)
    message = f"{', '.join(missing)} missing" if missing else f"{_METRICS[0]} is {count:g}"
    yield Observation(verdict(not missing), "", message, evidence)


def _scraped(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    monitors = [*snapshot.of_kind("ServiceMonitor")]
    found = [*_selecting(snapshot, monitors)]
    yield from found
    if found:
        return
    unseen = snapshot.unread.get("ServiceMonitor")
    if unseen is not None:
        yield unknown("what Prometheus scrapes", unseen)
    elif snapshot.target.workload or monitors:
        place = monitors[0].place if monitors else None
        evidence = (
            Evidence(place.source if place else "servicemonitors", "spec.selector", "none selects the service"),
        )
        message = "no ServiceMonitor selects the Service with the metrics"
        yield Observation(Verdict.VIOLATED if monitors else Verdict.DOUBTFUL, "", message, evidence)


def _selecting(snapshot: Snapshot, monitors: list[Node]) -> Iterator[Observation]:
    pods = [selectors.template_labels(one) for one in ours(snapshot)]
    for service in snapshot.of_kind("Service"):
        if not any(selectors.matches_all(service.child("spec", "selector"), wanted) for wanted in pods):
            continue
        ports = {port.text("name") for port in service.child("spec").children("ports")}
        for monitor in monitors:
            if not selectors.matches(monitor.child("spec", "selector"), selectors.labels(service)):
                continue
            for endpoint in monitor.child("spec").children("endpoints"):
                if endpoint.text("port") in ports and endpoint.text("path") in {"", _PATH}:
                    evidence = (endpoint.setting("port").evidence,)
                    message = f"scrapes {service.subject}, port {endpoint.text('port')}"
                    yield Observation(Verdict.SATISFIED, monitor.subject, message, evidence)


def _gauge(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    trial = snapshot.gauge
    if isinstance(trial, Unseen):
        yield unknown("whether the count follows the connections", trial)
        return
    shown = f"{trial.before}, {trial.during} with {trial.opened} probes open, {trial.after} afterwards"
    evidence = (Evidence(trial.source, trial.metric, shown, at=trial.at),)
    rose, fell = trial.during - trial.before, trial.during - trial.after
    if not trial.opened:
        yield Observation(Verdict.UNKNOWN, "", "no probe could be opened", evidence)
    elif (rose, fell) == (trial.opened, trial.opened):
        yield Observation(Verdict.SATISFIED, "", f"{trial.metric} rose by {rose} and fell by {fell}", evidence)
    else:
        message = f"{trial.opened} probes were opened; {trial.metric} rose by {rose} and fell by {fell}"
        yield Observation(Verdict.VIOLATED, "", message, evidence)


ITEMS = (
    Item(
        number=5,
        id="monitoring.connection-metrics",
        category=Category.MONITORING,
        title="WebSocket connection metrics enabled",
        knows=(
            "The metrics of the service and a ServiceMonitor that selects it; the count of probes rises by as many as "
            "are opened, and falls again."
        ),
        needs=frozenset({"objects", "scrape", "gauge"}),
        depends_on=("infrastructure.single-instance", "security.tls"),
        rules=(
            Rule(
                "scraped",
                Depth.OFFLINE,
                Severity.ERROR,
                "a ServiceMonitor selects the Service with the metrics",
                "Let the chart make one: `helm upgrade {release} helm/slackwater --namespace {namespace} "
                "--reuse-values --set monitoring.serviceMonitor.enabled=true`.",
                _scraped,
            ),
            Rule(
                "exported",
                Depth.LIVE,
                Severity.ERROR,
                "the service exports its connections",
                "Look at GET /metrics on the admin port: `kubectl --namespace {namespace} port-forward "
                "deployment/{workload} 3001:admin`, then `curl http://127.0.0.1:3001/metrics`.",
                _exported,
            ),
            Rule(
                "follows",
                Depth.PROBE,
                Severity.ERROR,
                "the count rises and falls with the connections",
                "See that the public address and the metrics belong to the same pod: `kubectl --namespace {namespace} "
                "get pods,endpointslices`.",
                _gauge,
            ),
        ),
    ),
)
