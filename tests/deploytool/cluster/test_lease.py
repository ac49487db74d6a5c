"""What a lock has to do: the same suite for the one in memory and for the Lease in a cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytest
from typing_extensions import override

from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.lease import LEASES, LeaseLock, holder_of, lease_name, release_by_force
from deploytool.rollout.errors import LockHeldError, LockLostError, TransientError
from deploytool.rollout.journal import Journal
from deploytool.rollout.phases import Phase
from deploytool.rollout.ports import Clock, Lock
from tests.deploytool.rollout.world import Process, World
from tests.simcluster.cluster import SimCluster
from tests.simcluster.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(60)

_JOURNAL = Journal("r1", "web", "ada@laptop", "new release", "web:1", "web:2").begin(Phase.LOCK, 1.0)
_ENDED = _JOURNAL.begin(Phase.CANCELLED, 2.0).finish(3.0)


class _Clock(Clock):
    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self.at = 1000.0
        self.offset = wall

    @override
    def now(self) -> float:
        return self.at

    @override
    def wall(self) -> float:
        return self.at + self.offset

    @override
    def pause(self, seconds: float) -> None:
        self.at += seconds


class _Bench(Protocol):
    def lock(self, name: str) -> Lock: ...

    def advance(self, seconds: float) -> None: ...


class _Memory(_Bench):
    def __init__(self) -> None:
        self.world = World()

    @override
    def lock(self, name: str) -> Lock:
        return Process(self.world, name=name).ports.lock

    @override
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)


class _Real(_Bench):
    def __init__(self, cluster: Cluster, sim: SimCluster) -> None:
        self.cluster = cluster
        self.sim = sim
        self.clock = _Clock()

    @override
    def lock(self, name: str, *, clock: _Clock | None = None) -> LeaseLock:
        return LeaseLock(self.cluster, "web", holder=f"{name}/r1", session=name, clock=clock or self.clock)

    @override
    def advance(self, seconds: float) -> None:
        self.clock.at += seconds


@pytest.fixture(scope="module")
def sim() -> Iterator[SimCluster]:
    """A cluster for the tests of this module."""
    with SimCluster.start() as sim:
        yield sim


@pytest.fixture
def real(sim: SimCluster) -> Iterator[_Real]:
    """A cluster without a Lease."""
    path = sim.kubeconfig()
    with Cluster.connect(kubeconfig_path=str(path), limits=Limits(total_seconds=float("inf"))) as cluster:
        yield _Real(cluster, sim)
        sim.faults.clear()
        if holder_of(cluster, "web") is not None:
            cluster.delete(LEASES, lease_name("web"))


@pytest.fixture(params=["memory", "cluster"])
def bench(request: pytest.FixtureRequest) -> _Bench:
    """Each of the two."""
    if request.param == "memory":
        return _Memory()
    found: _Bench = request.getfixturevalue("real")
    return found


def test_taken_written_and_released(bench: _Bench) -> None:
    """The journal is there for whoever comes next."""
    lock = bench.lock("ada")
    assert lock.read() is None

    lock.acquire(_JOURNAL)
    lock.write(_JOURNAL.finish(2.0))
    assert _JOURNAL.finish(2.0) == bench.lock("eve").read()
    lock.renew()
    lock.release(_ENDED)

    bench.lock("eve").acquire(_JOURNAL)


def test_held_lock_names_its_holder(bench: _Bench) -> None:
    """Nobody else gets it, and learns who has it."""
    bench.lock("ada").acquire(_JOURNAL)

    with pytest.raises(LockHeldError, match="held by ada"):
        bench.lock("eve").acquire(_JOURNAL)


def test_unfinished_rollout_is_no_free_lock(bench: _Bench) -> None:
    """Expired, and still there to be resumed or aborted."""
    bench.lock("ada").acquire(_JOURNAL)
    bench.advance(100.0)

    with pytest.raises(LockHeldError, match="r1 of ada@laptop"):
        bench.lock("eve").acquire(replace(_JOURNAL, rollout="r2"))
    bench.lock("eve").acquire(_JOURNAL, is_resuming=True)


def test_overtaken_holder_writes_nothing(bench: _Bench) -> None:
    """Its next step fails, and the journal is the other's."""
    late = bench.lock("ada")
    late.acquire(_JOURNAL)
    bench.advance(100.0)
    bench.lock("eve").acquire(_JOURNAL, is_resuming=True)

    with pytest.raises(LockLostError):
        late.write(_JOURNAL.finish(9.0))
    with pytest.raises(LockLostError):
        late.renew()
    with pytest.raises(LockLostError):
        late.release(_ENDED)
    assert _JOURNAL == bench.lock("bob").read()


