"""A new image that migrates the database and is no good: the old one goes on with what the migration has left."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.deploytool.live.rollouts import Live, bad_image, events

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

_CLIENTS = 50
_IMAGE = "slackwater:migrates-and-is-mute"


def _rows(live: Live, sql: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(live.database.removeprefix("sqlite:///"), timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def test_rollback_crosses_a_migration(live: Live) -> None:
    """The tables stay as the new image has made them, and nobody misses what was written meanwhile."""
    live.cluster.images.add(_IMAGE, bad_image("migrate", "mute"))
    with live.traffic(_CLIENTS) as traffic:
        before = traffic.settle()
        assert [(1,)] == _rows(live, "SELECT level FROM slackwater_schema")

        done = live.run("rollout", "run", "--image", _IMAGE, "--no-check", "-o", "json")

        assert 8 == done.returncode, done.stderr + done.stdout
        (failed,) = [one["text"] for one in events(done) if one["kind"] == "failed"]
        assert "a publication did not come back to its subscriber" == failed
        assert live.target.image == live.image()
        after = traffic.settle(visits=2)

    assert before < after
    assert [(1, 1), (2, 1)] == _rows(live, "SELECT level, oldest_level FROM slackwater_schema ORDER BY level")
    # Written by the old code into a table that it does not know like this.
    ((added, count),) = _rows(live, "SELECT max(added), count(*) FROM slackwater_outbox WHERE added = 7")
    assert 7 == added
    assert after <= count
    again = live.run("rollout", "run", "--image", live.target.other_image, "--no-check", "--settle", "1s")
    assert 0 == again.returncode, again.stderr
