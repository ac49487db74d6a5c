from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components
from openapi_spec_validator import validate

from service.api.organizations import create_organizations_router
from service.api.requests import encode_cursor
from service.api.server_api import SECURITY_SCHEMES, create_server_api_router
from service.api.tokens import create_tokens_router
from service.auth.tokens import TokenKeys, TokenVerifier
from service.core.organizations import Scope
from service.core.secret import Secret
from service.errors import DatabaseUnavailable, OutcomeUnknown, Overtaken, RowsRefused
from service.realtime.organizations import Organizations
from service.settings.groups import Api, Http, Tokens
from tests.support.backstage import SECRET
from tests.support.ids import SequentialIds
from tests.support.organizations import OrganizationsStage

KEY = "a key of thirty-two characters!!"
BASE = "/api/v1/organizations"
WHEN = "2027-01-15T08:00:00.000Z"
ACME = {
    "id": "acme",
    "name": "Acme",
    "max_connections": 0,
    "publications_per_minute": 0,
    "max_channels": 0,
    "created_at": WHEN,
    "updated_at": WHEN,
}
FIGURES = {"members": 0, "connections": 0, "channels": 0, "publications_last_minute": 0}


class Back:
    """A back end: everything of ``/api`` over a stage, asked over HTTP without a socket."""

    def __init__(self, *, secret: str | None = SECRET.decode(), **tokens: Any) -> None:  # noqa: ANN401 - fields of a group
        self.stage = OrganizationsStage()
        api = Api(key=Secret(KEY), max_broadcast_channels=2)
        signing = Tokens(hmac_secret=Secret(secret) if secret else None, **tokens)
        instance = self.stage.instance
        self.app = Litestar(
            [
                create_organizations_router(instance, api, SequentialIds()),
                create_tokens_router(instance, api, signing),
                create_server_api_router(instance, api, Http()),
            ],
            openapi_config=OpenAPIConfig("Test", "1", components=Components(security_schemes=SECURITY_SCHEMES)),
            logging_config=None,
            request_max_body_size=100_000,
        )
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", self.app)), base_url="http://test")

    async def ask(self, verb: str, path: str, body: object = None, *, key: str = KEY, **more: str) -> httpx.Response:
        """Send a request, its body as JSON unless it is bytes."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"X-API-Key": key} if key else {}
        path = path if path.startswith("/api") else f"{BASE}{path}"
        return await self.http.request(verb, path, content=content, headers=headers | more)

    async def done(self, verb: str, path: str, body: object = None, *, key: str = KEY) -> Any:  # noqa: ANN401 - as the answer has it
        """Send a request that succeeds, and return what came back."""
        answer = await self.ask(verb, path, body, key=key)
        assert answer.is_success, answer.text
        assert "no-store" == answer.headers.get("cache-control", "no-store")
        return answer.json() if answer.content else None

    async def key(self, *scopes: str, organization: str = "acme", **more: object) -> str:
        """Return a new key of an organization."""
        made = await self.done("POST", f"/{organization}/keys", {"scopes": scopes or list(Scope), **more})
        return str(made["key"])

    async def refused(
        self, status: int, verb: str, path: str, body: object = None, *, key: str = KEY, **more: str
    ) -> str:
        """Send a request that is refused, and return why."""
        answer = await self.ask(verb, path, body, key=key, **more)
        assert status == answer.status_code, answer.text
        problem = answer.json()
        assert "application/problem+json" == answer.headers["content-type"]
        assert ("about:blank", status) == (problem["type"], problem["status"])
        assert {"type", "title", "status", "detail"} == problem.keys()
        assert ("retry-after" in answer.headers) is (status in (429, 503))
        detail: str = problem["detail"]
        return detail


@pytest.fixture
async def back() -> AsyncIterator[Back]:
    """A back end with the operator's key, and the organization acme."""
    back = Back()
    async with back.stage.running(), back.http:
        await back.done("POST", "", {"id": "acme", "name": "Acme"})
        yield back
    assert [] == back.stage.observer.failures


# Organizations.


