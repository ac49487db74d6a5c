"""Label and field selectors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.simcluster.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("Predicate", "field_predicate", "label_predicate", "matches_selector")

if TYPE_CHECKING:
    Predicate = Callable[[Mapping[str, Any]], bool]
else:
    Predicate = object

_SETS = re.compile(r"^(?P<key>\S+)\s+(?P<operator>in|notin)\s+\((?P<values>[^)]*)\)$")
_EQUALS = re.compile(r"^(?P<key>[^\s!=]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^\s=!]*)$")
_EXISTS = re.compile(r"^(?P<not>!?)\s*(?P<key>[^\s!=]+)$")
_COMMA = re.compile(r",(?![^(]*\))")


def _labels(obj: Mapping[str, Any]) -> dict[str, str]:
    return obj.get("metadata", {}).get("labels") or {}


def _requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    if match := _SETS.match(text):
        key, values = match["key"], {value.strip() for value in match["values"].split(",")}
        if match["operator"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUALS.match(text):
        key, value = match["key"], match["value"]
        if match["operator"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.match(text):
        key, is_negated = match["key"], bool(match["not"])
        return lambda labels: (key in labels) is not is_negated
    raise ApiError(400, "BadRequest", f"unable to parse requirement: {text!r}")


def label_predicate(text: str) -> Predicate:
    """Compile a label selector; the empty one takes everything."""
    requirements = [_requirement(part.strip()) for part in _COMMA.split(text) if part.strip()]
    return lambda obj: all(requirement(_labels(obj)) for requirement in requirements)


def _field(obj: Mapping[str, Any], path: str) -> str:
    value: Any = obj
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def field_predicate(text: str) -> Predicate:
    """Compile a field selector; any path is taken, more than a real server does."""
    terms: list[tuple[str, str, bool]] = []
    for part in filter(None, text.split(",")):
        match = _EQUALS.match(part.strip())
        if match is None:
            raise ApiError(400, "BadRequest", f"invalid field selector: {part!r}")
        terms.append((match["key"], match["value"], match["operator"] == "!="))
    return lambda obj: all((_field(obj, path) == value) is not is_negated for path, value, is_negated in terms)


def _expression(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def matches_selector(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Judge a ``LabelSelector``; None and the empty one take everything."""
    selector = selector or {}
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _expression(labels, expression) for expression in selector.get("matchExpressions") or ()
    )
