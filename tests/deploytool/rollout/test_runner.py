"""The runner in a made-up world, on a clock that the world moves: every ending, every interruption."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from deploytool.errors import DeploytoolError
from deploytool.planning.window import Calendar, Need, Recurrence
from deploytool.rollout.errors import (
    LeftError,
    LockHeldError,
    OutsideWindowError,
    RefusedError,
    TransientError,
)
from deploytool.rollout.journal import Journal
from deploytool.rollout.phases import FORWARD, Phase
from deploytool.rollout.plan import DrainPolicy, Ending, Plan
from deploytool.rollout.ports import Event
from deploytool.rollout.runner import Runner
from tests.deploytool.rollout.world import CLIENTS, NEW, OLD, Fault, Killed, Process, World

_PLAN = Plan(override="a test", need=Need(60.0, 60.0))
_JOURNAL = Journal("r1", "web", "ada@laptop", "new release", OLD, NEW)


def _run(process: Process, plan: Plan = _PLAN, journal: Journal = _JOURNAL) -> Ending:
    return Runner(process.ports, plan, journal).run()


def _go_on(process: Process, *, is_aborting: bool = False, plan: Plan = _PLAN) -> Ending:
    journal = process.world.journal
    assert journal is not None
    return Runner(process.ports, plan, journal).resume(is_aborting=is_aborting)


def _assert_serves(world: World, image: str) -> None:
    """One pod with this image serves all clients, and nobody holds the lock."""
    world.advance(30.0)
    assert (image, image, "ACTIVE") == (world.image, world.running, world.phase)
    assert CLIENTS == world.clients
    assert "" == world.held_by


def test_good_image_is_rolled_out() -> None:
    """Every phase in its order; the clients are back; the record stays."""
    process = Process(World())

    ending = _run(process)

    assert (Phase.COMMIT, 0) == (ending.phase, ending.exit_code), ending
    phases = [one.phase for one in process.events if one.kind == "phase"]
    assert [one for one in FORWARD if one is not Phase.LOCK] == phases
    _assert_serves(process.world, NEW)
    journal = process.world.journal
    assert journal is not None
    assert journal.has_ended
    assert CLIENTS == journal.baseline
    assert "recovered" in [one.note for one in journal.steps]
    assert "a test" == journal.override
    assert {(moment, phase.value) for moment in ("before", "after") for phase in phases} == set(process.hooked)


def test_drain_is_counted() -> None:
    """What is left, how quickly it goes, how long it takes."""
    process = Process(World())

    _run(process)

    drain = [dict(one.data) for one in process.events if one.phase is Phase.DRAIN and one.kind == "progress"]
    left = [one["left"] for one in drain]
    assert sorted(left, key=lambda one: -int(str(one))) == left
    assert CLIENTS == left[0]
    assert any(one["rate"] for one in drain)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("never ready", "web:2 was not ready within 300 s"),
        ("cannot be pulled", "image web:2 cannot be pulled: not found"),
        ("crashes", "web:2 was restarted 1 times after it was ready"),
        ("broken", "a publication did not come back"),
        ("refuses", "0 of 40 clients are back after 60 s, 38 are wanted"),
    ],
)
def test_bad_image_is_rolled_back(behaviour: str, said: str) -> None:
    """Back on the old image, with all clients, whatever the new one does."""
    process = Process(World(behaviour=behaviour))

    ending = _run(process)

    assert (Phase.ROLLED_BACK, 8) == (ending.phase, ending.exit_code), ending
    assert said in ending.text
    _assert_serves(process.world, OLD)
    journal = process.world.journal
    assert journal is not None
    assert said in journal.failure
    if behaviour != "broken":
        assert "log: Traceback" in process.said() or behaviour == "refuses"


def test_failure_is_fast_where_it_is_known() -> None:
    """An image that cannot be pulled is not waited for."""
    process = Process(World(behaviour="cannot be pulled"))

    _run(process)

    ready = next(one.at for one in process.events if one.phase is Phase.READY and one.kind == "phase")
    failed = next(one.at for one in process.events if one.kind == "failed")
    assert failed - ready < 10.0


def _stuck(process: Process) -> None:
    process.world.drains = False


@pytest.mark.parametrize(
    ("policy", "phase", "image"),
    [(DrainPolicy.FORCE, Phase.COMMIT, NEW), (DrainPolicy.ABORT, Phase.ROLLED_BACK, OLD)],
)
def test_drain_that_does_not_finish(policy: DrainPolicy, phase: Phase, image: str) -> None:
    """Cut off, or given up, as the policy says."""
    process = Process(World(drains=False))

    ending = _run(process, replace(_PLAN, drain_policy=policy))

    assert phase is ending.phase
    _assert_serves(process.world, image)


def _weekly(world: World, *, opens_in: float, length: float) -> Calendar:
    first = dt.datetime.fromtimestamp(world.now + world.wall_offset + opens_in, dt.UTC).replace(tzinfo=None)
    return Calendar((Recurrence("w", ZoneInfo("UTC"), first, "", length),))


def test_drain_is_waited_for_until_the_window_gets_too_short() -> None:
    """The reserve for going back is never spent on waiting."""
    world = World(drains=False)
    process = Process(world)
    plan = Plan(calendar=_weekly(world, opens_in=-1.0, length=300.0), need=Need(60.0, 120.0))

    ending = _run(process, plan)

    assert Phase.ROLLED_BACK is ending.phase
    failed = next(one.at for one in process.events if one.kind == "failed")
    assert 170.0 < failed - process.events[0].at < 190.0
    _assert_serves(world, OLD)


def test_window_is_awaited_and_announced() -> None:
    """Clients are told when it begins; gate and drain wait for it."""
    world = World()
    process = Process(world)
    plan = Plan(calendar=_weekly(world, opens_in=600.0, length=600.0), need=Need(60.0, 60.0), wait_seconds=3600.0)
    opens = world.now + world.wall_offset + 600.0

    ending = _run(process, plan)

    assert 0 == ending.exit_code
    assert opens == world.announced[0]
    assert len(world.announced) > 600.0 / 40.0
    gated = next(one.at for one in process.events if one.phase is Phase.GATE)
    assert opens <= gated < opens + 10.0


@pytest.mark.parametrize(("opens_in", "length"), [(600.0, 600.0), (-500.0, 600.0), (-1000.0, 600.0)])
def test_outside_of_the_window_nothing_begins(opens_in: float, length: float) -> None:
    """Too early, too little left, too late: exit 7, and not a single change."""
    world = World()
    process = Process(world)
    plan = Plan(calendar=_weekly(world, opens_in=opens_in, length=length), need=Need(60.0, 60.0))

    with pytest.raises(OutsideWindowError) as caught:
        _run(process, plan)

    assert 7 == caught.value.exit_code
    assert [] == process.mutations


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda world: setattr(world, "image", NEW), "runs web:2 already"),
        (lambda world: world.ask_for("web:3", "kubectl"), "is not in order before it is changed"),
        (lambda world: setattr(world, "gate_until", 1e9), "the service is GATED and has to be ACTIVE"),
    ],
)
def test_preflight_refuses(change: object, said: str) -> None:
    """What is not in order before is not made worse."""
    world = World()
    change(world)  # type: ignore[operator]  # every case is a function
    process = Process(world)

    with pytest.raises(RefusedError, match=said):
        _run(process)

    assert [] == process.mutations


def test_preflight_tells_of_an_image_that_is_not_there() -> None:
    """Before the lock is taken."""
    process = Process(World())

    with pytest.raises(RefusedError, match="cannot be pulled"):
        _run(process, journal=replace(_JOURNAL, new="web:gone"))

    assert [] == process.mutations


def test_gate_that_does_not_hold_is_seen() -> None:
    """A way in beside the gate: nothing is drained into it."""
    process = Process(World())
    process.is_leaky = True

    ending = _run(process)

    assert Phase.ROLLED_BACK is ending.phase
    assert "a new WebSocket is let in all the same" in ending.text
    _assert_serves(process.world, OLD)


def test_pod_that_does_not_die_gets_none_beside_it() -> None:
    """A lost node takes a person: lock and journal stay, the commands are named."""
    world = World(is_stuck=True)
    process = Process(world)

    ending = _run(process)

    assert (Phase.NEEDS_OPERATOR, 9) == (ending.phase, ending.exit_code)
    assert "which is gone" in ending.text
    assert "kubectl rollout undo deployment/web" in ending.commands
    assert "deploytool rollout abort --workload web" in ending.commands
    assert "ada@laptop" == world.held_by


def test_failed_rollback_needs_a_person_and_can_be_resumed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old image does not come up either, until somebody mends it."""
    world = World(behaviour="cannot be pulled")
    process = Process(world)
    world.on_time.append((world.now + 15.0, lambda one: setattr(one, "_ready_at", one.now + 1000.0)))
    plan = replace(_PLAN, deadlines=replace(_PLAN.deadlines, ready=30.0))
    original = world._live

    def _never_ready(step: float) -> None:
        original(step)
        if world.running == OLD and world.instance > 1 and world.now < 1400.0:
            world._ready_at = world.now + 5.0

    monkeypatch.setattr(World, "_live", lambda _self, step: _never_ready(step))
    ending = _run(process, plan)
    assert (Phase.NEEDS_OPERATOR, 9) == (ending.phase, ending.exit_code)
    assert "going back failed" in ending.text

    world.advance(400.0)
    again = _go_on(Process(world, name="eve"), plan=plan)

    assert Phase.ROLLED_BACK is again.phase
    _assert_serves(world, OLD)


