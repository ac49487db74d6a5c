"""What a client asks first: groups, versions and kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simcluster.kinds import Kinds, Resource

__all__ = ("VERSION", "discover", "wants_aggregated")

VERSION = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+simulated",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2025-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}

_AGGREGATED = "APIGroupDiscoveryList"


def wants_aggregated(accept: str) -> bool:
    """Tell whether a client takes aggregated discovery, as far as it is served: version v2."""
    return any(f"as={_AGGREGATED}" in part and "v=v2" in part.split(";") for part in accept.split(","))


def discover(  # noqa: PLR0911 - a table
    kinds: Kinds, path: str, *, is_aggregated: bool
) -> dict[str, Any] | None:
    """Answer a path of discovery; None when it is not one."""
    parts = path.strip("/").split("/")
    match parts:
        case ["api"]:
            return _aggregated(kinds, is_core=True) if is_aggregated else {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            return _aggregated(kinds, is_core=False) if is_aggregated else _groups(kinds)
        case ["api", version]:
            return _resources(kinds, "", version)
        case ["apis", group]:
            return _group(group, kinds.groups()[group]) if group in kinds.groups() else None
        case ["apis", group, version]:
            return _resources(kinds, group, version)
        case _:
            return None


def _group(group: str, versions: list[str]) -> dict[str, Any]:
    found = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": found, "preferredVersion": found[0]}


def _groups(kinds: Kinds) -> dict[str, Any]:
    groups = [_group(group, versions) for group, versions in kinds.groups().items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _resources(kinds: Kinds, group: str, version: str) -> dict[str, Any] | None:
    found = kinds.within(group, version)
    if not found:
        return None
    listed: list[dict[str, Any]] = []
    for one in found:
        listed.append(
            {
                "name": one.plural,
                "singularName": one.singular,
                "namespaced": one.is_namespaced,
                "kind": one.kind,
                "verbs": list(one.verbs),
                "shortNames": list(one.short_names),
                "categories": list(one.categories),
            }
        )
        listed += [
            {
                "name": f"{one.plural}/{subresource}",
                "singularName": "",
                "namespaced": one.is_namespaced,
                **_subresource_kind(one, subresource),
                "verbs": ["get", "patch", "update"],
            }
            for subresource in one.subresources
        ]
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}


def _subresource_kind(resource: Resource, subresource: str) -> dict[str, str]:
    if subresource == "scale":
        return {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    return {"kind": resource.kind}


def _aggregated(kinds: Kinds, *, is_core: bool) -> dict[str, Any]:
    items = [
        {
            "metadata": {"name": group or None, "creationTimestamp": None},
            "versions": [
                {
                    "version": version,
                    "resources": [_aggregated_resource(one) for one in kinds.within(group, version)],
                    "freshness": "Current",
                }
                for version in versions
            ],
        }
        for group, versions in kinds.groups().items()
        if (group == "") is is_core
    ]
    return {"kind": _AGGREGATED, "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_resource(one: Resource) -> dict[str, Any]:
    return {
        "resource": one.plural,
        "responseKind": {"group": one.group, "version": one.version, "kind": one.kind},
        "scope": "Namespaced" if one.is_namespaced else "Cluster",
        "singularResource": one.singular,
        "verbs": list(one.verbs),
        "shortNames": list(one.short_names),
        "categories": list(one.categories),
        "subresources": [
            {
                "subresource": subresource,
                "responseKind": {"group": one.group, "version": one.version, **_subresource_kind(one, subresource)},
                "verbs": ["get", "patch", "update"],
            }
            for subresource in one.subresources
        ],
    }
