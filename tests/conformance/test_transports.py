"""One suite for every way that the client protocol reaches a socket."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from service.core.codes import Disconnects
from tests.conformance.transport import Kind, Served, serve, until
from tests.support.raw_websocket import BINARY, CLOSE, PONG, TEXT, RawWebSocket, build_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

_KINDS = [pytest.param(kind, id=kind.name.lower()) for kind in Kind]
_KIB = 1024
_FIRST_ID = 100
_STUCK_TURNS = 2000
"""Turns of the loop without a byte taken, after which nothing more will be."""


@pytest.fixture(params=_KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    """Every server."""
    found: Kind = request.param
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(kind: Kind) -> AsyncIterator[Served]:
    """One application for the tests that need no settings of their own."""
    async with serve(kind) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def served(shared: Served) -> AsyncIterator[Served]:
    """The shared application; nothing may be left in it by a test."""
    yield shared
    await shared.until_empty()


# Commands.


@pytest.mark.parametrize("path", ["/connection/websocket", "/ws"])
async def test_connect_answers_at_both_paths(served: Served, path: str) -> None:
    """Both addresses speak the client protocol."""
    async with await served.open(path) as raw:
        result = await raw.connect(served.token("42"))

        assert result["client"]
        assert result["version"].startswith("slackwater ")
        assert (30, True) == (result["ping"], result["pong"])


async def test_publication_reaches_subscriber_and_history(served: Served) -> None:
    """What one publishes another receives with its offset, and history keeps it."""
    async with await served.connected() as alice, await served.connected() as bob:
        await alice.subscribe("room", recoverable=True)
        joined = await bob.subscribe("room", recoverable=True)
        await alice.say({"id": 9, "publish": {"channel": "room", "data": {"text": "one"}}})
        own = [await alice.receive_line(), await alice.receive_line()]
        pub = await bob.expect_push("pub", "room")
        history = await bob.call("history", {"channel": "room", "limit": 1, "reverse": True})

        assert {"id": 9, "publish": {}} in own
        assert {"text": "one"} == pub["data"]
        assert joined.get("offset", 0) + 1 == pub["offset"]
        assert alice.client == pub["info"]["client"]
        assert [pub] == history["publications"]
        assert joined["epoch"] == history["epoch"]


async def test_commands_of_one_frame_are_answered_in_order(served: Served) -> None:
    """Several commands in a message get their replies in the same order."""
    async with await served.open() as raw:
        await raw.say(
            {"id": 1, "connect": {"token": served.token(served.user())}},
            {"id": 2, "subscribe": {"channel": "several"}},
            {"id": 3, "publish": {"channel": "nowhere:x", "data": 1}},
            {"id": 4, "presence_stats": {"channel": "several"}},
            {"id": 5, "unsubscribe": {"channel": "several"}},
        )
        replies = [await raw.expect_reply() for _ in range(5)]

        assert [1, 2, 3, 4, 5] == [reply["id"] for reply in replies]
        assert 102 == replies[2]["error"]["code"]
        assert {"num_clients": 1, "num_users": 1} == replies[3]["presence_stats"]


async def test_replies_come_before_pushes(served: Served) -> None:
    """A subscribe in the same message as a publish is answered before the publication comes."""
    async with await served.connected() as raw:
        await raw.say(
            {"id": 11, "subscribe": {"channel": "first"}},
            {"id": 12, "publish": {"channel": "first", "data": 1}},
            {"id": 13, "publish": {"channel": "first", "data": 2}},
        )
        lines = [await raw.receive_line() for _ in range(5)]

        assert [11, 12, 13] == [line["id"] for line in lines[:3]]
        assert [1, 2] == [line["push"]["pub"]["data"] for line in lines[3:]]


async def test_subscribers_get_the_same_bytes(served: Served) -> None:
    """The frame that carries a publication is byte for byte the same for all."""
    async with await served.connected() as alice, await served.connected() as bob:
        await alice.subscribe("same")
        await bob.subscribe("same")
        for size in (1, 120, 200, 70_000):
            await served.publish("same", json.dumps("x" * size).encode())
            frames = [await raw.expect_frame(TEXT) for raw in (alice, bob)]

            assert frames[0].wire == frames[1].wire
            assert size == len(json.loads(frames[0].payload)["push"]["pub"]["data"])


async def test_publications_of_one_tick_share_a_frame(served: Served) -> None:
    """What is published at once arrives as one message with a line for each, in order."""
    async with await served.connected() as raw:
        await raw.subscribe("burst")
        for number in range(50):
            await served.publish("burst", b"%d" % number)
        frame = await raw.expect_frame(TEXT)

        assert list(range(50)) == [json.loads(line)["push"]["pub"]["data"] for line in frame.payload.split(b"\n")]


async def test_large_burst_is_cut_into_several_frames(served: Served) -> None:
    """A joined frame stays below its longest size, and nothing is lost or turned around."""
    async with await served.connected() as raw:
        await raw.subscribe("long")
        for number in range(20):
            await served.publish("long", json.dumps([number, "x" * 40_000]).encode())
        sizes: list[int] = []
        numbers: list[int] = []
        while len(numbers) < 20:
            frame = await raw.expect_frame(TEXT)
            sizes.append(len(frame.payload))
            numbers += [json.loads(line)["push"]["pub"]["data"][0] for line in frame.payload.split(b"\n")]

        assert list(range(20)) == numbers
        assert max(sizes) <= 256 * _KIB
        assert len(sizes) < 20


async def test_recovery_fills_what_was_missed(served: Served) -> None:
    """Whoever comes back with a position gets what it missed, once, and then what is new."""
    async with await served.connected() as raw:
        position = await raw.subscribe("missed", recoverable=True)
    for number in (1, 2, 3):
        await served.publish("missed", b"%d" % number)
    async with await served.connected() as raw:
        result = await raw.subscribe(
            "missed", recover=True, epoch=position["epoch"], offset=position.get("offset", 0), flag=1
        )
        await served.publish("missed", b"4")
        pub = await raw.expect_push("pub", "missed")

        assert (True, True) == (result["recovered"], result["was_recovering"])
        assert [1, 2, 3] == [item["data"] for item in result["publications"]]
        assert 4 == pub["data"]
        await raw.expect_no_push()


# Ends.


async def test_server_disconnect_carries_code_and_reason(served: Served) -> None:
    """A connection that the server ends gets the code and the reason in the close frame.

    Source: RFC 6455 section 5.5.1.
    """
    async with await served.connected("gone") as raw:
        for connection in served.instance.hub.of_user("gone"):
            connection.close(Disconnects.FORCE_DISCONNECT)

        assert "force disconnect" == await raw.expect_closed(3503)


async def test_frames_before_a_close_arrive(served: Served) -> None:
    """What was published before a close is not lost to it. Source: RFC 6455 section 7.1.1."""
    async with await served.connected("last") as raw:
        await raw.subscribe("last-words")
        await served.publish("last-words", b'"bye"')
        await served.delivered("last-words")
        for connection in served.instance.hub.of_user("last"):
            connection.close(Disconnects.FORCE_RECONNECT)

        assert "bye" == (await raw.expect_push("pub"))["data"]
        await raw.expect_closed(3011)


async def test_client_close_is_answered(served: Served) -> None:
    """A client that closes gets its close frame back and then the end. Source: RFC 6455 section 5.5.1."""
    async with await served.connected() as raw:
        await raw.send_frame(CLOSE, b"\x03\xe8bye")
        await raw.expect_closed(1000, answer=False)


async def test_reset_leaves_nothing(served: Served) -> None:
    """A connection that is reset is gone from every table."""
    raw = await served.connected()
    await raw.subscribe("reset")
    raw.reset()

    await served.until_empty()


async def test_end_of_stream_leaves_nothing(served: Served) -> None:
    """So is one whose client just ends the stream. Source: RFC 6455 section 7.1.5."""
    async with await served.connected() as raw:
        raw.finish_sending()

        await served.until_empty()


async def test_presence_is_gone_after_the_close(served: Served) -> None:
    """A client that is gone is not present any more."""
    async with await served.connected() as stays:
        await stays.subscribe("here")
        async with await served.connected() as leaves:
            await leaves.subscribe("here")

            assert 2 == (await stays.call("presence_stats", {"channel": "here"}))["num_clients"]

        await until(lambda: len(served.instance.hub.connections) == 1, "the other one is gone")

        assert {stays.client} == set((await stays.call("presence", {"channel": "here"}))["presence"])


# Before the upgrade.


async def test_accepted_handshake_names_the_instance(served: Served) -> None:
    """The answer to the upgrade says which process it is."""
    async with await served.open() as raw:
        assert served.instance.id == raw.response.headers["x-slackwater-instance"]
        assert "sec-websocket-protocol" not in raw.response.headers
        assert "sec-websocket-extensions" not in raw.response.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com.evil.example",
        "https://evil-app.example.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "null",
        "",
        "chrome-extension://abcdef",
    ],
)
async def test_foreign_origin_is_refused_before_the_upgrade(served: Served, origin: str) -> None:
    """Another page is told 403, with the reason as JSON, and no WebSocket is opened.

    Source: RFC 6455 sections 4.2.2 and 10.2.
    """
    async with await RawWebSocket.handshake(served.port, headers=[("Origin", origin)]) as raw:
        assert 403 == raw.response.status
        assert "origin" == raw.response.json()["error"]
        assert raw.response.headers["content-type"].startswith("application/json")
        assert "x-slackwater-instance" not in raw.response.headers


async def test_own_origin_is_let_in(served: Served) -> None:
    """The page that is listed may connect."""
    async with await served.open(headers=[("Origin", "https://app.example.com")]) as raw:
        await raw.connect(served.token(served.user()))


async def test_full_house_is_refused_with_retry_after(kind: Kind) -> None:
    """Past the cap the upgrade is answered with 503 and when to try again; a place that is freed can be taken."""
    async with serve(kind, {"WS_MAX_CONNECTIONS": "2", "WS_UNAUTHENTICATED_SHARE": "1"}) as served:
        async with await served.connected(), await served.connected() as second:
            async with await RawWebSocket.handshake(served.port) as raw:
                assert 503 == raw.response.status
                assert "connections" == raw.response.json()["error"]
                assert int(raw.response.headers["retry-after"]) > 0
            second.abandon()
            await until(lambda: len(served.instance.hub.connections) == 1, "a place is free")
            async with await served.connected():
                pass
        await served.until_empty()


async def test_strangers_get_only_their_share(kind: Kind) -> None:
    """Those who have not said who they are cannot take every place."""
    async with serve(kind, {"WS_MAX_CONNECTIONS": "10"}) as served, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(await served.open())
        async with await RawWebSocket.handshake(served.port) as raw:
            assert 503 == raw.response.status
            assert "unauthenticated" == raw.response.json()["error"]


async def test_gated_service_refuses_the_upgrade(kind: Kind) -> None:
    """While the gate is closed new WebSockets get 503, and those that are open go on."""
    async with serve(kind) as served, await served.connected() as raw:
        await raw.subscribe("gated")
        served.instance.lifecycle.gate(60, "test")
        async with await RawWebSocket.handshake(served.port) as late:
            assert 503 == late.response.status
            assert "phase" == late.response.json()["error"]
            assert "retry-after" in late.response.headers
        await served.publish("gated", b"1")

        assert 1 == (await raw.expect_push("pub"))["data"]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param("centrifuge-json", "centrifuge-json", id="json"),
        pytest.param("other, centrifuge-json", "centrifuge-json", id="json-among-others"),
        pytest.param("graphql-ws", None, id="unknown"),
    ],
)
async def test_subprotocol_is_chosen_from_what_is_offered(served: Served, offered: str, chosen: str | None) -> None:
    """The JSON protocol is confirmed when it is offered; nothing else is. Source: RFC 6455 section 4.2.2."""
    async with await served.open(headers=[("Sec-WebSocket-Protocol", offered)]) as raw:
        await raw.connect(served.token(served.user()))

        assert chosen == raw.response.headers.get("sec-websocket-protocol")


# Bad input.


async def test_command_at_the_limit_passes_and_one_byte_more_is_refused(served: Served) -> None:
    """A command of 64 KiB is taken; one byte more is error 107 with its id, and the connection lives on."""
    async with await served.connected() as raw:
        await raw.subscribe("big")
        for extra, expected in ((0, None), (1, 107)):
            shell = json.dumps({"id": 77, "publish": {"channel": "big", "data": ""}}, separators=(",", ":"))
            data = "x" * (64 * _KIB - len(shell) + extra)
            text = shell.replace('"data":""', f'"data":"{data}"')

            assert 64 * _KIB + extra == len(text)

            await raw.send_text(text)
            if expected is None:
                lines = [await raw.receive_line(), await raw.receive_line()]

                assert {"id": 77, "publish": {}} in lines
            else:
                reply = await raw.expect_reply(77)

                assert expected == reply["error"]["code"]
        await raw.expect_no_push()


async def test_message_over_the_frame_limit_closes_so_that_clients_come_back(kind: Kind) -> None:
    """A message that is too long ends the connection with a code after which clients reconnect.

    Source: RFC 6455 section 10.4.
    """
    async with serve(kind, {"WS_MAX_MESSAGE_BYTES": "65536", "WS_MAX_FRAME_BYTES": "65536"}) as served:
        async with await served.connected() as raw:
            await raw.send(build_frame(TEXT, b" " * 65536 + b"{"))
            closed = await raw.until_closed()

            assert 3000 <= closed.code < 3500
            assert "message too big" in closed.reason
        await served.until_empty()


async def test_binary_message_is_the_wrong_protocol(served: Served) -> None:
    """A binary message closes with 3506."""
    async with await served.connected() as raw:
        await raw.send_frame(BINARY, b"\x01\x02")

        assert "inappropriate protocol" == await raw.expect_closed(3506)


async def test_invalid_utf8_ends_the_connection(served: Served) -> None:
    """Text that is not UTF-8 closes with 1007. Source: RFC 6455 section 8.1."""
    async with await served.connected() as raw:
        await raw.send_frame(TEXT, b'{"id":1,"rpc":{"method":"\xff"}}')

        # hypercorn drops the connection without a close frame.
        await raw.expect_closed(1006 if served.kind is Kind.HYPERCORN else 1007)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("hello", id="not-json"),
        pytest.param("", id="empty"),
        pytest.param("[]", id="not-an-object"),
        pytest.param('{"id":1}\n\n{"id":2}', id="empty-line"),
        pytest.param('{"id":2,"nonsense":{}}', id="unknown-method"),
        pytest.param('{"publish":{"channel":"a","data":1}}', id="id-missing"),
        pytest.param('{"id":4294967296,"rpc":{}}', id="id-too-large"),
        pytest.param('{"id":3,"connect":{}}', id="second-connect"),
        pytest.param("{}", id="pong-unasked"),
        pytest.param('{"id":1,"rpc":{"data":' + "[" * 200 + "]" * 200 + "}}", id="deep"),
    ],
)
async def test_violation_closes_with_bad_request(served: Served, text: str) -> None:
    """What is not the protocol closes with 3501 and says why."""
    async with await served.connected() as raw:
        await raw.send_text(text)

        assert (await raw.expect_closed(3501)).startswith("bad request")


async def test_command_before_connect_closes_with_bad_request(served: Served) -> None:
    """Nothing may come before connect."""
    async with await served.open() as raw:
        await raw.say({"id": 1, "subscribe": {"channel": "early"}})

        assert "bad request: connect must come first" == await raw.expect_closed(3501)


async def test_close_and_commands_in_the_same_bytes(served: Served) -> None:
    """Commands before a close in the same segment are done, and those behind it are not.

    Source: RFC 6455 section 5.5.1.
    """
    async with await served.connected() as witness, await served.connected() as raw:
        await witness.subscribe("segment")
        await raw.subscribe("segment")

        def publish(number: int) -> bytes:
            return build_frame(
                TEXT, json.dumps({"id": number, "publish": {"channel": "segment", "data": number}}).encode()
            )

        await raw.send(publish(1) + build_frame(CLOSE, b"\x03\xe8") + publish(2))

        assert 1 == (await witness.expect_push("pub"))["data"]
        await raw.expect_closed(1000, answer=False)
        await until(lambda: len(served.instance.hub.connections) == 1, "it is gone")
        await witness.expect_no_push()


# Time.


async def test_ping_is_sent_and_its_pong_keeps_the_connection(kind: Kind) -> None:
    """The server asks after each interval; who answers stays, however often."""
    async with serve(kind) as served, await served.connected() as raw:
        raw.answers_pings = False
        for _ in range(5):
            await served.advance(30)

            assert b"{}" == (await raw.expect_frame(TEXT)).payload
            await raw.send_text(b"{}")
            await raw.expect_no_push()
            await served.advance(15)
            assert (await raw.call("unsubscribe", {"channel": "x"})) == {}


async def test_missing_pong_closes(kind: Kind) -> None:
    """Who does not answer a ping in time is closed with 3012."""
    async with serve(kind) as served:
        async with await served.connected() as raw:
            raw.answers_pings = False
            await served.advance(30.1)

            assert b"{}" == (await raw.expect_frame(TEXT)).payload

            await served.advance(10.1)

            assert "no pong" == await raw.expect_closed(3012)
        await served.until_empty()


async def test_idle_connection_is_closed(kind: Kind) -> None:
    """Pongs do not keep a connection on which nothing else happens."""
    async with serve(kind, {"WS_IDLE_TIMEOUT": "50000"}) as served:
        async with await served.connected() as raw:
            raw.answers_pings = False
            await served.advance(30.1)

            assert b"{}" == (await raw.expect_frame(TEXT)).payload

            await raw.send_text(b"{}")
            connection = next(iter(served.instance.hub.connections.values()))
            await until(lambda: connection.session.pong_due > 1e9, "the pong has come")
            await served.advance(20)

            assert "idle for too long" == await raw.expect_closed(3000)
        await served.until_empty()


async def test_silence_before_connect_is_stale(kind: Kind) -> None:
    """Who does not say who it is within the time is closed with 3502."""
    async with serve(kind) as served:
        async with await served.open() as raw:
            await served.advance(9.9)
            await raw.send_frame(0x9, b"still here")

            assert b"still here" == (await raw.expect_frame(PONG)).payload

            await served.advance(0.2)

            assert "stale" == await raw.expect_closed(3502)
        await served.until_empty()


async def test_expired_token_ends_the_connection_after_its_grace(kind: Kind) -> None:
    """A token that was not renewed ends the connection with 3005, 25 s after its end."""
    async with serve(kind) as served:
        async with await served.open() as raw:
            raw.answers_pings = False
            result = await raw.connect(served.token("u", seconds=10))

            assert (True, 10) == (result["expires"], result["ttl"])

            await served.advance(34.9)
            await raw.expect_frame(TEXT)
            await raw.send_text(b"{}")
            await raw.expect_no_push()
            await served.advance(0.2)

            assert "connection expired" == await raw.expect_closed(3005)
        await served.until_empty()


# Pressure.

_SMALL_BUFFER = {"WS_SEND_BUFFER_BYTES": "65536", "WS_MAX_FRAME_BYTES": "65536"}


async def _publish_until_gone(served: Served, channel: str, user: str, others: list[RawWebSocket]) -> int:
    """Publish until ``user`` is gone, with everybody else reading along; returns how many that took."""
    data = json.dumps("x" * 60_000).encode()
    count = 0
    while served.instance.hub.of_user(user):
        assert count < 1000, "a reader that does not read was never closed"
        await served.publish(channel, data)
        await served.delivered(channel)
        count += 1
        for raw in others:
            await raw.expect_push("pub")
    return count


async def test_slow_reader_is_closed_and_recovers(kind: Kind) -> None:
    """Who does not read is closed with 3008, others notice nothing, and nothing is missed after coming back."""
    async with serve(kind) as served:
        async with await served.connected() as fast, await served.connected("slow", receive_buffer_bytes=4096) as slow:
            await fast.subscribe("pressure")
            position = await slow.subscribe("pressure", recoverable=True)
            count = await _publish_until_gone(served, "pressure", "slow", [fast])
            for number in (1, 2, 3):
                await served.publish("pressure", b"%d" % number)

                assert number == (await fast.expect_push("pub"))["data"]

            pubs, end = await slow.publications_until_closed()
            got = [pub["offset"] for pub in pubs]

            assert (3008, "slow") == (end.code, end.reason)
            assert list(range(1, len(got) + 1)) == got
            assert len(got) <= count
            await fast.expect_no_push()
        async with await served.connected("slow") as back:
            result = await back.subscribe("pressure", recover=True, epoch=position["epoch"], offset=len(got))

            assert result["recovered"]
            assert list(range(len(got) + 1, count + 4)) == [item["offset"] for item in result["publications"]]
        await served.until_empty()


async def test_flood_without_reading_is_paused(kind: Kind) -> None:
    """Who asks and does not read the answers is not read any further, and gets all of them when it reads again."""
    async with serve(kind, _SMALL_BUFFER) as served, await served.connected() as witness:
        async with await served.connected("flood", receive_buffer_bytes=4096) as flood:
            await witness.subscribe("quiet")
            await flood.subscribe("flood")
            await served.publish("flood", json.dumps("x" * 30_000).encode())
            await flood.expect_push("pub")
            asked, rest = await _ask_until_stuck(flood)

            assert served.instance.hub.of_user("flood"), "to be paused is no reason to be closed"

            await witness.expect_no_push()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(flood.send(rest))
                for number in range(asked):
                    reply = await flood.expect_reply(_FIRST_ID + number)

                    assert 1 == len(reply["history"]["publications"])
        witness.abandon()
        await served.until_empty()


async def _ask_until_stuck(raw: RawWebSocket) -> tuple[int, bytes]:
    """Ask for history until the kernel takes no more; returns how often, and what of the last is still to be sent."""
    asked = turns = 0
    pending = b""
    while turns < _STUCK_TURNS:
        if not pending:
            # White space makes each question large, so that the way to the server is soon full.
            text = json.dumps({"id": _FIRST_ID + asked, "history": {"channel": "flood", "limit": 1}})
            pending = build_frame(TEXT, text.encode() + b" " * 40_000)
            asked += 1
        sent = raw.send_now(pending)
        pending = pending[sent:]
        turns = 0 if sent else turns + 1

        assert asked < 5000, "the service reads on and on"

        await asyncio.sleep(0)
    return asked, pending


async def test_commands_of_one_frame_wait_for_the_reader(kind: Kind) -> None:
    """One small message cannot make the service pile up answers that nobody reads; all of them come in the end."""
    async with serve(kind) as served, await served.connected("greedy", receive_buffer_bytes=4096) as raw:
        await raw.subscribe("pile")
        for _ in range(20):
            await served.publish("pile", json.dumps("x" * 50_000).encode())
            await raw.expect_push("pub")
        (connection,) = served.instance.hub.of_user("greedy")
        written = 0
        write = connection.write

        def count(frame: bytes) -> None:
            nonlocal written
            written += len(frame)
            write(frame)

        connection.write = count
        await raw.say(*({"id": number, "history": {"channel": "pile", "limit": 10}} for number in range(100, 300)))
        for _ in range(300):
            await asyncio.sleep(0)

        # The send buffer, one answer more, and what the kernel may have taken.
        assert written < 12 * 1024 * _KIB

        for number in range(100, 300):
            await raw.expect_reply(number)
