"""Two processes on one database never serve at once, whatever becomes of the one that does."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.handover.arena import Arena, Contender
from tests.handover.journal import ACCEPT, COMMIT, DELIVERY, overlaps

pytestmark = pytest.mark.e2e

_SLACK_SECONDS: Final = 20.0
"""For everything that must happen on top of the times of the lock; a loaded machine is no defect."""


@dataclass(frozen=True, slots=True)
class Times:
    """The times of the lock, as a part of those that hold when nobody says otherwise."""

    scale: float

    @property
    def environ(self) -> Mapping[str, str]:
        """The settings."""
        seconds = {"PROVE": 2.0, "SERVE": 5.0, "SESSION": 15.0, "WAIT": 6.0}
        return {f"LOCK_{name}_SECONDS": f"{value * self.scale:g}" for name, value in seconds.items()}

    @property
    def stop_seconds(self) -> float:
        """How long a holder is stopped, or silent: longer than its session and the wait of its successor."""
        return 30.0 * self.scale

    @property
    def patience_seconds(self) -> float:
        """By when a successor must serve."""
        return 45.0 * self.scale + _SLACK_SECONDS


async def kill(arena: Arena, holder: Contender, standby: Contender, times: Times) -> None:
    """The holder dies without a word."""
    await arena.bury(holder, signal.SIGKILL)
    await arena.until(standby.serves_everybody, "the other one takes over", seconds=times.patience_seconds)
    await arena.start()


async def term(arena: Arena, holder: Contender, standby: Contender, times: Times) -> None:
    """The holder ends cleanly."""
    assert 0 == await arena.bury(holder, signal.SIGTERM)
    await arena.until(standby.serves_everybody, "the other one takes over", seconds=times.patience_seconds)
    await arena.start()


async def stop(arena: Arena, holder: Contender, standby: Contender, times: Times) -> None:
    """The holder stands still, and goes on when the other one serves."""
    before = holder.phases.count("STANDBY")
    holder.service.signal(signal.SIGSTOP)
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(asyncio.sleep(times.stop_seconds))
            both.create_task(_until_taken_over(arena, standby, times))
    finally:
        holder.service.signal(signal.SIGCONT)
    await _until_it_stands_by(arena, holder, before)


async def silence(arena: Arena, holder: Contender, standby: Contender, times: Times) -> None:
    """The database hears nothing more from the holder, nor the holder from the database."""
    assert holder.proxy is not None
    before = holder.phases.count("STANDBY")
    holder.proxy.silence()
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(asyncio.sleep(times.stop_seconds))
            both.create_task(_until_taken_over(arena, standby, times))
        await _until_it_stands_by(arena, holder, before)
    finally:
        holder.proxy.resume()


async def _until_taken_over(arena: Arena, standby: Contender, times: Times) -> None:
    await arena.until(standby.serves_everybody, "the other one takes over", seconds=times.patience_seconds)


async def _until_it_stands_by(arena: Arena, holder: Contender, before: int) -> None:
    await arena.until(
        lambda: holder.phases.count("STANDBY") > before, "the old holder stands by", seconds=_SLACK_SECONDS
    )


Handover = Callable[[Arena, Contender, Contender, Times], Awaitable[None]]

ON_POSTGRES: Final[tuple[Handover, ...]] = (stop, kill, silence, term)
ON_SQLITE: Final[tuple[Handover, ...]] = (kill, term)
"""A process that was stopped keeps a lock of the operating system, and there is no connection to fall silent."""


async def play(url: str, directory: Path, times: Times, handovers: list[Handover]) -> None:
    """Force handovers, one after the other, and judge by what the processes wrote down."""
    environ = {**times.environ, "DATABASE_URL": url, "DRAIN_SPREAD_SECONDS": "0", "WS_PING_INTERVAL": "1000"}
    async with Arena.open(directory, environ) as arena:
        for handover in handovers:
            holder, standby = await arena.holder(seconds=times.patience_seconds)
            before = arena.begins()
            await handover(arena, holder, standby, times)
            assert arena.begins() > before
        await arena.holder(seconds=times.patience_seconds)
    found = arena.all_reigns()

    assert [] == overlaps(found)
    assert len(handovers) < len(found)
    for kind in (ACCEPT, DELIVERY, COMMIT):
        assert len(handovers) < sum(reign.number_of(kind) > 0 for reign in found), kind
    arena.assert_sound()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_at_a_tenth_of_the_time_on_postgres(postgres_url: str, tmp_path: Path) -> None:
    """Each kind of handover once."""
    await play(postgres_url, tmp_path, Times(0.1), list(ON_POSTGRES))


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_at_a_tenth_of_the_time_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    """Each kind of handover once."""
    await play(sqlite_url, tmp_path, Times(0.1), list(ON_SQLITE))


@pytest.mark.rounds
@pytest.mark.timeout(1800)
async def test_twenty_rounds_on_postgres(postgres_url: str, tmp_path: Path) -> None:
    """With the times that hold when nobody says otherwise."""
    await play(postgres_url, tmp_path, Times(1.0), list(ON_POSTGRES) * 5)


@pytest.mark.rounds
@pytest.mark.timeout(600)
async def test_twenty_rounds_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    """As many as on Postgres."""
    await play(sqlite_url, tmp_path, Times(1.0), list(ON_SQLITE) * 10)
