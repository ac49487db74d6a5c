from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect

from service import server
from service.core.codes import Disconnects
from service.ws import uvicorn_protocol
from service.ws.uvicorn_protocol import HttpProtocol
from tests.conformance.transport import Kind, Served, serve, until
from tests.support.raw_websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawWebSocket,
    build_frame,
    close_payload,
    upgrade_request,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

_LIMIT = 65536
_ENVIRON = {
    "WS_MAX_FRAME_BYTES": str(_LIMIT),
    "WS_MAX_MESSAGE_BYTES": str(_LIMIT),
    "WS_SEND_BUFFER_BYTES": str(_LIMIT),
}


# Somebody else's handlers, which know nothing of us.


class Elsewhere:
    """What the handlers below saw and wait for."""

    def __init__(self) -> None:
        self.closes: list[tuple[int, str]] = []
        self.sent = 0
        self.may_receive = asyncio.Event()


elsewhere = Elsewhere()


@websocket("/echo")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    """Send back what comes, as it came."""
    await socket.accept()
    try:
        while True:
            event: Any = await socket.receive()
            if event["type"] == "websocket.disconnect":
                elsewhere.closes.append((event["code"], event.get("reason") or ""))
                return
            if event.get("text") is not None:
                await socket.send_text(event["text"])
            else:
                await socket.send_bytes(event["bytes"])
    except WebSocketDisconnect as error:
        elsewhere.closes.append((error.code, error.detail))
    except OSError:
        # Of ``send`` on a connection that is closing already.
        elsewhere.closes.append((1006, ""))


@websocket("/polite")
async def polite(socket: WebSocket[Any, Any, Any]) -> None:
    """Choose a subprotocol and a header, and close with a code."""
    await socket.accept(subprotocols="soap", headers={"X-Greeting": "hello"})
    await socket.close(4001, "that is all")


@websocket("/silent")
async def silent(socket: WebSocket[Any, Any, Any]) -> None:
    """Return without a word."""
    await socket.accept()


@websocket("/closed")
async def closed(socket: WebSocket[Any, Any, Any]) -> None:
    """Close instead of accepting."""
    await socket.close()


@websocket("/broken")
async def broken(socket: WebSocket[Any, Any, Any]) -> None:
    """Fail once the socket is open."""
    await socket.accept()
    raise RuntimeError("this handler is broken, as the test wants it")


@websocket("/patient")
async def patient(socket: WebSocket[Any, Any, Any]) -> None:
    """Take nothing in until it is told to."""
    await socket.accept()
    await elsewhere.may_receive.wait()
    for _ in range(200):
        await socket.receive_text()
    await socket.send_text("all of them")


@websocket("/talkative")
async def talkative(socket: WebSocket[Any, Any, Any]) -> None:
    """Send more than fits anywhere."""
    await socket.accept()
    for number in range(400):
        await socket.send_text(f"{number}:" + "x" * 40_000)
        elsewhere.sent += 1


HANDLERS = [echo, polite, silent, closed, broken, patient, talkative]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Served]:
    """Our protocol, with other people's handlers beside our own."""
    async with serve(Kind.OURS, _ENVIRON, route_handlers=HANDLERS) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def served(shared: Served) -> AsyncIterator[Served]:
    """The shared application; nothing may be left in it by a test."""
    elsewhere.__init__()  # type: ignore[misc]  # every test begins with a fresh one
    yield shared
    await shared.until_empty()


@pytest_asyncio.fixture(loop_scope="module")
async def raw(served: Served) -> AsyncIterator[RawWebSocket]:
    """A WebSocket to the handler that sends back what it gets."""
    async with await served.open("/echo") as found:
        yield found


# The handshake. Source: RFC 6455 section 4.


