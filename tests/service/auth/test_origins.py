from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from service.auth.origins import AllowedOrigins, is_loopback_host, loopback_origins, parse_origin
from service.errors import SettingsError

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The first text that is drawn builds Hypothesis' tables, however fast the code under test."""

APP = "https://app.example.com"
ALLOWED = AllowedOrigins(
    frozenset(
        {
            APP,
            "http://localhost:5173",
            "https://[2001:db8::1]:8443",
            "https://xn--bcher-kva.de",
            "https://kiosk.example",
        }
    )
)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="none"),
        pytest.param([], id="no header"),
        APP,
        pytest.param([APP], id="one header"),
        "https://app.example.com:443",
        "HTTPS://APP.Example.COM",
        "http://localhost:5173",
        "https://[2001:db8::1]:8443",
        "https://[2001:DB8:0:0::0001]:8443",
        "https://xn--bcher-kva.de",
        "https://XN--BCHER-KVA.de",
    ],
)
def test_origin_is_allowed(header: str | list[str] | None) -> None:
    """The same scheme, host and port in any spelling; and none at all, since that is no browser."""
    assert ALLOWED.allows(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "null",
        "NULL",
        "*",
        "https://evil.example",
        # Look-alikes by prefix and suffix.
        "https://app.example.com.evil.example",
        "https://app.example.comevil",
        "https://app.example.com-evil.example",
        "https://evil-app.example.com",
        "https://evilapp.example.com",
        "https://evil.app.example.com",
        "https://example.com",
        "https://pp.example.com",
        "https://app.example.co",
        "https://appXexample.com",
        "http://localhost:51730",
        "http://localhost:517",
        "http://localhost:5173.evil.example",
        "http://localhost.evil.example:5173",
        # Another scheme, another port.
        "http://app.example.com",
        "http://app.example.com:443",
        "wss://app.example.com",
        "ws://app.example.com",
        "https://app.example.com:444",
        "https://app.example.com:80",
        "https://app.example.com:0",
        "http://localhost",
        "https://localhost:5173",
        "file://",
        "chrome-extension://abcdefghijklmnop",
        "app.example.com",
        "//app.example.com",
        "javascript:https://app.example.com",
        "blob:https://app.example.com",
        # More than an origin, or less.
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?query",
        "https://app.example.com#fragment",
        "https://user@app.example.com",
        "https://user:secret@app.example.com",
        "https://app.example.com@evil.example",
        "https://evil.example#https://app.example.com",
        "https://evil.example\\@app.example.com",
        "https:app.example.com",
        "https:/app.example.com",
        "https:///app.example.com",
        "https://",
        "https://:443",
        "https://app.example.com:",
        "https://app.example.com:0443",
        "https://app.example.com:443443",
        "https://app.example.com:+443",
        "https://app.example.com:-1",
        "https://app.example.com:٤٤٣",
        # One header, several values.
        "https://app.example.com https://evil.example",
        "https://app.example.com,https://app.example.com",
        "https://evil.example, https://app.example.com",
        # White space, control characters.
        " https://app.example.com",
        "https://app.example.com ",
        "https://app.example.com\n",
        "https://app.example.com\x00",
        "https://app.example.com\x00.evil.example",
        "https://app.example.com\t.evil.example",
        # Another host to a browser, or the same to Unicode alone.
        "https://app.example.com.",
        "https://.app.example.com",
        "https://app..example.com",
        "https://\N{FULLWIDTH LATIN SMALL LETTER A}pp.example.com",
        "https://app\N{IDEOGRAPHIC FULL STOP}example.com",
        "https://\N{CYRILLIC SMALL LETTER A}pp.example.com",
        "http\N{LATIN SMALL LETTER LONG S}://app.example.com",
        "https://\N{KELVIN SIGN}iosk.example",
        "https://bücher.de",
        "https://app%2Eexample.com",
        # Addresses.
        "https://2001:db8::1:8443",
        "https://[2001:db8::1]",
        "https://[2001:db8::2]:8443",
        "https://[2001:db8::1%eth0]:8443",
        "https://[]:8443",
        "https://[2001:db8::1]evil:8443",
        "http://127.0.0.1:5173",
        "http://[::1]:5173",
        pytest.param("https://" + "a." * 5_000 + "com", id="long"),
    ],
)
def test_origin_is_refused(header: str) -> None:
    """Whatever is not one of them, whole."""
    assert not ALLOWED.allows(header)
    assert not ALLOWED.allows([header])


@pytest.mark.parametrize(
    "headers",
    [[APP, "https://evil.example"], ["https://evil.example", APP], [APP, APP], [APP, ""], ["", ""], ["null", "null"]],
)
def test_several_origin_headers_are_refused(headers: list[str]) -> None:
    """Which of them would a proxy have looked at?"""
    assert not ALLOWED.allows(headers)


def test_an_empty_list_refuses_every_page_and_still_allows_what_is_no_browser() -> None:
    """Forgetting the setting closes the door rather than opening it."""
    closed = AllowedOrigins(frozenset())

    assert not closed.allows(APP)
    assert not closed.allows("null")
    assert closed.allows(None)


