from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploytool.clock import SystemClock
from deploytool.model.observations import OriginKind, PlainAnswer, TokenKind, Unseen
from deploytool.probes import gauge as gauge_module
from deploytool.probes import rate as rate_module
from deploytool.probes.address import Address, parse_address
from deploytool.probes.client import open_client
from deploytool.probes.errors import ProbeError
from deploytool.probes.gauge import try_gauge
from deploytool.probes.handshakes import try_handshakes, try_origins
from deploytool.probes.load import LoadPlan, LoadUser, run_load
from deploytool.probes.rate import try_rate
from deploytool.probes.running import Background, run
from deploytool.probes.tls import try_tls
from deploytool.probes.tokens import Credentials, try_tokens
from deploytool.service_api import AdminApi, HttpTransport, ProbeTokens
from tests.deploytool.probes.fake_service import ACCEPT, Close, Say, fake_service
from tests.support.edge import certificate, odd_server, tls_front
from tests.support.process import ADMIN_KEY, ServiceProcess
from tests.support.tcp_proxy import TcpProxy

CLOCK = SystemClock()
ORIGIN = "https://app.example.org"


def quiet(what: str, done: int, total: int) -> None:
    """Tell nobody."""
    assert what
    assert done <= total


@pytest.fixture
async def service() -> AsyncIterator[ServiceProcess]:
    """A real one."""
    environ = {"FRONTEND_URL": ORIGIN, "DATABASE_URL": "memory:", "WS_MESSAGES_PER_MINUTE": "40"}
    async with ServiceProcess.start(environ) as running:
        yield running


def admin(service: ServiceProcess) -> AdminApi:
    """Return its admin API."""
    return AdminApi(HttpTransport(service.admin_url), ADMIN_KEY, CLOCK)


async def issue(service: ServiceProcess) -> ProbeTokens:
    """Have tokens made."""
    return await asyncio.to_thread(admin(service).probe_tokens)


@pytest.mark.e2e
async def test_probes_see_what_a_service_does(service: ServiceProcess) -> None:
    """Every kind of traffic against a real process; nothing is left of it afterwards."""
    address = parse_address(service.url)
    tokens = await issue(service)
    pairs = {
        TokenKind.GOOD: (tokens.valid.connection, tokens.valid.subscription),
        TokenKind.EXPIRED: (tokens.expired.connection, tokens.expired.subscription),
        TokenKind.WRONG_KEY: (tokens.wrong_signature.connection, tokens.wrong_signature.subscription),
    }

    handshakes = await try_handshakes(address, CLOCK)
    origins = await try_origins(address, [ORIGIN], CLOCK)
    tried = await try_tokens(address, Credentials.of(tokens.channel, pairs), CLOCK)
    counted = await try_gauge(address, tokens.valid.connection, 100, lambda: _count(service), CLOCK)
    status = await asyncio.to_thread(admin(service).status)

    assert {status.instance} == {one.instance for one in handshakes}
    assert {OriginKind.ALLOWED} == {one.kind for one in origins if one.accepted}
    assert {OriginKind.FOREIGN, OriginKind.NULL, OriginKind.SUFFIX, OriginKind.INSECURE} == {
        one.kind for one in origins if not one.accepted
    }
    assert [(TokenKind.GOOD, "connect"), (TokenKind.GOOD, "subscribe")] == [
        (one.kind, one.purpose) for one in tried if one.accepted
    ]
    assert 10 == len(tried)
    assert (5, 0, 5, 0) == (counted.opened, counted.before, counted.during, counted.after)
    assert 0 == status.probe_connections


def _count(service: ServiceProcess) -> int:
    return int(admin(service).metrics().samples["slackwater_connections_probe"])


