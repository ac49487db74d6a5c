"""Regular expressions out of files: somebody else's, so they may be made to take for ever."""

from __future__ import annotations

import re

__all__ = ("matches",)

_LONGEST = 300
_MOST_REPETITIONS = 8
_REPEATED_GROUP = re.compile(r"\)(?:[*+]|\{\d*,)")
_REPETITION = re.compile(r"[*+}]")


def matches(pattern: str, text: str, *, whole: bool, ignore_case: bool = False) -> bool | None:
    """Whether a pattern matches; None when it is none, or could take long.

    Args:
        pattern: In the syntax that nginx, Prometheus and Python have in common.
        text: A short text.
        whole: Whether all of the text has to match, as with Prometheus.
        ignore_case: Whether case makes no difference.
    """
    # A repeated group can take a time that grows exponentially, and repetitions beside each other a high power.
    if (
        len(pattern) > _LONGEST
        or _REPEATED_GROUP.search(pattern)
        or len(_REPETITION.findall(pattern)) > _MOST_REPETITIONS
    ):
        return None
    try:
        compiled = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError, RecursionError):
        return None
    return (compiled.fullmatch(text) if whole else compiled.search(text)) is not None
