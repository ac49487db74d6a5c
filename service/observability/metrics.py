"""What happened, as numbers for Prometheus.

The service counts in plain integers; only a scrape turns them into metrics. So the
two events of the hot path, a publication and its deliveries, cost some additions, and no lookup by label.
Neither channels nor users are labels: their number has no bound.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from typing_extensions import override

from service.auth.probe import is_probe
from service.core.codes import Disconnects, Error, Errors, rows
from service.core.messages import Command
from service.core.phase import Phase
from service.observability.process import Process, SystemProcess
from service.realtime.ports import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from service.core.codes import Disconnect
    from service.realtime.instance import Instance

__all__ = ("CONTENT_TYPE", "METRICS", "Description", "Metrics")

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""Of what `Metrics.exposition` returns."""

_PEER_GONE: Final = "none"
_AGE_BOUNDS: Final = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)


class Metrics(Observer):
    """Counts what it is told, and reads the rest from the instance when it is scraped. Event loop only.

    Args:
        process: Whose memory and processor time is reported; this one unless told otherwise.

    Attributes:
        publications: Taken in since the start.
        deliveries: Sent out since the start, one for each subscriber.
    """

    def __init__(self, process: Process | None = None) -> None:
        self.process = process or SystemProcess()
        self.publications = 0
        self.publication_bytes = 0
        self.deliveries = 0
        self.frames = 0
        self.opened = 0
        self.accepted = 0
        # What is known beforehand starts at 0, so that the first one already shows as a rise.
        self.closes: Counter[str] = _zeros(_PEER_GONE, *(str(row.code) for _, row in rows(Disconnects)))
        self.refusals: Counter[str] = Counter()
        self.commands: Counter[str] = _zeros(*Command.__struct_fields__[1:])
        self.errors: Counter[str] = _zeros(*(str(row.code) for _, row in rows(Errors)))
        self.limits: Counter[str] = Counter()
        self.recoveries: Counter[str] = _zeros("recovered", "unrecovered")
        self.notes: Counter[str] = _zeros("database.degraded", "database.unsettled", "outbox.set_aside")
        self.outbox_published = 0
        self.outbox_waiting = 0
        self.outbox_oldest_seconds = 0.0
        self.outbox_set_aside = 0
        self.recovered_publications = 0
        self.drain_batches = 0
        self.drain_closes = 0
        self.failures: Counter[str] = Counter()
        self.ages = [0] * (len(_AGE_BOUNDS) + 1)
        self.age_seconds = 0.0
        self._instance: Instance | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Scrape(self))

    def watch(self, instance: Instance) -> None:
        """Read the gauges from ``instance``; until then a scrape has counters alone."""
        self._instance = instance

    @property
    def instance(self) -> Instance | None:
        """The instance that is watched, None before it was made."""
        return self._instance

    def exposition(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self._registry)

    # The hot path.

    @override
    def published(self, size: int) -> None:
        self.publications += 1
        self.publication_bytes += size

    @override
    def delivered(self, deliveries: int, size: int) -> None:
        self.deliveries += deliveries
        self.frames += 1

    # The rest.

    @override
    def connection_opened(self) -> None:
        self.opened += 1

    @override
    def connection_closed(self, why: Disconnect | None, seconds: float) -> None:
        self.closes[_PEER_GONE if why is None else str(why.code)] += 1
        self.ages[sum(seconds > bound for bound in _AGE_BOUNDS)] += 1
        self.age_seconds += seconds

    @override
    def upgrade_refused(self, reason: str) -> None:
        self.refusals[reason] += 1

    @override
    def authenticated(self) -> None:
        self.accepted += 1

    @override
    def command(self, method: str) -> None:
        self.commands[method] += 1

    @override
    def error(self, method: str, error: Error) -> None:
        self.errors[str(error.code)] += 1

    @override
    def limited(self, limit: str) -> None:
        self.limits[limit] += 1

    @override
    def recovered(self, publications: int, *, success: bool) -> None:
        self.recoveries["recovered" if success else "unrecovered"] += 1
        self.recovered_publications += publications

    @override
    def drained(self, batch: int, closed: int, remaining: int) -> None:
        self.drain_batches += 1
        self.drain_closes += closed

    @override
    def failed(self, where: str, error: BaseException) -> None:
        self.failures[where] += 1

    @override
    def noted(self, event: str, **facts: object) -> None:
        self.notes[event] += 1

    @override
    def outbox_relayed(self, rows: int) -> None:
        self.outbox_published += rows

    @override
    def outbox_seen(self, waiting: int, oldest_seconds: float, set_aside: int) -> None:
        self.outbox_waiting, self.outbox_oldest_seconds, self.outbox_set_aside = waiting, oldest_seconds, set_aside


