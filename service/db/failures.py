"""What an error of a driver means: the one place where they become ours.

What counts is whether something may have been committed. An answer of the server that refuses a
statement says that nothing was; a connection that ends while one is under way says nothing.
"""

from __future__ import annotations

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from typing import Final

import asyncpg
from sqlalchemy import exc

from service.errors import DatabaseError, DatabaseUnavailable, DatabaseUnfit, OutcomeUnknown, RowsRefused

__all__ = ("translate",)

_REASONS: Final = {
    "25006": "the server takes no writes",
    "40001": "a conflict with another transaction",
    "40P01": "a deadlock",
    "53100": "the server's disk is full",
    "53200": "the server is out of memory",
    "53300": "the server has no connection to spare",
    "55P03": "a lock was not free in time",
    "57014": "a statement took too long",
    "57P01": "the server is shutting down",
    "57P02": "the server has crashed",
    "57P03": "the server is starting or stopping",
    "57P05": "the server ended an idle session",
}
"""Of codes of SQLSTATE. Source: PostgreSQL documentation, appendix A."""

_CLASSES: Final = {
    "08": "the connection failed",
    "22": "the database refuses a value",
    "23": "the database refuses a row",
    "53": "the server lacks resources",
    "57": "the server intervened",
    "58": "the server has trouble with its disk",
    "XX": "the server has an internal error",
}

_ROWS: Final = ("22", "23", "54", "P0")  # data, constraints, limits of a row, triggers that refuse
_UNFIT: Final = {
    "28": "the database refuses the user or the password: correct DATABASE_URL",
    "3D": "there is no such database: create it, or correct DATABASE_URL",
    "3F": "there is no such schema: correct the search_path of the user",
    "42501": "the user of the database lacks a right: make it the owner of the tables, or grant what is missing",
    "42P01": "a table is missing: run `python -m service migrate`",
    "42703": "a column is missing: run `python -m service migrate`",
}
"""By the class or the whole code: what no waiting mends."""

_BROKEN: Final = ("08", "57P01", "57P02", "57P03", "57P04", "57P05")
"""After these the session is gone, and with it the answer."""

# By SQLite's names of its codes, the part before the second underscore.
_SQLITE_UNFIT: Final = {
    "SQLITE_NOTADB": "the file is no SQLite database: correct DATABASE_URL, or move the file away",
    "SQLITE_CORRUPT": "the SQLite database is damaged: restore it, and run `python -m service new-epoch`",
}
_SQLITE_ROWS: Final = ("SQLITE_CONSTRAINT", "SQLITE_TOOBIG", "SQLITE_MISMATCH")
_SQLITE_REASONS: Final = {
    "SQLITE_BUSY": "the database is locked by another process",
    "SQLITE_LOCKED": "the database is locked",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "the database cannot be written",
    "SQLITE_CANTOPEN": "the database cannot be opened",
    "SQLITE_IOERR": "the disk has trouble",
    "SQLITE_NOMEM": "out of memory",
}


_BEFORE_ANYTHING: Final = {
    socket.gaierror: "the host of the database is not known",
    ConnectionRefusedError: "nothing listens at the address of the database",
    FileNotFoundError: "nothing listens at the address of the database",
}
"""Of the system: while a connection is opened, and never later."""


def translate(error: BaseException, *, committing: bool) -> DatabaseError:
    """Return what an error means; one of ours is returned as it is.

    Args:
        error: Of SQLAlchemy, of a driver, or of the system.
        committing: Whether a commit, or a statement that commits by itself, had been sent when it came.
            False while a connection is waited for: then nothing had.
    """
    for one in _causes(error):
        if isinstance(one, DatabaseError):
            return one
        if (translated := _of_database(one, committing=committing)) is not None:
            return translated
    systems = (one for one in _causes(error) if isinstance(one, OSError))
    return _of_system(next(systems, error), committing=committing)


def _of_database(error: BaseException, *, committing: bool) -> DatabaseError | None:
    """Return what an error of a driver or of the pool means; None when it is neither's."""
    translated: DatabaseError | None = None
    if isinstance(error, asyncpg.PostgresError):
        translated = _of_postgres(error, committing=committing)
    elif isinstance(error, sqlite3.Error):
        translated = _of_sqlite(error, committing=committing)
    elif isinstance(error, exc.TimeoutError):
        translated = DatabaseUnavailable("no connection of the pool was free in time")
    elif isinstance(error, (asyncpg.DataError, UnicodeError)):
        translated = RowsRefused("the driver refuses a value")
    elif isinstance(error, asyncpg.InterfaceError):
        translated = _of_interface(error, committing=committing)
    return translated


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was made of, the outermost first."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        orig = getattr(one, "orig", None)
        one = orig if isinstance(orig, BaseException) else one.__cause__


def _of_postgres(error: asyncpg.PostgresError, *, committing: bool) -> DatabaseError:
    code: str = error.sqlstate or "XX000"
    if code.startswith(_ROWS):
        return RowsRefused(_phrase(code))
    for prefix, remedy in _UNFIT.items():
        if code.startswith(prefix):
            return DatabaseUnfit(f"{remedy} (SQLSTATE {code})")
    if committing and code.startswith(_BROKEN):
        return OutcomeUnknown(_phrase(code))
    return DatabaseUnavailable(_phrase(code))


def _phrase(code: str) -> str:
    words = _REASONS.get(code) or _CLASSES.get(code[:2]) or "the database refuses a statement"
    return f"{words} (SQLSTATE {code})"


def _of_interface(error: Exception, *, committing: bool) -> DatabaseError:
    # Said before anything is sent: the driver had seen the end of the connection.
    if "connection is closed" in str(error):
        return DatabaseUnavailable("the connection was lost")
    if committing:
        return OutcomeUnknown("the connection was lost")
    return DatabaseUnavailable("the driver refuses to go on")


def _of_sqlite(error: sqlite3.Error, *, committing: bool) -> DatabaseError:
    name: str = getattr(error, "sqlite_errorname", "") or "SQLITE_ERROR"
    family = "_".join(name.split("_")[:2])
    if family in _SQLITE_UNFIT:
        return DatabaseUnfit(_SQLITE_UNFIT[family])
    if family in _SQLITE_ROWS or isinstance(error, (sqlite3.DataError, sqlite3.IntegrityError)):
        return RowsRefused(f"the database refuses a row ({name})")
    if "no such table" in str(error) or "no such column" in str(error):
        return DatabaseUnfit("a table or a column is missing: run `python -m service migrate`")
    words = _SQLITE_REASONS.get(family, "the database refuses a statement")
    # A write that failed may have reached the log nevertheless.
    if committing and family == "SQLITE_IOERR":
        return OutcomeUnknown(f"{words} ({name})")
    return DatabaseUnavailable(f"{words} ({name})")


def _of_system(error: BaseException, *, committing: bool) -> DatabaseError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return DatabaseUnfit("the certificate of the database cannot be verified: correct sslrootcert in DATABASE_URL")
    for kind, words in _BEFORE_ANYTHING.items():
        if isinstance(error, kind):
            return DatabaseUnavailable(words)
    words = "no answer in time" if isinstance(error, TimeoutError) else "the connection was lost"
    if committing:
        return OutcomeUnknown(words)
    if isinstance(error, OSError):
        return DatabaseUnavailable(words)
    return DatabaseUnavailable(f"an error of the driver ({type(error).__name__})")
