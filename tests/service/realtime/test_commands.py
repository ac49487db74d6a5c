from __future__ import annotations

from typing import Any

import pytest

from service.core.codes import Disconnect, Disconnects, Error, Errors, Unsubscribes
from service.core.stream import Position
from service.realtime.commands import COMMANDS, COUNTED, history_page, subscribe_by_server
from service.realtime.context import Call
from service.realtime.steps import DONE, first_step
from tests.support.client import FakeClient
from tests.support.world import World

HUGE = 2**63 - 1


@pytest.fixture
def world() -> World:
    """An instance with nobody in it."""
    return World()


def subscription_token(world: World, user: str, channel: str, **claims: object) -> str:
    """Return a genuine subscription token."""
    return world.token(user, channel=channel, **claims)  # type: ignore[arg-type]  # claims may hold seconds


def offsets(result: dict[str, Any]) -> list[int]:
    """Return where the publications of a result stand."""
    return [item["offset"] for item in result.get("publications", [])]


def fill(world: World, count: int, channel: str = "kept:a") -> str:
    """Publish numbers from 1 on and return the epoch."""
    position = None
    for number in range(1, count + 1):
        position = world.publish(channel, b"%d" % number)
    world.settle()
    assert position is not None
    return position.epoch


def test_every_method_is_here() -> None:
    """But ``ping``, which the session refuses."""
    expected = {
        "connect",
        "subscribe",
        "unsubscribe",
        "publish",
        "presence",
        "presence_stats",
        "history",
        "send",
        "rpc",
        "refresh",
        "sub_refresh",
    }

    assert expected == COMMANDS.keys()
    assert expected > COUNTED


class TestConnect:
    """Saying who one is."""

    def test_tells_what_a_client_has_to_know(self, world: World) -> None:
        """Its id, who answers, and how often it is pinged; it need not refresh without an expiry."""
        client = world.client()
        result = client.connect("42")

        expected = {"client": client.id, "version": "slackwater 1.2.3", "ping": 1_000_000, "pong": True}
        assert expected == result
        assert "42" == client.connection.user

    @pytest.mark.parametrize(("seconds", "ttl"), [(300.0, 300), (299.2, 300), (0.1, 1)])
    def test_tells_when_to_refresh(self, world: World, seconds: float, ttl: int) -> None:
        """In whole seconds, at least one."""
        result = world.client().connect("42", seconds=seconds)

        assert (True, ttl) == (result["expires"], result["ttl"])

    def test_takes_nobody_where_that_is_allowed(self, world: World) -> None:
        """With a token without a subject, and without any."""
        for client in (world.connected(), world.connected(info={"n": 1})):
            assert "" == client.connection.user

    def test_without_credentials(self) -> None:
        """3501 where everybody needs a token."""
        client = World(allow_anonymous=False).client()
        client.ask("connect")

        client.expect_closed_with(3501, "connect with a token")

    def test_with_a_token_of_nobody(self) -> None:
        """3507 where everybody needs to be somebody."""
        world = World(allow_anonymous=False)
        client = world.client()
        client.ask("connect", token=world.token())

        client.expect_closed(Disconnects.PERMISSION_DENIED)

    def test_with_a_token_that_is_none(self, world: World) -> None:
        """3500: a new token of this kind would not help; so for a subscription token."""
        for token in ("forged", subscription_token(world, "42", "kept:a")):
            client = world.client()
            client.ask("connect", token=token)

            client.expect_closed(Disconnects.INVALID_TOKEN)

    def test_with_a_token_that_ran_out(self, world: World) -> None:
        """Error 109: the client gets a new one."""
        world.client().refused(Errors.TOKEN_EXPIRED, "connect", token=world.token("42", seconds=0.0))

    def test_too_many_connections_of_a_user(self) -> None:
        """At the limit, and one past it 3504; other users and nobody are not counted."""
        world = World(connections_per_user=2)
        first = world.connected("42")
        world.connected("42")
        third = world.client()
        third.ask("connect", token=world.token("42"))
        third.expect_closed(Disconnects.CONNECTION_LIMIT)
        assert [("connections_per_user",)] == world.observer.of("limited")
        world.connected("43")
        for _ in range(3):
            world.connected()
        first.lose()

        world.connected("42")
        world.assert_sound()


