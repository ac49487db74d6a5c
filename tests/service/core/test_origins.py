from __future__ import annotations

import pytest

from service.core.origins import origin_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("https://app.example.com", "https://app.example.com", id="plain"),
        pytest.param("HTTPS://App.Example.COM", "https://app.example.com", id="upper-case"),
        pytest.param("https://a.example:443", "https://a.example", id="https-port"),
        pytest.param("http://a.example:80", "http://a.example", id="http-port"),
        pytest.param("http://a.example:443", "http://a.example:443", id="the-other-schemes-port"),
        pytest.param("https://a.example:8443", "https://a.example:8443", id="own-port"),
        pytest.param("https://a.example:65535", "https://a.example:65535", id="last-port"),
        pytest.param("http://localhost:5173", "http://localhost:5173", id="one-label"),
        pytest.param("http://192.0.2.1", "http://192.0.2.1", id="ipv4"),
        pytest.param("http://[::1]:3000", "http://[::1]:3000", id="ipv6"),
        pytest.param("http://[2001:DB8:0:0::1]", "http://[2001:db8::1]", id="ipv6-in-one-spelling"),
        pytest.param("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", id="international"),
        pytest.param("https://a_b-c.example", "https://a_b-c.example", id="underscore"),
    ],
)
def test_origin_is_what_a_browser_sends(url: str, expected: str) -> None:
    """Lower case, and the port only when it is not the scheme's own."""
    assert expected == origin_of(url, whole=True)
    assert expected == origin_of(f"{url}/path?query#fragment", whole=False)


@pytest.mark.parametrize("rest", ["/", "/app", "?", "?a=b", "#", "#top"])
def test_origin_is_refused_when_something_follows_it(rest: str) -> None:
    """Who writes a path may believe that it matters; in a URL it is dropped."""
    url = f"https://a.example{rest}"

    assert "https://a.example" == origin_of(url, whole=False)
    with pytest.raises(ValueError, match="without a slash or a path"):
        origin_of(url, whole=True)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("*", "wildcards", id="any"),
        pytest.param("https://*.example.com", "wildcards", id="any-subdomain"),
        pytest.param("null", "must start with", id="null"),
        pytest.param("", "must start with", id="empty"),
        pytest.param("app.example.com", "must start with", id="no-scheme"),
        pytest.param("//app.example.com", "must start with", id="relative"),
        pytest.param("https:app.example.com", "must start with", id="no-slashes"),
        pytest.param("https://", "must start with", id="no-host"),
        pytest.param("https://:443", "must start with", id="port-alone"),
        pytest.param("ws://app.example.com", "must start with", id="websocket"),
        pytest.param("file:///app", "must start with", id="file"),
        pytest.param("javascript://app.example.com", "must start with", id="script"),
        pytest.param("https://user:hunter2@app.example.com", "user name", id="user"),
        pytest.param("https://app.example.com@evil.example", "user name", id="look-alike"),
        pytest.param("https://a.example:0", "port from 1", id="port-zero"),
        pytest.param("https://a.example:", "port from 1", id="empty-port"),
        pytest.param("https://a.example:65536", "must start with", id="port-too-high"),
        pytest.param("https://a.example:x", "must start with", id="port-no-number"),
        pytest.param("https://a.example.", "must start with", id="dot-at-the-end"),
        pytest.param("https://.example", "must start with", id="dot-at-the-start"),
        pytest.param("https://a..example", "must start with", id="two-dots"),
        pytest.param("https://-a.example", "must start with", id="hyphen-at-the-start"),
        pytest.param("https://a-.example", "must start with", id="hyphen-at-the-end"),
        pytest.param("https://a%2e.example", "must start with", id="escaped"),
        pytest.param("https://[::1", "must start with", id="open-bracket"),
        pytest.param("https://[::g]", "must start with", id="no-address"),
        pytest.param("https://[fe80::1%25eth0]", "must start with", id="zone"),
        pytest.param("https://[fe80::1%eth0]", "must start with", id="bare-zone"),
        pytest.param("https://bücher.example", "xn--", id="not-ascii"),
        pytest.param("https://a.example\u2028", "xn--", id="line-separator"),
        pytest.param("https://a .example", "without spaces", id="space"),
        pytest.param("https://a.\nexample", "without spaces", id="line-end"),
    ],
)
def test_anything_else_is_refused(url: str, reason: str, *, whole: bool) -> None:
    """The reason says what to write, and repeats nothing of the URL."""
    with pytest.raises(ValueError, match=reason) as caught:
        origin_of(url, whole=whole)

    assert "hunter2" not in str(caught.value)