async def test_handshake_proves_that_the_key_was_read(served: Served) -> None:
    """The answer holds the digest of the key. Source: RFC 6455 section 4.2.2."""
    key = base64.b64encode(b"0123456789abcdef").decode()
    async with await served.open(headers=[("Sec-WebSocket-Key", key)]) as raw:
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()

        assert base64.b64encode(digest).decode() == raw.response.headers["sec-websocket-accept"]
        assert "websocket" == raw.response.headers["upgrade"].lower()


async def test_empty_subprotocol_header_is_no_offer(served: Served) -> None:
    """Older Python clients send the header without a value; they are let in. Source: RFC 6455 section 4.2.2."""
    async with await served.open(headers=[("Sec-WebSocket-Protocol", "")]) as raw:
        assert "sec-websocket-protocol" not in raw.response.headers

        await raw.connect(served.token(served.user()))


async def test_compression_is_never_negotiated(served: Served) -> None:
    """An offer of permessage-deflate is passed over. Source: RFC 6455 section 9.1."""
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
    async with await served.open(headers=[offer]) as raw:
        assert "sec-websocket-extensions" not in raw.response.headers


@pytest.mark.parametrize(
    ("headers", "leave_out"),
    [
        pytest.param([], ["sec-websocket-key"], id="no-key"),
        pytest.param([("Sec-WebSocket-Key", "short")], [], id="bad-key"),
        pytest.param([("Sec-WebSocket-Version", "8")], [], id="old-version"),
        pytest.param([], ["sec-websocket-version"], id="no-version"),
    ],
)
async def test_bad_handshake_is_refused(served: Served, headers: list[tuple[str, str]], leave_out: list[str]) -> None:
    """A handshake that is not right gets a status of HTTP, the version that is spoken, and the end.

    Source: RFC 6455 sections 4.2.1 and 4.4.
    """
    async with await RawWebSocket.dial(served.port) as raw:
        await raw.send(upgrade_request(headers=headers, leave_out=leave_out))

        response = await raw.read_response()

        assert response.status in (400, 426)
        assert "13" == response.headers["sec-websocket-version"]

        await raw.expect_end()


async def test_handshake_to_an_unknown_path_is_refused(served: Served) -> None:
    """There is a WebSocket only where there is one. Source: RFC 6455 section 4.2.2."""
    async with await RawWebSocket.handshake(served.port, "/nowhere") as raw:
        assert raw.response.status in (403, 404)
        await raw.expect_end()


async def test_upgrade_by_post_is_refused(served: Served) -> None:
    """Only GET opens a WebSocket. Source: RFC 6455 section 4.2.1."""
    async with await RawWebSocket.dial(served.port) as raw:
        await raw.send(upgrade_request().replace(b"GET ", b"POST ", 1))

        assert 400 <= (await raw.read_response()).status < 500


async def test_http_goes_on_beside_websockets(served: Served) -> None:
    """Ordinary requests are answered on the same port."""
    async with await RawWebSocket.dial(served.port) as raw:
        for _ in range(2):
            await raw.send(b"GET /api/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")

            assert 200 == (await raw.read_response()).status


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /connection/webso", id="half-a-line"),
        pytest.param(upgrade_request()[:-2], id="all-but-the-last-line"),
    ],
)
async def test_late_request_head_is_answered_with_408(sent: bytes) -> None:
    """A head that is not whole in time ends the connection."""
    async with serve(Kind.OURS, {"WS_REQUEST_HEAD_TIMEOUT": "100"}) as served:
        async with await RawWebSocket.dial(served.port) as raw:
            await raw.send(sent)

            assert 408 == (await raw.read_response()).status

            await raw.expect_end()
        await served.until_empty()


async def test_head_byte_by_byte_does_not_gain_time() -> None:
    """Whoever sends slowly and steadily is not given more time for it."""
    async with serve(Kind.OURS, {"WS_REQUEST_HEAD_TIMEOUT": "100"}) as served:
        async with await RawWebSocket.dial(served.port) as raw:
            await raw.send(upgrade_request()[:-2] + b"X-Slow: ")
            answer = asyncio.get_running_loop().create_task(raw.read_response())
            while not answer.done():
                raw.send_now(b"a")
                await asyncio.sleep(0)

            assert 408 == answer.result().status
        await served.until_empty()


