"""``python -m service trial``: it starts where nobody sees it, and leaves no trace."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.service.test_main import run

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = {name: f"{name}-{'x' * 40}" for name in ("API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET")} | {"LOG_FORMAT": "json"}


def test_says_what_it_would_do_and_does_it_not(unmigrated_postgres_url: str) -> None:
    """On ports that are taken already, too: it takes others."""
    ended = run("trial", DATABASE_URL=unmigrated_postgres_url, PORT="1", **_KEYS)
    left = run("migrate", "--check", DATABASE_URL=unmigrated_postgres_url)

    assert 0 == ended.returncode, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert (1, 1, 1, False) == (found["trial"], found["code_level"], found["oldest_level"], found["migrates"])
    assert {"kind": "postgres", "level": 0, "oldest_level": 0} == found["database"]
    assert "trial.served" in ended.stdout + ended.stderr
    assert "the schema is of level 0" in left.stdout
    assert "x" * 40 not in ended.stdout + ended.stderr


def test_bad_settings_are_named_all_at_once() -> None:
    """As a start would."""
    ended = run("trial", WS_MAX_CONNECTIONS="many")

    assert 2 == ended.returncode
    assert all(name in ended.stderr for name in ("API_KEY", "TOKEN_HMAC_SECRET", "WS_MAX_CONNECTIONS"))
    assert "" == ended.stdout


@pytest.mark.slow
def test_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """It may be on the volume of another pod."""
    ended = run("trial", DATA_DIR=str(tmp_path / "data"), DATABASE_MIGRATE="true", **_KEYS)

    assert 0 == ended.returncode, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert {"kind": "sqlite", "level": None, "oldest_level": None} == found["database"]
    assert found["migrates"]
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_without_a_database(tmp_path: Path) -> None:
    """Nothing is kept, so nothing can bar a way back."""
    ended = run("trial", DATABASE_URL="memory:", DATA_DIR=str(tmp_path), **_KEYS)

    assert 0 == ended.returncode, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["database"] is None


@pytest.mark.slow
def test_database_that_is_too_new_or_away_is_said(sqlite_url: str) -> None:
    """Before anything is changed."""
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("INSERT INTO slackwater_schema (level, oldest_level) VALUES (9, 9)")
    newer = run("trial", DATABASE_URL=sqlite_url, **_KEYS)
    away = run("trial", DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/app", **_KEYS)

    assert (3, 4) == (newer.returncode, away.returncode)
    assert "code of level 9 or newer may run on" in newer.stderr
    assert "nothing listens at the address of the database" in away.stderr
    assert "hunter2" not in away.stderr + away.stdout
