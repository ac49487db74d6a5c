"""From an address to connections: what the driver is told, and what it has no word for."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import asyncpg

from service.core.database_url import Target, parse

__all__ = ("Target", "connect", "connect_arguments", "parse")

_SYSTEM_CERTIFICATES: Final = "system"
_LINUX: Final[Mapping[str, str]] = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}
"""Options of a TCP socket by libpq's names, with the names that the socket module has for them where it has any."""


def connect_arguments(
    target: Target, *, connect_timeout_seconds: float, session: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what ``asyncpg.connect`` is called with.

    Args:
        target: A Postgres.
        connect_timeout_seconds: Holds unless the address has one of its own.
        session: Settings of the session by the server's names; they outrank those of the address, but for
            ``application_name``.

    Raises:
        ValueError: A file that the address names cannot be used; says which parameter.
    """
    parameters = {**target.driver, **target.tls}
    arguments: dict[str, Any] = {}
    if target.tls.get("sslrootcert") == _SYSTEM_CERTIFICATES:
        arguments["ssl"] = _system_context(target.tls)
        parameters = dict(target.driver)
    own = dict(session or {})
    name = target.session.get("application_name") or own.get("application_name")
    settings = {**target.session, **own, **({"application_name": name} if name else {})}
    arguments |= {
        "timeout": target.connect_timeout_seconds or connect_timeout_seconds,
        "server_settings": settings,
        "user": target.user,
        "database": target.database,
        "password": None if target.password is None else target.password.reveal(),
    }
    if target.hosts:
        arguments["host"] = [host for host, _ in target.hosts]
        arguments["port"] = [port for _, port in target.hosts]
    if parameters:
        # The driver takes these from an address alone.
        arguments["dsn"] = f"postgresql://?{urlencode(parameters, quote_via=quote)}"
    return arguments


async def connect(
    target: Target, *, connect_timeout_seconds: float, session: Mapping[str, str] | None = None, **options: object
) -> Any:  # noqa: ANN401 - the driver has no types
    """Open a connection of the driver; its errors are passed on as they are.

    Args:
        target: A Postgres.
        connect_timeout_seconds: As of `connect_arguments`, as is ``session``.
        options: More arguments of ``asyncpg.connect``.
    """
    arguments = connect_arguments(target, connect_timeout_seconds=connect_timeout_seconds, session=session)
    connection = await asyncpg.connect(**{**options, **arguments})
    if target.socket:
        _set_socket(connection, target.socket)
    return connection


def _set_socket(connection: Any, options: Mapping[str, int]) -> None:  # noqa: ANN401 - the driver has no types
    transport = connection._transport  # noqa: SLF001 - the driver offers no other way to its socket
    plain: socket.socket | None = transport.get_extra_info("socket")
    if plain is None or plain.family not in (socket.AF_INET, socket.AF_INET6):
        return
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, options.get("keepalives", 1))
    for name, constant in _LINUX.items():
        # Source: libpq takes 0 for the system's own value.
        if options.get(name) and hasattr(socket, constant):
            plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, constant), options[name])


def _system_context(tls: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context that trusts whom the system trusts. Source: libpq then verifies in full, and no less."""
    if tls.get("sslmode", "verify-full") != "verify-full":
        raise ValueError("has sslrootcert=system, which needs sslmode=verify-full")
    context = ssl.create_default_context()
    if "sslcert" in tls:
        context.load_cert_chain(tls["sslcert"], tls.get("sslkey"), tls.get("sslpassword"))
    return context
