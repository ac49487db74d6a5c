"""The kinds that are served: one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ("OPTIONAL_GROUPS", "RESOURCES", "Kinds", "Resource")

_ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind and its address.

    Attributes:
        group: Empty for the core group.
        subresources: Served below an object.
        has_generation: ``metadata.generation`` counts changes of anything but metadata and status.
        is_virtual: Only ``create``, and nothing is stored.
    """

    group: str
    version: str
    kind: str
    plural: str
    short_names: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    is_namespaced: bool = True
    has_generation: bool = True
    is_virtual: bool = False
    categories: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """As in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        """Below the server's root, without a slash before it."""
        return f"apis/{self.group}/{self.version}" if self.group else f"api/{self.version}"

    @property
    def singular(self) -> str:
        """Name of one, in small letters."""
        return self.kind.lower()

    @property
    def verbs(self) -> tuple[str, ...]:
        """What may be done with it."""
        return ("create",) if self.is_virtual else _ALL_VERBS


_WORKLOAD = ("status", "scale")
_STATUS = ("status",)
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"

RESOURCES: tuple[Resource, ...] = (
    Resource(
        "", "v1", "Namespace", "namespaces", ("ns",), ("status", "finalize"), is_namespaced=False, has_generation=False
    ),
    Resource("", "v1", "Node", "nodes", ("no",), ("status", "proxy"), is_namespaced=False, has_generation=False),
    Resource(
        "",
        "v1",
        "Pod",
        "pods",
        ("po",),
        ("status", "log", "proxy", "eviction", "ephemeralcontainers"),
        categories=("all",),
    ),
    Resource("", "v1", "Service", "services", ("svc",), ("status", "proxy"), has_generation=False, categories=("all",)),
    Resource("", "v1", "ServiceAccount", "serviceaccounts", ("sa",), ("token",), has_generation=False),
    Resource("", "v1", "Secret", "secrets", has_generation=False),
    Resource("", "v1", "ConfigMap", "configmaps", ("cm",), has_generation=False),
    Resource("", "v1", "Event", "events", ("ev",), has_generation=False),
    Resource("", "v1", "Endpoints", "endpoints", ("ep",), has_generation=False),
    Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", ("pvc",), _STATUS, has_generation=False),
    Resource("apps", "v1", "Deployment", "deployments", ("deploy",), _WORKLOAD, categories=("all",)),
    Resource("apps", "v1", "ReplicaSet", "replicasets", ("rs",), _WORKLOAD, categories=("all",)),
    Resource("apps", "v1", "StatefulSet", "statefulsets", ("sts",), _WORKLOAD, categories=("all",)),
    Resource(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        ("hpa",),
        _STATUS,
        has_generation=False,
        categories=("all",),
    ),
    Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", ("pdb",), _STATUS),
    Resource("networking.k8s.io", "v1", "Ingress", "ingresses", ("ing",), _STATUS),
    Resource("networking.k8s.io", "v1", "IngressClass", "ingressclasses", is_namespaced=False),
    Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", ("netpol",)),
    Resource("coordination.k8s.io", "v1", "Lease", "leases", has_generation=False),
    Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    Resource("events.k8s.io", "v1", "Event", "events", ("ev",), has_generation=False),
    Resource(
        "storage.k8s.io", "v1", "StorageClass", "storageclasses", ("sc",), is_namespaced=False, has_generation=False
    ),
    Resource(_RBAC, "v1", "Role", "roles", has_generation=False),
    Resource(_RBAC, "v1", "RoleBinding", "rolebindings", has_generation=False),
    Resource(_RBAC, "v1", "ClusterRole", "clusterroles", is_namespaced=False, has_generation=False),
    Resource(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", is_namespaced=False, has_generation=False),
    Resource(
        _ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", (), _STATUS, is_namespaced=False
    ),
    Resource(
        _ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", is_namespaced=False
    ),
    Resource(
        "authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", is_namespaced=False, is_virtual=True
    ),
    Resource(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        is_namespaced=False,
        is_virtual=True,
    ),
    Resource(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        is_namespaced=False,
        is_virtual=True,
    ),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        ("crd",),
        _STATUS,
        is_namespaced=False,
    ),
    Resource("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors", ("smon",)),
    Resource("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules", ("promrule",)),
    Resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", (), _STATUS),
    Resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects", ("so",), _STATUS),
)

OPTIONAL_GROUPS = ("monitoring.coreos.com", "gateway.networking.k8s.io", "keda.sh")
"""Groups of add-ons, which a cluster may not have."""


class Kinds:
    """The kinds of one cluster.

    Args:
        resources: What it serves.
    """

    def __init__(self, resources: Iterable[Resource] = RESOURCES) -> None:
        self._all = tuple(resources)
        self._by_plural = {(one.group, one.version, one.plural): one for one in self._all}
        self._by_kind = {(one.api_version, one.kind): one for one in self._all}

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._all)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Look an address up."""
        return self._by_plural.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """Look a manifest's kind up."""
        return self._by_kind.get((api_version, kind))

    def get(self, kind: str, api_version: str | None = None) -> Resource:
        """Return a kind that must be there, by its name alone where that is enough."""
        for one in self._all:
            if one.kind == kind and api_version in (None, one.api_version):
                return one
        raise LookupError(kind)

    def groups(self) -> dict[str, list[str]]:
        """Map each group to its versions, in the order of the table."""
        found: dict[str, list[str]] = {}
        for one in self._all:
            versions = found.setdefault(one.group, [])
            if one.version not in versions:
                versions.append(one.version)
        return found

    def within(self, group: str, version: str) -> list[Resource]:
        """Return the kinds of one version of a group."""
        return [one for one in self._all if (one.group, one.version) == (group, version)]
