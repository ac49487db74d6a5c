from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import jwt
import pytest

from tests.support.postgres import PostgresServer
from tests.support.process import ROOT

SECRET = "a secret of more than thirty-two bytes, for tests"


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m service`` to its end, with this environment and nothing else."""
    return subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--workers", "2"], ["serve", "--workers", "2"]])
def test_more_than_one_worker_is_refused_with_the_reason(arguments: list[str]) -> None:
    """Wherever the option stands."""
    ended = run(*arguments, SLACKWATER_MODE="development")

    assert 2 == ended.returncode
    assert "WEB_CONCURRENCY" in ended.stderr
    assert "memory" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_missing_secret_is_named() -> None:
    """All at once, and no secret is shown."""
    ended = run(ADMIN_KEY="too short to be a key")

    assert 2 == ended.returncode
    assert all(name in ended.stderr for name in ("API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET"))
    assert "too short to be a key" not in ended.stderr


def test_token_prints_a_token_for_the_user() -> None:
    """Signed with the service's secret, for a connection or for a channel."""
    plain = run("token", "--user", "42", TOKEN_HMAC_SECRET=SECRET)
    channel = run("token", "--user", "42", "--channel", "$room", TOKEN_HMAC_SECRET=SECRET)

    claims = jwt.decode(plain.stdout.strip(), SECRET, algorithms=["HS256"])
    assert ("42", None) == (claims["sub"], claims.get("channel"))
    assert "$room" == jwt.decode(channel.stdout.strip(), SECRET, algorithms=["HS256"])["channel"]


def test_token_without_a_secret_says_what_to_do() -> None:
    """A token signed with something else would be worth nothing."""
    ended = run("token", "--user", "42")

    assert 2 == ended.returncode
    assert "TOKEN_HMAC_SECRET" in ended.stderr


def test_apikey_prints_a_key_that_is_strong_enough() -> None:
    """And another one each time."""
    keys = {run("apikey").stdout.strip() for _ in range(2)}

    assert 2 == len(keys)
    assert all(len(key) >= 32 for key in keys)


class TestMigrate:
    """``python -m service migrate``."""

    def test_migrates_once_and_says_so(self, unmigrated_postgres_url: str) -> None:
        """Without keys, which it does not need."""
        check = run("migrate", "--check", DATABASE_URL=unmigrated_postgres_url)
        first = run("migrate", DATABASE_URL=unmigrated_postgres_url)
        second = run("migrate", DATABASE_URL=unmigrated_postgres_url)
        checked = run("migrate", "--check", DATABASE_URL=unmigrated_postgres_url)

        assert (1, 0, 0, 0) == (check.returncode, first.returncode, second.returncode, checked.returncode)
        assert "the schema is of level 0, and level 1 is needed." in check.stdout
        assert "migrated from level 0; the schema is of level 1." in first.stdout
        assert "nothing to migrate; the schema is of level 1." in second.stdout
        assert second.stdout == checked.stdout
        assert "" == check.stderr == first.stderr

    def test_makes_the_database_in_the_directory_for_data(self, tmp_path: Path) -> None:
        """Which is made too."""
        ended = run("migrate", DATA_DIR=str(tmp_path / "data"))

        assert 0 == ended.returncode, ended.stderr
        assert (tmp_path / "data" / "slackwater.db").is_file()

    def test_without_a_database_there_is_nothing_to_do(self) -> None:
        """That is no mistake: a pipeline need not know."""
        ended = run("migrate", DATABASE_URL="memory:")

        assert (0, "DATABASE_URL is memory: - there is no database, and nothing to do.") == (
            ended.returncode,
            ended.stdout.strip(),
        )

    @pytest.mark.parametrize("arguments", [["migrate"], ["migrate", "--check"], ["migrate", "--wait", "0.1"]])
    def test_database_that_cannot_be_reached_is_4(self, arguments: list[str]) -> None:
        """Named without its password."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"postgresql://me:hunter2@127.0.0.1:{closed.getsockname()[1]}/app"
            ended = run(*arguments, DATABASE_URL=url)

        assert 4 == ended.returncode
        assert "nothing listens at the address of the database" in ended.stderr
        assert "hunter2" not in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_waits_for_a_database_that_comes_up(self, own_postgres_server: PostgresServer) -> None:
        """As long as it is told to."""
        url = own_postgres_server.create_database()
        own_postgres_server.stop()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(run, "migrate", "--wait", "25", DATABASE_URL=url)
            own_postgres_server.start()

            assert 0 == waiting.result().returncode

    @pytest.mark.parametrize("name", ["postgres", "sqlite"])
    def test_database_that_is_too_new_is_3(self, name: str, request: pytest.FixtureRequest) -> None:
        """A schema is never taken back."""
        url: str = request.getfixturevalue(f"{name}_url")
        statement = "INSERT INTO slackwater_schema (level, oldest_level) VALUES (9, 9)"
        if name == "sqlite":
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
                connection.execute(statement)
        else:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            server.sql(statement, database=url.rpartition("/")[2])
        ended = run("migrate", DATABASE_URL=url)

        assert 3 == ended.returncode
        assert "code of level 9 or newer may run on" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_wrong_password_is_3(self, postgres_server: PostgresServer) -> None:
        """Waiting would not help."""
        url = f"postgresql://slackwater:hunter2@127.0.0.1:{postgres_server.port}/postgres"
        ended = run("migrate", "--wait", "20", DATABASE_URL=url)

        assert 3 == ended.returncode
        assert "refuses the user or the password" in ended.stderr
        assert "hunter2" not in ended.stderr

    def test_bad_address_is_2(self) -> None:
        """By the name of the setting, as at the start."""
        ended = run("migrate", DATABASE_URL="mysql://me:hunter2@db/app", DATABASE_POOL_SIZE="none")

        assert 2 == ended.returncode
        assert "DATABASE_URL: must begin with postgresql://" in ended.stderr
        assert "DATABASE_POOL_SIZE: must be a whole number" in ended.stderr
        assert "hunter2" not in ended.stderr


@pytest.mark.parametrize("name", ["postgres", "sqlite"])
def test_new_epoch_changes_the_epoch(name: str, request: pytest.FixtureRequest) -> None:
    """To another one each time; there have to be tables."""
    url: str = request.getfixturevalue(f"{name}_url")
    first, second = (run("new-epoch", DATABASE_URL=url) for _ in range(2))

    assert 0 == first.returncode, first.stderr
    assert "the epoch is " in first.stdout
    assert first.stdout != second.stdout


def test_new_epoch_without_tables_is_3(unmigrated_postgres_url: str) -> None:
    """And says how they are made."""
    ended = run("new-epoch", DATABASE_URL=unmigrated_postgres_url)

    assert 3 == ended.returncode
    assert "python -m service migrate" in ended.stderr