@pytest.mark.parametrize("after", [Phase.AWAIT_WINDOW, Phase.DRAIN, Phase.READY, Phase.RECONNECT])
def test_third_party_is_not_fought(after: Phase) -> None:
    """Somebody else asks for another image: stop, and name who."""
    world = World()
    process = Process(world)

    def _meddle(event: Event) -> None:
        if event.phase is after and event.kind == "phase":
            world.ask_for("web:9", "argocd")

    process.on_show = _meddle

    ending = _run(process)

    assert (8 if after is Phase.AWAIT_WINDOW else 9) == ending.exit_code
    assert "by argocd" in ending.text or "another process serves" in ending.text
    assert "web:9" == world.image
    assert "restore" not in process.calls


def test_scaled_to_nothing_stays_so() -> None:
    """Zero is somebody's wish, also during a rollout."""
    world = World()
    process = Process(world)

    def _scale(event: Event) -> None:
        if event.phase is Phase.READY:
            world.replicas = 0

    process.on_show = _scale

    ending = _run(process)

    assert 9 == ending.exit_code
    assert "scaled to 0" in ending.text
    assert 0 == world.replicas


@pytest.mark.parametrize("phase", [one for one in FORWARD if one not in (Phase.PREFLIGHT, Phase.LOCK)])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_failing_hook_fails_its_phase(phase: Phase, moment: str) -> None:
    """Cancelled before the gate, rolled back after it."""
    process = Process(World())
    process.failing_hooks.add((phase, moment))

    ending = _run(process)

    assert 8 == ending.exit_code
    gated = FORWARD.index(phase) >= FORWARD.index(Phase.GATE)
    assert (Phase.ROLLED_BACK if gated else Phase.CANCELLED) is ending.phase
    assert f"hook {moment} {phase.value} ended with 1" in ending.text
    _assert_serves(process.world, OLD)