class TestServerSubscriptions:
    """Channels that a client is in without asking."""

    def test_come_from_the_token(self, world: World) -> None:
        """With what it says about them."""
        fill(world, 2)
        client = world.client()
        subs = {"kept:a": {}, "seen:b": {"info": {"n": 1}, "data": {"hello": 1}}}
        result = client.connect("42", subs=subs)

        assert {"kept:a": {}, "seen:b": {"data": {"hello": 1}}} == result["subs"]
        assert b'"chan_info":{"n":1}' in world.hub.presence("seen:b")[client.id]
        world.publish("kept:a")
        assert [3] == client.offsets("kept:a")
        world.assert_sound()

    def test_need_no_permission(self, world: World) -> None:
        """The server decided: private ones, and those that no option opens."""
        result = world.client().connect("42", channels=["$secret", "shut:a", "chat#1"])

        assert {"$secret", "shut:a", "chat#1"} == result["subs"].keys()

    def test_of_the_user_alone(self) -> None:
        """The personal channel, beside those of the token and once when it is among them."""
        world = World(personal_channels=True)

        assert {"#42"} == world.client().connect("42")["subs"].keys()
        result = world.client().connect("42", subs={"#42": {"data": 1}, "plain:a": {}})
        assert {"#42", "plain:a"} == result["subs"].keys()
        assert 1 == result["subs"]["#42"]["data"]
        assert "subs" not in world.client().connect()
        assert "subs" not in world.client().connect("42,43")

    def test_recover_what_was_missed(self, world: World) -> None:
        """Inside the connect result, for those that the client names; the others go on from the top."""
        epoch = fill(world, 3)
        fill(world, 2, "kept:b")
        client = world.client()
        token = world.token("42", channels=["kept:a", "kept:b"])
        subs = {"kept:a": {"recover": True, "offset": 1, "epoch": epoch}, "kept:c": {"recover": True}}
        result = client.do("connect", token=token, subs=subs)["subs"]

        assert [2, 3] == offsets(result["kept:a"])
        assert (True, True, 1) == (
            result["kept:a"]["recovered"],
            result["kept:a"]["was_recovering"],
            result["kept:a"]["offset"],
        )
        assert {} == result["kept:b"]
        assert {"kept:a", "kept:b"} == result.keys()
        client.expect_no_push()

    def test_in_a_channel_that_does_not_exist(self, world: World) -> None:
        """The connect is refused."""
        world.client().refused(Errors.UNKNOWN_CHANNEL, "connect", token=world.token("42", channels=["nowhere:a"]))

    @pytest.mark.parametrize(("count", "is_closed"), [(3, False), (4, True)])
    def test_too_many(self, count: int, *, is_closed: bool) -> None:
        """At the limit, and one past it 3505."""
        world = World(channels_per_client=3)
        client = world.client()
        client.ask("connect", token=world.token("42", channels=[f"plain:{number}" for number in range(count)]))

        if is_closed:
            client.expect_closed(Disconnects.CHANNEL_LIMIT)
            world.assert_empty()
            assert [("channels_per_client",)] == world.observer.of("limited")
        else:
            assert count == len(client.expect_reply(1, "connect")["subs"])

    def test_may_be_left_by_the_client(self, world: World) -> None:
        """And are not in the way of those it makes."""
        client = world.connected("42", channels=["plain:a"])
        client.refused(Errors.ALREADY_SUBSCRIBED, "subscribe", channel="plain:a")
        client.do("unsubscribe", channel="plain:a")

        client.subscribe("plain:a")

    def test_announce_themselves(self, world: World) -> None:
        """Behind the reply."""
        client = world.client()
        client.connect("42", channels=["chat:a"])

        assert "42" == client.expect_push("join", "chat:a")["info"]["user"]


class TestSubscribe:
    """Joining a channel."""

    @pytest.mark.parametrize(
        ("channel", "error"),
        [
            ("nowhere:a", Errors.UNKNOWN_CHANNEL),
            (":a", Errors.UNKNOWN_CHANNEL),
            ("two words", Errors.BAD_REQUEST),
            ("\u00e9t\u00e9", Errors.BAD_REQUEST),
            ("a\x00b", Errors.BAD_REQUEST),
            ("x" * 256, Errors.BAD_REQUEST),
            ("shut:a", Errors.PERMISSION_DENIED),
            ("$private", Errors.PERMISSION_DENIED),
            ("dialog#41,43", Errors.PERMISSION_DENIED),
        ],
    )
    def test_refuses(self, world: World, channel: str, error: Error) -> None:
        """Names that are none, and what the user may not."""
        client = world.connected("42")
        client.refused(error, "subscribe", channel=channel)

        assert {} == world.hub.rooms

    @pytest.mark.parametrize("channel", ["plain:a", "a", "x" * 255, "dialog#41,42", "#42"])
    def test_joins(self, world: World, channel: str) -> None:
        """Where the options or the name let the user in."""
        world.connected("42").subscribe(channel)

        assert [channel] == list(world.hub.rooms)

    def test_nobody_needs_an_option_for_nobody(self, world: World) -> None:
        """Anonymous connections are let in where that is said."""
        client = world.connected()
        client.subscribe("news:a")
        client.refused(Errors.PERMISSION_DENIED, "subscribe", channel="chat:a")

        client.refused(Errors.PERMISSION_DENIED, "subscribe", channel="#")

    def test_twice(self, world: World) -> None:
        """Error 105, and the first goes on."""
        client = world.connected("42")
        client.subscribe("plain:a")
        client.refused(Errors.ALREADY_SUBSCRIBED, "subscribe", channel="plain:a")
        world.publish("plain:a")

        client.expect_push("pub", "plain:a")
        world.assert_sound()

    @pytest.mark.parametrize("kind", [1, 2, 3, 4])
    def test_kinds_that_are_not_offered(self, world: World, kind: int) -> None:
        """Map and shared-poll subscriptions."""
        world.connected("42").refused(Errors.PERMISSION_DENIED, "subscribe", channel="plain:a", type=kind)

    def test_too_many_channels(self) -> None:
        """At the limit, and one past it 106; leaving one makes room. Those of the server take none."""
        world = World(channels_per_client=3, personal_channels=True)
        client = world.connected("42", channels=["plain:z"])
        client.subscribe("plain:a")
        client.subscribe("plain:b")
        client.subscribe("plain:c")
        client.refused(Errors.LIMIT_EXCEEDED, "subscribe", channel="plain:d")
        assert [("channels_per_client",)] == world.observer.of("limited")
        client.do("unsubscribe", channel="plain:b")

        client.subscribe("plain:d")

    def test_with_a_token(self, world: World) -> None:
        """It opens what nothing else does, and says how long and what is shown."""
        client = world.connected("42")
        claims = {"info": {"n": 1}, "data": {"hello": 1}, "client": client.id}
        result = client.subscribe("$seen:a", token=world.token("42", seconds=60.0, channel="$seen:a", **claims))

        assert {"expires": True, "ttl": 60, "data": {"hello": 1}} == result
        assert b'"chan_info":{"n":1}' in world.hub.presence("$seen:a")[client.id]

    def test_with_a_token_that_ran_out(self, world: World) -> None:
        """Error 109: the client gets a new one."""
        token = world.token("42", seconds=0.0, channel="$a")
        world.connected("42").refused(Errors.TOKEN_EXPIRED, "subscribe", channel="$a", token=token)

    def test_with_a_token_that_is_none(self, world: World) -> None:
        """Error 103, also where no token is needed; a connection token is none."""
        client = world.connected("42")
        for token in ("forged", world.token("42")):
            for channel in ("$a", "plain:a"):
                client.refused(Errors.PERMISSION_DENIED, "subscribe", channel=channel, token=token)

    @pytest.mark.parametrize(
        ("user", "channel", "client"),
        [("43", "$a", None), ("", "$a", None), ("42", "$b", None), ("42", "$a", "somebody-else")],
    )
    def test_with_a_token_for_something_else(self, world: World, user: str, channel: str, client: str | None) -> None:
        """3500: another user, channel or client."""
        claims = {} if client is None else {"client": client}
        subscriber = world.connected("42")
        subscriber.ask("subscribe", channel="$a", token=subscription_token(world, user, channel, **claims))

        subscriber.expect_closed(Disconnects.INVALID_TOKEN)
        world.assert_empty()

    def test_a_token_may_change_the_options(self, world: World) -> None:
        """For this subscription alone."""
        client, other = world.connected("42"), world.connected("43")
        override = {"force_recovery": {"value": True}}
        result = client.subscribe("kept:a", token=subscription_token(world, "42", "kept:a", override=override))

        assert result["recoverable"]
        assert "recoverable" not in other.subscribe("kept:a")


