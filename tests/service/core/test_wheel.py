from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.wheel import Wheel

GRAIN = 0.25  # a power of two, so that the sums below are exact


def wheel(now: float = 0.0) -> Wheel[str]:
    """Return an empty one."""
    return Wheel(grain_seconds=GRAIN, now=now)


def test_gives_an_item_back_once_its_time_has_come() -> None:
    """Not before, and not a second time."""
    items = wheel(100.0)
    items.schedule("a", 101.0)

    assert [] == items.due(100.75)
    assert ["a"] == items.due(101.0)
    assert [] == items.due(200.0)
    assert 0 == len(items)


def test_is_late_by_less_than_a_grain() -> None:
    """A deadline between two grains waits for the next."""
    items = wheel()
    items.schedule("a", 1.1)

    assert [] == items.due(1.24)
    assert ["a"] == items.due(1.25)


def test_gives_what_is_overdue_at_the_next_grain() -> None:
    """A deadline in the past is no reason to go round in circles."""
    items = wheel(10.0)
    items.schedule("a", 3.0)

    assert [] == items.due(10.0)
    assert ["a"] == items.due(10.25)


def test_moves_an_item() -> None:
    """Earlier, later, and to where it is."""
    items = wheel()
    items.schedule("a", 5.0)
    items.schedule("a", 1.0)
    items.schedule("b", 1.0)
    items.schedule("b", 5.0)
    items.schedule("b", 5.0)

    assert ["a"] == items.due(1.0)
    assert ["b"] == items.due(5.0)


@pytest.mark.parametrize("known", [True, False])
def test_takes_an_item_out(*, known: bool) -> None:
    """By an infinite deadline or by name; one that is not there does not matter."""
    items = wheel()
    if known:
        items.schedule("a", 1.0)
        items.schedule("b", 1.0)
    items.schedule("a", math.inf)
    items.remove("b")

    assert 0 == len(items)
    assert [] == items.due(10.0)


def test_gives_items_in_order_of_time_and_then_of_arrival() -> None:
    """So that runs repeat."""
    items = wheel()
    for name, at in (("c", 2.0), ("b", 1.0), ("a", 1.0), ("d", 3.0)):
        items.schedule(name, at)

    assert ["b", "a", "c", "d"] == items.due(50.0)


def test_survives_a_clock_that_stands_still() -> None:
    """The same moment twice gives nothing twice."""
    items = wheel()
    items.schedule("a", 1.0)
    items.due(1.0)
    items.schedule("b", 1.0)

    assert [] == items.due(1.0)
    assert ["b"] == items.due(1.25)


OPERATIONS = st.lists(
    st.tuples(st.just("schedule"), st.sampled_from("abcdef"), st.integers(0, 4000).map(lambda ticks: ticks / 64))
    | st.tuples(st.just("schedule"), st.sampled_from("abcdef"), st.just(math.inf))
    | st.tuples(st.just("remove"), st.sampled_from("abcdef"), st.just(0.0))
    | st.tuples(st.just("advance"), st.just(""), st.sampled_from([0.0, 1 / 64, 0.25, 1.0, 30.0])),
    max_size=60,
)


@given(OPERATIONS)
def test_does_what_a_plain_table_does(operations: list[tuple[str, str, float]]) -> None:
    """A dictionary of the moments at which each item comes out, and a search through all of it."""
    now, items, table = 0.0, wheel(), dict[str, float]()
    for operation, name, value in operations:
        if operation == "schedule" and value < math.inf:
            # Rounded up to the grain, and never to one that was looked at already.
            table[name] = max(math.ceil(value / GRAIN), math.floor(now / GRAIN) + 1) * GRAIN
            items.schedule(name, value)
        elif operation == "advance":
            now += value
            due = items.due(now)
            moments = [table[item] for item in due]

            assert {item for item, at in table.items() if at <= now} == set(due)
            assert sorted(moments) == moments
            table = {item: at for item, at in table.items() if at > now}
        elif operation == "schedule":
            table.pop(name, None)
            items.schedule(name, math.inf)
        else:
            table.pop(name, None)
            items.remove(name)

        assert len(table) == len(items)