async def test_endless_request_head_is_refused(served: Served) -> None:
    """A head is not kept without a bound either."""
    async with await RawWebSocket.dial(served.port) as raw:
        await raw.send(upgrade_request()[:-2] + b"X-Long: ")
        answer = asyncio.get_running_loop().create_task(raw.read_response())
        while not answer.done():
            raw.send_now(b"a" * 4096)
            await asyncio.sleep(0)

        assert 431 == answer.result().status


async def test_trailers_are_refused(served: Served) -> None:
    """They would be headers without end: nobody reads them, so nobody keeps them."""
    head = b"POST /api/info HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with await RawWebSocket.dial(served.port) as raw:
        await raw.send(head + b"0\r\n" + b"X-After: the end\r\n" * 2)

        statuses = [(await raw.read_response()).status]
        if statuses == [401]:
            # The application had refused the request by its head before the trailers were seen.
            statuses.append((await raw.read_response()).status)

        assert 400 == statuses[-1]

        await raw.expect_end()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" + upgrade_request(), id="pipelined"),
        pytest.param(upgrade_request()[:-2] + b"Content-Length: 5\r\n\r\nhello", id="body"),
        pytest.param(upgrade_request()[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunked"),
    ],
)
async def test_upgrade_that_would_mix_http_into_a_websocket_is_refused(served: Served, sent: bytes) -> None:
    """Neither behind a request without its answer, nor with a body."""
    async with await RawWebSocket.dial(served.port) as raw:
        await raw.send(sent)

        assert 400 == (await raw.read_response()).status

        await raw.expect_end()


