"""The rules of every write, whoever makes it: metadata, versions, defaults, owners, admission, deletion."""

from __future__ import annotations

import base64
import copy
import secrets
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.simcluster.clock import SimClock, rfc3339
from tests.simcluster.defaults import fill_defaults
from tests.simcluster.errors import ApiError, conflict, not_found
from tests.simcluster.identity import ADMIN, User
from tests.simcluster.managed_fields import Writer, apply, note_write
from tests.simcluster.validation import validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simcluster.kinds import Kinds, Resource
    from tests.simcluster.store import Object, Store

__all__ = ("SYSTEM", "Admission", "Options", "Registry", "Review")

_KEPT_META = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "namespace",
    "name",
    "managedFields",
)
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_COUNT = 5


@dataclass(frozen=True, slots=True)
class Options:
    """How a write is made.

    Attributes:
        manager: Field manager.
        is_dry_run: Everything is judged and nothing kept.
        is_forced: An apply takes what others own.
        subresource: Empty for the object itself.
        warnings: Filled with what the client is to be warned of.
    """

    user: User = ADMIN
    manager: str = "unknown"
    is_dry_run: bool = False
    is_forced: bool = False
    subresource: str = ""
    warnings: list[str] = field(default_factory=list)


SYSTEM = Options(User("system:kube-controller-manager", ("system:masters",)), "kube-controller-manager")


@dataclass(frozen=True, slots=True)
class Review:
    """A write as admission sees it; of a scale, the objects are the Scales."""

    operation: str
    resource: Resource
    namespace: str
    name: str
    before: Object | None
    after: Object | None
    options: Options


if TYPE_CHECKING:
    Admission = Callable[[Review], None]
else:
    Admission = object


