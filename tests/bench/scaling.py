"""How cost grows with connections, channels and message size: one fresh process for each point.

Microseconds are of the server's CPU time.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.errors import MeasurementError
from tests.bench.generator import Answer
from tests.bench.measurements import DESCRIPTORS_SPARE, Probe
from tests.bench.plan import Place
from tests.bench.servers import Scenario, Server

__all__ = ("COLUMNS", "Axis", "Column", "Point", "Scaling", "ScalingSizes", "Spot")

KIB = 1024
MAX_WAITING_BYTES = 256 * KIB
"""Of publications in flight for one client: far below what makes it a slow one."""
ENVELOPE_BYTES = 256
"""What a command needs around the largest payload: the limit of 64 KiB is for the whole."""


@dataclass(frozen=True, slots=True)
class Point:
    """One load."""

    connections: int = 1_000
    channels: int = 1
    """Connections are spread evenly over them."""
    payload_bytes: int = 256
    members_publish: bool = False
    """Every connection publishes to its own channel in turn; otherwise one more connection publishes."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One quantity that grows while the others stay."""

    name: str
    title: str
    points: tuple[Point, ...]

    def value(self, point: Point) -> int:
        """Where on the axis a point lies."""
        return int(getattr(point, self.name))


AXES = (
    Axis(
        "connections",
        "connections in one channel",
        tuple(Point(connections=count) for count in (1, 10, 100, 1_000, 10_000)),
    ),
    Axis(
        "channels",
        "channels that 1,000 connections are spread over",
        tuple(Point(channels=count, members_publish=True) for count in (1, 10, 100, 1_000)),
    ),
    Axis(
        "payload_bytes",
        "bytes of a publication to 1,000 connections",
        tuple(Point(payload_bytes=size) for size in (128, 512, 2 * KIB, 8 * KIB, 32 * KIB, 64 * KIB - ENVELOPE_BYTES)),
    ),
)


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a point."""

    key: str
    title: str
    digits: int


COLUMNS = (
    Column("deliveries_1", "1 in flight: deliveries/s", 0),
    Column("publication_us_1", "µs a publication", 0),
    Column("delivery_us_1", "µs a delivery", 2),
    Column("in_flight", "in flight", 0),
    Column("deliveries_many", "deliveries/s", 0),
    Column("publication_us_many", "µs a publication", 0),
    Column("delivery_us_many", "µs a delivery", 2),
    Column("megabytes_many", "MB/s", 0),
    Column("latency_p50", "p50 at 10/s, ms", 2),
    Column("memory", "memory, MiB", 1),
)


@dataclass(frozen=True, slots=True)
class ScalingSizes:
    """How long each point takes."""

    burst_seconds: float = 2.0
    rate_seconds: float = 3.0
    settle_milliseconds: int = 500
    most_connections: int = 10_000

    @classmethod
    def quick(cls) -> "ScalingSizes":
        """Enough to see that everything works, too short to quote."""
        return cls(burst_seconds=0.3, rate_seconds=0.5, settle_milliseconds=100, most_connections=1_000)

    def within(self, descriptors: int) -> "ScalingSizes":
        """Leave out the numbers of connections that the descriptor limit does not allow."""
        most = min(self.most_connections, descriptors - DESCRIPTORS_SPARE)
        return ScalingSizes(self.burst_seconds, self.rate_seconds, self.settle_milliseconds, most)


@dataclass(frozen=True, slots=True)
class Spot:
    """What was found at one point, in one run."""

    run: int
    server: str
    axis: str
    value: int
    figures: dict[str, float]
    """By key of `COLUMNS`. Empty when it failed."""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Scaling:
    """All axes, ready to run."""

    servers: Sequence[Server]
    sizes: ScalingSizes
    runs: int
    place: Place

    def spots(self) -> Iterator[Spot]:
        """Measure, yielding each spot as it is known."""
        for run in range(self.runs):
            for axis in AXES:
                for point in axis.points:
                    if point.connections <= self.sizes.most_connections:
                        for server in self.servers:
                            yield self._measure(run, server, axis, point)

    def _measure(self, run: int, server: Server, axis: Axis, point: Point) -> Spot:
        scenario = Scenario(rooms=point.channels, members_publish=point.members_publish)
        with ExitStack() as stack:
            try:
                figures = self._figures(self.place.probe(server, scenario, stack), point)
            except MeasurementError as failure:
                return Spot(run, server.name, axis.name, axis.value(point), {}, failure.reason)
            return Spot(run, server.name, axis.name, axis.value(point), figures)

    def _figures(self, probe: Probe, point: Point) -> dict[str, float]:
        sizes, payload = self.sizes, f"{point.payload_bytes} {point.payload_bytes}"
        probe.ask(f"open {point.connections}")
        if not point.members_publish:
            probe.ask("publishers 1")
        probe.ask(f"settle {sizes.settle_milliseconds}")
        figures = {"memory": probe.resident_bytes() / 2**20}
        probe.ask(f"burst 4 0.2 {payload}")
        in_flight = max(1, min(32, MAX_WAITING_BYTES // point.payload_bytes))
        for suffix, width in (("1", 1), ("many", in_flight)):
            answer = probe.ask(f"burst {width} {sizes.burst_seconds} {payload}")
            figures |= {f"{key}_{suffix}": value for key, value in _costs(answer).items()}
        figures["in_flight"] = in_flight
        figures["latency_p50"] = float(probe.ask(f"rate 10 {sizes.rate_seconds} {payload}")["p50_ms"])
        return figures


def _costs(burst: Answer) -> dict[str, float]:
    """Rates of a burst, and what the server's CPU time comes to for each publication and delivery."""
    cpu_microseconds = 1e6 * float(burst["server_cpu"]) * float(burst["seconds"])
    return {
        "deliveries": float(burst["deliveries_per_second"]),
        "publication_us": cpu_microseconds / max(1.0, float(burst["published"])),
        "delivery_us": cpu_microseconds / max(1.0, float(burst["deliveries"])),
        "megabytes": float(burst["bytes_per_second"]) / 1e6,
    }