@pytest.mark.parametrize(
    "configured",
    [
        "https://app.example.com/",
        "HTTPS://App.Example.com",
        "https://app.example.com:443",
        "https://app.example.com:443/",
    ],
)
def test_settings_may_spell_an_origin_as_people_do(configured: str) -> None:
    """The default port, capitals and one slash at the end make no difference."""
    assert AllowedOrigins(frozenset({configured})).allows(APP)
    assert not AllowedOrigins(frozenset({configured})).allows("http://app.example.com")


@pytest.mark.parametrize(
    "configured",
    [
        *("*", "https://*.example.com", "null", "", "app.example.com", "https://app.example.com/path"),
        *("https://app.example.com//", "ws://app.example.com", "https://bücher.de", "https://app.example.com:99999"),
    ],
)
def test_what_is_no_origin_stops_the_start(configured: str) -> None:
    """A typing error must not become an origin that never matches, nor a wildcard."""
    with pytest.raises(SettingsError, match="FRONTEND_URL, REPL_URL or WS_ALLOWED_ORIGINS"):
        AllowedOrigins(frozenset({configured, APP}))


def test_all_bad_origins_are_named_at_once() -> None:
    """One start, one list."""
    with pytest.raises(SettingsError) as caught:
        AllowedOrigins(frozenset({"*", "null", APP}))

    assert 2 == len(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("http://a", "http://a:80"),
        ("https://A:8443", "https://a:8443"),
        ("http://my_service:80", "http://my_service:80"),
        ("http://[2001:DB8:0::1]", "http://[2001:db8::1]:80"),
        ("https://a:65535", "https://a:65535"),
        ("https://a:65536", None),
        ("https://" + "a" * 504, "https://" + "a" * 504 + ":443"),
        ("https://" + "a" * 505, None),
        ("https://-a", None),
        ("https://a-", None),
        ("http://[::1", None),
        ("http://[:::]", None),
    ],
)
def test_parse_origin(text: str, canonical: str | None) -> None:
    """There is one spelling to compare."""
    assert canonical == parse_origin(text)


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:3000"])
def test_development_allows_the_service_s_own_page(origin: str) -> None:
    """On the bound port alone, and without forgetting what was configured."""
    development = AllowedOrigins(frozenset({APP})).including(loopback_origins(3000))

    assert development.allows(origin)
    assert development.allows(APP)
    assert not development.allows(origin.replace("3000", "3001"))
    assert not development.allows(origin.replace("http:", "https:"))
    assert not AllowedOrigins(frozenset({APP})).allows(origin)


@pytest.mark.parametrize(
    "header",
    [
        *("localhost", "localhost:3000", "LOCALHOST:3000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:3000"),
        *("[0:0:0:0:0:0:0:1]:3000", ["localhost:3000"]),
    ],
    ids=str,
)
def test_host_is_loopback(header: str | list[str]) -> None:
    """This machine by any of its own names, on any port."""
    assert is_loopback_host(header)


@pytest.mark.parametrize(
    "header",
    [
        *(None, [], "", " ", "evil.example", "evil.example:3000", "localhost.evil.example", "evil-localhost"),
        *("127.0.0.1.evil.example", "127.0.0.1.nip.io:3000", "0.0.0.0:3000", "192.168.1.2:3000", "[::]:3000"),
        *("localhost:", "localhost:x", "localhost:99999", "localhost:3000/", "user@localhost", "::1", "[::1", "[::2]"),
        *("localhost.", "localhost evil.example", "localhost,evil.example", "http://localhost", "127.1", "2130706433"),
        *(["localhost", "localhost"], ["localhost", "evil.example"], "\N{KELVIN SIGN}", "localho\u017ft"),
    ],
    ids=str,
)
def test_host_is_not_loopback(header: str | list[str] | None) -> None:
    """A page that points its own name at this machine still sends its own name."""
    assert not is_loopback_host(header)


_PIECES = st.lists(
    st.sampled_from(
        [
            *("https", "http", "://", ":", "/", "//", "@", ".", ",", " ", "app", "app.example.com", "example", "com"),
            *("evil", "443", "80", "[", "]", "::1", "null", "*", "#", "?", "\\", "%00", "\x00", "\n", "-", "_", APP),
        ]
    )
    | st.text(max_size=2),
    max_size=9,
).map("".join)


@CALM
@given(header=_PIECES)
def test_nothing_but_the_allowed_origin_is_allowed(header: str) -> None:
    """Seen from the answer: what is allowed is the origin, in one of its few spellings."""
    spelled = header.lower()

    assert (spelled in {APP, f"{APP}:443"}) is AllowedOrigins(frozenset({APP})).allows(header)


@CALM
@given(before=st.text(max_size=3), after=st.text(max_size=6))
def test_no_prefix_and_no_suffix_passes(before: str, after: str) -> None:
    """Whatever is written around an allowed origin makes another."""
    assume((before + after).lower() not in {"", ":443"})
    allowed = AllowedOrigins(frozenset({APP}))

    assert not allowed.allows(f"{before}{APP}{after}")
    assert not allowed.allows(f"https://{before}app.example.com{after}") or not before + after


@CALM
@given(host=st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,3}", fullmatch=True), port=st.integers(0, 65_535))
def test_parsing_is_stable(host: str, port: int) -> None:
    """The one spelling of an origin is its own one spelling."""
    canonical = parse_origin(f"HTTPS://{host.upper()}:{port}")

    assert f"https://{host}:{port}" == canonical
    assert canonical is not None
    assert canonical == parse_origin(canonical)
