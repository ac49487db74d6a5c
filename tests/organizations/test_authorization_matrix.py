"""Who may do what in the channels of organizations: one table, asked over real HTTP and real WebSockets.

The table is written out, not computed: rows are users and keys, columns are channels and
methods. What is not in it is forbidden.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.process import API_KEY, ServiceProcess
from tests.support.service_api import local_http

# WebSocket: users and channels.

USERS: Final[dict[str, dict[str, str]]] = {
    "owner": {"acme": "owner"},
    "admin": {"acme": "admin"},
    "member": {"acme": "member"},
    "viewer": {"acme": "viewer"},
    "both": {"acme": "viewer", "other": "member"},
    "elsewhere": {"other": "owner"},
    "removed": {},
    "stranger": {},
    "": {},
}

CHANNELS: Final = (
    "org:acme",
    "org:acme:room",
    "org:acme:room:#member,stranger",
    "org:other",
    "org:other:room",
    "org:ghost",
    "org:ghost:room",
    "org:acme:",
    "org:acme#42",
    "org:ACME",
    "org:acmex",
    "$org:acme",
    "chat:x",
)

FULL: Final = {"subscribe", "publish", "history", "presence", "presence_stats", "by token", "by connect", "by server"}
LISTEN: Final = FULL - {"publish"}
# A room for users in its name is one for members too; a token opens it for other members, never for others.
INVITED: Final = {"by token", "by connect", "by server"}
NOTHING: Final[set[str]] = set()
# The regular channel beside: what is forbidden here is so for the reasons that it has everywhere.
ANYBODY: Final = FULL

ALLOWED: Final[dict[tuple[str, str], set[str]]] = {
    **{(user, channel): FULL for user in ("owner", "admin", "member") for channel in ("org:acme", "org:acme:room")},
    **{(user, channel): LISTEN for user in ("viewer", "both") for channel in ("org:acme", "org:acme:room")},
    **{(user, channel): FULL for user in ("both", "elsewhere") for channel in ("org:other", "org:other:room")},
    ("member", "org:acme:room:#member,stranger"): FULL,
    **{(user, "org:acme:room:#member,stranger"): INVITED for user in ("owner", "admin", "viewer", "both")},
    **{(user, "chat:x"): ANYBODY for user in USERS if user},
}

METHODS: Final = (
    "subscribe",
    "publish",
    "history",
    "presence",
    "presence_stats",
    "by token",
    "by connect",
    "by server",
)

# HTTP: keys and requests.

SCOPES: Final = (
    "publish",
    "history",
    "history:remove",
    "presence",
    "channels",
    "connections",
    "organization:read",
    "members:read",
    "members:write",
    "tokens",
)


@dataclass(frozen=True)
class Ask:
    """A request that can be allowed or forbidden.

    Attributes:
        scope: That a key of the organization needs; ``operator`` for the operator alone.
        of: Organization that it is about; ``*`` for the caller's own, empty for none, and then it is the operator's.
        fine: Statuses and codes that mean that it was allowed, besides success.
    """

    method: str
    scope: str
    of: str
    body: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    fine: tuple[int, ...] = ()


def _server_api() -> Iterator[Ask]:
    """Yield requests of the server API, each for the own organization, another one, one that is none, and beside."""
    for of, channel, user in (
        ("acme", "org:acme", "member"),
        ("acme", "org:acme:room", "viewer"),
        ("other", "org:other", "elsewhere"),
        ("other", "org:other:room", "elsewhere"),
        ("ghost", "org:ghost", "stranger"),
        ("", "chat:x", "stranger"),
        ("", "$org:acme", "member"),
        ("", "org:acmex:room", "member"),
    ):
        # A channel that is nobody's, or of an organization that there is not, is unknown to the operator.
        unknown = (102,) if of not in ("acme", "other") and "org" in channel else ()
        closed = (103,) if of not in ("acme", "other") and "org" in channel else ()
        yield Ask("publish", "publish", of, {"channel": channel, "data": 1}, fine=unknown)
        yield Ask("history", "history", of, {"channel": channel, "limit": 1})
        yield Ask("history_remove", "history:remove", of, {"channel": channel})
        yield Ask("presence", "presence", of, {"channel": channel})
        yield Ask("presence_stats", "presence", of, {"channel": channel})
        yield Ask("subscribe", "connections", of, {"channel": channel, "user": user}, fine=closed)
        yield Ask("unsubscribe", "connections", of, {"channel": channel, "user": user})
    for user, of in (("member", "acme"), ("viewer", "acme"), ("elsewhere", "other"), ("stranger", ""), ("removed", "")):
        yield Ask("disconnect", "connections", of, {"user": user, "client": "none"})
        yield Ask("refresh", "connections", of, {"user": user, "client": "none"})
        # The channel of one organization, but whose user?
        both = of if of == "acme" else ""
        yield Ask("subscribe", "connections", both, {"user": user, "client": "none", "channel": "org:acme"})
        yield Ask("unsubscribe", "connections", both, {"user": user, "client": "none", "channel": "org:acme"})
    yield Ask("disconnect", "operator", "", {"client": "none"})
    yield Ask("channels", "channels", "*")
    yield Ask("info", "operator", "")
    yield Ask("rpc", "operator", "", {"method": "none"}, fine=(104,))


def _v1() -> Iterator[Ask]:
    """Yield requests of /api/v1 that can be made again and again."""
    base = "/api/v1/organizations"
    yield Ask("GET", "operator", "", path=base)
    yield Ask("POST", "operator", "", {"id": "acme"}, path=base, fine=(409,))
    for of in ("acme", "other", "ghost"):
        fine = (404,) if of == "ghost" else ()
        path = f"{base}/{of}"
        yield Ask("GET", "organization:read", of, path=path, fine=fine)
        yield Ask("GET", "organization:read", of, path=f"{path}/figures", fine=fine)
        yield Ask("PATCH", "operator", of, {}, path=path, fine=fine)
        yield Ask("DELETE", "operator", of, path=f"{path}?no", fine=(404, 422))
        yield Ask("GET", "members:read", of, path=f"{path}/members", fine=fine)
        yield Ask("GET", "members:read", of, path=f"{path}/members/nobody", fine=(404,))
        yield Ask("POST", "members:write", of, {"user": ""}, path=f"{path}/members", fine=(404, 422))
        yield Ask("PATCH", "members:write", of, {"role": "viewer"}, path=f"{path}/members/nobody", fine=(404,))
        yield Ask("DELETE", "members:write", of, path=f"{path}/members/nobody", fine=(404,))
        yield Ask("GET", "operator", of, path=f"{path}/keys", fine=fine)
        yield Ask("POST", "operator", of, {"scopes": []}, path=f"{path}/keys", fine=(404, 422))
        yield Ask("GET", "operator", of, path=f"{path}/keys/none", fine=(404,))
        yield Ask("DELETE", "operator", of, path=f"{path}/keys/none", fine=(404,))
        yield Ask("POST", "publish", of, {"data": 1}, path=f"{path}/broadcast", fine=fine)
        yield Ask("POST", "publish", of, {"data": 1, "room": "room"}, path=f"{path}/broadcast", fine=fine)
    tokens = "/api/v1/tokens"
    for user, of in (("member", "acme"), ("viewer", "acme"), ("elsewhere", "other"), ("stranger", ""), ("removed", "")):
        yield Ask("POST", "tokens", of, {"user": user}, path=tokens)
        yield Ask("POST", "tokens", of if of == "acme" else "", {"user": user, "channel": "org:acme"}, path=tokens)
    for channel, of in (
        ("org:acme:room", "acme"),
        ("org:other", ""),
        ("chat:x", ""),
        ("$org:acme", ""),
        ("org:ghost", ""),
    ):
        yield Ask("POST", "tokens", of, {"user": "viewer", "channel": channel}, path=tokens)
        yield Ask("POST", "tokens", of, {"user": "viewer", "channels": [channel]}, path=tokens)


@dataclass(frozen=True)
class Key:
    """A key as a back end has it.

    Attributes:
        of: Organization; None for the operator's, empty for one that opens nothing.
    """

    name: str
    text: str
    of: str | None
    scopes: frozenset[str] = frozenset()

    def may(self, ask: Ask) -> bool:
        """Whether the table allows it."""
        return self.of is None or (ask.of in (self.of, "*") and ask.scope in self.scopes)


class Socket:
    """A WebSocket of the client protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = count(1)
        self.pushes: list[dict[str, Any]] = []
        self.last: dict[str, Any] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, service: ServiceProcess, user: str, **claims: Any) -> AsyncIterator[Socket]:  # noqa: ANN401 - of JSON
        """Open one and connect."""
        async with connect(service.ws_url, proxy=None) as socket:
            self = cls(socket)
            await self.ask("connect", **({"token": service.token(user, **claims)} if user or claims else {}))
            yield self

    async def ask(self, method: str, /, **params: object) -> dict[str, Any]:
        """Send a command and return its reply; pushes that come before it are kept."""
        number = next(self._ids)
        await self._socket.send(json.dumps({"id": number, method: params}))
        while self.last.get("id") != number:
            await self._take_in()
        return self.last

    async def next_push(self, kind: str) -> dict[str, Any]:
        """Return the next push of a kind; others are passed over."""
        while True:
            while self.pushes:
                push = self.pushes.pop(0)
                if kind in push:
                    return push
            await self._take_in()

    async def _take_in(self) -> None:
        for line in str(await self._socket.recv()).split("\n"):
            message = json.loads(line)
            if "push" in message:
                self.pushes.append(message["push"])
            elif message:
                self.last = message