class Registry:
    """Writes to a store.

    Attributes:
        admit: Asked about every write; raises `ApiError` to refuse.
        complete: Fills in what the cluster allocates for a new object, such as an address.
    """

    def __init__(self, store: Store, kinds: Kinds, clock: SimClock) -> None:
        self.store = store
        self.kinds = kinds
        self.clock = clock
        self.admit: Admission = lambda _: None
        self.complete: Callable[[Object], None] = lambda _: None

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return an object.

        Raises:
            ApiError: 404.
        """
        found = self.store.get(resource, namespace, name)
        if found is None:
            raise not_found(resource.plural, name, resource.group)
        return found

    def create(self, resource: Resource, namespace: str, obj: Object, options: Options) -> Object:
        """Keep a new object."""
        new = self._prepared(resource, namespace, obj)
        name = new["metadata"]["name"]
        self._require_namespace(resource, namespace)
        if self.store.get(resource, namespace, name) is not None:
            text = f'{resource.plural}{f".{resource.group}" if resource.group else ""} "{name}" already exists'
            details = {"name": name, "group": resource.group, "kind": resource.plural}
            raise ApiError(409, "AlreadyExists", text, details=details)
        fill_defaults(new)
        self.complete(new)
        validate(resource, None, new)
        self.admit(Review("CREATE", resource, namespace, name, None, new, options))
        note_write(None, new, Writer(options.manager), rfc3339(self.clock.wall()))
        return self._kept(resource, new, options)

    def _prepared(self, resource: Resource, namespace: str, obj: Object) -> Object:
        new = copy.deepcopy(obj)
        new["apiVersion"], new["kind"] = resource.api_version, resource.kind
        meta = new.setdefault("metadata", {})
        for name in ("managedFields", "resourceVersion", "deletionTimestamp", "selfLink"):
            meta.pop(name, None)
        if not meta.get("name") and meta.get("generateName"):
            suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(_SUFFIX_COUNT))
            meta["name"] = meta["generateName"] + suffix
        if not isinstance(meta.get("name"), str):
            raise ApiError(422, "Invalid", f"{resource.kind}: metadata.name: Required value: name or generateName")
        if resource.is_namespaced:
            if meta.setdefault("namespace", namespace) != namespace:
                raise ApiError(
                    400,
                    "BadRequest",
                    "the namespace of the provided object does not match the namespace sent on the request",
                )
        else:
            meta.pop("namespace", None)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = rfc3339(self.clock.wall())
        if resource.has_generation:
            meta["generation"] = 1
        if "status" in resource.subresources:
            new.pop("status", None)
        _encode_strings(new)
        return new

    def _require_namespace(self, resource: Resource, namespace: str) -> None:
        if not resource.is_namespaced:
            return
        found = self.store.get(self.kinds.get("Namespace"), "", namespace)
        if found is None:
            raise not_found("namespaces", namespace)
        if found["metadata"].get("deletionTimestamp"):
            raise ApiError(403, "Forbidden", f"unable to create new content in namespace {namespace}: it is terminated")

    def update(self, resource: Resource, namespace: str, name: str, obj: Object, options: Options) -> Object:
        """Keep a new state of an object.

        Raises:
            ApiError: 404; 409 when it names another version or uid than the current one.
        """
        before = self.get(resource, namespace, name)
        meta = obj.get("metadata") or {}
        for key in ("resourceVersion", "uid"):
            if meta.get(key) and meta[key] != before["metadata"][key]:
                text = (
                    "the object has been modified; please apply your changes to the latest version and try again"
                    if key == "resourceVersion"
                    else f"Precondition failed: UID in precondition: {meta[key]}"
                )
                raise conflict(resource.plural, name, text, resource.group)
        after = _combined(resource, before, obj, options.subresource)
        if meta.get("managedFields") == []:
            after["metadata"]["managedFields"] = []
        self._judge(resource, before, after, options)
        owned = _owned_as_said(before, meta.get("managedFields"))
        if _content(before) == _content(after) and meta.get("managedFields") != [] and owned is before:
            return before
        note_write(owned, after, _writer(options), rfc3339(self.clock.wall()))
        return self._kept_if_changed(resource, before, after, options)

    def apply(self, resource: Resource, namespace: str, name: str, config: Object, options: Options) -> Object:
        """Carry a server-side apply out; makes the object when there is none."""
        before = self.store.get(resource, namespace, name)
        config = copy.deepcopy(config)
        meta = config.setdefault("metadata", {})
        if meta.pop("managedFields", None):
            raise ApiError(400, "BadRequest", "metadata.managedFields must be nil")
        meta["name"] = name
        if resource.is_namespaced:
            meta["namespace"] = namespace
        _encode_strings(config)
        writer = Writer(options.manager, "Apply", options.subresource)
        time = rfc3339(self.clock.wall())
        if before is None:
            return self._apply_new(resource, namespace, config, writer, options)
        if meta.get("resourceVersion") not in (None, "", before["metadata"]["resourceVersion"]):
            raise conflict(resource.plural, name, "the object has been modified", resource.group)
        merged = apply(before, config, writer, is_forced=options.is_forced, time=time)
        owners = merged["metadata"].get("managedFields")
        after = _combined(resource, before, merged, options.subresource)
        after["metadata"]["managedFields"] = owners
        self._judge(resource, before, after, options)
        return self._kept_if_changed(resource, before, after, options)

    def _apply_new(
        self, resource: Resource, namespace: str, config: Object, writer: Writer, options: Options
    ) -> Object:
        if options.subresource:
            raise not_found(resource.plural, config["metadata"]["name"], resource.group)
        new = self._prepared(resource, namespace, config)
        self._require_namespace(resource, namespace)
        owned = apply(None, config, writer, is_forced=True, time=rfc3339(self.clock.wall()))
        fill_defaults(new)
        self.complete(new)
        validate(resource, None, new)
        self.admit(Review("CREATE", resource, namespace, new["metadata"]["name"], None, new, options))
        new["metadata"]["managedFields"] = owned["metadata"]["managedFields"]
        return self._kept(resource, new, options)

    def _judge(self, resource: Resource, before: Object, after: Object, options: Options) -> None:
        fill_defaults(after)
        if resource.kind == "Service" and "clusterIP" in before["spec"]:
            for key in ("clusterIP", "clusterIPs"):
                after["spec"].setdefault(key, before["spec"].get(key))
        if not options.subresource:
            validate(resource, before, after)
        if resource.has_generation and _spec(before) != _spec(after):
            after["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        meta = after["metadata"]
        if options.subresource != "scale":
            self.admit(Review("UPDATE", resource, meta.get("namespace", ""), meta["name"], before, after, options))

    def _kept_if_changed(self, resource: Resource, before: Object, after: Object, options: Options) -> Object:
        if _content(before) == _content(after) and _owners(before) == _owners(after):
            return before
        kept = self._kept(resource, after, options)
        meta = kept["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and resource.kind not in ("Pod", "Namespace"):
            self.store.remove(resource, meta.get("namespace", ""), meta["name"])
        return kept

    def _kept(self, resource: Resource, new: Object, options: Options) -> Object:
        if options.is_dry_run:
            new["metadata"].setdefault("resourceVersion", "0")
            return new
        return self.store.put(resource, new)

    def delete(
        self, resource: Resource, namespace: str, name: str, options: Options, body: Object | None = None
    ) -> tuple[Object, bool]:
        """Delete an object; returns its last state, and whether it is gone already.

        Args:
            body: ``DeleteOptions``.
        """
        body = body or {}
        before = self.get(resource, namespace, name)
        for key, value in (body.get("preconditions") or {}).items():
            if value and before["metadata"].get(key) != value:
                raise conflict(resource.plural, name, f"Precondition failed: {key} is another", resource.group)
        self.admit(Review("DELETE", resource, namespace, name, before, None, options))
        if options.is_dry_run:
            return before, True
        grace = self._grace_seconds(resource, before, body)
        is_waiting = bool(before["metadata"].get("finalizers")) or grace > 0 or resource.kind == "Namespace"
        self._orphan_if_asked(before, body)
        if not is_waiting:
            return self.store.remove(resource, namespace, name) or before, True
        return self._marked(resource, before, grace), False

    def _grace_seconds(self, resource: Resource, before: Object, body: Object) -> int:
        if resource.kind != "Pod":
            return 0
        asked = body.get("gracePeriodSeconds")
        grace = int(before["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)
        is_started = bool(before["spec"].get("nodeName"))
        return grace if is_started else 0

    def _marked(self, resource: Resource, before: Object, grace: int) -> Object:
        meta = before["metadata"]
        if meta.get("deletionTimestamp") and grace >= meta.get("deletionGracePeriodSeconds", 0):
            return before
        after = copy.deepcopy(before)
        after["metadata"]["deletionTimestamp"] = rfc3339(self.clock.wall() + grace)
        after["metadata"]["deletionGracePeriodSeconds"] = grace
        if resource.kind == "Namespace":
            after["status"] = {"phase": "Terminating"}
        return self.store.put(resource, after)

    def _orphan_if_asked(self, owner: Object, body: Object) -> None:
        if body.get("propagationPolicy") != "Orphan" and body.get("orphanDependents") is not True:
            return
        uid = owner["metadata"]["uid"]
        for resource in self.kinds:
            for obj in self.store.all(resource):
                owners = obj["metadata"].get("ownerReferences") or []
                kept = [one for one in owners if one["uid"] != uid]
                if len(kept) != len(owners):
                    after = copy.deepcopy(obj)
                    after["metadata"]["ownerReferences"] = kept
                    self.store.put(resource, after)

    def scale(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return the ``Scale`` of a workload."""
        return self._scale_of(self.get(resource, namespace, name))

    def _scale_of(self, obj: Object) -> Object:
        meta = obj["metadata"]
        labels = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {key: meta[key] for key in kept if key in meta},
            "spec": {"replicas": obj["spec"].get("replicas", 1)},
            "status": {"replicas": (obj.get("status") or {}).get("replicas", 0), "selector": selector},
        }

    def put_scale(self, resource: Resource, namespace: str, name: str, scale: Object, options: Options) -> Object:
        """Take a new ``Scale``."""
        before = self.get(resource, namespace, name)
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        options = replace(options, subresource="scale")
        after = copy.deepcopy(before)
        after["spec"]["replicas"] = replicas
        version = (scale.get("metadata") or {}).get("resourceVersion")
        if version:
            after["metadata"]["resourceVersion"] = version
        else:
            after["metadata"].pop("resourceVersion")
        wanted = {**self._scale_of(before), "spec": {"replicas": replicas}}
        self.admit(Review("UPDATE", resource, namespace, name, self._scale_of(before), wanted, options))
        return self._scale_of(self.update(resource, namespace, name, after, options))

    def set_status(self, resource: Resource, obj: Object, status: Any, options: Options = SYSTEM) -> Object:  # noqa: ANN401 - JSON
        """Write a status, as the cluster's own parts do; no write when it is the same."""
        meta = obj["metadata"]
        before = self.store.get(resource, meta.get("namespace", ""), meta["name"])
        if before is None or before.get("status") == status:
            return before or obj
        after = copy.deepcopy(before)
        after["status"] = status
        writer = Writer(options.manager, "Update", "status")
        note_write(before, after, writer, rfc3339(self.clock.wall()))
        return self.store.put(resource, after)