class TestNamespacesOfAToken:
    """A connection whose token is for some namespaces alone."""

    def test_reaches_no_other(self, world: World) -> None:
        """Whatever it asks for; and it has no personal channel."""
        world = World(personal_channels=True)
        client = world.client()
        assert "subs" not in client.connect("42", namespaces=["kept"])
        for method, params in (
            ("subscribe", {}),
            ("publish", {"data": 1}),
            ("history", {}),
            ("presence", {}),
            ("presence_stats", {}),
        ):
            client.refused(Errors.PERMISSION_DENIED, method, channel="seen:a", **params)
        client.refused(Errors.PERMISSION_DENIED, "subscribe", channel="#42")
        client.refused(Errors.UNKNOWN_CHANNEL, "subscribe", channel="nowhere:a")

        client.subscribe("kept:a")
        client.do("publish", channel="kept:a", data=1)

    def test_does_not_reach_the_application(self, world: World) -> None:
        """Which lies in no namespace."""

        async def take(_: Call) -> bytes:
            raise NotImplementedError

        world.procedures.methods["take"] = take
        client = world.connected("42", namespaces=["kept"])
        client.refused(Errors.PERMISSION_DENIED, "rpc", method="take")
        client.send({"send": {"data": 1}})

        client.expect_closed(Disconnects.PERMISSION_DENIED)

    def test_stays_so_with_a_new_token(self, world: World) -> None:
        """As the new one says."""
        client = world.connected("42", namespaces=["kept"])
        client.do("refresh", token=world.token("42", namespaces=["plain"]))
        client.refused(Errors.PERMISSION_DENIED, "subscribe", channel="kept:a")

        client.subscribe("plain:a")

    def test_none_at_all(self, world: World) -> None:
        """An empty list opens nothing."""
        world.connected("42", namespaces=[]).refused(Errors.PERMISSION_DENIED, "subscribe", channel="plain:a")


class TestPositions:
    """Where a subscription begins, and what it is told of that."""

    def test_is_told_where_history_is_recovered(self, world: World) -> None:
        """Offset and epoch of the top."""
        epoch = fill(world, 3)
        result = world.connected("42").subscribe("kept:a", recoverable=True)

        assert {"recoverable": True, "positioned": True, "epoch": epoch, "offset": 3} == result

    def test_is_told_an_epoch_before_the_first_publication(self, world: World) -> None:
        """The stream takes it over."""
        client = world.connected("42")
        result = client.subscribe("kept:a", recoverable=True)

        assert "offset" not in result
        assert fill(world, 1) == result["epoch"]
        assert [1] == client.offsets("kept:a")

    @pytest.mark.parametrize(
        ("channel", "wish", "positioned", "recoverable"),
        [
            ("kept:a", None, False, False),
            ("kept:a", "positioned", True, False),
            ("kept:a", "recoverable", True, True),
            ("kept:a", "recover", True, True),
            ("checked:a", None, True, False),
            ("checked:a", "recoverable", True, False),
            ("chat:a", None, True, True),
            ("plain:a", "positioned", False, False),
            ("plain:a", "recoverable", False, False),
        ],
    )
    def test_wishes_are_granted_where_they_may_be(
        self, world: World, channel: str, wish: str | None, *, positioned: bool, recoverable: bool
    ) -> None:
        """By the namespace, or by force."""
        result = world.connected("42").subscribe(channel, **({wish: True} if wish else {}))

        assert (positioned, recoverable) == (result.get("positioned", False), result.get("recoverable", False))
        assert positioned is ("epoch" in result)