async def test_late_body_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the answer did not need it and was sent long ago."""
    monkeypatch.setattr(HttpProtocol, "body_seconds", 0.1)
    async with serve(Kind.OURS) as served, await RawWebSocket.dial(served.port) as raw:
        await raw.send(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")

        assert 404 == (await raw.read_response()).status
        assert 408 == (await raw.read_response()).status

        await raw.expect_end()


async def test_bytes_that_begin_no_request_hold_no_connection() -> None:
    """They end the keep-alive timer; another takes its place."""
    environ = {"WS_REQUEST_HEAD_TIMEOUT": "100"}
    async with serve(Kind.OURS, environ) as served, await RawWebSocket.dial(served.port) as raw:
        await raw.send(b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert 200 == (await raw.read_response()).status

        await raw.send(b"\r\n")

        assert 408 == (await raw.read_response()).status


async def test_sockets_are_counted_before_they_say_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit the last one is served; one past it is refused, and the descriptors of the process last."""
    monkeypatch.setattr(server, "_OTHER_SOCKETS", 1)
    async with (
        serve(Kind.OURS, {"WS_MAX_CONNECTIONS": "1"}) as served,
        await served.connected(),
        await RawWebSocket.dial(served.port) as last,
    ):
        await last.send(b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert 200 == (await last.read_response()).status

        async with await RawWebSocket.dial(served.port) as one_more:
            assert 503 == (await one_more.read_response()).status

            await one_more.expect_end()


async def test_long_body_behind_a_head_is_no_head(served: Served) -> None:
    """Only heads are measured: a request with a body of 200 KB in the same segment passes to the application."""
    async with await RawWebSocket.dial(served.port) as raw:
        body = b"a" * 200_000
        head = b"POST /api/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        await raw.send(head + body)

        assert (await raw.read_response()).status in (400, 401)


async def test_timely_head_is_not_cut_off_later() -> None:
    """The limit is on heads alone: what follows may take its time."""
    async with serve(Kind.OURS, {"WS_REQUEST_HEAD_TIMEOUT": "50"}) as served, await served.open() as raw:
        loop = asyncio.get_running_loop()
        passed = loop.create_future()
        loop.call_later(0.15, passed.set_result, None)
        await passed

        await raw.connect(served.token(served.user()))


async def test_half_a_handshake_leaves_nothing(served: Served) -> None:
    """Connections that end in the middle of their head are forgotten."""
    for cut in (0, 1, 30, len(upgrade_request()) - 1):
        raw = await RawWebSocket.dial(served.port)
        await raw.send(upgrade_request()[:cut])
        raw.abandon()


async def test_resets_at_every_moment_leave_nothing(served: Served) -> None:
    """Connections reset before, during and after the handshake are forgotten."""
    for number in range(60):
        raw = await RawWebSocket.dial(served.port)
        await raw.send(upgrade_request())
        if number % 3:
            await raw.read_response()
        if number % 3 == 2:
            await raw.say({"id": 1, "connect": {"token": served.token("u")}}, {"id": 2, "subscribe": {"channel": "r"}})
        raw.reset()


# Frames. Source: RFC 6455 section 5.


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_message_of_any_length_comes_back(raw: RawWebSocket, opcode: int, size: int) -> None:
    """Every form of the length is read and written. Source: RFC 6455 section 5.2."""
    await raw.send_frame(opcode, b"a" * size)

    assert b"a" * size == (await raw.expect_frame(opcode)).payload


@pytest.mark.parametrize(("size", "length_bytes"), [(1, 2), (1, 8), (125, 8), (126, 8), (0, 2)])
async def test_longer_form_of_a_length_is_read(raw: RawWebSocket, size: int, length_bytes: int) -> None:
    """A sender must use the shortest form; to take a longer one does no harm. Source: RFC 6455 section 5.2."""
    await raw.send_frame(TEXT, b"a" * size, length_bytes=length_bytes)

    assert b"a" * size == (await raw.expect_frame(TEXT)).payload


async def test_frame_byte_by_byte_is_one_message(raw: RawWebSocket) -> None:
    """It does not matter how the bytes arrive. Source: RFC 6455 section 5.2."""
    for byte in build_frame(TEXT, "grüße".encode()):
        await raw.send(bytes((byte,)))

    assert "grüße".encode() == (await raw.expect_frame(TEXT)).payload


async def test_many_messages_in_one_segment_keep_their_order(raw: RawWebSocket) -> None:
    """Each comes back, in order, though the handler takes one at a time. Source: RFC 6455 section 5.2."""
    await raw.send(b"".join(build_frame(TEXT, b"%d" % number) for number in range(500)))

    assert [b"%d" % number for number in range(500)] == [(await raw.expect_frame(TEXT)).payload for _ in range(500)]


async def test_fragments_with_control_frames_between_are_one_message(raw: RawWebSocket) -> None:
    """Control frames are answered at once, and the message is put together around them.

    Source: RFC 6455 section 5.4.
    """
    await raw.send_frame(TEXT, b"one ", final=False)
    await raw.send_frame(PING, b"between")

    assert b"between" == (await raw.expect_frame(PONG)).payload

    await raw.send_frame(CONTINUATION, b"", final=False)
    await raw.send_frame(PONG, b"unasked")
    await raw.send_frame(CONTINUATION, b"two")

    assert b"one two" == (await raw.expect_frame(TEXT)).payload


async def test_binary_fragments_are_one_message(raw: RawWebSocket) -> None:
    """The first fragment says of which kind the message is. Source: RFC 6455 section 5.4."""
    await raw.send(
        build_frame(BINARY, b"\xff", final=False)
        + build_frame(CONTINUATION, b"\xfe", final=False)
        + build_frame(CONTINUATION, b"\xfd")
    )

    assert b"\xff\xfe\xfd" == (await raw.expect_frame(BINARY)).payload


async def test_character_may_be_split_over_fragments(raw: RawWebSocket) -> None:
    """UTF-8 holds for the message, not for the fragment. Source: RFC 6455 section 5.6."""
    text = "日本".encode()
    await raw.send_frame(TEXT, text[:2], final=False)
    await raw.send_frame(CONTINUATION, text[2:4], final=False)
    await raw.send_frame(CONTINUATION, text[4:])

    assert text == (await raw.expect_frame(TEXT)).payload


@pytest.mark.parametrize("payload", [b"", b"x", b"p" * 125])
async def test_ping_comes_back_as_pong(raw: RawWebSocket, payload: bytes) -> None:
    """With the same payload. Source: RFC 6455 section 5.5.3."""
    await raw.send_frame(PING, payload)

    assert payload == (await raw.expect_frame(PONG)).payload


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(build_frame(TEXT, b"a", masked=False), id="5.1-unmasked"),
        pytest.param(build_frame(PING, b"", masked=False), id="5.1-unmasked-ping"),
        *(pytest.param(build_frame(TEXT, b"a", reserved=bit), id=f"5.2-reserved-bit-{bit}") for bit in (1, 2, 4, 7)),
        *(pytest.param(build_frame(opcode, b"a"), id=f"5.2-opcode-{opcode:x}") for opcode in (3, 7, 0xB, 0xF)),
        pytest.param(build_frame(PING, b"a" * 126), id="5.5-long-ping"),
        pytest.param(build_frame(CLOSE, close_payload(1000, "r" * 124)), id="5.5-long-close"),
        pytest.param(build_frame(PING, b"a", final=False), id="5.5-fragmented-ping"),
        pytest.param(build_frame(CLOSE, b"", final=False), id="5.5-fragmented-close"),
        pytest.param(build_frame(CONTINUATION, b"a"), id="5.4-continuation-of-nothing"),
        pytest.param(build_frame(TEXT, b"a", final=False) + build_frame(TEXT, b"b"), id="5.4-message-inside-another"),
        pytest.param(
            build_frame(TEXT, b"a") + build_frame(CONTINUATION, b"b", final=False), id="5.4-continuation-after-a-whole"
        ),
        pytest.param(build_frame(CLOSE, b"\x03"), id="5.5.1-close-of-one-byte"),
    ],
)
async def test_broken_rule_closes_with_1002(served: Served, frames: bytes) -> None:
    """What RFC 6455 forbids is a protocol error, and nothing behind it is read.

    Source: RFC 6455 sections 5.1, 5.2, 5.4, 5.5 and 7.4.1.
    """
    async with await served.open("/echo") as raw:
        await raw.send(frames + build_frame(TEXT, b"behind"))
        reason = await raw.expect_closed(1002)

        assert reason.startswith("protocol error")
    await until(lambda: bool(elsewhere.closes), "the handler was told")

    assert elsewhere.closes[0][0] in (1002, 1006)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(build_frame(TEXT, b"\xc3\x28"), id="text"),
        pytest.param(build_frame(TEXT, b"\xed\xa0\x80"), id="surrogate"),
        pytest.param(build_frame(TEXT, b"\xc3"), id="cut"),
        pytest.param(build_frame(TEXT, b"\xe6", final=False) + build_frame(CONTINUATION, b"a"), id="fragments"),
        pytest.param(build_frame(CLOSE, close_payload(1000) + b"\xff"), id="close-reason"),
    ],
)
async def test_text_that_is_not_utf8_closes_with_1007(served: Served, frames: bytes) -> None:
    """Source: RFC 6455 section 8.1."""
    async with await served.open("/echo") as raw:
        await raw.send(frames)
        await raw.expect_closed(1007)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(build_frame(TEXT, b"", length=_LIMIT + 1), id="header-alone"),
        pytest.param(build_frame(BINARY, b"", length=2**40), id="huge"),
        pytest.param(build_frame(BINARY, b"", length=2**63), id="top-bit"),
        pytest.param(
            build_frame(TEXT, b"a" * 40_000, final=False) + build_frame(CONTINUATION, b"", length=_LIMIT - 39_999),
            id="sum-of-fragments",
        ),
    ],
)
async def test_message_too_big_is_refused_by_its_header(served: Served, frames: bytes) -> None:
    """The payload is not waited for, let alone kept. Source: RFC 6455 sections 7.4.1 and 10.4."""
    async with await served.open("/echo") as raw:
        await raw.send(frames)
        reason = await raw.expect_closed(1009)

        assert f"message too big: at most {_LIMIT} bytes" == reason


