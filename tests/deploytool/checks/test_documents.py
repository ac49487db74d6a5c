"""Which rollback counts as practised: one that is on record, or one that somebody has attested to."""

from __future__ import annotations

import dataclasses

import pytest

from deploytool.model.finding import Finding, Outcome
from deploytool.model.observations import Drill, RolloutRecord, Unseen
from deploytool.model.snapshot import Snapshot
from tests.deploytool.checks.releases import DAY, NOW, judge, release, result, seen

_RECORD = RolloutRecord(
    source="ConfigMap web-rollout-r1",
    at=NOW,
    name="web-rollout-r1",
    rollout="r1",
    who="bob@example.org",
    old="web:1",
    new="web:2",
    began_at=NOW - 5 * DAY - 60.0,
    ended_at=NOW - 5 * DAY,
    was_switched=True,
    was_rolled_back=True,
    is_drill=True,
)


def _attested_drill(snapshot: Snapshot, drill: Drill | None) -> Snapshot:
    assert isinstance(snapshot.attestations, tuple)
    changed = (
        dataclasses.replace(one, drill=drill if one.item.endswith("rollback-procedure") else None)
        for one in snapshot.attestations
    )
    return snapshot.with_seen(attestations=tuple(changed))


def _judged(snapshot: Snapshot) -> Finding:
    (found,) = (one for one in result(judge(snapshot), 15).findings if one.rule == "drill")
    return found


def _with(*records: RolloutRecord, drill: Drill | None = None) -> Finding:
    return _judged(_attested_drill(seen(rollouts=records)(release()), drill))


def test_drill_on_record_counts_and_is_shown() -> None:
    """With who, when, which images, and where that stands."""
    found = _with(_RECORD)

    assert Outcome.PASS is found.outcome
    assert "the last rollback (rollout r1, a drill: web:2 -> web:1) was 5 days ago, of 180 allowed" in found.message
    assert "bob@example.org" == found.subject
    (evidence,) = found.evidence
    assert ("ConfigMap web-rollout-r1", NOW - 5 * DAY) == (evidence.source, evidence.at)
    assert "web:2 -> web:1, a drill, by bob@example.org" == evidence.seen


def test_rollback_in_earnest_counts_as_well() -> None:
    """It was gone back, and the old image served."""
    found = _with(dataclasses.replace(_RECORD, is_drill=False, failure="web:2 was not ready"))

    assert Outcome.PASS is found.outcome
    assert "in earnest" in found.message


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"was_rolled_back": False}, id="the new image stayed"),
        pytest.param({"was_switched": False}, id="it never came to the new image"),
        pytest.param({"ended_at": NOW - 181 * DAY}, id="long ago"),
        pytest.param({"ended_at": NOW + 2 * DAY}, id="still to come"),
    ],
)
def test_what_is_no_practised_rollback_does_not_count(fields: dict[str, object]) -> None:
    """Nor does it hide the attested drill that does."""
    other = dataclasses.replace(_RECORD, **fields)  # type: ignore[arg-type]  # any

    assert Outcome.FAIL is _with(other).outcome
    beside = _with(other, drill=Drill(NOW - 20 * DAY, "rollout 7"))
    assert Outcome.PASS is beside.outcome
    assert "(rollout 7)" in beside.message


def test_clock_that_is_a_little_behind_does_not_matter() -> None:
    """A record that was made by the API server's clock a moment ago may be of tomorrow by ours."""
    found = _with(dataclasses.replace(_RECORD, ended_at=NOW + 3600.0))

    assert Outcome.PASS is found.outcome
    assert "was 0 days ago" in found.message


@pytest.mark.parametrize(
    ("days", "said"), [(20.0, "rollout r1, a drill"), (1.0, "(ticket 42)"), (-1.0, "rollout r1, a drill")]
)
def test_newest_that_counts_is_used(days: float, said: str) -> None:
    """Of both kinds."""
    found = _with(_RECORD, drill=Drill(NOW - days * DAY, "ticket 42"))

    assert Outcome.PASS is found.outcome
    assert said in found.message


def test_records_that_were_not_seen_leave_the_attested_drill() -> None:
    """Without one, nothing can be said."""
    unread = Unseen("list of configmaps is forbidden", "- apiGroups: [...]")
    snapshot = seen(rollouts=unread)(release())

    assert Outcome.PASS is _judged(snapshot).outcome
    without = _judged(_attested_drill(snapshot, None))
    assert Outcome.INCONCLUSIVE is without.outcome
    assert "- apiGroups: [...]" in without.remediation


def test_nothing_on_record_names_both_ways() -> None:
    """A drill by the tool, or an attested one."""
    found = _with()

    assert Outcome.FAIL is found.outcome
    assert "deploytool rollout run --drill --namespace realtime --workload live-slackwater" in found.remediation
    assert "--drill-at TIME" in found.remediation
