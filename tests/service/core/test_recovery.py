from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.recovery import Page, Recovery, merge, recover
from service.core.stream import Position, Publication, Stream


def items(*offsets: int) -> tuple[Publication, ...]:
    """Return publications at these offsets."""
    return tuple(Publication(offset, b"{}") for offset in offsets)


def page(*offsets: int, top: int, epoch: str = "e") -> Page:
    """Return what a read gave."""
    return Page(items(*offsets), Position(top, epoch))


class TestRecover:
    """Whether a page fills the gap."""

    @pytest.mark.parametrize("epoch", ["e", ""])
    @pytest.mark.parametrize(
        ("offset", "read", "recovered"),
        [
            pytest.param(5, page(6, 7, top=7), (6, 7), id="missed-some"),
            pytest.param(0, page(1, 2, top=2), (1, 2), id="missed-all"),
            pytest.param(6, page(7, top=7), (7,), id="missed-one"),
            pytest.param(7, page(top=7), (), id="missed-nothing"),
            pytest.param(0, page(top=0), (), id="never-published"),
        ],
    )
    def test_recovers(self, epoch: str, offset: int, read: Page, recovered: tuple[int, ...]) -> None:
        """Everything up to the top; an empty epoch means any."""
        expected = Recovery(recovered=True, items=items(*recovered), position=read.top)

        assert expected == recover(Position(offset, epoch), read)

    @pytest.mark.parametrize(
        ("since", "read"),
        [
            pytest.param(Position(5, "other"), page(6, 7, top=7), id="other-epoch"),
            pytest.param(Position(7, "other"), page(top=7), id="other-epoch-at-the-top"),
            pytest.param(Position(8, "e"), page(top=7), id="ahead-of-the-top"),
            pytest.param(Position(2, "e"), page(4, 5, top=5), id="gap-at-the-beginning"),
            pytest.param(Position(2, "e"), page(3, 4, top=5), id="page-was-capped"),
            pytest.param(Position(2, "e"), page(top=5), id="everything-expired"),
            pytest.param(Position(0, ""), page(2, top=2), id="first-one-gone"),
        ],
    )
    def test_gives_nothing_when_something_is_missing(self, since: Position, read: Page) -> None:
        """The client goes on from the top, and is told."""
        assert Recovery(recovered=False, items=(), position=read.top) == recover(since, read)


class TestMerge:
    """What was held back during the read."""

    @pytest.mark.parametrize(
        ("read", "held", "merged", "top"),
        [
            pytest.param((6, 7), (), (6, 7), 7, id="nothing-held"),
            pytest.param((6, 7), (8, 9), (6, 7, 8, 9), 9, id="goes-on"),
            pytest.param((6, 7), (6, 7), (6, 7), 7, id="all-read-already"),
            pytest.param((6, 7), (7, 8), (6, 7, 8), 8, id="overlap"),
            pytest.param((), (6, 8), (8,), 8, id="nothing-read"),
            pytest.param((), (8, 8, 9), (8, 9), 9, id="held-twice"),
        ],
    )
    def test_joins(self, read: tuple[int, ...], held: tuple[int, ...], merged: tuple[int, ...], top: int) -> None:
        """Each publication once, in order."""
        outcome = Recovery(recovered=True, items=items(*read), position=Position(7, "e"))
        expected = Recovery(recovered=True, items=items(*merged), position=Position(top, "e"))

        assert expected == merge(outcome, items(*held))

    @pytest.mark.parametrize("held", [(9,), (8, 10), (7, 9)])
    @pytest.mark.parametrize("recovered", [True, False])
    def test_finds_a_gap(self, held: tuple[int, ...], *, recovered: bool) -> None:
        """Something between the page and what was held is missing."""
        assert merge(Recovery(recovered=recovered, items=(), position=Position(7, "e")), items(*held)) is None

    def test_gives_nothing_without_recovery(self) -> None:
        """The position covers what was held; it must not be in the reply, nor come later."""
        outcome: Recovery[Publication] = Recovery(recovered=False, items=(), position=Position(7, "e"))

        assert Recovery(recovered=False, items=(), position=Position(9, "e")) == merge(outcome, items(8, 9))


@given(
    size=st.integers(1, 20),
    before=st.integers(0, 30),
    during=st.integers(0, 10),
    offset=st.integers(0, 45),
    limit=st.integers(0, 25),
    overlap=st.integers(0, 5),
)
def test_a_client_has_everything_once_or_is_told(
    *, size: int, before: int, during: int, offset: int, limit: int, overlap: int
) -> None:
    """A read of any stream, with publications that come before, during and after it."""
    stream = Stream(epoch="e", size=size, ttl=60.0)
    made = [stream.append(b"", info=None, tags=None, now=0.0) for _ in range(before)]
    read = Page(stream.after(offset, limit), stream.position)
    made += [stream.append(b"", info=None, tags=None, now=0.0) for _ in range(during)]
    merged = merge(recover(Position(offset, "e"), read), made[max(0, before - overlap) :])

    assert merged is not None
    assert stream.position == merged.position
    if merged.recovered:
        assert list(range(offset + 1, stream.top + 1)) == [item.offset for item in merged.items]
    else:
        assert () == merged.items
        missing = before - offset
        assert missing < 0 or missing > min(size, limit)
