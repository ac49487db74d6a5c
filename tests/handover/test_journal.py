from __future__ import annotations

import pytest

from tests.handover.journal import ACCEPT, BEGIN, COMMIT, DELIVERY, Entry, overlaps, reigns


def entries(*items: tuple[float, str]) -> list[Entry]:
    """Return lines."""
    return [Entry(*item) for item in items]


def test_a_process_has_a_reign_for_each_begin() -> None:
    """However often it comes back."""
    found = reigns("a", entries((1, BEGIN), (2, ACCEPT), (5, BEGIN), (6, DELIVERY), (7, COMMIT)))

    assert [(1, 2), (5, 7)] == [(reign.begin, reign.end) for reign in found]
    assert (1, 0) == (found[0].number_of(ACCEPT), found[0].number_of(COMMIT))


def test_nothing_is_done_before_a_reign() -> None:
    """That would be a defect by itself."""
    with pytest.raises(AssertionError, match="before it served"):
        reigns("a", entries((1, ACCEPT)))


def test_reigns_that_follow_each_other_are_fine() -> None:
    """In whichever order they are given."""
    first = reigns("a", entries((1, BEGIN), (2, ACCEPT), (9, BEGIN)))
    second = reigns("b", entries((3, BEGIN), (8, ACCEPT)))

    assert [] == overlaps([*second, *first])


@pytest.mark.parametrize("kind", [ACCEPT, DELIVERY, COMMIT])
def test_one_late_act_is_an_overlap(kind: str) -> None:
    """Of whatever kind."""
    first = reigns("a", entries((1, BEGIN), (4, kind)))
    second = reigns("b", entries((3, BEGIN)))

    assert 1 == len(overlaps([*first, *second]))


def test_an_early_commit_is_an_overlap_however_late_it_was_noted() -> None:
    """Lines are not in the order of their time when an answer took long."""
    first = reigns("a", entries((1, BEGIN), (5, ACCEPT), (2, COMMIT)))
    second = reigns("b", entries((4, BEGIN)))

    assert 1 == len(overlaps([*first, *second]))
