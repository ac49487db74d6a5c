"""Judging: what blocks, what is waived, what is streamed, and what a defect may not do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from deploytool.checks import evaluation
from deploytool.checks.catalog import ITEMS, find, select
from deploytool.model.expectations import Expectations, Waiver
from deploytool.model.finding import Depth, Item, Observation, Outcome, Report, Rule, Severity, Verdict
from deploytool.model.observations import Unseen
from deploytool.model.snapshot import Snapshot
from tests.deploytool.checks.releases import DAY, EXPECTATIONS, NOW, changed, judge, only, release, result, seen, unseen

TLS = "security.tls"


def waived(item: str, days: float = 10) -> Expectations:
    """Expect what a correct release has, with one waiver."""
    waiver = Waiver(item, "until the certificate comes", "ada", NOW + days * DAY)
    return dataclasses.replace(EXPECTATIONS, waivers=(waiver,))


def test_what_could_not_be_tried_says_what_blocked_it() -> None:
    """The certificate is bad, so no token could be tried; that fails one item and blocks others."""
    broken = changed("tls", error="expired")(unseen("tokens")(unseen("rate")(release())))

    report = judge(broken)

    assert {12} == only(report, Outcome.FAIL)
    assert {9, 10} == only(report, Outcome.BLOCKED)
    assert (TLS,) == result(report, 9).blocked_by
    assert ("security.authentication", TLS) == result(report, 10).blocked_by


def test_a_dependency_blocks_nobody_who_has_evidence() -> None:
    """A failure of one never stops another."""
    report = judge(changed("tls", error="expired")(release()))

    assert {12} == {*range(1, 17)} - only(report, Outcome.PASS)


def test_a_dependency_that_was_not_selected_blocks_nobody() -> None:
    """It was not judged."""
    report = judge(changed("tls", error="expired")(unseen("tokens")(release())), items=find("authentication"))

    assert {9} == only(report, Outcome.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("broken", "days", "outcome", "says"),
    [
        pytest.param(
            True, 10, Outcome.WAIVED, "waived by ada: until the certificate comes, for 10 more days", id="holds"
        ),
        pytest.param(True, -3, Outcome.FAIL, "the waiver of ada expired 3 days ago", id="expired"),
        pytest.param(False, -3, Outcome.FAIL, "the waiver of ada expired 3 days ago", id="expired and not needed"),
        pytest.param(False, 10, Outcome.WARN, "the waiver of ada is not needed", id="unused"),
    ],
)
def test_a_waiver_holds_until_it_expires(broken: bool, days: float, outcome: Outcome, says: str) -> None:  # noqa: FBT001  # a case
    """An expired one fails, one that nothing needs warns, and what was found stays to be read."""
    snapshot = changed("tls", error="expired")(release()) if broken else release()

    found = result(judge(snapshot, waived(TLS, days)), 12)

    assert outcome is found.outcome
    assert found.findings[-1].message.startswith(says)
    assert (Outcome.FAIL in {finding.outcome for finding in found.findings[:-1]}) is broken


def test_a_waived_failure_still_blocks() -> None:
    """Living with a bad certificate does not make tokens tried."""
    report = judge(changed("tls", error="expired")(unseen("tokens")(release())), waived(TLS))

    assert Outcome.WAIVED is result(report, 12).outcome
    assert Outcome.BLOCKED is result(report, 9).outcome


def test_a_waiver_of_what_does_not_apply_is_left_alone() -> None:
    """Offline there is nothing to say of it."""
    snapshot = Snapshot(Depth.OFFLINE, NOW)

    found = result(judge(snapshot, waived("infrastructure.database-pool")), 2)

    assert Outcome.NOT_APPLICABLE is found.outcome
    assert found.waiver is not None


def _broken_rule(_: Snapshot, __: Expectations) -> Iterator[Observation]:
    yield Observation(Verdict.SATISFIED, "", "so far so good")
    raise KeyError("surprise")


def test_a_defect_of_one_rule_hides_nothing() -> None:
    """It is inconclusive, and the other rules still say what they see."""
    item = ITEMS[0]
    rules = (Rule("broken", Depth.OFFLINE, Severity.FATAL, "it works", "-", _broken_rule), *item.rules)

    report = judge(release(), items=(dataclasses.replace(item, rules=rules),))

    (found,) = report.results
    assert Outcome.INCONCLUSIVE is found.outcome
    assert "the check itself failed: KeyError" in found.findings[1].message
    assert len(found.findings) > 5


def test_results_come_as_soon_as_they_can() -> None:
    """An item waits for what it needs and for what those that it depends on need, and for nothing else."""
    whole = release()
    order = ["objects", "scale_trial", "status", "handshakes", "origins", "tls"]
    items = select(["1", "3", "2", "12"], [])
    hidden = whole.with_seen(**dict.fromkeys(order[1:], Unseen("it has not come")), objects=())
    first = dataclasses.replace(hidden, pending=frozenset(order))
    steps: list[str] = []

    def coming() -> Iterator[Snapshot]:
        snapshot = first
        for name in order:
            snapshot = snapshot.with_seen(**{name: getattr(whole, name)})
            steps.append(name)
            yield snapshot

    came = [(found.item.number, len(steps)) for found in evaluation.results(coming(), EXPECTATIONS, items)]

    # Item 3 depends on item 12, so it waits for the handshake.
    assert [(1, 4), (2, 4), (3, 6), (12, 6)] == came


def test_nothing_judged_is_no_pass() -> None:
    """An empty report, and one in which nothing applied."""
    idle = judge(Snapshot(Depth.OFFLINE, NOW), items=find("database-pool"))

    assert Outcome.INCONCLUSIVE is Report(Depth.OFFLINE, NOW, "", ()).outcome
    assert {2} == only(idle, Outcome.NOT_APPLICABLE)
    assert Outcome.INCONCLUSIVE is idle.outcome


def test_offline_does_not_claim_what_only_traffic_shows() -> None:
    """Files in order are no proof that authentication works."""
    report = judge(dataclasses.replace(release(), depth=Depth.OFFLINE))

    assert {9, 12, 16} <= only(report, Outcome.NOT_APPLICABLE)
    assert {1, 3, 4, 5, 6, 7, 10, 11} == only(report, Outcome.PASS)


def test_remediations_name_the_release() -> None:
    """What can be copied is complete; offline the words to be filled in are in capitals."""
    broken = changed("scale_trial", refused=False)(release())

    (live,) = (one for one in result(judge(broken), 1).findings if one.outcome is Outcome.FAIL)

    assert "helm upgrade live helm/slackwater --namespace realtime" in live.remediation
    assert "{" not in live.remediation


def test_with_seen_takes_what_came_off_the_list() -> None:
    """A field that was seen is not pending."""
    snapshot = dataclasses.replace(release(), pending=frozenset({"tls", "rate"}))

    assert frozenset({"rate"}) == seen(tls=Unseen("no"))(snapshot).pending


def test_item_severity_is_that_of_its_gravest_rule() -> None:
    """For documents and SARIF."""
    (item,) = find("single-instance")

    assert Severity.FATAL is item.severity
    assert isinstance(item, Item)