@pytest.mark.e2e
async def test_load_is_measured(service: ServiceProcess) -> None:
    """Every publication reaches every connection of its user."""
    users = []
    for _ in range(2):
        tokens = await issue(service)
        users.append(LoadUser(tokens.channel, tokens.valid.connection, tokens.valid.subscription))
    plan = LoadPlan(users=2, connections=7, publications=20, seconds=0.5)

    result = await run_load(parse_address(service.url), users, plan, CLOCK, quiet, image_digest="sha256:1")

    report = result.report
    assert (7, 20, 10 * 4 + 10 * 3, 0, 0) == (
        report.connections,
        report.publications,
        report.deliveries,
        report.lost,
        report.errors,
    )
    assert 0 < report.p50_seconds <= report.p99_seconds < 5
    assert report.deliveries == sum(one.delivered for one in result.seconds)
    assert "sha256:1" == report.image_digest


@pytest.mark.e2e
async def test_limit_of_messages_is_met_and_passed_by(service: ServiceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The burst ends with the first refusal; who does not wait out the minute is not let in again."""
    monkeypatch.setattr(rate_module, "_WINDOW_SECONDS", 0.0)
    monkeypatch.setattr(rate_module, "_PAUSE_SECONDS", 0.0)
    tokens = await issue(service)
    entry = (tokens.channel, tokens.valid.subscription)

    trial = await try_rate(parse_address(service.url), tokens.valid.connection, entry, 40, CLOCK)

    assert (41, 111, False) == (trial.sent, trial.refusal, trial.recovered)


class Limited:
    """Refuses some messages, and then no more."""

    def __init__(self, accepted: int, refused: int, *, closes: int = 0) -> None:
        self._left = [accepted, refused]
        self._closes = closes

    def __call__(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one command."""
        if method != "publish":
            return ACCEPT(method, body)
        if self._left[0] > 0:
            self._left[0] -= 1
        elif self._left[1] > 0:
            self._left[1] -= 1
            if self._closes:
                raise Close(self._closes, "too many requests")
            return {"error": {"code": 111, "message": "too many requests", "temporary": True}}
        return ACCEPT(method, body)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(Limited(10, 7), (11, 111, True), id="refused, then let in"),
        pytest.param(Limited(10, 1, closes=3013), (11, 3013, True), id="closed, and back"),
        pytest.param(Limited(10, 1, closes=3501), (11, 3501, False), id="closed for good"),
        pytest.param(ACCEPT, (15, None, None), id="never refused"),
    ],
)
async def test_burst_is_understood(
    answer: Limited, expected: tuple[int, int | None, bool | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a service may answer to one, with its codes."""
    monkeypatch.setattr(rate_module, "_WINDOW_SECONDS", 0.0)
    monkeypatch.setattr(rate_module, "_PAUSE_SECONDS", 0.0)
    async with fake_service(answer) as address:
        trial = await try_rate(address, "t", ("probe:1", "s"), 10, CLOCK)

    assert expected == (trial.sent, trial.refusal, trial.recovered)


async def test_burst_above_the_bound_is_not_tried() -> None:
    """A probe never sends a million messages."""
    with pytest.raises(ProbeError, match="a probe sends at most 1000"):
        await try_rate(parse_address("ws://127.0.0.1:9"), "t", ("c", "s"), 1_000_000, CLOCK)


async def test_gauge_that_stands_still_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count that does not follow is reported as it was read."""
    monkeypatch.setattr(gauge_module, "_FOLLOWS_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(gauge_module, "_PAUSE_SECONDS", 0.0)
    async with fake_service() as address:
        trial = await try_gauge(address, "t", 2, lambda: 7, CLOCK)

    assert (2, 7, 7, 7) == (trial.opened, trial.before, trial.during, trial.after)


async def test_gauge_without_connections_says_nothing() -> None:
    """What was refused cannot be counted."""
    async with fake_service(_refuses(103)) as address:
        with pytest.raises(ProbeError, match="nothing to count"):
            await try_gauge(address, "t", 2, lambda: 0, CLOCK)


def _refuses(code: int, only: str = "connect") -> Any:  # noqa: ANN401 - an answer
    def answer(method: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"error": {"code": code, "message": "no"}} if method == only else ACCEPT(method, body)

    return answer


@pytest.mark.parametrize("code", [100, 111])
async def test_refusal_for_another_reason_says_nothing_of_tokens(code: int) -> None:
    """A service that is full refuses good and bad alike."""
    credentials = Credentials.of("probe:1", {TokenKind.GOOD: ("t", "s")})
    async with fake_service(_refuses(code)) as address:
        with pytest.raises(ProbeError, match="says nothing of tokens"):
            await try_tokens(address, credentials, CLOCK)


async def test_service_that_believes_everybody_is_seen() -> None:
    """Every kind of token is reported as accepted."""
    credentials = Credentials.of("probe:1", {TokenKind.GOOD: ("t", "s"), TokenKind.EXPIRED: ("e", "f")})
    async with fake_service() as address:
        trials = await try_tokens(address, credentials, CLOCK)

    assert all(one.accepted for one in trials)
    assert {*TokenKind} - {TokenKind.WRONG_KEY} == {one.kind for one in trials}


@pytest.mark.parametrize(
    "text", ["", "hello", "[]", "3", '{"id": 1, "error": "no"}', '{"id": 1, "error": {"code": "x"}}', "[" * 50_000]
)
def test_service_that_speaks_something_else_is_a_sentence(text: str) -> None:
    """Never a traceback, and never a result."""

    def answer(_: str, __: dict[str, Any]) -> dict[str, Any]:
        raise Say(text)

    async def work() -> None:
        async with fake_service(answer) as address, open_client(address) as client, asyncio.timeout(2):
            await client.ask("connect", {})

    found = run(work, parse_address("ws://127.0.0.1:9"), 1.0)

    assert isinstance(found, Unseen)
    assert "client protocol" in found.why or "waiting" in found.why


def _upgraded_never(address: Address) -> Any:  # noqa: ANN401 - a result
    return run(lambda: try_handshakes(address, CLOCK), address, 0.5)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(None, "waiting for 0.5 s", id="hangs"),
        pytest.param(b"", "no WebSocket handshake", id="hangs up"),
        pytest.param(b"hello\r\n\r\n", "no WebSocket handshake", id="garbage"),
        pytest.param(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", "HTTP 503", id="503"),
    ],
)
def test_address_without_a_service_is_inconclusive(answer: bytes | None, words: str) -> None:
    """With a sentence that says what was there."""
    with odd_server(answer) as port:
        found = _upgraded_never(parse_address(f"ws://127.0.0.1:{port}"))

    assert isinstance(found, Unseen)
    assert words in found.why


def test_nobody_there_is_inconclusive() -> None:
    """The port was free a moment ago."""
    with odd_server(b"") as port:
        pass

    assert "nothing listens" in _upgraded_never(parse_address(f"ws://127.0.0.1:{port}")).why


async def test_redirect_is_an_answer_and_not_followed() -> None:
    """Browsers do not follow it either."""
    answer = b"HTTP/1.1 301 x\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with odd_server(answer) as port:
        trials = await try_handshakes(parse_address(f"ws://127.0.0.1:{port}"), CLOCK)

    assert {("HTTP 301", "")} == {(one.answer, one.instance) for one in trials}


async def test_load_without_a_single_connection_says_nothing() -> None:
    """Instead of a report of zeros."""
    async with fake_service(_refuses(103)) as address:
        with pytest.raises(ProbeError, match="let no connection"):
            await run_load(address, [LoadUser("c", "t", "s")], LoadPlan(1, 2, 5, 0.1), CLOCK, quiet)


async def test_load_that_loses_everything_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that accepts publications and delivers none."""
    monkeypatch.setattr("deploytool.probes.load._LAST_SECONDS", 0.0)
    async with fake_service() as address:
        result = await run_load(address, [LoadUser("c", "t", "s")], LoadPlan(1, 2, 5, 0.05), CLOCK, quiet)

    assert (5, 0, 10) == (result.report.publications, result.report.deliveries, result.report.lost)


def test_background_probe_can_be_stopped() -> None:
    """And closes what it opened."""
    began, ended = threading.Event(), []

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    probe = Background(work, parse_address("ws://127.0.0.1:9"), 30.0)
    assert began.wait(10)
    probe.stop()

    assert [True] == ended
    assert isinstance(probe.result(), Unseen)


async def test_tls_is_looked_at(tmp_path: Any) -> None:  # noqa: ANN401 - a path
    """Chain, name, version and days of a real handshake; what is behind it does not matter."""
    cert = certificate("realtime.example.org", days=40)
    with odd_server(b"x") as back, tls_front("127.0.0.1", back, cert) as port:
        address = parse_address(
            "wss://realtime.example.org", connect_to=f"127.0.0.1:{port}", ca_file=cert.write(tmp_path)
        )
        trial = await try_tls(address, CLOCK)

    assert ("", "TLSv1.3", PlainAnswer.CLOSED) == (trial.error, trial.protocol, trial.plain)
    assert trial.accepts_old is not True
    assert trial.not_after is not None
    assert 39 < (trial.not_after - CLOCK.wall()) / 86_400 <= 40


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        pytest.param(("realtime.example.org",), -1.0, "expired", id="expired"),
        pytest.param(("elsewhere.example.org",), 90.0, "Hostname mismatch", id="another name"),
    ],
)
async def test_bad_certificate_is_named(tmp_path: Path, names: tuple[str, ...], days: float, words: str) -> None:
    """And looked at all the same, for the days that it has left."""
    cert = certificate(*names, days=days)
    with odd_server(b"x", cert=cert) as port:
        address = parse_address(
            "wss://realtime.example.org", connect_to=f"127.0.0.1:{port}", ca_file=cert.write(tmp_path)
        )
        trial = await try_tls(address, CLOCK)

    assert words in trial.error
    assert trial.not_after is not None
    assert (trial.not_after < CLOCK.wall()) is (days < 0)


async def test_unknown_authority_is_named() -> None:
    """A certificate that is its own authority, and nobody said to believe it."""
    with odd_server(b"x", cert=certificate("127.0.0.1")) as port:
        trial = await try_tls(parse_address(f"wss://127.0.0.1:{port}"), CLOCK)

    assert "self-signed" in trial.error
    assert PlainAnswer.REFUSED is trial.plain


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", PlainAnswer.ACCEPTED, id="accepted"),
        pytest.param(b"HTTP/1.1 301 x\r\nLocation: https://a/\r\n\r\n", PlainAnswer.REDIRECTED, id="redirected"),
        pytest.param(b"HTTP/1.1 301 x\r\nLocation: http://a/\r\n\r\n", PlainAnswer.REFUSED, id="redirected nowhere"),
        pytest.param(b"HTTP/1.1 404 x\r\n\r\n", PlainAnswer.REFUSED, id="404"),
        pytest.param(b"", PlainAnswer.REFUSED, id="hangs up"),
        pytest.param(b"HTTP\r\n\r\n", PlainAnswer.REFUSED, id="no HTTP"),
    ],
)
async def test_plain_upgrade_is_understood(answer: bytes, expected: PlainAnswer) -> None:
    """Of an address without TLS, whose trial says so itself."""
    with odd_server(answer) as port:
        trial = await try_tls(parse_address(f"ws://127.0.0.1:{port}"), CLOCK)

    assert expected is trial.plain
    assert "not wss" in trial.error


@pytest.mark.e2e
async def test_connection_that_is_cut_ends_a_probe(service: ServiceProcess) -> None:
    """With what is known of it, and without a traceback."""
    tokens = await issue(service)
    async with TcpProxy.start(service.port) as proxy:
        address = parse_address(f"ws://127.0.0.1:{proxy.port}")
        async with open_client(address) as client:
            welcome = await client.ask("connect", {"token": tokens.valid.connection})
            proxy.cut()
            after = await client.ask("publish", {"channel": tokens.channel, "data": 1})

    assert welcome.is_accepted
    assert not after.is_accepted
    assert 1006 == after.code
