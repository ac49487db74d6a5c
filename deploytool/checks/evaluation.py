"""Judges a snapshot: rules into findings, findings into results, with what blocks and what is waived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.model.finding import Depth, Finding, Outcome, Report, Result, Severity, Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from deploytool.model.expectations import Expectations, Waiver
    from deploytool.model.finding import Item, Observation, Rule
    from deploytool.model.snapshot import Snapshot

__all__ = ("evaluate", "results")

_WAIVER = "waiver"
_WAIVABLE = frozenset({Outcome.FAIL, Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.BLOCKED})
_WHERE = {Depth.LIVE: "in the cluster", Depth.PROBE: "by traffic (--probe)"}
_BLOCKING = frozenset({Outcome.FAIL, Outcome.BLOCKED})
_DAY = 86_400.0


def evaluate(snapshot: Snapshot, expectations: Expectations, items: Sequence[Item]) -> Report:
    """Judge the items of a snapshot that is complete."""
    found = tuple(results([snapshot], expectations, items))
    return Report(snapshot.depth, snapshot.at, str(snapshot.target), found)


def results(snapshots: Iterable[Snapshot], expectations: Expectations, items: Sequence[Item]) -> Iterator[Result]:
    """Yield the result of each item, in order, as soon as what it needs has been seen.

    Args:
        snapshots: Of the same target, each with more in it than the one before; the last has nothing pending.
        expectations: What to hold them against.
        items: The items to judge. Those that others depend on have an effect on these only when they are among them.
    """
    waiting = list(items)
    for snapshot in snapshots:
        while waiting and _is_seen(waiting[0], items, snapshot):
            yield _Judge(snapshot, expectations, items).result(waiting.pop(0))


def _is_seen(item: Item, items: Sequence[Item], snapshot: Snapshot) -> bool:
    if not item.needs.isdisjoint(snapshot.pending):
        return False
    return all(_is_seen(one, items, snapshot) for one in items if one.id in item.depends_on)


class _Judge:
    """Judges items of one snapshot, each at most once."""

    def __init__(self, snapshot: Snapshot, expectations: Expectations, items: Sequence[Item]) -> None:
        self._snapshot = snapshot
        self._expectations = expectations
        self._items = {item.id: item for item in items}
        self._waivers = {waiver.item: waiver for waiver in expectations.waivers}
        self._bare: dict[str, Result] = {}

    def result(self, item: Item) -> Result:
        """Return what is said of an item."""
        bare = self._without_waiver(item)
        waiver = self._waivers.get(item.id)
        return bare if waiver is None else _waived(bare, waiver, self._snapshot.at)

    def _without_waiver(self, item: Item) -> Result:
        if item.id not in self._bare:
            self._bare[item.id] = self._judged(item)
        return self._bare[item.id]

    def _judged(self, item: Item) -> Result:
        findings = tuple(finding for rule in item.rules for finding in self._findings(item, rule))
        if not findings:
            return Result(item, Outcome.NOT_APPLICABLE, (self._nothing(item),))
        outcome = worst(finding.outcome for finding in findings) or Outcome.NOT_APPLICABLE
        if outcome is Outcome.INCONCLUSIVE:
            needed = [self._items[name] for name in item.depends_on if name in self._items]
            blocking = tuple(one.id for one in needed if self._without_waiver(one).outcome in _BLOCKING)
            if blocking:
                return Result(item, Outcome.BLOCKED, findings, blocking)
        if outcome is Outcome.PASS and self._snapshot.depth < item.passes_from:
            message = f"nothing wrong in the files; whether it works is judged {_WHERE[item.passes_from]}"
            return Result(item, Outcome.NOT_APPLICABLE, (_aside(item, message), *findings))
        return Result(item, outcome, findings)

    def _nothing(self, item: Item) -> Finding:
        deeper = min((rule.depth for rule in item.rules if rule.depth > self._snapshot.depth), default=None)
        message = "nothing here that it applies to"
        return _aside(item, message if deeper is None else f"files do not show it; it is judged {_WHERE[deeper]}")

    def _findings(self, item: Item, rule: Rule) -> Iterator[Finding]:
        depth = self._snapshot.depth
        if rule.depth > depth:
            if depth is not Depth.OFFLINE:
                way_out = "Add --probe."
                message = f"whether {rule.title} takes traffic to see"
                yield Finding(item.id, rule.id, Outcome.INCONCLUSIVE, rule.severity, "", message, way_out)
            return
        try:
            for observation in rule.run(self._snapshot, self._expectations):
                yield self._finding(item, rule, observation)
        except Exception as error:  # noqa: BLE001  # one rule's defect must not hide what the others say
            message = f"the check itself failed: {type(error).__name__}: {error}"
            way_out = "This is a defect of deploytool; please report it."
            yield Finding(item.id, rule.id, Outcome.INCONCLUSIVE, rule.severity, "", message, way_out)

    def _finding(self, item: Item, rule: Rule, observation: Observation) -> Finding:
        outcome = {
            Verdict.SATISFIED: Outcome.PASS,
            Verdict.VIOLATED: Outcome.FAIL if rule.severity >= Severity.ERROR else Outcome.WARN,
            Verdict.DOUBTFUL: Outcome.WARN,
            Verdict.UNKNOWN: Outcome.INCONCLUSIVE,
            Verdict.IRRELEVANT: Outcome.NOT_APPLICABLE,
        }[observation.verdict]
        remediation = ""
        if outcome not in {Outcome.PASS, Outcome.NOT_APPLICABLE}:
            remediation = self._filled(observation.remediation or rule.remediation, item)
        severity = min(rule.severity, Severity.WARNING) if outcome is Outcome.WARN else rule.severity
        return Finding(
            item.id,
            rule.id,
            outcome,
            severity,
            observation.subject,
            observation.message,
            remediation,
            observation.evidence,
        )

    def _filled(self, remediation: str, item: Item) -> str:
        target = self._snapshot.target
        words = {
            "{namespace}": target.namespace or "NAMESPACE",
            "{workload}": target.workload or "WORKLOAD",
            "{release}": target.release or target.workload or "RELEASE",
            "{item}": item.name,
            "{url}": target.url or "URL",
        }
        for mark, word in words.items():
            remediation = remediation.replace(mark, word)
        return remediation


def _aside(item: Item, message: str) -> Finding:
    return Finding(item.id, item.rules[0].id, Outcome.NOT_APPLICABLE, Severity.INFO, "", message)


def _waived(result: Result, waiver: Waiver, now: float) -> Result:
    item = result.item
    days = (now - waiver.expires_at) / _DAY
    said = f"waived by {waiver.owner}: {waiver.reason}"
    if now >= waiver.expires_at:
        message = f"the waiver of {waiver.owner} expired {days:.0f} days ago"
        way_out = "Mend the item, or decide again and write a new expiry into deploytool.yaml."
        finding = Finding(item.id, _WAIVER, Outcome.FAIL, Severity.ERROR, "", message, way_out)
        return Result(item, Outcome.FAIL, (*result.findings, finding), result.blocked_by, waiver)
    if result.outcome in _WAIVABLE:
        finding = Finding(item.id, _WAIVER, Outcome.WAIVED, Severity.INFO, "", f"{said}, for {-days:.0f} more days")
        return Result(item, Outcome.WAIVED, (*result.findings, finding), result.blocked_by, waiver)
    if result.outcome is Outcome.PASS:
        message = f"the waiver of {waiver.owner} is not needed: the item passes"
        way_out = "Take it out of deploytool.yaml."
        finding = Finding(item.id, _WAIVER, Outcome.WARN, Severity.WARNING, "", message, way_out)
        return Result(item, Outcome.WARN, (*result.findings, finding), waiver=waiver)
    return Result(item, result.outcome, result.findings, result.blocked_by, waiver)
