"""The locks that keep a second instance from serving, and the fencing token that each take-over raises.

On Postgres a session holds an advisory lock, on a connection of its own. The server frees
it when that session ends, and ends it by itself when the holder has said nothing for a while:
a process that was stopped answers keepalives through its kernel, so they would never free anything.
Beside an SQLite file the lock is one of the operating system, which frees it with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import asyncpg

from service.core.tenure import Grant, Occupied
from service.db import failures
from service.db.identity import IS_SAME_SERVER, POSTGRES_CONFIRM, SQLITE_CONFIRM
from service.db.url import connect
from service.errors import DatabaseError, DatabaseUnavailable, DatabaseUnfit, Overtaken
from service.settings import Settings

__all__ = ("LOCK_KEY", "FileLock", "Holder", "PostgresLock", "create_lock")

LOCK_KEY: Final = 0x534C41434B575452
"""Of the advisory lock, one a database: the letters SLACKWTR."""

_BUSY_SECONDS: Final = 5.0
_OPEN_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 2.0
_MIGRATE: Final = "its tables are not there: run `python -m service migrate`"
_POOLER: Final = (
    "the address leads to a pooler that changes the session between statements, and no lock can be held through one:"
    " set DATABASE_DIRECT_URL to the address of the server itself, or let the pooler keep whole sessions"
)

Connect: TypeAlias = Callable[[], Awaitable[Any]]
"""Opens a connection of asyncpg; its errors are translated here."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who we are.

    Attributes:
        name: For people: the host and the instance.
        pod: The same for two processes of which the second cannot start before the first has ended; empty when
            nothing of the kind is known.
    """

    name: str
    pod: str = ""


def create_lock(
    settings: Settings, holder: Holder, *, boot: Callable[[], float], new_epoch: Callable[[], str]
) -> PostgresLock | FileLock | None:
    """Return the lock that belongs to the database of the settings; None when there is none to share.

    Args:
        settings: Name the database, and the times of the lock.
        holder: Who we are.
        boot: The clock of the tenure.
        new_epoch: Makes an epoch that was never used before, for a database that needs one.
    """
    target, database, times = settings.database_target, settings.database, settings.lock
    if target.path is not None:
        return FileLock(Path(target.path), holder, new_epoch=new_epoch)
    if target.kind == "memory":
        return None

    async def connect_directly() -> Any:  # noqa: ANN401 - asyncpg has no types
        session = {"application_name": "slackwater lock"}
        return await connect(
            settings.direct_target, connect_timeout_seconds=database.connect_timeout_seconds, session=session
        )

    return PostgresLock(
        connect_directly,
        holder,
        boot=boot,
        new_epoch=new_epoch,
        serve_seconds=times.serve_seconds,
        session_seconds=times.session_seconds,
    )


class _Session(NamedTuple):
    """A session of Postgres, and how to recognize its backend from another one."""

    connection: Any
    pid: int
    started_at: Any


class _Fence(NamedTuple):
    """What a take-over found and left in the row of the fence."""

    token: int
    is_free: bool


class PostgresLock:
    """An advisory lock, held by a session of its own.

    Args:
        connect: Opens a connection to the server itself.
        holder: Who we are, for the row of the fence.
        boot: The clock of the tenure.
        new_epoch: Makes an epoch that was never used before.
        serve_seconds: For how long a proof holds; no statement here takes longer.
        session_seconds: After so long without a word the server ends the session, and frees the lock.
    """

    kind: Literal["local", "file", "database"] = "database"

    def __init__(
        self,
        connect: Connect,
        holder: Holder,
        *,
        boot: Callable[[], float],
        new_epoch: Callable[[], str],
        serve_seconds: float,
        session_seconds: float,
    ) -> None:
        self._connect = connect
        self._new_epoch = new_epoch
        self._holder = holder
        self._boot = boot
        self._serve_seconds = serve_seconds
        self._session_seconds = session_seconds
        self._session: _Session | None = None
        self._is_locked = False
        # The last session that had the lock, which the server may still believe to be there.
        self._lost: _Session | None = None
        self._is_checked = False
        # The last token that this process served under: whoever finds it in the row has no predecessor but itself.
        self._token = 0
        self._served_token = 0

    async def acquire(self) -> Grant | Occupied:
        """Try to get the lock, and raise the token when that went well."""
        self._token = 0
        try:
            session = self._session or await self._open()
            row = await self._fetch(session, _TRY, LOCK_KEY)
            self._is_locked = row["granted"]
            if not self._is_locked:
                return Occupied() if row["released"] else Occupied(row["holder"], row["since"])
            sent_at = self._boot()
            fence = await self._raise_token(session)
        except BaseException:
            self.abandon()
            raise
        self._token = fence.token
        if fence.is_free:
            self._served_token = fence.token
        return Grant(fence.token, sent_at, must_wait=not fence.is_free)

    async def settle(self) -> None:
        """Put our pod into the row, and mark it as released in the end: the one before us has stopped."""
        session = self._session
        if session is None:
            raise DatabaseUnavailable("the session of the lock was lost")
        await self._fetch(session, _SETTLE, self._holder.pod, self._token)
        self._served_token = self._token

    async def prove(self, within: float) -> float:
        """Ask our session for the token; open another one when it was lost."""
        try:
            async with asyncio.timeout(within):
                return await self._prove()
        except TimeoutError as error:
            self.abandon()
            raise DatabaseUnavailable("no answer in time") from error

    async def _prove(self) -> float:
        session = self._session
        if session is None or not self._is_locked:
            session = await self._rejoin()
        sent_at = self._boot()
        row = await self._fetch(session, _PROVE)
        if row["pid"] != session.pid:
            self.abandon()
            raise Overtaken("the session of the lock was changed by a pooler")
        if row["token"] != self._token:
            self.abandon()
            raise Overtaken
        if not row["is_same"]:
            # A replica took the place of the server: what it had not received is gone, and so is every lock.
            self.abandon()
            raise Overtaken("the database is another one now")
        return sent_at

    async def _rejoin(self) -> _Session:
        """Get the lock back after its session was lost; whether somebody had it meanwhile is what the token says."""
        session, lost = self._session or await self._open(), self._lost
        row = await self._fetch(session, _TRY, LOCK_KEY)
        self._is_locked = row["granted"]
        if self._is_locked:
            return session
        if lost is not None:
            # The server has not noticed yet; nobody else can be meant by both of these.
            await self._fetch(session, _END, lost.pid, lost.started_at)
        raise DatabaseUnavailable("the lost session still has the lock, or somebody else has it")

    async def release(self) -> None:
        """Mark the row as released if we served, and let the lock go."""
        session, token = self._session, self._token
        self._token = 0
        if session is not None and not session.connection.is_closed():
            # Where it cannot be said, the next instance waits instead.
            with contextlib.suppress(DatabaseError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    if token and token == self._served_token:
                        await self._fetch(session, _RELEASE, token)
                    await _translated(session.connection.close())
        self.abandon()

    def abandon(self) -> None:
        """Cut the session; the server frees the lock when it notices."""
        session, self._session = self._session, None
        was_locked, self._is_locked = self._is_locked, False
        if session is not None:
            if was_locked:
                self._lost = session
            session.connection.terminate()

    # The session.

    async def _open(self) -> _Session:
        connection = await self._connection()
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                if not self._is_checked:
                    await self._check(connection)
                    self._is_checked = True
                await _translated(connection.execute(self._setup()))
                row = await _translated(connection.fetchrow(_SELF))
        except TimeoutError as error:
            connection.terminate()
            raise DatabaseUnavailable("no answer in time") from error
        except BaseException:
            connection.terminate()
            raise
        self._session = _Session(connection, row["pid"], row["backend_start"])
        return self._session

    async def _connection(self) -> Any:  # noqa: ANN401 - asyncpg has no types
        async def connect() -> Any:  # noqa: ANN401 - the same
            return await self._connect()

        return await _translated(connect())

    def _setup(self) -> str:
        session_ms, statement_ms = (math.ceil(1000 * item) for item in (self._session_seconds, self._serve_seconds))
        probes = max(1, math.ceil(self._session_seconds / 5))
        return f"""
            SET idle_session_timeout = {session_ms};
            SET idle_in_transaction_session_timeout = {session_ms};
            SET statement_timeout = {statement_ms};
            SET synchronous_commit = on;
            SET tcp_keepalives_idle = {probes};
            SET tcp_keepalives_interval = {probes};
            SET tcp_keepalives_count = 3;
            SET tcp_user_timeout = {session_ms};
        """

    async def _check(self, connection: Any) -> None:  # noqa: ANN401 - as above
        """Refuse a pooler that hands one backend to several of its clients."""
        other = await self._connection()
        try:
            # Some take turns among their backends, and show it here.
            ours = {await _translated(connection.fetchval(_PID)) for _ in range(2)}
            # Others take the one that was used last. Inside a transaction they have to keep it.
            await _translated(other.execute("BEGIN"))
            is_shared = await _translated(other.fetchval(_PID)) in ours
        except DatabaseError as error:
            if isinstance(error.__cause__, _CHANGED):
                raise DatabaseUnfit(_POOLER) from error
            raise
        finally:
            other.terminate()
        if is_shared or len(ours) > 1:
            raise DatabaseUnfit(_POOLER)

    async def _fetch(self, session: _Session, query: str, *arguments: object) -> Any:  # noqa: ANN401 - a row
        try:
            async with asyncio.timeout(self._serve_seconds):
                row = await _translated(session.connection.fetchrow(query, *arguments))
        except TimeoutError as error:
            self.abandon()
            raise DatabaseUnavailable("no answer in time") from error
        except DatabaseError:
            self.abandon()
            raise
        return row

    async def _raise_token(self, session: _Session) -> _Fence:
        await self._fetch(session, "BEGIN")
        row = await self._fetch(session, _TAKE, self._holder.name, self._holder.pod, self._served_token)
        if row is None:
            raise DatabaseUnfit(_MIGRATE)
        # In the same transaction, so that nobody appends between the two.
        await self._fetch(session, POSTGRES_CONFIRM, self._new_epoch())
        await self._fetch(session, "COMMIT")
        return _Fence(row["token"], row["is_free"])


_PID: Final = "SELECT pg_backend_pid()"

_CHANGED: Final = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""What a backend says of statements that another one has prepared."""

