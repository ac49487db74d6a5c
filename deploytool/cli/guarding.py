"""Puts the guard together with a cluster, and tells what it does."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from typing_extensions import override

from deploytool.clock import SystemClock
from deploytool.cluster import kubeconfig as configuration
from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.errors import ClientMissingError, ClusterError, SelectionError
from deploytool.cluster.guarding import GuardedObjects, RightsError, missing_rights
from deploytool.guard.decision import Step
from deploytool.guard.keeper import Keeper
from deploytool.guard.ports import Observer
from deploytool.guard.reading import AUTOSCALER_KINDS, LABEL, WORKLOAD_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.clock import Clock
    from deploytool.guard.decision import Autoscaler, Decision, Workload

__all__ = ("Reach", "once", "run")

_FOR_EVER: Final = Limits(total_seconds=float("inf"))
_UNVERIFIED, _NEEDS_A_PERSON = 5, 9


@dataclass(frozen=True, slots=True)
class Reach:
    """Which cluster, where in it, and which workloads.

    Attributes:
        names: Empty for all that carry the label.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    names: tuple[str, ...] = ()

    @contextmanager
    def open(self) -> Iterator[Cluster]:
        """Connect; nothing is sent yet."""
        with Cluster.connect(
            kubeconfig_path=self.kubeconfig or "",
            context=self.context or "",
            namespace=self.namespace or "",
            limits=_FOR_EVER,
        ) as cluster:
            yield cluster


