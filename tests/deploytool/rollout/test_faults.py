"""One fault of the API server at every call of a rollout: whatever it is, the rollout ends well.

The workload, the lock and the client are the real ones; the clock is moved, so that nothing is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from deploytool.errors import DeploytoolError
from deploytool.planning.window import Need
from deploytool.rollout.journal import Journal
from deploytool.rollout.phases import Phase
from deploytool.rollout.plan import Deadlines, Ending, Plan
from deploytool.rollout.runner import Runner
from tests.deploytool.rollout.cluster_world import ClusterProcess, ClusterWorld, serving_socket
from tests.deploytool.rollout.world import CLIENTS, NEW, OLD, Killed
from tests.simcluster.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

PLAN = Plan(override="a test", need=Need(60.0, 60.0), deadlines=Deadlines(poll=2.0, settle=4.0))
JOURNAL = Journal("r1", "web", "ada@laptop", "new release", OLD, NEW)
_RETRY_SECONDS = 7

FAULTS: dict[str, Callable[[], Fault]] = {
    "409": lambda: Fault(code=409),
    "410": lambda: Fault(code=410),
    "429": lambda: Fault(code=429, retry_after_seconds=_RETRY_SECONDS),
    "429-twice": lambda: Fault(code=429, retry_after_seconds=_RETRY_SECONDS, times=2),
    "500": lambda: Fault(code=500),
    "500-done": lambda: Fault(code=500, is_after=True),
    "503": lambda: Fault(code=503, retry_after_seconds=_RETRY_SECONDS),
    "503-done": lambda: Fault(code=503, is_after=True),
    "504-done": lambda: Fault(code=504, is_after=True),
    "timeout": lambda: Fault(is_hanging=True),
    "timeout-done": lambda: Fault(is_hanging=True, is_after=True),
    "cut": lambda: Fault(is_cut=True),
    "cut-done": lambda: Fault(is_cut=True, is_after=True),
}


_SORTS = ("409", "429", "500-done", "timeout-done", "cut", "cut-done")


@dataclass(frozen=True)
class Scenario:
    """What is done, from a world that is as it should be.

    Attributes:
        behaviour: Of the new image.
        begin: Makes of the world what the tool finds.
        is_going_on: Whether it finds a rollout that was left.
        is_aborting: Whether it goes back.
    """

    behaviour: str = "good"
    begin: Callable[[ClusterWorld], None] = lambda _world: None
    is_going_on: bool = False
    is_aborting: bool = False

    def world(self) -> ClusterWorld:
        """Return the world, before the tool is run."""
        world = ClusterWorld(behaviour=self.behaviour)
        self.begin(world)
        return world

    def run(self, process: ClusterProcess) -> Ending:
        """Run the tool."""
        if not self.is_going_on:
            return Runner(process.ports, PLAN, replace(JOURNAL, rollout="r2")).run()
        journal = process.world.journal
        assert journal is not None
        return Runner(process.ports, PLAN, journal).resume(is_aborting=self.is_aborting)


def _drain_of_before(world: ClusterWorld) -> None:
    """Leave a Lease behind."""
    ending = Runner(ClusterProcess(world, session="s0").ports, PLAN, JOURNAL).drain(1.0)
    assert 0 == ending.exit_code, ending
    world.advance(30.0)
    world.journals.clear()


def _killed_at(path: str, nth: int = 0) -> Callable[[ClusterWorld], None]:
    """Leave a rollout that was killed when a mutating call had been carried out."""

    def _begin(world: ClusterWorld) -> None:
        process = ClusterProcess(world, session="s0")
        left = [nth]

        def _after(asked: object) -> None:
            if path in str(asked) and getattr(asked, "is_mutation", False):
                if not left[0]:
                    raise Killed
                left[0] -= 1

        process.after = _after
        with pytest.raises(Killed):
            Runner(process.ports, PLAN, JOURNAL).run()
        world.advance(61.0)

    return _begin


SCENARIOS = {
    "good": Scenario(),
    "second": Scenario(begin=_drain_of_before),
    "bad": Scenario(behaviour="cannot be pulled"),
    "resume-drained": Scenario(begin=_killed_at("PATCH-leases", 12), is_going_on=True),
    "resume-switched": Scenario(begin=_killed_at("PATCH-deployments"), is_going_on=True),
    "abort-drained": Scenario(begin=_killed_at("PATCH-leases", 12), is_going_on=True, is_aborting=True),
    "abort-switched": Scenario(begin=_killed_at("PATCH-deployments"), is_going_on=True, is_aborting=True),
}


def calls_of(scenario: Scenario) -> list[str]:
    """Return what a run asks of the API server when nothing fails."""
    process = ClusterProcess(scenario.world())
    scenario.run(process)
    return [str(one) for one in process.asked]


def expected_of(name: str) -> Phase:
    """Return how a scenario ends."""
    return Phase.COMMIT if name in ("good", "second") or name.startswith("resume") else Phase.ROLLED_BACK


def require_right(world: ClusterWorld, *, image: str) -> None:
    """One pod with this image serves everybody, nothing was done twice, and nobody holds the lock."""
    world.advance(200.0)
    assert (image, image, "ACTIVE", CLIENTS) == (world.image, world.running, world.phase, world.clients)
    assert world.most_running <= 1
    assert world.images in (([OLD, NEW],) if image == NEW else ([OLD], [OLD, NEW, OLD]))
    assert len(set(world.journals)) == len(world.journals), "a step is on record twice"
    assert not world.is_locked


def wrong_ends(calls: Sequence[str], run: Callable[[int], None]) -> dict[str, str]:
    """Do something for each of the calls that are named; return what went wrong, by call."""
    found = {}
    for index, call in enumerate(calls):
        if not call:
            continue
        try:
            run(index)
        except (AssertionError, DeploytoolError) as error:
            found[f"{index} {call}"] = f"{type(error).__name__}: {error}"
    return found


def thinned(calls: Sequence[str], first: int, every: int) -> list[str]:
    """Keep the name of every so many calls."""
    return [call if index % every == first % every else "" for index, call in enumerate(calls)]


def _hit_once(name: str, fault: str, index: int, *, kubeconfig: str = "", world: ClusterWorld | None = None) -> None:
    scenario = SCENARIOS[name]
    world = world or scenario.world()
    process = ClusterProcess(world, socket=kubeconfig)
    world.faults.add(replace(FAULTS[fault](), skip_count=index))

    ending = scenario.run(process)

    code = 8 if name == "bad" else 0
    assert (expected_of(name), code, "") == (ending.phase, ending.exit_code, world.held_by), ending
    assert world.journal is not None
    assert world.journal.has_ended
    require_right(world, image=NEW if ending.phase is Phase.COMMIT else OLD)


@pytest.mark.parametrize(("number", "fault"), list(enumerate(FAULTS)), ids=list(FAULTS))
def test_one_fault_sampled(number: int, fault: str) -> None:
    """A few of all, in every run."""
    calls = thinned(calls_of(SCENARIOS["good"]), number, len(FAULTS))

    assert {} == wrong_ends(calls, partial(_hit_once, "good", fault))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["good", "bad"])
def test_one_fault_where_the_image_is_changed(name: str, fault: str) -> None:
    """In every run: the changes that cannot be taken back are made once."""
    calls = [call if "PATCH-deployments" in call else "" for call in calls_of(SCENARIOS[name])]

    assert {} == wrong_ends(calls, partial(_hit_once, name, fault))
    assert any(calls)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fault"),
    # Where a rollout is only gone on with, one of each sort is enough: refused, too busy, broken, silent, cut.
    [(name, fault) for name, scenario in SCENARIOS.items() for fault in (_SORTS if scenario.is_going_on else FAULTS)],
)
def test_one_fault_at_every_call(name: str, fault: str) -> None:
    """Refused, too busy, broken, silent, cut before it was carried out and after: it ends as if nothing had been."""
    assert {} == wrong_ends(calls_of(SCENARIOS[name]), partial(_hit_once, name, fault))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "fault"), list(enumerate(FAULTS)), ids=list(FAULTS))
def test_one_fault_on_the_way(number: int, fault: str, tmp_path: Path) -> None:
    """The same over a socket, with the official client's connections: every eighth call."""

    def _hit(index: int) -> None:
        world = SCENARIOS["good"].world()
        with serving_socket(world, tmp_path) as kubeconfig:
            _hit_once("good", fault, index, kubeconfig=kubeconfig, world=world)

    assert {} == wrong_ends(thinned(calls_of(SCENARIOS["good"]), number, 8), _hit)


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_waited_for(code: int) -> None:
    """As long as the API server asked for, and the lock is renewed meanwhile."""
    world = ClusterWorld()
    process = ClusterProcess(world)
    at: list[float] = []
    process.before = lambda asked: at.append(world.now) if "deployments" in str(asked) and asked.is_mutation else None
    world.faults.add(Fault("PATCH", "deployments/web$", code, retry_after_seconds=12, times=3, skip_count=1))

    ending = Runner(process.ports, PLAN, JOURNAL).run()

    assert Phase.COMMIT is ending.phase, ending
    # The client itself tries once more where it is too busy, after 5 s at the most.
    expected = [12.0, 12.0, 12.0] if code == 503 else [5.0, 12.0, 5.0]
    assert expected == [pytest.approx(later - earlier, abs=0.1) for earlier, later in pairwise(at)]
    require_right(world, image=NEW)


def test_retry_after_is_bounded() -> None:
    """An hour is not waited for, with the lock in hand."""
    world = ClusterWorld()
    process = ClusterProcess(world)
    world.faults.add(Fault("GET", "pods$", 503, retry_after_seconds=3600, skip_count=5))
    began = world.now

    ending = Runner(process.ports, PLAN, JOURNAL).run()

    assert Phase.COMMIT is ending.phase, ending
    assert world.now - began < 60.0
