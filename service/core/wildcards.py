r"""Patterns that select channels by name, as back ends know them from shells.

``*`` (and ``**``) stands for any characters, ``?`` for one, ``[abc]``, ``[a-z]`` and
``[!abc]`` for one of a set, ``{chat,news:*}`` for one of several patterns; ``\`` takes the
meaning from the character behind it. A pattern is about the whole name.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("MAX_ALTERNATIVES", "MAX_PATTERN_LENGTH", "matcher")

MAX_PATTERN_LENGTH: Final = 255
"""Characters of a pattern."""

MAX_ALTERNATIVES: Final = 64
"""Patterns that one pattern with braces may stand for; nested braces multiply."""

_PART: Final = re.compile(r"\\.|\[!?\]?[^\]]*\]|.", re.DOTALL)


def matcher(pattern: str) -> Callable[[str], bool] | str:
    """Return what tells whether a name fits ``pattern``, or in words why the pattern cannot be used.

    The time of a match grows with the length of the name alone, not with the number of its wildcards' combinations.
    """
    if len(pattern) > MAX_PATTERN_LENGTH:
        return f"a pattern has at most {MAX_PATTERN_LENGTH} characters"
    try:
        alternatives = _expand(_parts(pattern))
    except _BadPattern as error:
        return str(error)
    # fnmatch translates a star into an atomic group, so that stars never try each other's characters again.
    match = re.compile("|".join(fnmatch.translate("".join(parts)) for parts in alternatives)).match
    return lambda name: match(name) is not None


class _BadPattern(ValueError):  # noqa: N818 - never leaves this module
    """A pattern that means nothing, or too much."""


def _parts(pattern: str) -> list[str]:
    """Cut a pattern into characters and sets."""
    # An escaped character stays behind its backslash, so that it is neither a brace nor a comma.
    parts = [match.group() for match in _PART.finditer(pattern)]
    if parts and parts[-1] == "\\":
        raise _BadPattern("there is no character behind the \\ at the end")
    return parts


def _expand(parts: list[str]) -> list[list[str]]:
    """Resolve the braces: return every pattern without braces that ``parts`` stand for."""
    start = next((index for index, part in enumerate(parts) if part in ("{", "}")), None)
    if start is None:
        return [[_plain(part) for part in parts]]
    if parts[start] == "}":
        raise _BadPattern("a } has no { before it; write \\} for the character itself")
    choices, rest = _choices(parts, start)
    expanded = [result for choice in choices for result in _expand([*parts[:start], *choice, *rest])]
    if len(expanded) > MAX_ALTERNATIVES:
        raise _BadPattern(f"the braces stand for more than {MAX_ALTERNATIVES} patterns")
    return expanded


def _choices(parts: list[str], start: int) -> tuple[list[list[str]], list[str]]:
    """Return what stands between the commas of the brace at ``start``, and what follows it."""
    choices: list[list[str]] = [[]]
    depth = 0
    for index in range(start + 1, len(parts)):
        part = parts[index]
        if part == "}" and not depth:
            return choices, parts[index + 1 :]
        if part == "," and not depth:
            choices.append([])
            continue
        depth += (part == "{") - (part == "}")
        choices[-1].append(part)
    raise _BadPattern("a { has no } behind it; write \\{ for the character itself")


def _plain(part: str) -> str:
    """Return a part as fnmatch reads it."""
    if part.startswith("\\"):
        return f"[{part[1:]}]" if part[1:] in "*?[" else part[1:]
    return part