class Place:
    """A service with organizations, and who wants something of it."""

    def __init__(self, service: ServiceProcess, http: httpx.AsyncClient) -> None:
        self.service = service
        self.http = http

    async def v1(self, verb: str, path: str, body: object = None, *, key: str = API_KEY) -> httpx.Response:
        """Ask /api/v1."""
        return await self.http.request(verb, f"{self.service.url}{path}", json=body, headers={"X-API-Key": key})

    async def done(self, verb: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - as the answer has it
        """Ask for something about organizations as the operator, and get it."""
        answer = await self.v1(verb, f"/api/v1/organizations{path}", body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def api(self, method: str, body: object, *, key: str = API_KEY) -> tuple[int, dict[str, Any]]:
        """Call a method of the server API."""
        answer = await self.http.post(f"{self.service.url}/api/{method}", json=body, headers={"X-API-Key": key})
        return answer.status_code, answer.json()

    async def furnish(self) -> None:
        """Make organizations and members."""
        for name in ("acme", "other"):
            await self.done("POST", "", {"id": name})
        for user, roles in USERS.items():
            for name, role in roles.items():
                await self.done("POST", f"/{name}/members", {"user": user, "role": role})
        await self.done("POST", "/acme/members", {"user": "removed", "role": "owner"})
        await self.done("DELETE", "/acme/members/removed")

    async def keys(self) -> list[Key]:
        """Make one key of every kind."""

        async def make(name: str, of: str, *scopes: str) -> Key:
            body = {"name": name, "scopes": scopes, "per_minute": 0}
            made = await self.done("POST", f"/{of}/keys", body)
            return Key(name, made["key"], of, frozenset(scopes))

        revoked = await make("revoked", "acme", *SCOPES)
        await self.done("DELETE", f"/acme/keys/{revoked.text.split('_')[1]}")
        deleted = await self.done("POST", "", {"id": "deleted"})
        of_deleted = await make("of a deleted organization", "deleted", *SCOPES)
        await self.done("DELETE", f"/{deleted['id']}")
        good = await make("all scopes", "acme", *SCOPES)
        return [
            Key("operator", API_KEY, None),
            good,
            await make("of another organization", "other", *SCOPES),
            *[await make(f"scope {scope}", "acme", scope) for scope in SCOPES],
            Key("revoked", revoked.text, ""),
            Key("of a deleted organization", of_deleted.text, ""),
            Key("with another secret", good.text[:-8] + "xxxxxxxx", ""),
            Key("unknown", "sw_0123456789ab_" + "x" * 47, ""),
        ]


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    """A service on each database, furnished."""
    environ = {
        "DATABASE_URL": database_url,
        "WS_ANONYMOUS": "true",
        "WS_MESSAGES_PER_MINUTE": "0",
        "WS_COMMANDS_PER_MINUTE": "0",
    }
    async with ServiceProcess.start(environ) as service, local_http() as http:
        place = Place(service, http)
        await place.furnish()
        yield place


@pytest.mark.e2e
async def test_matrix(place: Place) -> None:
    """Users by channels over WebSockets, keys by requests over HTTP, on one service."""
    await _users_and_channels(place)
    await _keys_and_requests(place)


@pytest.mark.e2e
async def test_what_changes_reaches_everybody_at_once(place: Place) -> None:
    """What keys see and open, a member that is removed, quotas, and an organization that is deleted."""
    await _what_a_key_sees_and_opens(place)
    await _removed_member(place)
    await _quotas(place)
    await _deleted_organization(place)


async def _users_and_channels(place: Place) -> None:
    """Try every user, in every channel, in every way in and with every command."""
    found: dict[tuple[str, str], set[str]] = {}
    for user in USERS:
        for channel in CHANNELS:
            found[user, channel] = await _what_works(place, user, channel)

    expected = {(user, channel): ALLOWED.get((user, channel), NOTHING) for user in USERS for channel in CHANNELS}
    assert expected == found


async def _what_works(place: Place, user: str, channel: str) -> set[str]:
    """Try everything with one user in one channel."""
    works: set[str] = set()
    service = place.service
    async with Socket.open(service, user) as socket:
        # Before it is subscribed, and then as far as it gets.
        for method in ("publish", "history", "presence", "presence_stats"):
            reply = await socket.ask(method, channel=channel, **({"data": 1} if method == "publish" else {}))
            assert reply["error"]["code"] in (103, 107), (user, channel, method, reply)
        if "error" not in await socket.ask("subscribe", channel=channel):
            works.add("subscribe")
            for method in ("publish", "history", "presence", "presence_stats"):
                reply = await socket.ask(method, channel=channel, **({"data": 1} if method == "publish" else {}))
                works |= {method} if method in reply else set()
            await socket.ask("unsubscribe", channel=channel)
        token = service.token(user, channel=channel)
        reply = await socket.ask("subscribe", channel=channel, token=token) if user else {"error": {}}
        if "error" not in reply:
            works.add("by token")
            await socket.ask("unsubscribe", channel=channel)
        if user:
            _, answer = await place.api("subscribe", {"user": user, "channel": channel})
            if "result" in answer:
                works |= {"by server"} if any("subscribe" in push for push in await _pushes(socket)) else set()
                await place.api("unsubscribe", {"user": user, "channel": channel})
    if user and "org:acme:" != channel:
        async with Socket.open(service, user, channels=[channel]) as socket:
            works |= {"by connect"} if channel in socket.last["connect"].get("subs", {}) else set()
    return works


async def _pushes(socket: Socket) -> list[dict[str, Any]]:
    """Return what was pushed so far: an answer comes behind it."""
    await socket.ask("unsubscribe", channel="chat:nothing")
    pushes, socket.pushes = socket.pushes, []
    return pushes


async def _keys_and_requests(place: Place) -> None:
    """Try every kind of key, with every method alone and in a batch, and with everything of /api/v1."""
    asks = list(_server_api())
    wrong: list[tuple[str, str, object]] = []
    for key in await place.keys():
        batch = [{ask.method: ask.body} for ask in asks]
        status, answer = await place.api("batch", {"commands": batch}, key=key.text)
        replies = answer.get("replies", [{"error": {"code": status}}] * len(asks))
        for ask, reply in zip(asks, replies, strict=True):
            code = reply.get("error", {}).get("code", 0)
            wrong += _check(key, ask, code, 401 if key.of == "" else 103, "in a batch")
        # One scope alone was tried in the batch, each command for itself.
        for ask in asks if not key.name.startswith("scope ") else ():
            status, answer = await place.api(ask.method, ask.body, key=key.text)
            code = status if status != 200 else answer.get("error", {}).get("code", 0)
            wrong += _check(key, ask, code, 401 if key.of == "" else 103, "alone")
        for ask in _v1():
            sent = None if ask.method in ("GET", "DELETE") else ask.body
            response = await place.v1(ask.method, ask.path, sent, key=key.text)
            code = 0 if response.is_success else response.status_code
            wrong += _check(key, ask, code, 401 if key.of == "" else 403, "over HTTP")

    assert [] == wrong


def _check(key: Key, ask: Ask, code: int, refusal: int, how: str) -> list[tuple[str, str, object]]:
    """Return what is otherwise than the table says."""
    # A method that the operator alone may use is refused with the same code as all others.
    fine = (0, *ask.fine) if key.may(ask) else (refusal,)
    return [] if code in fine else [(key.name, f"{ask} {how}", code)]


async def _what_a_key_sees_and_opens(place: Place) -> None:
    """See that lists hold its own, broadcasts are judged channel by channel, and its tokens open nothing else."""
    operator, acme, other, *_ = await place.keys()
    async with (
        Socket.open(place.service, "both", channels=["org:acme", "org:acme:room", "org:other", "chat:x"]),
        Socket.open(place.service, "elsewhere", channels=["org:other:room"]),
    ):
        for key, expected in (
            (operator, {"org:acme", "org:acme:room", "org:other", "org:other:room", "chat:x"}),
            (acme, {"org:acme", "org:acme:room"}),
            (other, {"org:other", "org:other:room"}),
        ):
            _, answer = await place.api("channels", {}, key=key.text)
            assert expected == {name for name in answer["result"]["channels"] if not name.startswith("#")}
            assert answer["result"]["channels"].keys() >= expected
    names = ["org:acme", "org:other", "chat:x", "org:ghost", "$org:acme", "org:acme:room"]
    _, answer = await place.api("broadcast", {"channels": names, "data": 1}, key=acme.text)
    codes = [item.get("error", {}).get("code", 0) for item in answer["result"]["responses"]]
    assert [0, 103, 103, 103, 103, 0] == codes

    made = (await place.v1("POST", "/api/v1/tokens", {"user": "both"}, key=acme.text)).json()
    async with connect(place.service.ws_url, proxy=None) as raw:
        socket = Socket(raw)
        assert "subs" not in (await socket.ask("connect", token=made["token"]))["connect"]
        for channel, code in (("org:acme", 0), ("org:other", 103), ("chat:x", 103), ("#both", 103)):
            reply = await socket.ask("subscribe", channel=channel)
            assert code == reply.get("error", {}).get("code", 0), channel


async def _removed_member(place: Place) -> None:
    """See that it is unsubscribed with 2000 at once, on every connection, and nobody else."""
    async with (
        Socket.open(place.service, "both", channels=["org:acme:by-token"]) as first,
        Socket.open(place.service, "both") as second,
        Socket.open(place.service, "member") as other,
    ):
        for socket in (first, second, other):
            await socket.ask("subscribe", channel="org:acme")
        await second.ask("subscribe", channel="org:other")
        for socket in (first, second, other):
            await _pushes(socket)
        await place.done("DELETE", "/acme/members/both")

        assert ["org:acme", "org:acme:by-token"] == sorted(_ended(await _pushes(first)))
        assert ["org:acme"] == _ended(await _pushes(second))
        assert [] == _ended(await _pushes(other))
        assert 103 == (await first.ask("subscribe", channel="org:acme"))["error"]["code"]
        assert "publish" in await second.ask("publish", channel="org:other", data=1)
        await place.done("POST", "/acme/broadcast", {"data": "still there"})
        push = await other.next_push("pub")
        assert "still there" == push["pub"]["data"]


async def _deleted_organization(place: Place) -> None:
    """See that everybody is unsubscribed from it, and that it is gone."""
    async with Socket.open(place.service, "owner", channels=["org:acme"]) as socket:
        await place.done("DELETE", "/acme")
        push = await socket.next_push("unsubscribe")
        assert ["org:acme"] == _ended([push])
        assert 103 == (await socket.ask("subscribe", channel="org:acme"))["error"]["code"]
    for verb, path, status in (
        ("GET", "/api/v1/organizations/acme", 404),
        ("GET", "/api/v1/nothing", 404),
        ("PUT", "/api/v1/organizations", 405),
    ):
        answer = await place.v1(verb, path)
        assert (status, status) == (answer.status_code, answer.json()["status"])
        assert "application/problem+json" == answer.headers["content-type"]


async def _quotas(place: Place) -> None:
    """See the refusals of all limits: 106 and 111 over WebSockets, 429 over HTTP; the figures show why."""
    # Publications of the minute before count.
    before = (await place.done("GET", "/acme/figures"))["publications_last_minute"]
    quotas = {"max_connections": 1, "max_channels": 1, "publications_per_minute": before + 2}
    await place.done("PATCH", "/acme", quotas)
    async with Socket.open(place.service, "owner") as first, Socket.open(place.service, "admin") as second:
        assert "subscribe" in await first.ask("subscribe", channel="org:acme")
        assert 106 == (await second.ask("subscribe", channel="org:acme"))["error"]["code"]
        assert 106 == (await first.ask("subscribe", channel="org:acme:room"))["error"]["code"]
        assert "publish" in await first.ask("publish", channel="org:acme", data=1)
        await place.done("POST", "/acme/broadcast", {"data": 2})
        assert 111 == (await first.ask("publish", channel="org:acme", data=3))["error"]["code"]
        answer = await place.v1("POST", "/api/v1/organizations/acme/broadcast", {"data": 4})
        assert (429, True) == (answer.status_code, 1 <= int(answer.headers["retry-after"]) <= 60)
        figures = await place.done("GET", "/acme/figures")
    assert {"members": 4, "connections": 1, "channels": 1, "publications_last_minute": before + 2} == figures
    await place.done("PATCH", "/acme", dict.fromkeys(quotas, 0))


def _ended(pushes: list[dict[str, Any]]) -> list[str]:
    """Return the channels that the server has ended for good."""
    gone = {"code": 2000, "reason": "server unsubscribe"}
    return [push["channel"] for push in pushes if push.get("unsubscribe") == gone]