def test_holder_that_cannot_renew_stops_at_two_thirds(bench: _Bench) -> None:
    """Before anybody else may take it."""
    lock = bench.lock("ada")
    lock.acquire(_JOURNAL)
    bench.advance(39.0)
    lock.require()
    lock.renew()
    bench.advance(39.0)
    lock.require()
    bench.advance(1.0)

    with pytest.raises(LockLostError, match="40 s"):
        lock.require()


# What only a Lease has to do.


def test_expiry_is_seen_on_the_own_clock(real: _Real) -> None:
    """A clock that is wrong by an hour takes no lock from anybody who renews it."""
    holder = real.lock("ada")
    holder.acquire(_ENDED)

    class _Watching(_Clock):
        @override
        def pause(self, seconds: float) -> None:
            super().pause(seconds)
            real.advance(seconds)
            if self.at > 1020.0 and renewing:
                holder.renew()
                renewing.clear()

    renewing = [True]
    ahead = _Watching(1_800_003_600.0)
    with pytest.raises(LockHeldError, match="held by ada/r1"):
        real.lock("eve", clock=ahead).acquire(_ENDED)
    with pytest.raises(LockHeldError, match="held by ada/r1"):
        real.lock("eve", clock=_Clock(1_799_996_400.0)).acquire(_ENDED)

    # Nobody renews it any more: an hour ahead, it takes the whole time of the lease.
    began = ahead.at
    real.lock("eve", clock=ahead).acquire(_ENDED)
    assert 60.0 <= ahead.at - began < 61.0


@pytest.mark.parametrize("code", [0, 409, 429, 500, 504], ids=str)
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_write_whose_answer_is_lost(real: _Real, code: int, is_after: bool) -> None:  # noqa: FBT001 - a parameter
    """Whether it was done or not, doing it again is right, and once is enough."""
    lock = real.lock("ada")
    lock.acquire(_JOURNAL)
    real.sim.faults.add(Fault("PATCH", "leases/", code, is_cut=not code, is_after=is_after))
    written = _JOURNAL.finish(2.0)

    try:
        lock.write(written)
    except TransientError:
        lock.write(written)

    assert written == lock.read()
    lock.renew()
    real.sim.faults.add(Fault("PATCH", "leases/", code, is_cut=not code, is_after=is_after))
    try:
        lock.release(_ENDED)
    except TransientError:
        lock.release(_ENDED)
    holder = holder_of(real.cluster, "web")
    assert holder is not None
    assert "" == holder.name


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_making_it_whose_answer_is_lost(real: _Real, is_after: bool) -> None:  # noqa: FBT001 - a parameter
    """Made or not, trying it again is right."""
    real.sim.faults.add(Fault("POST", "leases", is_cut=True, is_after=is_after))
    lock = real.lock("ada")
    with pytest.raises(TransientError):
        lock.acquire(_JOURNAL)

    lock.acquire(_JOURNAL)
    lock.renew()
    assert _JOURNAL == lock.read()


def test_released_by_force(real: _Real) -> None:
    """Whoever held it finds out; the journal is kept beside; the reason is on record."""
    lock = real.lock("ada")
    lock.acquire(_JOURNAL)

    release_by_force(real.cluster, "web", who="eve", reason="laptop was stolen")

    with pytest.raises(LockLostError, match="eve: laptop was stolen"):
        lock.renew()
    stored = real.cluster.get(LEASES, "web-rollout")["metadata"]["annotations"]
    assert _JOURNAL.to_json() == stored["slackwater.dev/rollout-abandoned"]
    real.lock("bob").acquire(replace(_JOURNAL, rollout="r2"))


def test_deleted_lock_is_lost(real: _Real) -> None:
    """Whoever deletes it takes it from its holder."""
    lock = real.lock("ada")
    lock.acquire(_JOURNAL)
    real.cluster.delete(LEASES, lease_name("web"))

    with pytest.raises(LockLostError, match="somebody deleted"):
        lock.renew()


