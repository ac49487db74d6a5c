"""Every check there is, in the order of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.checks import replicas
from deploytool.model.finding import Report

if TYPE_CHECKING:
    from deploytool.model.finding import Check
    from deploytool.model.snapshot import Snapshot

__all__ = ("CHECKS", "evaluate")

CHECKS: tuple[Check, ...] = (*replicas.CHECKS,)


def evaluate(snapshot: Snapshot) -> Report:
    """Run every check over the snapshot."""
    return Report(tuple(finding for check in CHECKS for finding in check.evaluate(snapshot)))
