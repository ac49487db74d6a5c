"""What is measured: functions from a started server to figures, and the table of them.

A new row is measured in one of these functions, or in a new one that is named in `MEASUREMENTS`, and described in
`figures.FIGURES`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.bench.errors import MeasurementError
from tests.bench.generator import Answer, Generator
from tests.bench.machine import Cores, core_seconds
from tests.bench.servers import OURS, REFERENCE, STOP_SECONDS, Running, Scenario

__all__ = ("DESCRIPTORS_SPARE", "MEASUREMENTS", "Measurement", "Probe", "Sizes")

DESCRIPTORS_SPARE = 200
"""What a server opens besides its clients, with room."""
WARM_CONNECTIONS = 10
"""Opened before memory is first read, so that what a server loads or allocates once is not counted per connection."""
CLIENT_LIMIT = 1_000
MESSAGES_PER_MINUTE = 100
ROOMS = 50
API_CONNECTIONS = 8
API_BATCH = 100
STORM_BEFORE, STORM_DURING, STORM_EVERY_MILLISECONDS = 24, 8, 100
"""Publications that everybody missed, and those made while clients come back."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much to do."""

    subscribers: int = 1_000
    idle: tuple[int, ...] = (1_000, 10_000)
    """Connections at which memory is read, ascending."""
    storm: int = 10_000
    """Clients that come back at once; 0 leaves the storms out."""
    rate_seconds: float = 12.0
    """At ten publications a second: enough of them that a single slow one does not make the 99th percentile."""
    burst_seconds: float = 2.0
    load_seconds: float = 60.0
    """A client may publish its 100 messages in this time; in a longer one it would meet its limit."""
    rooms_seconds: float = 20.0
    api_seconds: float = 3.0
    heartbeat_seconds: float = 60.0
    """Two rounds of pings, 30 s apart."""
    settle_milliseconds: int = 1_000
    payload_bytes: tuple[int, int] = (128, 512)
    """Smallest and largest payload; sizes walk through the range."""

    @classmethod
    def quick(cls) -> "Sizes":
        """Enough to see that everything works, too short to quote."""
        return cls(
            idle=(1_000,),
            storm=500,
            rate_seconds=1.0,
            burst_seconds=0.5,
            load_seconds=2.0,
            rooms_seconds=1.0,
            api_seconds=0.5,
            heartbeat_seconds=2.0,
            settle_milliseconds=300,
        )

    def within(self, descriptors: int) -> "Sizes":
        """Leave out the numbers of connections that the descriptor limit does not allow."""
        most = descriptors - DESCRIPTORS_SPARE
        return replace(
            self,
            idle=tuple(count for count in self.idle if count <= most),
            storm=self.storm if self.storm <= most else 0,
        )

    @property
    def payload(self) -> str:
        """The payload sizes as the generator takes them."""
        return f"{self.payload_bytes[0]} {self.payload_bytes[1]}"


class Probe:
    """A server with its generator: asks the generator, and notes what the server used meanwhile."""

    def __init__(self, server: Running, generator: Generator, cores: Cores) -> None:
        self._server = server
        self._generator = generator
        self._cores = cores
        self.answers: list[Answer] = []

    def ask(self, command: str) -> Answer:
        """Send a command and wait for its answer.

        Returns:
            The generator's answer, with `server_cpu`, and `others_cpu` for all processes but the two; shares of a core.
        """
        start, everyone, server, generator = time.perf_counter(), *self._cpu_seconds()
        answer = self._generator.ask(command)
        everyone_after, server_after, generator_after = self._cpu_seconds()
        seconds = time.perf_counter() - start
        measured = server_after - server + generator_after - generator
        answer["server_cpu"] = round(max(0.0, server_after - server) / seconds, 4)
        answer["others_cpu"] = round(max(0.0, everyone_after - everyone - measured) / seconds, 4)
        self.answers.append(answer)
        return answer

    def _cpu_seconds(self) -> tuple[float, float, float]:
        return core_seconds(self._cores), self._server.usage().cpu_seconds, self._generator.usage().cpu_seconds

    def resident_bytes(self) -> int:
        """Memory of the server now."""
        return self._server.usage().resident_bytes

    def restart(self) -> float:
        """Stop the server by SIGTERM, which closes every client, and start it anew.

        Returns:
            Seconds from the signal until the new process answers.
        """
        start = time.perf_counter()
        self._server.stop()
        self.ask(f"closed {STOP_SECONDS}")
        self._server.start_again()
        return time.perf_counter() - start


def _traffic(probe: Probe, sizes: Sizes) -> dict[str, float]:
    figures = {"memory_idle": probe.resident_bytes() / 2**20}
    figures["connects_1000"] = float(probe.ask(f"open {sizes.subscribers}")["per_second"])
    probe.ask("publishers 1")
    probe.ask(f"burst 8 0.3 {sizes.payload}")  # so that just-in-time compilers have seen the path
    probe.ask(f"settle {sizes.settle_milliseconds}")
    rate = probe.ask(f"rate 10 {sizes.rate_seconds} {sizes.payload}")
    figures["latency_p50"], figures["latency_p99"] = float(rate["p50_ms"]), float(rate["p99_ms"])
    figures["cpu_rate"] = 100 * float(rate["server_cpu"])
    for in_flight in (1, 32):
        burst = probe.ask(f"burst {in_flight} {sizes.burst_seconds} {sizes.payload}")
        figures[f"deliveries_{in_flight}"] = float(burst["deliveries_per_second"])
    return figures


