from __future__ import annotations

import socket
import sqlite3
import ssl

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.db.failures import translate
from service.errors import (
    DatabaseError,
    DatabaseUnavailable,
    DatabaseUnfit,
    OutcomeUnknown,
    Overtaken,
    RowsRefused,
)


def refusal(sqlstate: str) -> asyncpg.PostgresError:
    """Return the error that the driver makes of an answer of the server."""
    error = asyncpg.PostgresError.new({"C": sqlstate, "M": "secret data", "S": "ERROR"})
    assert isinstance(error, asyncpg.PostgresError)
    return error


def sqlite(name: str, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    """Return an error of SQLite with its code."""
    error = kind("secret data")
    error.sqlite_errorname = name
    return error


def wrapped(error: Exception) -> DBAPIError:
    """Return an error as SQLAlchemy hands it on."""
    adapted = Exception("secret data")
    adapted.__cause__ = error
    return DBAPIError("SELECT secret", {}, adapted)


@pytest.mark.parametrize(
    ("error", "idle", "committing"),
    [
        # The server answers, so nothing was committed.
        pytest.param(refusal("22021"), RowsRefused, RowsRefused, id="a-nul-in-text"),
        pytest.param(refusal("22P05"), RowsRefused, RowsRefused, id="a-nul-in-json"),
        pytest.param(refusal("23505"), RowsRefused, RowsRefused, id="unique"),
        pytest.param(refusal("40001"), DatabaseUnavailable, DatabaseUnavailable, id="serialization"),
        pytest.param(refusal("40P01"), DatabaseUnavailable, DatabaseUnavailable, id="deadlock"),
        pytest.param(refusal("53100"), DatabaseUnavailable, DatabaseUnavailable, id="disk-full"),
        pytest.param(refusal("53300"), DatabaseUnavailable, DatabaseUnavailable, id="too-many-connections"),
        pytest.param(refusal("55P03"), DatabaseUnavailable, DatabaseUnavailable, id="lock"),
        pytest.param(refusal("57014"), DatabaseUnavailable, DatabaseUnavailable, id="statement-timeout"),
        pytest.param(refusal("25006"), DatabaseUnavailable, DatabaseUnavailable, id="read-only"),
        pytest.param(refusal("58030"), DatabaseUnavailable, DatabaseUnavailable, id="disk"),
        pytest.param(refusal("XX000"), DatabaseUnavailable, DatabaseUnavailable, id="internal"),
        pytest.param(refusal("99999"), DatabaseUnavailable, DatabaseUnavailable, id="never-heard-of"),
        # A person has to do something.
        pytest.param(refusal("28P01"), DatabaseUnfit, DatabaseUnfit, id="password"),
        pytest.param(refusal("28000"), DatabaseUnfit, DatabaseUnfit, id="user"),
        pytest.param(refusal("3D000"), DatabaseUnfit, DatabaseUnfit, id="no-database"),
        pytest.param(refusal("42P01"), DatabaseUnfit, DatabaseUnfit, id="no-table"),
        pytest.param(refusal("42501"), DatabaseUnfit, DatabaseUnfit, id="no-right"),
        # The session ends, and perhaps after the commit.
        pytest.param(refusal("57P01"), DatabaseUnavailable, OutcomeUnknown, id="shutdown"),
        pytest.param(refusal("57P02"), DatabaseUnavailable, OutcomeUnknown, id="crash"),
        pytest.param(refusal("57P05"), DatabaseUnavailable, OutcomeUnknown, id="idle-session"),
        pytest.param(refusal("08006"), DatabaseUnavailable, OutcomeUnknown, id="connection-failure"),
        pytest.param(
            asyncpg.ConnectionDoesNotExistError("closed in the middle"),
            DatabaseUnavailable,
            OutcomeUnknown,
            id="connection-lost",
        ),
        pytest.param(ConnectionResetError(), DatabaseUnavailable, OutcomeUnknown, id="reset"),
        pytest.param(BrokenPipeError(), DatabaseUnavailable, OutcomeUnknown, id="broken-pipe"),
        pytest.param(TimeoutError(), DatabaseUnavailable, OutcomeUnknown, id="no-answer"),
        pytest.param(KeyError("secret"), DatabaseUnavailable, OutcomeUnknown, id="a-bug"),
        # Nothing was sent.
        pytest.param(PoolTimeoutError("secret"), DatabaseUnavailable, DatabaseUnavailable, id="pool-exhausted"),
        pytest.param(
            asyncpg.InterfaceError("connection is closed"), DatabaseUnavailable, DatabaseUnavailable, id="closed-before"
        ),
        pytest.param(ConnectionRefusedError(), DatabaseUnavailable, DatabaseUnavailable, id="refused"),
        pytest.param(socket.gaierror(), DatabaseUnavailable, DatabaseUnavailable, id="no-such-host"),
        pytest.param(FileNotFoundError(), DatabaseUnavailable, DatabaseUnavailable, id="no-socket"),
        pytest.param(ssl.SSLCertVerificationError(), DatabaseUnfit, DatabaseUnfit, id="certificate"),
        pytest.param(asyncpg.DataError("secret"), RowsRefused, RowsRefused, id="not-to-be-encoded"),
        pytest.param(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"), RowsRefused, RowsRefused, id="surrogate"),
        pytest.param(
            asyncpg.InterfaceError("another operation"), DatabaseUnavailable, OutcomeUnknown, id="driver-in-the-way"
        ),
        # SQLite
        pytest.param(sqlite("SQLITE_BUSY"), DatabaseUnavailable, DatabaseUnavailable, id="sqlite-busy"),
        pytest.param(sqlite("SQLITE_BUSY_SNAPSHOT"), DatabaseUnavailable, DatabaseUnavailable, id="sqlite-snapshot"),
        pytest.param(sqlite("SQLITE_FULL"), DatabaseUnavailable, DatabaseUnavailable, id="sqlite-full"),
        pytest.param(sqlite("SQLITE_READONLY_DBMOVED"), DatabaseUnavailable, DatabaseUnavailable, id="sqlite-moved"),
        pytest.param(sqlite("SQLITE_IOERR_FSYNC"), DatabaseUnavailable, OutcomeUnknown, id="sqlite-fsync"),
        pytest.param(sqlite("SQLITE_CORRUPT_INDEX"), DatabaseUnfit, DatabaseUnfit, id="sqlite-corrupt"),
        pytest.param(sqlite("SQLITE_NOTADB", sqlite3.DatabaseError), DatabaseUnfit, DatabaseUnfit, id="sqlite-not-one"),
        pytest.param(
            sqlite("SQLITE_CONSTRAINT_CHECK", sqlite3.IntegrityError), RowsRefused, RowsRefused, id="sqlite-constraint"
        ),
        pytest.param(sqlite("SQLITE_TOOBIG", sqlite3.DataError), RowsRefused, RowsRefused, id="sqlite-too-big"),
        pytest.param(
            sqlite3.OperationalError("no such table: x"), DatabaseUnfit, DatabaseUnfit, id="sqlite-without-tables"
        ),
        # Ours
        pytest.param(Overtaken(), Overtaken, Overtaken, id="ours"),
    ],
)
def test_error_means(error: Exception, idle: type[DatabaseError], committing: type[DatabaseError]) -> None:
    """Bare and as SQLAlchemy wraps it; and nothing that it says about data or addresses is passed on."""
    for one in (error, wrapped(error)):
        before, within = translate(one, committing=False), translate(one, committing=True)

        assert (idle, committing) == (type(before), type(within))
        assert "secret" not in f"{before} {within}"
        assert before.reason


def test_reasons_name_the_code() -> None:
    """Which can be looked up."""
    assert "the server's disk is full (SQLSTATE 53100)" == translate(refusal("53100"), committing=True).reason
    assert "the database refuses a statement (SQLSTATE 99999)" == translate(refusal("99999"), committing=True).reason
    assert "the disk is full (SQLITE_FULL)" == translate(sqlite("SQLITE_FULL"), committing=True).reason


def test_refused_rows_are_told_in_order() -> None:
    """By their places; none when the database does not say which."""
    assert (1, 3) == RowsRefused("x", [3, 1]).indexes
    assert () == RowsRefused("x").indexes


def test_chain_of_causes_that_bites_its_tail_ends() -> None:
    """Whatever a driver makes of it."""
    first, second = KeyError(), ValueError()
    first.__cause__, second.__cause__ = second, first

    assert isinstance(translate(first, committing=False), DatabaseUnavailable)
