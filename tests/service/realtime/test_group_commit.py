from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from service.core.codes import Error, Errors
from service.core.stream import Position
from service.errors import DatabaseUnavailable, NotCommitted, Overtaken, RowsRefused
from service.realtime.durable_streams import DurableLimits
from service.realtime.group_commit import CommitLimits
from service.realtime.ports import Appended, Draft
from tests.support.clock import ManualClock
from tests.support.durable import Durable, running
from tests.support.stream_tables import FakeStreamTables, Fault, Tables


@pytest.fixture
async def durable() -> AsyncIterator[Durable]:
    """A process over an empty database."""
    async with running() as durable:
        yield durable


async def at_once(*works: Coroutine[Any, Any, Appended | Error]) -> list[Appended | Error]:
    """Do several things at the same time, beginning in this order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


def place(outcome: Appended | Error) -> int:
    """Return the offset of something that was kept."""
    assert isinstance(outcome, Appended)
    assert outcome.position is not None
    return outcome.position.offset


def marks(durable: Durable, *ids: int) -> list[bool]:
    """Return whether outbox rows are published."""
    return [durable.tables.tables.outbox[outbox_id] for outbox_id in ids]


class TestGroups:
    """What goes together."""

    async def test_what_arrives_together_is_one_commit(self, durable: Durable) -> None:
        """In the order of arrival."""
        outcomes = await at_once(*(durable.publish(b"%d" % number) for number in range(5)))

        assert [5] == durable.tables.groups
        assert [1, 2, 3, 4, 5] == [place(outcome) for outcome in outcomes]
        assert [(number + 1, b"%d" % number) for number in range(5)] == durable.of("room")

    async def test_what_arrives_during_a_commit_goes_with_the_next(self, durable: Durable) -> None:
        """And offsets are given out when that one starts."""
        gate = durable.hold("append")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(durable.publish(b"1"))
            await durable.until_held()
            others = [group.create_task(durable.publish(b"%d" % number)) for number in (2, 3)]
            await asyncio.sleep(0)
            assert [] == durable.delivered
            gate.set()

        assert [1, 2] == durable.tables.groups
        assert [1, 2, 3] == [place(task.result()) for task in (first, *others)]

    @pytest.mark.parametrize(("count", "groups"), [(4, [4]), (5, [4, 1])])
    async def test_a_group_is_bounded_in_rows(self, count: int, groups: list[int]) -> None:
        """At the bound and one past it."""
        async with running(limits=DurableLimits(CommitLimits(group_rows=4))) as durable:
            await at_once(*(durable.publish() for _ in range(count)))

            assert groups == durable.tables.groups

    @pytest.mark.parametrize(("size", "groups"), [(744, [4]), (745, [3, 1])])
    async def test_a_group_is_bounded_in_bytes(self, size: int, groups: list[int]) -> None:
        """At the bound and one past it; each row counts 256 bytes more than its payload."""
        async with running(limits=DurableLimits(CommitLimits(group_bytes=4_000))) as durable:
            await at_once(*(durable.publish(b"x" * size) for _ in range(4)))

            assert groups == durable.tables.groups

    async def test_a_publication_that_is_larger_than_a_group_goes_alone(self) -> None:
        """Else it would never go."""
        async with running(limits=DurableLimits(CommitLimits(group_bytes=1_000))) as durable:
            await at_once(*(durable.publish(b"x" * 2_000) for _ in range(2)))

            assert [1, 1] == durable.tables.groups

    async def test_answers_come_behind_all_deliveries_of_the_group(self, durable: Durable) -> None:
        """Whoever is answered has been served."""
        seen: list[int] = []

        async def publish() -> Appended | Error:
            outcome = await durable.publish()
            seen.append(len(durable.delivered))
            return outcome

        await at_once(*(publish() for _ in range(3)))

        assert [3, 3, 3] == seen

    async def test_a_defect_in_a_delivery_fails_nothing_else(self, durable: Durable) -> None:
        """It is noted, and the publication is kept all the same."""

        def fail() -> None:
            raise OSError("a defect")

        durable.on_delivery = fail
        outcomes = await at_once(durable.publish(), durable.publish())

        assert [1, 2] == [place(outcome) for outcome in outcomes]
        assert 2 == len(durable.observer.failures)

    async def test_a_publisher_that_goes_away_changes_nothing_for_others(self, durable: Durable) -> None:
        """What it published is kept, and everybody else is answered."""
        gate = durable.hold("append")
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(durable.publish(b"1"))
            stays = group.create_task(durable.publish(b"2"))
            await durable.until_held()
            gone.cancel()
            gate.set()

        assert 2 == place(stays.result())
        assert [1, 2] == [offset for offset, _ in durable.of("room")]

    @pytest.mark.parametrize("limits", [CommitLimits(waiting_rows=2), CommitLimits(waiting_bytes=500)])
    async def test_the_queue_is_bounded(self, limits: CommitLimits) -> None:
        """What comes past the bound is refused at once, and may be tried again."""
        async with running(limits=DurableLimits(limits)) as durable:
            gate = durable.hold("append")
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(durable.publish())]
                await durable.until_held()
                tasks += [group.create_task(durable.publish()) for _ in range(2)]
                await asyncio.sleep(0)
                assert 2 == durable.store.waiting
                assert Errors.TOO_MANY_REQUESTS == await durable.publish()
                gate.set()

            assert [1, 2, 3] == [place(task.result()) for task in tasks]
            assert 4 == place(await durable.publish())
            assert [("publications_waiting",)] == durable.observer.of("limited")

    async def test_what_skips_history_keeps_its_place_among_the_deliveries(self, durable: Durable) -> None:
        """It has no offset and needs no row, and yet it does not overtake."""
        await at_once(durable.publish(b"1"), durable.publish(b"-", skip_history=True), durable.publish(b"2"))

        assert [(1, b"1"), (0, b"-"), (2, b"2")] == durable.of("room")
        assert [2] == durable.tables.groups


class TestKeys:
    """Exactly once, whatever happens in between."""

    async def test_two_with_one_key_in_flight_share_one_commit(self, durable: Durable) -> None:
        """Both get the position of the first, also when the second comes while the first is committed."""
        gate = durable.hold("append")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(durable.publish(b"%d" % number, idempotency_key="k")) for number in range(2)]
            await durable.until_held()
            tasks.append(group.create_task(durable.publish(b"3", idempotency_key="k")))
            await asyncio.sleep(0)
            gate.set()

        assert [1, 1, 1] == [place(task.result()) for task in tasks]
        assert [1] == durable.tables.groups
        assert [(1, b"0")] == durable.of("room")

    @pytest.mark.parametrize(("seconds", "is_known"), [(299.9, True), (300.0, False)])
    async def test_a_successor_knows_the_keys(self, seconds: float, *, is_known: bool) -> None:
        """From the database, for as long as they are remembered."""
        tables, clock = Tables(), ManualClock()
        async with running(tables, clock=clock) as durable:
            await durable.publish(b"1", idempotency_key="k")
        clock.advance(seconds)
        async with running(tables, clock=clock) as durable:
            outcome = await durable.publish(b"2", idempotency_key="k")

            assert is_known is (1 == place(outcome))
            assert (1 if is_known else 2) == place(await durable.publish(b"3", idempotency_key="k"))

    async def test_the_database_is_not_asked_when_memory_knows_all(self) -> None:
        """From the time on after which no result from before can count."""
        clock = ManualClock()
        async with running(clock=clock) as durable:
            await durable.publish(idempotency_key="a")
            clock.advance(299.9)
            await durable.publish(idempotency_key="b")
            assert 2 == durable.tables.calls["results"]
            clock.advance(0.1)
            await durable.publish(idempotency_key="c")

            assert 2 == durable.tables.calls["results"]

    async def test_a_failure_leaves_the_key_free(self, durable: Durable) -> None:
        """Who tries again is published."""
        durable.tables.fail("append", Fault.unavailable())
        outcomes = [await durable.publish(b"%d" % number, idempotency_key="k") for number in range(2)]

        assert Errors.INTERNAL == outcomes[0]
        assert 1 == place(outcomes[1])
        assert [(1, b"1")] == durable.of("room")

    async def test_too_many_results_are_looked_up(self, durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
        """Memory is bounded; what it forgot the database still knows."""
        monkeypatch.setattr("service.realtime.group_commit._MAX_RESULTS", 2)
        for number in range(4):
            await durable.publish(idempotency_key=f"k{number}")
        durable.clock.advance(250.0)
        durable.store.expire(durable.clock.now(), ())

        assert [1, 4] == [place(await durable.publish(idempotency_key=key)) for key in ("k0", "k3")]


class TestTrouble:
    """The database fails, and nobody else has taken over."""

    async def test_unavailable_fails_the_group_and_changes_nothing(self, durable: Durable) -> None:
        """The next publication gets the offset."""
        durable.tables.fail("append", Fault.unavailable("the disk is full"))
        outcomes = await at_once(durable.publish(b"1"), durable.publish(b"2"))
        assert [Errors.INTERNAL] * 2 == outcomes
        assert [] == durable.delivered
        assert "the disk is full" == durable.store.degraded

        assert 1 == place(await durable.publish(b"3"))
        assert "" == durable.store.degraded
        assert [(1, b"3")] == durable.of("room")

    async def test_what_waits_behind_a_failure_fails_with_it(self, durable: Durable) -> None:
        """It must not overtake what failed, and would have to wait for another failure."""
        gate = durable.hold("append", Fault.unavailable())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(durable.publish(b"1"))]
            await durable.until_held()
            tasks.append(group.create_task(durable.publish(b"2")))
            await asyncio.sleep(0)
            gate.set()

        assert [Errors.INTERNAL] * 2 == [task.result() for task in tasks]
        assert 0 == durable.store.waiting

    @pytest.mark.parametrize("method", ["epoch", "heads", "results"])
    async def test_what_cannot_be_learned_fails_the_group(self, durable: Durable, method: str) -> None:
        """And is asked for again."""
        durable.tables.fail(method, Fault.unavailable())

        assert Errors.INTERNAL == await durable.publish(idempotency_key="k")
        assert 1 == place(await durable.publish(idempotency_key="k"))

    async def test_reading_goes_on_from_memory(self, durable: Durable) -> None:
        """Whoever is in a channel that is known may come back to it."""
        await durable.fill(2)
        durable.tables.broken = DatabaseUnavailable("gone")

        assert Errors.INTERNAL == await durable.publish()
        assert 2 == len((await durable.read()).items)
        with pytest.raises(DatabaseUnavailable):
            await durable.read("other")

    async def test_reading_does_not_hide_that_nothing_can_be_written(self, durable: Durable) -> None:
        """A full disk can be read all the while."""
        durable.tables.fail("append", Fault.unavailable("the disk is full"))
        await durable.publish()
        await durable.read("other")
        assert "the disk is full" == durable.store.degraded

        durable.tables.fail("heads", Fault.unavailable("slow"))
        with pytest.raises(DatabaseUnavailable):
            await durable.read("another")
        await durable.store.tend()

        assert "" == durable.store.degraded

    async def test_finds_out_by_itself_when_the_database_works_again(self, durable: Durable) -> None:
        """Also when nobody publishes."""
        durable.tables.broken = DatabaseUnavailable("gone")
        await durable.publish()
        await durable.store.tend()
        assert "gone" == durable.store.degraded

        durable.tables.broken = None
        await durable.store.tend()

        assert "" == durable.store.degraded
        assert ["database.degraded", "database.recovered"] == [name for name, _ in durable.observer.of("noted")]

    async def test_a_refused_row_fails_alone(self) -> None:
        """With a reason; the others keep their order and get offsets without a gap."""
        async with running(fake=FakeStreamTables(refuses=lambda row: b"bad" in row.data)) as durable:
            outcomes = await at_once(*(durable.publish(data) for data in (b"1", b"bad", b"2", b"bad", b"3")))

            refused = Error(107, "bad request: refused for what is in it")
            assert [refused, refused] == [outcomes[1], outcomes[3]]
            assert [1, 2, 3] == [place(outcomes[index]) for index in (0, 2, 4)]
            assert [(1, b"1"), (2, b"2"), (3, b"3")] == durable.of("room")
            assert "" == durable.store.degraded

    @pytest.mark.parametrize("bad", [[0], [8], [3, 4], list(range(9))])
    async def test_refused_rows_are_found_by_halving(self, bad: list[int]) -> None:
        """Where the database does not say which they are."""
        fake = FakeStreamTables(refuses=lambda row: b"bad" in row.data, tells_indexes=False)
        async with running(fake=fake) as durable:
            outcomes = await at_once(
                *(durable.publish(b"bad" if number in bad else b"%d" % number) for number in range(9))
            )

            assert bad == [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Error)]
            assert list(range(1, 10 - len(bad))) == [place(item) for item in outcomes if isinstance(item, Appended)]

    async def test_a_failure_while_halving_fails_the_rest(self) -> None:
        """Nothing overtakes what failed."""
        fake = FakeStreamTables()
        fake.fail("append", Fault(RowsRefused("bad")), Fault(), Fault.unavailable())
        async with running(fake=fake) as durable:
            outcomes = await at_once(*(durable.publish(b"%d" % number) for number in range(4)))

            assert [True, True, False, False] == [isinstance(outcome, Appended) for outcome in outcomes]
            assert [(1, b"0"), (2, b"1")] == durable.of("room")

    async def test_the_second_with_a_key_is_published_when_the_first_is_refused(self) -> None:
        """It had shared the commit of something that is not there."""
        async with running(fake=FakeStreamTables(refuses=lambda row: row.data == b"bad")) as durable:
            outcomes = await at_once(
                durable.publish(b"bad", idempotency_key="k"), durable.publish(b"good", idempotency_key="k")
            )

            assert isinstance(outcomes[0], Error)
            assert 1 == place(outcomes[1])
            assert [(1, b"good")] == durable.of("room")

    async def test_a_refused_version_is_not_remembered(self) -> None:
        """The next one is not outdated by it."""
        async with running(fake=FakeStreamTables(refuses=lambda row: row.data == b"bad")) as durable:
            outcomes = await at_once(durable.publish(b"bad", version=9), durable.publish(b"good", version=2))

            assert [False, True] == [isinstance(outcome, Appended) for outcome in outcomes]
            assert [(1, b"good")] == durable.of("room")

    async def test_a_version_survives_the_process(self) -> None:
        """What is older stays outdated."""
        tables = Tables()
        async with running(tables) as durable:
            await durable.publish(b"1", version=5, version_epoch="v")
        async with running(tables) as durable:
            outcome = await durable.publish(b"2", version=5, version_epoch="v")

            assert Appended(Position(1, "database"), None) == outcome
            assert 2 == place(await durable.publish(b"3", version=6, version_epoch="v"))


class TestUnknownOutcomes:
    """The connection was lost during a commit."""

    @pytest.mark.parametrize("is_committed", [False, True])
    async def test_nothing_is_appended_before_it_is_known(self, durable: Durable, *, is_committed: bool) -> None:
        """What was committed is delivered before anything newer; what was not is not there."""
        await durable.fill(1)
        gate = durable.hold("heads")
        durable.tables.fail("append", Fault.unknown(is_committed=is_committed))
        assert Errors.INTERNAL == await durable.publish(b"lost")
        assert durable.store.degraded
        async with asyncio.TaskGroup() as group:
            await durable.until_held()
            task = group.create_task(durable.publish(b"next"))
            await asyncio.sleep(0)
            assert 2 == durable.tables.calls["append"]
            gate.set()

        expected = [b"1", b"lost", b"next"] if is_committed else [b"1", b"next"]
        assert list(enumerate(expected, 1)) == durable.of("room")
        assert len(expected) == place(task.result())
        assert "" == durable.store.degraded

    async def test_is_found_out_without_anybody_publishing(self, durable: Durable) -> None:
        """Subscribers get it at once, and not with the next publication."""
        delivered = asyncio.Event()
        durable.on_delivery = delivered.set
        durable.tables.fail("append", Fault.unknown(is_committed=True))
        await durable.publish(b"1")
        async with asyncio.timeout(5):
            await delivered.wait()

        assert [(1, b"1")] == durable.of("room")

    async def test_waits_for_a_database_that_does_not_answer(self, durable: Durable) -> None:
        """Meanwhile publishers are answered, and nothing else is appended."""
        await durable.fill(1)
        durable.tables.fail("append", Fault.unknown(is_committed=True))
        durable.tables.fail("heads", *[Fault.unavailable("restarting")] * 3)
        await durable.publish(b"lost")
        for _ in range(3):
            assert Errors.INTERNAL == await durable.publish(b"too early")
            await durable.end_nap()

        assert 3 == place(await durable.publish(b"next"))
        assert [(1, b"1"), (2, b"lost"), (3, b"next")] == durable.of("room")

    @pytest.mark.parametrize("seconds", [0.0, 1000.0])
    @pytest.mark.parametrize("is_committed", [False, True])
    async def test_a_key_is_published_once(self, durable: Durable, seconds: float, *, is_committed: bool) -> None:
        """The publisher tries again with the same key, be the process young or old."""
        durable.clock.advance(seconds)
        durable.tables.fail("append", Fault.unknown(is_committed=is_committed))
        assert Errors.INTERNAL == await durable.publish(b"1", idempotency_key="k")

        assert 1 == place(await durable.publish(b"1", idempotency_key="k"))
        assert [(1, b"1")] == durable.of("room")

    @pytest.mark.parametrize("is_committed", [False, True])
    async def test_a_defect_is_an_unknown_outcome_too(self, durable: Durable, *, is_committed: bool) -> None:
        """And is noted as a defect."""
        durable.tables.fail("append", Fault(OSError("a defect"), is_committed=is_committed))

        assert Errors.INTERNAL == await durable.publish(b"1")
        assert (2 if is_committed else 1) == place(await durable.publish(b"2"))
        assert ["a defect"] == [str(failure) for failure in durable.observer.failures]

    async def test_a_commit_that_comes_late_is_taken_in(self, durable: Durable) -> None:
        """Whoever appends behind it finds its place taken, and delivers it first."""
        await durable.fill(1)
        durable.tables.fail("append", Fault.unknown(is_committed=False))
        await durable.publish(b"late", idempotency_key="k")
        assert 1 == (await durable.read()).top.offset
        # The server had it all the time, and does it now.
        other = FakeStreamTables(durable.tables.tables)
        async with running(fake=other, clock=durable.clock) as late:
            await late.publish(b"late", idempotency_key="k")

        assert Errors.INTERNAL == await durable.publish(b"next")
        assert 2 == place(await durable.publish(b"late", idempotency_key="k"))
        assert 3 == place(await durable.publish(b"next"))
        assert [(1, b"1"), (2, b"late"), (3, b"next")] == durable.of("room")

    async def test_a_database_that_went_back_is_read_anew(self, durable: Durable) -> None:
        """Somebody has put an old copy in its place; its offsets are what counts then."""
        await durable.fill(3)
        durable.tables.tables.streams["room"] = durable.tables.tables.streams["room"]._replace(top=1)

        assert Errors.INTERNAL == await durable.publish(b"x")
        assert 2 == place(await durable.publish(b"x"))

    async def test_rows_that_are_gone_already_are_not_invented(self, durable: Durable) -> None:
        """The stream is read anew, and its members find the gap."""
        await durable.fill(1)
        async with running(durable.tables.tables, clock=durable.clock) as other:
            await other.fill(2, first=2)
        del durable.tables.tables.publications["room"][2]

        assert Errors.INTERNAL == await durable.publish(b"x")
        assert 4 == place(await durable.publish(b"x"))
        assert [(1, b"1"), (4, b"x")] == durable.of("room")


class TestTenure:
    """The right to commit."""

    async def test_nothing_is_sent_without_it(self, durable: Durable) -> None:
        """It is compared right before the commit."""
        await durable.fill(1)
        durable.tenure.end()

        assert Errors.INTERNAL == await durable.publish()
        assert 1 == durable.tables.calls["append"]

    async def test_it_may_run_out_while_heads_are_read(self, durable: Durable) -> None:
        """Then nothing is sent either."""
        gate = durable.hold("heads")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(durable.publish())
            await durable.until_held()
            durable.clock.advance(2e9)
            gate.set()

        assert Errors.INTERNAL == task.result()
        assert 0 == durable.tables.calls["append"]

    async def test_nothing_is_delivered_when_it_ran_out_during_the_commit(self, durable: Durable) -> None:
        """Whoever serves now delivers it."""
        gate = durable.hold("append")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(durable.publish())
            await durable.until_held()
            durable.clock.sleep(2e9)
            gate.set()

        assert Errors.INTERNAL == task.result()
        assert [] == durable.delivered
        assert 1 == durable.tables.tables.streams["room"].top

    async def test_overtaken_is_reported(self, durable: Durable) -> None:
        """Nothing was committed, and everything fails until the tenure is ended."""
        await durable.fill(1)
        durable.tables.tables.token = 2

        assert [Errors.INTERNAL] * 2 == await at_once(durable.publish(), durable.publish())
        with pytest.raises(NotCommitted):
            await durable.store.remove(durable.channel())
        assert 2 == durable.overtaken
        assert [(1, b"1")] == durable.of("room")

    async def test_the_next_tenure_begins_with_nothing_known(self, durable: Durable) -> None:
        """Others have published in between."""
        await durable.fill(1)
        durable.tenure.end()
        durable.store.reset()
        durable.tables.tables.token = 2
        async with running(durable.tables.tables, clock=durable.clock) as other:
            await other.publish(b"theirs", idempotency_key="k")
        durable.tables.tables.token = 3
        durable.tenure.begin(3, durable.clock.boot())

        assert 2 == place(await durable.publish(b"again", idempotency_key="k"))
        assert 3 == place(await durable.publish(b"mine"))
        assert [(1, b"1"), (3, b"mine")] == durable.of("room")

    async def test_a_new_token_alone_is_enough_to_forget(self, durable: Durable) -> None:
        """Nobody has to remember to say so."""
        await durable.fill(1)
        async with running(durable.tables.tables, clock=durable.clock) as other:
            await other.fill(1, first=2)
        durable.tables.tables.token = 2
        durable.tenure.begin(2, durable.clock.boot())

        assert 2 == (await durable.read()).top.offset
        assert 3 == place(await durable.publish())

    @pytest.mark.parametrize("error", [None, Overtaken()])
    async def test_what_ends_under_another_tenure_changes_nothing_of_it(
        self, durable: Durable, error: Overtaken | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It neither delivers nor ends the new one; what it has committed was there when that one began."""
        await durable.fill(1)
        gate = durable.hold("append", Fault(error))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(durable.publish(b"2"))
            await durable.until_held()
            if error is None:
                # It is done, and the answer is on its way.
                assert durable.tables.commit_late()
                monkeypatch.setattr(durable.tables, "_commit", lambda *_: None)
            durable.tenure.end()
            durable.store.reset()
            durable.tables.tables.token = 2
            durable.tenure.begin(2, durable.clock.boot())
            durable.store.reset()
            await durable.read()
            gate.set()

        monkeypatch.undo()
        assert Errors.INTERNAL == task.result()
        assert (0, "") == (durable.overtaken, durable.store.degraded)
        assert [(1, b"1")] == durable.of("room")
        assert (3 if error is None else 2) == place(await durable.publish(b"3"))

    @pytest.mark.parametrize("method", ["remove", "renew"])
    async def test_changes_are_of_their_tenure_too(self, durable: Durable, method: str) -> None:
        """Whatever becomes of them."""
        await durable.fill(1)
        gate = durable.hold(method, Fault(Overtaken()))
        async with asyncio.TaskGroup() as group:
            work = durable.store.remove if method == "remove" else durable.store.diverged
            task = group.create_task(self._refused(work(durable.channel())))
            await durable.until_held()
            durable.tables.tables.token = 2
            durable.tenure.begin(2, durable.clock.boot())
            gate.set()

        assert (method == "remove") is task.result()
        assert 0 == durable.overtaken
        assert 1 == len((await durable.read()).items)

    @staticmethod
    async def _refused(work: Coroutine[Any, Any, None]) -> bool:
        try:
            await work
        except NotCommitted:
            return True
        return False

    async def test_reset_answers_who_waits(self, durable: Durable) -> None:
        """At once, and what is under way is not taken in any more."""
        gate = durable.hold("append")
        async with asyncio.TaskGroup() as group:
            under_way = group.create_task(durable.publish())
            await durable.until_held()
            waiting = group.create_task(durable.publish())
            await asyncio.sleep(0)
            durable.tenure.end()
            durable.store.reset()
            assert Errors.INTERNAL == await waiting
            gate.set()

        assert Errors.INTERNAL == under_way.result()
        assert [] == durable.delivered

    async def test_an_unknown_outcome_is_the_successors_business(self, durable: Durable) -> None:
        """Whoever has no tenure any more does not look for it."""
        await durable.fill(1)
        durable.tables.fail("append", Fault.unknown(is_committed=True))
        gate = durable.hold("heads", Fault.unavailable())
        await durable.publish(b"2")
        await durable.until_held()
        durable.tenure.end()
        durable.store.reset()
        gate.set()
        durable.tables.tables.token = 2
        durable.tenure.begin(2, durable.clock.boot())

        assert 3 == place(await durable.publish(b"3"))
        assert [(1, b"1"), (3, b"3")] == durable.of("room")


