"""Everything that a client can do wrong, on the socket of a running process.

Each wrong gets the code of the protocol and ends its own connection at most: a stock
client stays connected all the while and goes on receiving, and of the rest nothing is left in any
table.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.process import HMAC_SECRET, ServiceProcess
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
from tests.support.service_api import api, figures, until_empty, until_figures
from tests.support.stock_client import Events, stock_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("bad-input"),
]

_KIB = 1024
_WITNESS_CHANNEL = "chat:witness"


@cache
def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def _another_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def _public_pem() -> str:
    key = _rsa_key().public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass(slots=True)
class Watched:
    """The process, and a client that must not notice anything.

    Attributes:
        events: Of the client.
        subscription: Events of its subscription.
        published: Numbers published for it so far.
    """

    service: ServiceProcess
    events: Events
    subscription: Events
    published: int = 0

    @property
    def port(self) -> int:
        """Of the process."""
        return self.service.port

    async def open(self, **options: Any) -> RawWebSocket:  # noqa: ANN401 - of `RawWebSocket.open`
        """Open a WebSocket."""
        return await RawWebSocket.open(self.port, **options)

    async def connected(self, user: str = "bad", **options: Any) -> RawWebSocket:  # noqa: ANN401 - as above
        """Open a WebSocket and connect."""
        raw = await self.open(**options)
        await raw.connect(self.service.token(user))
        return raw

    async def check(self) -> None:
        """See that the witness goes on receiving and that nobody else is left."""
        self.published += 1
        await api(self.service, "publish", channel=_WITNESS_CHANNEL, data=self.published)

        assert self.published == (await self.subscription.expect("publication")).pub.data
        assert 1 == len(self.events.of("connected"))

        # The witness itself: one connection in its channel and in its personal one.
        await until_figures(
            self.service,
            {"connections": 1, "connections_unauthenticated": 0, "users": 1, "rooms": 2, "subscriptions": 2},
        )
        errors = [line for line in self.service.lines if line.get("level") in ("error", "critical") or "text" in line]

        assert not errors


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Watched]:
    """A process with short times, and its witness."""
    environ = {
        "TOKEN_RSA_PUBLIC_KEY": _public_pem(),
        "WS_CONNECT_TIMEOUT": "1000",
        "WS_REQUEST_HEAD_TIMEOUT": "1000",
        "WS_MESSAGES_PER_MINUTE": "0",
        "WS_COMMANDS_PER_MINUTE": "0",
    }
    async with ServiceProcess.start(environ) as service:
        async with stock_client(service.ws_url, token=service.token("witness")) as witness:
            _, subscription = await witness.subscribe(_WITNESS_CHANNEL)
            yield Watched(service, witness.events, subscription)
        await until_empty(service)


@pytest_asyncio.fixture(loop_scope="module")
async def watched(shared: Watched) -> AsyncIterator[Watched]:
    """The process; after each test the witness is asked."""
    yield shared
    await shared.check()


# Messages.


def _command(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _nested(depth: int) -> bytes:
    return b'{"id":5,"rpc":{"method":"x","data":' + b"[" * depth + b"]" * depth + b"}}"


_VIOLATIONS = [
    pytest.param(b"hello", id="not-json"),
    pytest.param(b"", id="empty-frame"),
    pytest.param(b"\n", id="newline-alone"),
    pytest.param(b" ", id="space"),
    pytest.param(b"[]", id="array"),
    pytest.param(b"null", id="null"),
    pytest.param(b"1", id="number"),
    pytest.param(b"[{}]", id="array-of-commands"),
    pytest.param(b'{"id":1', id="cut"),
    pytest.param(b'{"id":1}}', id="too-much"),
    pytest.param(b'{"id":1,"rpc":{"method":"a\x00b"}}', id="raw-nul"),
    pytest.param(b'{"id":1,"rpc":{"method":"a\tb"}}', id="raw-tab"),
    pytest.param(b'{"id":1,"rpc":{"method":"\\ud800"}}', id="lone-surrogate"),
    pytest.param(b'\xef\xbb\xbf{"id":1,"rpc":{}}', id="byte-order-mark"),
    pytest.param(b"{'id':1}", id="single-quotes"),
    pytest.param(b'{"id":NaN,"rpc":{}}', id="nan"),
    pytest.param(_command(id=0, rpc={"method": "x"}), id="id-0"),
    pytest.param(_command(rpc={"method": "x"}), id="id-missing"),
    pytest.param(_command(id=-1, rpc={"method": "x"}), id="id-negative"),
    pytest.param(_command(id=2**32, rpc={"method": "x"}), id="id-past-32-bits"),
    pytest.param(_command(id=2**64, rpc={"method": "x"}), id="id-past-64-bits"),
    pytest.param(b'{"id":1' + b"0" * 5000 + b',"rpc":{}}', id="id-of-5000-digits"),
    pytest.param(_command(id=1.5, rpc={"method": "x"}), id="id-fraction"),
    pytest.param(_command(id="1", rpc={"method": "x"}), id="id-text"),
    pytest.param(_command(id=1), id="no-method"),
    pytest.param(_command(id=1, nothing={}), id="unknown-method"),
    pytest.param(_command(id=1, rpc={"method": "x"}, history={"channel": "a"}), id="two-methods"),
    pytest.param(_command(id=1, rpc=[]), id="params-of-another-type"),
    pytest.param(_command(id=1, subscribe={}), id="channel-missing"),
    pytest.param(_command(id=1, subscribe={"channel": 7}), id="channel-no-text"),
    pytest.param(_command(id=1, publish={"channel": "a"}), id="data-missing"),
    pytest.param(_command(id=1, history={"channel": "a", "limit": "all"}), id="limit-text"),
    pytest.param(_command(id=1, history={"channel": "a", "since": {"offset": -1}}), id="offset-negative"),
    pytest.param(_command(id=1, connect={"token": "x"}), id="second-connect"),
    pytest.param(b"{}", id="pong-without-a-ping"),
    pytest.param(_nested(200), id="nested-200"),
    pytest.param(_nested(30_000), id="nested-30000"),
    pytest.param(b"\n".join([_command(id=1, rpc={"method": "x"})] * 513), id="513-commands"),
    pytest.param(_command(id=1, rpc={"method": "x"}) + b"\n\n" + _command(id=2, rpc={}), id="empty-line-between"),
]


@pytest.mark.parametrize("message", _VIOLATIONS)
async def test_violation_is_a_bad_request(watched: Watched, message: bytes) -> None:
    """What is not the protocol closes with 3501; nothing of the message is done."""
    async with await watched.connected() as raw:
        raw.answers_pings = False
        await raw.send_text(message)

        assert await raw.expect_closed(3501)


@pytest.mark.parametrize("message", _VIOLATIONS[:6] + _VIOLATIONS[-4:])
async def test_violation_before_connect_is_a_bad_request(watched: Watched, message: bytes) -> None:
    """It makes no difference whether anybody has said who they are."""
    async with await watched.open() as raw:
        await raw.send_text(message)
        await raw.expect_closed(3501)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        pytest.param("subscribe", {"channel": "nowhere:room"}, 102, id="unknown-namespace"),
        pytest.param("subscribe", {"channel": ":room"}, 102, id="empty-namespace"),
        pytest.param("subscribe", {"channel": "a" * 256}, 107, id="256-characters"),
        pytest.param("subscribe", {"channel": "a\x00b"}, 107, id="nul"),
        pytest.param("subscribe", {"channel": "a\nb"}, 107, id="newline"),
        pytest.param("subscribe", {"channel": "a\x7fb"}, 107, id="delete"),
        pytest.param("subscribe", {"channel": "a b"}, 107, id="space"),
        pytest.param("subscribe", {"channel": "grüße"}, 107, id="not-ascii"),
        pytest.param("subscribe", {"channel": "a\u202eb"}, 107, id="right-to-left"),
        pytest.param("subscribe", {"channel": "a/*"}, 107, id="reserved"),
        pytest.param("subscribe", {"channel": "$private"}, 103, id="private"),
        pytest.param("subscribe", {"channel": "dialog#42,43"}, 103, id="of-others"),
        pytest.param("subscribe", {"channel": "a", "type": 1}, 103, id="map"),
        pytest.param("subscribe", {"channel": "probe:x"}, 103, id="probe"),
        pytest.param("publish", {"channel": "not-subscribed", "data": 1}, 103, id="publish-outside"),
        pytest.param("history", {"channel": "not-subscribed"}, 103, id="history-outside"),
        pytest.param("presence", {"channel": "not-subscribed"}, 103, id="presence-outside"),
        pytest.param("presence", {"channel": "news:x"}, 108, id="presence-off"),
        pytest.param("rpc", {"method": "nothing"}, 104, id="unknown-method"),
        pytest.param("sub_refresh", {"channel": "not-subscribed", "token": "x"}, 103, id="refresh-outside"),
    ],
)
async def test_refused_command_ends_nothing(
    watched: Watched, method: str, params: dict[str, object], code: int
) -> None:
    """A command that asks for too much is answered with its error, and the next one is taken."""
    async with await watched.connected() as raw:
        assert code == await raw.refused(method, params) or (method == "rpc" and code in (104, 108))
        assert {} == await raw.call("unsubscribe", {"channel": "x"})


async def test_largest_id_is_taken(watched: Watched) -> None:
    """2**32 - 1 is an id."""
    async with await watched.connected() as raw:
        await raw.say({"id": 2**32 - 1, "unsubscribe": {"channel": "x"}})
        await raw.expect_reply(2**32 - 1)


async def test_longest_name_is_taken(watched: Watched) -> None:
    """255 characters are a name."""
    async with await watched.connected() as raw:
        await raw.subscribe("a" * 255)


async def test_commands_before_connect_are_a_bad_request(watched: Watched) -> None:
    """Every command but connect."""
    for method in ("subscribe", "publish", "history", "presence", "refresh", "rpc", "unsubscribe"):
        async with await watched.open() as raw:
            await raw.say({"id": 1, method: {"channel": "a", "data": 1, "token": "x"}})
            await raw.expect_closed(3501)


async def test_send_without_a_taker_is_not_available(watched: Watched) -> None:
    """A ``send`` that nobody takes cannot be answered, so it closes."""
    async with await watched.connected() as raw:
        await raw.say({"send": {"data": 1}})
        await raw.expect_closed(3508)


async def test_message_of_64_kib_passes_and_one_byte_more_does_not(watched: Watched) -> None:
    """The limit itself is allowed; past it the command is refused by its id."""
    async with await watched.connected() as raw:
        await raw.subscribe("limits")
        frame = '{"id":50,"publish":{"channel":"limits","data":"%s"}}'
        room = 64 * _KIB - len(frame % "")
        await raw.send_text(frame % ("x" * room))
        lines = [await raw.receive_line(), await raw.receive_line()]

        assert {"id": 50, "publish": {}} in lines

        await raw.send_text(frame % ("x" * (room + 1)))

        assert 107 == (await raw.expect_reply(50))["error"]["code"]


async def test_message_of_10_mib_closes_so_that_clients_come_back(watched: Watched) -> None:
    """It is refused by its header; what still comes is thrown away. Source: RFC 6455 section 10.4."""
    async with await watched.connected() as raw:
        await raw.try_send(build_frame(TEXT, b"x" * (10 * 1024 * _KIB)))
        closed = await raw.until_closed()

        assert closed.code in (3000, 1006)


async def test_binary_frame_is_the_wrong_protocol(watched: Watched) -> None:
    """Protobuf is not spoken here."""
    for payload in (b"", b"\x00\x01\x02", b"{}"):
        async with await watched.connected() as raw:
            await raw.send_frame(BINARY, payload)
            await raw.expect_closed(3506)


@pytest.mark.parametrize(
    "payload", [b"\xff", b'{"id":1,"rpc":{"method":"\xc3\x28"}}', b"\xed\xa0\x80", b"\xf5\x80\x80\x80"]
)
async def test_invalid_utf8_is_invalid_data(watched: Watched, payload: bytes) -> None:
    """Text must be UTF-8. Source: RFC 6455 section 8.1."""
    async with await watched.connected() as raw:
        await raw.send_frame(TEXT, payload)
        await raw.expect_closed(1007)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(build_frame(TEXT, b"{}", masked=False), id="5.1-unmasked"),
        pytest.param(build_frame(TEXT, b"{}", reserved=4), id="5.2-reserved-bit"),
        pytest.param(build_frame(3, b"{}"), id="5.2-reserved-opcode"),
        pytest.param(build_frame(CONTINUATION, b"{}"), id="5.4-continuation-of-nothing"),
        pytest.param(build_frame(TEXT, b"{", final=False) + build_frame(TEXT, b"}"), id="5.4-message-in-message"),
        pytest.param(build_frame(PING, b"x" * 126), id="5.5-long-ping"),
        pytest.param(build_frame(PING, b"x", final=False), id="5.5-fragmented-ping"),
        pytest.param(build_frame(CLOSE, close_payload(1006)), id="7.4.1-close-1006"),
    ],
)
async def test_broken_framing_is_a_protocol_error(watched: Watched, frames: bytes) -> None:
    """What the rules of framing forbid. Source: RFC 6455, in the section that stands with each case."""
    async with await watched.connected() as raw:
        raw.answers_pings = False
        await raw.send(frames)
        await raw.expect_closed(1002)


async def test_fragments_are_one_command(watched: Watched) -> None:
    """A command in pieces, with a ping between them, is a command. Source: RFC 6455 section 5.4."""
    async with await watched.connected() as raw:
        text = b'{"id":60,"unsubscribe":{"channel":"x"}}'
        await raw.send_frame(TEXT, text[:7], final=False)
        await raw.send_frame(CONTINUATION, text[7:20], final=False)
        await raw.send_frame(PING, b"between")

        assert b"between" == (await raw.expect_frame(PONG)).payload

        await raw.send_frame(CONTINUATION, text[20:])
        await raw.expect_reply(60)


# Time and pressure.


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(upgrade_request()[:40], id="half-a-head"),
        pytest.param(b"POST /api/info HTTP/1.1\r\nHost: x\r\n", id="half-a-post"),
    ],
)
async def test_late_head_is_told_so(watched: Watched, sent: bytes) -> None:
    """A request head must be whole in time."""
    async with await RawWebSocket.dial(watched.port) as raw:
        await raw.send(sent)

        assert 408 == (await raw.read_response()).status

        await raw.expect_end()


async def test_late_connect_is_stale(watched: Watched) -> None:
    """So must the connect command."""
    async with await watched.open() as raw:
        await raw.send_frame(PING, b"alive, but silent")
        await raw.expect_frame(PONG)

        assert "stale" == await raw.expect_closed(3502)


async def test_missing_pong_is_told() -> None:
    """A ping wants an answer; a WebSocket's own pong is none. Who answers stays."""
    environ = {"WS_PING_INTERVAL": "400", "WS_PONG_TIMEOUT": "200"}
    async with (
        ServiceProcess.start(environ) as service,
        stock_client(service.ws_url, token=service.token("witness")) as witness,
    ):
        async with await RawWebSocket.open(service.port) as raw:
            await raw.connect(service.token("bad"))
            raw.answers_pings = False
            await raw.send_frame(PONG, b"")

            assert "no pong" == await raw.expect_closed(3012)

        await witness.subscribe("chat:witness")

        assert 1 == len(witness.events.of("connected"))


