"""Reports as text: pure functions, one per format, and the exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from deploytool.model.finding import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploytool.model.finding import Evidence, Finding, Report

__all__ = ("RENDERERS", "as_json", "as_table", "exit_code")

_EXIT_CODES = {
    Outcome.PASS: 0,
    Outcome.WARN: 0,
    Outcome.FAIL: 3,
    Outcome.INCONCLUSIVE: 5,
}
_WARNED_UNDER_STRICT = 4


def exit_code(report: Report, *, strict: bool) -> int:
    """Return what the process ends with after this report.

    Args:
        report: What was found.
        strict: Whether a warning is more than something to read.
    """
    if strict and report.outcome is Outcome.WARN:
        return _WARNED_UNDER_STRICT
    return _EXIT_CODES[report.outcome]


def as_json(report: Report) -> str:
    """Return the report as one JSON object; the keys are part of the tool's contract."""
    return json.dumps(
        {
            "outcome": report.outcome.value,
            "counts": {outcome.value: report.count(outcome) for outcome in Outcome},
            "findings": [
                {
                    "check": finding.check,
                    "outcome": finding.outcome.value,
                    "subject": finding.subject,
                    "message": finding.message,
                    "remediation": finding.remediation,
                    "evidence": [
                        {"source": one.source, "document": one.document, "field": one.field, "seen": one.seen}
                        for one in finding.evidence
                    ],
                }
                for finding in report.findings
            ],
        },
        indent=2,
    )


def as_table(report: Report) -> str:
    """Return the report for people: one line a finding, then its evidence and what to do about it."""
    rows = [
        (finding.outcome.value.upper(), finding.check, _printable(_sentence(finding))) for finding in report.findings
    ]
    first, second = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    lines: list[str] = []
    for finding, (outcome, check, text) in zip(report.findings, rows, strict=True):
        lines.append(f"{outcome:<{first}}  {check:<{second}}  {text}".rstrip())
        lines.extend(f"{'':<{first}}    {_printable(detail)}" for detail in _details(finding))
    return "\n".join((*lines, "", _summary(report)))


def _sentence(finding: Finding) -> str:
    return f"{finding.subject}: {finding.message}" if finding.subject else finding.message


def _details(finding: Finding) -> Iterator[str]:
    if finding.outcome in {Outcome.PASS, Outcome.NOT_APPLICABLE}:
        return
    for evidence in finding.evidence:
        yield f"seen: {_where(evidence)}"
    if finding.remediation:
        yield f"do:   {finding.remediation}"


def _where(evidence: Evidence) -> str:
    seen = "absent" if evidence.seen is None else evidence.seen
    return f"{evidence.source}, document {evidence.document}, {evidence.field}: {seen}"


def _summary(report: Report) -> str:
    counts = ", ".join(f"{report.count(outcome)} {outcome.value}" for outcome in Outcome if report.count(outcome))
    return f"{report.outcome.value}: {counts}"


def _printable(text: str) -> str:
    """Return the text with what could steer a terminal made visible; names come out of files."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


RENDERERS: dict[str, Callable[[Report], str]] = {"table": as_table, "json": as_json}
