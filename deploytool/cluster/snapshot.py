"""What a check needs of the cluster, with a number of requests that does not depend on how much there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from deploytool.cluster import resources, selection
from deploytool.cluster.errors import ClusterError, ForbiddenError, MissingError, NotServedError, RefusedError
from deploytool.cluster.unseen import unseen
from deploytool.model.node import Node, Place
from deploytool.model.observations import ScaleTrial, Unseen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deploytool.cluster.client import Cluster, Listing
    from deploytool.cluster.resources import Resource

__all__ = ("Objects", "Release", "find", "policies_of", "read_objects", "try_scale")

_LISTED: Final = (
    resources.STATEFUL_SETS,
    resources.DAEMON_SETS,
    resources.SERVICES,
    resources.INGRESSES,
    resources.HTTP_ROUTES,
    resources.HORIZONTAL_POD_AUTOSCALERS,
    resources.SCALED_OBJECTS,
    resources.POD_DISRUPTION_BUDGETS,
    resources.PROMETHEUS_RULES,
    resources.SERVICE_MONITORS,
)
_POLICIES: Final = ("single-replica", "attestations")
_ADD_ONS: Final = frozenset({"keda.sh", "monitoring.coreos.com", "gateway.networking.k8s.io"})
"""Groups that a cluster may not have."""

_HELM_RELEASE: Final = "meta.helm.sh/release-name"


def policies_of(namespace: str, workload: str) -> tuple[str, ...]:
    """Return the names of the admission policies that the chart makes for a workload; that of attestations is last."""
    return tuple(f"{namespace}.{workload}.{policy}" for policy in _POLICIES)


@dataclass(frozen=True, slots=True)
class Release:
    """The workload that is checked, and what its own object says of the rest.

    Attributes:
        deployments: All of the namespace, the workload among them.
    """

    deployment: Mapping[str, Any]
    deployments: Listing
    namespace: str

    @property
    def name(self) -> str:
        """Of the workload."""
        return str(self.deployment["metadata"]["name"])

    @property
    def helm_release(self) -> str:
        """Name of the release; empty when Helm does not own it."""
        return str(self._annotations.get(_HELM_RELEASE, ""))

    @property
    def admin_service(self) -> str:
        """Service and port of the admin API; empty when the workload does not say."""
        return str(self._annotations.get(selection.ADMIN_SERVICE, ""))

    @property
    def admin_secret(self) -> tuple[str, str] | None:
        """Name and key of the Secret that holds the admin key; None when the pod does not take it from one."""
        for container in self.containers:
            for entry in container.get("env") or ():
                reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
                if entry.get("name") == "ADMIN_KEY" and reference:
                    return str(reference["name"]), str(reference["key"])
        return None

    @property
    def containers(self) -> tuple[Mapping[str, Any], ...]:
        """Containers of its pods."""
        return tuple((self._template.get("spec") or {}).get("containers") or ())

    @property
    def pod_labels(self) -> Mapping[str, str]:
        """Labels of its pods."""
        return (self._template.get("metadata") or {}).get("labels") or {}

    @property
    def selector(self) -> Mapping[str, str]:
        """Labels by which it finds its pods."""
        return (self.deployment.get("spec") or {}).get("selector", {}).get("matchLabels") or {}

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the admission policies that the chart makes for it."""
        return policies_of(self.namespace, self.name)

    @property
    def _annotations(self) -> Mapping[str, str]:
        return self.deployment["metadata"].get("annotations") or {}

    @property
    def _template(self) -> Mapping[str, Any]:
        return (self.deployment.get("spec") or {}).get("template") or {}


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects that were read, and the kinds that could not be."""

    nodes: tuple[Node, ...]
    unread: Mapping[str, Unseen]


def find(cluster: Cluster, name: str) -> Release:
    """Return the workload that is meant.

    Args:
        cluster: And its namespace.
        name: As the user gave it; empty for the only one of ours.

    Raises:
        ClusterError: Nothing can be said at all: no cluster, no right to list Deployments, no such workload.
    """
    deployments = cluster.all(resources.DEPLOYMENTS)
    return Release(selection.select(cluster, deployments.items, name), deployments, cluster.namespace)


def read_objects(cluster: Cluster, release: Release) -> Objects:
    """Read everything that the items look at; what cannot be read does not keep the rest from it."""
    at = cluster.clock.wall()
    unread: dict[str, Unseen] = {}
    nodes = list(_nodes(cluster, resources.DEPLOYMENTS, release.deployments, at, unread))
    for resource in _LISTED:
        listing = _listing(cluster, resource, unread)
        nodes += _nodes(cluster, resource, listing, at, unread)
    services = [one.content for one in nodes if one.kind == "Service"]
    pods = _listing(cluster, resources.PODS, unread, labels=_pod_selector(release, services))
    nodes += _nodes(cluster, resources.PODS, pods, at, unread)
    for resource in (resources.POLICIES, resources.BINDINGS):
        nodes += _named(cluster, resource, release.policies, at, unread)
    return Objects(tuple(nodes), unread)


def _listing(cluster: Cluster, resource: Resource, unread: dict[str, Unseen], *, labels: str = "") -> Listing | None:
    try:
        return cluster.all(resource, labels=labels)
    except NotServedError:
        # No API, no object: that is known.
        return None
    except ForbiddenError as error:
        # Rights are judged before paths: what may not be listed need not be there.
        if resource.group in _ADD_ONS and not _is_served(cluster, resource.group):
            return None
        unread[resource.kind] = unseen(error)
        return None
    except ClusterError as error:
        unread[resource.kind] = unseen(error)
        return None


def _is_served(cluster: Cluster, group: str) -> bool:
    try:
        return cluster.serves(group)
    except ClusterError:
        return True


def _nodes(
    cluster: Cluster, resource: Resource, listing: Listing | None, at: float, unread: dict[str, Unseen]
) -> Iterator[Node]:
    if listing is None:
        return
    if not listing.is_complete:
        count = len(listing.items)
        unread[resource.kind] = Unseen(f"there are more than {count} {resource.plural}, and the rest was not read")
    place = Place(f"GET {resource.path(cluster.namespace)}", at=at)
    yield from (Node(place, item) for item in listing.items)


def _named(
    cluster: Cluster, resource: Resource, names: Iterable[str], at: float, unread: dict[str, Unseen]
) -> Iterator[Node]:
    for name in names:
        try:
            found = cluster.get(resource, name)
        except (MissingError, NotServedError):
            continue
        except ClusterError as error:
            unread[resource.kind] = unseen(error)
            continue
        # Items that are asked for by name may come without their kind, as items of a list do.
        content = {"apiVersion": resource.api_version, "kind": resource.kind, **found}
        yield Node(Place(f"GET {resource.path('', name)}", at=at), content)


def _pod_selector(release: Release, services: Iterable[Mapping[str, Any]]) -> str:
    """Return a selector of every pod that is the workload's, or stands behind one of its Services.

    It holds the labels that all of them ask for; empty when they share none.
    """
    wanted = [release.selector]
    for service in services:
        selector = (service.get("spec") or {}).get("selector") or {}
        if selector and selector.items() <= release.pod_labels.items():
            wanted.append(selector)
    shared = set(wanted[0].items())
    for selector in wanted[1:]:
        shared &= set(selector.items())
    return ",".join(f"{key}={value}" for key, value in sorted(shared))


def try_scale(cluster: Cluster, name: str) -> ScaleTrial | Unseen:
    """Ask the API server, as a dry run, whether the workload could be scaled to two; nothing is changed."""
    path = resources.DEPLOYMENTS.path(cluster.namespace, name, "scale")
    source, at = f"PATCH {path}?dryRun=All", cluster.clock.wall()
    patch = {"spec": {"replicas": 2}}
    try:
        cluster.patch(resources.DEPLOYMENTS, name, patch, subresource="scale", dry_run=True)
    except RefusedError as error:
        if error.is_by_admission:
            return ScaleTrial(source, at, refused=True, message=error.problem)
        return unseen(error)
    except ClusterError as error:
        return unseen(error)
    return ScaleTrial(source, at, refused=False, message="the API server would have done it")
