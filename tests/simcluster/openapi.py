"""OpenAPI v3 of the kinds served: enough for a client to see that the server validates and takes dry runs."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from tests.simcluster.list_keys import ATOMIC_MAPS, KEYED_LISTS, SET_LISTS

if TYPE_CHECKING:
    from tests.simcluster.kinds import Kinds, Resource

__all__ = ("openapi",)

_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force")


def openapi(kinds: Kinds, path: str) -> dict[str, Any] | None:
    """Answer a path below ``/openapi/v3``; None when there is nothing of that name."""
    below = path.removeprefix("/openapi/v3").strip("/")
    documents = {one.path: one for one in kinds}
    if not below:
        return {"paths": {name: {"serverRelativeURL": _address(kinds, name)} for name in documents}}
    if below not in documents:
        return None
    return _document(kinds, documents[below])


def _address(kinds: Kinds, name: str) -> str:
    names = "".join(one.kind for one in kinds if one.path == name)
    digest = hashlib.sha256(names.encode()).hexdigest()[:32].upper()
    return f"/openapi/v3/{name}?hash={digest}"


def _document(kinds: Kinds, any_of_group: Resource) -> dict[str, Any]:
    found = kinds.within(any_of_group.group, any_of_group.version)
    paths: dict[str, Any] = {}
    for one in found:
        paths.update(_paths(one))
    schemas = {_schema_name(one): _schema(one) for one in found}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Simulated cluster", "version": "v1.33.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _gvk(one: Resource) -> dict[str, str]:
    return {"group": one.group, "kind": one.kind, "version": one.version}


def _schema_name(one: Resource) -> str:
    return ".".join(("io.k8s.api", one.group.partition(".")[0] or "core", one.version, one.kind))


def _schema(one: Resource) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
        "x-kubernetes-preserve-unknown-fields": True,
        "x-kubernetes-group-version-kind": [_gvk(one)],
        "x-simulated-list-keys": json.loads(json.dumps(KEYED_LISTS)),
        "x-simulated-set-lists": sorted(SET_LISTS),
        "x-simulated-atomic-maps": sorted(ATOMIC_MAPS),
    }


def _paths(one: Resource) -> dict[str, Any]:
    scope = f"/{one.path}/namespaces/{{namespace}}" if one.is_namespaced else f"/{one.path}"
    collection = f"{scope}/{one.plural}"
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _PARAMETERS]
    reference = {"schema": {"$ref": f"#/components/schemas/{_schema_name(one)}"}}
    answer = {"200": {"description": "OK", "content": {"application/json": reference}}}

    def _operation(action: str) -> dict[str, Any]:
        return {
            "operationId": f"{action}{one.kind}",
            "parameters": parameters,
            "responses": answer,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _gvk(one),
        }

    found = {collection: {"post": _operation("post"), "get": _operation("list")}}
    if not one.is_virtual:
        item = {"get": "get", "put": "put", "patch": "patch", "delete": "delete"}
        found[f"{collection}/{{name}}"] = {method: _operation(action) for method, action in item.items()}
    return found
