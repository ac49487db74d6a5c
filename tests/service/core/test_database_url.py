from __future__ import annotations

import re
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.database_url import Target, parse
from service.core.secret import Secret

HOST = ("db", 5432)


def postgres(**parts: object) -> Target:
    """Return what an address of a Postgres should mean."""
    return Target("postgres", **parts)  # type: ignore[arg-type]  # the parts are those of a Target


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("postgresql://", postgres(), id="nothing-named"),
        pytest.param("postgres://db", postgres(hosts=(HOST,)), id="the-short-scheme"),
        pytest.param("postgresql://db:5433", postgres(hosts=(("db", 5433),)), id="port"),
        pytest.param("postgresql://db/app", postgres(hosts=(HOST,), database="app"), id="database"),
        pytest.param("postgresql:///app", postgres(database="app"), id="database-alone"),
        pytest.param("postgresql://me@db", postgres(hosts=(HOST,), user="me"), id="user"),
        pytest.param("postgresql://me@/app", postgres(user="me", database="app"), id="user-and-no-host"),
        pytest.param(
            "postgresql://me:secret@db:5432/app",
            postgres(hosts=(HOST,), user="me", password=Secret("secret"), database="app"),
            id="everything",
        ),
        pytest.param(
            "postgresql://m%40e:p%40s%3As%2F%3F%23%25w%20d@db/a%20p",
            postgres(hosts=(HOST,), user="m@e", password=Secret("p@s:s/?#%w d"), database="a p"),
            id="escapes",
        ),
        pytest.param("postgresql://me:a:b@db", postgres(hosts=(HOST,), user="me", password=Secret("a:b")), id="colon"),
        pytest.param("postgresql://me:a+b@db", postgres(hosts=(HOST,), user="me", password=Secret("a+b")), id="plus"),
        pytest.param("postgresql://me:@db", postgres(hosts=(HOST,), user="me"), id="empty-password"),
        pytest.param(
            "postgresql://:secret@db", postgres(hosts=(HOST,), password=Secret("secret")), id="password-alone"
        ),
        pytest.param(
            "postgresql://b%C3%BCro:%e2%82%ac@db", postgres(hosts=(HOST,), user="büro", password=Secret("€")), id="utf8"
        ),
        pytest.param("postgresql://büro@db", postgres(hosts=(HOST,), user="büro"), id="utf8-as-it-is"),
        pytest.param("postgresql://[::1]/app", postgres(hosts=(("::1", 5432),), database="app"), id="ipv6"),
        pytest.param("postgresql://[::1]:5433", postgres(hosts=(("::1", 5433),)), id="ipv6-and-port"),
        pytest.param("postgresql://[fe80::1%25eth0]", postgres(hosts=(("fe80::1%eth0", 5432),)), id="ipv6-and-zone"),
        pytest.param("postgresql://127.0.0.1", postgres(hosts=(("127.0.0.1", 5432),)), id="ipv4"),
        pytest.param(
            "postgresql://%2Frun%2Fpostgresql/app",
            postgres(hosts=(("/run/postgresql", 5432),), database="app"),
            id="socket",
        ),
        pytest.param(
            "postgresql:///app?host=/run/pg&port=5433",
            postgres(hosts=(("/run/pg", 5433),), database="app"),
            id="socket-as-parameter",
        ),
        pytest.param(
            "postgresql://a,b:5433/app",
            postgres(hosts=(("a", 5432), ("b", 5433)), database="app", driver={"target_session_attrs": "read-write"}),
            id="two-hosts-of-which-one-writes",
        ),
        pytest.param(
            "postgresql://a:1,b:2?target_session_attrs=any",
            postgres(hosts=(("a", 1), ("b", 2)), driver={"target_session_attrs": "any"}),
            id="two-hosts-as-they-come",
        ),
        pytest.param(
            "postgresql:///?host=a,b&port=5433",
            postgres(hosts=(("a", 5433), ("b", 5433)), driver={"target_session_attrs": "read-write"}),
            id="one-port-for-all",
        ),
        pytest.param("postgresql://?port=5433", postgres(hosts=(("localhost", 5433),)), id="port-alone"),
        pytest.param(
            "postgresql://a/x?host=b&dbname=y&user=z",
            postgres(hosts=(("b", 5432),), database="y", user="z"),
            id="parameters-win",
        ),
        pytest.param(
            "postgresql://db?password=s%26t",
            postgres(hosts=(HOST,), password=Secret("s&t")),
            id="password-as-parameter",
        ),
        pytest.param("postgresql://db?user=", postgres(hosts=(HOST,)), id="empty-parameter"),
        pytest.param("postgresql://db?hostaddr=10.0.0.1", postgres(hosts=(("10.0.0.1", 5432),)), id="hostaddr"),
        pytest.param(
            "postgresql://db?sslmode=require", postgres(hosts=(HOST,), tls={"sslmode": "require"}), id="sslmode"
        ),
        pytest.param(
            "postgresql://db?ssl=true", postgres(hosts=(HOST,), tls={"sslmode": "require"}), id="as-jdbc-writes-it"
        ),
        pytest.param(
            "postgresql://db?sslmode=verify-full&sslrootcert=/etc/ca.pem&sslcert=c&sslkey=k&sslpassword=p",
            postgres(
                hosts=(HOST,),
                tls={
                    "sslmode": "verify-full",
                    "sslrootcert": "/etc/ca.pem",
                    "sslcert": "c",
                    "sslkey": "k",
                    "sslpassword": "p",
                },
            ),
            id="certificates",
        ),
        pytest.param(
            "postgresql://db?sslrootcert=system",
            postgres(hosts=(HOST,), tls={"sslrootcert": "system"}),
            id="system-certificates",
        ),
        pytest.param(
            "postgresql://db?connect_timeout=10", postgres(hosts=(HOST,), connect_timeout_seconds=10.0), id="timeout"
        ),
        pytest.param(
            "postgresql://db?connect_timeout=1",
            postgres(hosts=(HOST,), connect_timeout_seconds=2.0),
            id="timeout-of-1-is-2",
        ),
        pytest.param("postgresql://db?connect_timeout=0", postgres(hosts=(HOST,)), id="timeout-of-0-is-none"),
        pytest.param("postgresql://db?connect_timeout=-1", postgres(hosts=(HOST,)), id="negative-timeout-is-none"),
        pytest.param(
            "postgresql://db?application_name=my%20app",
            postgres(hosts=(HOST,), session={"application_name": "my app"}),
            id="name",
        ),
        pytest.param(
            "postgresql://db?fallback_application_name=x",
            postgres(hosts=(HOST,), session={"application_name": "x"}),
            id="fallback-name",
        ),
        pytest.param(
            "postgresql://db?application_name=y&fallback_application_name=x",
            postgres(hosts=(HOST,), session={"application_name": "y"}),
            id="name-wins",
        ),
        pytest.param(
            "postgresql://db?options=-c%20search_path%3Dchat",
            postgres(hosts=(HOST,), session={"options": "-c search_path=chat"}),
            id="options",
        ),
        pytest.param(
            "postgresql://db?keepalives=1&keepalives_idle=30&tcp_user_timeout=5000",
            postgres(hosts=(HOST,), socket={"keepalives": 1, "keepalives_idle": 30, "tcp_user_timeout": 5000}),
            id="keepalives",
        ),
        pytest.param(
            "postgresql://db?passfile=/etc/pgpass",
            postgres(hosts=(HOST,), driver={"passfile": "/etc/pgpass"}),
            id="passfile",
        ),
        pytest.param(
            "postgresql://db?gssencmode=disable&channel_binding=prefer&client_encoding=UTF8&sslsni=1",
            postgres(hosts=(HOST,)),
            id="what-holds-anyway",
        ),
        pytest.param("memory:", Target("memory"), id="memory"),
        pytest.param("sqlite:///data.db", Target("sqlite", path=PurePath("data.db")), id="sqlite-relative"),
        pytest.param(
            "sqlite:////var/lib/data.db", Target("sqlite", path=PurePath("/var/lib/data.db")), id="sqlite-absolute"
        ),
        pytest.param("sqlite:///a%20b%3F.db", Target("sqlite", path=PurePath("a b?.db")), id="sqlite-escapes"),
    ],
)
def test_address_is_read_as_libpq_reads_it(url: str, expected: Target) -> None:
    """And a SQLite file as SQLAlchemy writes one."""
    assert expected == parse(url)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("", "must begin with postgresql://", id="empty"),
        pytest.param("mysql://me:hunter2@db", "must begin with postgresql://", id="another-database"),
        pytest.param("postgresql+asyncpg://me:hunter2@db", "must begin with postgresql://", id="a-driver"),
        pytest.param("POSTGRESQL://db", "must begin with postgresql://", id="upper-case"),
        pytest.param("host=db password=hunter2", "must begin with postgresql://", id="keywords-and-values"),
        pytest.param("memory:x", "must begin with postgresql://", id="memory-and-more"),
        pytest.param("postgresql://me:hunter@2@db", "holds an @ too many", id="bare-at"),
        pytest.param("postgresql://me:hunter2/x@db", "has a port that is no number", id="bare-slash"),
        pytest.param("postgresql://me:hunter2?x@db", "not name=value", id="bare-question-mark"),
        pytest.param("postgresql://me:hunter2?a=b@db", "libpq does not know", id="bare-question-mark-and-equals"),
        pytest.param("postgresql://me:hunter2#x@db", "holds a #", id="bare-hash"),
        pytest.param("postgresql://me:hunter2%@db", "has a % in the password", id="bare-percent"),
        pytest.param("postgresql://me:hunter2%zz@db", "has a % in the password", id="no-escape"),
        pytest.param("postgresql://me:%ff@db", "must be UTF-8 in the password", id="no-utf8"),
        pytest.param("postgresql://me:%00@db", "has %00 in the password", id="escaped-nul"),
        pytest.param("postgresql://db\0", "holds a NUL", id="nul"),
        pytest.param("postgresql://db:0", "has a port", id="port-0"),
        pytest.param("postgresql://db:65536", "has a port", id="port-too-high"),
        pytest.param("postgresql://db:٣", "has a port", id="port-in-other-digits"),
        pytest.param("postgresql://db:x", "has a port", id="port-is-a-word"),
        pytest.param("postgresql://::1", "a host with several colons", id="ipv6-without-brackets"),
        pytest.param("postgresql://[::1", "brackets do not match", id="open-bracket"),
        pytest.param("postgresql://[::1]x", "brackets do not match", id="after-the-bracket"),
        pytest.param("postgresql://a,,b", "an empty host", id="empty-host"),
        pytest.param("postgresql://a b", "characters that no host has", id="space-in-host"),
        pytest.param("postgresql://%40abstract", "abstract Unix socket", id="abstract-socket"),
        pytest.param("postgresql://?host=a,b&port=1,2,3", "2 hosts and 3 ports", id="more-ports-than-hosts"),
        pytest.param("postgresql://?port=1,2", "more ports than hosts", id="ports-without-hosts"),
        pytest.param("postgresql://db?", "ends in a ?", id="no-parameters"),
        pytest.param("postgresql://db?sslmode", "not name=value", id="no-value"),
        pytest.param("postgresql://db?options=-c a=b", "not name=value", id="bare-equals"),
        pytest.param("postgresql://db?sslmod=require", "did you mean sslmode?", id="misspelled"),
        pytest.param("postgresql://db?statement_timeout=5", "libpq does not know", id="setting-of-the-server"),
        pytest.param("postgresql://db?sslmode=on", "sslmode, which must be disable or", id="sslmode"),
        pytest.param(
            "postgresql://db?connect_timeout=5s", "connect_timeout, which must be whole seconds", id="timeout"
        ),
        pytest.param("postgresql://db?connect_timeout=3601", "at most 3600", id="timeout-too-long"),
        pytest.param("postgresql://db?keepalives=yes", "keepalives, which must be 0 or 1", id="keepalives"),
        pytest.param(
            "postgresql://db?keepalives_idle=-1", "keepalives_idle, which must be a whole number", id="keepalives-idle"
        ),
        pytest.param(
            "postgresql://db?target_session_attrs=read-only", "target_session_attrs, which must be", id="read-only"
        ),
        pytest.param("postgresql://db?channel_binding=require", "channel_binding, which must be", id="channel-binding"),
        pytest.param("postgresql://db?gssencmode=require", "gssencmode, which must be", id="gssencmode"),
        pytest.param("postgresql://db?client_encoding=latin1", "client_encoding, which must be", id="encoding"),
        pytest.param("postgresql://db?service=x", "service, which is not supported", id="service"),
        pytest.param("postgresql://db?require_auth=none", "require_auth, which is not supported", id="require-auth"),
        pytest.param("postgresql://db?hostaddr=10.0.0.1&sslmode=verify-full", "use host", id="hostaddr-unverified"),
        pytest.param("sqlite:data.db", "three slashes", id="sqlite-without-slashes"),
        pytest.param("sqlite://data.db", "three slashes", id="sqlite-with-two"),
        pytest.param("sqlite:///", "must name a file", id="sqlite-without-a-path"),
        pytest.param("sqlite:///:memory:", "write memory:", id="sqlite-in-memory"),
        pytest.param("sqlite:////data/", "not a directory", id="sqlite-directory"),
        pytest.param("sqlite:///data.db?mode=ro", "takes no parameters", id="sqlite-parameters"),
        pytest.param("sqlite:///data%2.db", "has a % in the path", id="sqlite-no-escape"),
    ],
)
def test_address_that_cannot_be_used_is_refused(url: str, problem: str) -> None:
    """By what is wrong with it, and never with what may be a password."""
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        parse(url)

    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory:", "no database"),
        ("sqlite:////data/x.db", "SQLite file /data/x.db"),
        ("postgresql://me:hunter2@a,b:1/app", "Postgres database app on a port 5432,b port 1"),
        ("postgresql://me:hunter2@/", "Postgres database (the one named like the user) on the local server"),
    ],
)
def test_target_can_be_shown(url: str, expected: str) -> None:
    """Without user, password and parameters; and its ``repr`` hides the password as well."""
    assert expected == str(parse(url))
    assert "hunter2" not in repr(parse(url))


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_password_can_be_escaped(password: str) -> None:
    """With every byte as an escape."""
    escaped = "".join(f"%{byte:02x}" for byte in password.encode())

    assert Secret(password) == parse(f"postgresql://me:{escaped}@db/app").password


@given(st.text())
def test_no_address_breaks_the_parser(rest: str) -> None:
    """It is read, or refused in words of our own."""
    for scheme in ("postgresql://", "sqlite:"):
        try:
            target = parse(scheme + rest)
        except UnicodeError:
            raise
        except ValueError:
            continue
        assert str(target)