async def test_reader_that_does_not_read_is_closed_as_slow(watched: Watched) -> None:
    """Only its own connection suffers."""
    name = 'connections_closed_total{code="3008"}'
    before = (await figures(watched.service))[name]
    async with await watched.connected("slow", receive_buffer_bytes=4096) as raw:
        await raw.subscribe("pressure")
        for number in range(400):
            await api(watched.service, "publish", channel="pressure", data="x" * 60_000)
            if number % 20 == 19 and (await figures(watched.service))[name] > before:
                break
        await until_figures(watched.service, {name: before + 1})


async def test_resets_at_every_moment_leave_nothing(watched: Watched) -> None:
    """Before, in and after the handshake, and in the middle of a frame."""
    half = build_frame(TEXT, _command(id=2, subscribe={"channel": "reset"}))[:-3]
    for number in range(50):
        raw = await RawWebSocket.dial(watched.port)
        await raw.send(upgrade_request()[: None if number % 5 else 25])
        if number % 5 > 1:
            await raw.read_response()
        if number % 5 > 2:
            await raw.say({"id": 1, "connect": {"token": watched.service.token("reset")}})
            await raw.send(half)
        raw.reset()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls"),
        pytest.param(b"SSH-2.0-nothing\r\n\r\n", id="ssh"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(b"GET /ws HTTP/1.1\r\nHost x\r\n\r\n", id="header-without-colon"),
        pytest.param(upgrade_request(leave_out=["sec-websocket-key"]), id="no-key"),
        pytest.param(upgrade_request(headers=[("Sec-WebSocket-Version", "12")]), id="version-12"),
        pytest.param(upgrade_request(headers=[("Sec-WebSocket-Key", "x")]), id="bad-key"),
        pytest.param(b"POST" + upgrade_request()[3:], id="post"),
        pytest.param(b"GET /" + b"a" * 70_000, id="endless-path"),
    ],
)
async def test_bad_handshake_is_refused(watched: Watched, head: bytes) -> None:
    """What is no upgrade is answered by a status of HTTP, and the end. Source: RFC 6455 section 4.2.1."""
    async with await RawWebSocket.dial(watched.port) as raw:
        await raw.send(head)

        assert 400 <= (await raw.read_response()).status < 500

        await raw.expect_end()


