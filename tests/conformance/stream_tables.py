"""What the tables of streams have to do, in whatever database.

A test module has a class that inherits `StreamTablesSuite` and overrides the fixture `tables` with empty
ones, and `take_over`, which puts another fencing token into them.
"""

from __future__ import annotations

from typing import Any

import pytest

from service.core.rows import Head, Row
from service.core.stream import Position, Publication
from service.errors import OutOfStep, Overtaken
from service.realtime.ports import StreamTables

__all__ = ("AT", "TOKEN", "StreamTablesSuite", "row", "rows")

AT = 1_800_000_000.25
"""When the rows were made, Unix seconds."""

TOKEN = 1
"""The fencing token that the tables have at the beginning of each test."""

ALL = 2**31
LONG_AGO = 0.0
HUGE = 2**63 - 1


def row(channel: str, offset: int, data: bytes = b"{}", **options: Any) -> Row:  # noqa: ANN401 - as the fields of a row are
    """Return one of the epoch ``e``, made at ``AT``."""
    fields: dict[str, Any] = {"epoch": "e", "data": data, "at": AT} | options
    return Row(channel, offset, **fields)


def rows(channel: str, count: int, *, first: int = 1, **options: Any) -> list[Row]:  # noqa: ANN401 - fields of Row
    """Return some with consecutive offsets, each with its number as data."""
    return [row(channel, offset, b"%d" % offset, **options) for offset in range(first, first + count)]


def offsets(items: list[Publication]) -> list[int]:
    """Return where they stand."""
    return [item.offset for item in items]


async def all_of(tables: StreamTables, channel: str) -> list[Publication]:
    """Read all there is."""
    return await tables.read(channel, after=0, limit=10_000, oldest=LONG_AGO, max_bytes=ALL)


