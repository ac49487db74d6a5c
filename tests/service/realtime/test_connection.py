from __future__ import annotations

import json
from typing import Any

import pytest

from service.core.codes import Disconnects, Error, Errors, Unsubscribes
from service.core.session import SessionLimits
from service.realtime.context import Call
from tests.support.client import FakeClient
from tests.support.waiting import Gate
from tests.support.world import World

CALM = SessionLimits(ping_seconds=1e6, idle_seconds=100.0)


@pytest.fixture
def world() -> World:
    """An instance with nobody in it."""
    return World()


def offer(world: World, name: str, gate: Gate | None = None) -> list[bytes]:
    """Offer a procedure that answers with what it got, when the gate is open; returns what it was called with."""
    calls: list[bytes] = []

    async def echo(call: Call) -> bytes:
        calls.append(call.data)
        if gate is not None:
            await gate
        return call.data

    world.procedures.methods[name] = echo
    return calls


class TestFrames:
    """Several commands in one frame."""

    def test_replies_come_in_order(self, world: World) -> None:
        """In one frame, whether they succeed or not, and also when the session refuses them."""
        client = world.connected("1")
        before = len(client.transport.frames)
        huge = "x" * 65_536
        client.send(
            client.command("history", channel="kept:a"),
            client.command("subscribe", channel="nowhere:a"),
            client.command("ping"),
            client.command("publish", channel="plain:a", data=huge),
            client.command("rpc", method="unknown"),
            client.command("subscribe", channel="plain:a"),
        )

        assert 0 == client.expect_reply(2, "history")["offset"]
        client.expect_error(3, Errors.UNKNOWN_CHANNEL)
        client.expect_error(4, Errors.NOT_AVAILABLE)
        client.expect_error(5, Errors.BAD_REQUEST)
        client.expect_error(6, Errors.METHOD_NOT_FOUND)
        client.expect_reply(7, "subscribe")
        assert before + 1 == len(client.transport.frames)

    def test_connect_and_subscribes_may_come_together(self, world: World) -> None:
        """As the JavaScript client sends them."""
        client = world.client()
        client.send(
            client.command("connect", token=world.token("1")),
            client.command("subscribe", channel="plain:a"),
            client.command("subscribe", channel="plain:b"),
        )

        client.expect_reply(1, "connect")
        client.expect_reply(2, "subscribe")
        client.expect_reply(3, "subscribe")
        assert 2 == world.hub.subscriptions

    def test_nothing_is_done_behind_a_connect_that_was_refused(self, world: World) -> None:
        """Each command is told; nobody is subscribed and nothing is published."""
        client, other = world.client(), world.connected("2")
        other.subscribe("plain:a")
        client.send(
            client.command("connect", token=world.token("1", seconds=-1)),
            client.command("subscribe", channel="plain:a"),
            client.command("publish", channel="plain:a", data=1),
            {"send": {"data": 1}},
        )
        client.expect_error(1, Errors.TOKEN_EXPIRED)
        client.expect_error(2, Errors.UNAUTHORIZED)
        client.expect_error(3, Errors.UNAUTHORIZED)
        client.refused(Errors.UNAUTHORIZED, "history", channel="plain:a")

        client.expect_no_push()
        other.expect_no_push()
        assert 1 == world.hub.subscriptions

    def test_nothing_is_done_behind_a_connect_that_ended_the_connection(self, world: World) -> None:
        """The close is all there is."""
        client = world.client()
        client.send(client.command("connect", token="forged"), client.command("subscribe", channel="plain:a"))

        client.expect_closed(Disconnects.INVALID_TOKEN)
        world.assert_empty()

    def test_a_refused_connect_runs_out_of_time(self, world: World) -> None:
        """The connection is of no use any more."""
        client = world.client()
        client.refused(Errors.TOKEN_EXPIRED, "connect", token=world.token("1", seconds=-1))
        world.advance(10.0)

        client.expect_closed(Disconnects.STALE)

    def test_a_violation_ends_the_connection_alone(self, world: World) -> None:
        """Others go on."""
        client, other = world.connected("1"), world.connected("2")
        client.send_raw(b"garbage")

        client.expect_closed_with(3501, "bad request")
        other.subscribe("plain:a")
        world.assert_sound()

    def test_binary_is_refused(self, world: World) -> None:
        """With 3506."""
        client = world.connected("1")
        client.connection.receive_binary()

        client.expect_closed(Disconnects.INAPPROPRIATE_PROTOCOL)

    def test_what_comes_after_the_close_is_dropped(self, world: World) -> None:
        """It was on its way."""
        client = world.connected("1")
        client.connection.close(Disconnects.FORCE_DISCONNECT)
        client.ask("subscribe", channel="plain:a")

        client.expect_closed(Disconnects.FORCE_DISCONNECT)
        world.assert_empty()