def test_two_at_once(real: _Real) -> None:
    """Both saw it free; one was quicker."""
    real.lock("bob").acquire(_JOURNAL)
    first, second = real.lock("ada"), real.lock("eve")
    real.advance(100.0)
    look = second._get

    def _overtaken() -> dict[str, object] | None:
        found = look()
        if holders:
            holders.pop()
            first.acquire(_JOURNAL, is_resuming=True)
        return found

    holders = [True]
    second._get = _overtaken  # type: ignore[method-assign]  # the test stands in for the network

    with pytest.raises(LockHeldError, match="held by ada"):
        second.acquire(_JOURNAL, is_resuming=True)


def test_lock_holds_no_secret_and_says_why(real: _Real) -> None:
    """What kubectl shows."""
    real.lock("ada").acquire(_JOURNAL)

    holder = holder_of(real.cluster, "web")

    assert holder is not None
    assert ("ada/r1", 60.0, "new release") == (holder.name, holder.seconds, holder.reason)
    assert "token" not in holder.journal


# What people and networks do to a Lease.


def test_watch_is_as_long_as_the_lease_however_often_it_is_interrupted(real: _Real) -> None:
    """Ctrl-C shortens a pause, and not the time that the holder has."""

    class _Interrupted(_Clock):
        @override
        def pause(self, seconds: float) -> None:
            super().pause(min(seconds, 0.7))

    real.lock("ada").acquire(_JOURNAL)
    clock = _Interrupted()
    began = clock.at

    real.lock("eve", clock=clock).acquire(_JOURNAL, is_resuming=True)

    assert clock.at - began >= 60.0


def test_note_of_a_stranger_keeps_no_lock_alive(real: _Real) -> None:
    """Whoever annotates the Lease of somebody who is gone does not renew it."""
    real.lock("ada").acquire(_JOURNAL)

    class _Noting(_Clock):
        @override
        def pause(self, seconds: float) -> None:
            super().pause(seconds)
            real.cluster.patch(LEASES, lease_name("web"), {"metadata": {"annotations": {"seen-at": str(self.at)}}})

    real.lock("eve", clock=_Noting()).acquire(_JOURNAL, is_resuming=True)

    holder = holder_of(real.cluster, "web")
    assert holder is not None
    assert "eve/r1" == holder.name


def test_api_server_that_is_away_while_we_watch(real: _Real) -> None:
    """What is seen at the end counts."""
    real.lock("ada").acquire(_JOURNAL)
    real.sim.faults.add(Fault("GET", "leases/", 500, skip_count=3, times=5))

    real.lock("eve").acquire(_JOURNAL, is_resuming=True)


def test_lock_that_is_deleted_while_we_watch(real: _Real) -> None:
    """There is nothing left to take over; whoever looks again finds that."""
    real.lock("ada").acquire(_JOURNAL)

    class _Deleting(_Clock):
        @override
        def pause(self, seconds: float) -> None:
            super().pause(seconds)
            if holder_of(real.cluster, "web") is not None:
                real.cluster.delete(LEASES, lease_name("web"))

    with pytest.raises(LockHeldError, match="was deleted while we waited"):
        real.lock("eve", clock=_Deleting()).acquire(_JOURNAL, is_resuming=True)


@pytest.mark.parametrize("holder", [None, "bob"])
def test_holder_that_was_edited_is_ours_no_more(real: _Real, holder: str | None) -> None:
    """Whoever clears the holder by hand, or writes another, means it."""
    lock = real.lock("ada")
    lock.acquire(_JOURNAL)
    real.cluster.patch(LEASES, lease_name("web"), {"spec": {"holderIdentity": holder}})

    with pytest.raises(LockLostError):
        lock.write(_JOURNAL.finish(2.0))
    with pytest.raises(LockLostError):
        lock.renew()
    assert _JOURNAL == lock.read()


def test_duration_that_was_edited_is_put_back(real: _Real) -> None:
    """Others would go by it, and we do not."""
    lock = real.lock("ada")
    lock.acquire(_JOURNAL)
    real.cluster.patch(LEASES, lease_name("web"), {"spec": {"leaseDurationSeconds": 5}})

    lock.renew()

    holder = holder_of(real.cluster, "web")
    assert holder is not None
    assert 60.0 == holder.seconds


