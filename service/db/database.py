"""One database: its engine and pool, what it must be like to be trusted, and what its errors mean."""

from __future__ import annotations

import errno
import os
import ssl
import stat
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

from advanced_alchemy.config import AlembicAsyncConfig, SQLAlchemyAsyncConfig
from advanced_alchemy.config.engine import EngineConfig
from sqlalchemy import URL, event, exc, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from service.core.database_url import Target, parse
from service.db import failures, schema
from service.db.url import connect
from service.errors import DatabaseError, DatabaseUnfit
from service.settings import Settings

__all__ = ("Database", "Pool", "PoolSizes", "ServerFacts", "Timeouts")

Kind: TypeAlias = Literal["postgres", "sqlite"]

_OTHER_CONNECTIONS: Final = 2
"""Beside the pool: one for the lock, one for LISTEN."""

_OLDEST_SERVER: Final = 140_000
"""The first that ends idle sessions by itself, which the lock relies on."""

_CLIENT_GRACE_SECONDS: Final = 1.0
"""How much later than the server we give up ourselves, for when it does not even answer that."""

_FILE_MODE: Final = 0o600
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_FULL: Final = 2

_FACTS: Final = text("""
    SELECT current_setting('max_connections')::int,
        current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true)::int, 0),
        (SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database)::int,
        current_setting('fsync') = 'on',
        current_setting('synchronous_commit'),
        (SELECT system_identifier::text FROM pg_control_system()),
        CASE WHEN pg_is_in_recovery() THEN 0
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END,
        current_setting('server_version_num')::int,
        current_setting('server_encoding'),
        pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
        (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
""")


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """How many connections there are.

    Attributes:
        size: Kept open.
        overflow: Opened beyond those when all are in use.
    """

    size: int = 5
    overflow: int = 5


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long is waited for what, in seconds.

    Attributes:
        pool: For a connection when all are in use.
        connect: For a new connection. An address may say otherwise.
        statement: For the end of a statement, locks included.
    """

    pool: float = 5.0
    connect: float = 5.0
    statement: float = 5.0


@dataclass(frozen=True, slots=True)
class Pool:
    """The pool as it is now; ``peak`` is the most that were in use at once since the start."""

    size: int
    overflow: int
    in_use: int
    peak: int


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself.

    Attributes:
        max_connections: 0 on SQLite, as is ``reserved``.
        reserved: Connections that are kept for others than us.
        in_use: Connections to all databases of the server; those of our pool on SQLite.
        synchronous_commit: The server's word, in a session of ours; ``full`` on SQLite.
        system_identifier: Of the cluster; empty on SQLite.
        timeline: Of the write-ahead log, raised by every promotion; 0 on SQLite, and on a replica.
    """

    max_connections: int
    reserved: int
    in_use: int
    fsync: bool
    synchronous_commit: str
    system_identifier: str
    timeline: int