class TestWaiting:
    """A command that has to wait."""

    def test_those_behind_it_wait_too(self, world: World) -> None:
        """Nothing more is read meanwhile, and what was read already is not lost."""
        client = world.connected("1")
        gate = Gate()
        calls = offer(world, "slow", gate)
        gate.close()
        client.send(client.command("rpc", method="slow", data=1), client.command("rpc", method="slow", data=2))
        client.ask("rpc", method="slow", data=3)
        world.settle()
        assert [b"1"] == calls
        assert not client.transport.is_reading
        client.expect_no_push()
        gate.open()

        assert [1, 2, 3] == [client.expect_reply(number, "rpc")["data"] for number in (2, 3, 4)]
        assert [b"1", b"2", b"3"] == calls

    def test_reading_goes_on_when_all_is_done(self, world: World) -> None:
        """And commands are decided on the spot again."""
        client = world.connected("1")
        gate = Gate()
        offer(world, "slow", gate)
        gate.close()
        client.ask("rpc", method="slow", data=1)
        gate.open()
        client.expect_reply(2, "rpc")

        assert client.transport.is_reading
        client.ask("subscribe", channel="plain:a")
        assert 0 == len(world.tasks)
        assert {} == client.expect_reply(3, "subscribe")

    def test_code_of_the_application_runs_in_a_task(self, world: World) -> None:
        """It may begin with a timeout or a task group, which ask for the task that they are in."""
        client = world.connected("1")
        calls = offer(world, "quick")
        client.ask("rpc", method="quick", data=1)
        assert [] == calls
        assert 1 == len(world.tasks)
        assert {"data": 1} == client.expect_reply(2, "rpc")

    def test_others_do_not_wait(self, world: World) -> None:
        """They are other connections."""
        client, other = world.connected("1"), world.connected("2")
        gate = Gate()
        offer(world, "slow", gate)
        gate.close()
        client.ask("rpc", method="slow", data=1)

        other.subscribe("plain:a")
        client.expect_no_push()

    def test_a_subscribe_is_answered_before_its_publications(self, world: World) -> None:
        """Also when it had to wait itself, and the command behind it waits too."""
        client = world.connected("1")
        before, behind = Gate(), Gate()
        offer(world, "before", before)
        offer(world, "behind", behind)
        before.close()
        behind.close()
        client.send(
            client.command("rpc", method="before", data=1),
            client.command("subscribe", channel="plain:a"),
            client.command("rpc", method="behind", data=2),
        )
        before.open()
        world.settle()
        assert not client.transport.is_reading
        world.publish("plain:a", b"3")

        client.expect_reply(2, "rpc")
        client.expect_reply(3, "subscribe")
        assert {"data": 3} == client.expect_push("pub", "plain:a")
        behind.open()
        assert {"data": 2} == client.expect_reply(4, "rpc")

    def test_the_end_of_the_connection_ends_the_rest(self, world: World) -> None:
        """What was waited for is not undone, and nothing follows it."""
        client = world.connected("1")
        gate = Gate()
        calls = offer(world, "slow", gate)
        gate.close()
        client.send(client.command("rpc", method="slow", data=1), client.command("rpc", method="slow", data=2))
        client.lose()
        gate.open()
        world.settle()

        assert [b"1"] == calls
        world.assert_empty()

    def test_a_violation_meanwhile_ends_it(self, world: World) -> None:
        """What had been read already is looked at."""
        client = world.connected("1")
        gate = Gate()
        offer(world, "slow", gate)
        gate.close()
        client.ask("rpc", method="slow", data=1)
        client.send_raw(b"garbage")
        client.expect_closed_with(3501, "malformed")
        gate.open()
        world.settle()

        world.assert_empty()

    @pytest.mark.parametrize("channels", [["kept:a"], ["kept:a", "kept:b"]])
    @pytest.mark.parametrize("end", ["lost", "overrun"])
    def test_a_connect_that_ends_while_it_waits_leaves_nothing(
        self, world: World, channels: list[str], end: str
    ) -> None:
        """No member of a channel stays behind."""
        client = world.client()
        world.streams.reads.close()
        client.ask("connect", token=world.token("1", channels=channels))
        if end == "lost":
            client.lose()
        else:
            for _ in range(1025):
                world.publish("kept:a")
            world.settle()
        world.streams.reads.open()
        world.settle()

        if end == "overrun":
            client.expect_closed(Disconnects.INSUFFICIENT_STATE)
        world.assert_empty()