def _memory(probe: Probe, sizes: Sizes) -> dict[str, float]:
    probe.ask(f"open {WARM_CONNECTIONS}")
    probe.ask(f"settle {sizes.settle_milliseconds}")
    base, opened, figures = probe.resident_bytes(), WARM_CONNECTIONS, {}
    for count in sizes.idle:
        answer = probe.ask(f"open {count - opened}")
        if count > sizes.subscribers:
            figures[f"connects_{count}"] = float(answer["per_second"])
        probe.ask(f"settle {sizes.settle_milliseconds}")
        opened = count
        added = probe.resident_bytes() - base
        figures[f"memory_{count}"] = added / (count - WARM_CONNECTIONS) / 1024
        if count > sizes.subscribers:
            figures["memory_added"] = added / 2**20
    return figures


def _full_load(probe: Probe, sizes: Sizes, seconds: float) -> Answer:
    """Let as many clients as the default limits allow publish as often as they allow."""
    probe.ask(f"open {CLIENT_LIMIT}")
    probe.ask(f"settle {sizes.settle_milliseconds}")
    return probe.ask(f"load {CLIENT_LIMIT * MESSAGES_PER_MINUTE / 60:.4f} {seconds} {sizes.payload}")


def _load(probe: Probe, sizes: Sizes) -> dict[str, float]:
    answer = _full_load(probe, sizes, sizes.load_seconds)
    offered_per_second = float(answer["expected"]) / float(answer["seconds"])
    return {
        "load_delivered": 100 * float(answer["deliveries"]) / float(answer["expected"]),
        "load_growth": 100 * max(0.0, float(answer["backlog_growth_per_second"])) / offered_per_second,
        "load_p99": float(answer["p99_ms"]),
        "load_cpu": 100 * float(answer["server_cpu"]),
        "load_memory": probe.resident_bytes() / 2**20,
    }


def _rooms(probe: Probe, sizes: Sizes) -> dict[str, float]:
    answer = _full_load(probe, sizes, sizes.rooms_seconds)
    return {"rooms_cpu": 100 * float(answer["server_cpu"]), "rooms_p99": float(answer["p99_ms"])}


def _storm(probe: Probe, sizes: Sizes) -> dict[str, float]:
    if not sizes.storm:
        return {}
    probe.ask(f"open {sizes.storm}")
    probe.ask(f"api 1 0.2 {sizes.payload} 1")  # so that there is something to recover from
    probe.ask("break")
    figures = {"storm_break": _come_back(probe, sizes, recovered=sizes.storm)}
    figures["restart_seconds"] = probe.restart()
    # The history of the process before is gone, and its epoch says so: clients read what there is instead.
    figures["storm_restart"] = _come_back(probe, sizes, recovered=0)
    return figures


def _come_back(probe: Probe, sizes: Sizes, *, recovered: int) -> float:
    command = f"storm {STORM_BEFORE} {STORM_DURING} {STORM_EVERY_MILLISECONDS} {sizes.payload}"
    answer = probe.ask(command)
    if answer["recovered"] != recovered:
        reason = f"'{command}': {answer['recovered']} clients recovered, and {recovered} should have"
        raise MeasurementError(reason)
    return float(answer["seconds"])


def _api(probe: Probe, sizes: Sizes) -> dict[str, float]:
    probe.ask("open 1")
    figures = {}
    for key, batch in (("api_publish", 1), ("api_batch", API_BATCH)):
        probe.ask(f"api {API_CONNECTIONS} 0.2 {sizes.payload} {batch}")
        answer = probe.ask(f"api {API_CONNECTIONS} {sizes.api_seconds} {sizes.payload} {batch}")
        figures[key] = float(answer["published"]) / float(answer["seconds"])
    return figures


def _heartbeats(probe: Probe, sizes: Sizes) -> dict[str, float]:
    probe.ask(f"open {sizes.subscribers}")
    answer = probe.ask(f"settle {1000 * sizes.heartbeat_seconds:.0f}")
    return {"heartbeat_cpu": 100 * float(answer["server_cpu"])}


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is done to one process of a server."""

    name: str
    run: Callable[[Probe, Sizes], dict[str, float]]
    figures: tuple[str, ...]
    """Keys of the figures that it gives, as far as the sizes allow."""
    scenario: Scenario = field(default_factory=Scenario)
    servers: frozenset[str] | None = None
    """Names of those that it makes sense for; None for all."""


_PYTHON = frozenset({OURS, REFERENCE})
_ONLY_OURS = frozenset({OURS})
_AT_LIMITS = Scenario(members_publish=True, default_limits=True)

MEASUREMENTS = (
    Measurement(
        "traffic",
        _traffic,
        ("deliveries_1", "deliveries_32", "latency_p50", "latency_p99", "cpu_rate", "connects_1000", "memory_idle"),
    ),
    Measurement("memory", _memory, ("memory_1000", "memory_10000", "memory_added", "connects_10000")),
    Measurement(
        "load",
        _load,
        ("load_delivered", "load_growth", "load_p99", "load_cpu", "load_memory"),
        scenario=_AT_LIMITS,
        servers=_PYTHON,
    ),
    Measurement(
        "rooms", _rooms, ("rooms_cpu", "rooms_p99"), scenario=replace(_AT_LIMITS, rooms=ROOMS), servers=_PYTHON
    ),
    Measurement(
        "storm",
        _storm,
        ("storm_break", "storm_restart", "restart_seconds"),
        scenario=Scenario(comes_back=True),
        servers=_ONLY_OURS,
    ),
    Measurement("api", _api, ("api_publish", "api_batch"), servers=_ONLY_OURS),
    Measurement("heartbeats", _heartbeats, ("heartbeat_cpu",), servers=_PYTHON),
)
"""In the order in which they are done."""