class TestRecovery:
    """Coming back to a channel. Source: client protocol, streams and recovery."""

    @pytest.mark.parametrize(("offset", "missed"), [(0, [1, 2, 3]), (1, [2, 3]), (2, [3]), (3, [])])
    @pytest.mark.parametrize("knows_epoch", [True, False])
    def test_gives_what_was_missed(self, world: World, offset: int, missed: list[int], *, knows_epoch: bool) -> None:
        """The client goes on from its own offset; an empty epoch means any."""
        epoch = fill(world, 3)
        wish = {"recover": True, "offset": offset, "epoch": epoch if knows_epoch else ""}
        result = world.connected("42").subscribe("kept:a", **wish)

        assert missed == offsets(result)
        assert offset == result.get("offset", 0)
        assert (True, True, epoch) == (result["recovered"], result["was_recovering"], result["epoch"])
        assert [(len(missed), True)] == world.observer.of("recovered")

    @pytest.mark.parametrize(
        ("offset", "epoch", "made"),
        [
            pytest.param(1, "another", 3, id="other-epoch"),
            pytest.param(4, "", 3, id="ahead-of-the-top"),
            pytest.param(HUGE, "", 3, id="far-ahead-of-the-top"),
            pytest.param(1, "", 12, id="more-than-is-kept"),
        ],
    )
    def test_says_that_something_is_lost(self, world: World, offset: int, epoch: str, made: int) -> None:
        """No publications, and the client goes on from the top."""
        known = fill(world, made)
        client = world.connected("42")
        result = client.subscribe("kept:a", recover=True, offset=offset, epoch=epoch)

        expected = {"recoverable": True, "positioned": True, "epoch": known, "offset": made, "was_recovering": True}
        assert expected == result
        assert [(0, False)] == world.observer.of("recovered")
        world.publish("kept:a")
        assert [made + 1] == client.offsets("kept:a")

    def test_says_that_everything_expired(self, world: World) -> None:
        """The top is known, what was missed is gone."""
        fill(world, 3)
        world.advance(61.0)

        assert "recovered" not in world.connected("42").subscribe("kept:a", recover=True, offset=1)

    @pytest.mark.parametrize(("missed", "recovered"), [(5, True), (6, False)])
    def test_gives_so_many_at_most(self, missed: int, *, recovered: bool) -> None:
        """What does not reach the top is of no use."""
        world = World(recovery_size=5)
        fill(world, missed)
        result = world.connected("42").subscribe("kept:a", recover=True)

        assert recovered is result.get("recovered", False)
        assert (missed if recovered else 0) == len(offsets(result))

    @pytest.mark.parametrize(("size", "recovered"), [(100, True), (101, False)])
    def test_gives_so_many_bytes_at_most(self, size: int, *, recovered: bool) -> None:
        """All together, with what stands around each."""
        world = World(page_bytes=200 + 2 * 64)
        for length in (100, size):
            world.publish("kept:a", b'"' + b"x" * (length - 2) + b'"')
        world.settle()
        result = world.connected("42").subscribe("kept:a", recover=True)

        assert recovered is result.get("recovered", False)
        assert ([1, 2] if recovered else []) == offsets(result)
        assert "was_recovering" in result

    @pytest.mark.parametrize("flag", [2, 3])
    def test_is_refused_instead_where_the_client_wants_that(self, world: World, flag: int) -> None:
        """Error 112, and it is not subscribed: it loads its state anew first."""
        fill(world, 3)
        client = world.connected("42")
        client.refused(
            Errors.UNRECOVERABLE_POSITION, "subscribe", channel="kept:a", recover=True, epoch="another", flag=flag
        )
        assert {} == world.hub.rooms

        assert client.subscribe("kept:a", recover=True, flag=flag)["recovered"]

    def test_flag_1_changes_nothing(self, world: World) -> None:
        """Stock clients always send it."""
        fill(world, 3)
        result = world.connected("42").subscribe("kept:a", recover=True, epoch="another", flag=1)

        assert result["was_recovering"]
        assert "recovered" not in result

    def test_where_nothing_is_kept(self, world: World) -> None:
        """The client asked, and nothing was recovered."""
        assert {"was_recovering": True} == world.connected("42").subscribe("plain:a", recover=True)

    def test_after_the_process_was_replaced(self) -> None:
        """Memory is gone, which the epoch tells."""
        before, after = World(), World()
        after.memory._epoch = "zzzzzzzz"
        epoch = fill(before, 3)
        result = after.connected("42").subscribe("kept:a", recover=True, offset=3, epoch=epoch)

        assert "recovered" not in result
        assert "zzzzzzzz" == result["epoch"]


