from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components
from openapi_spec_validator import validate
from typing_extensions import override

from service.api.server_api import SECURITY_SCHEMES, STATUSES, create_server_api_router
from service.core.codes import Error, Errors, rows
from service.core.secret import Secret
from service.observability.process import Process
from service.realtime.context import Call
from service.realtime.server_commands import METHODS
from service.settings.groups import Api, Http
from tests.support.backstage import Backstage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "a key of thirty-two characters!!"
RIGHT = {"X-API-Key": KEY}
PUBLISH = {"channel": "chat:1", "data": {"x": 1}}
KEPT = {"offset": 1, "epoch": "aaaaaaab"}


class FakeProcess(Process):
    """A process of known size."""

    def __init__(self) -> None:
        self.used = 10.0

    @override
    def memory_bytes(self) -> int:
        return 4096

    @override
    def cpu_seconds(self) -> float:
        return self.used


class Back:
    """A back end: the server API over a stage, asked over HTTP without a socket."""

    def __init__(self, *, max_body_bytes: int = 10_000, key: str | None = KEY) -> None:
        self.stage = Backstage()
        self.process = FakeProcess()
        api = Api(key=Secret(key) if key else None, max_batch_commands=2, max_broadcast_channels=2)
        http = Http(max_body_bytes=max_body_bytes)
        router = create_server_api_router(self.stage.instance, api, http, process=self.process)
        components = Components(security_schemes=SECURITY_SCHEMES)
        self.app = Litestar(
            [router],
            openapi_config=OpenAPIConfig("Test", "1", components=components),
            logging_config=None,
            request_max_body_size=5,  # of no effect on this router, which has its own limit
        )
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", self.app)), base_url="http://test")

    async def post(self, method: str, body: object = None, headers: dict[str, str] | None = None) -> httpx.Response:
        """Send a body, JSON unless it is bytes, with the right key unless headers are given."""
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        return await self.http.post(f"/api/{method}", content=content, headers=RIGHT if headers is None else headers)


@pytest.fixture
async def back() -> AsyncIterator[Back]:
    """A back end with the right key at hand."""
    back = Back()
    async with back.http:
        yield back


# Keys.


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"X-API-Key": KEY}, id="X-API-Key"),
        pytest.param({"Authorization": f"apikey {KEY}"}, id="Authorization"),
        pytest.param({"authorization": f"ApiKey {KEY}", "Content-Type": "text/plain"}, id="any case, any type"),
    ],
)
async def test_right_key_is_let_in(back: Back, headers: dict[str, str]) -> None:
    """Both ways of existing clients lead in, whatever they call the type of their body."""
    response = await back.post("publish", PUBLISH, headers)

    assert (200, {"result": KEPT}) == (response.status_code, response.json())
    assert "application/json" == response.headers["content-type"]


@pytest.mark.parametrize(
    ("headers", "query", "reason"),
    [
        pytest.param({}, "", "no API key", id="none"),
        pytest.param({"X-API-Key": "wrong"}, "", "wrong API key", id="wrong"),
        pytest.param({"Authorization": f"Bearer {KEY}"}, "", "no API key", id="another scheme"),
        pytest.param({**RIGHT, "Authorization": f"apikey {KEY}"}, "", "more than one API key", id="two"),
        pytest.param({}, f"?api_key={KEY}", "an API key in the URL is not accepted", id="in the URL"),
        pytest.param(RIGHT, f"?api_key={KEY}", "an API key in the URL is not accepted", id="in the URL too"),
        pytest.param(RIGHT, "?a=1&api%5Fkey=", "an API key in the URL is not accepted", id="escaped and empty"),
    ],
)
@pytest.mark.parametrize("method", ["publish", "batch"])
async def test_other_keys_are_refused_with_the_reason(
    back: Back, method: str, headers: dict[str, str], query: str, reason: str
) -> None:
    """Nothing is done, and the answer tells why without telling the key."""
    response = await back.post(f"{method}{query}", PUBLISH, headers)

    assert 401 == response.status_code
    assert 101 == response.json()["code"]
    assert response.json()["message"].startswith(f"unauthorized: {reason}")
    assert KEY not in response.text
    assert "apikey" == response.headers["www-authenticate"]
    assert [] == back.stage.observer.commands


async def test_another_query_is_of_no_interest(back: Back) -> None:
    """Only a key is looked for in the URL."""
    assert 200 == (await back.post("publish?trace=1", PUBLISH)).status_code


async def test_no_key_is_right_where_none_is_configured() -> None:
    """A forgotten setting closes the API."""
    back = Back(key=None)
    async with back.http:
        for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "None"}):
            assert 401 == (await back.post("info", {}, headers)).status_code


async def test_other_paths_and_verbs_are_not_there(back: Back) -> None:
    """What is no method is not found, and reading is not offered."""
    assert 404 == (await back.post("fly")).status_code
    assert 405 == (await back.http.get("/api/publish", headers=RIGHT)).status_code