async def test_endless_fragments_are_refused(raw: RawWebSocket) -> None:
    """The limit holds for a message, in however many pieces it comes. Source: RFC 6455 sections 7.4.1 and 10.4."""
    piece = build_frame(CONTINUATION, b"a" * 1000, final=False)
    await raw.send_frame(TEXT, b"", final=False)
    for _ in range(100):
        if not await raw.try_send(piece):
            break
    closed = await raw.until_closed()

    assert closed.code in (1009, 1006)


# The end. Source: RFC 6455 sections 5.5.1 and 7.


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 3000, 3999, 4000, 4999])
async def test_close_comes_back_with_its_code(raw: RawWebSocket, code: int) -> None:
    """The handler is told the code and the reason, the peer gets the code back.

    Source: RFC 6455 sections 5.5.1 and 7.4.2.
    """
    await raw.send_frame(CLOSE, close_payload(code, "grund"))
    await raw.expect_closed(code, answer=False)
    await until(lambda: bool(elsewhere.closes), "the handler was told")

    assert code == elsewhere.closes[0][0]


async def test_close_without_a_code_comes_back_without_one(raw: RawWebSocket) -> None:
    """1005 stands for none and is never sent. Source: RFC 6455 section 7.1.5."""
    await raw.send_frame(CLOSE)
    await raw.expect_closed(1005, answer=False)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
