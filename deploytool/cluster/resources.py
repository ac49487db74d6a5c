"""The kinds that the deploy tool reads and writes: one table of fixed paths, so that nothing has to be discovered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

__all__ = (
    "BINDINGS",
    "CONFIG_MAPS",
    "DAEMON_SETS",
    "DEPLOYMENTS",
    "HORIZONTAL_POD_AUTOSCALERS",
    "HTTP_ROUTES",
    "INGRESSES",
    "NAMESPACES",
    "PODS",
    "POD_DISRUPTION_BUDGETS",
    "POLICIES",
    "PROMETHEUS_RULES",
    "REPLICA_SETS",
    "SCALED_OBJECTS",
    "SECRETS",
    "SELF_SUBJECT_REVIEWS",
    "SERVICES",
    "SERVICE_MONITORS",
    "STATEFUL_SETS",
    "Resource",
)


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind and where it is served.

    Attributes:
        group: Empty for the core group.
        plural: Name in a path and in a rule of RBAC.
        is_namespaced: Whether its objects belong to a namespace.
    """

    group: str
    version: str
    plural: str
    kind: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the path of the collection, of an object, or of a part of it."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = f"/namespaces/{quote(namespace, safe='')}" if self.is_namespaced else ""
        # A colon is part of a name in a path of services/proxy.
        rest = "".join(f"/{quote(part, safe=':')}" for part in (self.plural, name, subresource) if part)
        return f"{root}{where}{rest}"


_ADMISSION: Final = "admissionregistration.k8s.io"
_MONITORING: Final = "monitoring.coreos.com"

NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", is_namespaced=False)
PODS: Final = Resource("", "v1", "pods", "Pod")
SERVICES: Final = Resource("", "v1", "services", "Service")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS: Final = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFUL_SETS: Final = Resource("apps", "v1", "statefulsets", "StatefulSet")
DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets", "DaemonSet")
HORIZONTAL_POD_AUTOSCALERS: Final = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
SCALED_OBJECTS: Final = Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
POD_DISRUPTION_BUDGETS: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
INGRESSES: Final = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
HTTP_ROUTES: Final = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
PROMETHEUS_RULES: Final = Resource(_MONITORING, "v1", "prometheusrules", "PrometheusRule")
SERVICE_MONITORS: Final = Resource(_MONITORING, "v1", "servicemonitors", "ServiceMonitor")
POLICIES: Final = Resource(
    _ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", is_namespaced=False
)
BINDINGS: Final = Resource(
    _ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", is_namespaced=False
)
SELF_SUBJECT_REVIEWS: Final = Resource(
    "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", is_namespaced=False
)
