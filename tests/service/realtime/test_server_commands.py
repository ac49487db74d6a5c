from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from typing_extensions import override

from service.core.codes import Error, Errors
from service.core.namespaces import Channel
from service.core.recovery import Page
from service.errors import DatabaseUnavailable, NotCommitted
from service.realtime import server_commands
from service.realtime.context import Call
from service.realtime.memory_streams import MemoryStreams
from service.realtime.ports import Appended, Broker, Draft, Event
from service.realtime.publisher import Publisher
from service.realtime.server_commands import METHODS, Malformed, Node, ServerContext, Usage, call
from tests.support.backstage import Backstage, StageClient

EPOCH = "aaaaaaab"
PROBLEM_OF_A_BAD_NAME = "bad request: this cannot be the name of a channel"


class Api:
    """The methods over a stage."""

    def __init__(self, stage: Backstage | None = None) -> None:
        self.stage = stage or Backstage()
        node = Node("uid-1", "host-1", "1.2.3", self.stage.clock.now(), lambda: Usage(12.5, 4096))
        self.server = ServerContext(self.stage.context, node, batch_commands=4, broadcast_channels=3)

    async def send(self, method: str, body: bytes | str) -> dict[str, Any]:
        """Send a body as it is; the answer has one key: result, error or malformed."""
        outcome = await call(self.server, method, body.encode() if isinstance(body, str) else body)
        self.stage.settle()
        if isinstance(outcome, Malformed):
            return {"malformed": outcome.problem}
        if isinstance(outcome, Error):
            return {"error": (outcome.code, outcome.message)}
        return {"result": json.loads(outcome)}

    async def ask(self, method: str, /, **params: object) -> Any:  # noqa: ANN401 - JSON
        """Send parameters and return the result."""
        answer = await self.send(method, json.dumps(params))
        assert list(answer) == ["result"], answer
        return answer["result"]

    async def refused(self, method: str, /, **params: object) -> tuple[int, str]:
        """Send parameters and return the error."""
        answer = await self.send(method, json.dumps(params))
        assert list(answer) == ["error"], answer
        code, message = answer["error"]
        return code, message


@pytest.fixture
def api() -> Api:
    """An API with a batch of at most 4 commands and a broadcast of at most 3 channels."""
    return Api()


def publications(client: StageClient) -> list[Any]:
    """Return the data that a client got since the last look."""
    return [push["pub"]["data"] for push in client.pushes() if "pub" in push]


# Reading the body.


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b"", "empty: send a JSON object, {} at least", id="empty"),
        pytest.param(b"{", "not JSON: Input data was truncated", id="cut off"),
        pytest.param(b"[]", "not what the method takes: Expected `object`, got `array`", id="no object"),
        pytest.param(
            b'{"channel":7}', "not what the method takes: Expected `str`, got `int` - at `$.channel`", id="wrong type"
        ),
        pytest.param(
            b'{"channel":null}',
            "not what the method takes: Expected `str`, got `null` - at `$.channel`",
            id="null for a name",
        ),
        pytest.param(
            b'{"tags":{"a":1}}',
            "not what the method takes: Expected `str`, got `int` - at `$.tags[...]`",
            id="tags that are no strings",
        ),
        pytest.param(
            b'{"tags":["a"]}',
            "not what the method takes: Expected `object | null`, got `array` - at `$.tags`",
            id="tags no object",
        ),
        pytest.param(
            b'{"version":-1}', "not what the method takes: Expected `int` >= 0 - at `$.version`", id="negative"
        ),
        pytest.param(b'{"channel":"\xff"}', "not UTF-8: byte 12", id="not UTF-8"),
        pytest.param(b'{"channel":"chat:1","data":"\xed\xa0\x80"}', "not UTF-8: byte 28", id="surrogate"),
        pytest.param(b'{"data":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deep", id="deep"),
    ],
)
async def test_body_that_cannot_be_read_is_said_to_be_so(api: Api, body: bytes, problem: str) -> None:
    """The answer says what is wrong and where, and quotes nothing."""
    assert (await api.send("publish", body))["malformed"].startswith(problem)


async def test_unknown_fields_are_ignored_and_null_is_a_missing_value(api: Api) -> None:
    """Back ends are written in many languages, and some send every field of a type."""
    body = {"channel": "chat:1", "data": 1, "tags": None, "idempotency_key": None, "version": None, "shiny": [1]}

    assert await api.ask("publish", **body) == {"offset": 1, "epoch": EPOCH}


# Publish.


async def test_publish_reaches_subscribers_with_tags_and_offset(api: Api) -> None:
    """Subscribers get the data as it was sent, with its place in the stream."""
    client = api.stage.subscribed("42", "chat:1")

    result = await api.ask("publish", channel="chat:1", data={"x": "é"}, tags={"kind": "a"})

    assert result == {"offset": 1, "epoch": EPOCH}
    assert client.pushes() == [{"channel": "chat:1", "pub": {"data": {"x": "é"}, "offset": 1, "tags": {"kind": "a"}}}]


async def test_publish_without_history_has_no_position(api: Api) -> None:
    """Where nothing is kept there is no place to tell; null is data like any other."""
    assert await api.ask("publish", channel="plain:1", data=None) == {}
    assert await api.ask("publish", channel="chat:1", data=1, skip_history=True) == {}