async def test_organization_is_made_shown_changed_and_removed(back: Back) -> None:
    """What is left out of a change stays; what is removed is gone."""
    answer = await back.ask("POST", "", {"id": "other", "max_channels": 3})
    assert (201, f"{BASE}/other") == (answer.status_code, answer.headers["location"])
    assert ACME | {"id": "other", "name": "", "max_channels": 3} == answer.json()
    assert ACME | {"figures": FIGURES} == await back.done("GET", "/acme")
    back.stage.clock.advance(1.5)
    changed = ACME | {"publications_per_minute": 60, "updated_at": "2027-01-15T08:00:01.500Z"}
    assert changed == await back.done("PATCH", "/acme", {"publications_per_minute": 60})
    assert changed | {"name": ""} == await back.done("PATCH", "/acme", {"name": ""})
    answer = await back.ask("DELETE", "/acme")
    assert (204, b"") == (answer.status_code, answer.content)
    assert "there is no organization with this id" == await back.refused(404, "GET", "/acme")
    assert "there is no organization with this id" == await back.refused(404, "DELETE", "/acme")
    assert ["other"] == [item["id"] for item in (await back.done("GET", ""))["items"]]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, b"{", id="not JSON"),
        pytest.param(400, b"", id="empty"),
        pytest.param(400, b'{"id":"\xff"}', id="not UTF-8"),
        pytest.param(400, b'{"id":"new","name":"\\ud800"}', id="half a surrogate pair"),
        pytest.param(422, [], id="a list"),
        pytest.param(422, {}, id="nothing"),
        pytest.param(422, {"id": ""}, id="empty id"),
        pytest.param(422, {"id": "Acme"}, id="capital"),
        pytest.param(422, {"id": "-a"}, id="begins with a dash"),
        pytest.param(422, {"id": "a" * 64}, id="too long"),
        pytest.param(422, {"id": "a:b"}, id="colon"),
        pytest.param(422, {"id": "new\n"}, id="line break"),
        pytest.param(422, {"id": "new", "name": "a\u0000"}, id="NUL"),
        pytest.param(422, {"id": "new", "name": "x\n"}, id="line break in the name"),
        pytest.param(422, {"id": "new", "name": "x" * 201}, id="long name"),
        pytest.param(422, {"id": "new", "max_channels": -1}, id="negative"),
        pytest.param(422, {"id": "new", "max_channels": 2**31}, id="huge"),
        pytest.param(422, {"id": "new", "max_channels": 1.5}, id="fraction"),
        pytest.param(422, {"id": "new", "max_channels": None}, id="null"),
        pytest.param(422, {"id": "new", "quota": 1}, id="unknown field"),
        pytest.param(409, {"id": "acme"}, id="there already"),
    ],
)
async def test_organization_that_cannot_be_made(back: Back, status: int, body: object) -> None:
    """Nothing of it is written."""
    await back.refused(status, "POST", "", body)

    assert ["acme"] == list(back.stage.tables.organizations)


async def test_longest_id_is_fine(back: Back) -> None:
    """Its channels too, for the server API and for the members."""
    name = "0" + "-" * 62
    await back.done("POST", "", {"id": name})

    assert name == (await back.done("GET", f"/{name}"))["id"]
    assert f"org:{name}" == (await back.done("POST", f"/{name}/broadcast", {"data": 1}))["channel"]


@pytest.mark.parametrize("path", ["/Acme", "/-", "/a%20b", "/" + "a" * 64, "/acme%0A", "/%FF"])
async def test_id_that_cannot_be_one_is_refused(back: Back, path: str) -> None:
    """As bad input, and not as a name that is free."""
    for verb, rest in (("GET", ""), ("DELETE", ""), ("GET", "/members"), ("GET", "/keys"), ("GET", "/figures")):
        await back.refused(422, verb, path + rest)


# Pages.


async def test_organizations_are_paged_by_id(back: Back) -> None:
    """Every one once, the last page without a cursor, and by their beginning on request."""
    for number in range(6, 0, -1):
        await back.done("POST", "", {"id": f"b{number}"})
    seen: list[str] = []
    query = "?limit=3"
    while query:
        page = await back.done("GET", query)
        seen += [item["id"] for item in page["items"]]
        query = f"?limit=3&cursor={page['next_cursor']}" if page["next_cursor"] else ""

    assert ["acme", "b1", "b2", "b3", "b4", "b5", "b6"] == seen
    page = await back.done("GET", "?prefix=b&limit=6")
    assert (6, None) == (len(page["items"]), page["next_cursor"])
    assert [] == (await back.done("GET", f"?cursor={encode_cursor('zzz')}"))["items"]