class TestOutbox:
    """Rows that are marked with their publications."""

    @staticmethod
    def add(durable: Durable, count: int) -> list[int]:
        """Add rows that wait."""
        outbox = durable.tables.tables.outbox
        ids = list(range(len(outbox) + 1, len(outbox) + 1 + count))
        outbox |= dict.fromkeys(ids, False)
        return ids

    async def test_marks_with_the_commit(self, durable: Durable) -> None:
        """In one group, in order."""
        ids = self.add(durable, 3)
        drafts = [(durable.channel("ab"[index % 2]), Draft(b"%d" % index), ids[index]) for index in range(3)]
        outcomes = await durable.store.append_all(drafts)

        assert [1, 1, 2] == [place(outcome) for outcome in outcomes]
        assert [True] * 3 == marks(durable, *ids)
        assert [3] == durable.tables.groups
        assert ["a", "b", "a"] == [name for name, _, _ in durable.delivered]

    async def test_what_is_not_durable_is_delivered_and_then_marked(self, durable: Durable) -> None:
        """In its place between the others."""
        ids = self.add(durable, 3)
        plain = durable.channel("plain", durability="memory")
        drafts = [
            (durable.channel("a"), Draft(b"1"), ids[0]),
            (plain, Draft(b"2"), ids[1]),
            (durable.channel("a"), Draft(b"3"), ids[2]),
        ]
        outcomes = await durable.store.append_all(drafts)

        assert [True] * 3 == marks(durable, *ids)
        assert [b"1", b"2", b"3"] == [data for _, _, data in durable.delivered]
        assert [1, 1, 2] == [place(outcome) for outcome in outcomes]
        assert {"a"} == set(durable.tables.tables.streams)

    async def test_what_is_not_durable_is_delivered_once_while_marking_fails(self, durable: Durable) -> None:
        """The relay tries again until the mark is there."""
        ids = self.add(durable, 1)
        drafts = [(durable.channel("plain", durability="memory"), Draft(b"1"), ids[0])]
        durable.tables.fail("append", Fault.unavailable(), Fault.unavailable())
        outcomes = [(await durable.store.append_all(drafts))[0] for _ in range(3)]

        assert [Errors.INTERNAL] * 2 == outcomes[:2]
        assert 1 == place(outcomes[2])
        assert 1 == len(durable.delivered)
        assert [True] == marks(durable, *ids)

    async def test_a_repetition_marks_its_row_too(self, durable: Durable) -> None:
        """Its key or its version says that there is nothing to publish."""
        await durable.publish(b"1", idempotency_key="k", version=3)
        ids = self.add(durable, 2)
        drafts = [
            (durable.channel(), Draft(b"2", idempotency_key="k"), ids[0]),
            (durable.channel(), Draft(b"3", version=3), ids[1]),
        ]

        assert [1, 1] == [place(outcome) for outcome in await durable.store.append_all(drafts)]
        assert [True] * 2 == marks(durable, *ids)
        assert 1 == len(durable.delivered)

    @pytest.mark.parametrize("is_committed", [False, True])
    async def test_a_batch_of_unknown_outcome_is_published_once(self, durable: Durable, *, is_committed: bool) -> None:
        """Even when the relay comes again with rows that it read before the outcome was known."""
        ids = self.add(durable, 2)
        drafts = [(durable.channel(), Draft(b"%d" % outbox_id), outbox_id) for outbox_id in ids]
        durable.tables.fail("append", Fault.unknown(is_committed=is_committed))

        assert [Errors.INTERNAL] * 2 == await durable.store.append_all(drafts)
        assert [1, 2] == [place(outcome) for outcome in await durable.store.append_all(drafts)]
        assert [1, 2] == [offset for offset, _ in durable.of("room")]
        assert [True] * 2 == marks(durable, *ids)

    async def test_a_row_that_is_marked_already_is_not_published(self, durable: Durable) -> None:
        """The relay reads the table again, and finds it gone."""
        (outbox_id,) = self.add(durable, 1)
        durable.tables.tables.outbox[outbox_id] = True

        assert [Errors.INTERNAL] == await durable.store.append_all([(durable.channel(), Draft(b"1"), outbox_id)])
        assert [] == durable.delivered
        assert 1 == place(await durable.publish())

    async def test_a_refused_row_is_told(self) -> None:
        """So that it can be set aside."""
        async with running(fake=FakeStreamTables(refuses=lambda row: b"bad" in row.data)) as durable:
            ids = self.add(durable, 2)
            outcomes = await durable.store.append_all(
                [(durable.channel(), Draft(b"bad"), ids[0]), (durable.channel(), Draft(b"good"), ids[1])]
            )

            assert isinstance(outcomes[0], Error)
            assert not outcomes[0].temporary
            assert 1 == place(outcomes[1])
            assert [False, True] == marks(durable, *ids)

    async def test_a_batch_may_be_longer_than_the_queue(self) -> None:
        """There is one at a time."""
        async with running(limits=DurableLimits(CommitLimits(waiting_rows=1, group_rows=2))) as durable:
            ids = self.add(durable, 5)
            drafts = [(durable.channel(), Draft(b"1"), outbox_id) for outbox_id in ids]

            assert [1, 2, 3, 4, 5] == [place(outcome) for outcome in await durable.store.append_all(drafts)]


