"""Text for people: readable at 80 columns, without colour, and as it comes."""

from __future__ import annotations

import datetime as dt
import textwrap
from typing import TYPE_CHECKING

from deploytool.model.finding import Category, Depth, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.finding import Evidence, Finding, Report, Result

__all__ = (
    "HEADINGS",
    "instant",
    "printable",
    "short",
    "short_line",
    "summary",
    "table",
    "table_lines",
    "word",
)

HEADINGS = {
    Category.INFRASTRUCTURE: "Infrastructure",
    Category.MONITORING: "Monitoring",
    Category.SECURITY: "Security",
    Category.DOCUMENTATION: "Documentation",
}
"""The headings of the checklist."""

_WIDTH = 80
_QUIET = frozenset({Outcome.PASS, Outcome.NOT_APPLICABLE})
_MOST_SHOWN = 3
_INDENT = 9
_COMMAND = "$ "
_INLINE = 30


def instant(at: float) -> str:
    """Return unix seconds as an instant in UTC."""
    moment = dt.datetime.fromtimestamp(at, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def printable(text: str) -> str:
    """Return the text with what could steer a terminal made visible; names come out of files."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def short_line(result: Result) -> str:
    """Return one line for a result: outcome, id, and what is worst about it."""
    finding = _gravest(result)
    said = printable(_sentence(finding)) if finding is not None else result.item.title
    return f"{result.outcome.value}\t{result.item.id}\t{said}"


def short(report: Report) -> str:
    """Return one line for each result and one for all."""
    return "\n".join((*map(short_line, report.results), summary(report).replace("\n", " ")))


def table(report: Report) -> str:
    """Return the whole report as a table."""
    lines: list[str] = []
    before: Category | None = None
    for result in report.results:
        lines.extend(table_lines(result, before))
        before = result.item.category
    return "\n".join((*lines, "", summary(report)))


def table_lines(result: Result, before: Category | None) -> Iterator[str]:
    """Yield the lines of one result, under its heading when it is the first one there.

    Args:
        result: The result.
        before: The category of the result before it; None when it is the first one.
    """
    item = result.item
    if item.category is not before:
        if before is not None:
            yield ""
        yield HEADINGS[item.category]
    yield from _wrapped(f"  {word(result.outcome)} {item.number:>2}  ", f"{item.title} [{item.name}]")
    if result.outcome is Outcome.BLOCKED:
        yield from _wrapped(" " * _INDENT + "blocked by ", ", ".join(result.blocked_by))
    yield from _details(result)


def word(outcome: Outcome) -> str:
    """Return an outcome in the width of its column."""
    return {
        Outcome.INCONCLUSIVE: "inconclusive",
        Outcome.NOT_APPLICABLE: "n/a",
        Outcome.WAIVED: "waived",
        Outcome.BLOCKED: "blocked",
    }.get(outcome, outcome.value.upper() if outcome is not Outcome.PASS else "pass").ljust(12)


def _details(result: Result) -> Iterator[str]:
    shown = [finding for finding in result.findings if finding.outcome not in _QUIET]
    if not shown:
        kept = [finding for finding in result.findings if finding.outcome is result.outcome]
        for finding in kept[:_MOST_SHOWN]:
            yield from _wrapped(" " * _INDENT, printable(_sentence(finding)))
        if len(kept) > _MOST_SHOWN:
            yield f"{' ' * _INDENT}and {len(kept) - _MOST_SHOWN} more"
        return
    said: set[str] = set()
    for finding in shown:
        mark = f"{finding.outcome.value}: " if finding.outcome is not result.outcome else ""
        yield from _wrapped(" " * _INDENT, f"{mark}{printable(_sentence(finding))}")
        for evidence in finding.evidence[:_MOST_SHOWN]:
            yield from _wrapped(" " * (_INDENT + 2) + "seen: ", printable(_where(evidence)))
        if finding.remediation and finding.remediation not in said:
            said.add(finding.remediation)
            yield from _remedy(finding.remediation)


def _remedy(remediation: str) -> Iterator[str]:
    head = " " * (_INDENT + 2) + "do:   "
    for part in remediation.splitlines():
        for line in _advised(printable(part)):
            yield from [f"{head}{line}"] if line.startswith(_COMMAND) else _wrapped(head, line)
            head = " " * len(head)


def _advised(text: str) -> Iterator[str]:
    """Yield what to do, with each command on a line of its own: who copies it wants it whole and without its marks."""
    if "`" not in text:
        # Indented as it is: a rule to be copied, for one.
        yield text
        return
    said = ""
    for index, part in enumerate(text.split("`")):
        is_command = index % 2 == 1
        if not is_command or len(part) <= _INLINE:
            said += f"`{part}`" if is_command else part
            continue
        if said := _without_joints(said):
            yield said
        yield f"{_COMMAND}{part}"
        said = ""
    if said := _without_joints(said):
        yield said


def _without_joints(text: str) -> str:
    """Leave out what joined a text with the commands around it, often no more than a full stop."""
    return text.lstrip(" .,;)").removesuffix(" (").rstrip()


def _wrapped(head: str, text: str) -> Iterator[str]:
    """Yield lines of at most 80 columns; a word that is longer, such as an address, stays whole."""
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]


def _gravest(result: Result) -> Finding | None:
    same = (finding for finding in result.findings if finding.outcome is result.outcome)
    return next(same, result.findings[0] if result.findings else None)


def _sentence(finding: Finding) -> str:
    return f"{finding.subject}: {finding.message}" if finding.subject else finding.message


def _where(evidence: Evidence) -> str:
    seen = "absent" if evidence.seen is None else evidence.seen
    place = evidence.source
    if evidence.line is not None:
        place = f"{place}:{evidence.line}"
    elif evidence.document is not None:
        place = f"{place}, document {evidence.document}"
    return f"{place}, {evidence.field}: {seen}"


def summary(report: Report) -> str:
    """Return what it amounts to, in a line or two."""
    counts = ", ".join(f"{report.count(outcome)} {outcome.value}" for outcome in Outcome if report.count(outcome))
    depth = {Depth.OFFLINE: "offline", Depth.LIVE: "live", Depth.PROBE: "with probes"}[report.depth]
    image = f", image {report.image}" if report.image else ""
    return "\n".join(_wrapped("", f"{report.outcome.value} ({depth}{image}): {counts or 'nothing judged'}"))
