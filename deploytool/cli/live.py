"""Looks at a release in its cluster: puts together the parts that know nothing of each other.

Yields one snapshot after another, each with more in it: an item can be judged as soon as what it needs is there.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from typing_extensions import override

from deploytool.cli.traffic import Traffic
from deploytool.clock import SystemClock
from deploytool.cluster import attestations, resources
from deploytool.cluster import snapshot as cluster_snapshot
from deploytool.cluster.client import Cluster
from deploytool.cluster.errors import ClusterError
from deploytool.cluster.service_proxy import ServiceProxy
from deploytool.cluster.unseen import unseen
from deploytool.errors import DeploytoolError
from deploytool.model.expectations import Expectations
from deploytool.model.finding import Depth
from deploytool.model.observations import Unseen
from deploytool.model.snapshot import OBSERVED, Snapshot, Target
from deploytool.probes import documents
from deploytool.probes.load_files import read_report
from deploytool.service_api import AdminApi, HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping
    from typing import Any

    from deploytool.clock import Clock
    from deploytool.cluster.snapshot import Release
    from deploytool.model.node import Node
    from deploytool.service_api import Transport

__all__ = ("LiveOptions", "Progress", "admin_key", "observe", "open_cluster")

TRAFFIC: Final = ("handshakes", "origins", "tokens", "tls", "gauge", "load", "rate")
"""Fields that take real traffic, in the order in which they are looked at."""

_KEY_NAMES: Final = ("SLACKWATER_ADMIN_KEY", "ADMIN_KEY")
_ORIGINS: Final = ("FRONTEND_URL", "REPL_URL", "WS_ALLOWED_ORIGINS")
_MOST_KEY_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """Where to look, as the command line and ``deploytool.yaml`` say.

    Attributes:
        kubeconfig: Path; empty for ``KUBECONFIG``, then ``~/.kube/config``, then the account of the pod.
        context: Of the kubeconfig; empty for the current one.
        namespace: Empty for that of the context.
        workload: Name of the Deployment; empty for the only one of ours.
        url: Public address; empty for what the Ingress or the HTTPRoute says.
        connect_to: ``host:port`` to connect to in the place of what the URL names.
        ca_file: More certificate authorities to believe for the public address and for documents.
        admin_url: Of the admin socket; empty for the way through the API server.
        admin_key_file: Holds the key; empty for ``SLACKWATER_ADMIN_KEY``, then the Secret of the release.
        prometheus_url: Of a Prometheus that has loaded the rules; empty for none.
        load: Run a load test.
        load_seconds: Over which its publications are spread.
        load_report: File of an earlier load test to judge; empty for the newest one in the cluster.
        report_dir: Where a load test writes its report.
    """

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    workload: str = ""
    url: str = ""
    connect_to: str = ""
    ca_file: str = ""
    admin_url: str = ""
    admin_key_file: str = ""
    prometheus_url: str = ""
    load: bool = False
    load_seconds: float = 10.0
    load_report: str = ""
    report_dir: str = "."


class Progress(Protocol):
    """Is told what goes on; writes nothing to stdout."""

    def step(self, text: str) -> None:
        """Something begins."""
        ...

    def count(self, what: str, done: int, total: int) -> None:
        """Part of something long is done."""
        ...

    def note(self, text: str) -> None:
        """Something that a person should know."""
        ...


class _Silence(Progress):
    @override
    def step(self, text: str) -> None:
        del text

    @override
    def count(self, what: str, done: int, total: int) -> None:
        del what, done, total

    @override
    def note(self, text: str) -> None:
        del text


def open_cluster(stack: ExitStack, options: LiveOptions, clock: Clock) -> Cluster:
    """Connect to the cluster that the options name; nothing is sent yet."""
    return stack.enter_context(
        Cluster.connect(
            kubeconfig_path=options.kubeconfig,
            context=options.context,
            namespace=options.namespace,
            clock=clock,
        )
    )


def observe(  # noqa: PLR0913 - each has a default
    options: LiveOptions,
    *,
    needs: Collection[str],
    depth: Depth,
    expectations: Expectations | None = None,
    load_item: str = "",
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Generator[Snapshot, None, None]:
    """Look at a release.

    Args:
        options: Where to look.
        needs: Names of the fields that the chosen items need; nothing else is asked for.
        depth: `Depth.LIVE`, or `Depth.PROBE` for traffic as well.
        expectations: What the checks are going to hold it against; None for the defaults.
        load_item: Id of the item that judges load reports; a new report is stored for it.
        clock: None for the system's.
        progress: None for silence.

    Raises:
        DeploytoolError: Nothing can be said at all: no cluster, no such workload.
    """
    clock = clock or SystemClock()
    with ExitStack() as stack:
        cluster = open_cluster(stack, options, clock)
        look = _Look(
            cluster,
            options,
            needs=frozenset(needs) & OBSERVED,
            depth=depth,
            expectations=expectations or Expectations(),
            load_item=load_item,
            clock=clock,
            progress=progress or _Silence(),
        )
        yield from look.run(stack)


class _Look:
    """One look at a release; owns what has been seen so far."""

    def __init__(  # noqa: PLR0913 - the parts of one look
        self,
        cluster: Cluster,
        options: LiveOptions,
        *,
        needs: frozenset[str],
        depth: Depth,
        expectations: Expectations,
        load_item: str,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._cluster = cluster
        self._options = options
        self._needs = needs
        self._is_probing = depth >= Depth.PROBE
        self._expectations = expectations
        self._load_item = load_item
        self._clock = clock
        self._progress = progress
        self._seen = Snapshot(depth, at=clock.wall(), pending=needs)
        self._stored: attestations.Stored | Unseen | None = None
        self._known_api: AdminApi | Unseen | None = None

    def run(self, stack: ExitStack) -> Iterator[Snapshot]:
        """Yield what is seen, as it is seen."""
        self._progress.step("reading the cluster")
        release = cluster_snapshot.find(self._cluster, self._options.workload)
        self._seen = replace(self._seen, target=self._target(release))
        if self._is_probing or self._needs & {"objects", "documents"}:
            objects = cluster_snapshot.read_objects(self._cluster, release)
            self._seen = self._seen.with_seen(objects=objects.nodes, unread=objects.unread)
            if not self._options.url:
                self._seen = replace(self._seen, target=replace(self._seen.target, url=_public_url(self._seen)))
            yield self._seen
        steps: dict[str, Callable[[], Any]] = {
            "scale_trial": lambda: cluster_snapshot.try_scale(self._cluster, release.name),
            "attestations": lambda: _or_unseen(self._read_stored(release), lambda stored: stored.attestations),
            "rollouts": lambda: _or_unseen(self._read_stored(release), lambda stored: stored.rollouts),
            "status": lambda: _asked(self._api(release), lambda known: known.status()),
            "scrape": lambda: _asked(self._api(release), lambda known: known.metrics()),
            "prometheus": self._prometheus,
            "documents": self._documents,
        }
        for name, look in steps.items():
            if name in self._needs or (name == "status" and self._is_probing):
                if name != "prometheus" or self._options.prometheus_url:
                    self._progress.step(_WORDS[name])
                self._seen = self._seen.with_seen(**{name: look()})
                yield self._seen
        yield from self._traffic(stack, release)

    def _target(self, release: Release) -> Target:
        try:
            user = self._cluster.identity().username
        except ClusterError:
            user = ""
        return Target(
            workload=release.name,
            namespace=release.namespace,
            release=release.helm_release,
            context=self._options.context,
            url=self._options.url,
            user=user,
        )

    def _api(self, release: Release) -> AdminApi | Unseen:
        if self._known_api is None:
            self._known_api = self._new_api(release)
        return self._known_api

    def _new_api(self, release: Release) -> AdminApi | Unseen:
        key = admin_key(self._options, self._cluster, release)
        if isinstance(key, Unseen):
            return key
        transport: Transport
        if self._options.admin_url:
            transport = HttpTransport(self._options.admin_url, ca_file=self._options.ca_file)
        elif release.admin_service:
            transport = ServiceProxy(self._cluster, release.admin_service)
        else:
            return Unseen(
                f"Deployment {release.name} does not say where its admin API is",
                f"kubectl --namespace {release.namespace} annotate deployment {release.name} "
                "slackwater.dev/admin-service=SERVICE:PORT",
            )
        return AdminApi(transport, key, self._clock)

    def _read_stored(self, release: Release) -> attestations.Stored | Unseen:
        if self._stored is None:
            try:
                self._stored = attestations.read(self._cluster, release.name)
            except ClusterError as error:
                self._stored = unseen(error)
            else:
                for name, why in self._stored.unreadable.items():
                    self._progress.note(f"ConfigMap {name} is labelled as an attestation and is none: {why}")
        return self._stored

    def _prometheus(self) -> Any:  # noqa: ANN401 - what is seen, or why not
        if not self._options.prometheus_url:
            return Unseen("no Prometheus was named", "Name one: --prometheus-url URL", failed=False)
        return documents.fetch_rules(self._options.prometheus_url, self._clock, ca_file=self._options.ca_file)

    def _documents(self) -> Any:  # noqa: ANN401 - what is seen, or why not
        urls = set(_runbooks(self._seen))
        if not isinstance(self._seen.attestations, Unseen):
            urls |= {one.url for one in self._seen.attestations if one.url}
        return documents.fetch_documents(urls, self._clock, ca_file=self._options.ca_file)

    def _traffic(self, stack: ExitStack, release: Release) -> Iterator[Snapshot]:
        wanted = [name for name in TRAFFIC if name in self._needs]
        if not wanted:
            return
        if "load" in wanted and not (self._is_probing and self._options.load):
            self._seen = self._seen.with_seen(load=self._known_load(release))
            wanted.remove("load")
            yield self._seen
        if not self._is_probing:
            untried = Unseen("it takes real traffic", "Run it with --probe.", failed=False)
            self._seen = self._seen.with_seen(**dict.fromkeys(wanted, untried))
            yield self._seen
            return
        traffic = Traffic(
            options=self._options,
            url=self._seen.target.url,
            origins=self._expectations.origins or _configured_origins(release),
            thresholds=self._expectations.load,
            api=self._api(release),
            status=self._seen.status,
            clock=self._clock,
            progress=self._progress,
        )
        stack.callback(traffic.stop)
        for name, seen in traffic.run(wanted):
            found = seen
            if name == "load" and not isinstance(seen, Unseen):
                found = self._keep(release, seen)
            self._seen = self._seen.with_seen(**{name: found})
            yield self._seen

    def _known_load(self, release: Release) -> Any:  # noqa: ANN401 - what is seen, or why not
        if self._options.load_report:
            try:
                return read_report(Path(self._options.load_report))
            except DeploytoolError as error:
                return Unseen(str(error))
        stored = self._read_stored(release)
        if isinstance(stored, Unseen):
            return stored
        return attestations.newest_load_report(stored)

    def _keep(self, release: Release, report: Any) -> Any:  # noqa: ANN401 - a report
        """Store a new report in the cluster too, where we may."""
        try:
            identity = self._cluster.identity()
            name = attestations.store_load_report(self._cluster, release.name, identity, self._load_item, report)
        except ClusterError as error:
            self._progress.note(f"the load report is not stored in the cluster: {error}")
            return report
        self._progress.note(f"the load report is stored as ConfigMap {name}")
        return report


_WORDS: Final = {
    "scale_trial": "trying to scale to 2, as a dry run",
    "attestations": "reading attestations",
    "rollouts": "reading the records of rollouts",
    "status": "asking the service for its status",
    "scrape": "reading the metrics",
    "prometheus": "asking Prometheus for its rules",
    "documents": "fetching documents",
}


def _or_unseen(found: Any, use: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - what is seen, or why not
    return found if isinstance(found, Unseen) else use(found)


def _asked(api: AdminApi | Unseen, ask: Callable[[AdminApi], Any]) -> Any:  # noqa: ANN401 - what is seen, or why not
    if isinstance(api, Unseen):
        return api
    try:
        return ask(api)
    except ClusterError as error:
        return unseen(error)
    except DeploytoolError as error:
        return Unseen(getattr(error, "problem", str(error)), getattr(error, "remediation", ""))


def admin_key(
    options: LiveOptions, cluster: Cluster, release: Release, environ: Mapping[str, str] = os.environ
) -> str | Unseen:
    """Return the key of the admin API: from a file, the environment, or the one Secret of the release."""
    if options.admin_key_file:
        try:
            with Path(options.admin_key_file).open(encoding="utf-8") as file:
                return file.read(_MOST_KEY_BYTES).strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            return Unseen(f"the admin key in {options.admin_key_file} cannot be read: {reason}")
    for name in _KEY_NAMES:
        if environ.get(name):
            return environ[name]
    if release.admin_secret is None:
        return Unseen(
            f"Deployment {release.name} takes its ADMIN_KEY from no Secret",
            "Give --admin-key-file FILE, or set SLACKWATER_ADMIN_KEY.",
        )
    return _key_of_secret(cluster, *release.admin_secret)


def _key_of_secret(cluster: Cluster, name: str, key: str) -> str | Unseen:
    import base64

    try:
        data = cluster.get(resources.SECRETS, name).get("data") or {}
        return base64.b64decode(data[key]).decode().strip()
    except ClusterError as error:
        found = unseen(error)
        or_else = "Or give --admin-key-file FILE, or set SLACKWATER_ADMIN_KEY."
        return replace(found, way_out=f"{found.way_out}\n{or_else}".strip())
    except (KeyError, ValueError):
        return Unseen(f"Secret {name} holds no {key} that can be read")


def _public_url(seen: Snapshot) -> str:
    """Return the address that an Ingress or an HTTPRoute gives the workload's Service; empty when none does."""
    services = {one.name for one in seen.of_kind("Service") if one.name.startswith(seen.target.workload)}
    for ingress in seen.of_kind("Ingress"):
        secure = {host for one in ingress.child("spec").children("tls") for host in one.texts("hosts")}
        for rule in ingress.child("spec").children("rules"):
            paths = rule.child("http").children("paths")
            if rule.text("host") and any(one.child("backend", "service").text("name") in services for one in paths):
                return f"{'wss' if rule.text('host') in secure else 'ws'}://{rule.text('host')}"
    for route in seen.of_kind("HTTPRoute"):
        backends = [one for rule in route.child("spec").children("rules") for one in rule.children("backendRefs")]
        if any(one.text("name") in services for one in backends):
            return next((f"wss://{host}" for host in route.child("spec").texts("hostnames")), "")
    return ""


