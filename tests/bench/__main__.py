"""`python -m tests.bench`: measure, print tables, write JSON and a chart, compare with an earlier run."""

import datetime as dt
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tests.bench.chart import chart
from tests.bench.compare import differences, incomparable
from tests.bench.durable import Durability, Sample, durable_table, line
from tests.bench.errors import MeasurementError, UnavailableError
from tests.bench.figures import FIGURES
from tests.bench.generator import build
from tests.bench.machine import Cores, choose_cores, describe, raise_descriptor_limit, realtime_prefix
from tests.bench.measurements import DESCRIPTORS_SPARE, MEASUREMENTS, Sizes
from tests.bench.plan import Bench, Outcome, Place
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
from tests.bench.scaling import Scaling, ScalingSizes
from tests.bench.servers import OURS, ROOT, SERVERS, Server

EXIT_FAILED = 1
EXIT_UNAVAILABLE = 2
BUSY_SHARE = 0.9
"""Above this the generator may have been the limit, and figures are lower bounds."""
DISTURBED_SHARE = 0.15
"""Above this, what else the machine did is worth a warning."""
DURABLE_SECONDS, DURABLE_QUICK_SECONDS = 5.0, 0.5
"""How long each measurement about durable history takes."""
NAMES = tuple(server.name for server in SERVERS)
STORED = ROOT / "build" / "bench"
TABLE_WIDTH = 190

