from math import inf

import pytest

from tests.bench.figures import (
    FIGURES,
    Better,
    Figure,
    Goal,
    Standing,
    Summary,
    Verdict,
    assess,
    ratio,
    summarise,
    verdict,
)

HIGHER = Figure("rate", "rate", "1/s", Better.HIGHER)
LOWER = Figure("wait", "wait", "ms", Better.LOWER)


def test_summarise_groups_by_figure_and_server_in_the_order_of_the_runs() -> None:
    """Values of one figure and server stay together, in order."""
    found = summarise([("a", "rate", 3.0), ("b", "rate", 9.0), ("a", "rate", 1.0), ("a", "wait", 5.0)])

    assert {"rate": {"a": Summary((3.0, 1.0)), "b": Summary((9.0,))}, "wait": {"a": Summary((5.0,))}} == found


@pytest.mark.parametrize(
    ("values", "middle", "spread"),
    [
        pytest.param((10.0,), 10.0, 0.0, id="one run"),
        pytest.param((9.0, 10.0, 13.0), 10.0, 0.2, id="an outlier does not move the median"),
        pytest.param((8.0, 12.0), 10.0, 0.2, id="two runs"),
        pytest.param((0.0, 0.0), 0.0, 0.0, id="zero"),
    ],
)
def test_a_summary_knows_median_and_spread(values: tuple[float, ...], middle: float, spread: float) -> None:
    """The spread is half the range over the median."""
    summary = Summary(values)

    assert middle == summary.median
    assert spread == pytest.approx(summary.spread)


def test_ratio_compares_medians() -> None:
    """The ratio is that of medians, not the median of ratios."""
    by_server = {"ours": Summary((10.0, 30.0, 20.0)), "stock": Summary((5.0, 4.0, 3.0))}

    assert 5.0 == ratio(by_server, "ours", "stock")


@pytest.mark.parametrize(
    "by_server",
    [
        pytest.param({"ours": Summary((1.0,))}, id="no reference"),
        pytest.param({"stock": Summary((1.0,))}, id="not measured"),
        pytest.param({"ours": Summary((1.0,)), "stock": Summary((0.0,))}, id="reference is zero"),
    ],
)
def test_ratio_is_none_where_there_is_nothing_to_compare(by_server: dict[str, Summary]) -> None:
    """A failed peer leaves no ratio rather than an exception."""
    assert ratio(by_server, "ours", "stock") is None


@pytest.mark.parametrize(
    ("figure", "value", "expected"),
    [
        pytest.param(HIGHER, 2.0, Verdict.BETTER, id="more of a good thing"),
        pytest.param(HIGHER, 1.1, Verdict.TIE, id="a little more"),
        pytest.param(HIGHER, 0.5, Verdict.WORSE, id="less of a good thing"),
        pytest.param(LOWER, 0.5, Verdict.BETTER, id="less of a bad thing"),
        pytest.param(LOWER, 0.95, Verdict.TIE, id="a little less"),
        pytest.param(LOWER, 2.0, Verdict.WORSE, id="more of a bad thing"),
        pytest.param(LOWER, 0.0, Verdict.BETTER, id="none of a bad thing"),
    ],
)
def test_verdict_follows_the_direction_of_the_figure(figure: Figure, value: float, expected: Verdict) -> None:
    """Small differences are ties in either direction."""
    assert expected is verdict(figure, value)


@pytest.mark.parametrize(
    ("better", "goal", "ours", "stock", "expected"),
    [
        pytest.param(Better.HIGHER, 2.0, (30.0,), (10.0,), Standing.MET, id="more than asked for"),
        pytest.param(Better.HIGHER, 2.0, (20.0,), (10.0,), Standing.MET, id="exactly as much"),
        pytest.param(Better.HIGHER, 2.0, (19.0, 21.0, 23.0), (10.0,), Standing.BARELY_MET, id="met in most runs"),
        pytest.param(Better.HIGHER, 2.0, (17.0, 19.0, 21.0), (10.0,), Standing.NEARLY_MET, id="met in one run"),
        pytest.param(Better.HIGHER, 2.0, (19.0,), (9.0, 10.0, 11.0), Standing.NEARLY_MET, id="the other side's spread"),
        pytest.param(Better.HIGHER, 2.0, (19.0,), (10.0,), Standing.MISSED, id="one run has no spread"),
        pytest.param(Better.LOWER, 0.5, (4.0, 4.1), (10.0,), Standing.MET, id="less than allowed"),
        pytest.param(Better.LOWER, 0.5, (6.0, 6.1), (10.0,), Standing.MISSED, id="more than allowed"),
    ],
)
def test_assess_holds_a_ratio_against_its_goal(
    better: Better, goal: float, ours: tuple[float, ...], stock: tuple[float, ...], expected: Standing
) -> None:
    """What a single run can decide needs no spread; what lies within it is said to."""
    figure = Figure("x", "x", "1/s", better, goal=Goal(goal))

    found = assess(figure, {"ours": Summary(ours), "stock": Summary(stock)}, "ours", "stock")

    assert found is not None
    assert expected is found.standing


def test_assess_takes_the_figure_itself_where_the_goal_is_no_ratio() -> None:
    """Such a goal needs no reference, and zero is as good as it can be."""
    figure = Figure("x", "x", "s", Better.LOWER, goal=Goal(8.0, is_ratio=False))

    found = [assess(figure, {"ours": Summary((value,))}, "ours", "stock") for value in (4.0, 16.0, 0.0)]

    assert [(4.0, 2.0), (16.0, 0.5), (0.0, inf)] == [(each.value, each.gain) for each in found if each]


@pytest.mark.parametrize(
    ("goal", "by_server"),
    [
        pytest.param(None, {"ours": Summary((1.0,))}, id="no goal"),
        pytest.param(Goal(2.0), {"ours": Summary((1.0,))}, id="no reference"),
        pytest.param(Goal(2.0), {"stock": Summary((1.0,))}, id="not measured"),
    ],
)
def test_assess_says_nothing_where_nothing_can_be_said(goal: Goal | None, by_server: dict[str, Summary]) -> None:
    """A missing figure is neither met nor missed."""
    assert assess(Figure("x", "x", "s", Better.LOWER, goal=goal), by_server, "ours", "stock") is None


def test_figures_have_distinct_keys() -> None:
    """The JSON output names figures by key."""
    assert len(FIGURES) == len({figure.key for figure in FIGURES})