def _writer(options: Options) -> Writer:
    return Writer(options.manager, "Update", options.subresource)


def _encode_strings(obj: Object) -> None:
    if obj["kind"] == "Secret" and (strings := obj.pop("stringData", None)):
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in strings.items()}
        obj["data"] = {**(obj.get("data") or {}), **encoded}


def _combined(resource: Resource, before: Object, obj: Object, subresource: str) -> Object:
    """Take from a new state what its writer may set, and everything else from the current one."""
    if subresource == "status":
        after = copy.deepcopy(before)
        after["status"] = copy.deepcopy(obj.get("status"))
    else:
        after = copy.deepcopy(obj)
        if "status" in resource.subresources:
            after.pop("status", None)
            if "status" in before:
                after["status"] = copy.deepcopy(before["status"])
    after["apiVersion"], after["kind"] = resource.api_version, resource.kind
    meta = after.setdefault("metadata", {})
    for key in _KEPT_META:
        meta.pop(key, None)
        if key in before["metadata"]:
            meta[key] = before["metadata"][key]
    meta["resourceVersion"] = before["metadata"]["resourceVersion"]
    _encode_strings(after)
    return after


def _owned_as_said(before: Object, entries: Any) -> Object:  # noqa: ANN401 - JSON
    """Return the current state with the owners that its writer names; an empty list names none, and changes none."""
    if not entries or entries == before["metadata"].get("managedFields"):
        return before
    return {**before, "metadata": {**before["metadata"], "managedFields": entries}}


def _content(obj: Object) -> Object:
    meta = {key: value for key, value in obj["metadata"].items() if key not in ("managedFields", "resourceVersion")}
    return {**obj, "metadata": meta}


def _owners(obj: Object) -> list[Any]:
    entries = obj["metadata"].get("managedFields") or ()
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]


def _spec(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}