# Bodies.


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b"", "the body is empty: send a JSON object, {} at least", id="empty"),
        pytest.param(b"{]", "the body is not JSON: ", id="not JSON"),
        pytest.param(b"[]", "the body is not what the method takes: Expected `object`, got `array`", id="no object"),
        pytest.param(b'{"channel":7}', "the body is not what the method takes: Expected `str`, got `int`", id="type"),
        pytest.param(b"\xff", "the body is not UTF-8: byte 0", id="not UTF-8"),
    ],
)
@pytest.mark.parametrize("mode", [{}, {"X-Centrifugo-Error-Mode": "transport"}], ids=["default", "transport"])
async def test_body_that_cannot_be_read_is_a_bad_request(
    back: Back, body: bytes, problem: str, mode: dict[str, str]
) -> None:
    """The answer says what is wrong and where, and is the same in both error modes."""
    response = await back.post("publish", body, RIGHT | mode)

    assert 400 == response.status_code
    assert 107 == response.json()["code"]
    assert response.json()["message"].startswith(f"bad request: {problem}")


def _body(size: int) -> bytes:
    start, end = b'{"channel":"chat:1","data":"', b'"}'
    return start + b"x" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "chunked"])
async def test_body_is_taken_up_to_the_limit_and_not_a_byte_more(back: Back, is_chunked: bool) -> None:  # noqa: FBT001 - a parameter of the cases
    """The limit holds with and without a Content-Length."""

    async def send(body: bytes) -> httpx.Response:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 1000):
                yield body[start : start + 1000]

        return await back.http.post("/api/publish", content=chunks() if is_chunked else body, headers=RIGHT)

    assert {"result": KEPT} == (await send(_body(10_000))).json()

    refused = await send(_body(10_001))

    assert 413 == refused.status_code
    assert {"code": 106, "message": "limit exceeded: the body is longer than 10000 bytes"} == refused.json()
    assert "close" == refused.headers["connection"]
    assert ["api_publish"] == back.stage.observer.commands
    assert ["body_bytes"] == back.stage.observer.limits


