"""The epoch of a database changes when it is another one, and at no other time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.core.rows import Head
from service.db import identity
from service.db.database import Timeouts
from service.db.identity import decode_epoch, encode_epoch
from service.errors import DatabaseUnavailable, DatabaseUnfit, Overtaken
from tests.conformance.stream_tables import rows
from tests.support.postgres import PostgresServer
from tests.support.process import ROOT
from tests.support.stream_database import StreamDatabase


@pytest.mark.parametrize(
    ("kept", "epoch"),
    [("now", "now"), ("now:own", "own"), ("before", "now"), ("before:own", "now"), ("", "now"), (":own", "now")],
)
def test_an_epoch_counts_with_that_of_the_database(kept: str, epoch: str) -> None:
    """What was kept under another one is replaced by the present one."""
    assert epoch == decode_epoch(kept, "now")


@pytest.mark.parametrize("epoch", ["now", "own", "before"])
def test_what_is_encoded_is_decoded(epoch: str) -> None:
    """As long as the database has the same epoch."""
    assert epoch == decode_epoch(encode_epoch(epoch, "now"), "now")


@pytest.mark.parametrize("change", ["system_identifier = '1'", "timeline = timeline + 1"])
async def test_another_server_or_timeline_is_another_epoch(postgres_url: str, change: str) -> None:
    """From the next take-over on, for the database and for every stream; until then nothing is appended."""
    async with StreamDatabase.open(postgres_url) as world:
        await world.tables.append(rows("a", 1, epoch="database"), token=1)
        await world.execute(f"UPDATE slackwater_identity SET {change}")  # noqa: S608 - of this file
        with pytest.raises(Overtaken):
            await world.tables.append(rows("a", 1, first=2, epoch="database"), token=1)

        await world.take_over(2, "new")
        assert "new" == await world.tables.epoch()
        assert {"a": Head(1, "new")} == await world.tables.heads(["a"])

        await world.take_over(3, "newer")
        await world.tables.append(rows("a", 1, first=2, epoch="new"), token=3)
        assert {"a": Head(2, "new")} == await world.tables.heads(["a"])


async def test_a_real_promotion_is_another_epoch(own_postgres_server: PostgresServer) -> None:
    """Postgres begins another timeline when a recovery ends, long before the control file says so."""
    server = own_postgres_server
    server._settings |= {"wal_level": "replica", "restore_command": "false"}
    await asyncio.to_thread(server.restart)
    url = await asyncio.to_thread(server.create_database)
    async with StreamDatabase.open(url) as world:
        await world.tables.append(rows("a", 2, epoch="database"), token=1)
        before = (await world.database.facts()).timeline

        await asyncio.to_thread(server.stop)
        (server._data / "recovery.signal").touch()
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(_wait_for_promotion, server)

        assert before + 1 == (await world.database.facts()).timeline
        with pytest.raises(Overtaken):
            await world.tables.append(rows("a", 1, first=3, epoch="database"), token=1)
        await world.take_over(2, "promoted")
        assert {"a": Head(2, "promoted")} == await world.tables.heads(["a"])
        await world.tables.append(rows("a", 1, first=3, epoch="promoted"), token=2)


def _wait_for_promotion(server: PostgresServer) -> None:
    while [["f"]] != server.sql("SELECT pg_is_in_recovery()"):
        pass


async def test_a_restart_is_no_other_epoch(own_postgres_server: PostgresServer) -> None:
    """Nor is a crash: what was committed is there."""
    url = await asyncio.to_thread(own_postgres_server.create_database)
    async with StreamDatabase.open(url) as world:
        await world.tables.append(rows("a", 1, epoch="database"), token=1)
        await asyncio.to_thread(own_postgres_server.restart, "kill")
        await world.take_over(2, "new")

        assert {"a": Head(1, "database")} == await world.tables.heads(["a"])


async def test_a_new_epoch_is_given_as_a_whole_or_not_at_all(sqlite_url: str) -> None:
    """Not while another process writes, and not to a database that lacks its row."""
    async with StreamDatabase.open(sqlite_url, timeouts=Timeouts(statement=0.05)) as world:
        async with world.database.writer.begin():
            with pytest.raises(DatabaseUnavailable):
                await identity.renew(world.database, "new")
        assert "database" == await world.tables.epoch()

        await world.execute("DELETE FROM slackwater_identity")
        with pytest.raises(DatabaseUnfit):
            await identity.renew(world.database, "new")
        assert [(1,)] == await world.execute("SELECT token FROM slackwater_fence")


def run(url: str, data: Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "service", "new-epoch"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SLACKWATER_MODE": "development", "DATABASE_URL": url, "DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_the_command_gives_a_new_epoch(database_url: str, tmp_path: Path) -> None:
    """To the database and to every stream, and overtakes who serves."""
    async with StreamDatabase.open(database_url) as world:
        await world.tables.append(rows("a", 1, epoch="database"), token=1)
        ended = await asyncio.to_thread(run, database_url, tmp_path)

        assert 0 == ended.returncode, ended.stderr
        epoch = await world.tables.epoch()
        assert epoch in ended.stdout
        assert "database" != epoch
        assert {"a": Head(1, epoch)} == await world.tables.heads(["a"])
        with pytest.raises(Overtaken):
            await world.tables.append(rows("a", 1, first=2, epoch="database"), token=1)


def test_the_command_needs_the_tables(unmigrated_postgres_url: str, tmp_path: Path) -> None:
    """And says how to get them."""
    ended = run(unmigrated_postgres_url, tmp_path)

    assert 3 == ended.returncode
    assert "python -m service migrate" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_command_has_nothing_to_do_without_a_database(tmp_path: Path) -> None:
    """Streams in memory have a new epoch at every start."""
    ended = run("memory:", tmp_path)

    assert 0 == ended.returncode
    assert "DATABASE_URL" in ended.stdout