async def test_members_are_paged_by_user_and_picked_by_role(back: Back) -> None:
    """Users are any text, and cursors hold them all."""
    users = ["10", "9", "a|b", "mail@example.org", "ö", "🚀"]
    for index, user in enumerate(users):
        await back.done("POST", "/acme/members", {"user": user, "role": "viewer" if index % 2 else "owner"})
    seen: list[str] = []
    query = "?limit=2"
    while query:
        page = await back.done("GET", f"/acme/members{query}")
        seen += [item["user"] for item in page["items"]]
        query = f"?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else ""

    assert users == seen
    viewers = await back.done("GET", "/acme/members?role=viewer&limit=2")
    assert ["9", "mail@example.org"] == [item["user"] for item in viewers["items"]]
    viewers = await back.done("GET", f"/acme/members?role=viewer&limit=2&cursor={viewers['next_cursor']}")
    assert (["🚀"], None) == ([item["user"] for item in viewers["items"]], viewers["next_cursor"])


async def test_keys_are_paged_and_picked_by_state(back: Back) -> None:
    """Revoked and expired ones stay in sight."""
    await back.key("publish")
    await back.key("publish", expires_at="2027-01-15T08:00:10Z")
    await back.key("publish")
    first, *_ = (await back.done("GET", "/acme/keys"))["items"]
    await back.done("DELETE", f"/acme/keys/{first['id']}")
    back.stage.clock.advance(10)

    page = await back.done("GET", "/acme/keys?limit=2")
    assert ["revoked", "expired"] == [item["state"] for item in page["items"]]
    page = await back.done("GET", f"/acme/keys?limit=2&cursor={page['next_cursor']}")
    assert (["active"], None) == ([item["state"] for item in page["items"]], page["next_cursor"])
    for state in ("active", "expired", "revoked"):
        page = await back.done("GET", f"/acme/keys?state={state}")
        assert [state] == [item["state"] for item in page["items"]]


@pytest.mark.parametrize("path", ["", "/acme/members", "/acme/keys"])
@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=-1", "limit=1001", "limit=x", "limit=", "limit=1.5", "limit=1&limit=1"),
        *(
            "cursor=x",
            "cursor=%00",
            "cursor=%C3%B6",
            "cursor=YWNtZQ",
            "cursor=MSA",
            "cursor=MSBhY21l%3D",
            "cursor=MSD_",
        ),
        *("unknown=1", "role=king", "state=gone", "prefix=%25", "prefix=" + "a" * 64, "&&", "limit", "%"),
    ],
)
async def test_query_that_makes_no_sense_is_refused(back: Back, path: str, query: str) -> None:
    """Cursors that nobody handed out among them."""
    await back.refused(422, "GET", f"{path}?{query}")


# Members.


async def test_member_comes_changes_and_goes(back: Back) -> None:
    """With a role of member unless another is named."""
    ada = {"user": "ada", "role": "member", "created_at": WHEN}

    assert ada == await back.done("POST", "/acme/members", {"user": "ada"})
    assert ada == await back.done("GET", "/acme/members/ada")
    assert "this user is a member already" == await back.refused(409, "POST", "/acme/members", {"user": "ada"})
    assert ada | {"role": "viewer"} == await back.done("PATCH", "/acme/members/ada", {"role": "viewer"})
    assert 1 == (await back.done("GET", "/acme"))["figures"]["members"]
    await back.done("DELETE", "/acme/members/ada")
    for verb, body in (("GET", None), ("PATCH", {"role": "viewer"}), ("DELETE", None)):
        assert "this user is no member" == await back.refused(404, verb, "/acme/members/ada", body)


@pytest.mark.parametrize("user", ["a b", "a|b", "ö", "🚀", "a@b.c", "a?b", "a#b", "%2e", "...", "a" * 255])
async def test_member_has_any_id(back: Back, user: str) -> None:
    """It is found by it in a URL."""
    from urllib.parse import quote  # noqa: PLC0415 - only where it is needed

    await back.done("POST", "/acme/members", {"user": user})

    assert user == (await back.done("GET", f"/acme/members/{quote(user, safe='')}"))["user"]
    await back.done("DELETE", f"/acme/members/{quote(user, safe='')}")


