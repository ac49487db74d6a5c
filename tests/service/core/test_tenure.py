from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.tenure import Tenure
from tests.support.clock import ManualClock

SERVE = 5.0


@pytest.fixture
def clock() -> ManualClock:
    """The time that the tenure is told."""
    return ManualClock(now=100.0)


@pytest.fixture
def tenure(clock: ManualClock) -> Tenure:
    """One that has not begun."""
    return Tenure(clock.boot, SERVE)


def test_nobody_serves_before_it_begins(tenure: Tenure) -> None:
    """And there is no token."""
    assert not tenure.holds()
    assert 0 == tenure.token


def test_a_proof_holds_from_when_it_was_asked_for(tenure: Tenure, clock: ManualClock) -> None:
    """Not from when the answer came."""
    clock.advance(3)
    tenure.begin(7, 100.0)

    assert tenure.holds()
    assert (7, 105.0) == (tenure.token, tenure.until)
    clock.advance(1.9)
    assert tenure.holds()
    clock.advance(0.1)
    assert not tenure.holds()


def test_a_proof_that_was_asked_for_too_long_ago_begins_nothing(tenure: Tenure, clock: ManualClock) -> None:
    """It took all of its time to come."""
    clock.advance(SERVE)
    tenure.begin(7, 100.0)

    assert not tenure.holds()


def test_proofs_move_the_deadline_on(tenure: Tenure, clock: ManualClock) -> None:
    """By when each was sent."""
    tenure.begin(7, 100.0)
    clock.advance(4)

    assert tenure.prove(102.0)
    assert 107.0 == tenure.until


def test_an_older_proof_does_not_move_it_back(tenure: Tenure) -> None:
    """Answers may overtake each other."""
    tenure.begin(7, 100.0)

    assert tenure.prove(99.0)
    assert 105.0 == tenure.until


def test_what_has_run_out_stays_so(tenure: Tenure, clock: ManualClock) -> None:
    """Somebody may have acted on it already."""
    tenure.begin(7, 100.0)
    clock.advance(5.5)

    assert not tenure.prove(104.9)
    assert not tenure.holds()
    tenure.begin(8, 105.5)
    assert tenure.holds()


def test_it_ends_at_once(tenure: Tenure) -> None:
    """And forgets its token."""
    tenure.begin(7, 100.0)
    tenure.end()

    assert not tenure.holds()
    assert 0 == tenure.token
    assert not tenure.prove(100.0)


def test_a_machine_that_slept_serves_no_longer(tenure: Tenure, clock: ManualClock) -> None:
    """The clock goes on meanwhile; one that measures would not."""
    tenure.begin(7, 100.0)
    clock.sleep(6)

    assert 100.0 == clock.now()
    assert not tenure.holds()


def test_a_lock_that_cannot_get_lost_needs_no_proof(tenure: Tenure, clock: ManualClock) -> None:
    """Its proof never runs out."""
    tenure.begin(7, math.inf)
    clock.sleep(1e9)

    assert tenure.prove(math.inf)
    assert tenure.holds()


def test_one_that_always_holds() -> None:
    """For a process that shares nothing."""
    tenure = Tenure.always()

    assert tenure.holds()
    assert 0 == tenure.token


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10))))
def test_it_never_holds_longer_than_after_the_last_question(steps: list[tuple[float, float]]) -> None:
    """Whatever comes when: the answer to a question that was sent ``age`` seconds ago, after a pause."""
    clock = ManualClock(now=0.0)
    tenure = Tenure(clock.boot, SERVE)
    tenure.begin(1, 0.0)
    last = 0.0
    for pause, age in steps:
        clock.advance(pause)
        sent_at = max(0.0, clock.boot() - age)
        if tenure.prove(sent_at):
            last = max(last, sent_at)

        assert tenure.holds() is (clock.boot() < tenure.until)
        assert tenure.until <= last + SERVE
