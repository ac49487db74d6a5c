"""The API server: requests in, answers out; knows nothing of sockets."""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.simcluster.discovery import VERSION, discover, wants_aggregated
from tests.simcluster.errors import ApiError, unsupported
from tests.simcluster.identity import Access, Attempt, User
from tests.simcluster.json_patch import json_patch, merge_patch
from tests.simcluster.openapi import openapi
from tests.simcluster.requests import Answer, Request, Target, target_of
from tests.simcluster.reviews import review
from tests.simcluster.selectors import field_predicate, label_predicate
from tests.simcluster.strategic_patch import strategic_patch
from tests.simcluster.tables import as_table, wants_table
from tests.simcluster.watches import Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.simcluster.registry import Options, Registry
    from tests.simcluster.selectors import Predicate
    from tests.simcluster.store import Object

    Proxy = Callable[[Request, Target], Awaitable[Answer]]

__all__ = ("Api",)

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OBJECT_SUBRESOURCES = frozenset({"", "status", "finalize", "ephemeralcontainers"})
_PROXIED = frozenset({"proxy", "log"})
_APPLY = "application/apply-patch+yaml"


class Api:
    """Answers requests out of a registry.

    Attributes:
        clock: Of the registry.
        proxies: Serves a subresource that ends outside the store: ``proxy`` and ``log``.
        watches: Those that are open.
        bookmark_seconds: Between the bookmarks of a watch, in real time.
    """

    def __init__(self, registry: Registry) -> None:
        self.clock = registry.clock
        self._registry = registry
        self._store = registry.store
        self._kinds = registry.kinds
        self.access = Access(self._store, self._kinds)
        self.proxies: dict[str, Proxy] = {}
        self.watches: set[Watch] = set()
        self.bookmark_seconds = 15.0

    async def handle(self, request: Request) -> Answer:
        """Answer a request.

        Raises:
            ApiError: Whatever is refused.
        """
        if found := self._meta(request):
            return Answer(body=found) if isinstance(found, dict) else found
        target = target_of(self._kinds, request.path)
        if target is None:
            known = request.path.startswith(("/api/", "/apis/", "/openapi"))
            raise (
                ApiError(404, "NotFound", "the server could not find the requested resource")
                if known
                else (unsupported(request.path))
            )
        self.access.require(request.user, self._attempt(request, target))
        if target.resource.is_virtual:
            return Answer(201, review(self.access, target.resource, request))
        if target.subresource in _PROXIED:
            return await self.proxies[target.subresource](request, target)
        warnings: list[str] = []
        answer = self._resource(request, target, request.options(warnings, target.subresource))
        if warnings:
            quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in warnings)
            answer.headers["Warning"] = ", ".join(f'299 - "{text}"' for text in quoted)
        return answer

    def _meta(self, request: Request) -> dict[str, Any] | Answer | None:  # noqa: PLR0911 - a table
        if request.method != "GET":
            return None
        if request.path in ("/healthz", "/livez", "/readyz"):
            return Answer(body=b"ok", content_type="text/plain")
        if request.path in ("/version", "/version/"):
            return VERSION
        if request.path.startswith("/openapi/v3"):
            return openapi(self._kinds, request.path)
        is_aggregated = wants_aggregated(request.accept)
        found = discover(self._kinds, request.path, is_aggregated=is_aggregated)
        if found and is_aggregated and request.path.strip("/") in ("api", "apis"):
            media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            return Answer(body=found, content_type=media)
        return found

    def _attempt(self, request: Request, target: Target) -> Attempt:
        verb = _VERBS.get(request.method, request.method.lower())
        if not target.name:
            verb = {"get": "watch" if request.flag("watch") else "list", "delete": "deletecollection"}.get(verb, verb)
        resource = target.resource.plural + (f"/{target.subresource}" if target.subresource else "")
        return Attempt(verb, target.resource.group, resource, target.namespace, target.name)

    def _resource(self, request: Request, target: Target, options: Options) -> Answer:
        if target.subresource == "scale":
            return self._scale(request, target, options)
        if target.subresource == "eviction":
            return self._evict(request, target, options)
        if target.subresource not in _OBJECT_SUBRESOURCES:
            raise unsupported(f"{target.resource.plural}/{target.subresource}")
        if not target.name:
            return self._collection(request, target, options)
        return self._object(request, target, options)

    def _collection(self, request: Request, target: Target, options: Options) -> Answer:
        match request.method:
            case "GET":
                return self._list(request, target)
            case "POST":
                made = self._registry.create(target.resource, target.namespace, request.read(), options)
                return Answer(201, self._shown(request, target, made))
            case "DELETE":
                predicate = _predicate(request)
                for obj in self._store.all(target.resource, target.namespace):
                    meta = obj["metadata"]
                    if predicate(obj):
                        self._registry.delete(
                            target.resource, meta.get("namespace", ""), meta["name"], options, request.read()
                        )
                return Answer(body={"kind": "Status", "apiVersion": "v1", "status": "Success"})
            case method:
                raise unsupported(f"{method} {request.path}")

    def _object(self, request: Request, target: Target, options: Options) -> Answer:
        where = (target.resource, target.namespace, target.name)
        match request.method:
            case "GET" if request.flag("watch"):
                return self._watch(request, target)
            case "GET":
                return Answer(body=self._shown(request, target, self._registry.get(*where)))
            case "PUT":
                return Answer(body=self._registry.update(*where, request.read(), options))
            case "PATCH":
                return self._patch(request, target, options)
            case "DELETE":
                return self._delete(request, target, options)
            case method:
                raise unsupported(f"{method} {request.path}")

    def _patch(self, request: Request, target: Target, options: Options) -> Answer:
        where = (target.resource, target.namespace, target.name)
        if request.content_type == _APPLY:
            if "fieldManager" not in request.query:
                raise ApiError(422, "Invalid", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
            is_new = self._store.get(*where) is None
            applied = self._registry.apply(*where, _object_of(request.read()), options)
            return Answer(201 if is_new else 200, self._shown(request, target, applied))
        before = self._registry.get(*where)
        after = _patched(before, request)
        if after.get("metadata", {}).get("resourceVersion") is None:
            after.setdefault("metadata", {})["resourceVersion"] = ""
        return Answer(body=self._shown(request, target, self._registry.update(*where, after, options)))

    def _delete(self, request: Request, target: Target, options: Options) -> Answer:
        body = request.read() or {}
        if "gracePeriodSeconds" in request.query:
            body["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
        if "propagationPolicy" in request.query:
            body["propagationPolicy"] = request.query["propagationPolicy"]
        if body.get("dryRun"):
            options = replace(options, is_dry_run=True)
        last, is_gone = self._registry.delete(target.resource, target.namespace, target.name, options, body)
        if not is_gone or target.resource.kind == "Pod":
            return Answer(body=last)
        details = {
            "name": target.name,
            "group": target.resource.group,
            "kind": target.resource.plural,
            "uid": last["metadata"]["uid"],
        }
        return Answer(body={"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details})

    def _evict(self, request: Request, target: Target, options: Options) -> Answer:
        if request.method != "POST":
            raise unsupported(f"{request.method} {request.path}")
        pod = self._registry.get(target.resource, target.namespace, target.name)
        labels = pod["metadata"].get("labels") or {}
        for budget in self._store.all(self._kinds.get("PodDisruptionBudget"), target.namespace):
            wanted = budget["spec"].get("selector", {}).get("matchLabels", {})
            if wanted and wanted.items() <= labels.items() and _allows_none(budget):
                raise ApiError(
                    429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget."
                )
        body = (request.read() or {}).get("deleteOptions")
        self._registry.delete(target.resource, target.namespace, target.name, options, body)
        return Answer(201, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _scale(self, request: Request, target: Target, options: Options) -> Answer:
        where = (target.resource, target.namespace, target.name)
        current = self._registry.scale(*where)
        if request.method == "GET":
            return Answer(body=current)
        if request.method == "PUT":
            return Answer(body=self._registry.put_scale(*where, request.read(), options))
        if request.method == "PATCH" and request.content_type != _APPLY:
            wanted = _patched(current, request)
            return Answer(body=self._registry.put_scale(*where, wanted, options))
        raise unsupported(f"{request.method} of a scale as {request.content_type}")

    def _list(self, request: Request, target: Target) -> Answer:
        if request.flag("watch"):
            return self._watch(request, target)
        predicate = _predicate(request)
        found = [obj for obj in self._store.all(target.resource, target.namespace) if predicate(obj)]
        meta: dict[str, Any] = {"resourceVersion": str(self._store.version)}
        found = _page(found, request, meta)
        if wants_table(request.accept):
            return Answer(body=as_table(target.resource, found, meta, self._registry.clock.wall()))
        return Answer(
            body={
                "kind": f"{target.resource.kind}List",
                "apiVersion": target.resource.api_version,
                "metadata": meta,
                "items": found,
            }
        )

    def _watch(self, request: Request, target: Target) -> Answer:
        predicate = _predicate(request, target.name)
        is_bookmarked = request.flag("allowWatchBookmarks")
        watch = Watch(
            self._store,
            target.resource,
            target.namespace,
            predicate,
            bookmark_seconds=self.bookmark_seconds if is_bookmarked else None,
            among=self.watches,
        )
        is_list = request.flag("sendInitialEvents")
        asked = request.query.get("resourceVersion", "")
        initial: list[Object] | None = None
        if is_list or asked in ("", "0"):
            version = self._store.version
            initial = [obj for obj in self._store.all(target.resource, target.namespace) if predicate(obj)]
        else:
            version = int(asked)
        pieces = watch.run(version, initial, is_list=is_list)
        return Answer(pieces=pieces)

    def _shown(self, request: Request, target: Target, obj: Object) -> Object:
        if wants_table(request.accept):
            meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            return as_table(target.resource, [obj], meta, self._registry.clock.wall())
        return obj

    def user_of(self, request: Request, authenticated: User) -> User:
        """Return who a request speaks for: who sent it, or whom they say they are."""
        name = request.headers.get("impersonate-user")
        if not name:
            return authenticated
        self.access.require(authenticated, Attempt("impersonate", "", "users", name=name))
        groups = request.headers.get("impersonate-group", "")
        return User(name, tuple(filter(None, groups.split(","))))


def _predicate(request: Request, name: str = "") -> Predicate:
    labels = label_predicate(request.query.get("labelSelector", ""))
    fields = field_predicate(request.query.get("fieldSelector", ""))
    return lambda obj: (not name or obj["metadata"]["name"] == name) and labels(obj) and fields(obj)


def _object_of(body: Any) -> Object:  # noqa: ANN401 - JSON
    if not isinstance(body, dict):
        raise ApiError(400, "BadRequest", "the body is not an object")
    return body


def _patched(before: Object, request: Request) -> Object:
    patch = request.read()
    match request.content_type:
        case "application/json-patch+json":
            return _object_of(json_patch(before, patch))
        case "application/merge-patch+json":
            return _object_of(merge_patch(before, _object_of(patch)))
        case "application/strategic-merge-patch+json":
            return strategic_patch(before, _object_of(patch))
        case media:
            raise ApiError(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {media}")


def _allows_none(budget: Object) -> bool:
    spec = budget["spec"]
    return spec.get("maxUnavailable") in (0, "0%") or spec.get("minAvailable") in (1, "100%")


def _page(found: list[Object], request: Request, meta: dict[str, Any]) -> list[Object]:
    """Return the asked page of a list, and note in its metadata where the next begins."""
    limit = int(request.query.get("limit") or 0)
    start = 0
    if token := request.query.get("continue"):
        try:
            start = json.loads(base64.b64decode(token))["start"]
        except (ValueError, KeyError, TypeError) as error:
            raise ApiError(400, "BadRequest", "continue key is not valid") from error
    if limit and len(found) > start + limit:
        meta["continue"] = base64.b64encode(json.dumps({"start": start + limit}).encode()).decode()
        meta["remainingItemCount"] = len(found) - start - limit
    return copy.copy(found[start : start + limit if limit else None])
