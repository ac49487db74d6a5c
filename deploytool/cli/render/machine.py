"""Reports for machines: JSON, JUnit and SARIF. What they look like is a contract with pipelines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from deploytool.cli.render.text import instant, printable
from deploytool.model.finding import Category, Depth, Outcome, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.finding import Evidence, Finding, Item, Report, Result

__all__ = ("REPORT_VERSION", "as_json", "as_junit", "as_sarif", "report_schema")

REPORT_VERSION: Final = "1.0"
"""Of the JSON report. The first number grows when something is taken away or means something else."""

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Outcome.FAIL: "error", Outcome.WARN: "warning", Outcome.INCONCLUSIVE: "warning", Outcome.BLOCKED: "warning"}
_KINDS = {
    Outcome.PASS: "pass",
    Outcome.WARN: "fail",
    Outcome.FAIL: "fail",
    Outcome.INCONCLUSIVE: "review",
    Outcome.BLOCKED: "review",
    Outcome.WAIVED: "fail",
    Outcome.NOT_APPLICABLE: "notApplicable",
}


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return json.dumps(_report(report), indent=2, ensure_ascii=False)


def _report(report: Report) -> dict[str, Any]:
    return {
        "version": REPORT_VERSION,
        "at": instant(report.at),
        "depth": report.depth.name.lower(),
        "target": report.target,
        "image": report.image or None,
        "outcome": report.outcome.value,
        "counts": {outcome.value: report.count(outcome) for outcome in Outcome},
        "items": [_result(result) for result in report.results],
    }


def _result(result: Result) -> dict[str, Any]:
    waiver = result.waiver
    return {
        "id": result.item.id,
        "number": result.item.number,
        "category": result.item.category.value,
        "title": result.item.title,
        "outcome": result.outcome.value,
        "blocked_by": list(result.blocked_by),
        "waiver": waiver and {"reason": waiver.reason, "owner": waiver.owner, "expires_at": instant(waiver.expires_at)},
        "findings": [_finding(finding) for finding in result.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "outcome": finding.outcome.value,
        "severity": finding.severity.name.lower(),
        "subject": finding.subject,
        "message": finding.message,
        "remediation": finding.remediation,
        "evidence": [_evidence(evidence) for evidence in finding.evidence],
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "source": evidence.source,
        "field": evidence.field,
        "seen": evidence.seen,
        "document": evidence.document,
        "line": evidence.line,
        "at": None if evidence.at is None else instant(evidence.at),
    }


def _closed(properties: dict[str, Any], description: str = "") -> dict[str, Any]:
    described = {"description": description} if description else {}
    return {
        "type": "object",
        **described,
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``-o json``, as it is published."""
    text: dict[str, Any] = {"type": "string"}
    when = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"}
    outcome = {"$ref": "#/$defs/outcome"}
    count = {"type": "integer", "minimum": 0}
    place = {"type": ["integer", "null"], "minimum": 1}
    evidence = _closed(
        {
            "source": {**text, "description": "A file, - for standard input, or what was asked of cluster or service."},
            "field": text,
            "seen": {"type": ["string", "number", "boolean", "null"], "description": "Null when there is nothing."},
            "document": {**place, "description": "Position in a YAML file; null elsewhere."},
            "line": {**place, "description": "In the file; null when it is not known."},
            "at": {
                **when,
                "type": ["string", "null"],
                "description": "When it was seen; null for when the report was made.",
            },
        }
    )
    finding = _closed(
        {
            "rule": text,
            "outcome": outcome,
            "severity": {"enum": [severity.name.lower() for severity in Severity]},
            "subject": text,
            "message": text,
            "remediation": {**text, "description": "Empty when there is nothing to do."},
            "evidence": {"type": "array", "items": evidence},
        }
    )
    waiver = _closed({"reason": text, "owner": text, "expires_at": when})
    item = _closed(
        {
            "id": text,
            "number": {"type": "integer", "minimum": 1, "maximum": 16},
            "category": {"enum": [category.value for category in Category]},
            "title": text,
            "outcome": outcome,
            "blocked_by": {"type": "array", "items": text, "description": "Ids of items."},
            "waiver": {"oneOf": [waiver, {"type": "null"}]},
            "findings": {"type": "array", "items": finding},
        }
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of deploytool check",
        "$defs": {"outcome": {"enum": [one.value for one in Outcome]}},
        **_closed(
            {
                "version": {"const": REPORT_VERSION},
                "at": when,
                "depth": {"enum": [depth.name.lower() for depth in Depth]},
                "target": text,
                "image": {"type": ["string", "null"], "description": "Digest of the image that the evidence is for."},
                "outcome": outcome,
                "counts": _closed({one.value: count for one in Outcome}),
                "items": {"type": "array", "items": item},
            }
        ),
    }


