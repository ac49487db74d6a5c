"""An API server that goes on failing, from any call on: for a while, and for ever."""

from __future__ import annotations

from functools import partial

import pytest

from deploytool.errors import DeploytoolError
from deploytool.rollout.phases import Phase
from deploytool.rollout.plan import Ending
from deploytool.rollout.runner import Runner
from tests.deploytool.rollout.cluster_world import Asked, ClusterProcess, ClusterWorld
from tests.deploytool.rollout.test_faults import (
    FAULTS,
    JOURNAL,
    PLAN,
    SCENARIOS,
    calls_of,
    require_right,
    thinned,
    wrong_ends,
)
from tests.deploytool.rollout.world import CLIENTS, NEW, OLD

pytestmark = pytest.mark.timeout(240)

_KINDS = ("429", "500", "500-done", "503", "timeout", "timeout-done", "cut", "cut-done")
_UNREACHABLE, _LOST, _FAILED = 5, 6, 8


def _fail_from(world: ClusterWorld, process: ClusterProcess, kind: str, index: int, seconds: float | None) -> None:
    fault = FAULTS[kind]()
    fault.skip_count, fault.times = index, None
    end = world.faults.add(fault)

    def _note(asked: Asked) -> None:
        if asked.index == index and seconds is not None:
            world.on_time.append((world.now + seconds, lambda _world: end()))

    process.before = _note


def _for_a_while(name: str, kind: str, index: int) -> None:
    """20 seconds: short enough to be waited for."""
    scenario = SCENARIOS[name]
    world = scenario.world()
    process = ClusterProcess(world)
    _fail_from(world, process, kind, index, 20.0)

    ending = scenario.run(process)

    expected = (Phase.COMMIT, 0) if name == "good" else (Phase.ROLLED_BACK, _FAILED)
    assert (*expected, "") == (ending.phase, ending.exit_code, world.held_by), ending
    require_right(world, image=NEW if name == "good" else OLD)


def _for_ever(name: str, kind: str, index: int) -> None:
    """It stops by itself, changes nothing more, and can be resumed when the API server is back."""
    scenario = SCENARIOS[name]
    world = scenario.world()
    process = ClusterProcess(world)
    _fail_from(world, process, kind, index, None)
    ending: Ending | DeploytoolError
    try:
        ending = scenario.run(process)
    except DeploytoolError as error:
        ending = error
    if isinstance(ending, DeploytoolError):
        assert _UNREACHABLE == ending.exit_code, ending
        assert [OLD] == world.images
    else:
        assert _LOST == ending.exit_code, ending
        assert "deploytool rollout resume --workload web" in ending.commands
    asked = len(process.asked)
    world.faults.clear()

    world.advance(300.0)

    # Nobody comes back: what serves, serves everybody, as far as its image can.
    assert asked == len(process.asked)
    assert not world.is_locked
    if world.images[-1] == OLD or name == "good":
        assert ("ACTIVE", CLIENTS) == (world.phase, world.clients)
    # Somebody does.
    journal = world.journal
    if journal is not None and not journal.has_ended:
        again = SCENARIOS["resume-drained"].run(ClusterProcess(world, name="eve", session="s2"))
        assert again.phase in (Phase.COMMIT, Phase.ROLLED_BACK, Phase.CANCELLED), again
        assert name == "bad" or again.phase is Phase.COMMIT, again
    require_right(world, image=world.images[-1])


@pytest.mark.parametrize(("number", "kind"), list(enumerate(_KINDS)), ids=list(_KINDS))
def test_fails_for_ever_sampled(number: int, kind: str) -> None:
    """A few of all, in every run."""
    calls = thinned(calls_of(SCENARIOS["good"]), number, 2 * len(_KINDS))

    assert {} == wrong_ends(calls, partial(_for_ever, "good", kind))


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", ["good", "bad"])
def test_fails_for_ever(name: str, kind: str) -> None:
    """From each call on."""
    assert {} == wrong_ends(calls_of(SCENARIOS[name]), partial(_for_ever, name, kind))


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", ["good", "bad"])
def test_fails_for_a_while(name: str, kind: str) -> None:
    """From each call on: it is waited for, and all goes on as if nothing had been."""
    assert {} == wrong_ends(calls_of(SCENARIOS[name]), partial(_for_a_while, name, kind))


def test_machine_that_sleeps_before_what_cannot_be_taken_back() -> None:
    """The lock was proven, the lid was closed, somebody else ended it: whoever wakes up changes nothing any more."""
    world = ClusterWorld()
    process = ClusterProcess(world)

    def _sleep(asked: Asked) -> None:
        # The workload's own look, right after the lock was renewed for the last time.
        last = [str(one) for one in process.asked[-3:]]
        if last == ["GET-pods", "PATCH-leases-web-rollout", "GET-deployments-web"] and world.journal is not None:
            assert (Phase.SWITCH, [OLD]) == (world.journal.phase, world.images)
            world.advance(3600.0)
            eve = ClusterProcess(world, name="eve", session="s2")
            assert Phase.ROLLED_BACK is Runner(eve.ports, PLAN, world.journal).resume(is_aborting=True).phase
            slept.append(asked)

    slept: list[Asked] = []
    process.after = _sleep

    ending = Runner(process.ports, PLAN, JOURNAL).run()

    assert 1 == len(slept)
    assert _LOST == ending.exit_code, ending
    require_right(world, image=OLD)
