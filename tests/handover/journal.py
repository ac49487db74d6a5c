"""What a process did and when, by a clock that all processes of a machine share; it outlives a ``kill -9``."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from typing_extensions import override

from service.clock import SystemClock
from service.core.phase import Phase
from service.realtime.ports import Observer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ("ACCEPT", "BEGIN", "COMMIT", "DELIVERY", "Entry", "Journal", "Reign", "overlaps", "read", "reigns")

BEGIN, ACCEPT, DELIVERY, COMMIT = "begin", "accept", "delivery", "commit"

now = SystemClock().boot


class Journal(Observer):
    """Writes one line for each accept, delivery and commit, past every buffer of ours."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, kind: str, at: float) -> None:
        """Write a line; ``at`` is in seconds of CLOCK_BOOTTIME."""
        os.write(self._file, f"{at:.6f} {kind}\n".encode())

    @override
    def phase_changed(self, before: Phase, after: Phase, reason: str) -> None:
        if after is Phase.ACTIVE and before in (Phase.STARTING, Phase.STANDBY):
            self.note(BEGIN, now())

    @override
    def connection_opened(self) -> None:
        self.note(ACCEPT, now())

    @override
    def delivered(self, deliveries: int, size: int) -> None:
        self.note(DELIVERY, now())


class Entry(NamedTuple):
    """One line."""

    at: float
    kind: str


class Reign(NamedTuple):
    """What one process did in one tenure.

    Attributes:
        who: The process.
        entries: In order, the first of them its begin.
    """

    who: str
    entries: list[Entry]

    @property
    def begin(self) -> float:
        """When it began."""
        return self.entries[0].at

    @property
    def end(self) -> float:
        """When it did its last."""
        return max(entry.at for entry in self.entries)

    def number_of(self, kind: str) -> int:
        """Return how many entries of a kind there are."""
        return sum(entry.kind == kind for entry in self.entries)


def read(path: Path) -> list[Entry]:
    """Return the lines of a journal, without one that was not finished."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [Entry(float(at), kind) for at, _, kind in (line.partition(" ") for line in lines)]


def reigns(who: str, entries: Iterable[Entry]) -> list[Reign]:
    """Split what a process did into its tenures."""
    found: list[Reign] = []
    for entry in entries:
        if entry.kind == BEGIN:
            found.append(Reign(who, []))
        assert found, f"{who} did something before it served: {entry}"
        found[-1].entries.append(entry)
    return found


def overlaps(all_reigns: Iterable[Reign]) -> list[str]:
    """Return what is wrong with the order of reigns: each has to be over before the next begins, whoever's it is."""
    ordered = sorted(all_reigns, key=lambda reign: reign.begin)
    return [
        f"{before.who} did its last at {before.end:.6f}, and {after.who} had begun at {after.begin:.6f}"
        for before, after in pairwise(ordered)
        if before.end >= after.begin
    ]