async def test_publish_keeps_pretty_printed_data_on_one_line(api: Api) -> None:
    """Line breaks between tokens would end a line of the protocol; those inside strings are escaped."""
    client = api.stage.subscribed("42", "chat:1")
    body = b'{"channel": "chat:1",\r\n "data": {\n  "a": "x\\ny",\r\n  "b": [1,\n 2]\n }\n}\n'

    assert "result" in await api.send("publish", body)
    assert publications(client) == [{"a": "x\ny", "b": [1, 2]}]


@pytest.mark.parametrize("method", ["publish", "broadcast"])
async def test_publish_takes_b64data_first_if_it_holds_json(api: Api, method: str) -> None:
    """Other bytes than JSON could be read by no client."""
    client = api.stage.subscribed("42", "chat:1")
    where = {"channel": "chat:1"} if method == "publish" else {"channels": ["chat:1"]}
    encoded = base64.b64encode(b'{"a":\n1}').decode()

    assert await api.ask(method, **where, data=7, b64data=encoded)
    assert publications(client) == [{"a": 1}]

    for bad in (b"\xff\xfe", b"{", b"1 2", b'"\xed\xa0\x80"', b"\xef\xbb\xbf1"):
        code, message = await api.refused(method, **where, b64data=base64.b64encode(bad).decode())
        assert (code, "b64data does not hold JSON" in message) == (107, True)
    assert await api.refused(method, **where, b64data="!") == (107, "bad request: b64data is not base64")
    assert publications(client) == []


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        pytest.param({"data": 1}, 107, "bad request: channel is missing", id="no channel"),
        pytest.param({"channel": "", "data": 1}, 107, "bad request: channel is missing", id="empty channel"),
        pytest.param({"channel": "chat:1"}, 107, "bad request: data is missing", id="no data"),
        pytest.param({"channel": "no:1", "data": 1}, 102, "unknown channel", id="unknown namespace"),
        pytest.param({"channel": "chat:ü", "data": 1}, 107, PROBLEM_OF_A_BAD_NAME, id="bad name"),
        pytest.param({"channel": "c" * 256, "data": 1}, 107, PROBLEM_OF_A_BAD_NAME, id="long name"),
        pytest.param(
            {"channel": "chat:1", "data": 1, "idempotency_key": "k" * 256},
            107,
            "bad request: idempotency_key has more than 255 characters",
            id="long key",
        ),
        pytest.param(
            {"channel": "chat:1", "data": 1, "version": 1, "version_epoch": "k" * 256},
            107,
            "bad request: version_epoch has more than 255 characters",
            id="long version epoch",
        ),
    ],
)
async def test_publish_is_refused_with_the_reason(api: Api, params: dict[str, object], code: int, message: str) -> None:
    """The code is for programs, the message for people."""
    refused = await api.refused("publish", **params)

    assert (refused[0], refused[1].startswith(message)) == (code, True), refused
    assert [("api_publish", code)] == [(method, error.code) for method, error in api.stage.observer.errors]


async def test_publish_takes_data_and_tags_up_to_the_limit_and_not_a_byte_more() -> None:
    """The limit is the one that holds for clients."""
    api = Api(Backstage(message_bytes=64))

    assert await api.ask("publish", channel="chat:1", data="x" * 62, tags={"k": "y" * 56})
    assert await api.refused("publish", channel="chat:1", data="x" * 63) == (
        107,
        "bad request: data has 65 bytes, at most 64 are allowed",
    )
    assert await api.refused("publish", channel="chat:1", data=1, tags={"k": "y" * 57}) == (
        107,
        "bad request: tags has 65 bytes, at most 64 are allowed",
    )


async def test_publish_takes_what_every_client_can_read(api: Api) -> None:
    """Deeper data and longer numbers would break the parsers of some clients."""

    async def publish(data: str) -> dict[str, Any]:
        return await api.send("publish", f'{{"channel":"chat:1","data":{data}}}')

    text = (
        "data is nested deeper than 128 levels or has a number of thousands of digits, which some clients cannot read"
    )
    refused = {"error": (107, f"bad request: {text}")}

    assert "result" in await publish("[" * 128 + "]" * 128)
    assert refused == await publish("[" * 129 + "]" * 129)
    assert "result" in await publish("9" * 4300)
    assert refused == await publish("9" * 4301)


async def test_publish_with_an_idempotency_key_is_done_once(api: Api) -> None:
    """The repetition gets the answer of the first, for five minutes."""
    client = api.stage.subscribed("42", "chat:1")
    once = {"channel": "chat:1", "data": 1, "idempotency_key": "k" * 255}

    first = await api.ask("publish", **once)
    await api.ask("publish", channel="chat:1", data=2)
    again = await api.ask("publish", **once)
    elsewhere = await api.ask("publish", **(once | {"channel": "chat:2"}))

    assert first == again == {"offset": 1, "epoch": EPOCH}
    assert elsewhere["offset"] == 1
    assert publications(client) == [1, 2]

    api.stage.clock.advance(301)

    assert (await api.ask("publish", **once))["offset"] == 3


