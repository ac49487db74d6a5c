"""From outcomes to what a person and a program read: tables, a JSON document, a chart. Pure, but for rich's drawing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from rich.table import Table
from rich.text import Text

from tests.bench.chart import Bar
from tests.bench.compare import Difference
from tests.bench.figures import FIGURES, Better, Figure, Standing, Summary, Verdict, assess, ratio, summarise, verdict
from tests.bench.plan import Outcome
from tests.bench.scaling import AXES, COLUMNS, Axis, Spot
from tests.bench.servers import OURS, REFERENCE, Server

__all__ = (
    "bars",
    "busiest",
    "difference_table",
    "document",
    "progress_line",
    "scaling_document",
    "scaling_tables",
    "spot_line",
    "summaries",
    "table",
)

COLOURS = {Verdict.BETTER: "green", Verdict.TIE: "yellow", Verdict.WORSE: "red"}
STANDING_COLOURS = {
    Standing.MET: "green",
    Standing.BARELY_MET: "green",
    Standing.NEARLY_MET: "yellow",
    Standing.MISSED: "red",
}
MEASURED = ("open", "rate", "burst", "load", "api", "storm")
"""Commands of the generator whose answers become figures."""
FORMAT = 2
"""Version of the JSON document; raised when a reader of the old one would misread the new one."""


def summaries(outcomes: Iterable[Outcome]) -> dict[str, dict[str, Summary]]:
    """Group the figures of all outcomes by figure and server."""
    return summarise(
        (outcome.server, figure, value) for outcome in outcomes for figure, value in outcome.figures.items()
    )


def table(found: Mapping[str, Mapping[str, Summary]], servers: Sequence[Server], *, runs: int) -> Table:
    """Draw absolute medians, their ratios to the reference, and the goals.

    Args:
        found: As `summaries` returns it.
        servers: The columns, in order.
        runs: For the title.
    """
    names = {server.name for server in servers}
    compared = [server for server in servers if REFERENCE in names - {server.name}]
    drawn = Table(title=f"Medians of {_runs(runs)} (± half the range)", title_justify="left")
    drawn.add_column("figure")
    drawn.add_column("unit", style="dim")
    for server in servers:
        drawn.add_column(server.title, justify="right")
    for server in compared:
        drawn.add_column(f"{server.title} / Litestar", justify="right")
    drawn.add_column("goal", justify="right", style="dim")
    drawn.add_column("goal is")
    for figure in FIGURES:
        by_server = found.get(figure.key)
        if by_server:
            absolute = (_absolute(figure, by_server.get(server.name)) for server in servers)
            ratios = (_ratio(figure, by_server, server) for server in compared)
            drawn.add_row(figure.title, figure.unit, *absolute, *ratios, _goal(figure), _standing(figure, by_server))
    return drawn


def _runs(count: int) -> str:
    return f"{count} run{'s' if count > 1 else ''}"


def _absolute(figure: Figure, summary: Summary | None) -> Text:
    if summary is None:
        return Text("-", style="dim")
    cell = Text(f"{summary.median:,.{figure.digits}f}")
    if len(summary.values) > 1:
        cell.append(f" ±{100 * summary.spread:.0f} %", style="dim")
    return cell


def _ratio(figure: Figure, by_server: Mapping[str, Summary], server: Server) -> Text:
    value = ratio(by_server, server.name, REFERENCE)
    if value is None:
        return Text("-", style="dim")
    return Text(f"{value:.2f} x", style=COLOURS[verdict(figure, value)])


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    text = f"{figure.goal.value:.3g} x" if figure.goal.is_ratio else f"{figure.goal.value:,g}"
    return f"{'at least' if figure.better is Better.HIGHER else 'at most'} {text}"


def _standing(figure: Figure, by_server: Mapping[str, Summary]) -> Text:
    found = assess(figure, by_server, OURS, REFERENCE)
    return Text(found.standing.value, style=STANDING_COLOURS[found.standing]) if found else Text("")


def bars(found: Mapping[str, Mapping[str, Summary]]) -> list[Bar]:
    """Make the rows of the chart: every figure that has a goal and was measured."""
    rows = []
    for figure in FIGURES:
        by_server = found.get(figure.key, {})
        assessment = assess(figure, by_server, OURS, REFERENCE)
        if assessment is None or figure.goal is None:
            continue
        value = f"{by_server[OURS].median:,.{figure.digits}f} {figure.unit}"
        if figure.goal.is_ratio:
            value += f", {assessment.value:.2f} x"
        rows.append(Bar(figure.title, assessment.gain, assessment.standing, f"{value} ({_goal(figure)})"))
    return rows


def busiest(outcomes: Iterable[Outcome], who: str) -> tuple[float, str]:
    """The largest share of a core that someone used in a measured phase, and where.

    Args:
        outcomes: All of them.
        who: `generator_cpu` for the work of the generator, `others_cpu` for processes that have no part in this.

    Returns:
        The share (0 to 1) and a phrase that names server and phase; (0, "") when no phase was measured.
    """
    shares = [
        (float(answer[who]), f"{outcome.server}, {answer['command']}")
        for outcome in outcomes
        for answer in outcome.answers
        if answer["command"] in MEASURED
    ]
    return max(shares, default=(0.0, ""))


def progress_line(outcome: Outcome, *, runs: int) -> str:
    """One line for a finished measurement."""
    head = f"run {outcome.run + 1}/{runs}  {outcome.server:<11} {outcome.measurement:<10}"
    if outcome.failure:
        return f"{head} FAILED: {outcome.failure}"
    titles = {figure.key: figure for figure in FIGURES}
    cells = (
        f"{key} {value:,.{titles[key].digits}f}" if key in titles else f"{key} {value:,.1f}"
        for key, value in outcome.figures.items()
    )
    return f"{head} {'  '.join(cells)}"


def document(
    outcomes: Sequence[Outcome], *, machine: Mapping[str, object], options: Mapping[str, object], at: str
) -> dict[str, object]:
    """Everything known, for programs: raw answers, and medians with ratios.

    Args:
        outcomes: All of them, failed ones too.
        machine: What `machine.describe` says.
        options: How the benchmark was called.
        at: When it ended, ISO 8601 with offset.
    """
    found = summaries(outcomes)
    return {
        "format": FORMAT,
        "at": at,
        "machine": dict(machine),
        "options": dict(options),
        "figures": [_figure_document(figure, found[figure.key]) for figure in FIGURES if figure.key in found],
        "outcomes": [
            {
                "run": outcome.run,
                "server": outcome.server,
                "measurement": outcome.measurement,
                "figures": outcome.figures,
                "answers": list(outcome.answers),
                "failure": outcome.failure or None,
            }
            for outcome in outcomes
        ],
    }


def _figure_document(figure: Figure, by_server: Mapping[str, Summary]) -> dict[str, object]:
    found = assess(figure, by_server, OURS, REFERENCE)
    goal = figure.goal and {
        "value": figure.goal.value,
        "is_ratio": figure.goal.is_ratio,
        "standing": found.standing.value if found else None,
    }
    return {
        "key": figure.key,
        "title": figure.title,
        "unit": figure.unit,
        "better": figure.better.value,
        "goal": goal,
        "servers": {
            name: {
                "median": summary.median,
                "values": list(summary.values),
                "spread": summary.spread,
                "ratio": ratio(by_server, name, REFERENCE),
            }
            for name, summary in by_server.items()
        },
    }


def difference_table(found: Sequence[Difference], *, before: str) -> Table:
    """Draw what differs from an earlier run by more than the spread; the rest is counted in the caption.

    Args:
        found: All differences.
        before: When the earlier run ended.
    """
    beyond = [difference for difference in found if difference.is_beyond_spread]
    alike = len(found) - len(beyond)
    drawn = Table(
        title=f"Compared with the run of {before}",
        title_justify="left",
        caption=f"{alike} of {len(found)} figures differ by no more than the spread of both runs",
        caption_justify="left",
    )
    for name in ("figure", "before", "now", "change", "spread"):
        drawn.add_column(name, justify="left" if name == "figure" else "right")
    for difference in beyond:
        figure, digits = difference.figure, 2 if difference.is_ratio else difference.figure.digits
        unit = "x Litestar" if difference.is_ratio else figure.unit
        drawn.add_row(
            f"{figure.title}, {unit}",
            f"{difference.before:,.{digits}f}",
            f"{difference.now:,.{digits}f}",
            Text(f"{100 * difference.change:+.0f} %", style="green" if difference.is_better else "red"),
            f"±{100 * difference.spread:.0f} %",
        )
    return drawn


# Scaling.


def spot_line(spot: Spot, *, runs: int) -> str:
    """One line for a finished point."""
    head = f"run {spot.run + 1}/{runs}  {spot.server:<11} {spot.axis} {spot.value:,}"
    if spot.failure:
        return f"{head}  FAILED: {spot.failure}"
    return f"{head}  {spot.figures['deliveries_many']:,.0f}/s  {spot.figures['delivery_us_many']:.2f} µs per delivery"


def scaling_tables(spots: Sequence[Spot], *, runs: int) -> Iterator[Table]:
    """Draw one table for each axis and server, of medians."""
    for axis in AXES:
        for server in dict.fromkeys(spot.server for spot in spots):
            mine = [spot for spot in spots if (spot.axis, spot.server) == (axis.name, server) and spot.figures]
            if mine:
                yield _scaling_table(axis, server, _medians(mine), runs)


def _medians(spots: Sequence[Spot]) -> dict[int, dict[str, float]]:
    """By value on the axis."""
    return {
        value: {
            column.key: median(spot.figures[column.key] for spot in spots if spot.value == value) for column in COLUMNS
        }
        for value in dict.fromkeys(spot.value for spot in spots)
    }


def _scaling_table(axis: Axis, server: str, rows: Mapping[int, Mapping[str, float]], runs: int) -> Table:
    drawn = Table(title=f"{server}: {axis.title}, medians of {_runs(runs)}", title_justify="left")
    drawn.add_column(axis.name.replace("_", " "), justify="right")
    for column in COLUMNS:
        drawn.add_column(column.title, justify="right")
    for value, figures in rows.items():
        drawn.add_row(f"{value:,}", *(f"{figures[column.key]:,.{column.digits}f}" for column in COLUMNS))
    return drawn


def scaling_document(
    spots: Sequence[Spot], *, machine: Mapping[str, object], options: Mapping[str, object], at: str
) -> dict[str, object]:
    """Everything known about scaling, for programs; arguments as for `document`."""
    servers = dict.fromkeys(spot.server for spot in spots)
    return {
        "format": FORMAT,
        "at": at,
        "machine": dict(machine),
        "options": dict(options),
        "axes": [
            {
                "name": axis.name,
                "title": axis.title,
                "servers": {
                    server: _medians([s for s in spots if (s.axis, s.server) == (axis.name, server) and s.figures])
                    for server in servers
                },
            }
            for axis in AXES
        ],
        "spots": [
            {
                "run": spot.run,
                "server": spot.server,
                "axis": spot.axis,
                "value": spot.value,
                "figures": spot.figures,
                "failure": spot.failure or None,
            }
            for spot in spots
        ],
    }
