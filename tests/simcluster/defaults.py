"""Values that the server fills in: those that clients of the service's workload read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simcluster.store import Object

__all__ = ("fill_defaults",)

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}}
_POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
}


def _fill(target: dict[str, Any], values: dict[str, Any]) -> None:
    for name, value in values.items():
        target.setdefault(name, dict(value) if isinstance(value, dict) else value)


def _fill_container(container: dict[str, Any]) -> None:
    image = container.get("image", "")
    has_tag = ":" in image.rpartition("/")[2] or "@" in image
    is_latest = not has_tag or image.endswith(":latest")
    _fill(container, {**_CONTAINER, "imagePullPolicy": "Always" if is_latest else "IfNotPresent"})
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe := container.get(name):
            _fill(probe, _PROBE)
            if "httpGet" in probe:
                _fill(probe["httpGet"], {"path": "/", "scheme": "HTTP"})
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")


def _fill_pod(spec: dict[str, Any]) -> None:
    _fill(spec, _POD)
    if "serviceAccountName" in spec:
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in (*(spec.get("initContainers") or ()), *spec.get("containers", ())):
        _fill_container(container)
    for volume in spec.get("volumes") or ():
        for kind in ("configMap", "secret"):
            if kind in volume:
                volume[kind].setdefault("defaultMode", 0o644)


def _fill_deployment(spec: dict[str, Any]) -> None:
    _fill(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), {"maxUnavailable": "25%", "maxSurge": "25%"})
    _fill_template(spec)


def _fill_template(spec: dict[str, Any]) -> None:
    spec.setdefault("replicas", 1)
    if isinstance(template := spec.get("template"), dict):
        template.setdefault("metadata", {})
        _fill_pod(template.setdefault("spec", {}))


def _fill_service(spec: dict[str, Any]) -> None:
    _fill(spec, {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"})
    for port in spec.get("ports") or ():
        _fill(port, {"protocol": "TCP", "targetPort": port.get("port")})


def _fill_policy(spec: dict[str, Any]) -> None:
    spec.setdefault("failurePolicy", "Fail")
    constraints = spec.setdefault("matchConstraints", {})
    _fill(constraints, {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}})
    for rule in constraints.get("resourceRules") or ():
        rule.setdefault("scope", "*")


_SPECS = {
    "Deployment": _fill_deployment,
    "HorizontalPodAutoscaler": lambda spec: spec.setdefault("minReplicas", 1),
    "Pod": _fill_pod,
    "ReplicaSet": _fill_template,
    "Service": _fill_service,
    "StatefulSet": _fill_template,
    "ValidatingAdmissionPolicy": _fill_policy,
}


def fill_defaults(obj: Object) -> None:
    """Fill them in, in place."""
    if (fill := _SPECS.get(obj["kind"])) and isinstance(obj.get("spec"), dict):
        fill(obj["spec"])
    if obj["kind"] == "Secret":
        obj.setdefault("type", "Opaque")
    if obj["kind"] == "Namespace":
        obj.setdefault("spec", {"finalizers": ["kubernetes"]})
        obj.setdefault("status", {"phase": "Active"})
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
