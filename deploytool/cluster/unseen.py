"""Errors as what could not be observed."""

from __future__ import annotations

from deploytool.cluster.errors import ClusterError, ForbiddenError
from deploytool.model.observations import Unseen

__all__ = ("unseen",)


def unseen(error: ClusterError) -> Unseen:
    """Return what to say in the place of what the error kept from being seen."""
    if isinstance(error, ForbiddenError):
        kind = "Role" if error.namespace else "ClusterRole"
        return Unseen(error.problem, f"Add this rule to a {kind} that you are bound to:\n{error.rule}")
    return Unseen(error.problem, error.remediation)