def test_lock_outlives_long_hooks() -> None:
    """Each may take longer than the lock lives by itself."""
    process = Process(World())
    process.hook_seconds = 100.0

    ending = _run(process)

    assert 0 == ending.exit_code
    _assert_serves(process.world, NEW)


def test_failing_hook_of_preflight_changes_nothing() -> None:
    """There is no lock yet, and none is taken."""
    process = Process(World())
    process.failing_hooks.add((Phase.PREFLIGHT, "before"))

    with pytest.raises(RefusedError, match="hook before PREFLIGHT"):
        _run(process)

    assert [] == process.mutations


# Interruptions.


def _calls() -> list[str]:
    process = Process(World())
    _run(process)
    return process.calls


_CALLS = _calls()


@pytest.mark.parametrize("index", range(0, len(_CALLS), 5))
def test_interrupted_once_it_pauses_and_goes_on(index: int) -> None:
    """What lapses is renewed meanwhile."""
    process = Process(World())
    process.interrupts_at[index] = 1
    process.answers = [""] * 200 + ["go on"]

    ending = _run(process)

    assert Phase.COMMIT is ending.phase, ending
    _assert_serves(process.world, NEW)


@pytest.mark.parametrize("index", range(0, len(_CALLS), 5))
def test_interrupted_twice_it_can_be_resumed(index: int) -> None:
    """Exit 130, and nothing is lost."""
    world = World()
    process = Process(world)
    process.interrupts_at[index] = 2

    try:
        ending = _run(process)
    except LeftError:
        # Before the lock there is nothing to resume.
        assert [] == process.mutations
        return

    if ending.exit_code == 130:
        world.advance(61.0)
        ending = _go_on(Process(world, name="eve"))
    assert Phase.COMMIT is ending.phase
    _assert_serves(world, NEW)


def test_interrupted_while_paused_it_goes_back() -> None:
    """The operator's other choice."""
    process = Process(World())
    process.interrupts_at[_CALLS.index("drain")] = 1
    process.answers = ["", "back"]

    ending = _run(process)

    assert Phase.ROLLED_BACK is ending.phase
    _assert_serves(process.world, OLD)