HELP = f"""Compare the service with Litestar's own channels and with Node ws.

Each server runs alone on one core, the load generator on another; servers take turns within each run and figures
are medians. Progress goes to stderr, tables to stdout.

The service runs as in production: tokens, history with recovery, heartbeats, the slow-consumer check and all limits
are on, except that the publishing client may publish without bound; under full load and in the 50 rooms every limit
is the default. A connect of ours is handshake, connect and subscribe with their replies; of the peers the bare
handshake.

A whole run is stored in build/bench/ and compared with the one stored before. Other runs are stored and compared
where --json, --chart and --compare say.

\b
Rows for --only, by measurement:
{chr(10).join(f"  {each.name}: {', '.join(each.figures)}" for each in MEASUREMENTS)}

Needs Linux and a C compiler; the Node column also node, npm and, the first time, its registry. What is compiled or
installed goes to $SLACKWATER_BENCH_CACHE (default: slackwater-bench in the user's cache directory).

Exit codes: 0 measured, whatever the figures · 1 a measurement failed · 2 usage, or something needed is missing.
"""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for."""

    runs: int
    is_quick: bool
    only: frozenset[str]
    """Keys of figures; empty for all."""
    names: tuple[str, ...]
    """Of servers; empty for the default."""
    json_path: Path | None
    chart_path: Path | None
    compare_path: Path | None
    realtime: bool

    @property
    def is_whole(self) -> bool:
        """Whether it is the run that is stored by default."""
        return not (self.is_quick or self.only or self.names)

    @property
    def stored_path(self) -> Path | None:
        """Where the JSON goes; None for nowhere."""
        return self.json_path or (STORED / "results.json" if self.is_whole else None)


def _rows(_: click.Context, __: click.Parameter, text: str | None) -> frozenset[str]:
    """Turn names of rows and of measurements into keys of figures."""
    groups = {each.name: frozenset(each.figures) for each in MEASUREMENTS}
    known = groups | {figure.key: frozenset({figure.key}) for figure in FIGURES}
    names = [name.strip() for name in text.split(",")] if text else []
    for name in names:
        if name not in known:
            raise click.BadParameter(f"there is no row {name!r}; --help lists them")
    return frozenset().union(*(known[name] for name in names))


def _writable(_: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path and not path.parent.is_dir():
        raise click.BadParameter(f"there is no directory {path.parent}", param_hint=parameter.opts[0])
    return path


@click.command(help=HELP, context_settings={"max_content_width": 120})
@click.option(
    "--runs", type=click.IntRange(1, 100), metavar="N", default=3, show_default=True, help="Runs to take medians of."
)
@click.option("--quick", is_flag=True, help="One short run with fewer connections: does everything work?")
@click.option("--only", metavar="ROW,...", callback=_rows, help="Only these rows, or the rows of these measurements.")
@click.option("--scaling", is_flag=True, help="Cost against connections, channels and message size instead.")
@click.option("--durable", is_flag=True, help="What history in a database costs, and nothing else.")
@click.option(
    "--server",
    "names",
    type=click.Choice(NAMES),
    multiple=True,
    help="Only this server; repeatable. Default: all; for --scaling the service.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_writable,
    help="Write all results here.",
)
@click.option(
    "--chart",
    "chart_path",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_writable,
    help="Draw what was reached against the goals here, as SVG.",
)
@click.option(
    "--compare",
    "compare_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show what differs from this earlier run by more than the spread.",
)
@click.option(
    "--cores", type=int, nargs=2, metavar="SERVER GENERATOR", help="Core numbers. Default: the first and the last."
)
@click.option("--realtime", is_flag=True, help="Schedule both sides in real time (chrt), where permitted.")
@click.option("--spin/--no-spin", default=True, show_default=True, help="Let the generator poll without sleeping.")
def main(  # noqa: PLR0913 - one parameter per option
    *,
    runs: int,
    quick: bool,
    only: frozenset[str],
    scaling: bool,
    durable: bool,
    names: tuple[str, ...],
    json_path: Path | None,
    chart_path: Path | None,
    compare_path: Path | None,
    cores: tuple[int, int] | None,
    realtime: bool,
    spin: bool,
) -> None:
    """Run the benchmark."""
    if scaling and (only or chart_path or compare_path):
        raise click.UsageError("--scaling has rows of its own: it goes with --json, --server, --runs and --quick")
    if durable and (scaling or only or names or chart_path or compare_path):
        raise click.UsageError("--durable has rows of its own: it goes with --json, --runs and --quick")
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    wishes = Wishes(1 if quick else runs, quick, only, names, json_path, chart_path, compare_path, realtime)
    try:
        place = Place(build(), choose_cores(cores), realtime_prefix() if realtime else [], spin)
    except UnavailableError as error:
        progress.print(error.reason, markup=False)
        sys.exit(EXIT_UNAVAILABLE)
    if place.cores == Cores(place.cores.generator, place.cores.server):
        progress.print("Only one core: server and generator share it, so compare ratios only.")
    is_complete = durable or (_scale if scaling else _bench)(wishes, place, progress)
    if durable or (wishes.is_whole and not scaling):
        is_complete = _durable(wishes, place, progress) and is_complete
    sys.exit(0 if is_complete else EXIT_FAILED)


def _bench(wishes: Wishes, place: Place, progress: Console) -> bool:
    """Measure the rows; False when one failed."""
    bench = Bench(
        servers=_prepared(wishes.names or NAMES, progress),
        measurements=[each for each in MEASUREMENTS if not wishes.only or wishes.only & set(each.figures)],
        sizes=_sizes(wishes, progress),
        runs=wishes.runs,
        place=place,
    )
    outcomes = []
    for outcome in bench.outcomes():
        outcomes.append(outcome)
        progress.print(progress_line(outcome, runs=bench.runs), markup=False)
    earlier = _earlier(wishes)
    options = _options(wishes, place, asdict(bench.sizes))
    # As it is read back, so that it can be compared with what was stored.
    written = json.loads(json.dumps(document(outcomes, machine=describe(), options=options, at=_at())))
    _show(wishes, bench, outcomes)
    if earlier is not None:
        _compare(earlier, written)
    _write(wishes, written, outcomes)
    return not any(outcome.failure for outcome in outcomes)


def _scale(wishes: Wishes, place: Place, progress: Console) -> bool:
    """Measure how cost grows; False when a point failed."""
    sizes = (ScalingSizes.quick() if wishes.is_quick else ScalingSizes()).within(raise_descriptor_limit())
    scaling = Scaling(_prepared(wishes.names or (OURS,), progress), sizes, wishes.runs, place)
    spots = []
    for spot in scaling.spots():
        spots.append(spot)
        progress.print(spot_line(spot, runs=scaling.runs), markup=False)
    for drawn in scaling_tables(spots, runs=scaling.runs):
        _console().print(drawn)
    if wishes.json_path:
        options = _options(wishes, place, asdict(sizes))
        _dump(scaling_document(spots, machine=describe(), options=options, at=_at()), wishes.json_path)
    return not any(spot.failure for spot in spots)


def _durable(wishes: Wishes, place: Place, progress: Console) -> bool:
    """Measure what durable history costs; False when that failed."""
    durability = Durability(place.program, wishes.runs, DURABLE_QUICK_SECONDS if wishes.is_quick else DURABLE_SECONDS)
    samples: list[Sample] = []
    failure = ""
    try:
        for sample in durability.samples():
            samples.append(sample)
            progress.print(line(sample, runs=durability.runs), markup=False)
    except UnavailableError as error:
        progress.print(f"Left out: {error.reason}.", markup=False)
    except MeasurementError as error:
        failure = error.reason
        progress.print(f"Durable history could not be measured: {failure}", markup=False)
    if samples:
        _console().print(durable_table(samples, runs=durability.runs))
        path = wishes.json_path if not wishes.is_whole else STORED / "durable.json"
        if path:
            written = {"at": _at(), "machine": describe(), "samples": [asdict(sample) for sample in samples]}
            _dump(written, path)
    return not failure


def _prepared(names: Iterable[str], progress: Console) -> list[Server]:
    """The servers that can run here; the others are named with the reason."""
    ready = []
    for server in SERVERS:
        if server.name not in names:
            continue
        try:
            server.prepare()
        except UnavailableError as error:
            progress.print(f"{server.title} is left out: {error.reason}", markup=False)
        else:
            ready.append(server)
    if not ready:
        sys.exit(EXIT_UNAVAILABLE)
    return ready


def _sizes(wishes: Wishes, progress: Console) -> Sizes:
    wanted = Sizes.quick() if wishes.is_quick else Sizes()
    limit = raise_descriptor_limit()
    sizes = wanted.within(limit)
    for count in sorted({*wanted.idle, wanted.storm} - {*sizes.idle, sizes.storm}):
        progress.print(
            f"{count:,} connections are left out: they need {count + DESCRIPTORS_SPARE:,} descriptors, "
            f"and the hard limit is {limit:,}"
        )
    return sizes


def _options(wishes: Wishes, place: Place, sizes: dict[str, Any]) -> dict[str, object]:
    how = {"runs": wishes.runs, "quick": wishes.is_quick, "realtime": wishes.realtime, "spin": place.spin}
    return how | sizes | asdict(place.cores)


def _at() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")  # noqa: TID251 - a date for people


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)


def _show(wishes: Wishes, bench: Bench, outcomes: list[Outcome]) -> None:
    console = _console()
    found = summaries(outcomes)
    shown = {key: by_server for key, by_server in found.items() if not wishes.only or key in wishes.only}
    if not shown:
        console.print("Nothing was measured.")
        return
    console.print(table(shown, bench.servers, runs=bench.runs))
    share, where = busiest(outcomes, "generator_cpu")
    console.print(f"The load generator was busy at most {100 * share:.0f} % of its core ({where}).", highlight=False)
    if share > BUSY_SHARE:
        console.print("It may have been the limit there: take those figures as lower bounds.")
    share, where = busiest(outcomes, "others_cpu")
    if share > DISTURBED_SHARE and not bench.place.prefix:
        console.print(
            f"Other processes used up to {100 * share:.0f} % of a core meanwhile ({where}): "
            "measure again on a quiet machine, or with --realtime.",
            highlight=False,
        )


def _earlier(wishes: Wishes) -> dict[str, Any] | None:
    """The run to compare with, read before this one takes its place."""
    path = wishes.compare_path or (STORED / "results.json" if wishes.is_whole else None)
    if path is None or not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else None


def _compare(earlier: dict[str, Any], now: dict[str, Any]) -> None:
    console = _console()
    unlike = incomparable(earlier, now)
    if unlike:
        console.print(f"The earlier run was made with other options ({', '.join(unlike)}): compare with care.")
    console.print(difference_table(list(differences(earlier, now, OURS)), before=str(earlier.get("at"))))


def _write(wishes: Wishes, written: dict[str, object], outcomes: list[Outcome]) -> None:
    if wishes.is_whole:
        STORED.mkdir(parents=True, exist_ok=True)
    if wishes.stored_path:
        _dump(written, wishes.stored_path)
    path = wishes.chart_path or (STORED / "chart.svg" if wishes.is_whole else None)
    if path:
        machine = describe()
        how = "a single run" if wishes.runs == 1 else f"medians of {wishes.runs} runs"
        subtitle = f"{how}, {machine['processor']}, Python {machine['python']}, {written['at']}"
        drawn = chart(bars(summaries(outcomes)), title="Slackwater against its goals", subtitle=subtitle)
        path.write_text(drawn, encoding="utf-8")


def _dump(written: Mapping[str, object], path: Path) -> None:
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
