"""What is kept of rollouts that are over, and rollouts that go back on purpose."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from deploytool.cluster import attestations
from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.errors import ForbiddenError
from deploytool.cluster.records import RECORD, VERSION, ClusterRecords
from deploytool.cluster.resources import CONFIG_MAPS
from deploytool.errors import DeploytoolError
from deploytool.model.observations import RolloutRecord
from deploytool.planning.window import Need
from deploytool.rollout.errors import TransientError
from deploytool.rollout.journal import Journal
from deploytool.rollout.phases import FORWARD, Phase
from deploytool.rollout.plan import Ending, Plan
from deploytool.rollout.ports import Records
from deploytool.rollout.runner import Runner
from tests.deploytool.rollout.world import CLIENTS, NEW, OLD, Fault, Killed, Process, World
from tests.simcluster.cluster import SimCluster
from tests.simcluster.faults import Fault as ApiFault

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAN = Plan(override="a test", need=Need(60.0, 60.0))
_JOURNAL = Journal("r1", "web", "ada@laptop", "new release", OLD, NEW)
_DRILL = replace(_JOURNAL, drill=True)


class _Kept(Records):
    """Keeps records in memory, by rollout.

    Attributes:
        stored: What was asked for, in order.
        held_by: Who held the lock meanwhile.
    """

    def __init__(self, process: Process, failures: list[DeploytoolError] | None = None) -> None:
        self._process = process
        self._failures = failures or []
        self.stored: list[tuple[Journal, bool]] = []
        self.held_by: list[str] = []

    @override
    def store(self, journal: Journal, *, is_drill: bool) -> str:
        self._process.call("record", lambda: self._store(journal, is_drill=is_drill))
        return f"web-rollout-{journal.rollout}"

    def _store(self, journal: Journal, *, is_drill: bool) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.stored.append((journal, is_drill))
        self.held_by.append(self._process.world.held_by)


def _process(world: World, *faults: Fault, failures: list[DeploytoolError] | None = None) -> tuple[Process, _Kept]:
    process = Process(world, *faults)
    kept = _Kept(process, failures)
    process.ports = replace(process.ports, records=kept)
    return process, kept


def _run(process: Process, journal: Journal = _JOURNAL) -> Ending:
    return Runner(process.ports, _PLAN, journal).run()


def _go_on(process: Process, *, is_aborting: bool = False) -> Ending:
    journal = process.world.journal
    assert journal is not None
    return Runner(process.ports, _PLAN, journal).resume(is_aborting=is_aborting)


def _assert_serves(world: World, image: str) -> None:
    world.advance(30.0)
    assert (image, image, "ACTIVE", "") == (world.image, world.running, world.phase, world.held_by)
    assert CLIENTS == world.clients


# When a record is stored.


def test_rollout_that_ends_well_is_on_record_once() -> None:
    """After the lock was let go, so that nobody waits for it."""
    process, kept = _process(World())

    ending = _run(process)

    ((journal, is_drill),) = kept.stored
    assert Phase.COMMIT is ending.phase
    assert journal.has_ended
    assert not is_drill
    assert [""] == kept.held_by
    assert "on record: web-rollout-r1" in process.said("note")


@pytest.mark.parametrize("behaviour", ["never ready", "cannot be pulled", "crashes", "broken", "refuses"])
def test_rollout_that_goes_back_is_on_record_once(behaviour: str) -> None:
    """With why; it is no drill."""
    process, kept = _process(World(behaviour=behaviour))

    assert 8 == _run(process).exit_code

    ((journal, is_drill),) = kept.stored
    assert Phase.ROLLED_BACK is journal.phase
    assert journal.failure
    assert not is_drill


def test_rollout_that_never_switched_is_not_on_record() -> None:
    """Cancelled, given up while it drained, or a drain alone: there is nothing to learn from it."""
    cancelled, first = _process(World())
    cancelled.failing_hooks.add((Phase.ANNOUNCE, "after"))
    given_up, second = _process(World())
    given_up.failing_hooks.add((Phase.DRAIN, "after"))
    drain, third = _process(World())

    assert Phase.CANCELLED is _run(cancelled).phase
    assert Phase.ROLLED_BACK is _run(given_up).phase
    assert Phase.ROLLED_BACK is Runner(drain.ports, _PLAN, _JOURNAL).drain(1.0).phase

    assert [] == [*first.stored, *second.stored, *third.stored]


@pytest.mark.parametrize(
    ("failures", "count", "said"),
    [
        ([TransientError("429", retry_seconds=3.0), TransientError("timeout")], 1, "on record: web-rollout-r1"),
        ([TransientError("500")] * 3, 0, "warning: this rollout is not on record: 500"),
        ([DeploytoolError("may not create")], 0, "warning: this rollout is not on record: may not create"),
    ],
)
@pytest.mark.parametrize("behaviour", ["good", "broken"])
def test_record_that_cannot_be_stored_is_told_and_no_more(
    failures: list[DeploytoolError], count: int, said: str, behaviour: str
) -> None:
    """The ending is what it is."""
    process, kept = _process(World(behaviour=behaviour), failures=[*failures])

    ending = _run(process)

    assert (0 if behaviour == "good" else 8) == ending.exit_code
    assert count == len(kept.stored)
    assert said in process.said("note")
    _assert_serves(process.world, NEW if behaviour == "good" else OLD)


def test_rollout_that_was_killed_before_its_record_can_be_put_on_record_later() -> None:
    """The journal stays with the lock."""
    process, _ = _process(World())
    _run(process)
    world = World()
    with pytest.raises(Killed):
        _run(_process(world, Fault(process.calls.index("record"), Killed))[0])
    late, kept = _process(world)
    assert world.journal is not None

    Runner(late.ports, _PLAN, world.journal).remember()

    assert [Phase.COMMIT] == [journal.phase for journal, _ in kept.stored]


# Drills.


def test_drill_goes_forward_and_back() -> None:
    """The new image is seen to serve, and then the old one again; that is what was wanted, so it ends with 0."""
    process, kept = _process(World())

    ending = _run(process, _DRILL)

    assert (Phase.ROLLED_BACK, 0) == (ending.phase, ending.exit_code), ending
    assert "it was a drill" in ending.text
    phases = [one.phase for one in process.events if one.kind == "phase"]
    forward = [one for one in FORWARD if one not in (Phase.LOCK, Phase.COMMIT)]
    assert [*forward, Phase.ROLLING_BACK] == phases
    assert ["switch", "restore"] == [one for one in process.calls if one in ("switch", "restore")]
    ((journal, is_drill),) = kept.stored
    assert is_drill
    assert Phase.ROLLED_BACK is journal.phase
    _assert_serves(process.world, OLD)


def test_drill_empties_the_new_instance_before_it_goes() -> None:
    """Through the same gates, and counted."""
    process, _ = _process(World())

    _run(process, _DRILL)

    back = [one for one in process.events if one.phase is Phase.ROLLING_BACK and one.kind == "progress"]
    left = [one.data["left"] for one in back if "left" in one.data]
    assert CLIENTS == left[0]
    assert 0 == left[-1]
    assert process.calls.index("restore") > len(process.calls) - 1 - process.calls[::-1].index("drain")


@pytest.mark.parametrize("behaviour", ["never ready", "cannot be pulled", "crashes", "broken", "refuses"])
def test_drill_with_a_bad_image_is_rolled_back_as_always(behaviour: str) -> None:
    """That was not what was to be practised: 8, and no drill on record."""
    process, kept = _process(World(behaviour=behaviour))

    ending = _run(process, _DRILL)

    assert (Phase.ROLLED_BACK, 8) == (ending.phase, ending.exit_code)
    assert [False] == [is_drill for _, is_drill in kept.stored]
    _assert_serves(process.world, OLD)


def _calls() -> list[str]:
    process, _ = _process(World())
    _run(process, _DRILL)
    return process.calls


_CALLS = _calls()
_KILLS = [
    pytest.param(index, is_after, id=f"{index}-{name}-{'after' if is_after else 'before'}")
    for index, name in enumerate(_CALLS)
    for is_after in (False, True)
    if name not in ("observe", "status", "knock", "renew", "preflight") or (index % 5 == 0 and not is_after)
]


@pytest.mark.parametrize(("index", "is_after"), _KILLS)
@pytest.mark.parametrize("is_aborting", [False, True])
def test_drill_that_is_killed_never_ends_with_the_new_image(index: int, is_after: bool, is_aborting: bool) -> None:  # noqa: FBT001 - parameters of the test
    """Whoever resumes it goes on to where it turns back; whoever aborts it goes back at once."""
    world = World()
    first, before = _process(world, Fault(index, Killed, is_after))
    with pytest.raises(Killed):
        _run(first, _DRILL)
    if world.journal is None or world.journal.has_ended:
        assert _CALLS[index] in ("record", "release") or world.journal is None
        _assert_serves(world, OLD)
        return
    world.advance(61.0)
    second, after = _process(world)

    ending = _go_on(second, is_aborting=is_aborting)

    assert ending.phase in ((Phase.ROLLED_BACK, Phase.CANCELLED) if is_aborting else (Phase.ROLLED_BACK,)), ending
    assert 0 == ending.exit_code
    assert 1 >= len([*before.stored, *after.stored])
    if not is_aborting:
        assert [True] == [is_drill for _, is_drill in after.stored]
    _assert_serves(world, OLD)


def test_drill_of_an_older_journal_is_none() -> None:
    """A journal of before there were drills is read; one in which it is nonsense is not."""
    older = json.loads(_DRILL.to_json())
    del older["drill"]

    assert not Journal.from_json(json.dumps(older)).drill
    assert Journal.from_json(_DRILL.to_json()).drill
    with pytest.raises(DeploytoolError):
        Journal.from_json(json.dumps({**older, "drill": "yes"}))


# In a cluster.

_SWITCHED = (Phase.LOCK, Phase.ANNOUNCE, Phase.AWAIT_WINDOW, Phase.RECHECK, Phase.GATE, Phase.DRAIN, Phase.SWITCH)


def _ended(*phases: Phase, at: float, journal: Journal = _JOURNAL) -> Journal:
    for number, phase in enumerate(phases):
        journal = journal.begin(phase, at + number).finish(at + number + 0.5)
    return journal


@pytest.fixture(scope="module")
def sim() -> Iterator[SimCluster]:
    """A cluster for the tests of this module."""
    with SimCluster.start() as sim:
        yield sim


@pytest.fixture
def cluster(sim: SimCluster) -> Iterator[Cluster]:
    """A client; what a test stored is removed after it."""
    limits = Limits(request_seconds=10.0, total_seconds=float("inf"))
    with Cluster.connect(kubeconfig_path=str(sim.kubeconfig()), limits=limits) as cluster:
        yield cluster
        sim.faults.clear()
        for one in cluster.all(CONFIG_MAPS).items:
            cluster.delete(CONFIG_MAPS, one["metadata"]["name"])


def _stored(cluster: Cluster) -> list[dict[str, Any]]:
    return [one for one in cluster.all(CONFIG_MAPS).items if RECORD in (one.get("data") or {})]


def test_record_is_read_with_the_attestations(cluster: Cluster) -> None:
    """Immutable, in the name of who the API server says we are, without a further request."""
    journal = _ended(*_SWITCHED, Phase.ROLLING_BACK, Phase.ROLLED_BACK, at=cluster.clock.wall() - 60.0)
    journal = replace(journal, failure="web:2 was not ready", baseline=40)

    name = ClusterRecords(cluster, "web", lambda: [(4.04, 6.1)]).store(journal, is_drill=False)
    calls = cluster.calls
    stored = attestations.read(cluster, "web")

    assert 1 == cluster.calls - calls
    assert ((), (), {}) == (stored.attestations, stored.reports, stored.unreadable)
    (found,) = stored.rollouts
    assert "web-rollout-r1" == name == found.name
    assert (OLD, NEW, True, True, False) == (
        found.old, found.new, found.was_switched, found.was_rolled_back, found.is_drill,
    )  # fmt: skip
    assert "web:2 was not ready" == found.failure
    assert abs(found.ended_at - (journal.steps[-1].done_at or 0.0)) <= 1.0
    (raw,) = _stored(cluster)
    assert raw["immutable"] is True
    assert cluster.identity().username == raw["data"]["who"] == found.who
    assert [{"least_seconds": 4.0, "most_seconds": 6.1}] == json.loads(raw["data"][RECORD])["gaps"]


def test_record_is_stored_once(cluster: Cluster) -> None:
    """Whoever resumed it meanwhile, or lost only the answer, finds it there."""
    journal = _ended(*_SWITCHED, Phase.ROLLING_BACK, Phase.ROLLED_BACK, at=cluster.clock.wall() - 60.0)
    records = ClusterRecords(cluster, "web")

    names = {records.store(journal, is_drill=True), records.store(journal, is_drill=True)}

    assert {"web-rollout-r1"} == names
    assert 1 == len(_stored(cluster))


@pytest.mark.parametrize("fault", [ApiFault(code=500), ApiFault(code=500, is_after=True), ApiFault(is_cut=True)])
def test_record_is_stored_again_when_the_answer_is_lost(cluster: Cluster, sim: SimCluster, fault: ApiFault) -> None:
    """What may be over in a moment is told from what will not be."""
    journal = _ended(*_SWITCHED, at=cluster.clock.wall())
    sim.faults.add(replace(fault, method="POST", path="/configmaps", times=1))
    records = ClusterRecords(cluster, "web")

    with pytest.raises(TransientError):
        records.store(journal, is_drill=False)

    assert "web-rollout-r1" == records.store(journal, is_drill=False)
    assert 1 == len(_stored(cluster))


def test_missing_right_is_named(cluster: Cluster, sim: SimCluster) -> None:
    """As always, with the rule that would allow it."""
    sim.faults.add(ApiFault(method="POST", path="/configmaps", code=403))

    with pytest.raises(ForbiddenError, match="configmaps"):
        ClusterRecords(cluster, "web").store(_ended(*_SWITCHED, at=1.0), is_drill=False)


def test_what_is_in_its_place_is_told_of(cluster: Cluster) -> None:
    """A ConfigMap of somebody else is not taken for the record."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web-rollout-r1"}, "data": {"a": "b"}}
    cluster.create(CONFIG_MAPS, body)

    with pytest.raises(DeploytoolError, match="it is not the record of this rollout"):
        ClusterRecords(cluster, "web").store(_ended(*_SWITCHED, at=1.0), is_drill=False)


