from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from service.api.page import create_page_router
from tests.support.ids import SequentialIds

ORIGIN = "http://testserver.local"
SCRIPTS = ("charts.js", "client.js", "elements.js", "feed.js", "figures.js", "page.js", "words.js")
ASSETS = (*SCRIPTS, "icon.svg", "page.css")


@dataclass
class Signer:
    """Writes down what it was asked to sign."""

    asked: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, user: str, *, name: str, namespace: str, lifetime_seconds: int) -> str:
        """Return a token that can be told from others."""
        self.asked.append((user, {"name": name, "namespace": namespace, "lifetime_seconds": lifetime_seconds}))
        return f"token-{len(self.asked)}"


def served(signer: Signer | None) -> TestClient[Litestar]:
    """Return a client of an application that has the page and nothing else."""
    app = Litestar([create_page_router(issue_token=signer, ids=SequentialIds())], openapi_config=None)
    return TestClient(app, base_url=ORIGIN)


@pytest.fixture
def signer() -> Signer:
    """What signs for the page of ``client``."""
    return Signer()


@pytest.fixture
def client(signer: Signer) -> TestClient[Litestar]:
    """The page in development."""
    return served(signer)


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in ASSETS)])
def test_page_files_are_fenced_in(client: TestClient[Litestar], path: str) -> None:
    """Each file forbids framing, foreign sources and guesses about its type."""
    answer = client.get(path)

    assert answer.status_code == 200
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/page.js", "text/javascript; charset=utf-8"),
        ("/page/page.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
def test_page_files_say_what_they_are(client: TestClient[Litestar], path: str, media_type: str) -> None:
    """With nosniff, a script of a wrong type would not run."""
    assert client.get(path).headers["content-type"] == media_type


def test_page_serves_every_file_of_its_folder(client: TestClient[Litestar]) -> None:
    """Nothing lies there that no route leads to."""
    names = {entry.name for entry in files("service").joinpath("page").iterdir() if entry.is_file()}

    assert {*ASSETS, "index.html"} == names
    assert client.get("/page/index.html").status_code == 404
    assert client.get("/page/..%2Fapp.py").status_code == 404


def test_page_needs_nothing_from_elsewhere(client: TestClient[Litestar]) -> None:
    """It works offline: no file names another host, and no markup runs or styles anything in place."""
    for path in ("/", *(f"/page/{name}" for name in ASSETS)):
        text = client.get(path).text.replace("http://www.w3.org/2000/svg", "")

        assert re.search(r"(https?:)?//[a-z0-9]", text.replace("// ", ""), re.IGNORECASE) is None, path
    index = client.get("/").text
    assert re.search(r"\son[a-z]+=|\sstyle=|<style|<script(?![^>]* src=)", index) is None


def test_page_is_revalidated(client: TestClient[Litestar]) -> None:
    """A browser asks every time, and is sent a file again only when it changed."""
    first = client.get("/page/page.js")
    etag = first.headers["etag"]

    assert first.headers["cache-control"] == "no-cache"
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get("/page/page.js", headers={"If-None-Match": known})
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["etag"] == etag
    assert client.get("/page/page.js", headers={"If-None-Match": '"other"'}).status_code == 200
    assert etag != client.get("/page/page.css").headers["etag"]


def test_page_answers_head(client: TestClient[Litestar]) -> None:
    """What asks for the head alone gets no body."""
    answer = client.head("/")

    assert answer.status_code == 200
    assert answer.content == b""


def test_token_is_handed_to_the_page(client: TestClient[Litestar], signer: Signer) -> None:
    """The page is given a short-lived token of a made-up user, for its own namespace alone."""
    answer = client.post("/demo/token", headers={"Origin": ORIGIN}, json={"name": "Mira"})

    assert answer.status_code == 200
    body = answer.json()
    assert re.fullmatch(r"guest-[0-9a-f]{8}", body["user"])
    assert body == {"token": "token-1", "user": body["user"], "channel": "demo:lobby", "expiresInSeconds": 300}
    assert signer.asked == [(body["user"], {"name": "Mira", "namespace": "demo", "lifetime_seconds": 300})]
    assert answer.headers["cache-control"] == "no-store"


def test_token_is_renewed_for_the_same_user(client: TestClient[Litestar], signer: Signer) -> None:
    """A connection can only be refreshed by its own user."""
    headers = {"Origin": ORIGIN}
    user = client.post("/demo/token", headers=headers).json()["user"]
    renewed = client.post("/demo/token", headers=headers, json={"user": user})

    assert renewed.json()["user"] == user
    assert [user, user] == [asked for asked, _ in signer.asked]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"Origin": "null"}, id="null"),
        pytest.param({"Origin": "https://testserver.local"}, id="scheme"),
        pytest.param({"Origin": "http://testserver.local:8080"}, id="port"),
        pytest.param({"Origin": "http://testserver.local.evil.example"}, id="suffix"),
        pytest.param({"Origin": "http://evil.example"}, id="host"),
        pytest.param({"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"}, id="same-site"),
        pytest.param({"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}, id="cross-site"),
        pytest.param([("Origin", ORIGIN), ("Origin", "http://evil.example")], id="two"),
    ],
)
def test_token_is_refused_to_others(client: TestClient[Litestar], signer: Signer, headers: Any) -> None:  # noqa: ANN401
    """Whoever is not the page of this service gets no token: no Origin, another one, or a browser that says so."""
    answer = client.post("/demo/token", headers=headers, json={})

    assert answer.status_code == 403
    assert signer.asked == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"user": "42"}, id="another user"),
        pytest.param({"user": "guest-0123456g"}, id="not hexadecimal"),
        pytest.param({"user": "guest-01234567\n"}, id="line end"),
        pytest.param({"name": "x" * 41}, id="long name"),
        pytest.param({"name": "a\u0000b"}, id="control character"),
        pytest.param({"name": 7}, id="name that is no text"),
        pytest.param([], id="list"),
    ],
)
def test_token_request_is_refused_when_malformed(client: TestClient[Litestar], signer: Signer, body: object) -> None:
    """In particular nobody becomes a user of their choice."""
    answer = client.post("/demo/token", headers={"Origin": ORIGIN}, json=body)

    assert answer.status_code == 400
    assert signer.asked == []


def test_page_asks_for_a_token_outside_development() -> None:
    """Without a signer there is no route to a token, and the page knows it."""
    with served(None) as client:
        assert 'data-token-source="ask"' in client.get("/").text
        assert client.post("/demo/token", headers={"Origin": ORIGIN}).status_code == 404
    with served(Signer()) as client:
        assert 'data-token-source="demo"' in client.get("/").text
