"""What every table of the outbox has to do, whatever database it is in.

A test module of a table has a class that inherits `OutboxTableSuite` and overrides the fixture ``application``.
"""

from __future__ import annotations

import pytest

from service.core.outbox import OutboxFigures, OutboxRow, Refusal
from service.realtime.outbox import OutboxTable
from tests.support.outbox_table import Application, State

__all__ = ("OutboxTableSuite", "waiting")

_PLENTY = 1_000_000


async def waiting(
    table: OutboxTable,
    *,
    limit: int = 512,
    row_bytes: int = _PLENTY,
    batch_bytes: int = _PLENTY,
    resting: frozenset[int] = frozenset(),
    held: frozenset[str] = frozenset(),
) -> list[OutboxRow]:
    """Return what waits, within bounds that hold nothing back unless told otherwise."""
    return await table.waiting(limit=limit, row_bytes=row_bytes, batch_bytes=batch_bytes, resting=resting, held=held)


async def ids(table: OutboxTable, **bounds: int) -> list[int]:
    """Return the ids of what waits."""
    return [row.id for row in await waiting(table, **bounds)]  # type: ignore[arg-type]  # the bounds that are numbers


async def fill(application: Application, count: int, *, data: bytes = b"{}") -> list[int]:
    """Insert rows in one transaction."""
    async with application.transaction() as writer:
        return [await writer.write("news:a", data) for _ in range(count)]