_SELF: Final = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_TRY: Final = """
    SELECT pg_try_advisory_lock($1) AS granted, holder, released,
           extract(epoch FROM taken_at)::double precision AS since
    FROM (SELECT 1) AS always LEFT JOIN slackwater_fence ON id = 1
"""
_TAKE: Final = """
    WITH before AS (
        SELECT id, released OR token = $3 OR (pod <> '' AND pod = $2) AS is_free
        FROM slackwater_fence WHERE id = 1 FOR UPDATE
    )
    UPDATE slackwater_fence AS fence
    SET token = fence.token + 1, holder = $1, released = false, taken_at = now(),
        -- Whoever still has to wait must not spare its own successor the wait.
        pod = CASE WHEN before.is_free THEN $2 ELSE '' END
    FROM before WHERE fence.id = before.id
    RETURNING fence.token, before.is_free
"""
_SETTLE: Final = "UPDATE slackwater_fence SET pod = $1 WHERE id = 1 AND token = $2"
_PROVE: Final = f"""
    SELECT pg_backend_pid() AS pid, token, {IS_SAME_SERVER} AS is_same
    FROM slackwater_fence JOIN slackwater_identity USING (id) WHERE id = 1
"""  # noqa: S608 - made of constants
_RELEASE: Final = "UPDATE slackwater_fence SET released = true WHERE id = 1 AND token = $1"
_END: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"


