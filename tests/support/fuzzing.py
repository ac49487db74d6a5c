"""How much generated input a run tries."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ("FRAMES", "SPLITS", "is_full")


def is_full(environ: Mapping[str, str]) -> bool:
    """Whether this run takes the time for everything: in CI, or with ``SLACKWATER_FUZZ=full``."""
    return environ.get("CI", "").lower() in ("true", "1") or environ.get("SLACKWATER_FUZZ") == "full"


FRAMES = 100_000 if is_full(os.environ) else 2_000
"""Text messages that each of the two ways in is given at least: a session by itself, and a whole connection."""

SPLITS = 10_000 if is_full(os.environ) else 200
"""Ways to cut a stream of bytes that are tried at least."""
