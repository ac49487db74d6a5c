"""Whether a commit is under way, seen from outside while the service stands still.

What the publishers know is no proof: something that is not answered may not even have arrived.
"""

from __future__ import annotations

import asyncio
import enum
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
from typing_extensions import override

__all__ = ("Moment", "PostgresWitness", "SqliteWitness", "Witness", "until_all_is_read")


class Moment(enum.Enum):
    """How far a commit was when the service was stopped."""

    WRITING = "writing"
    """The transaction had written, and had not ended."""
    ANSWERED = "answered"
    """The transaction had ended a moment ago; the service had not read the answer."""


class Witness(ABC):
    """Looks at a database from outside."""

    @abstractmethod
    async def look(self, pid: int) -> Moment | None:
        """Return how far the commit of a process is, which stands still; None when none is under way."""

    @abstractmethod
    async def tops(self) -> Mapping[str, int]:
        """Return the newest offset that is committed, by channel."""


# A backend has a transaction id from its first write until its commit is on the disk.
_APPENDS: Final = """
    SELECT client_port, state = 'active' AS is_active, state = 'active' AND backend_xid IS NOT NULL AS is_writing
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'slackwater'
        AND query LIKE '%INSERT INTO slackwater_publications%'
"""
_LOOKS: Final = 1_000
_ESTABLISHED: Final = "01"
_READ_SECONDS: Final = 10.0
_TURNS: Final = 100


class PostgresWitness(Witness):
    """Sees what the backends of the service are at.

    Args:
        connection: Of a superuser, who alone sees the statements of others.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg has no types
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def at(cls, dsn: str) -> AsyncIterator[PostgresWitness]:
        """Look from a session of its own."""
        connection = await asyncpg.connect(dsn)
        try:
            yield cls(connection)
        finally:
            await connection.close()

    @override
    async def look(self, pid: int) -> Moment | None:
        for _ in range(_LOOKS):
            backends = await self._connection.fetch(_APPENDS)
            if any(backend["is_writing"] for backend in backends):
                return Moment.WRITING
            if not any(backend["is_active"] for backend in backends):
                break
            # It has not written yet, or has committed already. The server does not stand still: the next look tells.
        else:
            return None
        ports = {backend["client_port"] for backend in backends}
        return Moment.ANSWERED if any(end.unread and end.local_port in ports for end in _queues()) else None

    @override
    async def tops(self) -> Mapping[str, int]:
        return dict(await self._connection.fetch("SELECT channel, top FROM slackwater_streams"))


_POSIX_WRITE_LOCK: Final = re.compile(r"POSIX +ADVISORY +WRITE +(\d+) +[0-9a-f]+:[0-9a-f]+:(\d+) +(\d+) ")
_LOCKS: Final = Path("/proc/locks")
_WRITER_BYTE: Final = 120
"""Locked in the file beside the write-ahead log by whoever writes.

Source: SQLite, "WAL-mode File Format", 2.3 (File Locks).
"""


class SqliteWitness(Witness):
    """Sees who has the place of the one writer, which a transaction holds until its commit is on the disk.

    To ask for that place would not say whose it is: the applications of the outbox write too. What the service
    writes besides publications is far too rare to matter.

    Args:
        path: Of the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shared = path.with_name(f"{path.name}-shm")

    @override
    async def look(self, pid: int) -> Moment | None:
        wanted = (pid, self._shared.stat().st_ino, _WRITER_BYTE)
        locks = _POSIX_WRITE_LOCK.findall(_LOCKS.read_text())
        return Moment.WRITING if wanted in [tuple(map(int, lock)) for lock in locks] else None

    @override
    async def tops(self) -> Mapping[str, int]:
        # Asked about commits that had been answered, of which there are none to be seen here.
        return {}


class _Queues(NamedTuple):
    """One end of a connection over IPv4, and how many bytes lie in it."""

    local_port: int
    remote_port: int
    unsent: int
    unread: int


def _queues() -> Iterator[_Queues]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        if state == _ESTABLISHED:
            ports = (int(address.rpartition(":")[2], 16) for address in (local, remote))
            yield _Queues(*ports, *(int(size, 16) for size in queues.split(":")))


async def until_all_is_read(port: int) -> None:
    """Wait until this process has taken in everything that was sent to it from a port, which sends no more."""
    async with asyncio.timeout(_READ_SECONDS):
        while not _is_all_read(port):  # noqa: ASYNC110 - each look takes its time
            await asyncio.sleep(0)
    # What was read passes from task to task, each of which has to have its turn.
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def _is_all_read(port: int) -> bool:
    return not any(
        (end.local_port == port and end.unsent) or (end.remote_port == port and end.unread) for end in _queues()
    )
