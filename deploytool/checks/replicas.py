"""The service keeps its state in memory, so no more than one replica may run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.checks import selectors
from deploytool.checks.workloads import compose_name, container, counted, environments, ours, workloads
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.expectations import Expectations
    from deploytool.model.node import Node, Setting
    from deploytool.model.snapshot import Snapshot

__all__ = ("ITEMS",)

# A copy count that is not written down is 1: Kubernetes' default, and compose's.
# Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/#DeploymentSpec
_DEFAULT_COPIES = 1

# Field of the ceiling, and what its absence means. The API server refuses an HPA without one.
# Source: https://keda.sh/docs/latest/reference/scaledobject-spec/
_CEILINGS: dict[str, tuple[str, int | None]] = {
    "HorizontalPodAutoscaler": ("maxReplicas", None),
    "ScaledObject": ("maxReplicaCount", 100),
}

_MEMORY = "memory:"
_OVER = frozenset({"Succeeded", "Failed"})


def _unread(snapshot: Snapshot, *kinds: str) -> Iterator[Observation]:
    for kind in kinds:
        unseen = snapshot.unread.get(kind)
        if unseen is not None:
            yield Observation(
                Verdict.UNKNOWN, "", f"{kind} objects were not seen: {unseen.why}", remediation=unseen.way_out
            )


def _single(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    found = [*_counts(snapshot)]
    yield from found
    yield from _unread(snapshot, "Deployment")
    for source, unseen in snapshot.unrendered.items():
        evidence = (Evidence(source, "templates", "not rendered"),)
        yield Observation(Verdict.UNKNOWN, f"Chart {source}", unseen.why, evidence, unseen.way_out)
    if not found and not snapshot.unrendered and "Deployment" not in snapshot.unread:
        yield _nothing_to_judge(snapshot)


def _nothing_to_judge(snapshot: Snapshot) -> Observation:
    if snapshot.target.workload:
        message = f"there is no workload {snapshot.target.workload} in {snapshot.target.namespace}"
        return Observation(Verdict.UNKNOWN, "", message)
    if snapshot.proxies and not snapshot.document_count:
        return Observation(Verdict.IRRELEVANT, "", "the files configure proxies alone")
    message = f"no workload in {snapshot.document_count} documents, so nothing could be verified"
    return Observation(Verdict.UNKNOWN, "", message)


def _counts(snapshot: Snapshot) -> Iterator[Observation]:
    for one in counted(snapshot):
        if one.kind == "DaemonSet":
            evidence = (one.setting("kind").evidence,)
            yield Observation(Verdict.VIOLATED, one.subject, "one copy runs on every node", evidence)
        else:
            yield _count(one.subject, one.child("spec").setting("replicas"))
    for one in snapshot.of_kind("Kustomization"):
        for entry in one.children("replicas"):
            if not snapshot.names or entry.text("name") in snapshot.names:
                yield _count(f"Kustomization {entry.text('name') or '(unnamed)'}", entry.setting("count"))
    for service in snapshot.compose:
        yield from _compose_counts(service)
    for values in snapshot.values:
        yield from _value_counts(values)


def _count(subject: str, setting: Setting) -> Observation:
    evidence = (setting.evidence,)
    copies = _DEFAULT_COPIES if setting.value is None else setting.count
    if copies is None:
        return Observation(Verdict.UNKNOWN, subject, f"{setting.field} is not a plain number", evidence)
    verdict = Verdict.VIOLATED if copies > 1 else Verdict.SATISFIED
    shown = f"{setting.field} is {copies}" if setting.value is not None else f"{setting.field} is absent, which means 1"
    return Observation(verdict, subject, shown, evidence)


def _compose_counts(service: Node) -> Iterator[Observation]:
    subject = f"Service (compose) {compose_name(service)}"
    deploy = service.child("deploy")
    if deploy.text("mode").startswith("global"):
        evidence = (deploy.setting("mode").evidence,)
        yield Observation(Verdict.VIOLATED, subject, "one copy runs on every node", evidence)
    written = [node.setting(key) for node, key in ((deploy, "replicas"), (service, "scale")) if key in node]
    for setting in written or [deploy.setting("replicas")]:
        yield _count(subject, setting)


def _value_counts(values: Node) -> Iterator[Observation]:
    for key in ("replicaCount", "replicas"):
        if key in values:
            yield _count(f"Values {values.place.source}", values.setting(key))
    scaling = values.child("autoscaling")
    if scaling.content.get("enabled") is True:
        yield _count(f"Values {values.place.source}", scaling.setting("maxReplicas"))


def _no_autoscaler(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    subjects = {one.name for one in counted(snapshot)}
    found = [one for one in snapshot.of_kind(*_CEILINGS) if not snapshot.target.workload or _scaled(one) in subjects]
    for scaler in found:
        yield _ceiling(scaler)
    yield from _unread(snapshot, *_CEILINGS)
    if not found and subjects and not snapshot.unread.keys() & _CEILINGS.keys():
        yield Observation(Verdict.SATISFIED, "", "no autoscaler")


def _scaled(scaler: Node) -> str:
    return scaler.child("spec", "scaleTargetRef").text("name")


def _ceiling(scaler: Node) -> Observation:
    field, default = _CEILINGS[scaler.kind]
    setting = scaler.child("spec").setting(field)
    ceiling = default if setting.value is None else setting.count
    evidence = (setting.evidence,)
    if ceiling is None:
        return Observation(Verdict.UNKNOWN, scaler.subject, f"{setting.field} is not a plain number", evidence)
    target = _scaled(scaler) or "a workload it does not name"
    if ceiling > 1:
        return Observation(Verdict.VIOLATED, scaler.subject, f"may scale {target} to {ceiling}", evidence)
    return Observation(Verdict.SATISFIED, scaler.subject, f"cannot scale {target} past {ceiling}", evidence)


def _no_overlap(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for one in counted(snapshot):
        if one.kind == "Deployment":
            yield _replacement(one.subject, one.child("spec", "strategy").setting("type"), "Recreate")
    for service in snapshot.compose:
        order = service.child("deploy", "update_config").setting("order")
        if order.value is not None:
            yield _replacement(f"Service (compose) {compose_name(service)}", order, "stop-first")


def _replacement(subject: str, setting: Setting, good: str) -> Observation:
    verdict = Verdict.SATISFIED if setting.value == good else Verdict.VIOLATED
    shown = "absent, and the default overlaps" if setting.value is None else str(setting.value)
    return Observation(verdict, subject, f"{setting.field} is {shown}", (setting.evidence,))


def _one_behind_the_service(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    known = [one for one in workloads(snapshot) if one.kind != "ReplicaSet" or not snapshot.target.workload]
    reached = {one.name for one in ours(snapshot)}
    for service in snapshot.of_kind("Service"):
        selector = service.child("spec", "selector")
        behind = [one for one in known if selectors.matches_all(selector, selectors.template_labels(one))]
        behind = [one for one in behind if one.namespace == service.namespace]
        if not reached & {one.name for one in behind}:
            continue
        evidence = (Evidence(service.place.source, "spec.selector", f"selects {len(behind)} workloads"),)
        if len(behind) > 1:
            others = ", ".join(one.subject for one in behind)
            yield Observation(Verdict.VIOLATED, service.subject, f"spreads connections over {others}", evidence)
        else:
            yield Observation(Verdict.SATISFIED, service.subject, f"leads to {behind[0].subject} alone", evidence)
    yield from _unread(snapshot, "Service")


def _budget(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    pods = [selectors.template_labels(one) for one in ours(snapshot)]
    for one in snapshot.of_kind("PodDisruptionBudget"):
        if any(selectors.matches(one.child("spec", "selector"), wanted) for wanted in pods):
            yield _budget_of(one)
    yield from _unread(snapshot, "PodDisruptionBudget")


def _budget_of(one: Node) -> Observation:
    least, most = one.child("spec").setting("minAvailable"), one.child("spec").setting("maxUnavailable")
    if least.value not in {None, 0, "0", "0%"}:
        return Observation(Verdict.VIOLATED, one.subject, "never lets the one pod be evicted", (least.evidence,))
    if least.value is None and most.value in {0, "0", "0%"}:
        return Observation(Verdict.VIOLATED, one.subject, "never lets the one pod be evicted", (most.evidence,))
    setting = least if least.value is not None else most
    return Observation(Verdict.SATISFIED, one.subject, "lets the one pod be evicted", (setting.evidence,))


def _pods(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    if "Pod" in snapshot.unread:
        yield from _unread(snapshot, "Pod")
        return
    for workload in counted(snapshot):
        selector = workload.child("spec", "selector")
        found = [
            pod
            for pod in snapshot.of_kind("Pod")
            if selectors.matches(selector, selectors.labels(pod)) and pod.child("status").text("phase") not in _OVER
        ]
        yield _pod_count(workload, found)


def _pod_count(workload: Node, pods: list[Node]) -> Observation:
    ending = sum("deletionTimestamp" in pod.child("metadata") for pod in pods)
    shown = f"{len(pods)} pods, {ending} of them ending" if ending else f"{len(pods)} pods"
    source = pods[0].place.source if pods else workload.place.source
    evidence = (Evidence(source, "pods", len(pods), at=workload.place.at),)
    if len(pods) > 1:
        return Observation(Verdict.VIOLATED, workload.subject, f"has {shown}", evidence)
    return Observation(Verdict.SATISFIED, workload.subject, f"has {shown}".replace("1 pods", "1 pod"), evidence)


def _scale_refused(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    trial = snapshot.scale_trial
    if isinstance(trial, Unseen):
        message = f"whether a second replica is refused was not seen: {trial.why}"
        yield Observation(Verdict.UNKNOWN, "", message, remediation=trial.way_out)
        return
    evidence = (Evidence(trial.source, "scale to 2 (dry run)", trial.message or "accepted", at=trial.at),)
    if trial.refused:
        yield Observation(Verdict.SATISFIED, "", "the API server refuses a second replica", evidence)
    else:
        yield Observation(Verdict.VIOLATED, "", "the API server would let anybody scale to 2", evidence)


def _shared_lock(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for environment in environments(snapshot):
        node, folder, database = environment.node, environment.get("DATA_DIR"), environment.get("DATABASE_URL")
        if database is not None and (database.value or "").startswith(_MEMORY):
            message = "DATABASE_URL=memory: keeps history and the instance lock in the process alone"
            yield Observation(Verdict.DOUBTFUL, environment.subject, message, (database.evidence,))
        elif database is not None and node.kind:
            message = "a database keeps history and the instance lock"
            yield Observation(Verdict.SATISFIED, environment.subject, message, (database.evidence,))
        elif node.kind and folder is not None:
            yield _volume(node, folder.value or "")
    status = snapshot.status
    if not isinstance(status, Unseen) and status.lock == "local":
        evidence = (Evidence(status.source, "lock.kind", status.lock, at=status.at),)
        yield Observation(Verdict.DOUBTFUL, "", "the service holds no lock that a second one would notice", evidence)


def _volume(workload: Node, folder: str) -> Observation:
    mounts = [mount for mount in container(workload).children("volumeMounts") if mount.text("mountPath") == folder]
    names = {mount.text("name") for mount in mounts}
    volumes = workload.child("spec", "template", "spec").children("volumes")
    claims = workload.child("spec").children("volumeClaimTemplates")
    kept = [one for one in volumes if one.text("name") in names and "emptyDir" not in one]
    kept += [one for one in claims if one.name in names]
    if kept:
        evidence = (Evidence(workload.place.source, f"{kept[0].path}name", kept[0].text("name") or kept[0].name),)
        return Observation(Verdict.SATISFIED, workload.subject, f"{folder} is a volume that outlives the pod", evidence)
    evidence = (Evidence(workload.place.source, "volumes", f"none that lasts at {folder}"),)
    message = f"neither a database nor a volume at {folder}: history and the instance lock end with the pod"
    return Observation(Verdict.DOUBTFUL, workload.subject, message, evidence)


def _one_instance(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    trials = snapshot.handshakes
    if isinstance(trials, Unseen):
        message = f"which instance answers was not seen: {trials.why}"
        yield Observation(Verdict.UNKNOWN, "", message, remediation=trials.way_out)
        return
    names = sorted({trial.instance for trial in trials if trial.instance})
    source = trials[0].source if trials else ""
    evidence = (Evidence(source, "X-Slackwater-Instance", ", ".join(names), at=trials[0].at if trials else None),)
    if len(names) > 1:
        yield Observation(Verdict.VIOLATED, "", f"{len(names)} instances answer", evidence)
    elif names:
        yield Observation(Verdict.SATISFIED, "", f"one instance answered {len(trials)} handshakes", evidence)
    else:
        yield Observation(Verdict.UNKNOWN, "", "no handshake said which instance answered", evidence)


ITEMS = (
    Item(
        number=1,
        id="infrastructure.single-instance",
        category=Category.INFRASTRUCTURE,
        title="single instance deployment configured",
        knows=(
            "Copy counts, update strategies, autoscalers, Services and disruption budgets as they are written; live "
            "also the pods there are, a dry run of scaling to 2, and the instance that answers."
        ),
        needs=frozenset({"objects", "scale_trial", "status", "handshakes"}),
        rules=(
            Rule(
                "replicas",
                Depth.OFFLINE,
                Severity.FATAL,
                "every workload asks for at most one replica",
                "Set the count to 1, or remove it (`kubectl --namespace {namespace} scale deployment/{workload} "
                "--replicas=1`); name the workload with --workload if others are in the files.",
                _single,
            ),
            Rule(
                "autoscaler",
                Depth.OFFLINE,
                Severity.FATAL,
                "no autoscaler can ask for more than one replica",
                "Delete the autoscaler, or set its maximum to 1 "
                "(`kubectl --namespace {namespace} delete horizontalpodautoscaler NAME`).",
                _no_autoscaler,
            ),
            Rule(
                "strategy",
                Depth.OFFLINE,
                Severity.ERROR,
                "an update stops the old replica before it starts the new one",
                "Set spec.strategy.type to Recreate (compose: deploy.update_config.order to stop-first).",
                _no_overlap,
            ),
            Rule(
                "service",
                Depth.OFFLINE,
                Severity.FATAL,
                "one workload stands behind the Service",
                "Give the other workload labels that the Service does not select, or delete it.",
                _one_behind_the_service,
            ),
            Rule(
                "disruption-budget",
                Depth.OFFLINE,
                Severity.ERROR,
                "a disruption budget lets the one pod be evicted, or no node could ever be drained",
                "Set maxUnavailable to 1 and remove minAvailable.",
                _budget,
            ),
            Rule(
                "durable",
                Depth.OFFLINE,
                Severity.WARNING,
                "a database or a volume keeps history, and the lock that a second instance waits for",
                "Set persistence.enabled=true or database.existingSecret (`helm upgrade {release} helm/slackwater "
                "--namespace {namespace} --reuse-values --set persistence.enabled=true`).",
                _shared_lock,
            ),
            Rule(
                "pods",
                Depth.LIVE,
                Severity.FATAL,
                "there is one pod, counting those that are ending",
                "Wait until the old pod has ended (`kubectl --namespace {namespace} get pods`), then check again.",
                _pods,
            ),
            Rule(
                "policy",
                Depth.LIVE,
                Severity.ERROR,
                "the API server refuses a second replica",
                "Install the admission policy: `helm upgrade {release} helm/slackwater --namespace {namespace} "
                "--reuse-values --set admissionPolicy.enabled=true`.",
                _scale_refused,
            ),
            Rule(
                "instance",
                Depth.PROBE,
                Severity.FATAL,
                "one instance answers at the public address",
                "Find what else the address leads to (`kubectl --namespace {namespace} get endpointslices,ingresses`) "
                "and take it away.",
                _one_instance,
            ),
        ),
    ),
)