async def test_close_with_a_code_that_may_not_be_sent_is_an_error(raw: RawWebSocket, code: int) -> None:
    """Source: RFC 6455 section 7.4."""
    await raw.send_frame(CLOSE, close_payload(code))
    await raw.expect_closed(1002)


async def test_server_waits_for_the_close_of_the_peer(served: Served) -> None:
    """After its close the server drops what still comes, and ends with the peer's close.

    Source: RFC 6455 sections 5.5.1 and 7.1.1.
    """
    async with await served.connected("polite") as raw:
        for connection in served.instance.hub.of_user("polite"):
            connection.close(Disconnects.FORCE_DISCONNECT)
        frame = await raw.expect_frame(CLOSE)

        assert close_payload(3503, "force disconnect") == frame.payload

        await raw.send_text('{"id":5,"publish":{"channel":"a","data":1}}')
        await raw.send_frame(PING, b"anybody")
        await raw.send_frame(CLOSE, frame.payload)
        await raw.expect_end()


async def test_peer_that_never_answers_a_close_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody keeps a socket by saying nothing. Source: RFC 6455 section 7.1.1."""
    monkeypatch.setattr(uvicorn_protocol, "_CLOSE_SECONDS", 0.2)
    async with await served.connected("mute") as raw:
        for connection in served.instance.hub.of_user("mute"):
            connection.close(Disconnects.FORCE_DISCONNECT)
        await raw.expect_frame(CLOSE)
        await raw.expect_end()


async def test_slow_reader_that_never_reads_again_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its close frame cannot be sent, so its socket is taken away. Source: RFC 6455 section 7.1.1."""
    monkeypatch.setattr(uvicorn_protocol, "_CLOSE_SECONDS", 0.2)
    async with await served.connected("dead", receive_buffer_bytes=4096) as raw:
        await raw.subscribe("dead")
        while served.instance.hub.of_user("dead"):
            await served.publish("dead", json.dumps("x" * 60_000).encode())
            await served.delivered("dead")
        await served.until_empty()


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_handler_is_told_when_the_connection_breaks(served: Served, how: str) -> None:
    """A connection without a close frame ends with 1006 for the handler. Source: RFC 6455 section 7.1.5."""
    async with await served.open("/echo") as raw:
        if how == "reset":
            raw.reset()
        else:
            raw.finish_sending()
            await raw.expect_end()
        await until(lambda: bool(elsewhere.closes), "the handler was told")

        assert 1006 == elsewhere.closes[0][0]


