from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from typing_extensions import override

from service.core.codes import Error, Errors
from service.core.namespaces import BUILT_IN, Channel, Namespaces
from service.core.outbox import OutboxRow
from service.errors import DatabaseUnavailable, OutcomeUnknown, ServiceError
from service.realtime import outbox as module
from service.realtime.outbox import Outbox, OutboxOptions
from tests.conformance.outbox_table import OutboxTableSuite
from tests.support.clock import ManualClock
from tests.support.observer import RecordingObserver
from tests.support.outbox_streams import ListedStreams
from tests.support.outbox_table import Application, HandBell, MemoryOutbox, State

_DEADLINE_SECONDS = 10.0
_MESSAGE_BYTES = 100


class TestMemoryOutbox(OutboxTableSuite):
    """The fake is held to what the real tables are held to."""

    @pytest.fixture
    @override
    def application(self) -> Application:
        """An empty one."""
        return MemoryOutbox()


async def until(reached: Callable[[], bool]) -> None:
    """Give the others their turn until something has happened."""
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while not reached():  # noqa: ASYNC110 - what happens has no event of its own
            await asyncio.sleep(0)


class Setup:
    """A relay, and everything around it."""

    def __init__(self, *, poll_seconds: float = 1.0, max_tries: int = 3) -> None:
        self.clock = ManualClock()
        self.table = MemoryOutbox(self.clock.wall)
        self.streams = ListedStreams(self.table)
        self.observer = RecordingObserver()
        self.token = 1
        self.quota: dict[str, Error] = {}
        self.bell = HandBell()
        self.outbox = Outbox(
            self.table,
            self.streams.append_all,
            token=lambda: self.token,
            namespaces=Namespaces(BUILT_IN),
            options=OutboxOptions(
                message_bytes=_MESSAGE_BYTES, poll_seconds=poll_seconds, max_tries=max_tries, keep_seconds=60.0
            ),
            now=self.clock.now,
            observer=self.observer,
            admit=self.admit,
        )

    async def admit(self, channel: Channel) -> Error | None:
        """Refuse what a test wants refused."""
        return self.quota.get(channel.name)

    async def write(self, *data: bytes, channel: str = "news:a", tags: bytes | None = None) -> list[int]:
        """Commit rows of one transaction."""
        async with self.table.transaction() as writer:
            return [await writer.write(channel, item, tags) for item in data]

    async def relay(self) -> int:
        """Publish everything that does not rest, and return how many batches it took."""
        batches = 0
        while await self.outbox.relay():
            batches += 1
        return batches

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the relay run by itself."""
        async with asyncio.timeout(_DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.outbox.run(self.bell))
            yield
            task.cancel()

    async def until_published(self, *data: bytes) -> None:
        """Wait until exactly these have been published."""
        await until(lambda: self.streams.data == list(data))


# What is published, and in which order.


async def test_publishes_what_waits_and_marks_it() -> None:
    """In the order of the ids, with tags, and once."""
    setup = Setup()
    first, second = await setup.write(b'{"a":1}', b"2", tags=b'{ "kind" : "order" }')

    assert 1 == await setup.relay()
    assert [("news:a", b'{"a":1}', b'{"kind":"order"}'), ("news:a", b"2", b'{"kind":"order"}')] == (
        setup.streams.published
    )
    assert State(is_published=True) == await setup.table.state(first) == await setup.table.state(second)
    assert 0 == await setup.relay()
    assert [(2,)] == setup.observer.of("outbox_relayed")


async def test_a_smaller_id_that_commits_late_is_not_skipped() -> None:
    """It comes when it is committed, after what was committed before."""
    setup = Setup()
    async with setup.table.transaction() as slow:
        await slow.write("news:a", b"1")
        await setup.write(b"2", b"3")
        await setup.relay()
        await slow.write("news:a", b"4")
    await setup.relay()

    assert [b"2", b"3", b"1", b"4"] == setup.streams.data


async def test_a_transaction_longer_than_a_batch_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are one after the other."""
    monkeypatch.setattr(module, "BATCH_ROWS", 3)
    setup = Setup()
    await setup.write(*(b"%d" % number for number in range(8)))

    assert 3 == await setup.relay()
    assert [b"%d" % number for number in range(8)] == setup.streams.data
    assert [3, 3, 2] == setup.streams.batches


async def test_many_rows_are_under_way_together() -> None:
    """Five hundred and twelve of them are one group."""
    setup = Setup()
    await setup.write(*(b"%d" % number for number in range(1000)))

    assert 2 == await setup.relay()
    assert [512, 488] == setup.streams.batches


async def test_line_breaks_are_made_spaces() -> None:
    """A publication is one line of the protocol."""
    setup = Setup()
    await setup.write(b'{\n"a":\r\n1}')
    await setup.relay()

    assert [b'{ "a":  1}'] == setup.streams.data


