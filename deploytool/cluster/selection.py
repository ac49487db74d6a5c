"""Which workload is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from deploytool.cluster.errors import ForbiddenError, MissingError, SelectionError
from deploytool.cluster.resources import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploytool.cluster.client import Cluster

__all__ = ("ADMIN_SERVICE", "ATTESTATION_OF", "GUARD", "select")

GUARD: Final = "slackwater.dev/guard"
"""Label of a workload that has to stay single."""

ADMIN_SERVICE: Final = "slackwater.dev/admin-service"
"""Annotation of a workload: name and port of the Service of its admin API."""

ATTESTATION_OF: Final = "slackwater.dev/attestation-of"
"""Label of a ConfigMap that somebody vouches by; its value is the workload."""


def select(cluster: Cluster, deployments: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the Deployment that is meant.

    Args:
        cluster: Asked only when there is nothing to choose from.
        deployments: All of the namespace.
        name: As the user gave it; empty for the only one of ours.

    Raises:
        SelectionError: There is none, it is not ours, or there are several.
    """
    if name:
        return _named(cluster, deployments, name)
    ours = [one for one in deployments if _is_ours(one)]
    if len(ours) == 1:
        return ours[0]
    if ours:
        names = ", ".join(sorted(_name(one) for one in ours))
        raise SelectionError(
            f"there are {len(ours)} workloads in namespace {cluster.namespace}: {names}", "Say which: --workload NAME"
        )
    others = ", ".join(sorted(_name(one) for one in deployments))
    _require_namespace(cluster)
    among = f"none of its Deployments ({others}) is ours" if others else "it has no Deployment"
    raise SelectionError(
        f"there is nothing to check in namespace {cluster.namespace}: {among}",
        f"Install the chart there, or name another namespace by --namespace. Ours carry the label {GUARD}.",
    )


def _named(cluster: Cluster, deployments: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    found = next((one for one in deployments if _name(one) == name), None)
    if found is None:
        _require_namespace(cluster)
        names = ", ".join(sorted(_name(one) for one in deployments if _is_ours(one)))
        raise SelectionError(
            f"there is no Deployment {name} in namespace {cluster.namespace}", f"Ours there: {names or 'none'}."
        )
    if not _is_ours(found):
        raise SelectionError(
            f"Deployment {name} in namespace {cluster.namespace} is not ours: it has neither the label {GUARD} "
            f"nor the annotation {ADMIN_SERVICE}",
            "Where it keeps the admin contract, say so: "
            f"kubectl --namespace {cluster.namespace} annotate deployment {name} {ADMIN_SERVICE}=SERVICE:PORT",
        )
    return found


def _require_namespace(cluster: Cluster) -> None:
    """Tell an absent namespace from an empty one: a list of either is empty."""
    try:
        cluster.get(NAMESPACES, cluster.namespace)
    except MissingError as error:
        raise SelectionError(
            f"there is no namespace {cluster.namespace} in this cluster", "Name another by --namespace."
        ) from error
    except ForbiddenError:
        return


def _is_ours(deployment: dict[str, Any]) -> bool:
    meta = deployment.get("metadata") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    return labels.get(GUARD) == "true" or bool(annotations.get(ADMIN_SERVICE))


def _name(one: dict[str, Any]) -> str:
    return str((one.get("metadata") or {}).get("name") or "")