class Database:
    """The engine and pool for one address. Owns both.

    Args:
        target: A Postgres or a SQLite file, as an address or parsed.
        pool: How many connections there are.
        timeouts: How long is waited for what.
        pooled: The address is that of a transaction pooler: a session has no settings of its own then,
            and how many connections there are is the pooler's business.

    Attributes:
        engine: Writes on SQLite should ask for `writer` when they read first.
    """

    def __init__(
        self,
        target: Target | str,
        *,
        pool: PoolSizes | None = None,
        timeouts: Timeouts | None = None,
        pooled: bool = False,
    ) -> None:
        self.target = parse(target) if isinstance(target, str) else target
        if self.target.kind == "memory":
            raise ValueError("memory: is no database")
        self.kind: Kind = self.target.kind
        self.timeouts = timeouts or Timeouts()
        self._sizes = pool or PoolSizes()
        self._pooled = pooled
        self._peak = 0
        self.config = self._make_config()
        self.engine: AsyncEngine = self.config.get_engine()
        self._listen()

    @classmethod
    def of(cls, settings: Settings) -> Database | None:
        """Return the database of the settings; None when there is none."""
        target, chosen = settings.database_target, settings.database
        if target.kind == "memory":
            return None
        return cls(
            target,
            pool=PoolSizes(chosen.pool_size, chosen.pool_overflow),
            timeouts=Timeouts(
                pool=chosen.pool_timeout_seconds,
                connect=chosen.connect_timeout_seconds,
                statement=chosen.statement_timeout_seconds,
            ),
            pooled=chosen.direct_url is not None,
        )

    @property
    def path(self) -> Path:
        """The SQLite file, absolute."""
        return Path(self.target.path or "").absolute()

    @property
    def writer(self) -> AsyncEngine:
        """The engine for transactions that write after they have read: on SQLite they take the lock at once.

        Else another writer could come in between, and SQLite would refuse the write without waiting.
        """
        return self.engine.execution_options(slackwater_begin="BEGIN IMMEDIATE")

    async def start(self) -> ServerFacts:
        """Connect, and make sure that what is committed here stays.

        Raises:
            DatabaseUnfit: It cannot be used before a person has changed something.
            DatabaseUnavailable: It cannot be used now.
        """
        async with self._connected() as connection:
            facts = await self._check(connection)
            schema.check(await schema.read(connection))
        return facts

    async def check_server(self) -> ServerFacts:
        """Do as `start`, whatever the schema is like."""
        async with self._connected() as connection:
            return await self._check(connection)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self.engine.dispose()

    async def facts(self) -> ServerFacts:
        """Return what the server says of itself.

        Raises:
            DatabaseError: As of `start`.
        """
        async with self._connected() as connection:
            facts, _ = await self._read_facts(connection)
        return facts

    def pool_state(self) -> Pool:
        """Return the pool as it is now."""
        return Pool(self._sizes.size, self._sizes.overflow, self._in_use, self._peak)

    def translate(self, error: BaseException, committing: bool) -> DatabaseError:  # noqa: FBT001 - every caller names it
        """Return what an error means; see ``service.db.failures``."""
        return failures.translate(error, committing=committing)

    @property
    def _in_use(self) -> int:
        return cast("QueuePool", self.engine.pool).checkedout()

    def _connected(self) -> _Connected:
        return _Connected(self)

    def _make_config(self) -> SQLAlchemyAsyncConfig:
        is_postgres = self.kind == "postgres"
        engine = EngineConfig(
            pool_size=self._sizes.size,
            max_overflow=self._sizes.overflow,
            pool_timeout=self.timeouts.pool,  # type: ignore[arg-type]  # annotated as whole; a fraction is fine
            pool_use_lifo=True,
            hide_parameters=True,
        )
        options = self._postgres_arguments() if is_postgres else self._sqlite_arguments()
        engine.connect_args = options
        url = (
            URL.create("postgresql+asyncpg") if is_postgres else URL.create("sqlite+aiosqlite", database=str(self.path))
        )
        return SQLAlchemyAsyncConfig(
            connection_string=url.drivername,
            # A path is no URL, and would need escaping in one.
            create_engine_callable=lambda _, **arguments: create_async_engine(url, **arguments),
            engine_config=engine,
            alembic_config=AlembicAsyncConfig(
                script_config="",
                script_location=str(_MIGRATIONS),
                version_table_name="slackwater_migrations",
                render_as_batch=False,
            ),
        )

    def _postgres_arguments(self) -> dict[str, Any]:
        async def create(**options: object) -> Any:  # noqa: ANN401 - the driver has no types
            return await connect(
                self.target,
                connect_timeout_seconds=self.timeouts.connect,
                session=self._session(),
                command_timeout=self.timeouts.statement + _CLIENT_GRACE_SECONDS,
                **options,
            )

        arguments: dict[str, Any] = {"async_creator_fn": create}
        if self._pooled:
            # Names that no other client of the pooler uses, and none that outlives its transaction here.
            arguments |= {
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": lambda: f"slackwater_{uuid.uuid4().hex}",
            }
        return arguments

    def _session(self) -> dict[str, str]:
        session = {"application_name": "slackwater"}
        if not self._pooled:
            session |= {
                "statement_timeout": str(max(1, round(self.timeouts.statement * 1000))),
                "synchronous_commit": "on",
                "default_transaction_isolation": "read committed",
            }
        return session

    def _sqlite_arguments(self) -> dict[str, Any]:
        # None: the module must not begin transactions by itself; see `_begin`.
        return {"timeout": self.timeouts.statement, "isolation_level": None}

    def _listen(self) -> None:
        plain = self.engine.sync_engine
        event.listen(plain, "checkout", self._checkout)
        if self.kind == "sqlite":
            event.listen(plain, "connect", _set_pragmas)
            event.listen(plain, "begin", _begin)

    def _checkout(self, connection: DBAPIConnection, entry: ConnectionPoolEntry, proxy: object) -> None:
        del entry, proxy
        self._peak = max(self._peak, self._in_use)
        if self.kind == "postgres":
            driver = connection.driver_connection
            if driver is not None and driver.is_closed():
                # The pool then opens another, so that a server that was restarted costs no request.
                raise exc.DisconnectionError("the server has closed the connection")

    async def _check(self, connection: AsyncConnection) -> ServerFacts:
        facts, problem = await self._read_facts(connection)
        if problem:
            raise DatabaseUnfit(problem)
        return facts

    async def _read_facts(self, connection: AsyncConnection) -> tuple[ServerFacts, str]:
        if self.kind == "sqlite":
            return await self._read_sqlite(connection)
        row = (await connection.execute(_FACTS)).one()
        facts = ServerFacts(*row[:7])
        return facts, _problem_of(facts, _Server(*row[7:])) or self._problem_of_sizes(facts, _Server(*row[7:]))

    async def _read_sqlite(self, connection: AsyncConnection) -> tuple[ServerFacts, str]:
        journal = (await connection.execute(text("PRAGMA journal_mode"))).scalar_one()
        synchronous = (await connection.execute(text("PRAGMA synchronous"))).scalar_one()
        facts = ServerFacts(
            max_connections=0,
            reserved=0,
            in_use=self._in_use,
            fsync=synchronous >= _FULL,
            synchronous_commit="full" if synchronous >= _FULL else "off",
            system_identifier="",
            timeline=0,
        )
        problem = ""
        if journal != "wal":
            problem = (
                f"SQLite cannot keep a write-ahead log beside {self.path}, as on a network file system:"
                " put the file on a local disk"
            )
        elif not facts.fsync:
            problem = f"SQLite does not wait for the disk on {self.path} (synchronous is not FULL)"
        return facts, problem

    def _problem_of_sizes(self, facts: ServerFacts, server: _Server) -> str:
        pool = 0 if self._pooled else self._sizes.size + self._sizes.overflow
        needed = pool + _OTHER_CONNECTIONS
        free = facts.max_connections - facts.reserved
        limits = {
            f"max_connections = {facts.max_connections} of the server, {facts.reserved} of them reserved": free,
            "the CONNECTION LIMIT of the user": server.role_limit,
            "the CONNECTION LIMIT of the database": server.database_limit,
        }
        for what, limit in limits.items():
            if 0 <= limit < needed:
                return (
                    f"DATABASE_POOL_SIZE and DATABASE_POOL_OVERFLOW and {_OTHER_CONNECTIONS} more for the lock and for"
                    f" LISTEN make {needed} connections, and {what}, allows {limit}: lower the settings or raise that"
                )
        return ""


