from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from service.core.codes import Disconnects, Errors
from service.core.phase import Phase
from service.core.tenure import Tenure
from service.errors import DatabaseUnavailable, DatabaseUnfit, NotCommitted
from service.realtime.admission import Admission, AdmissionLimits
from service.realtime.drainer import Origin
from service.realtime.lifecycle import Lifecycle
from service.realtime.ports import Draft
from service.realtime.publisher import Publisher
from service.realtime.succession import LocalLock, Succession
from service.realtime.ticker import Ticker
from tests.support.clock import ManualClock
from tests.support.instance_lock import FakeLock, LockPlace
from tests.support.observer import RecordingObserver
from tests.support.pauses import ManualPauses
from tests.support.surfaces import instance_of
from tests.support.world import World

PROVE, SERVE, WAIT = 2.0, 5.0, 6.0
SOON = 1.0
"""By when a lock that was let go has been found."""


class Process:
    """One process on a place that several share."""

    def __init__(self, place: LockPlace, pauses: ManualPauses, name: str = "one", **options: Any) -> None:  # noqa: ANN401 - options of Succession
        clock = place.clock
        self.pauses = pauses
        self.observer = RecordingObserver()
        self.lifecycle = Lifecycle(now=clock.now, wall=clock.wall, observer=self.observer)
        self.tenure = Tenure(clock.boot, SERVE)
        self.lock = options.pop("lock", None) or FakeLock(place, name)
        self.ended: list[str] = []
        options.setdefault("on_end", (lambda: self.ended.append("end"),))
        self.succession = Succession(
            self.lock,
            self.tenure,
            self.lifecycle,
            self.observer,
            boot=clock.boot,
            prove_seconds=PROVE,
            wait_seconds=WAIT,
            sleep=pauses.sleep,
            **options,
        )

    @property
    def phase(self) -> str:
        """Where it stands."""
        return self.lifecycle.phase.value

    @property
    def reason(self) -> str:
        """Why."""
        return self.lifecycle.reason

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        """Run it as the application does; at the end it is killed."""
        await self.succession.open()
        async with asyncio.TaskGroup() as tasks:
            loop = tasks.create_task(self.succession.run())
            await self.pauses.settle()
            yield self
            loop.cancel()

    async def end(self) -> None:
        """End cleanly."""
        self.succession.retire()
        await self.succession.close()


@pytest.fixture
def clock() -> ManualClock:
    """The time of all."""
    return ManualClock()


@pytest.fixture
def place(clock: ManualClock) -> LockPlace:
    """Where the locks meet."""
    return LockPlace(clock)


@pytest.fixture
def pauses(clock: ManualClock) -> ManualPauses:
    """What the loops wait by."""
    return ManualPauses(clock)


@pytest.fixture
def one(place: LockPlace, pauses: ManualPauses) -> Process:
    """The first process."""
    return Process(place, pauses)


@pytest.fixture
def two(place: LockPlace, pauses: ManualPauses) -> Process:
    """The second."""
    return Process(place, pauses, "two")