class StreamTablesSuite:
    """The suite. The fencing token is ``TOKEN`` to begin with."""

    @pytest.fixture
    def tables(self) -> StreamTables:
        """Empty tables; to be overridden."""
        raise NotImplementedError

    async def take_over(self, tables: StreamTables, token: int) -> None:
        """Change the fencing token, as a successor does; to be overridden."""
        raise NotImplementedError

    async def add_outbox_row(self, tables: StreamTables) -> int:
        """Add a row to the outbox that waits, and return its id; to be overridden."""
        raise NotImplementedError

    async def is_published(self, tables: StreamTables, outbox_id: int) -> bool:
        """Return whether an outbox row is marked; to be overridden."""
        raise NotImplementedError

    # Heads.

    async def test_the_database_has_an_epoch(self, tables: StreamTables) -> None:
        """Always the same."""
        epoch = await tables.epoch()

        assert epoch
        assert epoch == await tables.epoch()

    async def test_an_unknown_stream_has_no_head(self, tables: StreamTables) -> None:
        """Nor does asking make one."""
        await tables.append(rows("a", 2), token=TOKEN)

        assert {"a": Head(2, "e")} == await tables.heads(["a", "b"])
        assert {} == await tables.heads(["b"])
        assert {} == await tables.heads([])

    async def test_heads_of_many(self, tables: StreamTables) -> None:
        """More than a database takes as single parameters."""
        many = [f"c{number}" for number in range(3000)]
        await tables.append([row(name, 1) for name in many[:500]], token=TOKEN)

        assert dict.fromkeys(many[:500], Head(1, "e")) == await tables.heads(many)

    async def test_the_row_of_a_stream_takes_the_epoch_over(self, tables: StreamTables) -> None:
        """From its first publication."""
        await tables.append([row("a", 1, epoch="other")], token=TOKEN)

        assert {"a": Head(1, "other")} == await tables.heads(["a"])

    async def test_versions_are_kept_with_the_head(self, tables: StreamTables) -> None:
        """The last one given; a publication without one changes nothing."""
        await tables.append(
            [row("a", 1, version=5, version_epoch="v"), row("a", 2, version=7, version_epoch="v")], token=TOKEN
        )
        await tables.append([row("a", 3)], token=TOKEN)
        assert {"a": Head(3, "e", 7, "v")} == await tables.heads(["a"])

        await tables.append([row("a", 4, version=1, version_epoch="w"), row("a", 5)], token=TOKEN)

        assert {"a": Head(5, "e", 1, "w")} == await tables.heads(["a"])

    async def test_names_are_listed_in_pages(self, tables: StreamTables) -> None:
        """By their bytes, each once."""
        await tables.append([row(name, 1) for name in ("b", "a", "B", "a:b", "~")], token=TOKEN)
        first = await tables.names(after="", limit=3)

        assert [("B", 1), ("a", 1), ("a:b", 1)] == first
        assert [("b", 1), ("~", 1)] == await tables.names(after="a:b", limit=3)
        assert [] == await tables.names(after="~", limit=3)

    # Appending and reading.

    async def test_keeps_everything_to_the_byte(self, tables: StreamTables) -> None:
        """Also what is no text, and the difference between nothing and empty."""
        sent = [
            row("a", 1, b'{"a" : "\xc3\xa9"}', info=b'{"user":"1"}', tags=b'{"x":"y"}'),
            row("a", 2, bytes(range(256)), info=b"", tags=None),
        ]
        await tables.append(sent, token=TOKEN)

        expected = [Publication(item.offset, item.data, item.info, item.tags, AT) for item in sent]
        assert expected == await all_of(tables, "a")

    async def test_a_large_group_is_one_commit(self, tables: StreamTables) -> None:
        """As many rows and bytes as come together."""
        group = [row("a", number, b"x" * 8_192, key=f"k{number}") for number in range(1, 513)]
        await tables.append(group, token=TOKEN)

        assert 512 == len(await all_of(tables, "a"))
        assert {"a": Head(512, "e")} == await tables.heads(["a"])

    async def test_several_channels_in_one_group(self, tables: StreamTables) -> None:
        """In any order among each other."""
        await tables.append([row("a", 1), row("b", 1), row("a", 2), row("c", 1), row("b", 2)], token=TOKEN)

        assert [[1, 2], [1, 2], [1]] == [offsets(await all_of(tables, name)) for name in "abc"]

    async def test_nothing_is_an_empty_group(self, tables: StreamTables) -> None:
        """It commits nothing and says nothing."""
        await tables.append([], token=TOKEN)

        assert [] == await tables.names(after="", limit=1)

    @pytest.mark.parametrize(
        ("after", "limit", "found"),
        [(0, 100, [1, 2, 3, 4, 5]), (3, 100, [4, 5]), (1, 2, [2, 3]), (5, 1, []), (HUGE, 1, []), (0, 0, [])],
    )
    async def test_reads_forward(self, tables: StreamTables, after: int, limit: int, found: list[int]) -> None:
        """Oldest first."""
        await tables.append(rows("a", 5), token=TOKEN)

        assert found == offsets(await tables.read("a", after=after, limit=limit, oldest=LONG_AGO, max_bytes=ALL))

    @pytest.mark.parametrize(
        ("before", "limit", "found"),
        [(6, 100, [5, 4, 3, 2, 1]), (HUGE, 2, [5, 4]), (3, 100, [2, 1]), (1, 1, []), (6, 0, [])],
    )
    async def test_reads_back(self, tables: StreamTables, before: int, limit: int, found: list[int]) -> None:
        """Newest first."""
        await tables.append(rows("a", 5), token=TOKEN)
        items = await tables.read_back("a", before=before, limit=limit, oldest=LONG_AGO, max_bytes=ALL)

        assert found == offsets(items)

    @pytest.mark.parametrize(("max_bytes", "count"), [(30, 3), (29, 2), (10, 1), (9, 1), (0, 1)], ids=str)
    async def test_reads_are_bounded_in_bytes(self, tables: StreamTables, max_bytes: int, count: int) -> None:
        """At the bound and one past it; never nothing, else nobody could read on."""
        await tables.append([row("a", number, b"x" * 10) for number in range(1, 5)], token=TOKEN)
        forward = await tables.read("a", after=0, limit=100, oldest=LONG_AGO, max_bytes=max_bytes)
        back = await tables.read_back("a", before=HUGE, limit=100, oldest=LONG_AGO, max_bytes=max_bytes)

        assert list(range(1, 1 + count)) == offsets(forward)
        assert list(range(4, 4 - count, -1)) == offsets(back)

    async def test_reads_leave_out_what_is_too_old(self, tables: StreamTables) -> None:
        """Made at the instant is too old, made after it is not."""
        await tables.append([row("a", number, at=AT + number) for number in range(1, 4)], token=TOKEN)
        forward = await tables.read("a", after=0, limit=9, oldest=AT + 1, max_bytes=ALL)
        back = await tables.read_back("a", before=HUGE, limit=9, oldest=AT + 2, max_bytes=ALL)

        assert ([2, 3], [3]) == (offsets(forward), offsets(back))

    async def test_a_place_is_given_once(self, tables: StreamTables) -> None:
        """Nothing of a group that wants a taken place, or one past the next, is kept."""
        await tables.append(rows("a", 2), token=TOKEN)
        for first in (2, 4):
            with pytest.raises(OutOfStep):
                await tables.append([row("b", 1, key="k"), *rows("a", 1, first=first)], token=TOKEN)

        assert {"a": Head(2, "e")} == await tables.heads(["a", "b"])
        assert [] == await all_of(tables, "b")
        assert {} == await tables.results([("b", "k")], since=LONG_AGO)

    async def test_a_place_stays_taken_when_its_publication_is_gone(self, tables: StreamTables) -> None:
        """Offsets are never given twice."""
        await tables.append(rows("a", 2), token=TOKEN)
        await tables.remove("a", token=TOKEN)

        with pytest.raises(OutOfStep):
            await tables.append(rows("a", 2), token=TOKEN)

    # Results.

    async def test_results_come_with_their_rows(self, tables: StreamTables) -> None:
        """By channel and key; the same key may be used again, and the newest counts."""
        await tables.append([row("a", 1, key="k"), row("a", 2), row("b", 1, key="k")], token=TOKEN)
        known = await tables.results([("a", "k"), ("b", "k"), ("a", "l"), ("c", "k")], since=LONG_AGO)
        assert {("a", "k"): Position(1, "e"), ("b", "k"): Position(1, "e")} == known

        await tables.append([row("a", 3, key="k", at=AT + 1)], token=TOKEN)

        assert {("a", "k"): Position(3, "e")} == await tables.results([("a", "k")], since=AT)

    async def test_results_outlive_their_publications(self, tables: StreamTables) -> None:
        """They are forgotten by time alone."""
        await tables.append([row("a", 1, key="k")], token=TOKEN)
        await tables.remove("a", token=TOKEN)

        assert {("a", "k"): Position(1, "e")} == await tables.results([("a", "k")], since=LONG_AGO)

    async def test_old_results_do_not_count_and_are_deleted_in_batches(self, tables: StreamTables) -> None:
        """Written at the instant is old."""
        await tables.append([row("a", number, key=f"k{number}", at=AT + number) for number in range(1, 6)], token=TOKEN)
        keys = [("a", f"k{number}") for number in range(1, 6)]
        assert keys[3:] == sorted(await tables.results(keys, since=AT + 3))

        deleted = [await tables.expire_results(AT + 3, limit=2, token=TOKEN) for _ in range(3)]

        assert [2, 1, 0] == deleted
        assert keys[3:] == sorted(await tables.results(keys, since=LONG_AGO))
        assert {} == await tables.results([], since=LONG_AGO)

    # The outbox.

    async def test_outbox_rows_are_marked_with_their_publications(self, tables: StreamTables) -> None:
        """In the same commit; a row with offset 0 marks and keeps nothing."""
        ids = [await self.add_outbox_row(tables) for _ in range(3)]
        await tables.append([row("a", 1, outbox_id=ids[0]), row("plain", 0, b"", outbox_id=ids[1])], token=TOKEN)

        assert [True, True, False] == [await self.is_published(tables, outbox_id) for outbox_id in ids]
        assert {"a": Head(1, "e")} == await tables.heads(["a", "plain"])

    async def test_an_outbox_row_is_published_once(self, tables: StreamTables) -> None:
        """Who comes second commits nothing."""
        outbox_id = await self.add_outbox_row(tables)
        await tables.append([row("a", 1, outbox_id=outbox_id)], token=TOKEN)
        for again in (row("a", 2, outbox_id=outbox_id), row("b", 0, b"", outbox_id=outbox_id)):
            with pytest.raises(OutOfStep):
                await tables.append([row("b", 1), again], token=TOKEN)

        assert {"a": Head(1, "e")} == await tables.heads(["a", "b"])

    # Changing what is kept.

    async def test_remove_keeps_the_head(self, tables: StreamTables) -> None:
        """And every other channel."""
        await tables.append([*rows("a", 2), *rows("b", 1)], token=TOKEN)
        await tables.remove("a", token=TOKEN)
        await tables.remove("unknown", token=TOKEN)

        assert [] == await all_of(tables, "a")
        assert [1] == offsets(await all_of(tables, "b"))
        assert {"a": Head(2, "e"), "b": Head(1, "e")} == await tables.heads(["a", "b", "unknown"])

    async def test_renew_changes_the_epoch_alone(self, tables: StreamTables) -> None:
        """Publications stay, offsets go on, a stream without a row stays without."""
        await tables.append([row("a", 1, version=4)], token=TOKEN)
        await tables.renew("a", "f", token=TOKEN)
        await tables.renew("unknown", "f", token=TOKEN)
        assert {"a": Head(1, "f", 4)} == await tables.heads(["a", "unknown"])

        await tables.append([row("a", 2, epoch="f")], token=TOKEN)

        assert [1, 2] == offsets(await all_of(tables, "a"))

    async def test_trim_deletes_what_is_below_or_old(self, tables: StreamTables) -> None:
        """In the channels that are named; tops stay."""
        for name in "abc":
            await tables.append([row(name, number, at=AT + number) for number in range(1, 6)], token=TOKEN)

        assert 4 == await tables.trim({"a": (3, LONG_AGO), "b": (0, AT + 2)}, limit=100, token=TOKEN)
        assert [[3, 4, 5], [3, 4, 5], [1, 2, 3, 4, 5]] == [offsets(await all_of(tables, name)) for name in "abc"]
        assert dict.fromkeys("abc", Head(5, "e")) == await tables.heads("abc")
        assert 0 == await tables.trim({}, limit=100, token=TOKEN)

    async def test_trim_takes_a_batch_at_a_time(self, tables: StreamTables) -> None:
        """So that it never holds up those who publish."""
        await tables.append([*rows("a", 5), *rows("b", 5)], token=TOKEN)
        bounds = {"a": (6, LONG_AGO), "b": (4, LONG_AGO)}

        assert [3, 3, 2, 0] == [await tables.trim(bounds, limit=3, token=TOKEN) for _ in range(4)]
        assert [[], [4, 5]] == [offsets(await all_of(tables, name)) for name in "ab"]

    # One writer.

    async def test_who_was_overtaken_changes_nothing(self, tables: StreamTables) -> None:
        """Whatever it tries."""
        await tables.append(rows("a", 2), token=TOKEN)
        await self.take_over(tables, TOKEN + 1)
        attempts = [
            tables.append([row("a", 3), row("b", 1, key="k")], token=TOKEN),
            tables.append([row("a", 3)], token=0),
            tables.remove("a", token=TOKEN),
            tables.renew("a", "f", token=TOKEN),
            tables.trim({"a": (9, AT)}, limit=9, token=TOKEN),
            tables.probe(token=TOKEN),
        ]
        for attempt in attempts:
            with pytest.raises(Overtaken):
                await attempt

        assert {"a": Head(2, "e")} == await tables.heads(["a", "b"])
        assert [1, 2] == offsets(await all_of(tables, "a"))

        await tables.append(rows("a", 1, first=3), token=TOKEN + 1)
        await tables.probe(token=TOKEN + 1)

        assert {"a": Head(3, "e")} == await tables.heads(["a"])
