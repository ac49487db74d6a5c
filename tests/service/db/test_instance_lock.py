from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar, Literal

import asyncpg
import pytest
from typing_extensions import override

from service.clock import SystemClock
from service.core.tenure import Grant
from service.db import instance_lock
from service.db.instance_lock import FileLock, Holder, PostgresLock
from service.errors import DatabaseUnavailable, DatabaseUnfit, Overtaken
from service.ids import SystemIds
from service.realtime.ports import InstanceLock
from tests.conformance.instance_lock import InstanceLockSuite, Make, granted, proven
from tests.support.clock import ManualClock
from tests.support.instance_lock import FakeLock, LockPlace
from tests.support.postgres import PostgresServer
from tests.support.silent_proxy import SilentProxy
from tests.support.transaction_pooler import TransactionPooler

BOOT = SystemClock().boot


class TestFakeLock(InstanceLockSuite):
    """The one that other tests break is a lock like the others."""

    KIND: ClassVar[str] = "database"

    @override
    @pytest.fixture
    def make(self) -> Make:
        place = LockPlace(ManualClock())
        return lambda name, pod="": FakeLock(place, name, pod=pod)

    @override
    @pytest.fixture
    def boot(self) -> Callable[[], float]:
        return ManualClock().boot


class TestFileLock(InstanceLockSuite):
    """Beside a file of SQLite."""

    KIND: ClassVar[str] = "file"
    WAITS: ClassVar[bool] = False
    COMES_BACK: ClassVar[bool] = False

    @override
    @pytest.fixture
    def make(self, sqlite_url: str) -> Make:
        return lambda name, pod="": FileLock(
            Path(sqlite_url.removeprefix("sqlite:///")), Holder(name, pod), new_epoch=SystemIds().epoch
        )

    @override
    @pytest.fixture
    def boot(self) -> Callable[[], float]:
        return BOOT


def postgres_lock(dsn: str, name: str = "one", *, pod: str = "", session_seconds: float = 15.0) -> PostgresLock:
    """Return the lock of one process."""
    return PostgresLock(
        lambda: asyncpg.connect(dsn, timeout=5),
        Holder(name, pod),
        boot=BOOT,
        new_epoch=SystemIds().epoch,
        serve_seconds=5.0,
        session_seconds=session_seconds,
    )


class TestPostgresLock(InstanceLockSuite):
    """In a session of Postgres."""

    KIND: ClassVar[str] = "database"

    @override
    @pytest.fixture
    async def make(self, postgres_url: str) -> AsyncIterator[Make]:
        made: list[InstanceLock] = []

        def make(name: str, *, pod: str = "") -> InstanceLock:
            made.append(postgres_lock(postgres_url, name, pod=pod))
            return made[-1]

        yield make
        for lock in made:
            lock.abandon()

    @override
    @pytest.fixture
    def boot(self) -> Callable[[], float]:
        return BOOT


