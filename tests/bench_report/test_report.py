import io
import json

from rich.console import Console
from rich.table import Table

from tests.bench.compare import Difference
from tests.bench.figures import Better, Figure, Standing
from tests.bench.measurements import Sizes
from tests.bench.plan import Outcome
from tests.bench.report import (
    bars,
    busiest,
    difference_table,
    document,
    progress_line,
    scaling_document,
    scaling_tables,
    spot_line,
    summaries,
    table,
)
from tests.bench.scaling import COLUMNS, ScalingSizes, Spot
from tests.bench.servers import SERVERS

OUTCOMES = (
    Outcome(0, "slackwater", "traffic", {"deliveries_32": 900_000.0, "latency_p99": 10.0}),
    Outcome(0, "litestar", "traffic", {"deliveries_32": 70_000.0, "latency_p99": 20.0}),
    Outcome(1, "slackwater", "traffic", {"deliveries_32": 1_000_000.0, "latency_p99": 10.0}),
    Outcome(1, "litestar", "traffic", {"deliveries_32": 90_000.0, "latency_p99": 20.0}),
    Outcome(1, "node", "traffic", {}, failure="it ended with code 1: no reason"),
)


def spot(run: int, axis: str, value: int, figure: float) -> Spot:
    """A point where every figure has the same value."""
    return Spot(run, "slackwater", axis, value, {column.key: figure for column in COLUMNS})


def plain(shown: Table) -> str:
    """A table as plain text."""
    text = io.StringIO()
    Console(width=200, file=text).print(shown)
    return text.getvalue()


def drawn(outcomes: tuple[Outcome, ...]) -> str:
    """The table of the figures as plain text."""
    return plain(table(summaries(outcomes), SERVERS, runs=2))


def cells(line: str) -> list[str]:
    """The cells of one row."""
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_table_shows_medians_spread_ratios_and_goals() -> None:
    """A row has each server's median, and ratios to the reference."""
    row = next(line for line in drawn(OUTCOMES).splitlines() if "32 in flight" in line)

    assert [
        "deliveries, 32 in flight",
        "1/s",
        "950,000 ±5 %",
        "80,000 ±12 %",
        "-",
        "11.88 x",
        "-",
        "at least 14 x",
        "missed",
    ] == cells(row)


def test_table_leaves_out_figures_nobody_has() -> None:
    """What was skipped takes no row."""
    assert "memory" not in drawn(OUTCOMES)


def test_document_is_json_with_medians_ratios_and_failures() -> None:
    """A program finds figures by key and every failure by its reason."""
    written = json.loads(
        json.dumps(document(OUTCOMES, machine={"cores": 2}, options={"runs": 2}, at="2026-11-23T10:00Z"))
    )
    deliveries = next(figure for figure in written["figures"] if figure["key"] == "deliveries_32")

    assert [900_000.0, 1_000_000.0] == deliveries["servers"]["slackwater"]["values"]
    assert 11.875 == deliveries["servers"]["slackwater"]["ratio"]
    assert {"value": 14.0, "is_ratio": True, "standing": "missed"} == deliveries["goal"]
    assert [None, None, None, None, "it ended with code 1: no reason"] == [
        outcome["failure"] for outcome in written["outcomes"]
    ]


def test_busiest_names_the_phase_and_ignores_what_is_not_measured() -> None:
    """Only phases that give figures count."""
    outcome = Outcome(
        0,
        "node",
        "traffic",
        {},
        (
            {"command": "publishers", "generator_cpu": 0.99},
            {"command": "burst", "generator_cpu": 0.5},
            {"command": "rate", "generator_cpu": 0.1},
            {"command": "settle"},
        ),
    )

    assert (0.5, "node, burst") == busiest([outcome], "generator_cpu")
    assert (0.0, "") == busiest([], "generator_cpu")


def test_progress_line_tells_figures_or_the_reason_of_a_failure() -> None:
    """Each finished measurement is one line."""
    assert "run 1/2  slackwater  traffic    deliveries_32 900,000  latency_p99 10.00" == progress_line(
        OUTCOMES[0], runs=2
    )
    assert "run 2/2  node        traffic    FAILED: it ended with code 1: no reason" == progress_line(
        OUTCOMES[-1], runs=2
    )


def test_sizes_leave_out_what_the_descriptor_limit_does_not_allow() -> None:
    """Ten thousand connections need a little more than ten thousand descriptors."""
    assert ((1_000, 10_000), 10_000) == (Sizes().within(20_000).idle, Sizes().within(20_000).storm)
    assert ((1_000,), 0) == (Sizes().within(10_000).idle, Sizes().within(10_000).storm)
    assert (10_000, 1_800) == (
        ScalingSizes().within(20_000).most_connections,
        ScalingSizes().within(2_000).most_connections,
    )


def test_bars_are_the_goals_that_were_measured() -> None:
    """What has no goal or was not measured has no bar."""
    found = bars(summaries(OUTCOMES))

    assert [
        ("deliveries, 32 in flight", Standing.MISSED, "950,000 1/s, 11.88 x (at least 14 x)"),
        ("publish to delivery, p99", Standing.MET, "10.00 ms, 0.50 x (at most 0.6 x)"),
    ] == [(bar.title, bar.standing, bar.text) for bar in found]


def test_difference_table_shows_what_is_beyond_the_spread_and_counts_the_rest() -> None:
    """Small differences are noise, so they are not shown one by one."""
    figure = Figure("wait", "wait", "ms", Better.LOWER, digits=1)
    found = [
        Difference(figure, is_ratio=False, before=10.0, now=13.0, spread=0.1),
        Difference(figure, is_ratio=False, before=10.0, now=10.9, spread=0.1),
    ]

    text = plain(difference_table(found, before="2026-11-23"))

    assert ["wait, ms", "10.0", "13.0", "+30 %", "±10 %"] == cells(text.splitlines()[4])
    assert "10.9" not in text
    assert "1 of 2 figures differ by no more than the spread" in " ".join(text.split())


def test_scaling_tables_show_medians_by_axis() -> None:
    """Points of one axis make one table, in their order; what failed is left out."""
    spots = [
        *(spot(run, "connections", 1_000, figure) for run, figure in enumerate((1.0, 9.0, 5.0))),
        spot(0, "channels", 10, 7.0),
        Spot(0, "slackwater", "channels", 100, {}, failure="not ready"),
    ]

    tables = [plain(each) for each in scaling_tables(spots, runs=3)]
    written = json.loads(json.dumps(scaling_document(spots, machine={}, options={}, at="2026-11-23T10:00Z")))

    assert [True, True] == ["1,000" in tables[0], "slackwater: channels" in tables[1]]
    assert 5.0 == written["axes"][0]["servers"]["slackwater"]["1000"]["memory"]
    assert "not ready" == written["spots"][-1]["failure"]


def test_spot_line_tells_the_cost_or_the_reason_of_a_failure() -> None:
    """Each finished point is one line."""
    assert "run 1/3  slackwater  channels 10  7/s  7.00 µs per delivery" == spot_line(
        spot(0, "channels", 10, 7.0), runs=3
    )
    assert "run 1/3  slackwater  channels 100  FAILED: not ready" == spot_line(
        Spot(0, "slackwater", "channels", 100, {}, failure="not ready"), runs=3
    )