def test_asked_to_go_back_while_it_does_it_goes_on() -> None:
    """It is what the operator wants, so nobody has to be called."""
    process = Process(World(behaviour="refuses"))

    def interrupt(event: Event) -> None:
        if event.phase is Phase.ROLLING_BACK and event.kind == "phase":
            process.interrupted += 1

    process.on_show = interrupt
    process.answers = ["", "back"]

    ending = _run(process)

    assert (Phase.ROLLED_BACK, 8) == (ending.phase, ending.exit_code)
    assert [] == process.answers
    _assert_serves(process.world, OLD)


@pytest.mark.parametrize("call", ["drain", "undrain"])
def test_drain_that_was_killed_is_ended_by_who_resumes(call: str) -> None:
    """Clients are let in again, which is what it was to end with."""
    before, world = Process(World()), World()
    Runner(before.ports, _PLAN, _JOURNAL).drain(1.0)
    killed = Process(world, Fault(before.calls.index(call), Killed))
    with pytest.raises(Killed):
        Runner(killed.ports, _PLAN, _JOURNAL).drain(1.0)
    world.advance(61.0)

    ending = _go_on(Process(world, name="eve"))

    assert (Phase.ROLLED_BACK, 0) == (ending.phase, ending.exit_code)
    _assert_serves(world, OLD)


def test_second_rollout_names_the_first() -> None:
    """While it runs, and when it was left."""
    world = World()
    with pytest.raises(Killed):
        _run(Process(world, Fault(_CALLS.index("gate"), Killed)))

    with pytest.raises(LockHeldError, match="held by ada@laptop"):
        _run(Process(world, name="eve"), journal=replace(_JOURNAL, rollout="r2"))
    world.advance(300.0)
    with pytest.raises(LockHeldError, match="rollout r1 of ada@laptop is unfinished"):
        _run(Process(world, name="eve"), journal=replace(_JOURNAL, rollout="r2"))


# Every call, killed before it is done and after.

_KILLS = [
    pytest.param(index, is_after, id=f"{index}-{name}-{'after' if is_after else 'before'}")
    for index, name in enumerate(_CALLS)
    for is_after in (False, True)
    if name not in ("observe", "status", "knock", "renew", "preflight") or (index % 4 == 0 and not is_after)
]


def _killed(index: int, *, is_after: bool) -> World:
    world = World()
    with pytest.raises(Killed):
        _run(Process(world, Fault(index, Killed, is_after)))
    return world


