from __future__ import annotations

import socket
import ssl
from urllib.parse import quote

import asyncpg
import pytest

from service.db.url import connect, connect_arguments, parse
from tests.support.postgres import PASSWORD, USER, PostgresServer


def arguments(url: str) -> dict[str, object]:
    """Return what the driver is told."""
    return connect_arguments(parse(url), connect_timeout_seconds=5, session={"application_name": "slackwater"})


def test_driver_is_told_everything_that_the_address_says() -> None:
    """Each part in its own place."""
    told = arguments(
        "postgresql://me:p%40ss@a,[::1]:5433/app?connect_timeout=3&sslmode=verify-ca&sslrootcert=/ca%20.pem"
    )

    assert {
        "host": ["a", "::1"],
        "port": [5432, 5433],
        "user": "me",
        "password": "p@ss",
        "database": "app",
        "timeout": 3.0,
        "server_settings": {"application_name": "slackwater"},
        "dsn": "postgresql://?target_session_attrs=read-write&sslmode=verify-ca&sslrootcert=%2Fca%20.pem",
    } == told


def test_what_the_address_leaves_open_is_left_to_the_driver() -> None:
    """Which looks into the environment, as libpq does."""
    told = arguments("postgresql://")

    assert not {"host", "port", "dsn", "ssl"} & told.keys()
    assert (None, None, None, 5) == (told["user"], told["password"], told["database"], told["timeout"])


def test_certificates_of_the_system_verify_in_full() -> None:
    """As libpq has it."""
    context = arguments("postgresql://db?sslmode=verify-full&sslrootcert=system")["ssl"]

    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname
    with pytest.raises(ValueError, match="needs sslmode=verify-full"):
        arguments("postgresql://db?sslmode=require&sslrootcert=system")


@pytest.mark.parametrize(
    "password", [quote(PASSWORD, safe=""), "".join(f"%{byte:02X}" for byte in PASSWORD.encode())], ids=["some", "all"]
)
async def test_password_reaches_the_server_as_it_was_meant(postgres_server: PostgresServer, password: str) -> None:
    """However much of it is escaped."""
    url = f"postgresql://{USER}:{password}@127.0.0.1:{postgres_server.port}/postgres"
    connection = await connect(parse(url), connect_timeout_seconds=5)

    assert USER == await connection.fetchval("SELECT current_user")
    await connection.close()


async def test_socket_is_set_as_the_address_says(postgres_server: PostgresServer) -> None:
    """So that a connection on which nobody speaks is noticed."""
    url = f"{postgres_server.dsn()}?keepalives_idle=11&keepalives_interval=0"
    connection = await connect(parse(url), connect_timeout_seconds=5)
    plain = connection._transport.get_extra_info("socket")

    assert 1 == plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert 11 == plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    await connection.close()


async def test_unix_socket_has_no_keepalives(postgres_server: PostgresServer) -> None:
    """And needs none."""
    connection = await connect(parse(f"{postgres_server.admin_dsn()}&keepalives_idle=11"), connect_timeout_seconds=5)

    assert 1 == await connection.fetchval("SELECT 1")
    await connection.close()


async def test_errors_of_the_driver_are_passed_on(postgres_server: PostgresServer) -> None:
    """Who opens a connection of its own translates them where it knows what was under way."""
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await connect(parse(postgres_server.dsn("nowhere")), connect_timeout_seconds=5)