# Tokens.


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _signed(header: dict[str, object], claims: dict[str, object], secret: bytes) -> str:
    """Sign by hand, with whatever header: libraries refuse some of these."""
    text = f"{_encoded(header)}.{_encoded(claims)}"
    digest = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _claims(**claims: object) -> dict[str, object]:
    return {"sub": "bad", "exp": int(time.time()) + 3600, **claims}  # noqa: TID251 - the process has the real clock


_HS: dict[str, object] = {"alg": "HS256", "typ": "JWT"}
_SECRET = HMAC_SECRET.encode()


def _jwk_of_attacker() -> dict[str, str]:
    numbers = _another_rsa_key().public_key().public_numbers()
    modulus = base64.urlsafe_b64encode(numbers.n.to_bytes(256, "big")).rstrip(b"=").decode()
    return {"kty": "RSA", "n": modulus, "e": "AQAB", "kid": "evil"}


_FORGED: dict[str, Callable[[], str]] = {
    "alg-none": lambda: f"{_encoded({'alg': 'none'})}.{_encoded(_claims())}.",
    "alg-none-in-other-letters": lambda: f"{_encoded({'alg': 'nOnE'})}.{_encoded(_claims())}.",
    "alg-none-with-a-signature": lambda: f"{_encoded({'alg': 'none'})}.{_encoded(_claims())}.c2ln",
    "alg-missing": lambda: _signed({}, _claims(), _SECRET),
    "alg-list": lambda: _signed({"alg": ["HS256"]}, _claims(), _SECRET),
    "alg-unknown": lambda: _signed({"alg": "HS999"}, _claims(), _SECRET),
    "hmac-with-the-public-key": lambda: _signed(_HS, _claims(), _public_pem().encode()),
    "hmac-with-the-public-key-stripped": lambda: _signed(_HS, _claims(), _public_pem().strip().encode()),
    "another-secret": lambda: _signed(_HS, _claims(), b"another-secret-0123456789-0123456789"),
    "no-secret": lambda: _signed(_HS, _claims(), b""),
    "another-rsa-key": lambda: jwt.encode(_claims(), _another_rsa_key(), algorithm="RS256"),
    "rsa-key-in-the-header": lambda: jwt.encode(
        _claims(), _another_rsa_key(), algorithm="RS256", headers={"jwk": _jwk_of_attacker(), "kid": "evil"}
    ),
    "key-address-in-the-header": lambda: jwt.encode(
        _claims(), _another_rsa_key(), algorithm="RS256", headers={"jku": "https://evil.example/keys", "kid": "evil"}
    ),
    "certificates-in-the-header": lambda: jwt.encode(
        _claims(), _another_rsa_key(), algorithm="RS256", headers={"x5u": "https://evil.example/chain", "x5c": ["MII"]}
    ),
    "critical-extension": lambda: _signed({**_HS, "crit": ["b64"], "b64": False}, _claims(), _SECRET),
    "changed-claims": lambda: _swapped(jwt.encode(_claims(), HMAC_SECRET), _claims(sub="admin")),
    "subscription-token": lambda: _signed(_HS, _claims(channel="chat:x"), _SECRET),
    "subject-a-number": lambda: _signed(_HS, _claims(sub=42), _SECRET),
    "end-a-text": lambda: _signed(_HS, _claims(exp="tomorrow"), _SECRET),
    "end-null": lambda: _signed(_HS, _claims(exp=None), _SECRET),
    "end-infinite": lambda: _signed(_HS, _claims(exp=1e300), _SECRET),
    "claims-a-list": lambda: f"{_encoded(_HS)}.{_encoded([])}.c2ln",
    "not-a-token": lambda: "nonsense",
    "dots": lambda: "..",
    "not-base64": lambda: "%%%.%%%.%%%",
    "too-long": lambda: "a" * 20_000 + "." + "b" * 20_000 + ".c",
    "not-ascii": lambda: "gr\u00fc\u00dfe.a.b",
}


