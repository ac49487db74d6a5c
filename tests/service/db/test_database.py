# ruff: noqa: ASYNC240 - a test may wait for its own small files
from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.database import Database, PoolSizes, Timeouts
from service.db.migrate import migrate
from service.errors import DatabaseError, DatabaseUnavailable, DatabaseUnfit, OutcomeUnknown
from service.settings import Database as DatabaseSettings
from service.settings import Process, Secret, Settings
from tests.support.postgres import PASSWORD, USER, PostgresServer


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[Database]:
    """Open a database that is fit."""
    database = Database(url, **options)  # type: ignore[arg-type]  # the options are those of a Database
    try:
        await database.start()
        yield database
    finally:
        await database.close()


async def refusal(url: str, **options: object) -> DatabaseUnfit:
    """Return why a database is refused for good."""
    with pytest.raises(DatabaseUnfit) as caught:
        async with opened(url, **options):
            pass
    assert PASSWORD not in str(caught.value)
    return caught.value


async def failure(database: Database, statement: str) -> DatabaseError:
    """Run a statement that must fail, and return what its error means."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of whichever layer
        async with database.engine.begin() as connection:
            await connection.execute(text(statement))
    return database.translate(caught.value, committing=False)


async def scalar(connection: AsyncConnection, statement: str) -> object:
    """Return the one value of a query."""
    value: object = (await connection.execute(text(statement))).scalar_one()
    return value


def make_certificate(stem: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself, and return it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, stem.name)])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = stem.with_suffix(".pem"), stem.with_suffix(".key")
    certificate_file.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


def locks_of(path: Path) -> list[str]:
    """Return the locks that this process has on a file, as the kernel lists them."""
    inode = str(path.stat().st_ino)
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if line.split()[-3].endswith(f":{inode}") and line.split()[4] == str(os.getpid())]


@asynccontextmanager
async def tls_in_front(port: int, certificate: Path, key: Path) -> AsyncIterator[int]:
    """Speak TLS for the server of tests, which was built without; return the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Source: PostgreSQL documentation, 54.2.11: eight bytes that ask, one that answers.
        await reader.readexactly(8)
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except (OSError, asyncio.CancelledError):
            # The client has turned away; the standard library would log a task that ends cancelled.
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as group:
            group.create_task(relay(reader, server_writer))
            group.create_task(relay(server_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class TestBoth:
    """What holds of either database."""

    async def test_starts_on_a_migrated_database(self, database_url: str) -> None:
        """And says that commits wait for the disk."""
        async with opened(database_url) as database:
            facts = await database.facts()

            assert facts.fsync
            assert facts.synchronous_commit in ("on", "full")
            assert database.kind in database_url

    async def test_close_twice_does_no_harm(self, database_url: str) -> None:
        """Nor without a start."""
        database = Database(database_url)
        await database.close()
        await database.close()

    async def test_pool_is_counted(self, database_url: str) -> None:
        """What is in use now, and what was at most."""
        async with opened(database_url, pool=PoolSizes(3, 1)) as database:
            async with database.engine.connect(), database.engine.connect():
                assert 2 == database.pool_state().in_use
            pool = database.pool_state()

            assert (3, 1, 0, 2) == (pool.size, pool.overflow, pool.in_use, pool.peak)

    async def test_exhausted_pool_is_a_temporary_failure(self, database_url: str) -> None:
        """After the time that is set."""
        timeouts = Timeouts(pool=0.05)
        async with opened(database_url, pool=PoolSizes(1, 0), timeouts=timeouts) as database, database.engine.connect():
            error = await failure(database, "SELECT 1")

            assert isinstance(error, DatabaseUnavailable)
            assert "no connection of the pool was free in time" == error.reason

    async def test_writer_reads_and_then_writes_beside_another(self, database_url: str) -> None:
        """Neither is refused for having read before the other wrote."""

        async def raise_token(database: Database) -> None:
            async with database.writer.begin() as connection:
                await connection.execute(text("SELECT token FROM slackwater_fence"))
                await connection.execute(text("UPDATE slackwater_fence SET token = token + 1"))

        async with opened(database_url) as database:
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(raise_token(database))
            async with database.engine.connect() as connection:
                assert 8 == await scalar(connection, "SELECT token FROM slackwater_fence")

    async def test_transaction_that_fails_leaves_nothing(self, database_url: str) -> None:
        """Also of the statements before."""
        async with opened(database_url) as database:
            await failure(database, "UPDATE slackwater_fence SET token = 5, id = 2")
            async with database.engine.begin() as connection:
                await connection.execute(text("UPDATE slackwater_fence SET token = 5"))
                await connection.rollback()
            async with database.engine.connect() as connection:
                assert 0 == await scalar(connection, "SELECT token FROM slackwater_fence")


class TestSettings:
    """From settings to a database."""

    def test_memory_is_none(self) -> None:
        """Nothing is kept then."""
        assert Database.of(Settings(database=DatabaseSettings(url=Secret("memory:")))) is None
        with pytest.raises(ValueError, match="memory: is no database"):
            Database("memory:")

    async def test_file_in_the_directory_for_data_is_the_default(self, tmp_path: Path) -> None:
        """Where nothing else is named."""
        database = Database.of(Settings(process=Process(data_dir=tmp_path)))

        assert database is not None
        assert ("sqlite", tmp_path / "slackwater.db") == (database.kind, database.path)

    async def test_sizes_and_times_are_those_of_the_settings(self, postgres_url: str) -> None:
        """All of them."""
        chosen = DatabaseSettings(
            url=Secret(postgres_url),
            pool_size=2,
            pool_overflow=1,
            pool_timeout_seconds=0.1,
            connect_timeout_seconds=0.2,
            statement_timeout_seconds=0.3,
        )
        database = Database.of(Settings(database=chosen))

        assert database is not None
        assert Timeouts(0.1, 0.2, 0.3) == database.timeouts
        assert (2, 1) == (database.pool_state().size, database.pool_state().overflow)


class TestPostgres:
    """What a server must be like, and what its failures mean."""

    async def test_facts_are_those_of_the_server(self, postgres_server: PostgresServer, postgres_url: str) -> None:
        """As a superuser sees them; the user of tests is none."""
        async with opened(postgres_url) as database:
            facts = await database.facts()
        ((identifier,),) = postgres_server.sql("SELECT system_identifier FROM pg_control_system()")

        assert (80, 3, identifier, 1) == (
            facts.max_connections,
            facts.reserved,
            facts.system_identifier,
            facts.timeline,
        )
        assert 1 <= facts.in_use <= 80

    async def test_session_is_set_up(self, postgres_url: str) -> None:
        """So that statements end, and commits wait for the disk whatever the default of the user is."""
        async with (
            opened(postgres_url, timeouts=Timeouts(statement=1.5)) as database,
            database.engine.connect() as connection,
        ):
            shown = [
                await scalar(connection, f"SHOW {name}")
                for name in ("application_name", "statement_timeout", "synchronous_commit", "fsync")
            ]

        assert ["slackwater", "1500ms", "on", "on"] == shown

    async def test_session_outranks_the_defaults_of_the_user(
        self, postgres_server: PostgresServer, postgres_url: str
    ) -> None:
        """Somebody may have traded safety for speed, for other tables."""
        name = postgres_url.rpartition("/")[2]
        postgres_server.sql(f"ALTER DATABASE {name} SET synchronous_commit = off")

        async with opened(postgres_url) as database:
            assert "on" == (await database.facts()).synchronous_commit
        problem = await refusal(postgres_url, pooled=True)
        assert problem.reason.startswith("synchronous_commit is off in our sessions")

    async def test_address_may_name_the_session(self, postgres_url: str) -> None:
        """And set what else it likes, but not undo ours."""
        url = f"{postgres_url}?application_name=chat&options=-c%20synchronous_commit%3Doff%20-c%20work_mem%3D5MB"
        async with opened(url) as database, database.engine.connect() as connection:
            assert "chat" == await scalar(connection, "SHOW application_name")
            assert "5MB" == await scalar(connection, "SHOW work_mem")
            assert "on" == await scalar(connection, "SHOW synchronous_commit")

    async def test_address_of_a_pooler_gets_no_settings(self, postgres_url: str) -> None:
        """Which it would refuse, or pass on to others."""
        async with opened(postgres_url, pooled=True) as database, database.engine.connect() as connection:
            assert "0" == await scalar(connection, "SHOW statement_timeout")
            assert 2 == await scalar(connection, "SELECT 1 + 1")

    async def test_unix_socket_will_do(self, postgres_server: PostgresServer, postgres_url: str) -> None:
        """By its directory."""
        url = postgres_server.admin_dsn(postgres_url.rpartition("/")[2])
        async with opened(url) as database, database.engine.connect() as connection:
            assert await scalar(connection, "SELECT inet_server_addr() IS NULL")

    async def test_next_host_is_tried(self, postgres_server: PostgresServer, postgres_url: str) -> None:
        """When the first does not answer."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            url = postgres_url.replace("@", f"@127.0.0.1:{port},")

            async with opened(url) as database:
                assert postgres_server.port == database.target.hosts[1][1]

    async def test_too_few_connections_are_refused(self, own_postgres_server: PostgresServer) -> None:
        """Before the day that they are needed."""
        url = own_postgres_server.create_database()
        reason = (await refusal(url, pool=PoolSizes(70, 6))).reason
        async with opened(url, pool=PoolSizes(70, 5)):
            pass

        assert "make 78 connections, and max_connections = 80 of the server, 3 of them reserved, allows 77" in reason
        own_postgres_server.sql(f"ALTER ROLE {USER} CONNECTION LIMIT 11")
        assert "the CONNECTION LIMIT of the user, allows 11" in (await refusal(url)).reason
        own_postgres_server.sql(f"ALTER ROLE {USER} CONNECTION LIMIT 12")
        async with opened(url):
            pass
        own_postgres_server.sql(f"ALTER DATABASE {url.rpartition('/')[2]} CONNECTION LIMIT 5")
        assert "the CONNECTION LIMIT of the database, allows 5" in (await refusal(url)).reason

    async def test_server_without_fsync_is_refused(self, own_postgres_server: PostgresServer) -> None:
        """What it acknowledges may be lost."""
        url = own_postgres_server.create_database()
        own_postgres_server.sql("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        own_postgres_server.restart()

        assert (await refusal(url)).reason.startswith("fsync is off on the server")

    async def test_database_that_is_read_only_is_refused(
        self, postgres_server: PostgresServer, postgres_url: str
    ) -> None:
        """As a replica is."""
        postgres_server.sql(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET default_transaction_read_only = on")

        assert (await refusal(postgres_url)).reason.startswith("the server takes no writes")

    async def test_database_in_another_encoding_is_refused(self, postgres_server: PostgresServer) -> None:
        """Channels and data are UTF-8."""
        postgres_server.sql(
            f"CREATE DATABASE latin OWNER {USER} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'",
        )
        url = postgres_server.dsn("latin")

        assert "the database is encoded in LATIN1" in (await refusal(url)).reason
        postgres_server.drop_database(url)

    async def test_wrong_password_is_for_a_person(self, postgres_url: str) -> None:
        """As is an unknown user."""
        port = Database(postgres_url).target.hosts[0][1]

        reason = "the database refuses the user or the password: correct DATABASE_URL (SQLSTATE 28P01)"
        assert reason == (await refusal(f"postgresql://{USER}:wrong@127.0.0.1:{port}/postgres")).reason
        assert reason == (await refusal(f"postgresql://nobody:wrong@127.0.0.1:{port}/postgres")).reason

    async def test_missing_database_is_for_a_person(self, postgres_server: PostgresServer) -> None:
        """And not made by us."""
        assert (await refusal(postgres_server.dsn("nowhere"))).reason.startswith("there is no such database")

    async def test_tls_that_the_server_has_not_is_no_connection(self, postgres_url: str) -> None:
        """Rather than one in the clear."""
        with pytest.raises(DatabaseUnavailable):
            async with opened(f"{postgres_url}?sslmode=require"):
                pass

    async def test_certificate_that_is_not_there_is_for_a_person(self, postgres_url: str) -> None:
        """Its path is not repeated; the address is a secret."""
        url = f"{postgres_url}?sslmode=verify-full&sslrootcert=/nowhere/ca.pem"

        assert (await refusal(url)).reason.startswith("a file with certificates or keys that DATABASE_URL names")

    async def test_server_that_is_away_is_a_temporary_failure(self) -> None:
        """At the start too; who waits for it decides how long."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            with pytest.raises(DatabaseUnavailable, match="nothing listens at the address"):
                async with opened(f"postgresql://u:p@127.0.0.1:{closed.getsockname()[1]}/x"):
                    pass

    async def test_server_that_does_not_answer_is_given_up(self) -> None:
        """After the time that is set; here it accepts and says nothing."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/x"
            with pytest.raises(DatabaseUnavailable, match="no answer in time"):
                async with opened(url, timeouts=Timeouts(connect=0.1)):
                    pass

    async def test_statement_that_takes_too_long_is_a_temporary_failure(self, postgres_url: str) -> None:
        """By the server's own clock."""
        async with opened(postgres_url, timeouts=Timeouts(statement=0.1)) as database:
            error = await failure(database, "SELECT pg_sleep(10)")

        assert isinstance(error, DatabaseUnavailable)
        assert "a statement took too long (SQLSTATE 57014)" == error.reason

    async def test_server_that_falls_silent_is_given_up(self, own_postgres_server: PostgresServer) -> None:
        """By our own clock, since it does not end its statements itself; and it is tried again when it is back."""
        url = own_postgres_server.create_database()
        async with opened(url, timeouts=Timeouts(connect=0.2, statement=0.1)) as database:
            own_postgres_server.pause()
            try:
                errors = [await failure(database, "SELECT 1") for _ in range(2)]
            finally:
                own_postgres_server.resume()
            async with database.engine.connect() as connection:
                assert 1 == await scalar(connection, "SELECT 1")

        assert [DatabaseUnavailable] * 2 == [type(error) for error in errors]

    @pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
    async def test_certificate_is_verified_as_the_address_says(
        self, postgres_server: PostgresServer, postgres_url: str, tmp_path: Path, mode: str
    ) -> None:
        """Against the one that is named; and a server is not who it is by another name."""
        ours, others = (make_certificate(tmp_path / name) for name in ("ours", "others"))
        async with tls_in_front(postgres_server.port, *ours) as port:
            plain = f":{postgres_server.port}/"
            address = postgres_url.replace(plain, f":{port}/") + f"?sslmode={mode}&sslrootcert="
            async with opened(f"{address}{ours[0]}") as database:
                assert port == database.target.hosts[0][1]
            reason = (await refusal(f"{address}{others[0]}")).reason
            by_name = f"{address}{ours[0]}".replace("@127.0.0.1", "@localhost")
            if mode == "verify-full":
                assert reason == (await refusal(by_name)).reason
            else:
                async with opened(by_name):
                    pass

        assert reason.startswith("the certificate of the database cannot be verified")

    async def test_lost_connection_is_replaced(self, own_postgres_server: PostgresServer) -> None:
        """A restart of the server costs no request that comes after it."""
        url = own_postgres_server.create_database()
        async with opened(url) as database:
            await asyncio.to_thread(own_postgres_server.restart, "immediate")
            async with database.engine.connect() as connection:
                assert 1 == await scalar(connection, "SELECT 1")

    async def test_connection_that_ends_within_a_statement_says_nothing(
        self, own_postgres_server: PostgresServer
    ) -> None:
        """Whether it was committed is unknown, unless nothing had been sent that commits."""
        url = own_postgres_server.create_database()
        async with opened(url) as database:
            for mode in ("immediate", "fast", "kill"):
                async with asyncio.TaskGroup() as group:
                    sleep = group.create_task(_sleep(database))
                    await asyncio.to_thread(_wait_until_busy, own_postgres_server)
                    await asyncio.to_thread(own_postgres_server.stop, mode)
                    lost = await sleep
                await asyncio.to_thread(own_postgres_server.start)

                assert isinstance(database.translate(lost, committing=True), OutcomeUnknown)
                assert isinstance(database.translate(lost, committing=False), DatabaseUnavailable)


async def _sleep(database: Database) -> Exception:
    """Return the error that a long statement ends with."""
    async with database.engine.connect() as connection:
        try:
            await connection.execute(text("SELECT pg_sleep(30)"))
        except Exception as error:  # noqa: BLE001 - of whichever layer
            return error
    raise AssertionError("nothing has ended it")


def _wait_until_busy(server: PostgresServer) -> None:
    busy = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    while not server.sql(busy):
        pass


class TestSqlite:
    """What a file must be like."""

    async def test_commits_wait_for_the_disk(self, sqlite_url: str) -> None:
        """On every connection; a lost fsync cannot be seen by killing the process."""
        async with (
            opened(sqlite_url, pool=PoolSizes(3, 0)) as database,
            database.engine.connect() as first,
            database.engine.connect() as second,
        ):
            for connection in (first, second):
                assert 2 == await scalar(connection, "PRAGMA synchronous")
                assert "wal" == await scalar(connection, "PRAGMA journal_mode")
                assert 1 == await scalar(connection, "PRAGMA foreign_keys")
                assert 5000 == await scalar(connection, "PRAGMA busy_timeout")

    async def test_file_is_ours_alone(self, sqlite_url: str) -> None:
        """Those beside it too."""
        path = Path(sqlite_url.removeprefix("sqlite:///"))
        path.chmod(0o644)
        async with opened(sqlite_url):
            modes = {file.name: file.stat().st_mode & 0o007 for file in path.parent.iterdir()}

        assert {"slackwater.db", "slackwater.db-wal", "slackwater.db-shm"} == modes.keys()
        assert {0} == set(modes.values())

    async def test_file_for_a_group_may_stay_so(self, sqlite_url: str) -> None:
        """As Kubernetes makes it with fsGroup."""
        path = Path(sqlite_url.removeprefix("sqlite:///"))
        path.chmod(0o660)
        async with opened(sqlite_url):
            assert 0o660 == path.stat().st_mode & 0o777

    async def test_locks_survive_another_look(self, sqlite_url: str) -> None:
        """To open and close the file beside SQLite would free them."""
        path = Path(sqlite_url.removeprefix("sqlite:///"))
        async with opened(sqlite_url) as database, database.engine.connect() as connection:
            await connection.execute(text("SELECT token FROM slackwater_fence"))
            await database.facts()
            await database.check_server()
            held = locks_of(path)

        assert held

    @pytest.mark.parametrize("name", ["a b.db", "a?b.db", "a%20b.db", "a#b.db", "büro.db", "a:b@c.db"])
    async def test_file_may_have_any_name(self, tmp_path: Path, name: str) -> None:
        """Escaped in the address."""
        database = Database(f"sqlite:///{quote(str(tmp_path / name))}")
        await migrate(database)
        await database.close()

        assert [name] == [path.name for path in tmp_path.iterdir()]

    async def test_missing_directory_is_for_a_person(self, tmp_path: Path) -> None:
        """By its path, with what to do."""
        reason = (await refusal(f"sqlite:///{tmp_path}/nowhere/x.db")).reason

        assert f"there is no directory {tmp_path}/nowhere for the SQLite database" in reason
        assert "DATA_DIR" in reason

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    async def test_directory_that_cannot_be_written_is_for_a_person(self, tmp_path: Path) -> None:
        """And so is a file."""
        tmp_path.chmod(0o500)
        assert "cannot be used: Permission denied" in (await refusal(f"sqlite:///{tmp_path}/x.db")).reason
        tmp_path.chmod(0o700)

    async def test_directory_in_place_of_the_file_is_for_a_person(self, tmp_path: Path) -> None:
        """As a mount that went wrong makes it."""
        (tmp_path / "x.db").mkdir()

        assert "cannot be used: it is no file" in (await refusal(f"sqlite:///{tmp_path}/x.db")).reason

    async def test_file_of_another_kind_is_for_a_person(self, tmp_path: Path) -> None:
        """It is left as it is."""
        path = tmp_path / "x.db"
        path.write_text("no database, and longer than a header of SQLite is" * 10)
        before = path.read_bytes()

        assert (await refusal(f"sqlite:///{path}")).reason.startswith("the file is no SQLite database")
        assert before == path.read_bytes()

    async def test_lock_of_another_is_a_temporary_failure(self, sqlite_url: str) -> None:
        """After the time that is set."""
        timeouts = Timeouts(statement=0.05)
        async with (
            opened(sqlite_url, timeouts=timeouts) as database,
            opened(sqlite_url) as other,
            other.writer.begin(),
        ):
            error = await failure(database, "UPDATE slackwater_fence SET token = 1")

        assert isinstance(error, DatabaseUnavailable)
        assert "the database is locked by another process (SQLITE_BUSY)" == error.reason

    async def test_reader_does_not_wait_for_a_writer(self, sqlite_url: str) -> None:
        """Nor does the writer wait for it."""
        async with opened(sqlite_url) as database, database.writer.begin() as writing:
            await writing.execute(text("UPDATE slackwater_fence SET token = 1"))
            async with database.engine.connect() as reading:
                assert 0 == await scalar(reading, "SELECT token FROM slackwater_fence")

    async def test_copy_of_the_file_is_another_database(self, sqlite_url: str, tmp_path: Path) -> None:
        """Nothing of ours is outside of it once it is closed."""
        async with opened(sqlite_url) as database, database.engine.begin() as connection:
            await connection.execute(text("UPDATE slackwater_fence SET token = 3"))
        copy = tmp_path / "copy.db"
        shutil.copyfile(database.path, copy)

        async with opened(f"sqlite:///{copy}") as database, database.engine.connect() as connection:
            assert 3 == await scalar(connection, "SELECT token FROM slackwater_fence")
