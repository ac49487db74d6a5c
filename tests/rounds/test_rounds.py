"""Nothing that was acknowledged is lost: the service, or its database, ends without a word, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rounds.scene import Scene
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("rounds")]

_LENGTHS = pytest.mark.parametrize(
    ("rounds", "subscribers"),
    [
        pytest.param(2, 40, marks=pytest.mark.timeout(180), id="few"),
        pytest.param(50, 100, marks=[pytest.mark.rounds, pytest.mark.timeout(3600)], id="many"),
    ],
)
_KILLED_DURING_COMMITS = 0.6
_UNKNOWN_OUTCOMES = 0.2

_LONGEST_SECONDS = 1.5


@_LENGTHS
async def test_service_is_killed(
    database_url: str,
    tmp_path: Path,
    rounds: int,
    subscribers: int,
    record_property: Callable[[str, object], None],
) -> None:
    """At a random moment under load, and started again: every subscriber gets everything, once and in order."""
    scene = Scene(database_url, tmp_path, subscribers=subscribers)
    async with scene.open():
        for _ in range(rounds):
            await scene.publish_for(scene.chance.uniform(0.2, _LONGEST_SECONDS))
            scene.counts.in_flight += await scene.until_in_flight()
            await scene.service.kill()
            await scene.service.start()
            await scene.until_answered()
            await scene.settle()
    record_property("summary", scene.summary())
    print(scene.summary())  # noqa: T201 - for whoever runs it with -s

    assert scene.counts.in_flight >= _KILLED_DURING_COMMITS * rounds


@_LENGTHS
async def test_postgres_is_killed(
    own_postgres_server: PostgresServer,
    tmp_path: Path,
    rounds: int,
    subscribers: int,
    record_property: Callable[[str, object], None],
) -> None:
    """The same when it is the database that ends, with every connection to it, and the service that stays."""
    server = own_postgres_server
    scene = Scene(await asyncio.to_thread(server.create_database), tmp_path, subscribers=subscribers)
    async with scene.open():
        for _ in range(rounds):
            before = await scene.unknown_outcomes()
            await scene.publish_for(scene.chance.uniform(0.2, _LONGEST_SECONDS))
            scene.counts.in_flight += await scene.until_in_flight()
            await asyncio.to_thread(server.stop, "immediate")
            # Gone for so long that the lock outlives it, or does not.
            await asyncio.sleep(scene.chance.uniform(0.0, _LONGEST_SECONDS))
            await asyncio.to_thread(server.start)
            await scene.service.until_ready()
            await scene.until_answered()
            await scene.settle()
            scene.counts.unknown += await scene.unknown_outcomes() > before
    record_property("summary", scene.summary())
    print(scene.summary())  # noqa: T201 - for whoever runs it with -s

    if rounds > 2:
        assert scene.counts.unknown >= _UNKNOWN_OUTCOMES * rounds