def _swapped(token: str, claims: dict[str, object]) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{_encoded(claims)}.{signature}"


@pytest.mark.parametrize("name", _FORGED)
async def test_forged_token_is_refused_for_good(watched: Watched, name: str) -> None:
    """The connection is closed with 3500, and a client does not come back with the same token."""
    async with await watched.open() as raw:
        await raw.say({"id": 1, "connect": {"token": _FORGED[name]()}})

        assert "invalid token" == await raw.expect_closed(3500)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"exp": 1}, id="expired"),
        pytest.param({"exp": 0}, id="expired-at-0"),
        pytest.param({"nbf": 4_000_000_000}, id="not-yet-valid"),
    ],
)
async def test_token_out_of_its_time_can_be_renewed(watched: Watched, claims: dict[str, object]) -> None:
    """A genuine token at the wrong time is error 109, so that the client fetches another."""
    async with await watched.open() as raw:
        assert 109 == await raw.refused("connect", {"token": _signed(_HS, _claims(**claims), _SECRET)})


async def test_token_without_a_user_is_refused(watched: Watched) -> None:
    """Where nobody anonymous is let in, a token without a user does not open the door, nor does no token."""
    async with await watched.open() as raw:
        await raw.say({"id": 1, "connect": {"token": _signed(_HS, {"exp": _claims()["exp"]}, _SECRET)}})
        await raw.expect_closed(3507)
    async with await watched.open() as raw:
        await raw.say({"id": 1, "connect": {}})
        await raw.expect_closed(3501)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: jwt.encode(_claims(), _rsa_key(), algorithm="RS256"), id="rsa"),
        pytest.param(lambda: jwt.encode(_claims(), _rsa_key(), algorithm="RS512"), id="rsa-512"),
        pytest.param(lambda: _signed({**_HS, "kid": "../../dev/null"}, _claims(), _SECRET), id="kid"),
        pytest.param(lambda: _signed({**_HS, "jku": "https://evil.example"}, _claims(), _SECRET), id="jku"),
        pytest.param(lambda: _signed({**_HS, "jwk": {"kty": "oct", "k": "AA"}}, _claims(), _SECRET), id="jwk"),
    ],
)
async def test_genuine_token_is_taken_whatever_its_header_offers(watched: Watched, make: Callable[[], str]) -> None:
    """Headers that name keys are not looked at."""
    async with await watched.open() as raw:
        await raw.connect(make())


