from __future__ import annotations

import math

import pytest

from service.core.phase import TRANSITIONS, Phase
from service.realtime.lifecycle import Lifecycle
from tests.support.clock import ManualClock
from tests.support.observer import RecordingObserver

TTL = 120.0


class Stage:
    """A lifecycle and what it touches."""

    def __init__(self, phase: Phase = Phase.ACTIVE) -> None:
        self.clock = ManualClock()
        self.observer = RecordingObserver()
        self.lifecycle = Lifecycle(now=self.clock.now, wall=self.clock.wall, observer=self.observer)
        self.lifecycle.phase = phase

    def after(self, seconds: float) -> Phase:
        """Let time pass, and return the phase then."""
        self.clock.advance(seconds)
        self.lifecycle.tick(self.clock.now())
        return self.lifecycle.phase


def test_begins_by_starting() -> None:
    """Since now, and with a reason."""
    stage = Stage(Phase.STARTING)

    assert (stage.clock.wall(), "starting", math.inf) == (
        stage.lifecycle.since,
        stage.lifecycle.reason,
        stage.lifecycle.gated_until,
    )


@pytest.mark.parametrize("after", Phase)
@pytest.mark.parametrize("before", Phase)
def test_follows_the_table_of_transitions(before: Phase, after: Phase) -> None:
    """What may not follow changes nothing."""
    stage = Stage(before)
    stage.clock.advance(5.0)
    may_follow = after is before or after in TRANSITIONS[before]

    assert may_follow is stage.lifecycle.enter(after, "because")
    assert (after if may_follow else before) is stage.lifecycle.phase
    assert ("because" if may_follow else "starting") == stage.lifecycle.reason
    is_new = may_follow and after is not before
    assert ([(before, after, "because")] if is_new else []) == stage.observer.of("phase_changed")
    assert stage.clock.wall() - (0.0 if is_new else 5.0) == stage.lifecycle.since


class TestGate:
    """Refusing new WebSockets for a time."""

    def test_opens_by_itself(self) -> None:
        """When nobody renewed it, at the end of its time and not before."""
        stage = Stage()
        assert stage.lifecycle.gate(TTL, "maintenance")
        assert Phase.GATED is stage.after(TTL - 0.01)
        assert Phase.ACTIVE is stage.after(0.01)
        assert "not renewed" in stage.lifecycle.reason
        assert math.inf == stage.lifecycle.gated_until

    def test_is_renewed(self) -> None:
        """By closing it again."""
        stage = Stage()
        stage.lifecycle.gate(TTL, "maintenance")
        stage.after(TTL - 1)
        assert stage.lifecycle.gate(TTL, "still maintenance")
        assert "still maintenance" == stage.lifecycle.reason
        assert Phase.GATED is stage.after(TTL - 1)
        assert Phase.ACTIVE is stage.after(1)

    @pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.DRAINED])
    def test_a_drain_keeps_its_phase(self, phase: Phase) -> None:
        """It is gated already; the time is noted."""
        stage = Stage(phase)

        assert stage.lifecycle.gate(TTL, "maintenance")
        assert phase is stage.lifecycle.phase
        assert stage.clock.now() + TTL == stage.lifecycle.gated_until
        assert phase is stage.after(TTL)

    @pytest.mark.parametrize("phase", [Phase.STARTING, Phase.STANDBY, Phase.CLOSED])
    def test_is_refused_where_there_is_nothing_to_gate(self, phase: Phase) -> None:
        """And leaves no time behind."""
        stage = Stage(phase)

        assert not stage.lifecycle.gate(TTL, "maintenance")
        assert (phase, math.inf) == (stage.lifecycle.phase, stage.lifecycle.gated_until)

    @pytest.mark.parametrize(
        ("phase", "opened"),
        [
            (Phase.GATED, True),
            (Phase.ACTIVE, True),
            (Phase.DRAINING, False),
            (Phase.DRAINED, False),
            (Phase.STARTING, False),
            (Phase.CLOSED, False),
        ],
    )
    def test_is_opened_by_hand(self, phase: Phase, *, opened: bool) -> None:
        """Unless a drain needs it."""
        stage = Stage(phase)

        assert opened is stage.lifecycle.open_gate("done")
        assert (Phase.ACTIVE if opened else phase) is stage.lifecycle.phase

    def test_an_open_gate_does_not_open_again(self) -> None:
        """Time alone changes no other phase."""
        stage = Stage()

        assert Phase.ACTIVE is stage.after(10 * TTL)
        assert [] == stage.observer.of("phase_changed")
