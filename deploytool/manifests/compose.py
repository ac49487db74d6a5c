"""Puts variables into compose files as ``docker compose`` does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from deploytool.model.node import Lined

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("dotenv", "interpolated")

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<how>:?[-?+])(?P<word>[^{}]*))?\})"
)
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)")


def dotenv(text: str) -> dict[str, str]:
    """Return the variables of a file ``.env``; lines that assign nothing are passed over."""
    found = {}
    for line in text.splitlines():
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match:
            name, value = match.groups()
            quoted = len(value) > 1 and value[0] in "\"'" and value[0] == value[-1]
            found[name] = value[1:-1] if quoted else value.partition(" #")[0].rstrip()
    return found


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:  # noqa: ANN401  # any document
    """Return a document with its variables put in; one that is required and missing is left as it stands."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _word(match, variables), value) if "$" in value else value
    if isinstance(value, list):
        return [interpolated(one, variables) for one in value]
    if isinstance(value, dict):
        content = {key: interpolated(one, variables) for key, one in value.items()}
        return Lined(content, value.lines) if isinstance(value, Lined) else content
    return value


def _word(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    name, how, word = match["named"] or match["braced"], match["how"] or "", match["word"] or ""
    value = variables.get(name)
    is_given = value is not None and (value != "" or not how.startswith(":"))
    if how.endswith("+"):
        return word if is_given else ""
    if value is not None and is_given:
        return value
    if how.endswith("?"):
        return match[0]
    return word