async def test_publish_of_an_old_version_is_suppressed(api: Api) -> None:
    """What was overtaken is not delivered."""
    client = api.stage.subscribed("42", "chat:1")
    for version, epoch in [(2, "a"), (2, "a"), (1, "a"), (3, "a"), (1, "b")]:
        await api.ask("publish", channel="chat:1", data=[version, epoch], version=version, version_epoch=epoch)

    assert publications(client) == [[2, "a"], [3, "a"], [1, "b"]]


# Broadcast.


async def test_broadcast_answers_for_each_channel_in_order(api: Api) -> None:
    """What fails in one channel keeps nothing from the others."""
    client = api.stage.subscribed("42", "chat:1")

    result = await api.ask("broadcast", channels=["chat:1", "no:1", ""], data={"x": 1})

    assert result == {
        "responses": [
            {"result": {"offset": 1, "epoch": EPOCH}},
            {"error": {"code": 102, "message": "unknown channel"}},
            {"error": {"code": 107, "message": "bad request: channel is missing"}},
        ]
    }
    assert publications(client) == [{"x": 1}]


@pytest.mark.parametrize("params", [{}, {"channels": []}, {"channels": None}])
async def test_broadcast_to_nowhere_is_refused(api: Api, params: dict[str, object]) -> None:
    """An empty list is a mistake of the caller."""
    assert await api.refused("broadcast", data=1, **params) == (107, "bad request: channels is missing or empty")


async def test_broadcast_takes_as_many_channels_as_allowed_and_not_one_more(api: Api) -> None:
    """One past the limit nothing is published."""
    assert len((await api.ask("broadcast", channels=["chat:1"] * 3, data=1))["responses"]) == 3
    assert await api.refused("broadcast", channels=["chat:1"] * 4, data=1) == (
        106,
        "limit exceeded: 4 channels in one broadcast, at most 3 are allowed",
    )
    assert (await api.ask("publish", channel="chat:1", data=1))["offset"] == 4


async def test_broadcast_without_data_is_refused_as_a_whole(api: Api) -> None:
    """What is wrong with the data is wrong in every channel."""
    assert await api.refused("broadcast", channels=["chat:1"]) == (107, "bad request: data is missing")


async def test_broadcast_lets_others_go_on_between_many_channels(api: Api) -> None:
    """A thousand channels do not hold up everybody else."""
    server = ServerContext(api.stage.context, api.server.node)
    turns = 0
    finished = False

    async def other() -> None:
        nonlocal turns
        while not finished:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(other())
        body = json.dumps({"channels": [f"chat:{index}" for index in range(1000)], "data": 1})
        outcome = await call(server, "broadcast", body.encode())
        finished = True

    assert isinstance(outcome, bytes)
    assert len(json.loads(outcome)["responses"]) == 1000
    assert turns >= 3


class _SlowStreams(MemoryStreams):
    """Keeps and reads nothing before its gate is opened."""

    def __init__(self, stage: Backstage) -> None:
        super().__init__(now=stage.clock.now, new_epoch=lambda: EPOCH)
        self.gates: list[asyncio.Future[None]] = []
        self.is_open = False
        self._arrived = asyncio.Semaphore(0)
        publisher = Publisher(self, stage.context.publisher._broker, stage.observer)
        # The context is frozen for the service; a test may build another house.
        object.__setattr__(stage.context, "publisher", publisher)
        object.__setattr__(stage.context, "streams", self)

    async def _wait(self) -> None:
        if not self.is_open:
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            self._arrived.release()
            await gate

    def open(self) -> None:
        """Let everything through from now on."""
        self.is_open = True
        for gate in self.gates:
            gate.set_result(None)

    async def until_waiting(self, count: int = 1) -> None:
        """Return when so many more wait."""
        async with asyncio.timeout(5):
            for _ in range(count):
                await self._arrived.acquire()

    @override
    async def append(self, channel: Channel, draft: Draft) -> Appended:
        await self._wait()
        if channel.name == "chat:broken":
            raise OSError("disk full")
        return await super().append(channel, draft)

    @override
    async def read(self, channel: Channel, *, after: int, limit: int) -> Page:
        await self._wait()
        return await super().read(channel, after=after, limit=limit)


async def test_broadcast_waits_for_all_channels_together_and_fails_for_one_alone(api: Api) -> None:
    """A store that waits is waited for once."""
    streams = _SlowStreams(api.stage)
    names = ["chat:1", "chat:broken", "chat:2"]

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(api.ask("broadcast", channels=names, data=1))
        await streams.until_waiting(3)
        streams.open()

    kept = {"result": {"offset": 1, "epoch": EPOCH}}
    internal = {"error": {"code": 100, "message": "internal server error", "temporary": True}}
    assert asked.result() == {"responses": [kept, internal, kept]}
    assert [where for where, _ in api.stage.observer.failures] == ["api_broadcast"]


# Subscribe and unsubscribe.