class TestUnsubscribe:
    """Leaving a channel."""

    def test_leaves(self, world: World) -> None:
        """Nothing more comes."""
        client = world.connected("42")
        client.subscribe("plain:a")
        assert {} == client.do("unsubscribe", channel="plain:a")
        world.publish("plain:a")

        client.expect_no_push()

    @pytest.mark.parametrize("channel", ["plain:a", "nowhere:a", "two words"])
    def test_where_it_was_not_succeeds(self, world: World, channel: str) -> None:
        """It is as asked for."""
        assert {} == world.connected("42").do("unsubscribe", channel=channel)


class TestPublish:
    """Publishing as a client."""

    def test_reaches_subscribers_with_who_published(self, world: World) -> None:
        """The publisher too, behind its reply."""
        client = world.connected("42", info={"n": 1})
        client.subscribe("kept:a", token=subscription_token(world, "42", "kept:a", info={"m": 2}))
        assert {} == client.do("publish", channel="kept:a", data={"x": [1]})

        info = {"user": "42", "client": client.id, "conn_info": {"n": 1}, "chan_info": {"m": 2}}
        assert {"data": {"x": [1]}, "offset": 1, "info": info} == client.expect_push("pub", "kept:a")

    def test_needs_no_subscription_where_the_namespace_says_so(self, world: World) -> None:
        """There is no info of a subscription, then."""
        client, other = world.connected("42"), world.connected()
        other.subscribe("plain:a")
        client.do("publish", channel="plain:a", data=None)

        assert {"data": None, "info": {"user": "42", "client": client.id}} == other.expect_push("pub", "plain:a")

    def test_needs_a_subscription_where_the_namespace_says_so(self, world: World) -> None:
        """A finished one."""
        client = world.connected("42")
        client.refused(Errors.PERMISSION_DENIED, "publish", channel="a", data=1)
        client.subscribe("a")

        client.do("publish", channel="a", data=1)

    @pytest.mark.parametrize(
        ("channel", "kind", "error"),
        [
            ("nowhere:a", 0, Errors.UNKNOWN_CHANNEL),
            ("two words", 0, Errors.BAD_REQUEST),
            ("shut:a", 0, Errors.PERMISSION_DENIED),
            ("news:a", 0, Errors.PERMISSION_DENIED),
            ("plain:a", 1, Errors.NOT_AVAILABLE),
        ],
    )
    def test_refuses(self, world: World, channel: str, kind: int, error: Error) -> None:
        """Map publications are not offered."""
        world.connected("42").refused(error, "publish", channel=channel, data=1, type=kind)
        assert not world.broker.waiting

    def test_puts_data_on_one_line(self, world: World) -> None:
        """A carriage return may stand between tokens."""
        client = world.connected("42")
        client.subscribe("plain:a")
        client.send_raw(b'{"id":9,"publish":{"channel":"plain:a","data":{"a":\r1}}}')
        client.expect_reply(9, "publish")

        assert {"a": 1} == client.expect_push("pub", "plain:a")["data"]
        assert b"\r" not in client.transport.frames[-1]