@pytest.mark.parametrize("tags", [None, b"null", b"{}", b" null "])
async def test_no_tags(tags: bytes | None) -> None:
    """However they are missing."""
    setup = Setup()
    await setup.write(b"1", tags=tags)
    await setup.relay()

    assert [("news:a", b"1", None)] == setup.streams.published


# What is refused.


@pytest.mark.parametrize(
    ("channel", "data", "tags", "reason"),
    [
        pytest.param("nobody:a", b"1", None, "unknown channel", id="unknown-channel"),
        pytest.param("", b"1", None, "bad request", id="no-channel"),
        pytest.param("x" * 256, b"1", None, "bad request", id="channel-too-long"),
        pytest.param("news:é", b"1", None, "bad request", id="channel-not-ascii"),
        pytest.param("news:a", b"{", None, "bad request: data is not JSON", id="no-json"),
        pytest.param("news:a", b"", None, "bad request: data is not JSON", id="empty"),
        pytest.param("news:a", b'"\xff"', None, "bad request: data is not JSON", id="no-utf8"),
        pytest.param("news:a", b'"' + b"x" * 99 + b'"', None, "data has 101 bytes, at most 100", id="one-byte-more"),
        pytest.param("news:a", b"1", b"[]", "tags is no object of strings", id="tags-a-list"),
        pytest.param("news:a", b"1", b'{"a":1}', "tags is no object of strings", id="tags-with-a-number"),
        pytest.param("news:a", b"1", b'{"a":"' + b"x" * 93 + b'"}', "tags has 101 bytes", id="tags-too-long"),
    ],
)
async def test_refuses_what_the_server_api_refuses(channel: str, data: bytes, tags: bytes | None, reason: str) -> None:
    """It counts as a try, with the reason, and holds up nobody."""
    setup = Setup()
    (refused,) = await setup.write(data, channel=channel, tags=tags)
    await setup.write(b'"behind"')
    await setup.relay()
    state = await setup.table.state(refused)

    assert [b'"behind"'] == setup.streams.data
    assert state is not None
    assert (False, 1, False) == (state.is_published, state.tries, state.is_set_aside)
    assert reason in (state.error or "")


async def test_the_longest_data_is_published() -> None:
    """At the limit, and not one byte below."""
    setup = Setup()
    await setup.write(b'"' + b"x" * 98 + b'"', tags=b'{"a":"' + b"x" * 92 + b'"}')
    await setup.relay()

    assert [100] == [len(data) for data in setup.streams.data]


async def test_deep_nesting_is_refused() -> None:
    """Some clients could not read it."""
    setup = Setup()
    outbox = Outbox(
        setup.table,
        setup.streams.append_all,
        token=lambda: 1,
        namespaces=Namespaces(BUILT_IN),
        options=OutboxOptions(message_bytes=1000),
        now=setup.clock.now,
        observer=setup.observer,
    )
    await setup.write(b"[" * 129 + b"]" * 129, b"[" * 128 + b"]" * 128)
    await outbox.relay()

    assert [b"[" * 128 + b"]" * 128] == setup.streams.data


async def test_a_refused_row_rests_longer_each_time_and_is_set_aside_in_the_end() -> None:
    """One, four, sixteen times the time between two looks; then a person has to look at it."""
    setup = Setup(poll_seconds=1.0, max_tries=3)
    (refused,) = await setup.write(b"1", channel="nobody:a")
    await setup.relay()
    for seconds in (1.0, 4.0):
        setup.clock.advance(seconds - 0.001)

        assert 0 == await setup.relay()

        setup.clock.advance(0.001)

        assert 1 == await setup.relay()

    assert State(tries=3, error="unknown channel", is_set_aside=True) == await setup.table.state(refused)
    assert [("outbox.set_aside", {"row": refused, "reason": "unknown channel"})] == setup.observer.of("noted")
    setup.clock.advance(1000.0)
    assert 0 == await setup.relay()


async def test_one_try_is_enough_when_it_is_all_there_is() -> None:
    """The row is set aside at once."""
    setup = Setup(max_tries=1)
    (refused,) = await setup.write(b"1", channel="nobody:a")
    await setup.relay()

    assert State(tries=1, error="unknown channel", is_set_aside=True) == await setup.table.state(refused)


async def test_a_quota_that_is_used_up_never_counts() -> None:
    """However often: the row waits, is looked at again after each rest, and comes when there is room."""
    setup = Setup(poll_seconds=1.0, max_tries=1)
    setup.quota["org:acme:a"] = Errors.TOO_MANY_REQUESTS
    (row_id,) = await setup.write(b"1", channel="org:acme:a")
    for _ in range(20):
        assert 1 == await setup.relay()
        assert State() == await setup.table.state(row_id)

        setup.clock.advance(0.999)

        assert 0 == await setup.relay()

        setup.clock.advance(0.001)

    assert [Errors.TOO_MANY_REQUESTS] * 20 == [error for _, error in setup.observer.of("error")]

    setup.quota.clear()
    await setup.relay()

    assert [b"1"] == setup.streams.data
    assert State(is_published=True) == await setup.table.state(row_id)