class TestStalling:
    """A peer that does not take its answers."""

    def stalled(self, world: World) -> tuple[FakeClient, list[bytes]]:
        """Return a client that asks for five large answers and takes none, and what was called."""
        calls: list[bytes] = []

        async def large(call: Call) -> bytes:
            calls.append(call.data)
            return b'"' + b"x" * 100_000 + b'"'

        world.procedures.methods["large"] = large
        client = world.connected("1")
        client.transport.is_full = True
        client.send(*(client.command("rpc", method="large", data=number) for number in range(5)))
        world.settle()
        return client, calls

    @pytest.mark.parametrize("by_time", [False, True])
    def test_holds_the_commands_behind(self, *, by_time: bool) -> None:
        """Until there is room again, which the transport tells or the next look finds."""
        world = World(sessions=SessionLimits())
        client, calls = self.stalled(world)
        held = 5 - len(calls)
        assert held > 0
        assert not client.transport.is_reading
        world.settle()
        assert 5 - held == len(calls)
        client.transport.is_full = False
        if by_time:
            world.advance(22.5)
        else:
            client.connection.drained()
            client.connection.drained()
            world.settle()

        assert [b"0", b"1", b"2", b"3", b"4"] == calls
        assert [2, 3, 4, 5, 6] == [message["id"] for message in self.inbox(client) if message]
        assert client.transport.is_reading

    @staticmethod
    def inbox(client: FakeClient) -> list[dict[str, Any]]:
        """Return what came."""
        client.take_in()
        return list(client.inbox)

    def test_stays_stalled_while_there_is_no_room(self) -> None:
        """A look that finds none changes nothing."""
        world = World(sessions=SessionLimits())
        client, calls = self.stalled(world)
        before = len(calls)
        world.advance(22.5)

        assert before == len(calls)
        assert not client.transport.is_reading

    def test_leaves_nothing(self, world: World) -> None:
        """When the connection ends meanwhile."""
        client, calls = self.stalled(world)
        before = len(calls)
        client.lose()
        client.connection.drained()

        assert before == len(calls)
        world.assert_empty()


class TestDefects:
    """An exception that nobody expected."""

    @pytest.mark.parametrize("waits", [False, True])
    def test_ends_this_connection_alone(self, world: World, *, waits: bool) -> None:
        """With 3004, and it is noted."""
        gate = Gate()

        async def fail(call: Call) -> bytes:
            await gate
            raise OSError(f"a defect in the hands of {call.user}")

        world.procedures.methods["fail"] = fail
        client, other = world.connected("1"), world.connected("2")
        if waits:
            gate.close()
        client.send(client.command("rpc", method="fail"), client.command("subscribe", channel="plain:a"))
        gate.open()

        client.expect_closed(Disconnects.INTERNAL_ERROR)
        ((where, error),) = world.observer.of("failed")
        assert "command rpc" == where
        assert isinstance(error, OSError)
        world.observer.failures.clear()
        other.subscribe("plain:a")
        world.assert_sound()


