"""The workload of a rollout: a Deployment, switched by a patch of its image, or by Helm where Helm owns it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode

from typing_extensions import override

from deploytool.cluster import pods as pod_states
from deploytool.cluster import rights
from deploytool.cluster.difference import differences
from deploytool.cluster.errors import ClusterError, RefusedError
from deploytool.cluster.lease import LEASES, lease_name
from deploytool.cluster.resources import DEPLOYMENTS, PODS, SERVICES, Resource
from deploytool.cluster.retrying import transient
from deploytool.rollout import errors
from deploytool.rollout.ports import Proposal, Workload, WorkloadState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from deploytool.cluster.client import Cluster
    from deploytool.cluster.rights import Right
    from deploytool.rollout.journal import Journal
    from deploytool.rollout.ports import Clock

    Pause = Callable[[float], None]

__all__ = ("KubernetesWorkload", "Switch", "image_of", "managers_of", "managers_of_image", "with_image")

EVENTS: Final = Resource("", "v1", "events", "Event")
_OVERDUE_SECONDS: Final = 60.0
_SHOWN_EVENTS: Final = 6
_SHOWN_LINES: Final = 10
_GRACE_SECONDS: Final = 30.0


class Switch(Protocol):
    """Another way than a patch to ask for an image."""

    @property
    def rights(self) -> Sequence[Right]:
        """What it has to be allowed, beside patching the workload."""
        ...

    def preflight(self, deployment: Mapping[str, Any], image: str) -> Proposal:
        """Return what it would do; raises when it could not."""
        ...

    def switch(self, journal: Journal, pause: Pause | None = None) -> str:
        """Ask for the new image."""
        ...

    def restore(self, journal: Journal, pause: Pause | None = None) -> str:
        """Ask for the old image."""
        ...

    def mend(self, journal: Journal, pause: Pause | None = None) -> str:
        """Bring into order what was killed in the middle; returns what was done, empty for nothing."""
        ...

    def commands(self, journal: Journal) -> Sequence[str]:
        """Return the commands by which a person goes back."""
        ...


class KubernetesWorkload(Workload):
    """One Deployment.

    Args:
        cluster: Where.
        name: Of the Deployment.
        clock: Tells for how long something has been seen; what the cluster's clocks say is not compared with ours.
        admin_service: Name and port of the admin API's Service; empty when it is not reached through the cluster.
        switch: Instead of a patch; None for a patch.
        others: Rights that a rollout needs beside those to look, to lock and to switch.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        clock: Clock,
        *,
        admin_service: str = "",
        switch: Switch | None = None,
        others: Iterable[Right] = (),
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._clock = clock
        self._admin_service = admin_service
        self._switch = switch
        self._others = tuple(others)
        self._replicas = 1
        self._seen: dict[tuple[str, bool], float] = {}

    @override
    def observe(self) -> WorkloadState:
        with transient():
            deployment = self._cluster.get(DEPLOYMENTS, self._name)
            found = self._pods(deployment)
        image = image_of(deployment)
        active = [one for one in found if pod_states.is_active(one)]
        going = [one for one in found if pod_states.is_going(one)]
        current = [one for one in active if _image_of_pod(deployment, one) == image]
        meta, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
        self._replicas = int(spec.get("replicas", 1))
        return WorkloadState(
            image=image,
            manager=_last(managers_of_image(deployment)),
            is_observed=int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0),
            replicas=self._replicas,
            scaler=_last(managers_of(deployment, ("f:spec", "f:replicas"))),
            pods=tuple(_image_of_pod(deployment, one) for one in active),
            ready=tuple(_image_of_pod(deployment, one) for one in active if pod_states.is_ready(one)),
            terminating=len(going),
            lost=next((text for one in going if (text := self._lost(one))), ""),
            failure=self._failure(status, current),
            restarts=sum(pod_states.restarts_of(one) for one in current),
        )

    def _pods(self, deployment: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        selector = deployment["spec"]["selector"].get("matchLabels") or {}
        text = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        return self._cluster.all(PODS, labels=text).items

    def _since(self, pod: Mapping[str, Any], *, is_going: bool) -> float:
        key = str(pod["metadata"].get("uid")), is_going
        return self._clock.now() - self._seen.setdefault(key, self._clock.now())

    def _lost(self, pod: Mapping[str, Any]) -> str:
        grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or _GRACE_SECONDS)
        since = self._since(pod, is_going=True)
        if since < grace + _OVERDUE_SECONDS:
            return ""
        node = (pod.get("spec") or {}).get("nodeName") or "no node"
        return (
            f"pod {pod['metadata']['name']} on {node} was told to end {since:.0f} s ago and has {grace:.0f} s for it: "
            "is its node gone? No second pod is started beside it"
        )

    def _failure(self, status: Mapping[str, Any], current: Sequence[Mapping[str, Any]]) -> str:
        for one in status.get("conditions") or ():
            if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
                return f"no pod can be made: {one.get('message') or one.get('reason')}"
        for pod in current:
            if text := pod_states.failure_of(pod, self._since(pod, is_going=False)):
                return text
        return ""

    @override
    def preflight(self, image: str) -> Proposal:
        with transient():
            deployment = self._cluster.get(DEPLOYMENTS, self._name)
        self._require_rights()
        strategy = (deployment["spec"].get("strategy") or {}).get("type")
        if strategy != "Recreate":
            raise errors.RefusedError(
                f"Deployment {self._name} has the strategy {strategy}: a second pod would start beside the first; "
                "it has to be Recreate"
            )
        if self._switch is not None:
            return self._switch.preflight(deployment, image)
        return self._dry_run(deployment, image)

    def _dry_run(self, deployment: Mapping[str, Any], image: str) -> Proposal:
        try:
            with transient():
                after = self._cluster.patch(DEPLOYMENTS, self._name, _patch(deployment, image), dry_run=True)
        except RefusedError as error:
            raise errors.RefusedError(f"the cluster would refuse it: {error}") from error
        return Proposal(tuple(differences(deployment, after)), after["spec"]["template"])

    def _require_rights(self) -> None:
        missing = rights.missing(self._cluster, self._needed())
        if missing:
            who = f"The Role {self._name}-rollout of the chart has them"
            if self._switch is not None:
                who += ", save those over Secrets: Helm keeps its records there, and whoever upgrades needs them"
            raise errors.RefusedError(
                f"these rights are missing in namespace {self._cluster.namespace}: {'; '.join(missing)}. {who}"
            )

    def _needed(self) -> Iterator[Right]:
        lease = lease_name(self._name)
        yield from ((verb, LEASES, lease, "") for verb in ("get", "patch"))
        yield "create", LEASES, "", ""
        yield "list", PODS, "", ""
        yield "patch", DEPLOYMENTS, self._name, ""
        if self._switch is not None:
            yield from self._switch.rights
        if self._admin_service:
            yield from ((verb, SERVICES, self._admin_service, "proxy") for verb in ("get", "create", "delete"))
        yield from self._others

    @override
    def switch(self, journal: Journal, pause: Pause | None = None) -> str:
        if self._switch is not None:
            return self._switch.switch(journal, pause)
        return self._patch(journal.old, journal.new, pause)

    @override
    def restore(self, journal: Journal, pause: Pause | None = None) -> str:
        if self._switch is not None:
            return self._switch.restore(journal, pause)
        return self._patch(journal.new, journal.old, pause)

    def _patch(self, before: str, after: str, pause: Pause | None) -> str:
        with transient():
            deployment = self._cluster.get(DEPLOYMENTS, self._name)
            if image_of(deployment) != before:
                raise errors.TransientError(f"it asks for {image_of(deployment)} meanwhile")
            if pause is not None:
                # Raises where the lock may be somebody else's by now: the machine may have slept over the look.
                pause(0.0)
            try:
                self._cluster.patch(DEPLOYMENTS, self._name, _patch(deployment, after))
            except RefusedError as error:
                if error.is_by_admission:
                    raise
                # One of the tests in the patch: look again.
                raise errors.TransientError(str(error)) from error
        return f"patched {before} to {after}"

    @override
    def mend(self, journal: Journal, pause: Pause | None = None) -> str:
        # A patch is done or not; only Helm can be half done.
        return "" if self._switch is None else self._switch.mend(journal, pause)

    @override
    def diagnose(self) -> Sequence[str]:
        try:
            deployment = self._cluster.get(DEPLOYMENTS, self._name)
            found = self._pods(deployment)
            names = {one["metadata"]["name"] for one in found}
            lines = [*self._events(names)]
            for pod in found:
                lines += self._log(deployment, pod)
        except (ClusterError, KeyError, TypeError, ValueError) as error:
            return (f"events and logs cannot be read: {error}",)
        return lines

    def _events(self, names: set[str]) -> Iterator[str]:
        found = [
            one
            for one in self._cluster.all(EVENTS).items
            if (one.get("involvedObject") or {}).get("name") in names and one.get("type") == "Warning"
        ]
        for one in found[-_SHOWN_EVENTS:]:
            yield f"event: {one['involvedObject']['name']}: {one.get('reason')}: {_line(one.get('message'))}"

    def _log(self, deployment: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
        name = pod["metadata"]["name"]
        container = pod_states.unfinished_init_container(pod) or _main(deployment)["name"]
        for previous in ("true", "false"):
            query = urlencode({"container": container, "tailLines": _SHOWN_LINES, "previous": previous})
            try:
                text = self._cluster.text(f"{PODS.path(self._cluster.namespace, name, 'log')}?{query}")
            except ClusterError:
                continue
            if not text:
                continue
            yield from (f"log: {name}: {_line(line)}" for line in text.splitlines()[-_SHOWN_LINES:])
            return

    @override
    def commands(self, journal: Journal) -> Sequence[str]:
        namespace = f"--namespace {self._cluster.namespace}"
        look = (
            f"kubectl {namespace} get deployment,pods",
            f"kubectl {namespace} describe deployment {self._name}",
        )
        if self._replicas != 1:
            # Whatever the image is, that comes first; who scaled it may want it to stay.
            return (*look, f"kubectl {namespace} scale deployment/{self._name} --replicas=1")
        if self._switch is not None:
            return (*look, *self._switch.commands(journal))
        return (*look, f"kubectl {namespace} set image deployment/{self._name} '*={journal.old}'")


def image_of(deployment: Mapping[str, Any]) -> str:
    """Return the image of the main container."""
    return str(_main(deployment)["image"])


def _main(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the container that is meant when none is named."""
    template = deployment["spec"]["template"]
    named = (template.get("metadata", {}).get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    found: Sequence[Mapping[str, Any]] = template["spec"]["containers"]
    return next((one for one in found if one["name"] == named), found[0])


def _image_of_pod(deployment: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    name = _main(deployment)["name"]
    found = ((pod.get("spec") or {}).get("containers")) or ()
    return next((str(one.get("image")) for one in found if one.get("name") == name), "")


def with_image(deployment: Mapping[str, Any], image: str) -> dict[str, Any]:
    """Return a Deployment in which every container with the image of the main one has another one instead."""
    before, found = image_of(deployment), copy.deepcopy(dict(deployment))
    spec = found["spec"]["template"]["spec"]
    for one in (*(spec.get("initContainers") or ()), *spec["containers"]):
        if one.get("image") == before:
            one["image"] = image
    return found


def _patch(deployment: Mapping[str, Any], image: str) -> list[dict[str, Any]]:
    """Return a patch of every container that has the image of the main one, if it still has it."""
    before, spec = image_of(deployment), deployment["spec"]["template"]["spec"]
    patch: list[dict[str, Any]] = []
    for kind in ("initContainers", "containers"):
        for index, one in enumerate(spec.get(kind) or ()):
            if one.get("image") == before:
                path = f"/spec/template/spec/{kind}/{index}/image"
                patch += [
                    {"op": "test", "path": path, "value": before},
                    {"op": "replace", "path": path, "value": image},
                ]
    return patch


def _image_path(deployment: Mapping[str, Any]) -> tuple[str, ...]:
    name = _main(deployment)["name"]
    return "f:spec", "f:template", "f:spec", "f:containers", f'k:{{"name":"{name}"}}', "f:image"


def managers_of_image(deployment: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the field managers that own the image of the main container, the one who wrote last at the end."""
    return managers_of(deployment, _image_path(deployment))


def managers_of(one: Mapping[str, Any], path: Sequence[str]) -> tuple[str, ...]:
    """Return the field managers that own a field of an object, the one who wrote last at the end."""
    entries = sorted(one["metadata"].get("managedFields") or (), key=lambda entry: str(entry.get("time") or ""))
    found = []
    for entry in entries:
        at: Any = entry.get("fieldsV1") or {}
        for step in path:
            at = at.get(step) if isinstance(at, dict) else None
        if at is not None:
            found.append(str(entry.get("manager")))
    return tuple(found)


def _last(found: Sequence[str]) -> str:
    return found[-1] if found else ""


def _line(text: object) -> str:
    return "".join(char if char.isprintable() else " " for char in str(text or ""))[:300]