@dataclass(frozen=True, slots=True)
class Description:
    """One metric: its words, and where its values are.

    Attributes:
        name: Without the ``_total`` that counters end in.
        kind: ``counter``, ``gauge`` or ``histogram``.
        label: Its one label; "" when it has none.
        read: Yields a value for each value of the label, which is "" without one. Not
            asked for histograms.
        needs_instance: Left out of a scrape as long as no instance is watched.
    """

    name: str
    kind: str
    help: str
    label: str
    read: Callable[[Metrics], Iterable[tuple[str, float]]]
    needs_instance: bool = False

    @property
    def exposed_name(self) -> str:
        """The name as a query writes it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


class _Scrape(Collector):
    """Turns the integers into families, at the moment of a scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @override
    def collect(self) -> Iterator[Metric]:
        for description in METRICS:
            if description.needs_instance and self._metrics.instance is None:
                continue
            if description.kind == "histogram":
                yield self._ages(description)
                continue
            family = _FAMILIES[description.kind](
                description.name, description.help, labels=[description.label] if description.label else []
            )
            for label, value in description.read(self._metrics):
                family.add_metric([label] if description.label else [], value)
            yield family

    def _ages(self, description: Description) -> HistogramMetricFamily:
        metrics, total = self._metrics, 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, _AGE_BOUNDS), "+Inf"), metrics.ages, strict=True):
            total += count
            buckets.append((bound, total))
        return HistogramMetricFamily(description.name, description.help, buckets=buckets, sum_value=metrics.age_seconds)


_FAMILIES: Final = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def _zeros(*names: str) -> Counter[str]:
    return Counter(dict.fromkeys(names, 0))


def _counter(name: str, text: str, read: Callable[[Metrics], float]) -> Description:
    return Description(f"slackwater_{name}", "counter", text, "", lambda metrics: [("", read(metrics))])


def _counters(name: str, text: str, label: str, read: Callable[[Metrics], Counter[str]]) -> Description:
    return Description(f"slackwater_{name}", "counter", text, label, lambda metrics: read(metrics).items())


def _level(name: str, text: str, read: Callable[[Metrics], float]) -> Description:
    """Describe a gauge that is told to the metrics, and not read from the instance."""
    return Description(f"slackwater_{name}", "gauge", text, "", lambda metrics: [("", read(metrics))])


def _gauge(name: str, text: str, read: Callable[[Instance], float]) -> Description:
    return _gauges(name, text, "", lambda instance: [("", read(instance))])


def _gauges(name: str, text: str, label: str, read: Callable[[Instance], Iterable[tuple[str, float]]]) -> Description:
    def of(metrics: Metrics) -> Iterable[tuple[str, float]]:
        return () if metrics.instance is None else read(metrics.instance)

    return Description(f"slackwater_{name}", "gauge", text, label, of, needs_instance=True)


def _probes(instance: Instance) -> int:
    return sum(len(connections) for user, connections in instance.hub.users.items() if is_probe(user))


def _phases(instance: Instance) -> Iterable[tuple[str, float]]:
    return [(phase.value, float(phase is instance.lifecycle.phase)) for phase in Phase]


