from __future__ import annotations

import pytest

from service.core.phase import Phase
from service.realtime.admission import Admission, AdmissionLimits
from tests.support.world import World


def admission(world: World, **limits: int) -> Admission:
    """Return one over the tables of a world."""
    return Admission(world.hub, world.lifecycle, AdmissionLimits(**limits), world.observer)


def test_lets_in_while_active() -> None:
    """And notes no refusal."""
    world = World()

    assert admission(world).check("1.2.3.4") is None
    assert [] == world.observer.of("upgrade_refused")


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ACTIVE])
def test_refuses_in_every_other_phase(phase: Phase) -> None:
    """With 503, after which clients come back, and a time to do so."""
    world = World()
    world.lifecycle.phase = phase
    refusal = admission(world).check("")

    assert refusal is not None
    assert (503, "phase") == (refusal.status, refusal.reason)
    assert phase.value in refusal.text
    assert refusal.retry_after > 0
    assert [("phase",)] == world.observer.of("upgrade_refused")


def test_refuses_one_connection_too_many() -> None:
    """One less is let in, and a place that becomes free is given again."""
    world = World()
    door = admission(world, connections=2, unauthenticated=2)
    world.connected("1")
    assert door.check("") is None
    client = world.connected("2")
    refusal = door.check("")

    assert refusal is not None
    assert (503, "connections") == (refusal.status, refusal.reason)
    assert refusal.retry_after > 0
    client.lose()
    assert door.check("") is None


def test_refuses_one_too_many_that_has_not_connected() -> None:
    """Connecting makes room for the next."""
    world = World()
    door = admission(world, connections=10, unauthenticated=2)
    first = world.client()
    assert door.check("") is None
    world.client()
    refusal = door.check("")

    assert refusal is not None
    assert (503, "unauthenticated") == (refusal.status, refusal.reason)
    assert refusal.retry_after > 0
    first.connect("1")
    assert door.check("") is None


def test_refuses_one_too_many_from_an_address() -> None:
    """Others may still come; an address that left has its share back."""
    world = World()
    door = admission(world, per_address=2)
    client = world.client(address="1.1.1.1")
    assert door.check("1.1.1.1") is None
    world.client(address="1.1.1.1")
    refusal = door.check("1.1.1.1")

    assert refusal is not None
    assert (503, "address") == (refusal.status, refusal.reason)
    assert refusal.retry_after > 0
    assert door.check("2.2.2.2") is None
    client.lose()
    assert door.check("1.1.1.1") is None


def test_addresses_have_no_limit_by_default() -> None:
    """A whole office may share one."""
    world = World()
    for _ in range(150):
        world.client(address="1.1.1.1")

    assert admission(world).check("1.1.1.1") is None
