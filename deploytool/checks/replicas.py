"""The service keeps its state in memory, so no more than one replica may run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.model.finding import Check, Evidence, Observation, Severity, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.snapshot import Autoscaler, Place, Setting, Snapshot, Workload

__all__ = ("CHECKS",)

# A copy count that is not written down is 1: Kubernetes' default, and compose's.
# Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/#DeploymentSpec
_DEFAULT_COPIES = 1

# Ways of updating in which the old copy is gone before the new one starts.
_ONE_AFTER_THE_OTHER = frozenset({"Recreate", "stop-first"})


def _evidence(place: Place, setting: Setting) -> tuple[Evidence, ...]:
    return (Evidence(place.source, place.document, setting.field, setting.value),)


def _nothing_to_judge(snapshot: Snapshot) -> Observation:
    return Observation(
        Verdict.UNKNOWN, "", f"no workload in {snapshot.document_count} documents, so nothing could be verified"
    )


def _count(workload: Workload, setting: Setting) -> Observation:
    copies = _DEFAULT_COPIES if setting.value is None else setting.value
    evidence = _evidence(workload.place, setting)
    if isinstance(copies, str):
        return Observation(Verdict.UNKNOWN, workload.subject, f"{setting.field} is not a plain number", evidence)
    verdict = Verdict.VIOLATED if copies > 1 else Verdict.SATISFIED
    shown = f"{setting.field} is {copies}" if setting.value is not None else f"{setting.field} is absent, which means 1"
    return Observation(verdict, workload.subject, shown, evidence)


def _single(snapshot: Snapshot) -> Iterator[Observation]:
    if not snapshot.workloads:
        yield _nothing_to_judge(snapshot)
    for workload in snapshot.workloads:
        if workload.runs_everywhere:
            evidence = _evidence(workload.place, workload.runs_everywhere)
            yield Observation(Verdict.VIOLATED, workload.subject, "one copy runs on every node", evidence)
        for setting in workload.counts:
            yield _count(workload, setting)


def _ceiling(scaler: Autoscaler) -> Observation:
    ceiling = scaler.default_ceiling if scaler.ceiling.value is None else scaler.ceiling.value
    evidence = _evidence(scaler.place, scaler.ceiling)
    if not isinstance(ceiling, int):
        return Observation(Verdict.UNKNOWN, scaler.subject, f"{scaler.ceiling.field} is not a plain number", evidence)
    target = scaler.target or "a workload it does not name"
    if ceiling > 1:
        return Observation(Verdict.VIOLATED, scaler.subject, f"may scale {target} to {ceiling}", evidence)
    return Observation(Verdict.SATISFIED, scaler.subject, f"cannot scale {target} past {ceiling}", evidence)


def _no_autoscaler(snapshot: Snapshot) -> Iterator[Observation]:
    for scaler in snapshot.autoscalers:
        yield _ceiling(scaler)
    if not snapshot.autoscalers and snapshot.workloads:
        yield Observation(Verdict.SATISFIED, "", f"no autoscaler in {snapshot.document_count} documents")


def _no_overlap(snapshot: Snapshot) -> Iterator[Observation]:
    for workload in snapshot.workloads:
        setting = workload.replacement
        if setting is None:
            continue
        verdict = Verdict.SATISFIED if setting.value in _ONE_AFTER_THE_OTHER else Verdict.VIOLATED
        shown = "absent, and the default overlaps" if setting.value is None else str(setting.value)
        yield Observation(verdict, workload.subject, f"{setting.field} is {shown}", _evidence(workload.place, setting))


CHECKS = (
    Check(
        id="replicas.single",
        category="infrastructure",
        severity=Severity.FATAL,
        title="every workload asks for at most one replica",
        remediation="Set the count to 1, or remove it; name the workload with --workload if others are in the files.",
        run=_single,
    ),
    Check(
        id="replicas.no-autoscaler",
        category="infrastructure",
        severity=Severity.FATAL,
        title="no autoscaler can ask for more than one replica",
        remediation="Delete the autoscaler, or set its maximum to 1.",
        run=_no_autoscaler,
    ),
    Check(
        id="replicas.no-overlap",
        category="infrastructure",
        severity=Severity.WARNING,
        title="an update stops the old replica before it starts the new one",
        remediation="Set spec.strategy.type to Recreate (compose: deploy.update_config.order to stop-first).",
        run=_no_overlap,
    ),
)
