"""The nginx configuration of the documentation, in a real nginx, with a stock client behind it."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import websockets
from websockets.typing import Origin

from deploytool import manifests
from deploytool.checks import catalog, evaluation
from deploytool.model.expectations import Expectations
from deploytool.model.finding import Outcome
from tests.deploytool.patterns.nginx_process import NAME, Nginx, nginx
from tests.deploytool.patterns.pages import blocks
from tests.support.process import ServiceProcess
from tests.support.service_api import api
from tests.support.stock_client import StockClient

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("patterns-nginx"),
]

(SITE,) = blocks("nginx.md", "nginx")
ORIGIN = Origin("https://app.example.org")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service() -> AsyncIterator[ServiceProcess]:
    """The service, set up as the page says."""
    settings = blocks("nginx.md", "sh")[0]
    environ = dict(line.split("=", 1) for line in settings.splitlines())
    async with ServiceProcess.start(environ) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nginx]:
    """The nginx of the page before it."""
    async with nginx(SITE, tmp_path_factory.mktemp("nginx"), service.port) as started:
        yield started


def _socket(front: Nginx) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": front.tls_port, "ssl": front.trust, "server_hostname": NAME, "proxy": None}


@pytest.mark.parametrize("path", ["/connection/websocket", "/ws"])
async def test_a_page_connects_through_it(front: Nginx, path: str) -> None:
    """With the origin of the site; another is refused by the service, through nginx."""
    async with websockets.connect(f"wss://{NAME}{path}", origin=ORIGIN, **_socket(front)) as opened:
        assert opened.response is not None
        assert opened.response.headers["X-Slackwater-Instance"]

    with pytest.raises(websockets.InvalidStatus, match="403"):
        await websockets.connect(f"wss://{NAME}{path}", origin=Origin("https://evil.example"), **_socket(front))


async def test_a_stock_client_publishes_and_receives(
    service: ServiceProcess, front: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: TLS, Upgrade, subscribe, a publication from the server's API through nginx."""
    connect = websockets.connect

    def through_nginx(url: str, **options: Any) -> Any:  # noqa: ANN401 - of the library
        return connect(url, **{**options, **_socket(front)})

    monkeypatch.setattr("centrifuge.client.websockets.connect", through_nginx)
    stock = StockClient(f"wss://{NAME}/connection/websocket", token=service.token("alice"))
    try:
        await stock.connect()
        _, events = await stock.subscribe("chat:room")
        await api(service, "publish", channel="chat:room", data={"text": "hello"})
        await events.expect("publication")
    finally:
        await stock.client.disconnect()

    assert [{"text": "hello"}] == events.publications


def _get(front: Nginx, path: str, *, tls: bool) -> http.client.HTTPResponse:
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", front.tls_port, context=context, timeout=10
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", front.plain_port, timeout=10)
    connection.request("GET", path, headers={"Host": NAME})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


async def test_http_goes_through_too(front: Nginx) -> None:
    """Health and the server API are on the same address; the admin API is not."""
    assert 200 == (await asyncio.to_thread(_get, front, "/api/health/ready", tls=True)).status
    assert 404 == (await asyncio.to_thread(_get, front, "/api/admin/status", tls=True)).status


async def test_plain_http_is_redirected(front: Nginx) -> None:
    """And no WebSocket opens on it."""
    answer = await asyncio.to_thread(_get, front, "/ws", tls=False)

    assert (301, f"https://{NAME}/ws") == (answer.status, answer.headers["Location"])


async def test_the_check_finds_nothing_in_it() -> None:
    """And finds what is changed in it, which nginx would not tell anybody."""
    found = [
        evaluation.evaluate(manifests.parse("site.conf", text.encode()), Expectations(), catalog.ITEMS).outcome
        for text in (SITE, SITE.replace('proxy_set_header Connection "upgrade";', ""))
    ]

    assert [Outcome.PASS, Outcome.FAIL] == found


async def test_a_configuration_that_fails_the_check_really_fails(service: ServiceProcess, tmp_path: Path) -> None:
    """Without the Upgrade headers no WebSocket opens, as the check says."""
    broken = SITE.replace("proxy_set_header Upgrade $http_upgrade;", "")
    async with nginx(broken, tmp_path, service.port) as front:
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(f"wss://{NAME}/ws", origin=ORIGIN, **_socket(front))
