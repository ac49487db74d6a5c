from __future__ import annotations

import pytest

from service.core.phase import TRANSITIONS, Phase

ALL = frozenset(Phase)


def test_every_phase_has_a_row() -> None:
    """And no row leads back to itself."""
    assert ALL == TRANSITIONS.keys()
    assert all(phase not in following for phase, following in TRANSITIONS.items())


def test_closed_is_the_end() -> None:
    """Nothing follows it, and every other phase may lead there."""
    assert frozenset() == TRANSITIONS[Phase.CLOSED]
    assert all(Phase.CLOSED in TRANSITIONS[phase] for phase in ALL - {Phase.CLOSED})


def test_starting_never_comes_back() -> None:
    """A process starts once."""
    assert all(Phase.STARTING not in following for following in TRANSITIONS.values())


def test_every_phase_can_be_reached() -> None:
    """From the first."""
    reached, new = {Phase.STARTING}, {Phase.STARTING}
    while new:
        new = set().union(*(TRANSITIONS[phase] for phase in new)) - reached
        reached |= new

    assert ALL == reached


def test_drained_follows_a_drain_alone() -> None:
    """Otherwise somebody would take for empty what is not."""
    assert [Phase.DRAINING] == [phase for phase in Phase if Phase.DRAINED in TRANSITIONS[phase]]


def test_gate_and_drain_are_reversible() -> None:
    """An operator may change their mind."""
    assert all(Phase.ACTIVE in TRANSITIONS[phase] for phase in (Phase.GATED, Phase.DRAINING, Phase.DRAINED))


@pytest.mark.parametrize("phase", Phase)
def test_admits_websockets_while_active_alone(phase: Phase) -> None:
    """Every other phase refuses them."""
    assert phase.admits is (phase is Phase.ACTIVE)


@pytest.mark.parametrize("phase", Phase)
def test_is_ready_while_it_takes_publications(phase: Phase) -> None:
    """Gated and draining instances go on with HTTP."""
    assert phase.is_ready is (phase in {Phase.ACTIVE, Phase.GATED, Phase.DRAINING, Phase.DRAINED})