async def test_subscribe_acts_on_every_connection_of_the_user(api: Api) -> None:
    """Each connection gets the push, and what is published afterwards."""
    here, there, other = (api.stage.connect(user) for user in ("42", "42", "43"))

    assert await api.ask("subscribe", user="42", channel="chat:1", data={"why": "invited"}, info={"role": "x"}) == {}
    for client in (here, there):
        (push,) = [push for push in client.pushes() if "subscribe" in push]
        assert push["channel"] == "chat:1"
        assert push["subscribe"] == {
            "recoverable": True,
            "positioned": True,
            "epoch": EPOCH,
            "data": {"why": "invited"},
        }
    await api.ask("publish", channel="chat:1", data=1)
    assert publications(here) == publications(there) == [1]
    assert other.pushes() == []
    entries = (await api.ask("presence", channel="chat:1"))["presence"]
    assert entries[here.id] == {"user": "42", "client": here.id, "chan_info": {"role": "x"}}


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe"])
async def test_subscribe_and_unsubscribe_of_one_client_leave_the_others(api: Api, method: str) -> None:
    """A client id narrows it down to one connection."""
    here, there = api.stage.connect("42"), api.stage.connect("42")
    if method == "unsubscribe":
        await api.ask("subscribe", user="42", channel="plain:1")
        here.pushes()
        there.pushes()

    assert await api.ask(method, user="42", client=here.id, channel="plain:1") == {}
    assert [method in push for push in here.pushes()] == [True]
    assert there.pushes() == []


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "disconnect", "refresh"])
async def test_nobody_to_act_on_is_fine(api: Api, method: str) -> None:
    """A user who is not connected is nothing unusual."""
    client = api.stage.connect("42")
    channel = {"channel": "chat:1"} if "subscribe" in method else {}

    assert await api.ask(method, user="nobody", **channel) == {}
    assert await api.ask(method, user="42", client="another", **channel) == {}
    assert await api.ask(method, user="43", client=client.id, **channel) == {}
    assert (client.pushes(), client.closed) == ([], None)


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "disconnect", "refresh"])
async def test_nobody_named_is_refused_rather_than_every_anonymous_visitor(api: Api, method: str) -> None:
    """A forgotten field must not reach all who have no name."""
    visitor = api.stage.connect()
    channel = {"channel": "chat:1"} if "subscribe" in method else {}

    assert await api.refused(method, **channel) == (107, "bad request: user is missing")
    code, message = await api.refused(method, user="42", session="s", **channel)
    assert (code, "name one by its client id" in message) == (108, True)
    assert visitor.closed is None
    assert await api.ask(method, client=visitor.id, **channel) == {}


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe"])
async def test_subscribe_and_unsubscribe_need_a_channel(api: Api, method: str) -> None:
    """There is no such thing as all channels."""
    assert await api.refused(method, user="42") == (107, "bad request: channel is missing")
    assert (await api.refused(method, user="42", channel="no:1"))[0] == 102


async def test_subscribe_twice_changes_nothing(api: Api) -> None:
    """The wish is fulfilled already."""
    client = api.stage.subscribed("42", "chat:1")
    fresh = api.stage.connect("42")
    client.pushes()

    assert await api.ask("subscribe", user="42", channel="chat:1") == {}
    assert not any("subscribe" in push for push in client.pushes())
    assert any("subscribe" in push for push in fresh.pushes())


async def test_subscribe_stops_at_the_channel_limit_of_a_client_alone() -> None:
    """One connection at its limit does not keep the others out."""
    api = Api(Backstage(channels_per_client=1))
    full = api.stage.connect("42")
    await api.ask("subscribe", user="42", channel="plain:1")
    free = api.stage.connect("42")
    full.pushes()

    assert await api.refused("subscribe", user="42", channel="plain:2") == (106, "limit exceeded")
    assert full.pushes() == []
    assert [push["channel"] for push in free.pushes()] == ["plain:2"]


async def test_subscribe_leaves_out_who_went_away_while_another_was_waited_for(api: Api) -> None:
    """No ghost is left in the channel."""
    staying, leaving = api.stage.connect("42"), api.stage.connect("42")
    streams = _SlowStreams(api.stage)

    async with asyncio.TaskGroup() as group:
        group.create_task(api.ask("subscribe", user="42", channel="chat:1"))
        await streams.until_waiting()
        assert (await api.ask("channels")) == {"channels": {}}
        leaving.connection.lost()
        streams.open()

    assert list((await api.ask("presence", channel="chat:1"))["presence"]) == [staying.id]
    assert api.stage.hub.subscriptions == 1


async def test_nothing_is_pushed_to_a_client_whose_connect_is_not_answered_yet(api: Api) -> None:
    """The first thing a client gets is the reply to its connect."""
    streams = _SlowStreams(api.stage)
    async with asyncio.TaskGroup() as group:
        api.stage.background.use(group)
        client = api.stage.connecting("42", channels=["chat:1"])
        await streams.until_waiting()
        later = int(api.stage.clock.wall()) + 600
        await api.ask("subscribe", user="42", channel="chat:2")
        await api.ask("refresh", user="42", expire_at=later)
        assert client.lines() == []
        streams.open()

    assert "connect" in client.lines()[0]


