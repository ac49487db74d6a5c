from typing import Any

import pytest

from tests.bench.compare import differences, incomparable
from tests.bench.figures import FIGURES
from tests.bench.measurements import MEASUREMENTS
from tests.bench.plan import Outcome
from tests.bench.report import document


def stored(ours: tuple[float, ...], stock: tuple[float, ...] = (), *, key: str = "deliveries_32") -> dict[str, Any]:
    """A document with one figure."""
    outcomes = [Outcome(run, "slackwater", "traffic", {key: value}) for run, value in enumerate(ours)]
    outcomes += [Outcome(run, "litestar", "traffic", {key: value}) for run, value in enumerate(stock)]
    return document(outcomes, machine={}, options={"runs": len(ours), "spin": True}, at="2026-11-23T10:00Z")


def test_differences_compare_ratios_where_both_runs_have_them() -> None:
    """A machine that is twice as fast as the other day changes nothing."""
    (found,) = differences(stored((100.0,), (10.0,)), stored((200.0,), (20.0,)), "slackwater")

    assert (True, 10.0, 10.0, False) == (found.is_ratio, found.before, found.now, found.is_beyond_spread)


def test_differences_compare_the_figures_themselves_without_a_reference() -> None:
    """One of the two was measured alone."""
    (found,) = differences(stored((100.0,), (10.0,)), stored((200.0,)), "slackwater")

    assert (False, 1.0, True, True) == (found.is_ratio, found.change, found.is_beyond_spread, found.is_better)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param((90.0, 100.0, 110.0), (108.0, 111.0, 114.0), False, id="the spread of both covers it"),
        pytest.param((99.0, 100.0, 101.0), (112.0, 115.0, 118.0), True, id="it does not"),
        pytest.param((100.0,), (104.0,), False, id="single runs have no spread, but chance has"),
    ],
)
def test_a_difference_is_beyond_the_spread_of_both_runs(
    before: tuple[float, ...], now: tuple[float, ...], *, expected: bool
) -> None:
    """Half the ranges of both runs together are what chance may do."""
    (found,) = differences(stored(before), stored(now), "slackwater")

    assert expected is found.is_beyond_spread


@pytest.mark.parametrize(("key", "expected"), [("deliveries_32", True), ("latency_p50", False)])
def test_more_is_better_or_worse_by_figure(key: str, *, expected: bool) -> None:
    """More deliveries are good, more milliseconds are not."""
    (found,) = differences(stored((100.0,), key=key), stored((200.0,), key=key), "slackwater")

    assert expected is found.is_better


def test_differences_leave_out_what_one_run_has_not() -> None:
    """A figure or a server that is missing cannot be compared."""
    before = stored((100.0,), (10.0,))

    assert [] == list(differences(before, stored((1.0,), key="latency_p50"), "slackwater"))
    assert [] == list(differences(before, stored((1.0,)), "litestar"))


def test_incomparable_names_the_options_that_differ() -> None:
    """How often was measured makes no difference to what was."""
    before, now = stored((1.0,)), stored((1.0, 2.0))
    now["options"]["spin"] = False

    assert ["spin"] == incomparable(before, now)


def test_every_row_belongs_to_one_measurement() -> None:
    """So that asking for a row says what to measure."""
    named = [key for each in MEASUREMENTS for key in each.figures]

    assert sorted(figure.key for figure in FIGURES) == sorted(named)
