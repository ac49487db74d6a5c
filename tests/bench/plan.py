"""In which order things are measured: one process per server and measurement, servers taking turns."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.errors import MeasurementError
from tests.bench.generator import Answer, Generator
from tests.bench.machine import Cores
from tests.bench.measurements import Measurement, Probe, Sizes
from tests.bench.servers import Running, Scenario, Server

__all__ = ("Bench", "Outcome", "Place")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One measurement of one server in one run."""

    run: int
    server: str
    measurement: str
    figures: dict[str, float]
    """By key of `figures.FIGURES`. Empty when it failed."""
    answers: tuple[Answer, ...] = ()
    """What the generator reported, in order, with the server's CPU beside it."""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how server and generator run."""

    program: Path
    """The compiled generator."""
    cores: Cores
    prefix: Sequence[str]
    """Command prefix for both sides, for their scheduling class."""
    spin: bool

    def probe(self, server: Server, scenario: Scenario, stack: ExitStack) -> Probe:
        """Start a server with its generator; both end with the stack.

        Raises:
            MeasurementError: The server did not become ready.
        """
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slackwater-bench-")))
        running = stack.enter_context(Running(server, scenario, core=self.cores.server, work=work, prefix=self.prefix))
        running.wait_ready()
        generator = Generator(
            self.program,
            running.port,
            running.traffic,
            core=self.cores.generator,
            work=work,
            prefix=self.prefix,
            spin=self.spin,
        )
        return Probe(running, stack.enter_context(generator), self.cores)


@dataclass(frozen=True, slots=True)
class Bench:
    """A whole benchmark, ready to run."""

    servers: Sequence[Server]
    measurements: Sequence[Measurement]
    sizes: Sizes
    runs: int
    place: Place

    def outcomes(self) -> Iterator[Outcome]:
        """Measure, yielding each outcome as it is known.

        Servers alternate within each run, and each run begins with another one, so that what else the machine does
        hits all alike.
        """
        for run in range(self.runs):
            shift = run % len(self.servers)
            for measurement in self.measurements:
                for server in (*self.servers[shift:], *self.servers[:shift]):
                    if measurement.servers is None or server.name in measurement.servers:
                        yield self._measure(run, server, measurement)

    def _measure(self, run: int, server: Server, measurement: Measurement) -> Outcome:
        probe = None
        with ExitStack() as stack:
            try:
                probe = self.place.probe(server, measurement.scenario, stack)
                figures = measurement.run(probe, self.sizes)
            except MeasurementError as failure:
                answers = tuple(probe.answers) if probe else ()
                return Outcome(run, server.name, measurement.name, {}, answers, failure.reason)
            return Outcome(run, server.name, measurement.name, figures, tuple(probe.answers))