class TestRates:
    """How often a client may do what."""

    def test_messages_a_minute(self) -> None:
        """At the limit, and one past it 111; a minute later again."""
        world = World(messages_per_minute=3)
        client = world.connected("1")
        for _ in range(3):
            client.do("publish", channel="plain:a", data=1)
        client.refused(Errors.TOO_MANY_REQUESTS, "publish", channel="plain:a", data=1)
        assert [("messages_per_minute",)] == world.observer.of("limited")
        world.advance(59.9)
        client.refused(Errors.TOO_MANY_REQUESTS, "history", channel="kept:a")
        world.advance(0.1)

        client.do("publish", channel="plain:a", data=1)

    @pytest.mark.parametrize(
        ("method", "params"),
        [
            ("publish", {"channel": "plain:a", "data": 1}),
            ("rpc", {"method": "echo", "data": 1}),
            ("history", {"channel": "kept:a"}),
            ("presence", {"channel": "seen:a"}),
            ("presence_stats", {"channel": "seen:a"}),
        ],
    )
    def test_what_counts_as_a_message(self, method: str, params: dict[str, object]) -> None:
        """Each command of a frame for itself."""
        world = World(messages_per_minute=2)
        offer(world, "echo")
        client = world.connected("1")
        client.send(*(client.command(method, **params) for _ in range(3)))

        client.expect_reply(2, method)
        client.expect_reply(3, method)
        client.expect_error(4, Errors.TOO_MANY_REQUESTS)

    def test_send_counts_as_a_message(self) -> None:
        """It has no id to be refused with, so it is only not done."""
        world = World(messages_per_minute=2)
        taken: list[Call] = []

        async def take(call: Call) -> None:
            taken.append(call)

        world.procedures.on_send = take
        client = world.connected("1")
        client.send(*({"send": {"data": number}} for number in range(3)))

        client.expect_no_push()
        assert [b"0", b"1"] == [call.data for call in taken]

    def test_a_message_that_is_too_big_counts(self) -> None:
        """Otherwise the largest would be free."""
        world = World(messages_per_minute=1)
        client = world.connected("1")
        huge = "x" * 65_536
        client.refused(Errors.BAD_REQUEST, "publish", channel="plain:a", data=huge)

        client.refused(Errors.TOO_MANY_REQUESTS, "publish", channel="plain:a", data=huge)

    def test_other_commands_have_a_rate_of_their_own(self) -> None:
        """Subscribing is no message, and neither is refreshing."""
        world = World(messages_per_minute=1, commands_per_minute=4)
        client = world.connected("1")
        client.do("publish", channel="plain:a", data=1)
        client.subscribe("plain:a")
        client.do("unsubscribe", channel="plain:a")
        client.do("refresh", token=world.token("1"))
        client.refused(Errors.NOT_AVAILABLE, "ping")
        client.refused(Errors.TOO_MANY_REQUESTS, "unsubscribe", channel="plain:a")

        assert [("commands_per_minute",)] == world.observer.of("limited")

    def test_connecting_and_pongs_are_free(self) -> None:
        """However often a user comes back."""
        world = World(sessions=SessionLimits(ping_seconds=20.0), messages_per_minute=1, commands_per_minute=1)
        for _ in range(20):
            client = world.connected("1")
            world.advance(20.0)
            client.expect_ping()
            client.send({})
            client.expect_no_push()
            client.lose()

        assert [] == world.observer.of("limited")

    def test_too_many_refusals_end_the_connection(self) -> None:
        """3013 with the hundredth in a minute, which is still answered."""
        world = World(messages_per_minute=1)
        client = world.connected("1")
        client.do("publish", channel="plain:a", data=1)
        for _ in range(99):
            client.refused(Errors.TOO_MANY_REQUESTS, "publish", channel="plain:a", data=1)
        client.expect_no_push()
        client.refused(Errors.TOO_MANY_REQUESTS, "publish", channel="plain:a", data=1)

        client.expect_closed(Disconnects.TOO_MANY_REQUESTS)

    def test_refusals_of_both_kinds_add_up(self) -> None:
        """Within a minute; those of the minute before are forgotten."""
        world = World(messages_per_minute=1, commands_per_minute=1, refusals_per_minute=3)
        client = world.connected("1")
        commands: list[tuple[str, dict[str, object]]] = [
            ("publish", {"channel": "plain:a", "data": 1}),
            ("unsubscribe", {"channel": "plain:a"}),
        ]
        for _ in range(2):
            for method, params in commands:
                client.do(method, **params)
            for method, params in commands:
                client.refused(Errors.TOO_MANY_REQUESTS, method, **params)
            world.advance(60.0)
        client.do("unsubscribe", channel="plain:a")
        for _ in range(3):
            client.refused(Errors.TOO_MANY_REQUESTS, "unsubscribe", channel="plain:a")

        client.expect_closed(Disconnects.TOO_MANY_REQUESTS)

    @pytest.mark.parametrize(("refusals", "is_closed"), [(1, True), (0, False)])
    def test_the_number_of_refusals_may_be_one_or_none(self, refusals: int, *, is_closed: bool) -> None:
        """None means that no number of them ends a connection."""
        world = World(messages_per_minute=1, refusals_per_minute=refusals)
        client = world.connected("1")
        client.do("publish", channel="plain:a", data=1)
        client.refused(Errors.TOO_MANY_REQUESTS, "publish", channel="plain:a", data=1)

        if is_closed:
            client.expect_closed(Disconnects.TOO_MANY_REQUESTS)
        else:
            for _ in range(200):
                client.refused(Errors.TOO_MANY_REQUESTS, "history", channel="kept:a")

    def test_connecting_again_begins_no_new_count(self) -> None:
        """It belongs to the user, and so do the refusals; other users have their own."""
        world = World(messages_per_minute=2, refusals_per_minute=3)
        for _ in range(2):
            client = world.connected("1")
            client.do("publish", channel="plain:a", data=1)
            client.lose()
        for _ in range(2):
            client = world.connected("1")
            client.refused(Errors.TOO_MANY_REQUESTS, "publish", channel="plain:a", data=1)
            client.lose()
        client = world.connected("1")
        client.refused(Errors.TOO_MANY_REQUESTS, "publish", channel="plain:a", data=1)
        client.expect_closed(Disconnects.TOO_MANY_REQUESTS)

        world.connected("2").do("publish", channel="plain:a", data=1)

    def test_connections_of_a_user_share_the_count(self) -> None:
        """Several at once make no more of it."""
        world = World(messages_per_minute=2)
        one, two = world.connected("1"), world.connected("1")
        one.do("publish", channel="plain:a", data=1)
        two.do("publish", channel="plain:a", data=1)

        one.refused(Errors.TOO_MANY_REQUESTS, "publish", channel="plain:a", data=1)

    def test_an_anonymous_connection_counts_for_itself(self) -> None:
        """There is nobody else to count for; nothing is remembered when it ends."""
        world = World(messages_per_minute=1, commands_per_minute=5)
        one, two = world.connected(), world.connected()
        one.do("publish", channel="plain:a", data=1)
        one.do("unsubscribe", channel="plain:a")
        one.refused(Errors.TOO_MANY_REQUESTS, "publish", channel="plain:a", data=1)
        two.do("publish", channel="plain:a", data=1)
        one.lose()
        two.lose()

        context = world.context
        assert [0, 0, 0] == [len(limit) for limit in (context.messages, context.commands, context.refusals)]

    def test_a_client_with_128_channels_comes_back_without_a_refusal(self) -> None:
        """With the limits as they are by default."""
        world = World(messages_per_minute=100, commands_per_minute=6000)
        for _ in range(5):
            client = world.client()
            client.send(
                client.command("connect", token=world.token("1")),
                *(client.command("subscribe", channel=f"kept:{number}", recover=True) for number in range(128)),
            )
            client.take_in()
            assert 129 == len(client.inbox)
            assert all("error" not in message for message in client.inbox)
            client.lose()

        assert [] == world.observer.of("limited")