@pytest.mark.parametrize("rollout", ["../../secrets/x", "R 1", "x" * 200, "", "a\nb"])
def test_id_that_can_be_no_name_is_hashed(cluster: Cluster, rollout: str) -> None:
    """An id is read from the cluster, and may be anything."""
    journal = _ended(*_SWITCHED, at=float("1e300"), journal=replace(_JOURNAL, rollout=rollout, failure="f" * 5000))

    name = ClusterRecords(cluster, "web").store(journal, is_drill=False)

    assert name.startswith("web-rollout-")
    (raw,) = _stored(cluster)
    assert len(json.dumps(raw["data"])) < 4096


def _content(**fields: object) -> str:
    whole: dict[str, object] = {
        "version": VERSION, "rollout": "r1", "workload": "web", "from": OLD, "to": NEW, "outcome": "ROLLED_BACK",
        "began_at": "2027-01-15T08:00:00Z", "ended_at": "2027-01-15T08:01:00Z", "failure": "", "was_switched": True,
        "is_drill": True,
    }  # fmt: skip
    return json.dumps({**whole, **fields})


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ("garbage", {}, "JSONDecodeError"),
        ("[" * 5000, {}, "RecursionError"),
        ("[]", {}, "it is no mapping"),
        ("{}", {}, "KeyError: 'version'"),
        (_content(version=VERSION + 1), {}, f"has version {VERSION + 1}, and this deploytool knows {VERSION}"),
        (_content(outcome="COMMITTED"), {}, "COMMITTED is no outcome"),
        (_content(is_drill="yes"), {}, "yes or no is neither"),
        (_content(to=7), {}, "a text is none"),
        (_content(ended_at="yesterday"), {}, "yesterday"),
        (_content(ended_at="2027-01-15T08:01:00"), {}, "does not say its offset"),
        (_content(failure="x" * 20_000), {}, "it is too long"),
        (_content(), {"immutable": False}, "it can be changed"),
        (_content(), {"data": {RECORD: _content()}}, "KeyError: 'who'"),
    ],
)
def test_record_that_is_none_is_told_of_as_attestations_are(
    cluster: Cluster, content: str, more: dict[str, Any], said: str
) -> None:
    """It counts for nothing, and keeps nothing else from counting."""
    meta = {"name": "forged", "labels": {"slackwater.dev/attestation-of": "web"}}
    data = {"who": "eve", "item": "documentation.rollback-procedure", RECORD: content}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "immutable": True, "data": data, **more}
    cluster.create(CONFIG_MAPS, body)

    stored = attestations.read(cluster, "web")

    assert ((), {"forged"}) == (stored.rollouts, {*stored.unreadable})
    assert said in stored.unreadable["forged"]


def test_record_cannot_be_younger_than_its_object(cluster: Cluster) -> None:
    """A drill of next year does not count for the year after."""
    meta = {"name": "forged", "labels": {"slackwater.dev/attestation-of": "web"}}
    data = {"who": "eve", RECORD: _content(began_at="2099-01-01T00:00:00Z", ended_at="2099-01-01T00:00:00Z")}
    cluster.create(
        CONFIG_MAPS, {"metadata": meta, "kind": "ConfigMap", "apiVersion": "v1", "immutable": True, "data": data}
    )

    (found,) = attestations.read(cluster, "web").rollouts

    assert isinstance(found, RolloutRecord)
    assert found.ended_at < cluster.clock.wall() + 60.0
    assert found.began_at <= found.ended_at