_WRONG_FOR_SUBSCRIBE = [
    pytest.param({}, 103, None, id="connection-token"),
    pytest.param({"channel": ""}, 103, None, id="empty-channel"),
    pytest.param({"channel": "$other"}, None, 3500, id="another-channel"),
    pytest.param({"channel": "$mine", "sub": "other"}, None, 3500, id="another-user"),
    pytest.param({"channel": "$mine", "client": "another"}, None, 3500, id="another-client"),
    pytest.param({"channel": "$mine", "exp": 1}, 109, None, id="expired"),
    pytest.param({"channel": "$mine", "nbf": 4_000_000_000}, 109, None, id="not-yet-valid"),
    pytest.param({"channel": ["$mine"]}, 103, None, id="channel-a-list"),
]


@pytest.mark.parametrize(("claims", "error", "close"), _WRONG_FOR_SUBSCRIBE)
async def test_token_that_does_not_fit_opens_no_channel(
    watched: Watched, claims: dict[str, object], error: int | None, close: int | None
) -> None:
    """A subscription token is for one user and one channel; a connection token is none."""
    async with await watched.connected() as raw:
        await raw.say({"id": 9, "subscribe": {"channel": "$mine", "token": _signed(_HS, _claims(**claims), _SECRET)}})
        if close is not None:
            await raw.expect_closed(close)
        else:
            assert error == (await raw.expect_reply(9))["error"]["code"]