async def test_commands_of_one_segment_wait_for_the_reader(served: Served) -> None:
    """Answers are not piled up: what came in one segment is read on only as the client takes the answers."""
    async with await served.connected("greedy", receive_buffer_bytes=4096) as raw:
        await raw.subscribe("segment")
        await served.publish("segment", json.dumps("x" * 30_000).encode())
        await raw.expect_push("pub")
        count = 600
        commands = ({"id": number, "history": {"channel": "segment", "limit": 1}} for number in range(1, count + 1))
        await raw.send(b"".join(build_frame(TEXT, json.dumps(command).encode()) for command in commands))
        (protocol,) = served.server_state.connections
        largest = 0

        def waiting() -> int:
            return int(protocol.transport.get_write_buffer_size())

        for _ in range(200):
            largest = max(largest, waiting())
            await asyncio.sleep(0)
        for number in range(1, count + 1):
            await raw.expect_reply(number)
            largest = max(largest, waiting())

        assert _LIMIT < largest < _LIMIT + 2 * 30_100


# Ordinary handlers of ASGI.


async def test_handler_chooses_subprotocol_headers_and_close(served: Served) -> None:
    """What a handler says in ``accept`` and ``close`` goes over the wire."""
    async with await served.open("/polite", headers=[("Sec-WebSocket-Protocol", "soap, wamp")]) as raw:
        assert "soap" == raw.response.headers["sec-websocket-protocol"]
        assert "hello" == raw.response.headers["x-greeting"]
        assert "that is all" == await raw.expect_closed(4001)


async def test_handler_that_returns_ends_its_connection(served: Served) -> None:
    """Nobody is left to serve it."""
    async with await served.open("/silent") as raw:
        await raw.expect_closed(1000)


async def test_handler_that_closes_before_accepting_refuses(served: Served) -> None:
    """That is 403, as ASGI has it."""
    async with await RawWebSocket.handshake(served.port, "/closed") as raw:
        assert 403 == raw.response.status


async def test_handler_that_fails_closes_its_own_connection(served: Served) -> None:
    """The peer gets a code for it, and everybody else goes on."""
    async with await served.connected() as witness, await served.open("/broken") as raw:
        closed = await raw.until_closed()

        assert closed.code in (1011, 3004, 4500)
        await witness.expect_no_push()


async def test_handler_that_does_not_receive_holds_its_peer_back(served: Served) -> None:
    """What nobody takes stays with the peer, and arrives once somebody does."""
    async with await served.open("/patient") as raw:
        frames = memoryview(b"".join(build_frame(TEXT, b"y" * 60_000) for _ in range(200)))
        sent = turns = 0
        while turns < 2000:
            count = raw.send_now(frames[sent:])
            sent += count
            turns = 0 if count else turns + 1
            await asyncio.sleep(0)

        assert sent < len(frames), "everything was taken in though nobody asked for it"

        elsewhere.may_receive.set()
        await raw.send(frames[sent:])

        assert b"all of them" == (await raw.expect_frame(TEXT)).payload
        await raw.expect_closed(1000)


async def test_handler_that_sends_too_much_has_to_wait(served: Served) -> None:
    """A peer that does not read stops the handler, and gets everything once it reads."""
    async with await served.open("/talkative", receive_buffer_bytes=4096) as raw:
        before, turns = -1, 0
        while turns < 2000:
            turns = turns + 1 if elsewhere.sent == before else 0
            before = elsewhere.sent
            await asyncio.sleep(0)

        assert elsewhere.sent < 400, "everything was buffered"

        for number in range(400):
            assert (await raw.expect_frame(TEXT)).payload.startswith(b"%d:" % number)
        await raw.expect_closed(1000)
