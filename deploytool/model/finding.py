"""Items of the checklist, the rules that they are made of, and what these find; as frozen values.

An *item* is one line of the pre-production checklist. It has *rules*: pure functions that look at a snapshot and yield
*observations*. An observation becomes a *finding* by the rule's severity, and the findings of an item its *result*.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deploytool.model.expectations import Expectations, Waiver
    from deploytool.model.snapshot import Snapshot

__all__ = (
    "Category",
    "Depth",
    "Evidence",
    "Finding",
    "Item",
    "Observation",
    "Outcome",
    "Report",
    "Result",
    "Rule",
    "Scalar",
    "Severity",
    "Verdict",
    "worst",
)

Scalar = int | float | bool | str | None


class Category(enum.Enum):
    """A heading of the pre-production checklist; the value is the first part of an item's id."""

    INFRASTRUCTURE = "infrastructure"
    MONITORING = "monitoring"
    SECURITY = "security"
    DOCUMENTATION = "documentation"


class Severity(enum.IntEnum):
    """How bad a violation is; ordered, so thresholds compare. From ERROR up it fails, below it warns."""

    INFO = 10
    WARNING = 20
    ERROR = 30
    FATAL = 40


class Depth(enum.IntEnum):
    """How far a check looks; ordered, each one contains those before it."""

    OFFLINE = 10
    """Files alone."""
    LIVE = 20
    """The cluster, and what the service says of itself."""
    PROBE = 30
    """Bounded real traffic against the service's public address."""


class Outcome(enum.Enum):
    """What is said of an item, or of one finding of it."""

    PASS = "pass"  # noqa: S105  # an outcome, no password
    WARN = "warn"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    WAIVED = "waived"
    NOT_APPLICABLE = "not applicable"
    BLOCKED = "blocked"


# What weighs more stands first: what could not be verified outweighs a warning and never counts as a pass.
_WORST_FIRST = (
    Outcome.FAIL,
    Outcome.INCONCLUSIVE,
    Outcome.BLOCKED,
    Outcome.WARN,
    Outcome.WAIVED,
    Outcome.PASS,
    Outcome.NOT_APPLICABLE,
)


def worst(outcomes: Iterable[Outcome]) -> Outcome | None:
    """Return the outcome that outweighs the others; None when there is none."""
    return min(outcomes, key=_WORST_FIRST.index, default=None)


class Verdict(enum.Enum):
    """What was observed of one subject, before the rule's severity is applied."""

    SATISFIED = enum.auto()
    VIOLATED = enum.auto()
    DOUBTFUL = enum.auto()
    """Warns, whatever the severity of the rule."""
    UNKNOWN = enum.auto()
    """Could not be verified."""
    IRRELEVANT = enum.auto()
    """Does not apply to this subject; the message says why."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen, and where.

    Attributes:
        source: A file as the user named it, ``-`` for standard input, or what was asked of the cluster or service.
        field: What was looked at there, such as ``spec.replicas``.
        seen: The value; None when there is none.
        document: Position of the YAML document in the file, counted from 1; None where it is no such file.
        line: In the file, counted from 1; None when it is not known.
        at: When it was seen, in unix seconds; None means when the report was made.
    """

    source: str
    field: str
    seen: Scalar
    document: int | None = None
    line: int | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that a rule looked at.

    Attributes:
        subject: What it is about, such as ``Deployment web``; empty when it is about the whole.
        remediation: What a person does about this one; empty for the rule's own.
    """

    verdict: Verdict
    subject: str
    message: str
    evidence: tuple[Evidence, ...] = ()
    remediation: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that has to hold for an item.

    Attributes:
        id: Lower case with hyphens, unique within its item, stable.
        depth: The least depth that can tell. Offline, deeper rules are left out; live, a rule that needs traffic says
            inconclusive.
        severity: What a violation means.
        title: What has to hold, as a sentence without a full stop.
        remediation: The exact command or setting. ``{namespace}``, ``{workload}``, ``{release}``, ``{item}`` and
            ``{url}`` are put in from the snapshot's target.
        run: Yields one observation per subject; yields nothing when there is nothing to say.
    """

    id: str
    depth: Depth
    severity: Severity
    title: str
    remediation: str
    run: Callable[[Snapshot, Expectations], Iterable[Observation]]


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the checklist, as data.

    Attributes:
        number: Its place in the checklist, from 1 to 16.
        id: Stable; ``<category>.<words>``, also its anchor in the documentation.
        title: What is true when it passes.
        knows: How a machine can tell, in a sentence or two for the documentation.
        needs: Names of the fields of ``Snapshot`` that its rules look at.
        passes_from: The least depth that is enough for a pass; above it, what is in order does not apply yet.
        depends_on: Ids of items without which this one may be impossible to verify.
        rules: In the order in which they are reported.
    """

    number: int
    id: str
    category: Category
    title: str
    knows: str
    needs: frozenset[str]
    rules: tuple[Rule, ...]
    passes_from: Depth = Depth.OFFLINE
    depends_on: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The id without its category."""
        return self.id.partition(".")[2]

    @property
    def severity(self) -> Severity:
        """That of its gravest rule."""
        return max(rule.severity for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says of one subject.

    Attributes:
        item: Id of the item.
        rule: Id of the rule within it.
        remediation: What a person does about it; empty when there is nothing to do.
    """

    item: str
    rule: str
    outcome: Outcome
    severity: Severity
    subject: str
    message: str
    remediation: str = ""
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What is said of one item.

    Attributes:
        outcome: The worst of its findings, unless it is waived or blocked.
        blocked_by: Ids of the items that kept it from being verified; empty unless it is blocked.
        waiver: The waiver that holds for it, if any; it is there too when it had no effect or has expired.
    """

    item: Item
    outcome: Outcome
    findings: tuple[Finding, ...]
    blocked_by: tuple[str, ...] = ()
    waiver: Waiver | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Results in the order of the checklist, with what they amount to.

    Attributes:
        at: When the snapshot was taken, in unix seconds.
        target: What was looked at, in words.
        image: The image digest that the evidence is for; empty when it is not known.
    """

    depth: Depth
    at: float
    target: str
    results: tuple[Result, ...]
    image: str = ""

    def count(self, outcome: Outcome) -> int:
        """Return how many items have this outcome."""
        return sum(result.outcome is outcome for result in self.results)

    @property
    def outcome(self) -> Outcome:
        """The worst of the results; INCONCLUSIVE when nothing at all was verified.

        A blocked item was not verified either.
        """
        found = worst(result.outcome for result in self.results)
        unverified = {None, Outcome.BLOCKED, Outcome.NOT_APPLICABLE}
        return Outcome.INCONCLUSIVE if found is None or found in unverified else found