@pytest.mark.parametrize("name", ["alg-none", "hmac-with-the-public-key", "another-secret", "another-rsa-key", "dots"])
async def test_forged_subscription_token_opens_no_channel(watched: Watched, name: str) -> None:
    """A forged token is refused here too, and ends nothing."""
    async with await watched.connected() as raw:
        assert 103 == await raw.refused("subscribe", {"channel": "$mine", "token": _FORGED[name]()})


async def test_subscription_token_without_a_user_fits_nobody_else(watched: Watched) -> None:
    """One without ``sub`` is for the anonymous, and this connection is somebody."""
    async with await watched.connected() as raw:
        token = _signed(_HS, {"channel": "$mine", "exp": _claims()["exp"]}, _SECRET)
        await raw.say({"id": 9, "subscribe": {"channel": "$mine", "token": token}})
        await raw.expect_closed(3500)


async def test_refresh_with_a_bad_token_ends_the_connection(watched: Watched) -> None:
    """Nobody becomes somebody else by a refresh, and an expired token does not prolong."""
    for token, code in (
        (_FORGED["another-secret"](), 3500),
        (_FORGED["subscription-token"](), 3500),
        (_signed(_HS, _claims(sub="other"), _SECRET), 3500),
        (_signed(_HS, _claims(exp=1), _SECRET), 3005),
    ):
        async with await watched.connected() as raw:
            await raw.say({"id": 9, "refresh": {"token": token}})
            await raw.expect_closed(code)