@pytest.mark.parametrize(
    "body",
    [
        *({"user": user} for user in ("", "a" * 256, "a/b", "a\n", "\u0000", "a\u007f", ".", "..", 42, None)),
        {"user": "a", "role": "king"},
        {"user": "a", "role": None},
        {"user": "a", "name": "A"},
        {},
    ],
)
async def test_member_that_cannot_be_one(back: Back, body: object) -> None:
    """Nothing of it is written."""
    await back.refused(422, "POST", "/acme/members", body)

    assert {} == back.stage.tables.members["acme"]


# Keys.


async def test_key_is_shown_once(back: Back) -> None:
    """Later only what tells it from others, and what is kept opens nothing."""
    made = await back.done("POST", "/acme/keys", {"name": "shop", "scopes": ["publish", "history", "publish"]})
    key = made.pop("key")

    assert {
        "id": "000000000001",
        "name": "shop",
        "scopes": ["history", "publish"],
        "per_minute": 600,
        "last_four": key[-4:],
        "state": "active",
        "created_at": WHEN,
        "expires_at": None,
        "revoked_at": None,
    } == made
    assert made == await back.done("GET", f"/acme/keys/{made['id']}")
    assert {"items": [made], "next_cursor": None} == await back.done("GET", "/acme/keys")
    (kept,) = back.stage.tables.keys.values()
    assert 32 == len(kept.digest)
    assert key.split("_")[2][:-4].encode() not in repr(kept).encode()
    assert key.startswith(f"sw_{made['id']}_")


async def test_revoked_key_is_told_so(back: Back) -> None:
    """At once, and in every place that takes keys."""
    key = await back.key("members:read", "publish")
    await back.done("GET", "/acme/members", key=key)
    await back.done("DELETE", "/acme/keys/000000000001")
    await back.done("DELETE", "/acme/keys/000000000001")

    assert "the API key was revoked" == await back.refused(401, "GET", "/acme/members", key=key)
    assert "the API key was revoked" == await back.refused(401, "POST", "/api/v1/tokens", {"user": "a"}, key=key)
    answer = await back.ask("POST", "/api/publish", {"channel": "org:acme", "data": 1}, key=key)
    assert (401, 101) == (answer.status_code, answer.json()["code"])
    assert "apikey" == answer.headers["www-authenticate"]
    assert "this organization has no key with this id" == await back.refused(404, "DELETE", "/acme/keys/nope")
    assert "this organization has no key with this id" == await back.refused(404, "GET", "/acme/keys/nope")


async def test_key_that_is_used_too_often_waits(back: Back) -> None:
    """In every place that takes keys, and is told for how long."""
    key = await back.key("members:read", "publish", per_minute=1)
    await back.done("GET", "/acme/members", key=key)
    back.stage.clock.advance(20)

    answer = await back.ask("GET", "/acme/members", key=key)
    assert (429, "40") == (answer.status_code, answer.headers["retry-after"])
    answer = await back.ask("POST", "/api/publish", {"channel": "org:acme", "data": 1}, key=key)
    assert (429, "40", 111) == (answer.status_code, answer.headers["retry-after"], answer.json()["code"])
    back.stage.clock.advance(40)
    await back.done("GET", "/acme/members", key=key)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"scopes": ["publish"], "per_minute": -1},
        {"scopes": ["publish"], "expires_at": "2027-01-15T08:00:00Z"},
        {"scopes": ["publish"], "expires_at": "2027-01-16T08:00:00"},
        {"scopes": ["publish"], "expires_at": "9999-12-31T23:59:59-23:59"},
        {"scopes": ["publish"], "name": "\u0007"},
        {"scopes": ["publish"], "digest": "x"},
    ],
)
async def test_key_that_cannot_be_made(back: Back, body: object) -> None:
    """Nothing of it is written."""
    await back.refused(422, "POST", "/acme/keys", body)

    assert {} == back.stage.tables.keys


# Broadcast.