class TestHistory:
    """Reading a stream."""

    @pytest.mark.parametrize(
        ("params", "found"),
        [
            pytest.param({}, [], id="top-alone"),
            pytest.param({"limit": 0}, [], id="limit-0"),
            pytest.param({"limit": 2}, [1, 2], id="limited"),
            pytest.param({"limit": -1}, [1, 2, 3, 4], id="all"),
            pytest.param({"limit": 1000}, [1, 2, 3, 4], id="more-than-there-is"),
            pytest.param({"limit": -1, "since": {"offset": 2}}, [3, 4], id="since"),
            pytest.param({"limit": 1, "since": {"offset": 2}}, [3], id="since-limited"),
            pytest.param({"limit": -1, "since": {"offset": 0}}, [1, 2, 3, 4], id="since-0"),
            pytest.param({"limit": -1, "since": {"offset": 4}}, [], id="since-the-top"),
            pytest.param({"limit": -1, "since": {"offset": HUGE}}, [], id="since-far-ahead"),
            pytest.param({"limit": -1, "reverse": True}, [4, 3, 2, 1], id="reverse"),
            pytest.param({"limit": 2, "reverse": True}, [4, 3], id="reverse-limited"),
            pytest.param({"limit": -1, "reverse": True, "since": {"offset": 3}}, [2, 1], id="reverse-since"),
            pytest.param({"limit": -1, "reverse": True, "since": {"offset": HUGE}}, [4, 3, 2, 1], id="reverse-ahead"),
        ],
    )
    def test_gives_a_page(self, world: World, params: dict[str, Any], found: list[int]) -> None:
        """And the top, always."""
        epoch = fill(world, 4)
        result = world.connected("42").do("history", channel="kept:a", **params)

        assert found == offsets(result)
        assert found == [item["data"] for item in result.get("publications", [])]
        assert (4, epoch) == (result["offset"], result["epoch"])

    def test_of_a_channel_that_was_never_published_to(self, world: World) -> None:
        """Has an epoch already."""
        result = world.connected("42").do("history", channel="kept:a", limit=-1)

        assert (0, []) == (result["offset"], result["publications"])
        assert fill(world, 1) == result["epoch"]

    @pytest.mark.parametrize(("epoch", "is_refused"), [("", False), ("known", False), ("another", True)])
    def test_since_another_epoch(self, world: World, epoch: str, *, is_refused: bool) -> None:
        """Error 112."""
        known = fill(world, 2)
        client = world.connected("42")
        since = {"offset": 1, "epoch": known if epoch == "known" else epoch}

        if is_refused:
            client.refused(Errors.UNRECOVERABLE_POSITION, "history", channel="kept:a", limit=-1, since=since)
        else:
            assert [2] == offsets(client.do("history", channel="kept:a", limit=-1, since=since))

    def test_reverse_since_nothing(self, world: World) -> None:
        """Error 107: there is nothing before the first."""
        client = world.connected("42")
        client.refused(Errors.BAD_REQUEST, "history", channel="kept:a", reverse=True, since={"offset": 0})

    @pytest.mark.parametrize("limit", [-1, 4, 1000])
    @pytest.mark.parametrize("reverse", [False, True])
    def test_gives_one_page_at_most(self, limit: int, *, reverse: bool) -> None:
        """However many are asked for."""
        world = World(page_size=3)
        fill(world, 5)
        result = world.connected("42").do("history", channel="kept:a", limit=limit, reverse=reverse)

        assert ([5, 4, 3] if reverse else [1, 2, 3]) == offsets(result)

    @pytest.mark.parametrize(("size", "pages"), [(100, [[1, 2], [3]]), (101, [[1], [2], [3]]), (500, [[1], [2], [3]])])
    def test_gives_so_many_bytes_at_most(self, size: int, pages: list[list[int]]) -> None:
        """But one publication at least, else nobody could read on."""
        world = World(page_bytes=200)
        for _ in range(3):
            world.publish("kept:a", b'"' + b"x" * (size - 2) + b'"')
        client = world.connected("42")
        found: list[list[int]] = []
        while not found or found[-1][-1] < 3:
            since = {"offset": found[-1][-1] if found else 0}
            found.append(offsets(client.do("history", channel="kept:a", limit=-1, since=since)))

        assert pages == found

    @pytest.mark.parametrize(
        ("channel", "error"),
        [
            ("nowhere:a", Errors.UNKNOWN_CHANNEL),
            ("two words", Errors.BAD_REQUEST),
            ("plain:a", Errors.NOT_AVAILABLE),
            ("chat:a", Errors.PERMISSION_DENIED),
        ],
    )
    def test_refuses(self, world: World, channel: str, error: Error) -> None:
        """Where nothing is kept, and where the user may not."""
        world.connected("42").refused(error, "history", channel=channel)

    def test_a_subscriber_may_where_the_namespace_says_so(self, world: World) -> None:
        """Once it is one."""
        client = world.connected("42")
        client.subscribe("a")

        assert "epoch" in client.do("history", channel="a")

    async def test_pages_for_the_server(self, world: World) -> None:
        """The same, without a client."""
        fill(world, 3)
        page = await history_page(world.context, world.channel("kept:a"), limit=2, since=None, reverse=True)

        assert not isinstance(page, Error)
        assert [3, 2] == [item.offset for item in page.items]


class TestPresence:
    """Asking who is there."""

    def test_says_who(self, world: World) -> None:
        """By client."""
        client, other = world.connected("42", info={"n": 1}), world.connected()
        client.subscribe("seen:a")
        other.subscribe("seen:a")

        expected = {
            client.id: {"user": "42", "client": client.id, "conn_info": {"n": 1}},
            other.id: {"user": "", "client": other.id},
        }
        assert {"presence": expected} == client.do("presence", channel="seen:a")
        assert {"num_clients": 2, "num_users": 2} == client.do("presence_stats", channel="seen:a")

    def test_of_nobody(self, world: World) -> None:
        """Is empty."""
        client = world.connected("42")

        assert {"presence": {}} == client.do("presence", channel="seen:a")
        assert {"num_clients": 0, "num_users": 0} == client.do("presence_stats", channel="seen:a")

    @pytest.mark.parametrize("method", ["presence", "presence_stats"])
    @pytest.mark.parametrize(
        ("channel", "error"),
        [
            ("nowhere:a", Errors.UNKNOWN_CHANNEL),
            ("two words", Errors.BAD_REQUEST),
            ("plain:a", Errors.NOT_AVAILABLE),
            ("chat:a", Errors.PERMISSION_DENIED),
        ],
    )
    def test_refuses(self, world: World, method: str, channel: str, error: Error) -> None:
        """Where it is not kept, and where the user may not."""
        world.connected("42").refused(error, method, channel=channel)

    def test_a_token_may_hide_a_member(self, world: World) -> None:
        """For this subscription."""
        client, hidden = world.connected("42"), world.connected("43")
        client.subscribe("seen:a")
        override = {"presence": {"value": False}}
        hidden.subscribe("seen:a", token=subscription_token(world, "43", "seen:a", override=override))

        assert [client.id] == list(client.do("presence", channel="seen:a")["presence"])