class TestStart:
    """Who serves from when on."""

    async def test_the_usual_start_serves_at_once(self, one: Process) -> None:
        """Before the loop has done anything."""
        await one.succession.first()
        assert "STARTING" == one.phase
        await one.succession.open()

        assert "ACTIVE" == one.phase
        assert one.succession.may_serve()
        assert ("database", True, 1) == (one.succession.kind, one.succession.is_held, one.succession.token)

    async def test_it_asks_but_once_before(self, one: Process, place: LockPlace) -> None:
        """Whoever calls."""
        await one.succession.first()
        await one.succession.first()
        await one.succession.open()

        assert [("one", "acquire")] == place.calls

    async def test_a_second_one_stands_by(self, one: Process, two: Process) -> None:
        """And says who has the lock, and since when."""
        async with one.running(), two.running():
            assert "STANDBY" == two.phase
            assert "one has the lock since 2027-01-15T08:00:00Z" == two.reason
            assert not two.succession.may_serve()
            assert (False, 0) == (two.succession.is_held, two.succession.token)
            facts = {"holder": "one", "since": "2027-01-15T08:00:00Z"}
            assert [("lock.occupied", facts)] == two.observer.of("noted")

    async def test_it_says_so_once(self, one: Process, two: Process, pauses: ManualPauses) -> None:
        """However often it asks."""
        async with one.running(), two.running():
            await pauses.advance(60)

            assert 1 == len(two.observer.of("noted"))
            assert "ACTIVE" == one.phase

    async def test_it_takes_over_from_one_that_ends(self, one: Process, two: Process, pauses: ManualPauses) -> None:
        """At once: that one said so."""
        async with one.running(), two.running():
            await pauses.advance(10)
            await one.end()
            await pauses.advance(SOON)

            assert "ACTIVE" == two.phase
            assert 2 == two.succession.token

    async def test_a_death_costs_the_wait(self, one: Process, two: Process, pauses: ManualPauses) -> None:
        """Counted from when the lock was got, and proven meanwhile."""
        await one.succession.open()
        async with two.running():
            one.lock.abandon()
            await pauses.advance(SOON)
            assert two.reason.startswith("the instance before this one did not say that it had ended")
            await pauses.advance(WAIT - SOON)
            assert "STANDBY" == two.phase
            assert not two.succession.may_serve()
            assert not two.succession.is_held
            await pauses.advance(SOON)

            assert "ACTIVE" == two.phase
            assert two.succession.may_serve()

    async def test_who_loses_the_lock_while_waiting_begins_anew(
        self, one: Process, two: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """Another one may have had it."""
        await one.succession.open()
        async with two.running():
            one.lock.abandon()
            await pauses.advance(4)
            place.trouble = DatabaseUnavailable("gone")
            await pauses.advance(3)
            assert "STANDBY" == two.phase
            assert "the database cannot be reached: gone" == two.reason
            place.trouble = None
            await pauses.advance(WAIT)
            assert "STANDBY" == two.phase
            await pauses.advance(PROVE * 2)

            assert "ACTIVE" == two.phase

    async def test_who_ends_while_waiting_hands_the_wait_on(
        self, one: Process, two: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """It cannot speak for the one before it."""
        await one.succession.open()
        async with two.running():
            one.lock.abandon()
            await pauses.advance(2)
            await two.end()

        assert place.owner is None
        assert not place.released

    async def test_a_database_that_cannot_be_reached_is_waited_for(
        self, one: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """Less and less often."""
        place.trouble = DatabaseUnavailable("nothing listens there")
        async with one.running():
            assert "STANDBY" == one.phase
            assert "the database cannot be reached: nothing listens there" == one.reason
            await pauses.advance(100)
            assert 12 < len(place.calls) < 20
            place.trouble = None
            await pauses.advance(4 * PROVE)

            assert "ACTIVE" == one.phase
            assert [] == one.observer.failures

    async def test_one_that_is_unfit_ends_the_start(self, one: Process, place: LockPlace) -> None:
        """No waiting mends it."""
        place.trouble = DatabaseUnfit("use another address")
        with pytest.raises(DatabaseUnfit, match="use another address"):
            await one.succession.first()

        assert "STARTING" == one.phase

    async def test_later_it_is_waited_for_too(
        self, one: Process, two: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """A process that runs is worth more than one that ends and starts."""
        async with one.running(), two.running():
            place.trouble = DatabaseUnfit("use another address")
            await pauses.advance(20)
            assert "the database cannot be used: use another address" == two.reason
            place.trouble = None
            await pauses.advance(20)

            assert {"ACTIVE", "STANDBY"} == {one.phase, two.phase}

    async def test_what_has_to_go_well_before(self, place: LockPlace, pauses: ManualPauses) -> None:
        """It is done until it went well, and not again."""
        outcomes: list[Exception | None] = [DatabaseUnavailable("not yet"), DatabaseUnavailable("not yet"), None]

        async def prepare() -> None:
            outcome = outcomes.pop(0)
            if outcome is not None:
                raise outcome

        process = Process(place, pauses, prepare=prepare)
        async with process.running():
            assert "STANDBY" == process.phase
            assert [] == place.calls
            await pauses.advance(10)

            assert "ACTIVE" == process.phase
            assert [] == outcomes

    async def test_nobody_is_served_before_the_hooks_are_done(self, place: LockPlace, pauses: ManualPauses) -> None:
        """They read what a predecessor has left, under the new token."""
        tokens: list[int] = []

        async def read() -> None:
            tokens.append(process.tenure.token)
            if len(tokens) < 3:
                raise DatabaseUnavailable("busy")

        process = Process(place, pauses, on_begin=(read,))
        async with process.running():
            assert "STANDBY" == process.phase
            assert process.succession.is_held
            assert not process.succession.may_serve()
            await pauses.advance(SOON)

            assert "ACTIVE" == process.phase
            assert [1, 1, 1] == tokens
            assert 0 == process.succession.losses


class TestTenure:
    """How it goes on, and how it ends."""

    async def test_it_goes_on_while_it_is_proven(self, one: Process, place: LockPlace, pauses: ManualPauses) -> None:
        """By one question every two seconds."""
        async with one.running():
            await pauses.advance(60)

            assert "ACTIVE" == one.phase
            assert 30 == place.calls.count(("one", "prove"))
            assert place.clock.boot() + SERVE == one.tenure.until

    async def test_a_question_without_an_answer_does_not_hold_up_the_end(
        self, one: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """Five seconds after the last one that was answered had been sent."""
        async with one.running():
            await pauses.advance(PROVE)
            place.is_silent = True
            await pauses.advance(SERVE - 0.001)
            assert one.succession.may_serve()
            await pauses.advance(0.001)
            assert "ACTIVE" == one.phase  # nobody has looked yet
            assert not one.succession.may_serve()

            assert "STANDBY" == one.phase
            assert "the lock could not be proven in time" == one.reason
            assert ["end"] == one.ended
            assert (False, 0, 1) == (one.succession.is_held, one.succession.token, one.succession.losses)

    async def test_it_comes_back_by_itself(self, one: Process, place: LockPlace, pauses: ManualPauses) -> None:
        """Under a new token, and without a wait: nobody was before it but itself."""
        async with one.running():
            place.is_silent = True
            await pauses.advance(SERVE)
            assert not one.succession.may_serve()
            place.is_silent = False
            await pauses.advance(SOON)

            assert "ACTIVE" == one.phase
            assert one.succession.may_serve()
            assert 2 == one.succession.token
            assert ["end"] == one.ended

    async def test_another_session_within_the_deadline_changes_nothing(
        self, one: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """The same token says that nobody had the lock meanwhile."""
        async with one.running():
            await pauses.advance(PROVE - 0.1)
            one.lock.abandon()
            place.trouble = DatabaseUnavailable("cut")
            await pauses.advance(2.9)
            assert one.succession.may_serve()
            place.trouble = None
            await pauses.advance(SOON)
            assert place.clock.boot() < one.tenure.until
            await pauses.advance(60)

            assert ("ACTIVE", 1, 0) == (one.phase, one.succession.token, one.succession.losses)
            assert [] == one.ended

    async def test_it_asks_more_often_while_there_is_trouble(
        self, one: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """There are but a few seconds left."""
        async with one.running():
            place.trouble = DatabaseUnavailable("cut")
            await pauses.advance(4.9)

            assert 5 < place.calls.count(("one", "prove")) < 10
            assert one.succession.may_serve()

    async def test_one_that_was_overtaken_stops_at_once(
        self, one: Process, two: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """By its next question at the latest."""
        async with one.running(), two.running():
            place.token += 1
            await pauses.advance(PROVE)

            assert ["end"] == one.ended
            assert not one.succession.may_serve()
            await pauses.advance(20)
            assert {"ACTIVE", "STANDBY"} == {one.phase, two.phase}

    async def test_a_commit_may_tell_it_sooner(self, one: Process) -> None:
        """Whoever commits compares the token too."""
        async with one.running():
            one.succession.overtaken()

            assert ("STANDBY", "another instance has taken over") == (one.phase, one.reason)
            assert ["end"] == one.ended

    async def test_a_process_that_was_stopped_serves_nobody_when_it_wakes(
        self, one: Process, two: Process, clock: ManualClock
    ) -> None:
        """The first comparison tells it, before any task of its own has run."""
        async with one.running():
            clock.sleep(30)
            assert not one.succession.may_serve()

            assert "STANDBY" == one.phase
            assert ["end"] == one.ended
            # Its lock is free now: the fake's session was cut.
            await two.succession.open()
            assert two.reason.startswith("the instance before this one")

    async def test_an_answer_that_came_too_late_revives_nothing(
        self, one: Process, pauses: ManualPauses, clock: ManualClock
    ) -> None:
        """Whatever it says."""
        async with one.running():
            await pauses.advance(PROVE - 0.5)
            clock.sleep(SERVE)
            await pauses.advance(0.5)

            assert ["end"] == one.ended
            await pauses.advance(SOON)
            assert 2 == one.succession.token

    async def test_a_defect_of_ours_ends_the_tenure_and_no_more(
        self, one: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """The loop goes on."""
        async with one.running():
            place.trouble = RuntimeError("a defect")
            await pauses.advance(3)
            assert ["end"] == one.ended
            assert "STANDBY" == one.phase
            place.trouble = None
            await pauses.advance(20)

            assert "ACTIVE" == one.phase
            assert one.observer.failures

    async def test_a_hook_that_fails_does_not_keep_the_others_from_theirs(
        self, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """Each drops something of its own."""
        ended: list[str] = []

        def fail() -> None:
            raise RuntimeError("a defect")

        process = Process(place, pauses, on_end=(fail, lambda: ended.append("other")))
        async with process.running():
            process.succession.overtaken()

            assert ["other"] == ended
            assert 1 == len(process.observer.failures)


class TestEnd:
    """The end of the process."""

    async def test_a_clean_end_says_so(self, one: Process, place: LockPlace) -> None:
        """And lets the lock go."""
        async with one.running():
            await one.end()

            assert (True, None) == (place.released, place.owner)
            assert not one.tenure.holds()

    async def test_a_tenure_goes_on_until_the_end(self, one: Process, pauses: ManualPauses) -> None:
        """A drain takes its time, and what is published meanwhile is kept."""
        async with one.running():
            one.succession.retire()
            await pauses.advance(25)

            assert one.succession.may_serve()
            assert 1 == one.succession.token

    async def test_one_that_is_lost_then_is_not_sought_again(
        self, one: Process, place: LockPlace, pauses: ManualPauses
    ) -> None:
        """Others wait for it."""
        async with one.running():
            one.succession.retire()
            place.is_silent = True
            await pauses.advance(SERVE)
            assert not one.succession.may_serve()
            place.is_silent = False
            await pauses.advance(20)

            assert "STANDBY" == one.phase
            assert place.owner is None

    async def test_whoever_stands_by_ends_at_once(self, one: Process, two: Process) -> None:
        """It has nothing to say."""
        async with one.running(), two.running():
            await two.end()

            assert "ACTIVE" == one.phase
            assert one.succession.may_serve()


async def test_a_process_that_shares_nothing_serves_always(place: LockPlace, pauses: ManualPauses) -> None:
    """And has no token."""
    process = Process(place, pauses, lock=LocalLock())
    async with process.running():
        await pauses.advance(1000)
        place.clock.sleep(1e6)

        assert ("ACTIVE", True) == (process.phase, process.succession.may_serve())
        assert ("local", True, 0) == (process.succession.kind, process.succession.is_held, process.succession.token)
        await process.end()
        assert not process.succession.may_serve()


class Stage:
    """A world whose instance shares a lock with others."""

    def __init__(self) -> None:
        self.world = world = World()
        self.place = place = LockPlace(world.clock)
        world.lifecycle.phase = Phase.STARTING
        self.succession = world.succession = Succession(
            FakeLock(place),
            world.tenure,
            world.lifecycle,
            world.observer,
            boot=place.clock.boot,
            prove_seconds=PROVE,
            wait_seconds=WAIT,
            on_end=(world.hub.send_all_away, world.drainer.reset, world.announcements.reset, world.memory.reset),
        )
        world.context = replace(world.context, may_serve=self.succession.may_serve)
        world.ticker = Ticker(world.context, world.lifecycle, world.announcements, world.drainer)
        self.admission = Admission(
            world.hub, world.lifecycle, AdmissionLimits(), world.observer, may_serve=self.succession.may_serve
        )


@pytest.fixture
async def stage() -> Stage:
    """One that serves."""
    stage = Stage()
    await stage.succession.open()
    assert Phase.ACTIVE is stage.world.lifecycle.phase
    return stage


class TestEverybodyStops:
    """What the end of a tenure means for those who are served, compared by nobody's timer."""

    async def test_an_upgrade_is_refused_from_then_on(self, stage: Stage) -> None:
        """With the answer that makes clients come back."""
        assert stage.admission.check("") is None
        stage.place.clock.sleep(SERVE)
        refusal = stage.admission.check("")

        assert refusal is not None
        assert (503, "phase", True) == (refusal.status, refusal.reason, refusal.retry_after > 0)

    async def test_nothing_that_was_held_is_delivered(self, stage: Stage) -> None:
        """The clients are sent away, to come back to whoever serves."""
        world = stage.world
        clients = [world.connected(str(number)) for number in range(3)]
        for client in clients:
            client.subscribe("plain:a")
        world.settle()
        world.publish("plain:a", b"1")
        world.settle()
        for client in clients:
            client.expect_push("pub", "plain:a")
        world.publish("plain:a", b"2")
        world.deliver()
        stage.place.clock.sleep(SERVE)
        world.settle()
        for client in clients:
            client.expect_no_push()
        world.ticker.tick()

        for client in clients:
            client.expect_closed(Disconnects.SHUTDOWN)
        world.assert_empty()

    async def test_a_command_is_not_answered(self, stage: Stage) -> None:
        """What it reads may be out of date, and what it publishes is lost."""
        world = stage.world
        client = world.connected("42")
        other = world.connected("43")
        stage.place.clock.sleep(SERVE)
        client.ask("publish", channel="plain:a", data={})

        client.expect_closed(Disconnects.SHUTDOWN)
        other.expect_closed(Disconnects.SHUTDOWN)
        assert Phase.STANDBY is world.lifecycle.phase

    async def test_everything_in_memory_is_dropped(self, stage: Stage) -> None:
        """Histories get another epoch, so that every client learns that it missed something."""
        world = stage.world
        before = world.publish("kept:a", b"1")
        world.announcements.announce(b'{"type":"maintenance"}', 60)
        stage.place.clock.sleep(SERVE)
        world.ticker.tick()
        world.tenure.begin(2, stage.place.clock.boot())
        after = world.publish("kept:a", b"1")

        assert before is not None
        assert after is not None
        assert 1 == after.offset
        assert before.epoch != after.epoch
        assert world.announcements.data is None

    async def test_nothing_is_published(self, stage: Stage) -> None:
        """By the application around it neither, which asks no API."""
        world = stage.world
        publisher = Publisher(world.memory, world.broker, world.observer, may_publish=stage.succession.may_serve)
        assert await publisher.publish(world.channel("kept:a"), Draft(b"1")) is not None
        stage.place.clock.sleep(SERVE)
        with pytest.raises(NotCommitted) as refused:
            await publisher.publish(world.channel("kept:a"), Draft(b"2"))

        assert Errors.INTERNAL == refused.value.error

    async def test_a_drain_under_way_is_over(self, stage: Stage) -> None:
        """Whoever waits for its end waits no longer."""
        world = stage.world
        world.connected("42")
        instance = replace(instance_of(world), succession=stage.succession)
        assert instance.drain(Origin.SIGNAL, grace_seconds=5, spread_seconds=5)
        assert not world.drainer.done.is_set()
        stage.place.clock.sleep(SERVE)
        world.ticker.tick()

        assert world.drainer.done.is_set()
        assert not instance.drain(Origin.SIGNAL)
