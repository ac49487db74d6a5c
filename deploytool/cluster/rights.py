"""What we are allowed to do, in the API server's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from deploytool.cluster.resources import Resource
from deploytool.cluster.retrying import transient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploytool.cluster.client import Cluster

__all__ = ("Right", "missing")

Right: TypeAlias = tuple[str, Resource, str, str]
"""Verb, kind, name (empty for any), subresource (empty for none)."""

_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", is_namespaced=False
)


def missing(cluster: Cluster, rights: Iterable[Right]) -> list[str]:
    """Return those that we have not, each in words."""
    return [_spelled(one) for one in dict.fromkeys(rights) if not _is_allowed(cluster, one)]


def _is_allowed(cluster: Cluster, right: Right) -> bool:
    verb, resource, name, part = right
    attributes = {
        "verb": verb,
        "group": resource.group,
        "resource": resource.plural,
        "subresource": part,
        "name": name,
        "namespace": cluster.namespace if resource.is_namespaced else "",
    }
    body = {"apiVersion": _REVIEWS.api_version, "kind": _REVIEWS.kind, "spec": {"resourceAttributes": attributes}}
    with transient():
        answer = cluster.create(_REVIEWS, body)
    return bool((answer.get("status") or {}).get("allowed"))


def _spelled(right: Right) -> str:
    verb, resource, name, part = right
    of = f"{resource.plural}{f'/{part}' if part else ''}{f' of {resource.group}' if resource.group else ''}"
    return f"{verb} {of}{f' {name}' if name else ''}"