async def test_broadcast_reaches_members(back: Back) -> None:
    """In the organization's channel, or in a room."""
    await back.done("POST", "/acme/members", {"user": "ada", "role": "viewer"})
    ada = back.stage.subscribed("ada", "org:acme")
    ada.ask("subscribe", channel="org:acme:room:1")
    ada.pushes()

    everybody = await back.done("POST", "/acme/broadcast", {"data": {"n": 1}, "tags": {"k": "v"}})
    room = await back.done("POST", "/acme/broadcast", {"data": 2, "room": "room:1", "idempotency_key": "x"})
    again = await back.done("POST", "/acme/broadcast", {"data": 3, "room": "room:1", "idempotency_key": "x"})

    assert ("org:acme", 1) == (everybody["channel"], everybody["offset"])
    assert ("org:acme:room:1", 1, room) == (room["channel"], room["offset"], again)
    pushed = {push["channel"]: push["pub"]["data"] for push in ada.pushes()}
    assert {"org:acme": {"n": 1}, "org:acme:room:1": 2} == pushed


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {}),
        (422, {"data": 1, "room": "a b"}),
        (422, {"data": 1, "room": "ö"}),
        (422, {"data": 1, "room": "x" * 255}),
        (422, {"data": 1, "channel": "chat:x"}),
        (422, {"data": 1, "idempotency_key": "x" * 256}),
        (422, {"data": "x" * 65_537}),
        (400, b'{"data":'),
    ],
)
async def test_broadcast_that_makes_no_sense(back: Back, status: int, body: object) -> None:
    """Nothing is published."""
    await back.refused(status, "POST", "/acme/broadcast", body)

    assert 0 == (await back.done("GET", "/acme/figures"))["publications_last_minute"]


async def test_broadcast_of_a_quota_waits(back: Back) -> None:
    """With the time after which there is room again."""
    await back.done("PATCH", "/acme", {"publications_per_minute": 1})
    await back.done("POST", "/acme/broadcast", {"data": 1})
    back.stage.clock.advance(45)

    answer = await back.ask("POST", "/acme/broadcast", {"data": 2})
    assert (429, "15") == (answer.status_code, answer.headers["retry-after"])
    answer = await back.ask(
        "POST", "/api/publish", {"channel": "org:acme", "data": 1}, **{"X-Centrifugo-Error-Mode": "transport"}
    )
    assert (429, 111) == (answer.status_code, answer.json()["code"])
    back.stage.clock.advance(15)
    await back.done("POST", "/acme/broadcast", {"data": 2})
    assert "there is no organization with this id" == await back.refused(404, "POST", "/ghost/broadcast", {"data": 1})


# Keys of other places, and places without keys.


@pytest.mark.parametrize("path", ["", "/acme", "/acme/members", "/acme/keys", "/api/v1/tokens"])
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no API key"),
        ({"X-API-Key": "wrong"}, "wrong API key"),
        ({"X-API-Key": "sw_k_" + "x" * 47}, "wrong API key"),
        ({"Authorization": f"Bearer {KEY}"}, "no API key"),
        ({"X-API-Key": KEY, "Authorization": f"apikey {KEY}"}, "more than one"),
    ],
)
async def test_stranger_is_let_in_nowhere(back: Back, path: str, headers: dict[str, str], reason: str) -> None:
    """Whatever is in the body."""
    verb = "POST" if path.endswith("tokens") else "GET"

    assert reason in await back.refused(401, verb, path, b"{", key="", **headers)
    assert "in the URL" in await back.refused(401, verb, f"{path}?api_key={KEY}", b"{")


async def test_key_of_an_organization_finds_nothing_out_about_others(back: Back) -> None:
    """Whether they are there or not, and whatever is sent."""
    await back.done("POST", "", {"id": "other"})
    key = await back.key()

    details = {
        await back.refused(403, verb, f"/{name}{rest}", b"{", key=key)
        for name in ("other", "ghost")
        for verb, rest in (
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("GET", "/figures"),
            ("GET", "/members"),
            ("POST", "/members"),
            ("GET", "/members/x"),
            ("PATCH", "/members/x"),
            ("DELETE", "/members/x"),
            ("GET", "/keys"),
            ("POST", "/keys"),
            ("POST", "/broadcast"),
        )
    }
    assert {"this key is not for that"} == details


# Trouble.