@pytest.mark.parametrize(("index", "is_after"), _KILLS)
def test_killed_and_resumed(index: int, is_after: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Whoever resumes ends where the first one would have."""
    world = _killed(index, is_after=is_after)
    if world.journal is None:
        return _assert_serves(world, OLD)
    world.advance(61.0)
    if world.journal.has_ended:
        return _assert_serves(world, NEW)

    ending = _go_on(Process(world, name="eve"))

    assert Phase.COMMIT is ending.phase, ending
    return _assert_serves(world, NEW)


@pytest.mark.parametrize(("index", "is_after"), _KILLS)
def test_killed_and_aborted(index: int, is_after: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Whoever aborts ends where it began."""
    world = _killed(index, is_after=is_after)
    if world.journal is None or world.journal.has_ended:
        return
    world.advance(61.0)

    ending = _go_on(Process(world, name="eve"), is_aborting=True)

    assert ending.phase in (Phase.ROLLED_BACK, Phase.CANCELLED), ending
    assert 0 == ending.exit_code
    _assert_serves(world, OLD)


@pytest.mark.parametrize(("index", "is_after"), _KILLS)
def test_killed_and_never_back(index: int, is_after: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The instance serves again by itself; which image is what the workload asks for."""
    world = _killed(index, is_after=is_after)

    world.advance(200.0)

    assert world.image == world.running
    assert ("ACTIVE", CLIENTS) == (world.phase, world.clients)
    assert not world.held_by or world.now - world.renewed_at > 60.0


@pytest.mark.parametrize(("index", "is_after"), _KILLS)
@pytest.mark.parametrize("is_aborting", [False, True])
def test_going_back_killed_again(index: int, is_after: bool, is_aborting: bool) -> None:  # noqa: FBT001 - parameters
    """A rollback that is interrupted goes on."""
    calls = Process(World(behaviour="cannot be pulled"))
    _run(calls)
    if index >= len(calls.calls):
        return
    world = World(behaviour="cannot be pulled")
    with pytest.raises(Killed):
        _run(Process(world, Fault(index, Killed, is_after)))
    if world.journal is None or world.journal.has_ended:
        return
    world.advance(61.0)

    ending = _go_on(Process(world, name="eve"), is_aborting=is_aborting)

    assert ending.phase in (Phase.ROLLED_BACK, Phase.CANCELLED), ending
    _assert_serves(world, OLD)


@pytest.mark.parametrize("is_aborting", [False, True])
def test_switch_that_is_half_done_is_mended_first(is_aborting: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Then it is gone on with, or back, as always."""
    world = _killed(_CALLS.index("switch"), is_after=True)
    world.is_half_done = True
    world.advance(61.0)

    ending = _go_on(Process(world, name="eve"), is_aborting=is_aborting)

    assert (Phase.ROLLED_BACK if is_aborting else Phase.COMMIT) is ending.phase, ending
    _assert_serves(world, OLD if is_aborting else NEW)


# Every call, failing for a moment.


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("index", range(len(_CALLS)), ids=lambda one: f"{one}-{_CALLS[one]}")
def test_call_that_fails_once_does_no_harm(index: int, is_after: bool) -> None:  # noqa: FBT001 - a parameter
    """A conflict, a timeout, an error of the server: looked at again, and gone on with."""
    process = Process(World(), Fault(index, lambda: TransientError("429", retry_seconds=3.0), is_after))
    try:
        ending = _run(process)
    except TransientError:
        assert _CALLS[index] == "acquire"
        return

    assert Phase.COMMIT is ending.phase, ending
    _assert_serves(process.world, NEW)


@pytest.mark.parametrize("index", range(len(_CALLS)), ids=lambda one: f"{one}-{_CALLS[one]}")
def test_call_that_is_forbidden_ends_well(index: int) -> None:
    """What will not work in a moment either: nothing was changed, or all of it is changed back."""
    process = Process(World(), Fault(index, lambda: DeploytoolError("not allowed")))
    try:
        ending = _run(process)
    except DeploytoolError:
        assert Phase.PREFLIGHT is process.events[-1].phase or _CALLS[index] in ("acquire", "release"), process.events
        return
    assert ending.phase in (Phase.ROLLED_BACK, Phase.CANCELLED, Phase.COMMIT), ending
    _assert_serves(process.world, NEW if ending.phase is Phase.COMMIT else OLD)


def test_lock_that_cannot_be_renewed_stops_everything() -> None:
    """Two thirds of its time without a proof: not one more change, and whoever comes next is right."""
    world = World()
    process = Process(world)
    start = _CALLS.index("drain")
    process.faults = {
        index: Fault(index, lambda: TransientError("no answer")) for index in range(start + 1, start + 2000)
    }

    ending = _run(process)

    assert 6 == ending.exit_code
    assert "deploytool rollout resume --workload web" in ending.commands
    world.advance(200.0)
    assert Phase.COMMIT is _go_on(Process(world, name="eve")).phase
    _assert_serves(world, NEW)


def test_late_holder_fails_at_its_next_step() -> None:
    """Overtaken, it does nothing more."""
    world = World()
    process = Process(world)

    def _overtake(event: Event) -> None:
        if event.phase is Phase.DRAIN and event.kind == "done":
            world.held_by = "eve"

    process.on_show = _overtake

    ending = _run(process)

    assert 6 == ending.exit_code
    assert OLD == world.image
    assert "eve" == world.held_by


def test_service_without_the_contract_is_rolled_out_degraded() -> None:
    """No announcement, no gate; SIGTERM drains."""
    process = Process(World())

    ending = _run(process, replace(_PLAN, is_degraded=True))

    assert Phase.COMMIT is ending.phase, ending
    assert not {"announce", "gate", "drain", "status", "withdraw"} & set(process.calls)


def _note(process: Process, phase: Phase) -> str:
    journal = process.world.journal
    assert journal is not None
    (step,) = (one for one in journal.steps if one.phase is phase)
    return step.note


def test_reason_to_start_outside_of_a_window_counts_only_outside() -> None:
    """Given out of caution, it must not look like a breach afterwards."""
    process = Process(World())
    calendar = _weekly(process.world, opens_in=-1.0, length=3600.0)

    assert 0 == _run(process, replace(_PLAN, calendar=calendar, override="just in case")).exit_code

    assert "just in case" not in _note(process, Phase.AWAIT_WINDOW)


def test_clients_are_counted_as_back_from_when_they_are() -> None:
    """However long the new instance is watched after that."""
    process = Process(World())
    plan = replace(_PLAN, deadlines=replace(_PLAN.deadlines, settle=40.0))

    assert 0 == _run(process, plan).exit_code

    assert float(_note(process, Phase.RECONNECT).rpartition("after ")[2].removesuffix(" s")) < 40.0
