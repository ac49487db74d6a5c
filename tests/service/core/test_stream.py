from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.stream import Position, Publication, Stream

HUGE = 2**63 - 1
"""The largest offset that a client can name."""


def filled(count: int, *, size: int = 3, ttl: float = 60.0) -> Stream:
    """Return a stream with ``count`` publications, one a second from 1.0 on."""
    stream = Stream(epoch="epoch", size=size, ttl=ttl)
    for number in range(1, count + 1):
        stream.append(b"%d" % number, info=None, tags=None, now=float(number))
    return stream


def offsets(items: Sequence[Publication]) -> list[int]:
    """Return where they stand."""
    return [item.offset for item in items]


def test_begins_at_zero() -> None:
    """With an epoch of its own from the start."""
    assert Position(0, "epoch") == filled(0).position


def test_append_returns_what_was_kept() -> None:
    """With its offset and its time."""
    stream = filled(1)
    item = stream.append(b"{}", info=b"1", tags=b"2", now=9.0)

    assert Publication(2, b"{}", b"1", b"2", 9.0) == item
    assert Position(2, "epoch") == stream.position
    assert 9.0 == stream.last_at
    assert item == stream.after(1, 10)[0]


@pytest.mark.parametrize(("count", "kept"), [(2, [1, 2]), (3, [1, 2, 3]), (4, [2, 3, 4])])
def test_keeps_as_many_as_its_size(count: int, kept: list[int]) -> None:
    """At the size, and one past it the oldest goes."""
    stream = filled(count)

    assert kept == offsets(stream.after(0, 10))
    assert len(kept) == len(stream)


@pytest.mark.parametrize(("now", "kept"), [(10.9, [1, 2, 3]), (11.0, [2, 3]), (12.5, [3]), (13.0, []), (99.0, [])])
def test_expire_forgets_what_is_too_old(now: float, kept: list[int]) -> None:
    """At its time to live exactly it is too old; the top stays."""
    stream = filled(3, ttl=10.0)
    stream.expire(now)

    assert kept == offsets(stream.after(0, 10))
    assert Position(3, "epoch") == stream.position


def test_clear_keeps_the_top() -> None:
    """So that no offset is given twice."""
    stream = filled(3)
    stream.clear()

    assert 0 == len(stream)
    assert [4] == offsets([stream.append(b"4", info=None, tags=None, now=4.0)])


@pytest.mark.parametrize(
    ("offset", "limit", "found"),
    [
        pytest.param(0, 10, [3, 4, 5], id="before-what-is-kept"),
        pytest.param(2, 10, [3, 4, 5], id="right-before-what-is-kept"),
        pytest.param(3, 10, [4, 5], id="within"),
        pytest.param(3, 1, [4], id="limited"),
        pytest.param(3, 0, [], id="nothing-asked-for"),
        pytest.param(4, 10, [5], id="last"),
        pytest.param(5, 10, [], id="at-the-top"),
        pytest.param(6, 10, [], id="ahead-of-the-top"),
        pytest.param(HUGE, 300, [], id="huge"),
    ],
)
def test_after_reads_forward(offset: int, limit: int, found: list[int]) -> None:
    """Oldest first, without the offset itself."""
    assert found == offsets(filled(5).after(offset, limit))


@pytest.mark.parametrize(
    ("offset", "limit", "found"),
    [
        pytest.param(2**63, 10, [5, 4, 3], id="from-the-end"),
        pytest.param(6, 10, [5, 4, 3], id="right-after-the-top"),
        pytest.param(5, 10, [4, 3], id="from-the-top"),
        pytest.param(5, 1, [4], id="limited"),
        pytest.param(5, 0, [], id="nothing-asked-for"),
        pytest.param(3, 10, [], id="before-what-is-kept"),
        pytest.param(1, 10, [], id="at-the-first"),
    ],
)
def test_before_reads_backward(offset: int, limit: int, found: list[int]) -> None:
    """Newest first, without the offset itself."""
    assert found == offsets(filled(5).before(offset, limit))


