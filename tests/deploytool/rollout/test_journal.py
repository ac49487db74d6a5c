from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.rollout.journal import Journal, JournalError, NewerJournalError, Step
from deploytool.rollout.phases import FORWARD, TRANSITIONS, Course, Phase, course

_JOURNAL = Journal("r1", "web", "ada@laptop", "new release", "web:1", "web:2")

_steps = st.builds(Step, st.sampled_from(Phase), st.floats(0, 2e9), st.none() | st.floats(0, 2e9), st.text(max_size=20))
_journals = st.builds(
    Journal,
    **{name: st.text(max_size=20) for name in ("rollout", "workload", "actor", "reason", "old", "new", "failure")},
    baseline=st.none() | st.integers(0, 10_000),
    revision=st.none() | st.integers(1, 100),
    steps=st.lists(_steps, max_size=5).map(tuple),
)


@given(_journals)
def test_journal_survives_being_stored(journal: Journal) -> None:
    """What is written is what is read."""
    assert journal == Journal.from_json(journal.to_json())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda one: st.lists(one) | st.dictionaries(st.text() | st.just("version"), one),
)


@given(st.text() | _json.map(json.dumps))
def test_garbage_is_refused(text: str) -> None:
    """Whatever stands in the annotation, it is a journal or an error that a person can read."""
    with pytest.raises(JournalError):
        Journal.from_json(text)


@pytest.mark.parametrize("field", ["rollout", "steps", "baseline", "new"])
@pytest.mark.parametrize("value", [{}, False, [1], 1.5])
def test_wrong_fields_are_refused(field: str, value: object) -> None:
    """A field of another type is no journal."""
    stored = {**json.loads(_JOURNAL.to_json()), field: value}

    with pytest.raises(JournalError, match="cannot be read"):
        Journal.from_json(json.dumps(stored))


def test_newer_version_is_named() -> None:
    """A newer tool may have done what this one does not know of."""
    stored = {**json.loads(_JOURNAL.to_json()), "version": 2}

    with pytest.raises(NewerJournalError, match="rollout r1 has version 2, and this deploytool knows 1"):
        Journal.from_json(json.dumps(stored))


def test_way_forward_is_allowed_and_jumps_are_not() -> None:
    """Phases follow each other in one order."""
    journal = _JOURNAL
    for phase in FORWARD[1:]:
        journal = journal.begin(phase, 1.0).finish(2.0, "done")
    assert journal.has_ended

    with pytest.raises(JournalError, match="SWITCH does not follow LOCK"):
        _JOURNAL.begin(Phase.LOCK, 1.0).begin(Phase.SWITCH, 2.0)
    with pytest.raises(JournalError, match="CANCELLED does not follow GATE"):
        Journal(**{**_fields(), "steps": (Step(Phase.GATE, 1.0),)}).begin(Phase.CANCELLED, 2.0)


def _fields() -> dict[str, Any]:
    return {"rollout": "r", "workload": "w", "actor": "a", "reason": "", "old": "1", "new": "2"}


def test_every_phase_has_a_row_and_every_way_ends() -> None:
    """From each phase an ending can be reached."""
    assert set(TRANSITIONS) == set(Phase)
    for phase in Phase:
        seen, todo = set(), [phase]
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += TRANSITIONS[one]
        assert seen & {Phase.COMMIT, Phase.ROLLED_BACK, Phase.CANCELLED}


def test_journal_stays_small() -> None:
    """However often it is resumed, it fits into an annotation."""
    journal = _JOURNAL.begin(Phase.LOCK, 0.0)
    for at in range(500):
        journal = journal.begin(Phase.ANNOUNCE, at).finish(at, "x" * 1000)

    assert Phase.LOCK is journal.steps[0].phase
    assert 499 == journal.steps[-1].begun_at
    assert len(journal.to_json()) < 64 * 1024


_ROWS = {
    "ended": (Phase.ROLLED_BACK, True, True, True, False, False, Course.CLOSE),
    "cancelled": (Phase.CANCELLED, False, False, True, False, True, Course.CLOSE),
    "committed": (Phase.COMMIT, True, True, False, True, True, Course.CLOSE),
    "commit-intended": (Phase.COMMIT, False, True, False, True, False, Course.VERIFY),
    "drift": (Phase.READY, False, True, False, False, False, Course.DRIFT),
    "drift-abort": (Phase.READY, False, True, False, False, True, Course.DRIFT),
    "announced": (Phase.ANNOUNCE, True, False, True, False, False, Course.START_AGAIN),
    "announced-abort": (Phase.ANNOUNCE, True, False, True, False, True, Course.CANCEL),
    "gated": (Phase.GATE, False, True, True, False, False, Course.START_AGAIN),
    "gated-abort": (Phase.GATE, False, True, True, False, True, Course.GO_BACK),
    "switch-lost": (Phase.SWITCH, False, True, True, False, False, Course.START_AGAIN),
    "switch-done": (Phase.SWITCH, False, True, False, True, False, Course.VERIFY),
    "ready-abort": (Phase.READY, True, True, False, True, True, Course.GO_BACK),
    "going-back": (Phase.ROLLING_BACK, False, True, False, True, False, Course.GO_BACK),
    "gone-back": (Phase.ROLLING_BACK, False, True, True, False, False, Course.GO_BACK),
    "person": (Phase.NEEDS_OPERATOR, True, True, False, True, False, Course.VERIFY),
}


@pytest.mark.parametrize("row", _ROWS.values(), ids=_ROWS)
def test_course(row: tuple[Phase, bool, bool, bool, bool, bool, Course]) -> None:
    """What is seen decides."""
    last, is_done, was_gated, is_old, is_new, is_aborting, expected = row

    found = course(
        last=last, is_done=is_done, was_gated=was_gated, is_old=is_old, is_new=is_new, is_aborting=is_aborting
    )

    assert expected is found
