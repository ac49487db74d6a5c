"""The server of tests itself: others rely on what it promises."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.support.postgres import PostgresServer
from tests.support.process import ROOT

pytestmark = pytest.mark.slow

_HOLD = """
import sys
from tests.support.postgres import running_server
with running_server() as server:
    print(server.pid, server.log.parent, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("attempt", [1, 2])
async def test_each_test_gets_a_fresh_migrated_database(postgres_url: str, attempt: int) -> None:
    """Whatever the test before has done with its own."""
    connection = await asyncpg.connect(postgres_url)
    tokens = [await connection.fetchval("SELECT token FROM slackwater_fence")]
    await connection.execute("UPDATE slackwater_fence SET token = $1", attempt)
    await connection.close()

    assert [0] == tokens


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate", "kill"])
def test_server_of_a_test_can_be_stopped_and_started(own_postgres_server: PostgresServer, mode: str) -> None:
    """At the same port, with what was committed."""
    port = own_postgres_server.port
    own_postgres_server.sql("CREATE TABLE kept AS SELECT 7 AS value")
    own_postgres_server.stop(mode)
    assert not own_postgres_server.is_running
    own_postgres_server.start()

    assert port == own_postgres_server.port
    assert [["7"]] == own_postgres_server.sql("SELECT value FROM kept")


def test_server_can_be_paused(own_postgres_server: PostgresServer) -> None:
    """All of its processes."""
    own_postgres_server.pause()
    family = [psutil.Process(own_postgres_server.pid), *psutil.Process(own_postgres_server.pid).children()]
    # One that ended at that moment is waited for by its parent, which is stopped.
    assert {psutil.STATUS_STOPPED} == {process.status() for process in family} - {psutil.STATUS_ZOMBIE}
    own_postgres_server.resume()

    assert [["1"]] == own_postgres_server.sql("SELECT 1")


async def test_paused_server_can_be_stopped_in_a_statement(own_postgres_server: PostgresServer) -> None:
    """Which it then never ends, and whose outcome nobody is told."""
    server = own_postgres_server
    connection = await asyncpg.connect(server.dsn())

    assert [] == server.at_work()

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        outcome = tasks.create_task(_outcome(connection, "SELECT pg_sleep(600)"))
        while "SELECT" not in await asyncio.to_thread(server.at_work):
            pass
        await asyncio.to_thread(server.pause)

        assert ["SELECT"] == server.at_work()

        await asyncio.to_thread(server.stop_where_it_stands)

    assert isinstance(outcome.result(), (asyncpg.PostgresError, OSError))
    assert not server.is_running

    server.start()

    assert [["1"]] == server.sql("SELECT 1")


async def _outcome(connection: asyncpg.Connection[asyncpg.Record], statement: str) -> Exception | None:
    try:
        await connection.execute(statement)
    except (asyncpg.PostgresError, OSError) as error:
        return error
    return None


def test_promises_of_a_commit_are_those_of_a_default_server(postgres_server: PostgresServer) -> None:
    """A test that passes on less would prove nothing."""
    shown = [postgres_server.sql(f"SHOW {name}") for name in ("fsync", "full_page_writes", "synchronous_commit")]

    assert [[["on"]]] * 3 == shown


@contextmanager
def holder() -> Iterator[tuple[subprocess.Popen[str], psutil.Process, Path]]:
    """Run a process that holds a server of its own; yield it, the server's process, and the directory."""
    with subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", _HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, home = process.stdout.readline().split(maxsplit=1)
        yield process, psutil.Process(int(pid)), Path(home.strip())


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_server_ends_with_the_process_that_started_it(sent: signal.Signals) -> None:
    """Also when that has no time to say so."""
    with holder() as (process, server, _):
        process.send_signal(sent)
        process.wait(10)

        assert server.wait(10) is None or not server.is_running()


def test_what_a_killed_run_left_is_removed_by_the_next() -> None:
    """A directory is in use as long as its lock is held."""
    with holder() as (process, server, home), holder() as (other, _, others_home):
        process.kill()
        process.wait(10)
        server.wait(10)
        assert home.exists()
        with holder() as (last, _, _):
            assert not home.exists()
            assert others_home.exists()
            last.communicate("")
        other.communicate("")

        assert not others_home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_server_does_not_run_as_root(postgres_server: PostgresServer) -> None:
    """It would refuse to."""
    assert 0 != psutil.Process(postgres_server.pid).uids().real