@pytest.mark.parametrize(
    ("status", "failure", "words"),
    [
        (503, DatabaseUnavailable("the pool is empty"), "nothing was changed: the pool is empty"),
        (503, OutcomeUnknown("lost"), "it is not known whether this was done"),
        (503, Overtaken(), "nothing was changed"),
        (409, RowsRefused("a row"), "nothing was changed: a row"),
    ],
)
async def test_database_trouble_is_told(back: Back, status: int, failure: Exception, words: str) -> None:
    """And whether it is worth to look what became of it."""
    back.stage.tables.failures = [failure]

    assert (await back.refused(status, "POST", "/acme/members", {"user": "ada"})).startswith(words)
    await back.stage.idle()
    kept = list(back.stage.tables.members["acme"])
    assert kept == [item["user"] for item in (await back.done("GET", "/acme/members"))["items"]]


async def test_keys_that_cannot_be_read_are_neither_right_nor_wrong(back: Back) -> None:
    """Who has one is asked to come again; the operator's works on."""
    key = await back.key("publish")
    back.stage.organizations.reset()
    back.stage.tables.failures = [DatabaseUnavailable("down"), DatabaseUnavailable("down")]

    await back.refused(503, "GET", "/acme", key=key)
    answer = await back.ask("POST", "/api/publish", {"channel": "org:acme", "data": 1}, key=key)
    assert (503, 100) == (answer.status_code, answer.json()["code"])
    await back.done("GET", "/acme")


async def test_nothing_is_done_while_another_instance_serves(back: Back) -> None:
    """Neither read nor written."""
    back.stage.serves = False
    reads = len(back.stage.tables.reads)

    for verb, path in (("GET", ""), ("GET", "/acme"), ("POST", "/acme/members"), ("POST", "/api/v1/tokens")):
        assert "this instance does not serve now" == await back.refused(503, verb, path, b"{")
    assert reads == len(back.stage.tables.reads)


async def test_without_a_database_there_are_none() -> None:
    """Which is said, and not that there is no such organization."""
    back = Back()
    object.__setattr__(back.stage.context, "organizations", Organizations())
    app = Litestar(
        [create_organizations_router(back.stage.instance, Api(key=Secret(KEY)), SequentialIds())], logging_config=None
    )
    back.http = httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", app)), base_url="http://test")
    async with back.http:
        for verb, path in (("GET", ""), ("GET", "/acme"), ("POST", "")):
            assert "kept in a database" in await back.refused(501, verb, path)


# Tokens.


def verifier(back: Back, **keys: str) -> TokenVerifier:
    """Return what believes the tokens of the service."""
    return TokenVerifier(
        TokenKeys(hmac_secret=SECRET, audience=keys.get("audience"), issuer=keys.get("issuer")), back.stage.clock.wall
    )


async def test_operator_buys_tokens_for_anybody(back: Back) -> None:
    """A connection token, or with a channel a subscription token."""
    made = await back.done(
        "POST", "/api/v1/tokens", {"user": "42", "channels": ["chat:x"], "info": {"name": "Ada"}, "seconds": 60}
    )
    claims: Any = verifier(back).connection(made["token"])
    assert ("connection", 1_800_000_060) == (made["type"], made["expires_at"])
    assert ("42", {"name": "Ada"}, None, None) == (
        claims.user,
        json.loads(claims.info),
        claims.namespaces,
        claims.organization,
    )
    assert ["chat:x"] == [item.channel for item in claims.channels]
    assert 1_800_000_060 == claims.expires_at

    made = await back.done("POST", "/api/v1/tokens", {"user": "42", "channel": "$private", "client": "c1"})
    claims = verifier(back).subscription(made["token"])
    assert ("subscription", 1_800_003_600) == (made["type"], made["expires_at"])
    assert ("42", "$private", "c1") == (claims.user, claims.channel, claims.client)

    made = await back.done("POST", "/api/v1/tokens", {"user": "42", "organization": "acme", "channels": ["org:acme"]})
    assert "acme" == verifier(back).connection(made["token"]).organization  # type: ignore[union-attr]  # a fault would fail the line