async def test_subscribe_hands_over_what_was_missed(api: Api) -> None:
    """The push and the missed publications come before the next one."""
    client = api.stage.connect("42")
    for number in range(3):
        await api.ask("publish", channel="chat:1", data=number)

    await api.ask("subscribe", user="42", channel="chat:1", recover_since={"offset": 1, "epoch": EPOCH})
    await api.ask("publish", channel="chat:1", data=3)

    assert publications(client) == [1, 2, 3]


async def test_subscribe_with_an_option_overridden(api: Api) -> None:
    """Options of the namespace may be set otherwise for one subscription."""
    client = api.stage.connect("42")
    off = {"value": False}

    await api.ask("subscribe", user="42", channel="chat:1", override={"presence": off, "force_recovery": off})

    assert client.pushes()[0]["subscribe"] == {}
    assert (await api.ask("presence_stats", channel="chat:1"))["num_clients"] == 0


async def test_subscribe_until_a_time_ends_the_connection_after_it(api: Api) -> None:
    """The client cannot refresh it, so the connection is closed, and comes back."""
    client = api.stage.connect("42")
    soon = int(api.stage.clock.wall()) + 60
    past = "bad request: expire_at is in the past: it is Unix time in seconds"

    assert await api.refused("subscribe", user="42", channel="chat:1", expire_at=soon - 60) == (107, past)
    await api.ask("subscribe", user="42", channel="chat:1", expire_at=soon)
    api.stage.clock.advance(60 + 24)
    client.connection.elapse()
    assert client.closed is None
    api.stage.clock.advance(2)
    client.connection.elapse()
    assert client.closed == (3006, "subscription expired")


async def test_subscribe_refuses_info_that_is_no_json(api: Api) -> None:
    """What cannot be shown is not accepted."""
    api.stage.connect("42")

    for name in ("b64info", "b64data"):
        assert await api.refused("subscribe", user="42", channel="chat:1", **{name: "!"}) == (
            107,
            f"bad request: {name} is not base64",
        )


async def test_subscribe_takes_null_for_no_info_and_no_data(api: Api) -> None:
    """Some back ends send every field of a type."""
    client = api.stage.connect("42")

    await api.ask("subscribe", user="42", channel="plain:1", info=None, data=None)
    await api.ask("subscribe", user="42", channel="chat:1", info=None)

    assert client.pushes()[0] == {"channel": "plain:1", "subscribe": {}}
    assert "chan_info" not in (await api.ask("presence", channel="chat:1"))["presence"][client.id]


async def test_unsubscribe_is_terminal_for_every_connection_of_the_user(api: Api) -> None:
    """Code 2000 tells clients to stay away."""
    clients = [api.stage.subscribed("42", "plain:1"), api.stage.subscribed("42", "plain:1")]
    other = api.stage.subscribed("43", "plain:1")

    assert await api.ask("unsubscribe", user="42", channel="plain:1") == {}
    for client in clients:
        assert client.pushes() == [
            {"channel": "plain:1", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
        ]
    await api.ask("publish", channel="plain:1", data=1)
    assert (publications(clients[0]), publications(other)) == ([], [1])


# Disconnect.


async def test_disconnect_closes_every_connection_of_the_user_but_those_listed(api: Api) -> None:
    """The whitelist is for the connection that asked for it."""
    first, second, kept, other = (api.stage.connect(user) for user in ("42", "42", "42", "43"))

    assert await api.ask("disconnect", user="42", whitelist=[kept.id]) == {}
    assert first.closed == second.closed == (3503, "force disconnect")
    assert kept.closed is other.closed is None
    assert len(api.stage.hub.connections) == 2


async def test_disconnect_of_one_client_with_a_code_of_ones_own(api: Api) -> None:
    """123 bytes of reason are what a close frame holds."""
    here, there = api.stage.connect("42"), api.stage.connect("42")

    await api.ask("disconnect", user="42", client=here.id, disconnect={"code": 4500, "reason": "é" * 61 + "x"})

    assert here.closed == (4500, "é" * 61 + "x")
    assert there.closed is None


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        pytest.param({"code": 2999, "reason": "x"}, "disconnect.code is a number from 3000 to 4999", id="too low"),
        pytest.param({"code": 5000, "reason": "x"}, "disconnect.code is a number from 3000 to 4999", id="too high"),
        pytest.param({"reason": "x"}, "disconnect.code is a number from 3000 to 4999", id="no code"),
        pytest.param({"code": 4000}, "disconnect.reason has 1 to 123 bytes", id="no reason"),
        pytest.param({"code": 4000, "reason": "é" * 62}, "disconnect.reason has 1 to 123 bytes", id="long reason"),
    ],
)
async def test_disconnect_with_what_no_close_frame_can_hold_is_refused(
    api: Api, wish: dict[str, object], problem: str
) -> None:
    """Nobody is disconnected by a request that is wrong."""
    client = api.stage.connect("42")

    assert await api.refused("disconnect", user="42", disconnect=wish) == (107, f"bad request: {problem}")
    assert client.closed is None


@pytest.mark.parametrize("code", [3000, 4999])
async def test_disconnect_takes_the_first_and_the_last_code(api: Api, code: int) -> None:
    """The range is that of the protocol."""
    client = api.stage.connect("42")

    await api.ask("disconnect", user="42", disconnect={"code": code, "reason": "x"})

    assert client.closed == (code, "x")


