"""Which database an address names: a Postgres as libpq writes it, a SQLite file, or none.

Knows no driver. What is wrong with an address is said in words that follow the name of the
setting, and never with a part of the address that could be a password.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from typing_extensions import override

from service.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ("NO_DATABASE", "Target", "parse")

NO_DATABASE: Final = "memory:"
"""The address that names no database."""

_POSTGRES: Final = ("postgres://", "postgresql://")
_SQLITE: Final = "sqlite:"
_DEFAULT_PORT: Final = 5432
_MAX_PORT: Final = 65_535
_MAX_TIMEOUT_SECONDS: Final = 3600
_HEX: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")


@dataclass(frozen=True, slots=True)
class Target:
    """A database that an address names.

    Attributes:
        path: Of the SQLite file; relative ones start at the working directory. None for others.
        hosts: Postgres: names, addresses or directories of Unix sockets, with their ports. Tried in
            this order. Empty: what libpq takes when none is named.
        user: None: what libpq takes when none is named. ``password`` and ``database`` likewise.
        tls: Parameters about TLS by libpq's names, such as ``sslmode``.
        driver: Parameters about finding and authenticating, by libpq's names.
        session: Settings of the session that the address asks for, by the server's names.
        connect_timeout_seconds: None when the address says nothing, or 0.
        socket: ``keepalives`` and the like, by libpq's names.
    """

    kind: Literal["postgres", "sqlite", "memory"]
    path: PurePath | None = None
    hosts: tuple[tuple[str, int], ...] = ()
    user: str | None = None
    password: Secret | None = None
    database: str | None = None
    tls: Mapping[str, str] = field(default_factory=dict)
    driver: Mapping[str, str] = field(default_factory=dict)
    session: Mapping[str, str] = field(default_factory=dict)
    socket: Mapping[str, int] = field(default_factory=dict)
    connect_timeout_seconds: float | None = None

    @override
    def __str__(self) -> str:
        """Return what may be shown: which database, and no user, password or parameter."""
        if self.kind == "memory":
            return "no database"
        if self.kind == "sqlite":
            return f"SQLite file {self.path}"
        places = ",".join(f"{host} port {port}" for host, port in self.hosts) or "the local server"
        return f"Postgres database {self.database or '(the one named like the user)'} on {places}"


def parse(url: str) -> Target:
    """Return what an address names.

    Raises:
        ValueError: It names nothing that can be used; says what to do.
    """
    if url == NO_DATABASE:
        return Target("memory")
    if "\0" in url:
        raise ValueError("holds a NUL")
    if url.startswith(_POSTGRES):
        return _parse_postgres(url.partition("://")[2])
    if url.startswith(_SQLITE):
        return _parse_sqlite(url.removeprefix(_SQLITE))
    raise ValueError(
        "must begin with postgresql:// or postgres://, with sqlite:/// and a path, or be memory: for no database"
    )


def _parse_sqlite(rest: str) -> Target:
    if not rest.startswith("///"):
        raise ValueError("must have three slashes before a relative path and four before an absolute one: sqlite:///")
    if "?" in rest or "#" in rest:
        raise ValueError("takes no parameters after the path; write a ? or # in a path as %3F or %23")
    path = _decoded(rest.removeprefix("///"), "the path")
    if path == ":memory:" or not path:
        raise ValueError("must name a file; write memory: for no database at all")
    if path.endswith("/"):
        raise ValueError("must name a file, not a directory")
    return Target("sqlite", path=PurePath(path))


def _parse_postgres(rest: str) -> Target:
    """Return what the part behind ``://`` names. Source: PostgreSQL documentation, 32.1.1.2, and its parser."""
    place, mark, query = rest.partition("?")
    if "#" in rest:
        raise ValueError("holds a #, which has to be written as %23")
    authority, _, database = place.partition("/")
    # As libpq does: user and password end at the first @.
    user_part, at, host_part = authority.partition("@") if "@" in authority else ("", "", authority)
    if "@" in host_part:
        raise ValueError("holds an @ too many; one in a password has to be written as %40")
    if mark and not query:
        raise ValueError("ends in a ? without parameters")
    values: dict[str, str] = {}
    if at:
        user, colon, password = user_part.partition(":")
        values |= {"user": user} if user else {}
        values |= {"password": password} if colon and password else {}
    if host_part:
        values["host"], values["port"] = _split_places(host_part)
    if database:
        values["dbname"] = database
    values = {name: _decoded(text, f"the {_SAID.get(name, name)}") for name, text in values.items()}
    for name, text in _parameters(query):
        # The later wins, and an empty one names nothing.
        values[name] = text
    return _target({name: text for name, text in values.items() if text})