class TestApplication:
    """Commands that reach the application."""

    def test_rpc_calls_a_method(self, world: World) -> None:
        """And gives its answer back, on one line."""
        calls: list[Call] = []

        async def double(call: Call) -> bytes:
            calls.append(call)
            return b'{"got":\n' + call.data + b"}"

        world.procedures.methods["double"] = double
        client = world.connected("42")

        assert {"data": {"got": [1]}} == client.do("rpc", method="double", data=[1])
        assert [Call("42", client.id, b"[1]")] == calls

    def test_rpc_may_answer_nothing(self, world: World) -> None:
        """The result is empty; data that was not sent is empty too."""

        async def nothing(call: Call) -> bytes:
            assert b"" == call.data
            return b""

        world.procedures.methods[""] = nothing

        assert {} == world.connected("42").do("rpc")

    def test_rpc_may_refuse(self, world: World) -> None:
        """With an error of its own."""
        own = Error(400, "not today")

        async def refuse(_: Call) -> Error:
            return own

        world.procedures.methods["refuse"] = refuse

        world.connected("42").refused(own, "rpc", method="refuse")

    def test_rpc_of_nothing(self, world: World) -> None:
        """Error 104."""
        world.connected("42").refused(Errors.METHOD_NOT_FOUND, "rpc", method="unknown")

    def test_send_reaches_the_application(self, world: World) -> None:
        """Without an answer."""
        taken: list[Call] = []

        async def take(call: Call) -> None:
            taken.append(call)

        world.procedures.on_send = take
        client = world.connected("42")
        client.send({"send": {"data": {"x": 1}}})

        client.expect_no_push()
        assert [Call("42", client.id, b'{"x": 1}')] == taken

    def test_send_to_nobody(self, world: World) -> None:
        """3508."""
        client = world.connected("42")
        client.send({"send": {"data": 1}})

        client.expect_closed(Disconnects.NOT_AVAILABLE)


class TestRefresh:
    """A new connection token."""

    def test_begins_a_new_time(self, world: World) -> None:
        """The connection lives on, with what the new token says."""
        client = world.connected("42", seconds=60.0)
        world.advance(50.0)
        result = client.do("refresh", token=world.token("42", seconds=100.0, info={"n": 2}))
        assert {"client": client.id, "version": "slackwater 1.2.3", "expires": True, "ttl": 100} == result
        world.advance(124.9)
        client.subscribe("seen:a")
        assert b'"conn_info":{"n":2}' in world.hub.presence("seen:a")[client.id]
        world.advance(0.1)

        client.expect_closed(Disconnects.EXPIRED)

    def test_within_the_grace(self, world: World) -> None:
        """Late is early enough."""
        client = world.connected("42", seconds=60.0)
        world.advance(84.0)
        client.do("refresh", token=world.token("42", seconds=60.0))
        world.advance(2.0)

        client.expect_no_push()

    def test_with_a_token_that_never_ends(self, world: World) -> None:
        """Neither does the connection."""
        client = world.connected("42", seconds=60.0)
        assert {"client", "version"} == client.do("refresh", token=world.token("42")).keys()
        world.advance(1e5)

        client.expect_no_push()

    def test_with_a_token_that_ran_out(self, world: World) -> None:
        """3005."""
        client = world.connected("42", seconds=60.0)
        client.ask("refresh", token=world.token("42", seconds=0.0))

        client.expect_closed(Disconnects.EXPIRED)

    @pytest.mark.parametrize("user", ["43", "", None])
    def test_with_a_token_of_somebody_else(self, world: World, user: str | None) -> None:
        """3500, and so for one that is none."""
        client = world.connected("42", seconds=60.0)
        client.ask("refresh", token="forged" if user is None else world.token(user, seconds=60.0))

        client.expect_closed(Disconnects.INVALID_TOKEN)


class TestSubRefresh:
    """A new subscription token."""

    def subscribed(self, world: World) -> FakeClient:
        """Return a client whose subscription runs out in a minute."""
        client = world.connected("42")
        client.subscribe("$a", token=subscription_token(world, "42", "$a", seconds=60.0))
        return client

    def test_begins_a_new_time(self, world: World) -> None:
        """And changes what is shown."""
        client = self.subscribed(world)
        world.advance(50.0)
        token = subscription_token(world, "42", "$a", seconds=100.0, info=5)
        assert {"expires": True, "ttl": 100} == client.do("sub_refresh", channel="$a", token=token)
        world.advance(124.9)
        client.expect_no_push()
        assert b'"chan_info":5' in client.connection.memberships["$a"].info()
        world.advance(0.1)

        client.expect_unsubscribed("$a", Unsubscribes.EXPIRED)

    def test_with_a_token_that_never_ends(self, world: World) -> None:
        """Neither does the subscription."""
        client = self.subscribed(world)
        assert {} == client.do("sub_refresh", channel="$a", token=subscription_token(world, "42", "$a"))
        world.advance(1e5)

        client.expect_no_push()

    def test_of_no_subscription_of_its_own(self, world: World) -> None:
        """Error 103, and so for one that the server made."""
        client = world.connected("42", channels=["$b"])
        for channel in ("$a", "$b"):
            token = subscription_token(world, "42", channel)
            client.refused(Errors.PERMISSION_DENIED, "sub_refresh", channel=channel, token=token)

    def test_without_a_token(self, world: World) -> None:
        """Error 107."""
        self.subscribed(world).refused(Errors.BAD_REQUEST, "sub_refresh", channel="$a")

    def test_with_a_token_that_ran_out(self, world: World) -> None:
        """Error 110; the subscription has its grace."""
        client = self.subscribed(world)
        token = subscription_token(world, "42", "$a", seconds=0.0)
        client.refused(Errors.EXPIRED, "sub_refresh", channel="$a", token=token)

        assert 1 == world.hub.subscriptions

    @pytest.mark.parametrize(("user", "channel"), [("43", "$a"), ("42", "$b"), (None, "")])
    def test_with_a_token_for_something_else(self, world: World, user: str | None, channel: str) -> None:
        """3500, and so for one that is none."""
        client = self.subscribed(world)
        token = "forged" if user is None else subscription_token(world, user, channel)
        client.ask("sub_refresh", channel="$a", token=token)

        client.expect_closed(Disconnects.INVALID_TOKEN)
        world.assert_empty()