class TestTime:
    """What happens to a connection because time passes."""

    def test_connect_must_come_in_time(self, world: World) -> None:
        """Within 10 s."""
        client = world.client()
        world.advance(9.9)
        client.expect_no_push()
        world.advance(0.1)

        client.expect_closed(Disconnects.STALE)
        world.assert_empty()

    def test_pings_go_on_and_on(self) -> None:
        """As long as they are answered."""
        world = World(sessions=SessionLimits())
        client = world.connected("1")
        world.advance(22.45)
        client.expect_no_push()
        world.advance(0.05)
        for _ in range(5):
            client.expect_ping()
            world.advance(9.0)
            client.send({})
            world.advance(20.9)
            client.expect_no_push()
            world.advance(0.1)

    def test_a_client_that_never_answers_is_closed(self) -> None:
        """With 3012, 10 s after the ping."""
        world = World(sessions=SessionLimits())
        client = world.connected("1")
        world.advance(22.5)
        client.expect_ping()
        world.advance(9.9)
        client.expect_no_push()
        world.advance(0.1)

        client.expect_closed(Disconnects.NO_PONG)
        world.assert_empty()

    def test_an_idle_client_is_closed(self) -> None:
        """With 3000 and a reason."""
        world = World(sessions=CALM)
        client = world.connected("1")
        world.advance(99.9)
        client.expect_no_push()
        world.advance(0.1)

        client.expect_closed(Disconnects.IDLE)

    def test_publications_to_it_are_activity(self) -> None:
        """Each begins the time anew; those of channels that it is not in do not."""
        world = World(sessions=CALM)
        client, other = world.connected("1"), world.connected("2")
        client.subscribe("plain:a")
        other.subscribe("plain:b")
        world.advance(60.0)
        world.publish("plain:a")
        world.settle()
        client.expect_push("pub", "plain:a")
        world.advance(40.0)
        other.expect_closed(Disconnects.IDLE)
        world.advance(59.9)
        client.expect_no_push()
        world.advance(0.1)

        client.expect_closed(Disconnects.IDLE)

    def test_joins_are_no_activity(self) -> None:
        """They are no publications."""
        world = World(sessions=CALM)
        client = world.connected("1")
        client.subscribe("seen:a", join_leave=True)
        client.expect_push("join", "seen:a")
        world.advance(60.0)
        world.connected("2").subscribe("seen:a")
        client.expect_push("join", "seen:a")
        world.advance(40.0)

        client.expect_closed(Disconnects.IDLE)

    def test_commands_are_activity(self) -> None:
        """Any but pong."""
        world = World(sessions=CALM)
        client = world.connected("1")
        world.advance(60.0)
        client.do("unsubscribe", channel="plain:a")
        world.advance(99.9)
        client.expect_no_push()
        world.advance(0.1)

        client.expect_closed(Disconnects.IDLE)

    def test_an_expired_connection_is_closed_after_the_grace(self, world: World) -> None:
        """25 s after its token ran out, with 3005."""
        client = world.connected("1", seconds=60.0)
        world.advance(84.9)
        client.expect_no_push()
        world.advance(0.1)

        client.expect_closed(Disconnects.EXPIRED)

    def test_an_expired_subscription_is_ended_after_the_grace(self, world: World) -> None:
        """25 s after its token ran out, with 2501; the connection and other subscriptions stay."""
        client = world.connected("1")
        client.subscribe("plain:b")
        client.subscribe("$a", token=world.token("1", seconds=60.0, channel="$a"))
        world.advance(84.9)
        client.expect_no_push()
        world.advance(0.1)

        client.expect_unsubscribed("$a", Unsubscribes.EXPIRED)
        client.expect_no_push()
        assert ["plain:b"] == list(client.connection.memberships)
        world.assert_sound()