class TestSessions:
    """What a session of Postgres is told, and what becomes of one that is lost."""

    async def test_the_server_ends_it_when_it_falls_silent(self, postgres_url: str) -> None:
        """Its holder was stopped, say; keepalives would be answered for it."""
        lock, other = postgres_lock(postgres_url, session_seconds=0.2), postgres_lock(postgres_url, "two")
        await granted(lock)
        assert not isinstance(await other.acquire(), Grant)
        grant = await granted(other)

        assert grant.must_wait
        with pytest.raises(DatabaseUnavailable):
            await lock.prove(1.0)
        lock.abandon()
        await other.release()

    async def test_proofs_keep_it(self, postgres_url: str) -> None:
        """Each is a word."""
        lock, other = postgres_lock(postgres_url, session_seconds=0.5), postgres_lock(postgres_url, "two")
        await granted(lock)
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.5
        while loop.time() < until:
            await lock.prove(1.0)

        assert not isinstance(await other.acquire(), Grant)
        await lock.release()
        await other.release()

    async def test_what_it_is_told(self, postgres_url: str) -> None:
        """Read back from the server."""
        lock = postgres_lock(postgres_url, session_seconds=7.5)
        await granted(lock)
        assert lock._session is not None
        names = ("idle_session_timeout", "statement_timeout", "synchronous_commit", "tcp_user_timeout")
        told = {name: await lock._session.connection.fetchval("SELECT current_setting($1)", name) for name in names}
        await lock.release()

        assert {
            "idle_session_timeout": "7500ms",
            "statement_timeout": "5s",
            "synchronous_commit": "on",
            "tcp_user_timeout": "7500",
        } == told

    async def test_a_question_without_an_answer_is_given_up(self, postgres_url: str) -> None:
        """And another session cannot be opened either, until the network is back; then nothing was lost."""
        port = int(postgres_url.rpartition("/")[0].rpartition(":")[2])
        async with SilentProxy.start(port) as proxy:
            lock = postgres_lock(postgres_url.replace(f":{port}/", f":{proxy.port}/"))
            await granted(lock)
            proxy.silence()
            for _ in range(2):
                with pytest.raises(DatabaseUnavailable):
                    await lock.prove(0.05)
            proxy.resume()
            await proven(lock)
            await lock.release()

    async def test_a_start_without_an_answer_is_given_up(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever stands by tries again, instead of waiting for ever."""
        monkeypatch.setattr(instance_lock, "_OPEN_SECONDS", 0.05)
        port = int(postgres_url.rpartition("/")[0].rpartition(":")[2])
        async with SilentProxy.start(port) as proxy:

            async def connect() -> object:
                connection = await asyncpg.connect(postgres_url.replace(f":{port}/", f":{proxy.port}/"), timeout=5)
                proxy.silence()
                return connection

            lock = PostgresLock(
                connect, Holder("one"), boot=BOOT, new_epoch=SystemIds().epoch, serve_seconds=5.0, session_seconds=15.0
            )
            with pytest.raises(DatabaseUnavailable, match="no answer in time"):
                await lock.acquire()
            proxy.cut()

    async def test_its_own_lost_session_is_ended(self, postgres_url: str) -> None:
        """The server would believe in it for a while yet, when it has not heard of the loss."""
        port = int(postgres_url.rpartition("/")[0].rpartition(":")[2])
        async with SilentProxy.start(port) as proxy:
            url = postgres_url.replace(f":{port}/", f":{proxy.port}/")
            urls = [url, postgres_url]

            async def connect() -> object:
                # The lock's session goes through the proxy, which the next one goes past. The pair of the check too.
                return await asyncpg.connect(urls[0], timeout=5)

            lock = PostgresLock(
                connect, Holder("one"), boot=BOOT, new_epoch=SystemIds().epoch, serve_seconds=5.0, session_seconds=15.0
            )
            grant = await granted(lock)
            proxy.silence()
            lock.abandon()
            urls.pop(0)
            await proven(lock)
            await lock.release()
            proxy.cut()

        after = postgres_lock(postgres_url)
        assert grant.token + 1 == (await granted(after)).token
        await after.release()

    @pytest.mark.parametrize("order", ["last", "turns"])
    async def test_a_pooler_is_found_out(
        self, postgres_server: PostgresServer, postgres_url: str, order: Literal["last", "turns"]
    ) -> None:
        """Which of its sessions a statement reaches changes, and no lock can be held so."""
        path = postgres_server.admin_dsn().partition("host=")[2].partition("&")[0]
        socket = f"{path.replace('%2F', '/')}/.s.PGSQL.{postgres_server.port}"
        async with TransactionPooler.start(socket, order) as pooler:
            lock = postgres_lock(postgres_url.replace(f":{postgres_server.port}/", f":{pooler.port}/"))
            with pytest.raises(DatabaseUnfit, match="set DATABASE_DIRECT_URL"):
                await lock.acquire()

    async def test_a_database_without_tables_is_unfit(self, unmigrated_postgres_url: str) -> None:
        """And says what to run."""
        with pytest.raises(DatabaseUnfit, match="service migrate"):
            await postgres_lock(unmigrated_postgres_url).acquire()

    async def test_a_wrong_password_is_unfit(self, postgres_url: str) -> None:
        """No waiting mends it."""
        with pytest.raises(DatabaseUnfit, match="password"):
            await postgres_lock(postgres_url.replace("@127", "x@127")).acquire()

    async def test_a_server_that_is_not_there_is_waited_for(self, postgres_url: str) -> None:
        """It may come."""
        port = postgres_url.rpartition("/")[0].rpartition(":")[2]
        with pytest.raises(DatabaseUnavailable):
            await postgres_lock(postgres_url.replace(f":{port}/", ":1/")).acquire()


_HOLD = """
import asyncio, sys
from pathlib import Path
from service.db.instance_lock import FileLock, Holder

async def hold():
    await FileLock(Path(sys.argv[1]), Holder("other"), new_epoch=lambda: "abcdefgh").acquire()
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""


class TestFiles:
    """What is particular to a lock of the operating system."""

    @pytest.fixture
    def path(self, sqlite_url: str) -> Path:
        """The database."""
        return Path(sqlite_url.removeprefix("sqlite:///"))

    @pytest.fixture
    def lock(self, path: Path) -> FileLock:
        """A lock of this process."""
        return FileLock(path, Holder("one"), new_epoch=SystemIds().epoch)

    async def test_it_is_free_when_its_process_is_dead_and_not_when_it_is_stopped(
        self, path: Path, lock: FileLock
    ) -> None:
        """Which is why nobody has to wait."""
        root = Path(__file__).parents[3]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _HOLD, str(path), cwd=root, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            assert b"held\n" == await process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            assert not isinstance(await lock.acquire(), Grant)
        finally:
            process.kill()
            await process.wait()

        grant = await granted(lock)
        assert (2, False) == (grant.token, grant.must_wait)
        await lock.release()

    async def test_a_lock_file_that_is_gone_proves_nothing(self, path: Path, lock: FileLock) -> None:
        """Another process would lock another file."""
        await granted(lock)
        path.with_name(path.name + ".lock").unlink()
        with pytest.raises(Overtaken, match="removed or replaced"):
            await lock.prove(1.0)

        assert 2 == (await granted(lock)).token
        await lock.release()

    async def test_others_may_not_read_it(self, path: Path, lock: FileLock) -> None:
        """Nor lock it."""
        await granted(lock)
        assert 0o600 == path.with_name(path.name + ".lock").stat().st_mode & 0o777
        await lock.release()

    async def test_a_database_without_tables_is_unfit(self, tmp_path: Path) -> None:
        """And says what to run; the lock is free afterwards."""
        path = tmp_path / "empty.db"
        path.touch()
        for _ in range(2):
            with pytest.raises(DatabaseUnfit, match="service migrate"):
                await FileLock(path, Holder("one"), new_epoch=SystemIds().epoch).acquire()

    async def test_one_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        """It would hide that nothing was migrated."""
        path = tmp_path / "none.db"
        with pytest.raises(DatabaseUnavailable):
            await FileLock(path, Holder("one"), new_epoch=SystemIds().epoch).acquire()

        assert not path.exists()
