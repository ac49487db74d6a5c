"""``kill -9`` at every call to the API server, the journal's writes among them, and what comes after it.

Somebody resumes, somebody aborts, nobody comes back. The lock is the real one, and its expiry is waited for.
"""

from __future__ import annotations

from functools import partial

import pytest

from deploytool.rollout.phases import Phase
from deploytool.rollout.runner import Runner
from tests.deploytool.rollout.cluster_world import Asked, ClusterProcess, ClusterWorld
from tests.deploytool.rollout.test_faults import (
    PLAN,
    SCENARIOS,
    calls_of,
    require_right,
    thinned,
    wrong_ends,
)
from tests.deploytool.rollout.world import CLIENTS, NEW, OLD, Killed

pytestmark = pytest.mark.timeout(240)

_MOMENTS = ("before", "after")
_GOING_ON = ("resume", "abort", "never")


def _kill_at(process: ClusterProcess, moment: str, index: int) -> None:
    def _kill(asked: Asked) -> None:
        if asked.index == index:
            raise Killed

    setattr(process, moment, _kill)


def _killed(name: str, moment: str, index: int) -> ClusterWorld:
    scenario = SCENARIOS[name]
    world = scenario.world()
    process = ClusterProcess(world)
    _kill_at(process, moment, index)
    with pytest.raises(Killed):
        scenario.run(process)
    return world


def _go_on(name: str, moment: str, way: str, index: int) -> None:
    world = _killed(name, moment, index)
    if way == "never":
        return _require_alive(world, name)
    return _end(world, name, way)


def _end(world: ClusterWorld, name: str, way: str) -> None:
    journal = world.journal
    if journal is None or journal.has_ended:
        return require_right(world, image=world.images[-1])
    process = ClusterProcess(world, name="eve", session="s2")
    ending = Runner(process.ports, PLAN, journal).resume(is_aborting=way == "abort")
    if way == "abort":
        assert ending.phase in (Phase.ROLLED_BACK, Phase.CANCELLED), ending
        assert 0 == ending.exit_code
    elif name == "good":
        assert (Phase.COMMIT, 0) == (ending.phase, ending.exit_code), ending
    else:
        assert (Phase.ROLLED_BACK, 8) == (ending.phase, ending.exit_code), ending
    assert "" == world.held_by
    return require_right(world, image=NEW if ending.phase is Phase.COMMIT else OLD)


def _require_alive(world: ClusterWorld, name: str) -> None:
    """Gate and drain lapse, and so does the lock; whatever is asked for serves by itself, as far as it can."""
    world.advance(200.0)
    assert not world.is_locked
    assert world.most_running <= 1
    if world.images[-1] == OLD or name == "good":
        assert world.images[-1] == world.running
        assert ("ACTIVE", CLIENTS) == (world.phase, world.clients)


@pytest.mark.parametrize(("number", "moment"), list(enumerate(_MOMENTS)), ids=list(_MOMENTS))
@pytest.mark.parametrize("way", _GOING_ON)
def test_killed_sampled(number: int, moment: str, way: str) -> None:
    """A few of all, in every run."""
    calls = thinned(calls_of(SCENARIOS["good"]), 7 * number, 13)

    assert {} == wrong_ends(calls, partial(_go_on, "good", moment, way))


@pytest.mark.slow
@pytest.mark.parametrize("moment", _MOMENTS)
@pytest.mark.parametrize("way", _GOING_ON)
@pytest.mark.parametrize("name", ["good", "bad"])
def test_killed(name: str, moment: str, way: str) -> None:
    """At each call: before it is sent, and when it was carried out and not answered."""
    assert {} == wrong_ends(calls_of(SCENARIOS[name]), partial(_go_on, name, moment, way))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["resume", "abort"])
def test_killed_again(way: str) -> None:
    """Whoever resumes or aborts is killed too, after each change; the third one ends it."""

    def _again(first: int, second: int) -> None:
        world = _killed("good", "after", first)
        journal = world.journal
        if journal is None or journal.has_ended:
            return
        process = ClusterProcess(world, name="eve", session="s2")
        _kill_at(process, "after", second)
        try:
            Runner(process.ports, PLAN, journal).resume(is_aborting=way == "abort")
        except Killed:
            # Whoever comes third goes on in the same way, or the record says so already.
            _end(world, "good", way)

    process = ClusterProcess(SCENARIOS["good"].world())
    SCENARIOS["good"].run(process)
    changes = [one.index for one in process.asked if one.is_mutation]
    found: dict[str, str] = {}
    for first in changes[::3]:
        calls = thinned([f"after {first}"] * 60, first, 7)
        found |= wrong_ends(calls, partial(_again, first))
    assert {} == found