class _Peer:
    """Plays one request message by message and counts how many were asked for."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = list(messages)
        self.asked = 0
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        return self._messages.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def call(self, app: Litestar, *headers: tuple[bytes, bytes], http_version: str = "1.1") -> int:
        """Return the HTTP status."""
        scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": http_version,
            "method": "POST",
            "scheme": "http",
            "path": "/api/publish",
            "raw_path": b"/api/publish",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"x-api-key", KEY.encode()), *headers],
            "client": None,
            "server": None,
        }
        await cast("Any", app)(scope, self.receive, self.send)
        status: int = self.sent[0]["status"]
        return status


async def test_body_over_the_limit_is_not_read_to_its_end(back: Back) -> None:
    """Of an endless body no more than the limit and one message are taken."""
    chunk: dict[str, Any] = {"type": "http.request", "body": b"x" * 4000, "more_body": True}
    announced, endless = _Peer(), _Peer(*[chunk] * 100)

    assert 413 == await announced.call(back.app, (b"content-length", b"10001"))
    assert 0 == announced.asked
    assert 413 == await endless.call(back.app, http_version="2")
    assert 3 == endless.asked
    headers = dict(endless.sent[0]["headers"])
    assert b"connection" not in headers


async def test_peer_that_goes_away_before_the_end_of_its_body_has_nothing_done(back: Back) -> None:
    """What came of a request is not the request, even where it looks whole."""
    part: dict[str, Any] = {"type": "http.request", "body": json.dumps(PUBLISH).encode(), "more_body": True}
    peer = _Peer(part, {"type": "http.disconnect"})

    assert 400 == await peer.call(back.app)
    assert [] == back.stage.observer.commands


async def test_key_is_checked_before_anything_is_read(back: Back) -> None:
    """A stranger cannot make the service read a body."""
    peer = _Peer()

    assert 401 == await peer.call(back.app, (b"x-api-key", b"second"))
    assert 0 == peer.asked


# Answers.


async def test_error_of_the_application_is_an_ordinary_answer(back: Back) -> None:
    """HTTP carried the question and the answer well; the error is in the answer."""
    response = await back.post("publish", {"channel": "no:1", "data": 1})

    assert 200 == response.status_code
    assert {"error": {"code": 102, "message": "unknown channel"}} == response.json()


@pytest.mark.parametrize(
    ("method", "body", "status", "code"),
    [
        ("publish", {"channel": "no:1", "data": 1}, 404, 102),
        ("publish", {"data": 1}, 400, 107),
        ("rpc", {"method": "nope"}, 404, 104),
        ("rpc", {"method": "sunday"}, 400, 1234),
        ("rpc", {"method": "broken"}, 500, 100),
        ("presence", {"channel": "plain:1"}, 400, 108),
        ("broadcast", {"channels": ["chat:1"] * 3, "data": 1}, 400, 106),
        ("history", {"channel": "chat:1", "since": {"epoch": "gone"}}, 416, 112),
    ],
)
async def test_transport_mode_gives_errors_an_http_status(
    back: Back, method: str, body: dict[str, object], status: int, code: int
) -> None:
    """For those who would rather have proxies and retries see the failure."""

    async def sunday(_: Call) -> Error:
        return Error(1234, "not on Sundays")

    async def broken(_: Call) -> bytes:
        raise RuntimeError("secret")

    back.stage.procedures.methods |= {"sunday": sunday, "broken": broken}
    plain = await back.post(method, body, RIGHT | {"X-Centrifugo-Error-Mode": "default"})
    response = await back.post(method, body, RIGHT | {"X-Centrifugo-Error-Mode": "Transport"})

    assert (200, code) == (plain.status_code, plain.json()["error"]["code"])
    assert (status, plain.json()["error"]) == (response.status_code, response.json())


async def test_transport_mode_leaves_results_as_they_are(back: Back) -> None:
    """The mode is about errors alone."""
    response = await back.post("publish", PUBLISH, RIGHT | {"X-Centrifugo-Error-Mode": "transport"})

    assert (200, {"result": KEPT}) == (response.status_code, response.json())


def test_every_error_has_a_status() -> None:
    """A new row in the table of errors needs one here."""
    assert {row.code for _, row in rows(Errors)} == STATUSES.keys()


async def test_temporary_errors_say_so(back: Back) -> None:
    """A back end may try again by itself."""

    async def broken(_: Call) -> bytes:
        raise RuntimeError("secret")

    back.stage.procedures.methods["broken"] = broken

    assert {"error": {"code": 100, "message": "internal server error", "temporary": True}} == (
        await back.post("rpc", {"method": "broken"})
    ).json()


async def test_batch_has_replies_without_a_result_around_them(back: Back) -> None:
    """Existing clients look for the replies at the top."""
    response = await back.post("batch", {"commands": [{"publish": PUBLISH}, {"publish": {"channel": "no:1"}}]})

    assert {"replies": [{"publish": KEPT}, {"error": {"code": 102, "message": "unknown channel"}}]} == response.json()


async def test_batch_refused_as_a_whole_has_an_http_status(back: Back) -> None:
    """Existing clients would read no error out of an answer without replies."""
    assert 200 == (await back.post("batch", {"commands": [{"info": {}}] * 2})).status_code

    response = await back.post("batch", {"commands": [{"info": {}}] * 3})

    assert 400 == response.status_code
    assert {"code": 106, "message": "limit exceeded: 3 commands in one batch, at most 2 are allowed"} == response.json()


async def test_broadcast_is_limited_by_the_setting(back: Back) -> None:
    """At the limit it is done, one past it is not."""
    assert 2 == len((await back.post("broadcast", {"channels": ["a", "b"], "data": 1})).json()["result"]["responses"])

    error = (await back.post("broadcast", {"channels": ["a", "b", "c"], "data": 1})).json()["error"]

    assert {"code": 106, "message": "limit exceeded: 3 channels in one broadcast, at most 2 are allowed"} == error


async def test_info_tells_identity_and_use_of_the_machine(back: Back) -> None:
    """The load is that since the question before."""
    back.stage.clock.advance(10)
    back.process.used += 2.5
    (first,) = (await back.post("info")).json()["result"]["nodes"]
    back.stage.clock.advance(10)
    (second,) = (await back.post("info")).json()["result"]["nodes"]
    (third,) = (await back.post("info")).json()["result"]["nodes"]

    assert ("instance-1", "1.2.3", 10) == (first["uid"], first["version"], first["uptime"])
    assert first["name"]
    assert {"cpu": 25.0, "rss": 4096} == first["process"]
    assert 0 == second["process"]["cpu"] == third["process"]["cpu"]


@pytest.mark.parametrize("method", list(METHODS))
async def test_every_method_answers_in_one_of_the_known_shapes(back: Back, method: str) -> None:
    """Whatever happens, an empty object gets an answer that clients can take apart."""
    response = await back.post(method, {})

    assert 200 == response.status_code
    assert list(response.json()) in (["result"], ["error"], ["replies"])
    assert [] == back.stage.observer.failures


# The document.


async def test_openapi_document_is_valid_and_its_examples_work(back: Back) -> None:
    """What the document shows can be sent as it stands."""
    document = (await back.http.get("/schema/openapi.json")).json()
    validate(document)

    async def total(call: Call) -> bytes:
        return json.dumps(sum(json.loads(call.data))).encode()

    back.stage.procedures.methods["sum"] = total
    assert {f"/api/{method}" for method in METHODS} == document["paths"].keys()
    for path, item in document["paths"].items():
        operation = item["post"]
        media = operation["requestBody"]["content"]["application/json"]
        required = media["schema"].get("required", [])
        assert set(required) <= media["schema"]["properties"].keys() & media["examples"]["example"]["value"].keys(), (
            path
        )
        assert bool(required) is (path not in ("/api/info", "/api/channels"))
        assert "$ref" not in json.dumps(media["schema"])
        assert [{"serverApiKey": []}] == operation["security"]
        assert {"200", "400", "401", "413", "429", "503"} == operation["responses"].keys()
        response = await back.post(path.removeprefix("/api/"), media["examples"]["example"]["value"])
        assert 200 == response.status_code
        (shown, *_) = operation["responses"]["200"]["content"]["application/json"]["examples"].values()
        assert shown["value"].keys() == response.json().keys() or path == "/api/history", path
