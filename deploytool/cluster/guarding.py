"""What the guard reads and writes, and what it may."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from typing_extensions import override

from deploytool.cluster import resources
from deploytool.cluster.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    MissingError,
    NotServedError,
    RefusedError,
)
from deploytool.cluster.resources import Resource

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from deploytool.cluster.client import Cluster

__all__ = ("GuardedObjects", "RightsError", "missing_rights")

_COMPONENT: Final = "slackwater-guard"
_EVENTS: Final = Resource("", "v1", "events", "Event")
_ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", is_namespaced=False
)
_KINDS: Final = {
    one.kind: one
    for one in (
        resources.DEPLOYMENTS,
        resources.STATEFUL_SETS,
        resources.HORIZONTAL_POD_AUTOSCALERS,
        resources.SCALED_OBJECTS,
    )
}
_WORKLOADS: Final = (resources.DEPLOYMENTS, resources.STATEFUL_SETS)


class RightsError(ClusterError):
    """Rights are missing; all of them are named at once.

    Attributes:
        missing: What may not be done.
    """

    def __init__(self, missing: Collection[ForbiddenError]) -> None:
        super().__init__("rights are missing")
        self.missing = tuple(missing)

    @override
    def __str__(self) -> str:
        problems = "".join(f"\n  {one.problem}" for one in self.missing)
        rules = "\n".join(one.rule for one in self.missing)
        return f"rights are missing:{problems}\nThese rules of a Role would allow it:\n{rules}"


class _About(Protocol):
    """What an Event is about."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...


@dataclass(slots=True)
class GuardedObjects:
    """Workloads of one namespace, and what scales them.

    Attributes:
        is_dry_run: Changes are judged by the API server and not kept; no Event is written.
    """

    cluster: Cluster
    is_dry_run: bool = False

    def all(self, kind: str) -> tuple[dict[str, Any], ...]:
        """Return the objects of a kind; none when the cluster does not have it."""
        resource = _KINDS[kind]
        try:
            return self.cluster.all(resource).items
        except NotServedError:
            return ()
        except ForbiddenError:
            # Rights are judged before paths: what may not be listed need not be there.
            if resource is resources.SCALED_OBJECTS and not self.serves(kind):
                return ()
            raise

    def serves(self, kind: str) -> bool:
        """Tell whether the cluster has a kind."""
        return self.cluster.serves(_KINDS[kind].group)

    def read(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object; None when it is gone."""
        try:
            return self.cluster.get(_KINDS[kind], name)
        except MissingError:
            return None

    def scale(self, kind: str, name: str, patch: list[dict[str, Any]]) -> bool:
        """Patch the scale of a workload; False when it was changed meanwhile, and nothing was done.

        The patch tests ``metadata.resourceVersion``, which a Scale shares with its workload.
        """
        try:
            self.cluster.patch(_KINDS[kind], name, patch, subresource="scale", dry_run=self.is_dry_run)
        except (ConflictError, MissingError):
            return False
        except RefusedError as error:
            if error.is_by_admission or not self._has_changed(kind, name, patch):
                raise
            return False
        return True

    def _has_changed(self, kind: str, name: str, patch: list[dict[str, Any]]) -> bool:
        """Tell a failed ``test`` from other refusals: both are answered by 422."""
        tested = {one["path"]: one["value"] for one in patch if one["op"] == "test"}
        found = self.read(kind, name)
        return found is None or found["metadata"].get("resourceVersion") != tested.get("/metadata/resourceVersion")

    def tell(self, about: _About, reason: str, message: str) -> None:
        """Write a warning as an Event."""
        if self.is_dry_run:
            return
        resource = _KINDS[about.kind]
        now = datetime.fromtimestamp(self.cluster.clock.wall(), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{about.name}.", "namespace": self.cluster.namespace},
            "involvedObject": {
                "apiVersion": resource.api_version,
                "kind": about.kind,
                "namespace": self.cluster.namespace,
                "name": about.name,
                "uid": about.uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message[:1024],
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "reportingInstance": _COMPONENT,
        }
        self.cluster.create(_EVENTS, event)


def missing_rights(
    cluster: Cluster, kinds: Collection[str], names: Collection[str], *, is_watching: bool
) -> tuple[ForbiddenError, ...]:
    """Ask the API server what the guard would not be allowed to do.

    Args:
        kinds: That it looks at.
        names: Workloads that it guards, each as kind and name joined by a slash.
        is_watching: It goes on, and does not look once alone.
    """
    user = ""
    missing = []
    for verb, resource, name in _needed(kinds, names, is_watching=is_watching):
        plural, _, subresource = resource.plural.partition("/")
        attributes = {
            "verb": verb,
            "group": resource.group,
            "resource": plural,
            "subresource": subresource,
            "name": name,
            "namespace": cluster.namespace,
        }
        body = {
            "apiVersion": _ACCESS_REVIEWS.api_version,
            "kind": _ACCESS_REVIEWS.kind,
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        if (cluster.create(_ACCESS_REVIEWS, body).get("status") or {}).get("allowed") is not False:
            continue
        user = user or cluster.identity().username
        missing.append(
            ForbiddenError(
                verb=verb,
                group=resource.group,
                resource=resource.plural,
                name=name,
                namespace=cluster.namespace,
                user=user,
            )
        )
    return tuple(missing)


def _needed(
    kinds: Collection[str], names: Collection[str], *, is_watching: bool
) -> Iterator[tuple[str, Resource, str]]:
    for kind in kinds:
        resource = _KINDS[kind]
        verbs = ("list", *(("watch",) if is_watching else ()), *(("get",) if resource in _WORKLOADS else ()))
        yield from ((verb, resource, "") for verb in verbs)
    for one in names:
        kind, _, name = one.partition("/")
        workload = _KINDS[kind]
        yield "patch", Resource(workload.group, workload.version, f"{workload.plural}/scale", "Scale"), name
    yield "create", _EVENTS, ""
