from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol

from service.ws.handshake import Rejection, check, switching

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""What RFC 6455 section 1.3 gives for this key."""
PLAIN = (
    (b"host", b"example.org"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", KEY),
    (b"sec-websocket-version", b"13"),
)

_VALUES = {
    b"upgrade": [b"websocket", b"WebSocket", b"h2c", b"websocket, h2c", b""],
    b"connection": [b"Upgrade", b"keep-alive, Upgrade", b"keep-alive", b"upgrade,", b""],
    b"sec-websocket-key": [KEY, b"dGhlIHNhbXBsZSBub25jZQ", b"c2hvcnQ=", b"not base64 at all!", b" " + KEY, b""],
    b"sec-websocket-version": [b"13", b"8", b"13, 8", b""],
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, list[tuple[bytes, bytes]]]:
    """Requests near the right one: fields with other values, missing, or twice."""
    headers = [(b"host", b"example.org")]
    for name, values in _VALUES.items():
        headers += [(name, draw(st.sampled_from(values))) for _ in range(draw(st.sampled_from([1, 1, 1, 1, 0, 2])))]
    return draw(st.sampled_from(["GET", "GET", "GET", "POST"])), draw(st.permutations(headers))


def test_the_example_of_the_rfc() -> None:
    """Its key gives its answer. Source: RFC 6455 section 1.3."""
    assert ACCEPT == check("GET", b"/ws?x=1", PLAIN)


@given(requests())
def test_decides_as_the_library_does(request: tuple[str, list[tuple[bytes, bytes]]]) -> None:
    """What is recognised at a glance is what a closer look would let in, and nothing else.

    Source: RFC 6455 section 4.2.1.
    """
    method, headers = request
    fields = Headers((name.decode(), value.decode()) for name, value in headers)
    expected = ServerProtocol().accept(Request("/ws", fields, method))

    verdict = check(method, b"/ws", headers)

    if expected.status_code == 101:
        assert expected.headers["Sec-WebSocket-Accept"] == verdict
    else:
        assert isinstance(verdict, Rejection)
        assert expected.status_code == verdict.status
        assert "13" == verdict.headers["Sec-WebSocket-Version"]


@pytest.mark.parametrize("extra", [[], [(b"X-Slackwater-Instance", b"one"), (b"Sec-WebSocket-Protocol", b"a")]])
def test_the_answer_is_one_head(extra: list[tuple[bytes, bytes]]) -> None:
    """With everything that was asked to be in it. Source: RFC 6455 section 4.2.2."""
    head = switching(ACCEPT, extra).decode()
    first, *fields = head.removesuffix("\r\n\r\n").split("\r\n")

    assert "HTTP/1.1 101 Switching Protocols" == first
    assert ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {ACCEPT}"] == fields[:3]
    assert [f"{name.decode()}: {value.decode()}" for name, value in extra] == fields[3:]
    assert head.endswith("\r\n\r\n")
