"""The judge is judged too: each promise that is broken is noticed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.rounds.ledger import Ledger, Seen


def ledger() -> Ledger:
    """Two publishers, with one publication that nobody confirmed."""
    found = Ledger()
    for name in ("a:1", "b:1", "a:2", "a:3"):
        found.begin(name, "news:a").acknowledged = name != "a:2"
    found.begin("elsewhere:1", "news:b").acknowledged = True
    return found


def seen(*names: str) -> list[Seen]:
    """Number them as a stream does."""
    return [Seen(offset, name) for offset, name in enumerate(names, start=1)]


@pytest.mark.parametrize("names", [("a:1", "b:1", "a:3"), ("b:1", "a:1", "a:2", "a:3")])
def test_accepts_what_is_right(names: Sequence[str]) -> None:
    """With or without what was not confirmed, and the publishers in any order among each other."""
    ledger().check("news:a", [seen(*names), seen(*names)])


@pytest.mark.parametrize(
    ("subscribers", "problem"),
    [
        pytest.param([seen("a:1", "a:3")], "acknowledged and lost", id="lost"),
        pytest.param([seen("a:1", "b:1", "a:1", "a:3")], "twice", id="twice"),
        pytest.param([seen("b:1", "a:3", "a:1")], "changed places", id="order"),
        pytest.param([seen("a:1", "b:1", "a:3", "c:1")], "from nowhere", id="never-sent"),
        pytest.param([[Seen(1, "a:1"), Seen(2, "b:1"), Seen(4, "a:3")]], "gap", id="gap"),
        pytest.param([seen("a:1", "b:1", "a:3"), seen("b:1", "a:1", "a:3")], "at 0", id="not-the-same"),
        pytest.param([seen("a:1", "b:1", "a:3"), seen("a:1", "b:1")], "3 and 2", id="one-lacks-the-end"),
    ],
)
def test_notices(subscribers: Sequence[Sequence[Seen]], problem: str) -> None:
    """Whatever is wrong."""
    with pytest.raises(AssertionError, match=problem):
        ledger().check("news:a", subscribers)
