"""The endpoints controller: which pods stand behind a Service, and which of them are ready."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from tests.simcluster.ownership import is_ready, owner_reference
from tests.simcluster.registry import SYSTEM

if TYPE_CHECKING:
    from tests.simcluster.kinds import Resource
    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("EndpointsOfServices", "port_number")

_SERVICE_NAME = "kubernetes.io/service-name"


class EndpointsOfServices:
    """Writes Endpoints and EndpointSlices."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._services = registry.kinds.get("Service")
        self._pods = registry.kinds.get("Pod")
        self._endpoints = registry.kinds.get("Endpoints")
        self._slices = registry.kinds.get("EndpointSlice")

    def reconcile(self) -> None:
        """Bring the endpoints of every Service up to date."""
        for service in self._registry.store.all(self._services):
            if service["spec"].get("selector") and not service["metadata"].get("deletionTimestamp"):
                self._bring(service)

    def _bring(self, service: Object) -> None:
        meta, selector = service["metadata"], service["spec"]["selector"]
        pods = [
            pod
            for pod in self._registry.store.all(self._pods, meta["namespace"])
            if selector.items() <= (pod["metadata"].get("labels") or {}).items()
            and (pod.get("status") or {}).get("podIP")
            and pod["status"].get("phase") not in ("Succeeded", "Failed")
        ]
        self._put(self._slices, service, f"{meta['name']}-simulated", _slice(service, pods))
        self._put(self._endpoints, service, meta["name"], {"subsets": _subsets(service, pods)})

    def _put(self, resource: Resource, service: Object, name: str, content: dict[str, Any]) -> None:
        namespace = service["metadata"]["namespace"]
        before = self._registry.store.get(resource, namespace, name)
        if before is None:
            labels = {_SERVICE_NAME: service["metadata"]["name"]}
            meta = {"name": name, "labels": labels, "ownerReferences": [owner_reference(service)]}
            self._registry.create(resource, namespace, {"metadata": meta, **content}, SYSTEM)
        elif any(before.get(key) != value for key, value in content.items()):
            self._registry.update(resource, namespace, name, {**copy.deepcopy(before), **content}, SYSTEM)


def port_number(pod: Object, port: int | str) -> int | None:
    """Resolve a port of a pod, by number or name; None when it has none of this name."""
    if isinstance(port, int):
        return port
    for container in pod["spec"]["containers"]:
        for one in container.get("ports") or ():
            if one.get("name") == port:
                return int(one["containerPort"])
    return None


def _ports(service: Object, pod: Object) -> list[dict[str, Any]]:
    found = []
    for port in service["spec"].get("ports") or ():
        number = port_number(pod, port.get("targetPort", port["port"]))
        if number is not None:
            found.append({"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")})
    return found


def _reference(pod: Object) -> dict[str, str]:
    meta = pod["metadata"]
    return {"kind": "Pod", "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}


def _slice(service: Object, pods: list[Object]) -> dict[str, Any]:
    is_published = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoints = []
    for pod in pods:
        is_going = bool(pod["metadata"].get("deletionTimestamp"))
        conditions = {
            "ready": is_published or (is_ready(pod) and not is_going),
            "serving": is_published or is_ready(pod),
            "terminating": is_going,
        }
        endpoints.append(
            {"addresses": [pod["status"]["podIP"]], "conditions": conditions, "targetRef": _reference(pod)}
        )
    ports = _ports(service, pods[0]) if pods else []
    return {"addressType": "IPv4", "endpoints": endpoints, "ports": ports}


def _subsets(service: Object, pods: list[Object]) -> list[dict[str, Any]]:
    is_published = bool(service["spec"].get("publishNotReadyAddresses"))
    sides: dict[str, list[dict[str, Any]]] = {"addresses": [], "notReadyAddresses": []}
    for pod in pods:
        is_going = bool(pod["metadata"].get("deletionTimestamp"))
        side = "addresses" if is_published or (is_ready(pod) and not is_going) else "notReadyAddresses"
        sides[side].append({"ip": pod["status"]["podIP"], "targetRef": _reference(pod)})
    if not pods:
        return []
    return [{**{side: found for side, found in sides.items() if found}, "ports": _ports(service, pods[0])}]