class TestSubscribeByServer:
    """The server API puts a client into a channel."""

    def subscribe(self, client: FakeClient, channel: str, **options: object) -> Error | None:
        """Subscribe it, at once or when the world goes on."""
        world = client.world
        outcome: list[Error | None] = []

        async def work() -> None:
            outcome.append(
                await subscribe_by_server(
                    world.context,
                    client.connection,
                    world.channel(channel),
                    **options,  # type: ignore[arg-type]  # whatever it takes
                )
            )

        assert DONE is first_step(work())
        return outcome[0]

    def test_tells_the_client(self, world: World) -> None:
        """With a push; what comes later follows it."""
        client = world.connected("42")
        assert self.subscribe(client, "seen:a", info=b"1", data=b'{"hello":1}') is None
        assert {"data": {"hello": 1}} == client.expect_push("subscribe", "seen:a")
        assert b'"chan_info":1' in world.hub.presence("seen:a")[client.id]
        world.publish("seen:a")

        client.expect_push("pub", "seen:a")

    def test_tells_where_it_begins(self, world: World) -> None:
        """Where a position is kept; data beside it."""
        epoch = fill(world, 2, "chat:a")
        client = world.connected("42")
        self.subscribe(client, "chat:a", data=b"1")

        expected = {"recoverable": True, "positioned": True, "epoch": epoch, "offset": 2, "data": 1}
        assert expected == client.expect_push("subscribe", "chat:a")
        assert "42" == client.expect_push("join", "chat:a")["info"]["user"]

    def test_hands_over_what_was_published_since(self, world: World) -> None:
        """Behind the push, and nothing of it again."""
        epoch = fill(world, 3)
        client = world.connected("42")
        self.subscribe(client, "kept:a", since=Position(1, epoch))

        assert 1 == client.expect_push("subscribe", "kept:a")["offset"]
        assert [2, 3] == client.offsets("kept:a")
        client.expect_no_push()

    def test_hands_over_nothing_when_something_is_lost(self, world: World) -> None:
        """It begins at the top."""
        fill(world, 3)
        client = world.connected("42")
        self.subscribe(client, "kept:a", since=Position(1, "another"))

        assert 3 == client.expect_push("subscribe", "kept:a")["offset"]
        client.expect_no_push()

    def test_runs_out(self, world: World) -> None:
        """With 3006 after the grace: a client cannot refresh it."""
        client = world.connected("42")
        self.subscribe(client, "plain:a", expires_at=world.clock.wall() + 60.0)
        client.expect_push("subscribe", "plain:a")
        world.advance(84.9)
        client.expect_no_push()
        world.advance(0.1)

        client.expect_closed(Disconnects.SUBSCRIPTION_EXPIRED)
        world.assert_empty()

    def test_twice(self, world: World) -> None:
        """Error 105."""
        client = world.connected("42")
        client.subscribe("plain:a")

        assert Errors.ALREADY_SUBSCRIBED is self.subscribe(client, "plain:a")
        client.expect_no_push()

    def test_too_many_channels(self) -> None:
        """Error 106 one past the limit."""
        client = World(channels_per_client=1).connected("42")
        assert self.subscribe(client, "plain:a") is None

        assert Errors.LIMIT_EXCEEDED is self.subscribe(client, "plain:b")

    @pytest.mark.parametrize("end", ["lost", "overrun"])
    def test_a_client_that_goes_meanwhile(self, world: World, end: str) -> None:
        """Error 100, and nothing is left."""
        client = world.connected("42")
        outcome: list[Error | None] = []

        async def work() -> None:
            outcome.append(await subscribe_by_server(world.context, client.connection, world.channel("kept:a")))

        world.streams.reads.close()
        world.tasks.spawn(work())
        world.settle()
        if end == "lost":
            client.lose()
        else:
            for _ in range(1025):
                world.publish("kept:a")
            world.settle()
        world.streams.reads.open()
        world.settle()

        assert [Errors.INTERNAL] == outcome
        assert {} == world.hub.rooms
        world.assert_sound()


def test_terminal_codes_are_given_for_what_cannot_get_better() -> None:
    """Load and time end a connection with codes after which clients come back."""
    passing = (Disconnects.SLOW, Disconnects.IDLE, Disconnects.TOO_MANY_REQUESTS, Disconnects.SHUTDOWN)
    final = (Disconnects.INVALID_TOKEN, Disconnects.BAD_REQUEST, Disconnects.PERMISSION_DENIED, Disconnects.STALE)

    assert all(isinstance(why, Disconnect) and why.reconnects for why in passing)
    assert not any(why.reconnects for why in final)
