"""``python -m service trial``: does this version start here, and what would it do to the database?

Nothing that others see is touched: it serves on the loopback, for a moment, with a database of its own in a directory
that goes again; of the real database it reads how far its schema is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
import structlog

from service import __version__, server
from service.clock import SystemClock
from service.db import migrate, schema
from service.db.database import Database
from service.ids import SystemIds
from service.observability.logs import configure
from service.settings import load, load_database

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.db.schema import Schema
    from service.realtime.instance import Instance

__all__ = ("Finding", "TrialError", "attempt")

_READY_SECONDS: Final = 30.0
_ASK_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.05
_OK: Final = 200


class TrialError(Exception):
    """It does not start."""


class DatabaseFinding(msgspec.Struct, frozen=True):
    """The real database, as it is now.

    Attributes:
        level: Of its schema; None where that cannot be seen from here, as with a file on another volume.
        oldest_level: Of the oldest code that may run on it; None as above.
    """

    kind: str
    level: int | None
    oldest_level: int | None


class Finding(msgspec.Struct, frozen=True):
    """What was seen.

    Attributes:
        trial: Version of this answer.
        code_level: Of the schema that this version works with.
        oldest_level: Of the oldest code that may run on that schema: older code cannot be gone back to.
        migrates: Whether a start of this version brings the database to its level by itself.
        database: None when nothing is kept.
    """

    version: str
    code_level: int
    oldest_level: int
    migrates: bool
    database: DatabaseFinding | None
    trial: int = 1


def attempt(environ: Mapping[str, str]) -> Finding:
    """Start with these settings, and look.

    Args:
        environ: As of `load`.

    Raises:
        SettingsError: With every problem.
        TrialError: It does not start.
        DatabaseError: The real database cannot be reached, or this version may not run on it.
    """
    settings = load(environ, secret=SystemIds().secret)
    configure(settings.logs)
    with tempfile.TemporaryDirectory(prefix="slackwater-trial-") as folder:
        url = f"sqlite:///{folder}/trial.db"
        _start(environ, folder, url)
        reached = asyncio.run(_schema_of(Database(url)))
    found = asyncio.run(_real(environ))
    return Finding(__version__, schema.LEVEL, reached.oldest_level, settings.migrates_at_start, found)


def _start(environ: Mapping[str, str], folder: str, url: str) -> None:
    """Serve until a request is answered."""
    own = {name: value for name, value in environ.items() if name != "DATABASE_DIRECT_URL"} | {
        **dict.fromkeys(("HOST", "ADMIN_HOST"), "127.0.0.1"),
        **dict.fromkeys(("PORT", "ADMIN_PORT", "DRAIN_GRACE_SECONDS", "DRAIN_SPREAD_SECONDS"), "0"),
        "DATABASE_URL": url,
        "DATABASE_MIGRATE": "true",
        "DATA_DIR": folder,
    }
    client = _Client()
    code = server.serve(load(own, secret=SystemIds().secret), ready=client.begin)
    client.join()
    if code != server.EXIT_OK:
        raise TrialError("it did not start; the lines before this one say why")
    if not client.is_answered:
        raise TrialError(f"it started, and was not ready within {_READY_SECONDS:g} s")
    structlog.get_logger("slackwater").info("trial.served")


@dataclass(slots=True)
class _Client:
    """Asks whether it is ready, in a thread of its own, and ends it then.

    Attributes:
        is_answered: It said that it is.
    """

    is_answered: bool = False
    _thread: threading.Thread | None = None

    def begin(self, _instance: Instance, address: str, _admin_address: str) -> None:
        """Ask, from now on."""
        self._thread = threading.Thread(target=self._ask, args=(urlsplit(address).netloc,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until it has asked for the last time."""
        if self._thread is not None:
            self._thread.join()

    def _ask(self, host: str) -> None:
        clock = SystemClock()
        until = clock.now() + _READY_SECONDS
        while not (is_ready := _is_ready(host)) and clock.now() < until:
            threading.Event().wait(_PAUSE_SECONDS)
        self.is_answered = is_ready
        os.kill(os.getpid(), signal.SIGTERM)


def _is_ready(host: str) -> bool:
    connection = HTTPConnection(host, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", "/api/health/ready")
        return connection.getresponse().status == _OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


async def _schema_of(database: Database) -> Schema:
    try:
        return await migrate.current(database)
    finally:
        await database.close()


async def _real(environ: Mapping[str, str]) -> DatabaseFinding | None:
    database = Database.of(load_database(environ))
    if database is None:
        return None
    found = await _schema_of(database)
    if database.kind == "sqlite" and not found.level:
        # A file that is not there may well be on the volume of the pod that serves.
        return DatabaseFinding(database.kind, None, None)
    if not found.is_behind:
        schema.check(found)
    return DatabaseFinding(database.kind, found.level, found.oldest_level)