@dataclass(frozen=True, slots=True)
class _Server:
    """What else a server says of itself, to be checked at the start; a limit of -1 is none."""

    version: int
    encoding: str
    is_read_only: bool
    role_limit: int
    database_limit: int


def _problem_of(facts: ServerFacts, server: _Server) -> str:
    """Return why a server is not to be trusted, or the empty text."""
    problem = ""
    if server.version < _OLDEST_SERVER:
        problem = f"Postgres {server.version // 10_000} is too old: 14 is the oldest that can end the session of a lock"
    elif server.encoding != "UTF8":
        problem = f"the database is encoded in {server.encoding}: create one with ENCODING 'UTF8'"
    elif server.is_read_only:
        problem = "the server takes no writes, as a replica does: name the primary in DATABASE_URL"
    elif not facts.fsync:
        problem = (
            "fsync is off on the server, so what was acknowledged may be lost: switch it on, or set"
            " DATABASE_URL=memory: to promise nothing"
        )
    elif facts.synchronous_commit in ("off", "local"):
        problem = (
            f"synchronous_commit is {facts.synchronous_commit} in our sessions, so what was acknowledged may be lost:"
            " set it on for the user of DATABASE_URL"
        )
    return problem


class _Connected:
    """A connection of the pool, whose errors are translated. On SQLite the file is looked at first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._context = database.engine.connect()

    async def __aenter__(self) -> AsyncConnection:
        if self._database.kind == "sqlite":
            _check_file(self._database.path)
        try:
            return await self._context.__aenter__()
        except Exception as error:
            raise self._unfit(error) from error

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        await self._context.__aexit__(kind, error, trace)
        if isinstance(error, Exception):
            raise self._unfit(error) from error

    def _unfit(self, error: Exception) -> DatabaseError:
        """Return what an error at the start means; a file that an address names is a matter for a person too."""
        translated = failures.translate(error, committing=False)
        is_about_files = isinstance(error, (ValueError, FileNotFoundError)) and not isinstance(error, ssl.SSLError)
        if is_about_files and self._database.target.tls:
            return DatabaseUnfit("a file with certificates or keys that DATABASE_URL names cannot be read")
        return translated


def _set_pragmas(connection: DBAPIConnection, entry: object) -> None:
    del entry
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's Connection, of whichever adapter
    options = connection.get_execution_options()
    connection.exec_driver_sql(options.get("slackwater_begin", "BEGIN"))


def _check_file(path: Path) -> None:
    """Make sure of a SQLite file that we can write it and that not everybody can read it; it is made when missing.

    Raises:
        DatabaseUnfit: With the path and what to do.
    """
    directory = path.parent
    if not directory.is_dir():
        raise DatabaseUnfit(
            f"there is no directory {directory} for the SQLite database: make it, or set DATA_DIR or DATABASE_URL;"
            " `python -m service migrate` makes the last directory of the path"
        )
    try:
        _make_private(path)
    except OSError as error:
        raise DatabaseUnfit(f"the SQLite database {path} cannot be used: {error.strerror}") from None
    # SQLite has files of its own beside it.
    if not os.access(directory, os.W_OK | os.X_OK):
        raise DatabaseUnfit(f"the directory {directory} of the SQLite database cannot be written: change its owner")


def _make_private(path: Path) -> None:
    """Make a file that is missing, and take away the rights of everybody else.

    An existing file is never opened: to close it again would free the locks that this process has on it
    through SQLite. Source: SQLite, How To Corrupt An SQLite Database File, 2.2.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE))
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if found.st_mode & 0o007:
        path.chmod(stat.S_IMODE(found.st_mode) & ~0o007)