async def test_what_waits_for_a_quota_keeps_its_order() -> None:
    """All channels of the organization wait together, whatever comes in between; the others go on."""
    setup = Setup(poll_seconds=1.0)
    setup.quota["org:acme:a"] = Errors.TOO_MANY_REQUESTS
    await setup.write(b"1", channel="org:acme:a")
    await setup.write(b"2", channel="org:acme:b")
    await setup.write(b"3", channel="org:other:a")
    await setup.relay()
    # There is room again, but who comes now does not get it.
    setup.quota.clear()
    await setup.write(b"4", channel="org:acme:a")
    await setup.write(b"5", channel="org:acme")
    await setup.write(b"6")
    await setup.relay()

    assert [b"3", b"6"] == setup.streams.data

    setup.clock.advance(1.0)
    await setup.relay()

    assert [b"3", b"6", b"1", b"2", b"4", b"5"] == setup.streams.data


async def test_a_long_queue_that_waits_for_a_quota_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps nobody busy, and nobody behind it waits."""
    monkeypatch.setattr(module, "BATCH_ROWS", 3)
    setup = Setup()
    setup.quota["org:acme:a"] = Errors.TOO_MANY_REQUESTS
    await setup.write(*[b"1"] * 100, channel="org:acme:a")
    await setup.write(b"2", channel="org:other:a")

    assert 2 == await setup.relay()
    assert [b"2"] == setup.streams.data
    assert 3 == setup.table.looks


async def test_an_organization_that_is_not_there_counts() -> None:
    """No time makes that good by itself."""
    setup = Setup(max_tries=1)
    setup.quota["org:nobody:a"] = Errors.UNKNOWN_CHANNEL
    (row_id,) = await setup.write(b"1", channel="org:nobody:a")
    await setup.relay()

    assert State(tries=1, error="unknown channel", is_set_aside=True) == await setup.table.state(row_id)


async def test_that_nobody_can_tell_whether_a_row_may_be_published_never_counts() -> None:
    """It waits, and those behind it do too."""
    setup = Setup(max_tries=1)
    setup.quota["news:b"] = Errors.INTERNAL
    ids = await setup.write(b"1") + await setup.write(b"2", channel="news:b") + await setup.write(b"3")
    with pytest.raises(ServiceError):
        await setup.relay()

    assert [] == setup.streams.data
    assert State() == await setup.table.state(ids[1])

    setup.quota.clear()
    await setup.relay()

    assert [b"1", b"2", b"3"] == setup.streams.data


async def test_a_row_that_the_store_refuses_fails_alone() -> None:
    """The rest of its batch is published."""
    setup = Setup()
    setup.streams.refusals[b"2"] = Error(107, "bad request: the database does not take it")
    ids = await setup.write(b"1", b"2", b"3")
    await setup.relay()

    assert [b"1", b"3"] == setup.streams.data
    assert State(tries=1, error="bad request: the database does not take it") == await setup.table.state(ids[1])
    assert [(2,)] == setup.observer.of("outbox_relayed")
    assert [107] == [error.code for _, error in setup.observer.of("error")]


async def test_there_is_a_bound_to_what_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past it, those that rest longest are tried early."""
    monkeypatch.setattr(module, "_MAX_RESTING", 2)
    setup = Setup(max_tries=2)
    ids = await setup.write(b"1", b"2", b"3", channel="nobody:a")
    await setup.relay()

    assert [2, 1, 1] == [state.tries for row_id in ids if (state := await setup.table.state(row_id)) is not None]


# Trouble.


async def test_trouble_of_the_database_never_counts() -> None:
    """However often; the rows come when it is over, in order."""
    setup = Setup(max_tries=1)
    ids = await setup.write(b"1", b"2")
    setup.streams.trouble = DatabaseUnavailable("disk full")
    for _ in range(10):
        with pytest.raises(DatabaseUnavailable):
            await setup.relay()
    setup.table.trouble = DatabaseUnavailable("cannot connect")
    for _ in range(10):
        with pytest.raises(DatabaseUnavailable):
            await setup.relay()
    setup.streams.trouble = setup.table.trouble = None

    assert State() == await setup.table.state(ids[0])

    await setup.relay()

    assert [b"1", b"2"] == setup.streams.data


