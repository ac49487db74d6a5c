"""What a person wants to know at a glance: how many, how fast, how much of the machine."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from service.observability.metrics import Metrics
    from service.realtime.instance import Instance
    from service.settings import Limits

__all__ = ("Figures", "Indicator", "Rates", "limits_in_force", "memory_text", "uptime_text")

_WINDOW_SECONDS: Final = 10.0
_SAMPLE_SECONDS: Final = 1.0
_MIB: Final = 1_048_576
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Rates:
    """Averages over the last ten seconds, or since the start when that is less.

    Attributes:
        messages_per_second: Publications taken in.
        deliveries_per_second: Publications, joins and leaves sent out, one for each receiver.
        cpu_percent: Of one core; above 100 when several were at work.
    """

    messages_per_second: float
    deliveries_per_second: float
    cpu_percent: float


@dataclass(frozen=True, slots=True)
class Indicator:
    """A figure that tells when one instance will soon be too small.

    Attributes:
        name: ``connections``, ``memory_bytes`` or ``cpu_percent``.
        threshold: In the unit of the name, above 0.
    """

    name: str
    value: float
    threshold: float

    @property
    def exceeded(self) -> bool:
        """Whether the value has reached the threshold."""
        return self.value >= self.threshold


class _Sample(NamedTuple):
    at: float
    publications: int
    deliveries: int
    cpu_seconds: float


class Figures:
    """The figures of one instance. Event loop only.

    Args:
        instance: Whose they are.
        metrics: Counts for it.
        limits: As they are set; shown, not applied.
    """

    def __init__(self, instance: Instance, metrics: Metrics, limits: Limits) -> None:
        self.instance = instance
        self.limits = limits
        self._metrics = metrics
        self._samples = deque([self._read()])

    async def run(self) -> None:
        """Take a sample every second until cancelled; without it the averages reach back to the start."""
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            try:
                self.sample()
            except Exception as error:  # noqa: BLE001 - figures are not worth the process
                self.instance.context.observer.failed("figures", error)

    def sample(self) -> None:
        """Note the counters of this moment, and forget what is older than the window needs."""
        now = self._read()
        self._samples.append(now)
        while len(self._samples) > 1 and self._samples[1].at <= now.at - _WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def uptime_seconds(self) -> float:
        """Time since the start of the process."""
        return self.instance.context.clock.now() - self.instance.started_at

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the process."""
        return self._metrics.process.memory_bytes()

    def rates(self) -> Rates:
        """Return the averages up to now."""
        first, last = self._samples[0], self._read()
        seconds = last.at - first.at
        if seconds <= 0:
            return Rates(0.0, 0.0, 0.0)
        return Rates(
            messages_per_second=round((last.publications - first.publications) / seconds, 2),
            deliveries_per_second=round((last.deliveries - first.deliveries) / seconds, 2),
            cpu_percent=round(100 * (last.cpu_seconds - first.cpu_seconds) / seconds, 1),
        )

    def indicators(self, rates: Rates, memory_bytes: int) -> tuple[Indicator, ...]:
        """Return what says that work has to be shared among several instances."""
        return (
            Indicator("connections", len(self.instance.hub.connections), 800),
            Indicator("memory_bytes", memory_bytes, 500 * _MIB),
            Indicator("cpu_percent", rates.cpu_percent, 70),
        )

    def _read(self) -> _Sample:
        metrics = self._metrics
        return _Sample(
            self.instance.context.clock.now(), metrics.publications, metrics.deliveries, metrics.process.cpu_seconds()
        )


def limits_in_force(limits: Limits) -> dict[str, float]:
    """Return the limits by name, the unit within it; 0 is no limit."""
    values: dict[str, float] = {item.name: getattr(limits, item.name) for item in fields(limits)}
    # A share says nothing to whoever counts connections.
    del values["unauthenticated_share"]
    return values | {"max_unauthenticated": limits.max_unauthenticated}


def uptime_text(seconds: float) -> str:
    """Return a duration in its two largest units, such as ``2h 15m``."""
    whole = int(seconds)
    for unit, name, part, part_name in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "m"), (_MINUTE, "m", 1, "s")):
        if whole >= unit:
            return f"{whole // unit}{name} {whole % unit // part}{part_name}"
    return f"{whole}s"


def memory_text(size_bytes: int) -> str:
    """Return a size such as ``245MB``, in units of 1,048,576 bytes, rounded down."""
    return f"{size_bytes // _MIB}MB"