# Refresh.


async def test_refresh_moves_the_end_of_the_connections_and_tells_the_clients(api: Api) -> None:
    """The new time holds, with the same grace as a token's."""
    wall = int(api.stage.clock.wall())
    client = api.stage.connect("42", exp=wall + 60)

    assert await api.ask("refresh", user="42", expire_at=wall + 600) == {}
    assert client.pushes() == [{"refresh": {"expires": True, "ttl": 600}}]
    api.stage.clock.advance(1)
    client.connection.session.next_ping = api.stage.clock.now() + 10_000
    api.stage.clock.advance(620)
    client.connection.elapse()
    assert client.closed is None
    api.stage.clock.advance(5)
    client.connection.elapse()
    assert client.closed == (3005, "connection expired")


async def test_refresh_shortens_a_connection_that_the_wheel_would_look_at_later(api: Api) -> None:
    """A nearer end is found in time."""
    client = api.stage.connect("42")
    client.connection.session.next_ping = api.stage.clock.now() + 10_000
    client.connection.reschedule()

    await api.ask("refresh", user="42", expire_at=int(api.stage.clock.wall()) + 5)
    api.stage.clock.advance(31)

    assert api.stage.context.wheel.due(api.stage.clock.now()) == [client.connection]


@pytest.mark.parametrize("how", [{"expired": True}, {"expire_at": 1_800_000_000}, {"expire_at": 1}])
async def test_refresh_of_what_has_run_out_closes_it(api: Api, how: dict[str, object]) -> None:
    """Clients come back with a new token after 3005."""
    client, other = api.stage.connect("42"), api.stage.connect("43")

    assert await api.ask("refresh", user="42", **how) == {}
    assert client.closed == (3005, "connection expired")
    assert other.closed is None


async def test_refresh_with_info_alone_changes_what_others_see(api: Api) -> None:
    """Nothing is pushed when no time changes."""
    client = api.stage.subscribed("42", "chat:1")

    assert await api.ask("refresh", user="42", info={"name": "Ada"}) == {}
    assert await api.ask("refresh", user="42", info=None) == {}
    assert client.pushes() == []
    assert (await api.ask("presence", channel="chat:1"))["presence"][client.id]["conn_info"] == {"name": "Ada"}


# Asking.


async def test_presence_names_who_is_there(api: Api) -> None:
    """One entry a connection, one user however many connections."""
    first, second = api.stage.subscribed("42", "chat:1"), api.stage.subscribed("42", "chat:1")

    assert await api.ask("presence", channel="chat:1") == {
        "presence": {client.id: {"user": "42", "client": client.id} for client in (first, second)}
    }
    assert await api.ask("presence_stats", channel="chat:1") == {"num_clients": 2, "num_users": 1}


async def test_presence_of_an_empty_channel_has_its_keys_all_the_same(api: Api) -> None:
    """Existing clients fail on a missing key."""
    assert await api.ask("presence", channel="chat:none") == {"presence": {}}
    assert await api.ask("presence_stats", channel="chat:none") == {"num_clients": 0, "num_users": 0}
    assert await api.ask("history", channel="chat:none") == {"publications": [], "offset": 0, "epoch": EPOCH}


@pytest.mark.parametrize("method", ["presence", "presence_stats", "history", "history_remove"])
async def test_what_a_namespace_does_not_keep_is_not_available(api: Api, method: str) -> None:
    """Off is said to be off, and where to switch it on."""
    code, message = await api.refused(method, channel="plain:1")

    assert (code, "is off in the namespace of this channel" in message) == (108, True)
    assert (await api.refused(method, channel="no:1")) == (102, "unknown channel")
    assert (await api.refused(method)) == (107, "bad request: channel is missing")


async def test_history_has_info_of_clients_and_tags(api: Api) -> None:
    """Publications show who made them, if a client did."""
    client = api.stage.subscribed("42", "chat:1")
    client.ask("publish", channel="chat:1", data=1)
    await api.ask("publish", channel="chat:1", data=2, tags={"k": "v"})

    assert await api.ask("history", channel="chat:1", limit=-1) == {
        "publications": [
            {"data": 1, "info": {"user": "42", "client": client.id}, "offset": 1},
            {"data": 2, "offset": 2, "tags": {"k": "v"}},
        ],
        "offset": 2,
        "epoch": EPOCH,
    }


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param({}, [], id="top alone"),
        pytest.param({"limit": 0}, [], id="limit 0"),
        pytest.param({"limit": 2}, [1, 2], id="first two"),
        pytest.param({"limit": -1, "since": {"offset": 2}}, [3, 4], id="since, any epoch"),
        pytest.param({"limit": 9, "since": {"offset": 3, "epoch": EPOCH}}, [4], id="since"),
        pytest.param({"limit": 2, "reverse": True}, [4, 3], id="reverse"),
        pytest.param({"limit": -1, "reverse": True, "since": {"offset": 3}}, [2, 1], id="reverse since"),
    ],
)
async def test_history_gives_the_page_that_was_asked_for(
    api: Api, params: dict[str, object], expected: list[int]
) -> None:
    """The page begins behind the position and goes where it was told."""
    for number in range(1, 5):
        await api.ask("publish", channel="chat:1", data=number)

    result = await api.ask("history", channel="chat:1", **params)

    assert [item["offset"] for item in result["publications"]] == expected
    assert (result["offset"], result["epoch"]) == (4, EPOCH)