async def test_organization_buys_tokens_for_its_members_and_channels(back: Back) -> None:
    """Which open nothing else, whoever the user is elsewhere."""
    await back.done("POST", "/acme/members", {"user": "ada"})
    key = await back.key("tokens")

    made = await back.done("POST", "/api/v1/tokens", {"user": "ada", "channels": ["org:acme:room"]}, key=key)
    claims: Any = verifier(back).connection(made["token"])
    assert ("ada", "acme", "acme") == (claims.user, claims.organization, made["organization"])
    made = await back.done("POST", "/api/v1/tokens", {"user": "ada", "channel": "org:acme"}, key=key)
    assert "org:acme" == verifier(back).subscription(made["token"]).channel  # type: ignore[union-attr]  # a fault would fail the line

    for body in (
        {"user": "bob"},
        {"user": "ada", "channel": "chat:x"},
        {"user": "ada", "channel": "org:other"},
        {"user": "ada", "channel": "org:acmex"},
        {"user": "ada", "channel": "$org:acme"},
        {"user": "ada", "channel": "nowhere:x"},
        {"user": "ada", "channel": "a b"},
        {"user": "ada", "channels": ["org:acme", "chat:x"]},
        {"user": "ada", "organization": "other"},
    ):
        text = "this key makes tokens for the members and the channels of its organization alone"
        assert text == await back.refused(403, "POST", "/api/v1/tokens", body, key=key), body
    other = await back.key("publish")
    await back.refused(403, "POST", "/api/v1/tokens", {"user": "ada"}, key=other)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user": ""},
        {"user": "a" * 256},
        {"user": "a", "seconds": 0},
        {"user": "a", "seconds": -1},
        {"user": "a", "seconds": 86_401},
        {"user": "a", "seconds": 1e300},
        {"user": "a", "exp": 1},
        {"user": "a", "channel": "nowhere:x"},
        {"user": "a", "channel": "a b"},
        {"user": "a", "channel": "x", "channels": ["y"]},
        {"user": "a", "channel": "x", "organization": "acme"},
        {"user": "a", "client": "c"},
        {"user": "a", "organization": "Acme"},
        {"user": "a", "organization": "acme", "channels": ["chat:x"]},
        {"user": "a", "channels": ["x"] * 129},
        {"user": "a", "info": "x" * 40_000},
    ],
)
async def test_token_that_cannot_be_made(back: Back, body: object) -> None:
    """Not even by the operator."""
    await back.refused(422, "POST", "/api/v1/tokens", body)


async def test_token_says_what_is_checked() -> None:
    """Audience and issuer of the settings, and no longer life than they allow."""
    other = Back(audience="slackwater", issuer="us", max_seconds=100.0)
    async with other.http:
        made = await other.done("POST", "/api/v1/tokens", {"user": "42"})

    assert 1_800_000_100 == made["expires_at"]
    claims: Any = verifier(other, audience="slackwater", issuer="us").connection(made["token"])
    assert "42" == claims.user


async def test_token_needs_a_secret_to_sign_with() -> None:
    """Public keys verify, and that is all."""
    back = Back(secret=None)
    async with back.http:
        detail = await back.refused(501, "POST", "/api/v1/tokens", {"user": "42"})

    assert "this service cannot sign tokens: set TOKEN_HMAC_SECRET" == detail


# The document.


async def test_openapi_document_is_valid_and_its_examples_work(back: Back) -> None:
    """What the document shows can be sent as it stands."""
    document = (await back.http.get("/schema/openapi.json")).json()
    validate(document)
    await back.done("POST", "/acme/members", {"user": "43"})
    paths = {path: item for path, item in document["paths"].items() if path.startswith("/api/v1")}

    assert 9 == len(paths)
    for path, item in paths.items():
        for verb in item.keys() & {"get", "post", "patch", "delete"}:
            operation = item[verb]
            assert [{"serverApiKey": []}] == operation["security"]
            (status, *_) = sorted(operation["responses"])
            if verb not in ("post", "patch"):
                continue
            example = operation["requestBody"]["content"]["application/json"]["examples"]["example"]["value"]
            if example.get("id") == "acme":
                example["id"] = "new"
            real = path.replace("{organization}", "acme").replace("{user}", "43").replace("{key}", "x")
            answer = await back.ask(verb.upper(), real, example)
            assert int(status) == answer.status_code, (path, answer.text)
            shown = operation["responses"][status]["content"]["application/json"]["examples"]
            (shown,) = shown.values()
            # The document leaves out what is null.
            sent = {name for name, value in answer.json().items() if value is not None}
            assert sent == shown["value"].keys(), path