# Anything at all.

_SEED = 20_260_101
_ROUNDS = 1500


async def test_random_bytes_do_no_harm(watched: Watched) -> None:
    """Garbage at every stage, the same in every run: no crash, no hang, nothing left."""
    source = random.Random(_SEED)  # noqa: S311 - to be repeated, not to be secret
    token = watched.service.token("garbage")
    plans = [_plan(source) for _ in range(_ROUNDS)]
    places = asyncio.Semaphore(8)

    async def run(plan: _Plan) -> None:
        async with places, await RawWebSocket.dial(watched.port) as raw:
            await _carry_out(raw, plan, token)

    async with asyncio.TaskGroup() as tasks:
        for plan in plans:
            tasks.create_task(run(plan))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one connection does.

    Attributes:
        stage: How far it goes before the garbage: 0 opens a socket, 1 shakes hands, 2 connects.
        end: How it ends: 0 with a reset, 1 with the end of the stream, 2 by going away.
    """

    stage: int
    pieces: list[bytes]
    end: int


async def _carry_out(raw: RawWebSocket, plan: _Plan, token: str) -> None:
    if plan.stage:
        await raw.send(upgrade_request())
        await raw.read_response()
    if plan.stage > 1:
        await raw.connect(token)
    for piece in plan.pieces:
        if not await raw.try_send(piece):
            return
    if plan.end == 0:
        raw.reset()
    elif plan.end == 1:
        raw.finish_sending()
        await raw.expect_end()


def _plan(source: random.Random) -> _Plan:
    stage = source.choice((0, 1, 2, 2))
    kinds = (source.randbytes,) if stage == 0 else (source.randbytes, _frame_maker(source), _command_maker(source))
    pieces = [source.choice(kinds)(source.randrange(1, 400)) for _ in range(source.randrange(1, 6))]
    return _Plan(stage, pieces, source.randrange(3))


def _frame_maker(source: random.Random) -> Any:  # noqa: ANN401 - as ``random.Random.randbytes``
    def make(size: int) -> bytes:
        return build_frame(
            source.randrange(16),
            source.randbytes(size),
            final=source.random() < 0.8,
            reserved=source.choice((0, 0, 0, 1, 4)),
            masked=source.random() < 0.9,
            length_bytes=source.choice((None, None, 2, 8)) if size < 126 else None,
        )

    return make


_WORDS = (
    "connect",
    "subscribe",
    "publish",
    "history",
    "rpc",
    "send",
    "id",
    "channel",
    "token",
    "data",
    "since",
    "subs",
)


def _command_maker(source: random.Random) -> Any:  # noqa: ANN401 - as above
    def value(depth: int) -> object:
        if depth and source.random() < 0.5:
            return {source.choice(_WORDS): value(depth - 1) for _ in range(source.randrange(4))}
        return source.choice((0, 1, -1, 2**70, 1.5, "", "chat:garbage", "\x00", None, True, [], {}))

    def make(_size: int) -> bytes:
        lines = [json.dumps({"id": source.randrange(5), source.choice(_WORDS): value(3)}) for _ in range(3)]
        text = bytearray("\n".join(lines).encode())
        if source.random() < 0.3:
            text[source.randrange(len(text))] = source.randrange(256)
        return build_frame(TEXT, bytes(text))

    return make
