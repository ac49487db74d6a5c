"""What Helm would apply for an upgrade, and for the way back: tried as a dry run, in Helm's name, object by object.

Helm's own dry run renders, and does not see that a field belongs to somebody else: its upgrade would then be refused
half way.
"""

from __future__ import annotations

import copy
import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from deploytool.cluster.errors import ClusterError, ConflictError
from deploytool.cluster.errors import RefusedError as ClusterRefusedError
from deploytool.cluster.resources import DEPLOYMENTS
from deploytool.cluster.retrying import transient
from deploytool.cluster.rights import missing
from deploytool.cluster.workload import managers_of_image
from deploytool.rollout.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploytool.cluster.client import Cluster
    from deploytool.cluster.resources import Resource
    from deploytool.cluster.rights import Right

    Object = Mapping[str, Any]

__all__ = ("ReleaseUpgrade", "deployment_of")

_MANAGER: Final = "helm"


def deployment_of(objects: Sequence[Object], name: str) -> Object:
    """Return the Deployment of this name.

    Raises:
        RefusedError: There is none.
    """
    for one in objects:
        if _named(one) == (DEPLOYMENTS.kind, name):
            return one
    raise RefusedError(f"the chart makes no Deployment {name}, so an upgrade would remove it")


@dataclass(slots=True)
class ReleaseUpgrade:
    """The objects of a release, before and after.

    Attributes:
        deployment: The workload as the cluster has it.
        before: Objects as they are on record.
        after: Objects as an upgrade would apply them.
        is_applied: By server-side apply; else by a patch, which takes fields from whoever has them.
    """

    cluster: Cluster
    release: str
    deployment: Object
    before: Sequence[Object]
    after: Sequence[Object]
    is_applied: bool
    _owners: dict[tuple[str, str], dict[str, set[str]]] = field(default_factory=dict)
    _refusals: list[str] = field(default_factory=list)

    def tried(self) -> dict[str, Any]:
        """Return the workload as the upgrade would make it, after the way there and the way back were tried.

        Raises:
            RefusedError: We may not; or else, fields belong to others: all of them are named; or else, the cluster
                refuses it.
        """
        resources = self._resources()
        self._require_rights(resources)
        asked: dict[str, Any] = {}
        for what, objects in (("rollback", self.before), ("upgrade", self.after)):
            for one in objects:
                resource = resources.get((one.get("apiVersion"), one.get("kind")))
                # What the cluster does not have, Helm complains about itself.
                if resource is None or not self._is_here(one):
                    continue
                found = self._try(what, resource, one)
                if _named(one) == _named(self.deployment):
                    asked = found
        self._require_ours()
        if self._refusals:
            raise RefusedError("; ".join(dict.fromkeys(self._refusals)))
        return asked

    def _is_here(self, one: Object) -> bool:
        return bool((one.get("metadata") or {}).get("namespace", self.cluster.namespace) == self.cluster.namespace)

    def _resources(self) -> dict[tuple[Any, Any], Resource]:
        found = {}
        with transient():
            for api_version in {str(one.get("apiVersion")) for one in (*self.before, *self.after)}:
                kinds = self.cluster.kinds(api_version)
                found.update({(api_version, kind): resource for kind, resource in kinds.items()})
        return found

    def _require_rights(self, resources: Mapping[tuple[Any, Any], Resource]) -> None:
        lacking = missing(self.cluster, self._rights(resources))
        if lacking:
            raise RefusedError(
                f"these rights over objects of release {self.release} are missing: {'; '.join(lacking)}. Helm does "
                "what it does as you: whoever installed the release has them"
            )

    def _rights(self, resources: Mapping[tuple[Any, Any], Resource]) -> Iterator[Right]:
        old, new = ({_named(one): one for one in objects} for objects in (self.before, self.after))
        for name, one in {**old, **new}.items():
            verb = "patch" if name in old and name in new else "create" if name in new else "delete"
            resource = resources.get((one.get("apiVersion"), one.get("kind")))
            if resource is not None and self._is_here(one):
                yield verb, resource, "" if verb == "create" else name[1], ""

    def _try(self, what: str, resource: Resource, one: Object) -> dict[str, Any]:
        body = self._as_helm_applies(resource, one)
        try:
            with transient():
                try:
                    return self.cluster.try_to_apply(resource, body, manager=_MANAGER, is_forced=not self.is_applied)
                except ConflictError as error:
                    if not error.owners:
                        raise
                    owners = self._owners.setdefault(_named(one), {})
                    for manager, fields in error.owners.items():
                        owners.setdefault(manager, set()).update(fields)
        except ClusterRefusedError as error:
            by = f" by policy {error.policy}" if error.policy else ""
            self._refusals.append(f"the {what} of {' '.join(_named(one))} would be refused{by}: {error}")
        return {}

    def _as_helm_applies(self, resource: Resource, one: Object) -> dict[str, Any]:
        """Return an object with what Helm adds to each that it applies."""
        body = copy.deepcopy(dict(one))
        meta = body["metadata"]
        if resource.is_namespaced:
            meta["namespace"] = self.cluster.namespace
        owner = {"release-name": self.release, "release-namespace": self.cluster.namespace}
        meta["labels"] = {**(meta.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
        notes = {f"meta.helm.sh/{key}": value for key, value in owner.items()}
        meta["annotations"] = {**(meta.get("annotations") or {}), **notes}
        return body

    def _require_ours(self) -> None:
        for manager in managers_of_image(self.deployment):
            if manager != _MANAGER:
                # Of the same value as Helm's, hence in nobody's way before that changes.
                self._owners.setdefault(_named(self.deployment), {}).setdefault(manager, {"the image"})
        if not self._owners:
            return
        said = "; ".join(
            f"{manager} owns {', '.join(sorted(fields))} of {kind} {name}"
            for (kind, name), owners in sorted(self._owners.items())
            for manager, fields in sorted(owners.items())
        )
        commands = " && ".join(self._freeing(*named, owners) for named, owners in sorted(self._owners.items()))
        raise RefusedError(
            f"Helm would be refused: {said}. Who wrote that has to give it up. This makes them, and changes no pod: "
            f"{commands}. Then take what they set and is to stay into Helm's record: helm upgrade {self.release} CHART "
            f"--reuse-values --set … --namespace {self.cluster.namespace}"
        )

    def _freeing(self, kind: str, name: str, managers: Mapping[str, object]) -> str:
        """Return a command after which these field managers own nothing of an object."""
        live: Object = self.deployment
        if (kind, name) != _named(self.deployment):
            one = next(one for one in (*self.before, *self.after) if _named(one) == (kind, name))
            try:
                with transient():
                    live = self.cluster.get(self.cluster.kinds(str(one["apiVersion"]))[kind], name)
            except ClusterError:
                live = {"metadata": {}}
        words = ("kubectl", "--namespace", self.cluster.namespace, "patch", kind.lower(), name, "--type=json")
        return f"{shlex.join(words)} --patch={shlex.quote(_without(live, managers))}"


def _named(one: Object) -> tuple[str, str]:
    return str(one.get("kind")), str((one.get("metadata") or {}).get("name"))


def _without(live: Object, managers: Mapping[str, object]) -> str:
    """Return a patch after which these field managers own nothing."""
    patch: list[dict[str, Any]] = []
    # From the end, for each removal moves those behind it.
    for index, entry in reversed([*enumerate(live["metadata"].get("managedFields") or ())]):
        is_helm = entry.get("manager") == _MANAGER and entry.get("operation") == "Apply"
        if entry.get("manager") in managers and not is_helm and entry.get("subresource") != "status":
            path = f"/metadata/managedFields/{index}"
            test = {"op": "test", "path": f"{path}/manager", "value": entry["manager"]}
            patch += [test, {"op": "remove", "path": path}]
    return json.dumps(patch, separators=(",", ":"))