async def test_an_internal_error_of_single_rows_never_counts() -> None:
    """It is no word about the row."""
    setup = Setup(max_tries=1)
    setup.streams.refusals[b"2"] = Errors.INTERNAL
    ids = await setup.write(b"1", b"2")
    with pytest.raises(ServiceError):
        await setup.relay()

    assert State() == await setup.table.state(ids[1])

    setup.streams.refusals.clear()
    await setup.relay()

    assert [b"1", b"2"] == setup.streams.data


async def test_what_was_committed_without_an_answer_is_not_repeated() -> None:
    """The mark says so."""
    setup = Setup()
    await setup.write(b"1", b"2")
    setup.streams.lost_answers = OutcomeUnknown("connection lost")
    with pytest.raises(OutcomeUnknown):
        await setup.relay()
    await setup.relay()

    assert [b"1", b"2"] == setup.streams.data


async def test_a_try_that_could_not_be_counted_is_made_again() -> None:
    """Nothing rests that the table does not know of."""
    setup = Setup()
    (refused,) = await setup.write(b"1", channel="nobody:a")
    setup.table.trouble = None
    table_refuse = setup.table.refuse

    async def fail(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("cannot connect")

    setup.table.refuse = fail  # type: ignore[method-assign]  # one statement fails, the others do not
    with pytest.raises(DatabaseUnavailable):
        await setup.relay()
    setup.table.refuse = table_refuse  # type: ignore[method-assign]  # it is over
    await setup.relay()

    assert State(tries=1, error="unknown channel") == await setup.table.state(refused)


async def test_nothing_is_done_without_the_token() -> None:
    """The table is not even looked at."""
    setup = Setup()
    await setup.write(b"1")
    setup.token = 0

    assert 0 == await setup.relay()
    assert 0 == setup.table.looks
    await setup.outbox.tidy()
    assert [(0, 0.0, 0)] == setup.observer.of("outbox_seen")


async def test_who_loses_the_token_while_looking_publishes_nothing() -> None:
    """Nor counts a refusal."""
    setup = Setup()
    await setup.write(b"1")
    (refused,) = await setup.write(b"1", channel="nobody:a")
    waiting = setup.table.waiting

    async def slow(**bounds: object) -> list[OutboxRow]:
        setup.token = 0
        return await waiting(**bounds)  # type: ignore[arg-type]  # as they came

    setup.table.waiting = slow  # type: ignore[method-assign]  # the loss comes in between

    assert 0 == await setup.relay()
    assert [] == setup.streams.data
    assert State() == await setup.table.state(refused)


# By itself.


async def test_the_bell_wakes_it() -> None:
    """Nobody waits for the next look."""
    setup = Setup(poll_seconds=1000.0)
    async with setup.running():
        await setup.until_published()
        await setup.write(b"1")
        await until(lambda: bool(setup.table.looks))
        setup.bell.ring()
        await setup.until_published(b"1")


async def test_a_bell_rung_during_a_commit_is_heard() -> None:
    """Rows that come meanwhile go with the next batch."""
    setup = Setup(poll_seconds=1000.0)
    setup.streams.may_commit.clear()
    await setup.write(b"1")
    async with setup.running():
        await until(lambda: bool(setup.table.looks))
        await setup.write(b"2")
        setup.bell.ring()
        setup.streams.may_commit.set()
        await setup.until_published(b"1", b"2")

    assert [1, 1] == setup.streams.batches


async def test_without_a_bell_it_looks_by_itself() -> None:
    """After the time between two looks."""
    setup = Setup(poll_seconds=0.001)
    async with setup.running():
        await setup.write(b"1")
        await setup.until_published(b"1")


async def test_it_goes_on_after_trouble_and_after_a_defect() -> None:
    """Each is told to the observer in its own way."""
    setup = Setup(poll_seconds=0.001)
    setup.table.trouble = DatabaseUnavailable("cannot connect")
    await setup.write(b"1")
    async with setup.running():
        await until(lambda: bool(setup.observer.of("noted")))
        setup.table.trouble = ZeroDivisionError()
        await until(lambda: setup.observer.counts("failed")["outbox.relay"] > 0)
        setup.table.trouble = None
        await setup.until_published(b"1")

    assert ("outbox.relay.waits", {"reason": "cannot connect"}) in setup.observer.of("noted")
    assert "outbox.relay" in setup.observer.counts("failed")


async def test_tells_what_is_in_the_table_and_empties_it() -> None:
    """Published rows go in small batches, after the time they are kept."""
    setup = Setup()
    await setup.write(*(b"1" for _ in range(2500)))
    await setup.relay()
    setup.clock.advance(60.0)
    await setup.write(b"2")
    setup.clock.advance(5.0)
    await setup.outbox.tidy()

    assert [(1, 5.0, 0)] == setup.observer.of("outbox_seen")
    assert [b"2"] == [row.data for row in setup.table.rows.values()]