def as_junit(report: Report) -> str:
    """Return the report as JUnit XML: a suite for each category, a case for each item.

    What failed is a failure, what could not be verified an error, and what does not apply or is waived is skipped.
    """
    suites = []
    for category in Category:
        cases = [result for result in report.results if result.item.category is category]
        if cases:
            body = "".join(map(_case, cases))
            counts = _counts(cases)
            name = f"deploytool.{category.value}"
            suites.append(
                f'  <testsuite name="{name}" {counts} timestamp="{instant(report.at)[:-1]}">\n{body}  </testsuite>\n'
            )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<testsuites name="deploytool check" {_counts(report.results)}>\n{"".join(suites)}</testsuites>'


def _counts(results: tuple[Result, ...] | list[Result]) -> str:
    failed = sum(result.outcome is Outcome.FAIL for result in results)
    unverified = sum(result.outcome in {Outcome.INCONCLUSIVE, Outcome.BLOCKED} for result in results)
    skipped = sum(result.outcome in {Outcome.NOT_APPLICABLE, Outcome.WAIVED} for result in results)
    return f'tests="{len(results)}" failures="{failed}" errors="{unverified}" skipped="{skipped}" time="0"'


def _case(result: Result) -> str:
    item = result.item
    attributes = f'name="{_xml(item.name)}" classname="deploytool.{item.category.value}" time="0"'
    said = "\n".join(_said(finding) for finding in result.findings)
    element = {
        Outcome.FAIL: "failure",
        Outcome.INCONCLUSIVE: "error",
        Outcome.BLOCKED: "error",
        Outcome.WAIVED: "skipped",
        Outcome.NOT_APPLICABLE: "skipped",
    }.get(result.outcome)
    if element is None:
        return f"    <testcase {attributes}>\n      <system-out>{_xml(said)}</system-out>\n    </testcase>\n"
    why = next((one.message for one in result.findings if one.outcome is result.outcome), result.outcome.value)
    if result.blocked_by:
        why = f"blocked by {', '.join(result.blocked_by)}"
    kind = "" if element == "skipped" else f' type="{result.outcome.value}"'
    body = "/>" if element == "skipped" else f">{_xml(said)}</{element}>"
    return f'    <testcase {attributes}>\n      <{element} message="{_xml(why)}"{kind}{body}\n    </testcase>\n'


def _said(finding: Finding) -> str:
    subject = f"{finding.subject}: " if finding.subject else ""
    seen = "".join(f"\n  seen: {one.source}, {one.field}: {one.seen}" for one in finding.evidence)
    remediation = f"\n  do: {finding.remediation}" if finding.remediation else ""
    return f"{finding.outcome.value}: {subject}{finding.message}{seen}{remediation}"


def _xml(text: str) -> str:
    """Escape text; characters that XML cannot hold are made visible."""
    known = "".join(char if char in "\n\t" or char.isprintable() else printable(char) for char in text)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        known = known.replace(char, entity)
    return known


def as_sarif(report: Report) -> str:
    """Return the report as SARIF 2.1.0: a rule for each item, a result for each finding."""
    items = [result.item for result in report.results]
    results = [one for index, result in enumerate(report.results) for one in _sarif_results(index, result)]
    driver = {
        "name": "deploytool",
        "rules": [_sarif_rule(item) for item in items],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True, "endTimeUtc": instant(report.at)}],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _sarif_rule(item: Item) -> dict[str, Any]:
    level = {Severity.WARNING: "warning", Severity.INFO: "note"}.get(item.severity, "error")
    return {
        "id": item.id,
        "name": "".join(word.capitalize() for word in item.name.split("-")),
        "shortDescription": {"text": item.title},
        "fullDescription": {"text": item.knows},
        "help": {"text": "\n".join(f"{rule.title}: {rule.remediation}" for rule in item.rules)},
        "defaultConfiguration": {"level": level},
        "properties": {"tags": [item.category.value]},
    }


def _sarif_results(index: int, result: Result) -> Iterator[dict[str, Any]]:
    for finding in result.findings:
        subject = f"{finding.subject}: " if finding.subject else ""
        remediation = f" {finding.remediation}" if finding.remediation else ""
        one: dict[str, Any] = {
            "ruleId": result.item.id,
            "ruleIndex": index,
            "kind": _KINDS[finding.outcome],
            "level": _LEVELS.get(finding.outcome, "none"),
            "message": {"text": printable(f"{subject}{finding.message}{'.' if remediation else ''}{remediation}")},
            "locations": [_location(evidence) for evidence in finding.evidence[:10]],
            "properties": {"outcome": finding.outcome.value, "rule": finding.rule},
        }
        if one["kind"] != "fail":
            one["level"] = "none"
        if result.outcome is Outcome.WAIVED and result.waiver is not None and one["kind"] == "fail":
            one["suppressions"] = [{"kind": "external", "justification": result.waiver.reason}]
        yield one


def _location(evidence: Evidence) -> dict[str, Any]:
    """Return where it was seen; a file has a place of its own, what was asked of a cluster is named."""
    field = {"fullyQualifiedName": printable(f"{evidence.source}: {evidence.field}")}
    if evidence.document is None and evidence.line is None:
        return {"logicalLocations": [field]}
    place: dict[str, Any] = {"artifactLocation": {"uri": quote(evidence.source)}}
    if evidence.line is not None:
        place["region"] = {"startLine": evidence.line}
    return {"physicalLocation": place, "logicalLocations": [field]}