METRICS: Final = (
    _gauge("connections", "Open WebSockets.", lambda i: len(i.hub.connections)),
    _gauge(
        "connections_unauthenticated",
        "Open WebSockets whose connect command has not been accepted yet.",
        lambda i: i.hub.unauthenticated,
    ),
    _gauge("connections_probe", "Open WebSockets of probes.", _probes),
    _gauge("connections_limit", "Most WebSockets at once.", lambda i: i.admission_limits.connections),
    _gauge("users", "Different users connected, the anonymous one included.", lambda i: len(i.hub.users)),
    _gauge("rooms", "Channels with a subscriber.", lambda i: len(i.hub.rooms)),
    _gauge("subscriptions", "Subscriptions of all connections.", lambda i: i.hub.subscriptions),
    _gauge(
        "database_degraded",
        "1 while the database does not do what it is asked; 0 without a database.",
        lambda i: float(i.database is not None and bool(i.database.degraded)),
    ),
    _gauge(
        "database_connections",
        "Connections of the pool that are in use.",
        lambda i: 0 if i.database is None else i.database.pool().in_use,
    ),
    _gauge(
        "publications_waiting",
        "Publications that wait for their commit.",
        lambda i: 0 if i.durable is None else i.durable.waiting,
    ),
    _gauge("lock_held", "1 while this process has the lock and may serve.", lambda i: float(i.succession.is_held)),
    _gauge("lock_token", "Fencing number of the tenure; 0 while there is none.", lambda i: i.succession.token),
    _gauges("phase", "1 for the phase the process is in, 0 for the others.", "phase", _phases),
    _gauges(
        "info",
        "Always 1; the version of the software.",
        "version",
        lambda i: [(i.version, 1.0)],
    ),
    _gauge("uptime_seconds", "Time since the start.", lambda i: i.context.clock.now() - i.started_at),
    _counter("connections_opened", "WebSockets that were let in.", lambda m: m.opened),
    _counter("connections_authenticated", "Connect commands that were accepted.", lambda m: m.accepted),
    _counters(
        "connections_closed",
        f"WebSockets that ended, by the code they were closed with; {_PEER_GONE} when the client went away.",
        "code",
        lambda m: m.closes,
    ),
    Description(
        "slackwater_connection_age_seconds",
        "histogram",
        "How long connections had been open when they ended.",
        "",
        lambda _: (),
    ),
    _counters("upgrades_refused", "WebSockets that were not let in.", "reason", lambda m: m.refusals),
    _counters("commands", "Commands of clients.", "method", lambda m: m.commands),
    _counters("errors", "Commands that were answered with an error.", "code", lambda m: m.errors),
    _counters("limited", "Refusals for a limit.", "limit", lambda m: m.limits),
    _counter("publications", "Publications taken in, from clients and back ends.", lambda m: m.publications),
    _counter("publication_bytes", "Size of these publications.", lambda m: m.publication_bytes),
    _counter("deliveries", "Publications, joins and leaves sent out, one for each receiver.", lambda m: m.deliveries),
    _counter("frames_built", "Frames that were built for these deliveries.", lambda m: m.frames),
    _counters("recoveries", "Attempts of clients to recover what they missed.", "result", lambda m: m.recoveries),
    _counter(
        "recovered_publications", "Publications handed to clients that recovered.", lambda m: m.recovered_publications
    ),
    _counter(
        "database_reads",
        "Reads of publications from the database; what is in memory is not read.",
        lambda m: 0 if m.instance is None or m.instance.durable is None else m.instance.durable.read_count,
    ),
    _counter(
        "lock_losses",
        "Tenures that were lost, each with all its connections.",
        lambda m: 0 if m.instance is None else m.instance.succession.losses,
    ),
    _counter("drain_batches", "Batches closed by drains.", lambda m: m.drain_batches),
    _counter("drain_closes", "Connections closed by drains.", lambda m: m.drain_closes),
    _counter("outbox_published", "Rows of the outbox that were published.", lambda m: m.outbox_published),
    _level(
        "outbox_waiting",
        "Rows of the outbox that wait, those that will be tried again among them.",
        lambda m: m.outbox_waiting,
    ),
    _level("outbox_oldest_seconds", "How long the oldest of them has been waiting.", lambda m: m.outbox_oldest_seconds),
    _level(
        "outbox_set_aside",
        "Rows of the outbox that were refused too often and wait for a person.",
        lambda m: m.outbox_set_aside,
    ),
    _counters(
        "events",
        "Events worth a line in the log, those that were kept back among them; `database.unsettled` is a commit whose "
        "outcome was unknown.",
        "event",
        lambda m: m.notes,
    ),
    _counters("failures", "Defects of the service itself; each has a line in the log.", "where", lambda m: m.failures),
    Description(
        "slackwater_process_resident_memory_bytes",
        "gauge",
        "Resident memory of the process.",
        "",
        lambda m: [("", m.process.memory_bytes())],
    ),
    _counter(
        "process_cpu_seconds",
        "Processor time of the process, of all cores together.",
        lambda m: m.process.cpu_seconds(),
    ),
)
"""Every metric, in the order of the reference page."""
