"""Turns what was seen, or not seen, into observations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.model.finding import Observation, Verdict

if TYPE_CHECKING:
    from deploytool.model.observations import Unseen

__all__ = ("unknown", "verdict")


def unknown(what: str, unseen: Unseen) -> Observation:
    """Say that something was not seen, and what would make it visible."""
    return Observation(Verdict.UNKNOWN, "", f"{what} was not seen: {unseen.why}", remediation=unseen.way_out)


def verdict(holds: bool) -> Verdict:  # noqa: FBT001  # the one thing it is about
    """Return the verdict on something that was seen."""
    return Verdict.SATISFIED if holds else Verdict.VIOLATED