def _configured_origins(release: Release) -> tuple[str, ...]:
    """Return the origins that the pod is told to allow, as far as they stand in its own object."""
    found: dict[str, None] = {}
    for container in release.containers:
        for entry in container.get("env") or ():
            if entry.get("name") in _ORIGINS:
                for text in str(entry.get("value") or "").split(","):
                    parts = urlsplit(text.strip())
                    if parts.scheme and parts.netloc:
                        found[f"{parts.scheme}://{parts.netloc}".lower()] = None
    return tuple(found)


def _runbooks(seen: Snapshot) -> Iterator[str]:
    """Yield the runbooks of the alerts that speak of the workload."""
    for rules in seen.of_kind("PrometheusRule"):
        for group in rules.child("spec").children("groups"):
            for rule in group.children("rules"):
                url = rule.child("annotations").text("runbook_url")
                if url and _is_about(rules, rule, seen.target):
                    yield url
    if not isinstance(seen.prometheus, Unseen):
        for alert in seen.prometheus.rules:
            if alert.annotations.get("runbook_url") and seen.target.workload in alert.query:
                yield alert.annotations["runbook_url"]


def _is_about(rules: Node, rule: Node, target: Target) -> bool:
    labels = rules.child("metadata", "labels")
    is_released_with = bool(target.release) and labels.text("app.kubernetes.io/instance") == target.release
    return is_released_with or target.workload in rule.text("expr")
