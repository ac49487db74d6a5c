"""What the operating system says this process uses."""

from __future__ import annotations

from typing import Protocol

import psutil
from typing_extensions import override

__all__ = ("Process", "SystemProcess")


class Process(Protocol):
    """Two readings of a process; cheap enough for every scrape."""

    def memory_bytes(self) -> int:
        """Return the resident memory."""
        ...

    def cpu_seconds(self) -> float:
        """Return the processor time used since the start, of all cores together; never goes back."""
        ...


class SystemProcess(Process):
    """This process."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    @override
    def memory_bytes(self) -> int:
        return self._process.memory_info().rss

    @override
    def cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system