@dataclass(slots=True)
class _Report(Observer):
    """Collects what one look found."""

    decisions: dict[str, tuple[Workload, Decision]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @override
    def saw(self, workload: Workload, decision: Decision) -> None:
        self.decisions[str(workload)] = workload, decision

    @override
    def lost(self, workload: Workload) -> None:
        return

    @override
    def warned(self, autoscaler: Autoscaler, workload: Workload) -> None:
        return

    @override
    def failed(self, what: str, problem: str) -> None:
        self.problems.append(f"cannot {what}: {problem}")

    @override
    def looked(self, at: float) -> None:
        return


@dataclass(slots=True)
class _Log(Observer):
    """Writes one line a change to stderr."""

    clock: Clock
    _steps: dict[str, tuple[Step, int]] = field(default_factory=dict)
    _problem: str = ""

    def line(self, event: str, text: str) -> None:
        """Write a line: when, what, and a sentence."""
        at = datetime.fromtimestamp(self.clock.wall(), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        click.echo(f"{at} {event} {text}", err=True)

    @override
    def saw(self, workload: Workload, decision: Decision) -> None:
        what = decision.step, workload.replicas
        if self._steps.get(str(workload)) != what or decision.news is not None:
            words = decision.news.message if decision.news else f"{workload} is scaled to {workload.replicas}"
            self.line(f"guard.{decision.step.value.replace(' ', '_')}", words)
        self._steps[str(workload)] = what

    @override
    def lost(self, workload: Workload) -> None:
        self._steps.pop(str(workload), None)
        self.line("guard.lost", f"{workload} is gone, or not guarded any more")

    @override
    def warned(self, autoscaler: Autoscaler, workload: Workload) -> None:
        self.line("guard.autoscaler", f"{autoscaler} may scale {workload} to {autoscaler.most}")

    @override
    def failed(self, what: str, problem: str) -> None:
        text = f"cannot {what}: {problem}"
        if text != self._problem:
            self.line("guard.failed", text)
        self._problem = text

    @override
    def looked(self, at: float) -> None:
        self._problem = ""


class _OneLine(logging.Formatter):
    """Of a log record that may carry a traceback, its last line."""

    @override
    def formatException(self, ei: Any) -> str:
        return f"{ei[0].__name__}: {ei[1]}"


def once(reach: Reach, *, is_dry_run: bool) -> int:
    """Look once; returns the exit code."""
    report = _Report()
    with reach.open() as cluster:
        objects = GuardedObjects(cluster, is_dry_run=is_dry_run)
        keeper = Keeper(objects, cluster.clock, (report,), names=reach.names, is_dry=is_dry_run)
        keeper.look()
        for problem in report.problems:
            click.echo(f"deploytool: {problem}", err=True)
        if not report.problems:
            _require_something(keeper, reach, cluster.namespace)
        rivals = [one for workload, _ in report.decisions.values() for one in keeper.rivals(workload)]
    for workload, decision in report.decisions.values():
        click.echo(_sentence(workload, decision, is_dry_run=is_dry_run))
    for one in rivals:
        click.echo(f"{one} may scale {one.target_kind} {one.target_name} to {one.most}")
    if report.problems:
        return _UNVERIFIED
    return _NEEDS_A_PERSON if rivals else 0


def _sentence(workload: Workload, decision: Decision, *, is_dry_run: bool) -> str:
    if decision.step is Step.LEAVE:
        return f"{workload} is scaled to {workload.replicas}: left as it is"
    would = "would be set back to 1" if is_dry_run else "set back to 1"
    return f"{workload} is scaled to {workload.replicas} by {workload.writer or 'somebody'}: {would}"


def _require_something(keeper: Keeper, reach: Reach, namespace: str) -> None:
    missing = [name for name in reach.names if name not in {one.name for one in keeper.workloads}]
    if missing:
        raise SelectionError(
            f"there is no guarded workload {', '.join(missing)} in namespace {namespace}",
            f"Guarded are Deployments and StatefulSets with the label {LABEL}=true.",
        )
    if not keeper.workloads:
        raise SelectionError(
            f"there is nothing to guard in namespace {namespace}",
            f"Name another by --namespace, or label the workload: kubectl label deployment/NAME {LABEL}=true",
        )


def run(reach: Reach, *, host: str, port: int, look_seconds: float) -> int:
    """Guard until a signal; returns the exit code."""
    import asyncio

    try:
        from deploytool.guard.handlers import Guard
        from deploytool.guard.metrics import Metrics
    except ImportError as error:
        raise ClientMissingError from error

    _quiet_log()
    with reach.open() as cluster:
        log, metrics = _Log(SystemClock()), Metrics()
        objects = GuardedObjects(cluster)
        keeper = Keeper(objects, cluster.clock, (metrics, log), names=reach.names)
        kinds = _kinds(objects)
        _require_rights(cluster, objects, kinds, reach.names)
        guard = Guard(
            keeper=keeper,
            metrics=metrics,
            namespace=cluster.namespace,
            login=lambda: _login(cluster),
            kinds=kinds,
            host=host,
            port=port,
            look_seconds=look_seconds,
            listening=lambda found: log.line("guard.listening", f"http://{host}:{found}/metrics and /healthz"),
        )
        log.line("guard.start", f"namespace {cluster.namespace}, {', '.join(reach.names) or f'label {LABEL}=true'}")
        try:
            asyncio.run(guard.run())
        except* OSError as group:
            raise click.UsageError(f"cannot listen on {host}:{port}: {_first(group)}") from group
        except* Exception as group:
            # Rights that were taken away meanwhile end a watch; then say which.
            _require_rights(cluster, objects, kinds, reach.names)
            raise ClusterError(f"the watch of the cluster ended: {_first(group)}") from group
        log.line("guard.stop", "nothing of it stays on the workloads")
    return 0


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _kinds(objects: GuardedObjects) -> tuple[str, ...]:
    """Return what can be watched here."""
    return tuple(
        kind for kind in (*WORKLOAD_KINDS, *AUTOSCALER_KINDS) if kind != "ScaledObject" or objects.serves(kind)
    )


def _require_rights(cluster: Cluster, objects: GuardedObjects, kinds: tuple[str, ...], names: tuple[str, ...]) -> None:
    missing = missing_rights(cluster, kinds, (), is_watching=True)
    if not missing:
        guarded = [f"{kind}/{meta['name']}" for kind in WORKLOAD_KINDS for meta in _guarded(objects, kind, names)]
        missing = missing_rights(cluster, (), guarded, is_watching=True)
    if missing:
        raise RightsError(missing)


def _guarded(objects: GuardedObjects, kind: str, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for one in objects.all(kind):
        meta = one["metadata"]
        if (meta.get("labels") or {}).get(LABEL) == "true" and (not names or meta.get("name") in names):
            yield meta


def _login(cluster: Cluster) -> Any:  # noqa: ANN401 - imported late
    from deploytool.guard.handlers import Login

    config = cluster.config
    return Login(
        server=cluster.host,
        authorization=configuration.credentials(config).get("authorization", ""),
        ca_path=config.ssl_ca_cert or "",
        certificate_path=config.cert_file or "",
        key_path=config.key_file or "",
        is_insecure=not config.verify_ssl,
    )


def _quiet_log() -> None:
    """Let kopf say on stderr what it cannot do, in a line and without a traceback."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