async def _translated(work: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever it returns
    try:
        return await work
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        raise failures.translate(error, committing=False) from error


class FileLock:
    """A lock of the operating system, on a file beside the one of SQLite.

    It is freed when the process ends, however it does, and at no other time: a process
    that was stopped keeps it. So it needs no proof by the clock, and no wait.

    Args:
        database: The file of SQLite; the lock is beside it, with ``.lock`` behind its name.
        holder: Who we are, for the row of the fence.
        new_epoch: Makes an epoch that was never used before.
    """

    kind: Literal["local", "file", "database"] = "file"

    def __init__(self, database: Path, holder: Holder, *, new_epoch: Callable[[], str]) -> None:
        self._database = database
        self._path = database.with_name(database.name + ".lock")
        self._new_epoch = new_epoch
        self._holder = holder
        self._file: int | None = None
        self._token = 0

    async def acquire(self) -> Grant | Occupied:
        """Try to get the lock, and raise the token when that went well."""
        self.abandon()
        try:
            is_ours = self._lock()
            if not is_ours:
                return await asyncio.to_thread(self._occupied)
            self._token = await asyncio.to_thread(self._raise_token)
        except BaseException as error:
            self.abandon()
            if isinstance(error, OSError | sqlite3.Error):
                raise failures.translate(error, committing=False) from error
            raise
        return Grant(self._token, math.inf)

    async def settle(self) -> None:
        """There is never anybody to wait for."""

    async def prove(self, within: float) -> float:  # noqa: ARG002 - as the protocol has it
        """See that the file is still the one that others would lock."""
        if self._file is None or not self._is_current(self._file):
            raise Overtaken("the lock file was removed or replaced")
        return math.inf

    async def release(self) -> None:
        """Mark the row as released and let the lock go."""
        if self._file is not None and self._token:
            # It only tells people; the lock itself is what counts.
            with contextlib.suppress(OSError, sqlite3.Error):
                await asyncio.to_thread(self._mark_released, self._token)
        self.abandon()

    def abandon(self) -> None:
        """Let the lock go."""
        file, self._file = self._file, None
        self._token = 0
        if file is not None:
            os.close(file)

    def _lock(self) -> bool:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except BaseException:
            os.close(file)
            raise
        if not self._is_current(file):
            # Removed in between: what others would lock is another file.
            os.close(file)
            return False
        self._file = file
        return True

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    # In a thread, on connections that last for one transaction.

    def _connection(self) -> contextlib.closing[sqlite3.Connection]:
        # Not made here when it is missing: an empty database would only hide that it was never migrated.
        connection = sqlite3.connect(
            f"{self._database.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
        return contextlib.closing(connection)

    def _raise_token(self) -> int:
        with self._connection() as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(
                "UPDATE slackwater_fence SET token = token + 1, holder = ?, pod = ?, released = 0,"
                " taken_at = CURRENT_TIMESTAMP WHERE id = 1 RETURNING token",
                (self._holder.name, self._holder.pod),
            ).fetchall()
            if not row:
                raise DatabaseUnfit(_MIGRATE)
            connection.execute(SQLITE_CONFIRM, (self._new_epoch(),))
            connection.execute("COMMIT")
        token: int = row[0][0]
        return token

    def _mark_released(self, token: int) -> None:
        with self._connection() as connection:
            connection.execute("UPDATE slackwater_fence SET released = 1 WHERE id = 1 AND token = ?", (token,))

    def _occupied(self) -> Occupied:
        with self._connection() as connection:
            row = connection.execute(
                "SELECT holder, CAST(strftime('%s', taken_at) AS REAL) FROM slackwater_fence"
                " WHERE id = 1 AND NOT released"
            ).fetchone()
        return Occupied(*row) if row is not None else Occupied()