_SAID: Final = {"dbname": "name of the database", "port": "port", "user": "user's name"}


def _split_places(text: str) -> tuple[str, str]:
    """Return hosts and ports, comma separated, of ``host[:port],...``; the hosts still escaped."""
    hosts: list[str] = []
    ports: list[str] = []
    for place in text.split(","):
        if place.startswith("["):
            host, bracket, after = place[1:].partition("]")
            if not bracket or (after and not after.startswith(":")):
                raise ValueError("holds an IPv6 address whose brackets do not match: [::1]:5432")
            port = after[1:]
        else:
            host, _, port = place.partition(":")
            if ":" in port:
                raise ValueError(
                    "holds a host with several colons; an IPv6 address goes in brackets, and a : or / in a password"
                    " has to be written as %3A or %2F"
                )
        hosts.append(host)
        ports.append(port)
    return ",".join(hosts), ",".join(ports) if any(ports) else ""


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    if not query:
        return
    for item in query.split("&"):
        name, equals, text = item.partition("=")
        if not equals or "=" in text:
            raise ValueError(
                "has a parameter that is not name=value; a = or & within a value has to be written as %3D or %26"
            )
        name = _decoded(name, "the name of a parameter")
        # Source: libpq takes JDBC's ssl=true for sslmode=require.
        if name == "ssl" and text == "true":
            name, text = "sslmode", "require"
        if name not in _KNOWN:
            # Its name is not repeated: behind a ? that was not escaped it may be a piece of the password.
            likely = difflib.get_close_matches(name, _KNOWN, n=1)
            hint = f"; did you mean {likely[0]}?" if likely else "; a ? in a password has to be written as %3F"
            raise ValueError(f"has a parameter that libpq does not know{hint}")
        yield name, _decoded(text, f"the parameter {name}")


def _decoded(text: str, what: str) -> str:
    """Return text with its percent escapes resolved. A plus stays one: libpq knows no other escape."""
    raw = text.encode("utf-8", "surrogatepass")
    if _HEX.search(raw):
        raise ValueError(f"has a % in {what} that is no escape; a % itself has to be written as %25")
    try:
        decoded = _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), raw).decode()
    except UnicodeDecodeError:
        raise ValueError(f"must be UTF-8 in {what}, after the % escapes are resolved") from None
    if "\0" in decoded:
        raise ValueError(f"has %00 in {what}")
    return decoded


def _target(values: dict[str, str]) -> Target:
    for name, text in values.items():
        if (check := _KNOWN[name]) is not None:
            check(name, text)
    hosts = _places(values)
    driver = {name: text for name, text in values.items() if name in _DRIVER}
    if len(hosts) > 1:
        driver.setdefault("target_session_attrs", "read-write")
    timeout = int(values.get("connect_timeout", "0"))
    session: dict[str, str] = {name: values[name] for name in ("application_name", "options") if name in values}
    if "fallback_application_name" in values:
        session.setdefault("application_name", values["fallback_application_name"])
    return Target(
        "postgres",
        hosts=hosts,
        user=values.get("user"),
        password=Secret(values["password"]) if "password" in values else None,
        database=values.get("dbname"),
        tls=MappingProxyType({name: text for name, text in values.items() if name in _TLS}),
        driver=MappingProxyType(driver),
        session=MappingProxyType(session),
        socket=MappingProxyType({name: int(text) for name, text in values.items() if name in _SOCKET}),
        # Source: libpq takes 1 for 2.
        connect_timeout_seconds=float(max(2, timeout)) if timeout > 0 else None,
    )


def _places(values: dict[str, str]) -> tuple[tuple[str, int], ...]:
    """Return the hosts with their ports; one port may hold for all."""
    text = values.get("hostaddr") or values.get("host")
    if "hostaddr" in values and values.get("sslmode", "").startswith("verify"):
        raise ValueError("has hostaddr, with which a certificate cannot be verified; use host")
    hosts = text.split(",") if text else []
    ports = values.get("port", "").split(",")
    if not hosts and len(ports) > 1:
        raise ValueError("has more ports than hosts")
    if len(ports) not in (1, len(hosts) or 1):
        raise ValueError(f"names {len(hosts)} hosts and {len(ports)} ports; give one port for each, or one for all")
    if not hosts and ports != [""]:
        hosts = ["localhost"]
    if len(ports) == 1:
        ports *= len(hosts)
    for host in hosts:
        _check_host(host)
    return tuple((host, _port(port)) for host, port in zip(hosts, ports, strict=True))