class OutboxTableSuite:
    """The suite."""

    @pytest.fixture
    def application(self) -> Application:
        """An empty table, seen from the application; to be overridden."""
        raise NotImplementedError

    @pytest.fixture
    def table(self, application: Application) -> OutboxTable:
        """The table itself."""
        return application.table

    async def test_an_empty_table_has_nothing(self, table: OutboxTable) -> None:
        """And says so."""
        assert [] == await waiting(table)
        assert OutboxFigures(0, 0.0, 0) == await table.figures()
        assert 0 == await table.expire(keep_seconds=0.0, limit=10)

    async def test_a_row_comes_as_it_was_written(self, table: OutboxTable, application: Application) -> None:
        """To the byte, spaces included."""
        data = '{"a" : "é\\u0000", "b":[1.50, null]}'.encode()
        tags = b'{ "kind":"order"}'
        async with application.transaction() as writer:
            first = await writer.write("chat:räume", data, tags)
            second = await writer.write("", b"null")

        assert [
            OutboxRow(first, "chat:räume", data, len(data), tags, len(tags), 0),
            OutboxRow(second, "", b"null", 4, None, 0, 0),
        ] == await waiting(table)

    async def test_rows_come_in_the_order_of_their_ids(self, table: OutboxTable, application: Application) -> None:
        """Those of one transaction in the order in which it wrote them."""
        written = await fill(application, 3) + await fill(application, 2)

        assert sorted(written) == written
        assert written == await ids(table)

    async def test_what_was_rolled_back_never_comes(self, table: OutboxTable, application: Application) -> None:
        """It leaves a gap in the ids, and no more."""

        async def fail() -> None:
            async with application.transaction() as writer:
                await writer.write("news:a", b"1")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        kept = await fill(application, 1)

        assert kept == await ids(table)

    async def test_marked_rows_wait_no_more(self, table: OutboxTable, application: Application) -> None:
        """The others still do."""
        written = await fill(application, 3)
        await application.mark(written[0], written[2])

        assert [written[1]] == await ids(table)

    @pytest.mark.parametrize(("limit", "found"), [(1, 1), (3, 3), (4, 3)])
    async def test_returns_at_most_as_many_as_asked_for(
        self, table: OutboxTable, application: Application, limit: int, found: int
    ) -> None:
        """The smallest ids."""
        written = await fill(application, 3)

        assert written[:found] == await ids(table, limit=limit)

    @pytest.mark.parametrize(
        ("batch_bytes", "found"),
        [
            pytest.param(1, 1, id="one-too-long-goes-alone"),
            pytest.param(20, 1, id="full-after-one"),
            pytest.param(21, 2, id="room-for-a-second"),
            pytest.param(_PLENTY, 3, id="all"),
        ],
    )
    async def test_ends_with_the_row_that_fills_the_batch(
        self, table: OutboxTable, application: Application, batch_bytes: int, found: int
    ) -> None:
        """So that no batch takes more memory than that and one row."""
        written = await fill(application, 3, data=b'"' + b"x" * 18 + b'"')

        assert written[:found] == await ids(table, batch_bytes=batch_bytes)

    async def test_what_is_too_long_stays_in_the_table(self, table: OutboxTable, application: Application) -> None:
        """Its length comes in its place."""
        async with application.transaction() as writer:
            long_data = await writer.write("news:a", b'"12345678"')
            long_tags = await writer.write("news:a", b"1", b'{"a": "1"}')
            fitting = await writer.write("news:a", b'"1234567"', b'{"a":"1"}')

        assert [
            OutboxRow(long_data, "news:a", b"", 10, None, 0, 0),
            OutboxRow(long_tags, "news:a", b"1", 1, b"", 10, 0),
            OutboxRow(fitting, "news:a", b'"1234567"', 9, b'{"a":"1"}', 9, 0),
        ] == await waiting(table, row_bytes=9)

    async def test_a_channel_name_without_end_is_cut(self, table: OutboxTable, application: Application) -> None:
        """It is still too long for a name."""
        async with application.transaction() as writer:
            await writer.write("x" * 100_000, b"1")
        (row,) = await waiting(table)

        assert 255 < len(row.channel) < 10_000

    async def test_passes_over_what_rests(self, table: OutboxTable, application: Application) -> None:
        """However many."""
        written = await fill(application, 4)
        resting = frozenset((written[0], written[2], *range(10_000_000, 10_010_000)))

        assert [written[1], written[3]] == [row.id for row in await waiting(table, resting=resting)]

    async def test_passes_over_channels_that_are_held(self, table: OutboxTable, application: Application) -> None:
        """And those below them, but none that merely begins alike."""
        held = ["org:acme", "org:acme:a", "org:acme:a:b", "org:50%_ä:a"]
        others = ["org", "org:acmeshop:a", "org:acm", "org:ACME:a", "org:50x_ä:a", "news:org:acme:a"]
        async with application.transaction() as writer:
            for channel in held + others:
                await writer.write(channel, b"1")

        assert others == [row.channel for row in await waiting(table, held=frozenset({"org:acme", "org:50%_ä"}))]

    async def test_a_refusal_counts_one_try(self, table: OutboxTable, application: Application) -> None:
        """With the last reason; the row still waits."""
        first, second = await fill(application, 2)
        await table.refuse([Refusal(first, "unknown channel", is_last=False)], token=application.token)
        await table.refuse([Refusal(first, "too 'long'", is_last=False)], token=application.token)

        assert State(tries=2, error="too 'long'") == await application.state(first)
        assert State() == await application.state(second)
        assert [2, 0] == [row.tries for row in await waiting(table)]

    async def test_the_last_refusal_sets_aside(self, table: OutboxTable, application: Application) -> None:
        """Several in one call, each as it is meant."""
        first, second, third = await fill(application, 3)
        await table.refuse(
            [Refusal(first, "one", is_last=True), Refusal(third, "three", is_last=False)], token=application.token
        )

        assert State(tries=1, error="one", is_set_aside=True) == await application.state(first)
        assert State(tries=1, error="three") == await application.state(third)
        assert [second, third] == await ids(table)

    async def test_only_the_holder_of_the_token_refuses(self, table: OutboxTable, application: Application) -> None:
        """Who was overtaken changes nothing."""
        (row_id,) = await fill(application, 1)
        await table.refuse([Refusal(row_id, "late", is_last=True)], token=application.token - 1)

        assert State() == await application.state(row_id)

    async def test_what_does_not_wait_cannot_be_refused(self, table: OutboxTable, application: Application) -> None:
        """Neither what was published nor what is not there."""
        (row_id,) = await fill(application, 1)
        await application.mark(row_id)
        await table.refuse(
            [Refusal(row_id, "late", is_last=True), Refusal(row_id + 1, "nobody", is_last=True)],
            token=application.token,
        )

        assert State(is_published=True) == await application.state(row_id)

    async def test_deletes_what_was_published_long_ago(self, table: OutboxTable, application: Application) -> None:
        """And neither what waits nor what was set aside, however old."""
        old, young, waits, set_aside = await fill(application, 4)
        await table.refuse([Refusal(set_aside, "no", is_last=True)], token=application.token)
        await application.mark(old, young)
        for row_id in (old, waits, set_aside):
            await application.make_older(row_id, 120.0)

        assert 1 == await table.expire(keep_seconds=60.0, limit=10)
        assert await application.state(old) is None
        for row_id in (young, waits, set_aside):
            assert await application.state(row_id) is not None

    async def test_deletes_in_small_batches(self, table: OutboxTable, application: Application) -> None:
        """At most as many as asked for."""
        written = await fill(application, 5)
        await application.mark(*written)
        for row_id in written:
            await application.make_older(row_id, 10.0)

        assert [2, 2, 1, 0] == [await table.expire(keep_seconds=1.0, limit=2) for _ in range(4)]

    async def test_counts(self, table: OutboxTable, application: Application) -> None:
        """What waits, the age of the oldest, what was set aside."""
        published, oldest, _, set_aside = await fill(application, 4)
        await application.mark(published)
        await table.refuse([Refusal(set_aside, "no", is_last=True)], token=application.token)
        for row_id in (published, oldest, set_aside):
            await application.make_older(row_id, 120.0)
        figures = await table.figures()

        assert (2, 1) == (figures.waiting, figures.set_aside)
        assert 120.0 <= figures.oldest_seconds < 180.0