@pytest.mark.parametrize("offset", [0, 1, 5, HUGE])
def test_reads_nothing_from_an_empty_stream(offset: int) -> None:
    """In either direction."""
    assert [] == offsets(filled(0).after(offset, 300))
    assert [] == offsets(filled(0).before(offset, 300))


def test_versions_only_grow() -> None:
    """What is older than or the same as the last is out of date, and another epoch begins anew."""
    stream = filled(0)
    asked = [(2, "a"), (2, "a"), (1, "a"), (3, "a"), (1, "b"), (1, "b"), (4, "a")]
    verdicts = [stream.is_outdated(version, epoch) for version, epoch in asked]

    assert [False, True, True, False, False, True, False] == verdicts


@pytest.mark.parametrize("version", [0, -1])
def test_no_version_is_never_outdated(version: int) -> None:
    """And does not change what was seen."""
    stream = filled(0)
    stream.is_outdated(5, "")

    assert not stream.is_outdated(version, "")
    assert stream.is_outdated(5, "")


OPERATIONS = st.lists(
    st.tuples(st.just("append"), st.just(0.0), st.just(0))
    | st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 3.0, 20.0]), st.just(0))
    | st.tuples(st.just("clear"), st.just(0.0), st.just(0))
    | st.tuples(st.sampled_from(["after", "before"]), st.integers(0, 12), st.integers(0, 6)),
    max_size=50,
)


@given(st.integers(1, 5), st.sampled_from([1.0, 2.5, 10.0]), OPERATIONS)
def test_does_what_a_plain_list_does(size: int, ttl: float, operations: list[tuple[str, float, int]]) -> None:
    """A list of everything ever published, filtered anew at each question."""
    stream = Stream(epoch="epoch", size=size, ttl=ttl)
    everything: list[Publication] = []
    cleared, now = 0, 0.0
    for operation, value, limit in operations:
        kept = [item for item in everything[-size:] if item.offset > cleared and item.at > now - ttl]
        if operation == "append":
            everything.append(Publication(len(everything) + 1, b"", at=now))
            stream.append(b"", info=None, tags=None, now=now)
        elif operation == "wait":
            now += value
            stream.expire(now)
        elif operation == "clear":
            cleared = len(everything)
            stream.clear()
        elif operation == "after":
            assert [item for item in kept if item.offset > value][:limit] == list(stream.after(int(value), limit))
        else:
            older = [item for item in reversed(kept) if item.offset < value]

            assert older[:limit] == list(stream.before(int(value), limit))
        assert Position(len(everything), "epoch") == stream.position


class TestFillBack:
    """Putting back what was kept elsewhere."""

    @staticmethod
    def items(*places: int) -> list[Publication]:
        """Return publications of four bytes."""
        return [Publication(offset, b"data", at=float(offset)) for offset in places]

    def test_a_stream_may_begin_in_the_middle(self) -> None:
        """Its top is known, and nothing is held."""
        stream = Stream(epoch="epoch", size=3, ttl=60.0, top=7)
        assert (Position(7, "epoch"), 0) == (stream.position, len(stream))

        stream.add(Publication(8, b"x", at=9.0))

        assert ([8], 1, 9.0) == (offsets(stream.after(0, 9)), stream.bytes, stream.last_at)

    @pytest.mark.parametrize(
        ("places", "held"),
        [
            pytest.param((7, 6), [6, 7, 8], id="fits"),
            pytest.param((7, 6, 5), [6, 7, 8], id="more-than-fits"),
            pytest.param((), [8], id="nothing"),
            pytest.param((6, 5), [8], id="not-right-below"),
            pytest.param((7, 5), [7, 8], id="with-a-gap"),
            pytest.param((8, 7), [8], id="held-already"),
        ],
    )
    def test_goes_on_right_below_what_is_held(self, places: tuple[int, ...], held: list[int]) -> None:
        """What does not fit is left out; the bytes are counted."""
        stream = Stream(epoch="epoch", size=3, ttl=60.0, top=7)
        stream.add(Publication(8, b"x", at=8.0))
        stream.fill_back(self.items(*places))

        assert held == offsets(stream.after(0, 9))
        assert 1 + 4 * (len(held) - 1) == stream.bytes
        assert (8, 8.0) == (stream.top, stream.last_at)