def _check_host(host: str) -> None:
    if not host:
        raise ValueError("has an empty host in its list")
    if host.startswith("@"):
        raise ValueError("names an abstract Unix socket, which is not supported; use a directory")
    if not (host.startswith("/") or _HOST_NAME.fullmatch(host) or _ADDRESS.fullmatch(host)):
        raise ValueError("names a host with characters that no host has; escape what belongs to the password")


def _port(text: str) -> int:
    if not text:
        return _DEFAULT_PORT
    port = int(text) if re.fullmatch(r"[0-9]{1,5}", text) else 0
    if not 1 <= port <= _MAX_PORT:
        raise ValueError(
            f"has a port that is no number from 1 to {_MAX_PORT}; a : in a password has to be written as %3A"
        )
    return port


def _one_of(*allowed: str) -> Callable[[str, str], None]:
    def check(name: str, text: str) -> None:
        if text not in allowed:
            raise ValueError(f"has the parameter {name}, which must be {' or '.join(allowed)}")

    return check


def _seconds(name: str, text: str) -> None:
    # Source: libpq takes 0 and what is negative for "wait for ever"; here the service's own bound holds then.
    if not re.fullmatch(r"-?[0-9]{1,9}", text) or int(text) > _MAX_TIMEOUT_SECONDS:
        raise ValueError(f"has the parameter {name}, which must be whole seconds, at most {_MAX_TIMEOUT_SECONDS}")


def _number(name: str, text: str) -> None:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"has the parameter {name}, which must be a whole number")


def _refused(instead: str) -> Callable[[str, str], None]:
    def check(name: str, text: str) -> None:
        del text
        raise ValueError(f"has the parameter {name}, which is not supported; {instead}")

    return check


_TLS_VERSION: Final = _one_of("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_OFF: Final = _one_of("0", "disable", "disabled", "prefer", "allow")

_KNOWN: Final[Mapping[str, Callable[[str, str], None] | None]] = {
    "application_name": None,
    "channel_binding": _one_of("disable", "prefer"),
    "client_encoding": _one_of("UTF8", "utf8", "UTF-8", "utf-8", "auto"),
    "connect_timeout": _seconds,
    "dbname": None,
    "fallback_application_name": None,
    "gssdelegation": _OFF,
    "gssencmode": _OFF,
    "gsslib": None,
    "host": None,
    "hostaddr": None,
    "keepalives": _one_of("0", "1"),
    "keepalives_count": _number,
    "keepalives_idle": _number,
    "keepalives_interval": _number,
    "krbsrvname": None,
    "load_balance_hosts": _one_of("disable"),
    "max_protocol_version": None,
    "min_protocol_version": _one_of("3.0"),
    "options": None,
    "passfile": None,
    "password": None,
    "port": None,
    "replication": _refused("leave it out"),
    "require_auth": _refused("set the method in pg_hba.conf"),
    "requirepeer": _refused("protect the directory of the socket"),
    "service": _refused("write its parameters into the address"),
    "servicefile": _refused("write its parameters into the address"),
    "sslcert": None,
    "sslcertmode": _one_of("allow", "disable"),
    "sslcompression": _one_of("0"),
    "sslcrl": None,
    "sslcrldir": _refused("use sslcrl"),
    "sslkey": None,
    "sslmode": _one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": _one_of("postgres", "direct"),
    "sslpassword": None,
    "sslrootcert": None,
    "sslsni": _one_of("1"),
    "ssl_max_protocol_version": _TLS_VERSION,
    "ssl_min_protocol_version": _TLS_VERSION,
    "target_session_attrs": _one_of("any", "read-write", "primary"),
    "tcp_user_timeout": _number,
    "user": None,
}
"""libpq's parameters, and what is accepted of each. Source: PostgreSQL documentation, 32.1.2."""

_TLS: Final = frozenset(
    {
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslpassword",
        "sslrootcert",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
    }
)
_DRIVER: Final = frozenset({"gsslib", "krbsrvname", "passfile", "target_session_attrs"})
_SOCKET: Final = frozenset(
    {"keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"}
)
