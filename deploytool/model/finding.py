"""Checks and what they find, as frozen values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deploytool.model.snapshot import Snapshot

__all__ = ("Check", "Evidence", "Finding", "Observation", "Outcome", "Report", "Severity", "Verdict")


class Severity(enum.IntEnum):
    """How bad a problem is; ordered, so thresholds compare."""

    INFO = 10
    WARNING = 20
    ERROR = 30
    FATAL = 40


class Outcome(enum.Enum):
    """What a check says of one subject."""

    PASS = "pass"  # noqa: S105  # an outcome, no password
    WARN = "warn"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"


class Verdict(enum.Enum):
    """What was observed of one subject, before the check's severity is applied."""

    SATISFIED = enum.auto()
    VIOLATED = enum.auto()
    UNKNOWN = enum.auto()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen, and where.

    Attributes:
        document: Position in the source, counted from 1.
        field: Dotted path in the document.
        seen: The value there; None when there is none.
    """

    source: str
    document: int
    field: str
    seen: int | str | None


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that a check looked at."""

    verdict: Verdict
    subject: str
    message: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of one subject.

    Attributes:
        remediation: What a person does about it; empty when there is nothing to do.
    """

    check: str
    outcome: Outcome
    subject: str
    message: str
    remediation: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A rule as data: identity, words for people, and a pure function.

    Attributes:
        id: Stable, dotted, lower case.
        category: Section of the pre-production checklist that it belongs to.
        severity: What a violation means: from ERROR up it fails, below it warns.
        run: Yields one observation per subject; yields nothing when the check does not apply.
    """

    id: str
    category: str
    severity: Severity
    title: str
    remediation: str
    run: Callable[[Snapshot], Iterable[Observation]]

    def evaluate(self, snapshot: Snapshot) -> tuple[Finding, ...]:
        """Return at least one finding; NOT_APPLICABLE when nothing was observed."""
        findings = tuple(self._finding(observation) for observation in self.run(snapshot))
        return findings or (Finding(self.id, Outcome.NOT_APPLICABLE, "", self.title, "", ()),)

    def _finding(self, observation: Observation) -> Finding:
        outcome = {
            Verdict.SATISFIED: Outcome.PASS,
            Verdict.VIOLATED: Outcome.FAIL if self.severity >= Severity.ERROR else Outcome.WARN,
            Verdict.UNKNOWN: Outcome.INCONCLUSIVE,
        }[observation.verdict]
        remediation = "" if outcome is Outcome.PASS else self.remediation
        return Finding(self.id, outcome, observation.subject, observation.message, remediation, observation.evidence)


@dataclass(frozen=True, slots=True)
class Report:
    """Findings, in the order of the catalogue, with what they amount to."""

    findings: tuple[Finding, ...]

    def count(self, outcome: Outcome) -> int:
        """Return how many findings have this outcome."""
        return sum(finding.outcome is outcome for finding in self.findings)

    @property
    def outcome(self) -> Outcome:
        """The worst of the findings; INCONCLUSIVE when nothing at all was verified.

        What could not be verified outweighs a warning and never counts as a pass.
        """
        for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.WARN, Outcome.PASS):
            if self.count(outcome):
                return outcome
        return Outcome.INCONCLUSIVE
