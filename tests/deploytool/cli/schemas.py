"""What SARIF and JUnit files have to look like, as far as the parts go that are used here.

Source of the first: https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/sarif-v2.1.0-os.html, sections 3.13 to 3.54.
The second has no standard; this is what Jenkins, GitLab and GitHub's readers agree on.
"""

from __future__ import annotations

from typing import Any

__all__ = ("JUNIT_CHILDREN", "SARIF")


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_MESSAGE = _closed({"text": _TEXT}, "text")
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_INSTANT = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$"}
_RULE = _closed(
    {
        "id": _TEXT,
        "name": _TEXT,
        "shortDescription": _MESSAGE,
        "fullDescription": _MESSAGE,
        "help": _MESSAGE,
        "defaultConfiguration": _closed({"level": _LEVEL}),
        "properties": _closed({"tags": {"type": "array", "items": _TEXT, "uniqueItems": True}}),
    },
    "id",
)
_PLACE = _closed(
    {
        "artifactLocation": _closed({"uri": {"type": "string", "pattern": r"^[^\s\\]+$"}}),
        "region": _closed({"startLine": {"type": "integer", "minimum": 1}}),
    }
)
_LOCATION = _closed(
    {"physicalLocation": _PLACE, "logicalLocations": {"type": "array", "items": _closed({"fullyQualifiedName": _TEXT})}}
)
_RESULT = _closed(
    {
        "ruleId": _TEXT,
        "ruleIndex": {"type": "integer", "minimum": 0},
        "kind": {"enum": ["notApplicable", "pass", "fail", "review", "open", "informational"]},
        "level": _LEVEL,
        "message": _MESSAGE,
        "locations": {"type": "array", "items": _LOCATION},
        "suppressions": {
            "type": "array",
            "items": _closed({"kind": {"enum": ["inSource", "external"]}, "justification": {"type": "string"}}, "kind"),
        },
        "properties": {"type": "object"},
    },
    "message",
)
_DRIVER = _closed(
    {"name": _TEXT, "informationUri": _TEXT, "rules": {"type": "array", "items": _RULE, "uniqueItems": True}}, "name"
)
_RUN = _closed(
    {
        "tool": _closed({"driver": _DRIVER}, "driver"),
        "invocations": {
            "type": "array",
            "items": _closed(
                {"executionSuccessful": {"type": "boolean"}, "endTimeUtc": _INSTANT}, "executionSuccessful"
            ),
        },
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "results": {"type": "array", "items": _RESULT},
    },
    "tool",
)

SARIF = _closed(
    {"$schema": _TEXT, "version": {"const": "2.1.0"}, "runs": {"type": "array", "items": _RUN}}, "version", "runs"
)

_COUNTED = frozenset({"name", "tests", "failures", "errors", "skipped", "time"})
_WHY = frozenset({"message", "type"})

JUNIT_CHILDREN: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "testsuites": (_COUNTED, frozenset({"testsuite"})),
    "testsuite": (_COUNTED | {"timestamp"}, frozenset({"testcase"})),
    "testcase": (frozenset({"name", "classname", "time"}), frozenset({"failure", "error", "skipped", "system-out"})),
    "failure": (_WHY, frozenset()),
    "error": (_WHY, frozenset()),
    "skipped": (frozenset({"message"}), frozenset()),
    "system-out": (frozenset(), frozenset()),
}
"""Attributes that each element needs, and the elements that may stand in it."""
