"""Nothing that was acknowledged is lost: the service, or its database, ends without a word, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import pytest

from tests.rounds.scene import Scene
from tests.rounds.witness import PostgresWitness, SqliteWitness, Witness
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("rounds")]

_FEW = 2
_LENGTHS = pytest.mark.parametrize(
    ("rounds", "subscribers"),
    [
        pytest.param(_FEW, 40, marks=pytest.mark.timeout(180), id="few"),
        pytest.param(50, 100, marks=[pytest.mark.rounds, pytest.mark.timeout(3600)], id="many"),
    ],
)
_KILLED_DURING_COMMITS = 0.6
_UNKNOWN_OUTCOMES = 0.2

_LONGEST_SECONDS = 1.5


@pytest.fixture
def witnessed(request: pytest.FixtureRequest, database_url: str) -> AbstractAsyncContextManager[Witness]:
    """Return who sees the commits of the database."""
    if database_url.startswith("sqlite:"):
        return nullcontext(SqliteWitness(Path(database_url.removeprefix("sqlite:///"))))
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return PostgresWitness.at(server.admin_dsn(database_url.rpartition("/")[2]))


@_LENGTHS
@pytest.mark.parametrize("database_url", [pytest.param("postgres", marks=pytest.mark.slow), "sqlite"], indirect=True)
async def test_service_is_killed(
    database_url: str,
    witnessed: AbstractAsyncContextManager[Witness],
    tmp_path: Path,
    rounds: int,
    subscribers: int,
    record_property: Callable[[str, object], None],
) -> None:
    """During a commit under load, and started again: every subscriber gets everything, once and in order."""
    scene = Scene(database_url, tmp_path, subscribers=subscribers)
    async with witnessed as witness, scene.open():
        for _ in range(rounds):
            await scene.publish_for(scene.chance.uniform(0.2, _LONGEST_SECONDS))
            await scene.kill_during_commit(witness)
            await scene.service.start()
            await scene.until_answered()
            await scene.settle()
    record_property("summary", scene.summary())
    print(scene.summary())  # noqa: T201 - for whoever runs it with -s

    if rounds > _FEW:
        assert scene.counts.writing + scene.counts.answered >= _KILLED_DURING_COMMITS * rounds


@pytest.mark.slow
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
            await scene.stop_during_statement(server)
            # Gone for so long that the lock outlives it, or does not.
            await asyncio.sleep(scene.chance.uniform(0.0, _LONGEST_SECONDS))
            await asyncio.to_thread(server.start)
            await scene.service.until_ready()
            await scene.until_answered()
            await scene.settle()
            scene.counts.unknown += await scene.unknown_outcomes() > before
    record_property("summary", scene.summary())
    print(scene.summary())  # noqa: T201 - for whoever runs it with -s

    if rounds > _FEW:
        assert scene.counts.unknown >= _UNKNOWN_OUTCOMES * rounds