async def test_history_from_a_place_that_is_none_is_refused(api: Api) -> None:
    """A position of another stream is told apart from an empty page."""
    gone = await api.refused("history", channel="chat:1", limit=1, since={"offset": 1, "epoch": "gone"})
    before = await api.refused("history", channel="chat:1", limit=1, since={"offset": 0}, reverse=True)

    assert gone == (112, "unrecoverable position")
    assert (before[0], "nothing is before offset 0" in before[1]) == (107, True)


async def test_history_remove_keeps_the_top(api: Api) -> None:
    """Offsets are never given twice."""
    await api.ask("publish", channel="chat:1", data=1)

    assert await api.ask("history_remove", channel="chat:1") == {}
    assert await api.ask("history", channel="chat:1", limit=9) == {"publications": [], "offset": 1, "epoch": EPOCH}
    assert (await api.ask("publish", channel="chat:1", data=2))["offset"] == 2


async def test_channels_lists_those_with_subscribers_that_fit_the_pattern(api: Api) -> None:
    """Channels without subscribers are not active, whatever they keep."""
    for user, channel in [("1", "chat:a"), ("2", "chat:a"), ("3", "chat:b"), ("4", "plain:a")]:
        api.stage.subscribed(user, channel)
    await api.ask("publish", channel="chat:nobody", data=1)
    everything = {"chat:a": {"num_clients": 2}, "chat:b": {"num_clients": 1}, "plain:a": {"num_clients": 1}}

    async def listed(pattern: str) -> list[str]:
        return sorted((await api.ask("channels", pattern=pattern))["channels"])

    assert await api.ask("channels") == await api.ask("channels", pattern="") == {"channels": everything}
    assert await listed("chat:*") == ["chat:a", "chat:b"]
    assert await listed("{chat,plain}:a") == ["chat:a", "plain:a"]
    assert await listed("chat") == []
    assert await api.refused("channels", pattern="{") == (
        107,
        "bad request: pattern: a { has no } behind it; write \\{ for the character itself",
    )


async def test_info_describes_the_one_node(api: Api) -> None:
    """A connection that has not said who it is does not count as a client."""
    api.stage.subscribed("42", "chat:1")
    api.stage.connect("42")
    StageClient(api.stage)
    api.stage.clock.advance(7.9)

    assert await api.ask("info") == {
        "nodes": [
            {
                "uid": "uid-1",
                "name": "host-1",
                "version": "1.2.3",
                "num_clients": 2,
                "num_users": 1,
                "num_subs": 1,
                "num_channels": 1,
                "uptime": 7,
                "process": {"cpu": 12.5, "rss": 4096},
            }
        ]
    }


# The application.


async def test_rpc_calls_the_application(api: Api) -> None:
    """The application sees a caller without a user, and its errors go out as they are."""
    seen: list[Call] = []

    async def double(made: Call) -> bytes:
        seen.append(made)
        return b'{\n"doubled": %d}' % (2 * json.loads(made.data))

    async def silent(_: Call) -> bytes:
        return b""

    async def refuse(_: Call) -> Error:
        return Error(1234, "not on Sundays")

    api.stage.procedures.methods |= {"double": double, "silent": silent, "refuse": refuse}

    assert await api.ask("rpc", method="double", params=21) == {"data": {"doubled": 42}}
    assert seen == [Call("", "", b"21")]
    assert await api.ask("rpc", method="silent") == {}
    assert await api.refused("rpc", method="refuse") == (1234, "not on Sundays")
    assert await api.refused("rpc", method="unheard") == (104, "method not found")
    assert await api.refused("rpc") == (104, "method not found")


async def test_rpc_that_breaks_is_an_internal_error_and_noted(api: Api) -> None:
    """The reason is for the log alone."""

    async def break_down(_: Call) -> bytes:
        raise RuntimeError("password of the database")

    api.stage.procedures.methods["break"] = break_down

    assert await api.refused("rpc", method="break") == (100, "internal server error")
    assert [where for where, _ in api.stage.observer.failures] == ["api_rpc"]


# Batch.