class TestChanges:
    """Removal and renewal keep their turn."""

    async def test_removal_waits_for_what_was_published_before(self, durable: Durable) -> None:
        """And what is published after it is there."""
        async with asyncio.TaskGroup() as group:
            group.create_task(durable.publish(b"1"))
            group.create_task(durable.store.remove(durable.channel()))
            group.create_task(durable.publish(b"2"))
        page = await durable.read()

        assert [(2, b"2")] == [(item.offset, item.data) for item in page.items]
        assert [2] == list(durable.tables.tables.publications["room"])

    @pytest.mark.parametrize("is_committed", [False, True])
    async def test_removal_of_unknown_outcome_shows_what_is_there(
        self, durable: Durable, *, is_committed: bool
    ) -> None:
        """The database is asked again."""
        await durable.fill(2)
        durable.tables.fail("remove", Fault.unknown(is_committed=is_committed))
        with pytest.raises(NotCommitted):
            await durable.store.remove(durable.channel())
        page = await durable.read()

        assert (0 if is_committed else 2, 2) == (len(page.items), page.top.offset)

    @pytest.mark.parametrize("error", [DatabaseUnavailable("gone"), OSError("a defect")])
    async def test_removal_that_fails_says_so(self, durable: Durable, error: Exception) -> None:
        """Nothing is forgotten."""
        await durable.fill(2)
        durable.tables.fail("remove", Fault(error))
        with pytest.raises(NotCommitted):
            await durable.store.remove(durable.channel())

        assert 2 == len((await durable.read()).items)

    async def test_a_new_epoch_survives_the_process(self) -> None:
        """Whoever was ahead of the top must not be taken for somebody who is not."""
        tables = Tables()
        async with running(tables) as durable:
            await durable.fill(1)
            await durable.store.diverged(durable.channel())
            told = (await durable.read()).top
        async with running(tables) as durable:
            assert told == (await durable.read()).top
            assert "database" != told.epoch

    async def test_a_new_epoch_of_a_channel_without_a_row_writes_nothing(self, durable: Durable) -> None:
        """Subscribing writes nothing, whatever position a client claims to have."""
        await durable.store.diverged(durable.channel())

        assert 0 == durable.tables.calls["renew"]
        assert {} == durable.tables.tables.streams

    async def test_renewal_that_fails_changes_nothing(self, durable: Durable) -> None:
        """It is only told that it did not recover; the next minute brings another chance."""
        await durable.fill(1)
        durable.tables.fail("renew", Fault(Overtaken()))
        before = (await durable.read()).top
        await durable.store.diverged(durable.channel())

        assert before == (await durable.read()).top
        assert 1 == durable.overtaken


async def test_the_end_of_the_process_answers_everybody() -> None:
    """Nobody waits for a commit that nobody finishes."""
    async with running() as durable:
        durable.hold("append")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(durable.publish())]
            await durable.until_held()
            tasks.append(group.create_task(durable.publish()))
            await asyncio.sleep(0)
            await durable.background.end(patience_seconds=0)

        assert [Errors.INTERNAL] * 2 == [task.result() for task in tasks]