class TestClosing:
    """The end of a connection."""

    def test_a_push_goes_out_before_the_close(self, world: World) -> None:
        """And the reason is as it was given."""
        client = world.connected("1")
        client.connection.push(b'{"push":{"message":{"data":1}}}')
        client.connection.close(Disconnects.FORCE_RECONNECT)

        assert {"data": 1} == client.expect_push("message")
        client.expect_closed(Disconnects.FORCE_RECONNECT)

    def test_is_told_once(self, world: World) -> None:
        """However often it ends."""
        client = world.connected("1")
        world.clock.advance(5.0)
        client.connection.close(Disconnects.FORCE_RECONNECT)
        client.connection.close(Disconnects.SHUTDOWN)
        client.connection.lost()

        assert [(Disconnects.FORCE_RECONNECT, 5.0)] == world.observer.of("connection_closed")
        client.expect_closed(Disconnects.FORCE_RECONNECT)
        world.assert_empty()

    def test_a_lost_socket_has_no_code(self, world: World) -> None:
        """The peer went away by itself."""
        client = world.connected("1")
        client.lose()

        assert [(None, 0.0)] == world.observer.of("connection_closed")
        world.assert_empty()

    def test_a_subscription_may_be_ended_by_the_server(self, world: World) -> None:
        """With 2000; what came before is sent before."""
        client = world.connected("1")
        client.subscribe("plain:a")
        world.publish("plain:a")
        world.deliver()
        client.connection.unsubscribe(client.connection.memberships["plain:a"], Unsubscribes.SERVER)

        client.expect_push("pub", "plain:a")
        client.expect_unsubscribed("plain:a", Unsubscribes.SERVER)
        client.expect_no_push()

    def test_everything_is_counted(self, world: World) -> None:
        """By method, and refusals by method and error."""
        client = world.connected("1")
        client.subscribe("plain:a")
        client.refused(Errors.ALREADY_SUBSCRIBED, "subscribe", channel="plain:a")
        client.lose()

        assert {"connect": 1, "subscribe": 2} == world.observer.counts("command")
        assert [("subscribe", Errors.ALREADY_SUBSCRIBED)] == world.observer.of("error")
        assert 1 == len(world.observer.of("connection_opened"))
        assert 1 == len(world.observer.of("authenticated"))


def test_every_error_is_json_on_one_line(world: World) -> None:
    """As stock clients read it."""
    client = world.connected("1")
    error: Error = Errors.METHOD_NOT_FOUND
    client.ask("rpc", method="unknown")
    world.settle()

    expected = {"id": 2, "error": {"code": error.code, "message": error.message}}
    assert expected == json.loads(client.transport.payloads[-1])