@pytest.mark.parametrize("parallel", [False, True, None])
async def test_batch_answers_each_command_in_order_and_one_that_fails_alone(api: Api, parallel: object) -> None:
    """One bad command fails alone, in whichever mode."""
    publish = {"publish": {"channel": "chat:1", "data": 1}}
    commands = [publish, {"publish": {"channel": 7}}, {"presence": {"channel": "plain:1"}}, publish]

    replies = (await api.ask("batch", commands=commands, parallel=parallel))["replies"]

    assert [replies[0], replies[3]] == [{"publish": {"offset": n, "epoch": EPOCH}} for n in (1, 2)]
    assert replies[1] == {
        "error": {
            "code": 107,
            "message": "bad request: publish: not what the method takes: Expected `str`, got `int` - at `$.channel`",
        }
    }
    assert replies[2]["error"]["code"] == 108


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        pytest.param({"batch": {"commands": []}}, 107, "bad request: a batch cannot hold a batch", id="nested"),
        pytest.param({"fly": {}}, 104, "method not found", id="unknown"),
        pytest.param({}, 104, "method not found", id="nothing"),
        pytest.param(
            {"info": {}, "channels": {}},
            107,
            "bad request: a command has one method, this one has info and channels",
            id="two",
        ),
        pytest.param(7, 107, "bad request: a command is an object with one method in it", id="no object"),
        pytest.param(
            {"info": None},
            107,
            "bad request: info: not what the method takes: Expected `object`, got `null`",
            id="no parameters",
        ),
    ],
)
async def test_batch_says_what_is_wrong_with_a_command(api: Api, command: object, code: int, message: str) -> None:
    """The next command is run all the same."""
    replies = (await api.ask("batch", commands=[command, {"channels": {}}]))["replies"]

    assert replies == [{"error": {"code": code, "message": message}}, {"channels": {"channels": {}}}]


async def test_batch_runs_parallel_commands_side_by_side(api: Api) -> None:
    """Two commands that wait for each other both get done."""
    met = asyncio.Barrier(2)

    async def meet(_: Call) -> bytes:
        async with asyncio.timeout(5):
            await met.wait()
        return b"1"

    api.stage.procedures.methods["meet"] = meet
    commands = [{"rpc": {"method": "meet"}}] * 2

    assert await api.ask("batch", commands=commands, parallel=True) == {"replies": [{"rpc": {"data": 1}}] * 2}


async def test_batch_takes_as_many_commands_as_allowed_and_not_one_more(api: Api) -> None:
    """One past the limit nothing is done."""
    publish = {"publish": {"channel": "chat:1", "data": 1}}

    assert len((await api.ask("batch", commands=[publish] * 4))["replies"]) == 4
    assert await api.refused("batch", commands=[publish] * 5) == (
        106,
        "limit exceeded: 5 commands in one batch, at most 4 are allowed",
    )
    assert (await api.ask("publish", channel="chat:1", data=1))["offset"] == 5


@pytest.mark.parametrize("body", ["{}", '{"commands":[]}', '{"commands":null}'])
async def test_batch_without_commands_has_no_replies(api: Api, body: str) -> None:
    """Nothing to do is done at once."""
    assert await api.send("batch", body) == {"result": {"replies": []}}


async def test_batch_stops_before_its_replies_fill_memory(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand histories are cut off before they are all in memory."""
    monkeypatch.setattr(server_commands, "MAX_BATCH_REPLY_BYTES", 60)
    publish = {"publish": {"channel": "chat:1", "data": "x" * 100}}

    replies = (await api.ask("batch", commands=[publish, publish, publish]))["replies"]

    assert ["publish" in reply for reply in replies] == [True, True, False]
    assert replies[2]["error"]["code"] == Errors.LIMIT_EXCEEDED.code


async def test_every_method_is_counted(api: Api) -> None:
    """Metrics tell the methods apart."""
    for method in METHODS:
        await api.send(method, "{}")

    assert api.stage.observer.commands == [f"api_{method}" for method in METHODS]
    assert api.stage.observer.failures == []


# Trouble of the store.


class _FailingStreams(MemoryStreams):
    """Keeps nothing, for a reason."""

    def __init__(self, stage: Backstage, error: Error) -> None:
        super().__init__(now=stage.clock.now, new_epoch=lambda: EPOCH)
        self._error = error
        object.__setattr__(stage.context, "publisher", Publisher(self, _Nowhere(), stage.observer))
        object.__setattr__(stage.context, "streams", self)

    @override
    async def append(self, channel: Channel, draft: Draft) -> Appended:
        raise NotCommitted(self._error)

    @override
    async def read(self, channel: Channel, *, after: int, limit: int) -> Page:
        raise DatabaseUnavailable("gone")

    @override
    async def remove(self, channel: Channel) -> None:
        raise NotCommitted(self._error)


class _Nowhere(Broker):
    @override
    def publish(self, event: Event) -> None:
        raise AssertionError(event)


@pytest.mark.parametrize("error", [Errors.INTERNAL, Error(107, "bad request: refused for what is in it")])
async def test_what_is_not_kept_is_an_answer_and_no_defect(api: Api, error: Error) -> None:
    """Each command says so for itself."""
    _FailingStreams(api.stage, error)
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.temporary:
        told["temporary"] = True
    body = {"channel": "chat:1", "data": 1}

    for method, sent in (("publish", body), ("history_remove", {"channel": "chat:1"})):
        assert {"error": (error.code, error.message)} == await api.send(method, json.dumps(sent))
    broadcast = await api.send("broadcast", '{"channels":["chat:1","chat:2"],"data":1}')
    assert {"responses": [{"error": told}] * 2} == broadcast["result"]
    commands = [{"publish": body}, {"publish": body}]
    for parallel in (False, True):
        batch = await api.send("batch", json.dumps({"commands": commands, "parallel": parallel}))
        assert {"replies": [{"error": told}] * 2} == batch["result"]
    assert 100 == (await api.send("history", '{"channel":"chat:1","limit":1}'))["error"][0]
    assert [] == api.stage.observer.failures