def test_duration_that_nobody_can_wait_for_is_named(real: _Real) -> None:
    """It takes a person, and the command is said."""
    real.lock("ada").acquire(_JOURNAL)
    real.cluster.patch(LEASES, lease_name("web"), {"spec": {"leaseDurationSeconds": 1_000_000}})

    with pytest.raises(LockHeldError, match="deploytool lock release"):
        real.lock("eve").acquire(_JOURNAL, is_resuming=True)


def test_renewal_after_a_write_whose_answer_was_lost(real: _Real) -> None:
    """The journal does not go back to what it was before."""
    lock = real.lock("ada")
    lock.acquire(_JOURNAL)
    real.sim.faults.add(Fault("PATCH", "leases/", is_cut=True, is_after=True))
    with pytest.raises(TransientError):
        lock.write(_JOURNAL.finish(2.0))

    lock.renew()

    assert _JOURNAL.finish(2.0) == lock.read()


def test_change_without_an_answer_proves_nothing(real: _Real) -> None:
    """It may have been made long before we see that it was: others have counted since."""
    lock = real.lock("ada")
    lock.acquire(_JOURNAL)
    real.sim.faults.add(Fault("PATCH", "leases/", is_cut=True, is_after=True))
    with pytest.raises(TransientError):
        lock.write(_JOURNAL.finish(2.0))
    real.advance(30.0)
    before = real.cluster.get(LEASES, lease_name("web"))["spec"]["renewTime"]

    lock.write(_JOURNAL.finish(2.0))

    assert before < real.cluster.get(LEASES, lease_name("web"))["spec"]["renewTime"]
    real.advance(39.0)
    lock.require()


def test_taking_it_whose_answer_is_lost(real: _Real) -> None:
    """From one that was released before: the second try finds that it is ours, and does not wait for ourselves."""
    real.lock("ada").acquire(_ENDED)
    real.advance(100.0)
    lock = real.lock("eve")
    real.sim.faults.add(Fault("PATCH", "leases/", is_cut=True, is_after=True))
    with pytest.raises(TransientError):
        lock.acquire(_JOURNAL)
    at = real.clock.at

    lock.acquire(_JOURNAL)

    assert at == real.clock.at
    lock.renew()


def test_conflict_while_taking_it_is_nobody(real: _Real) -> None:
    """A conflict with somebody who does not hold it: it is tried again, and not waited for again."""
    real.lock("ada").acquire(_JOURNAL)
    lock = real.lock("eve")
    real.sim.faults.add(Fault("PATCH", "leases/", 409))
    with pytest.raises(TransientError):
        lock.acquire(_JOURNAL, is_resuming=True)
    at = real.clock.at

    lock.acquire(_JOURNAL, is_resuming=True)

    assert at == real.clock.at


def test_journal_of_an_older_version_can_be_resumed(real: _Real) -> None:
    """It says the same with fewer fields."""
    real.lock("ada").acquire(_JOURNAL)
    old = {name: value for name, value in json.loads(_JOURNAL.to_json()).items() if name != "drill"}
    notes = {"slackwater.dev/rollout-journal": json.dumps(old)}
    real.cluster.patch(LEASES, lease_name("web"), {"metadata": {"annotations": notes}})
    lock = real.lock("eve")
    journal = lock.read()
    assert journal is not None

    lock.acquire(journal, is_resuming=True)


def test_journal_that_is_too_long_is_stored_all_the_same(real: _Real) -> None:
    """Twice beside each other in the annotations of one object, which have 256 KiB together."""
    journal = replace(_JOURNAL, reason="\U0001f600" * 5000, failure="x" * 100_000)
    for _ in range(100):
        journal = journal.begin(Phase.ANNOUNCE, 1.0).finish(2.0, "\U0001f600" * 300)
    lock = real.lock("ada")

    lock.acquire(journal)
    lock.write(journal)

    stored = lock.read()
    assert stored is not None
    assert journal.steps[-1].begun_at == stored.steps[-1].begun_at
    assert len(journal.to_json()) * 2 < 200_000
    assert stored.to_json() == journal.to_json()
    real.lock("eve").acquire(stored, is_resuming=True)
    release_by_force(real.cluster, "web", who="bob", reason="x" * 100_000)
