from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from service.core.codes import Disconnects, Errors, Unsubscribes
from service.core.stream import Position
from service.realtime.hub import MAX_FRAME_BYTES, Hub
from service.realtime.ports import Event, EventKind
from tests.support.client import FakeClient
from tests.support.observer import RecordingObserver
from tests.support.transport import FakeTransport
from tests.support.world import World


@pytest.fixture
def world() -> World:
    """An instance with nobody in it."""
    return World()


def members(world: World, count: int, channel: str = "kept:a", **params: object) -> list[FakeClient]:
    """Return subscribers, with nothing unread."""
    clients = [world.connected(str(number)) for number in range(count)]
    for client in clients:
        client.subscribe(channel, **params)
    return clients


def publication(offset: int, epoch: str, channel: str = "kept:a") -> Event:
    """Return an event as the broker brings it."""
    return Event(EventKind.PUBLICATION, channel, offset, epoch, b'{"data":%d,"offset":%d}' % (offset, offset))


def epoch_of(world: World, channel: str = "kept:a") -> str:
    """Return the epoch of a stream; something is published to it."""
    position = world.publish(channel)
    world.settle()
    assert position is not None
    return position.epoch


class TestFrames:
    """What is written at the end of a tick."""

    def test_publications_of_a_tick_go_in_one_frame(self, world: World) -> None:
        """In order, and every member is handed the same bytes."""
        clients = members(world, 3)
        before = [len(client.transport.frames) for client in clients]
        for _ in range(3):
            world.publish("kept:a")

        assert [[1, 2, 3]] * 3 == [client.offsets("kept:a") for client in clients]
        frames = [client.transport.frames[count:] for client, count in zip(clients, before, strict=True)]
        assert [1, 1, 1] == [len(written) for written in frames]
        assert 1 == len({id(written[0]) for written in frames})
        assert [(9, len(frames[0][0]))] == world.observer.of("delivered")

    def test_publications_of_two_ticks_go_in_two(self, world: World) -> None:
        """Nothing waits longer than the tick."""
        (client,) = members(world, 1)
        for _ in range(2):
            world.publish("kept:a")
            world.settle()

        assert 4 == len(client.transport.frames)
        assert [1, 2] == client.offsets("kept:a")

    def test_channels_have_frames_of_their_own(self, world: World) -> None:
        """Members of one get nothing of the other."""
        (one,) = members(world, 1, "kept:a")
        (two,) = members(world, 1, "kept:b")
        world.publish("kept:a")
        world.publish("kept:b")

        assert [1] == one.offsets("kept:a")
        one.expect_no_push()
        assert [1] == two.offsets("kept:b")
        two.expect_no_push()

    @pytest.mark.parametrize(("extra", "frames"), [(0, [2, 1]), (1, [1, 1, 1])])
    def test_frames_are_no_longer_than_the_limit(self, world: World, extra: int, frames: list[int]) -> None:
        """At it, and one past it the next frame begins."""
        (client,) = members(world, 1, "plain:a")
        around = len(b'{"push":{"channel":"plain:a","pub":{"data":""}}}')
        half = MAX_FRAME_BYTES // 2 - around
        before = len(client.transport.frames)
        # The line break between the two counts too.
        for size in (half - 1 + extra, half, half):
            world.publish("plain:a", b'"' + b"x" * size + b'"')
        world.settle()
        written = client.transport.payloads[before:]

        assert frames == [payload.count(b"\n") + 1 for payload in written]
        assert all(len(payload) <= MAX_FRAME_BYTES for payload in written)
        assert frames == [count for count, _ in world.observer.of("delivered")]

    def test_a_longer_publication_goes_alone(self, world: World) -> None:
        """It cannot be cut."""
        (client,) = members(world, 1, "plain:a")
        before = len(client.transport.frames)
        for size in (1, MAX_FRAME_BYTES, 1):
            world.publish("plain:a", b'"' + b"x" * size + b'"')
        world.settle()

        assert [1, MAX_FRAME_BYTES, 1] == [payload.count(b"x") for payload in client.transport.payloads[before:]]

    def test_nothing_is_built_for_nobody(self, world: World) -> None:
        """A publication to a channel without members costs no frame."""
        world.publish("kept:a")
        world.settle()

        assert [] == world.observer.of("delivered")
        world.assert_empty()

    def test_joins_are_not_built_when_nobody_watches(self, world: World) -> None:
        """They did not ask."""
        members(world, 2, "seen:a")

        assert [] == world.observer.of("delivered")


class TestJoining:
    """A member joins at an offset: nothing at or below it is sent again."""

    def test_what_is_still_in_the_broker_is_not_sent_again(self, world: World) -> None:
        """It was counted by the reply; the next one comes."""
        world.broker.is_held = True
        world.publish("kept:a")
        world.publish("kept:a")
        client = world.connected("1")
        assert 2 == client.subscribe("kept:a", recoverable=True)["offset"]
        world.publish("kept:a")
        world.broker.is_held = False

        assert [3] == client.offsets("kept:a")
        client.expect_no_push()

    def test_what_was_recovered_is_not_sent_again(self, world: World) -> None:
        """Also when it is still in the broker."""
        world.broker.is_held = True
        world.publish("kept:a")
        world.publish("kept:a")
        client = world.connected("1")
        result = client.subscribe("kept:a", recover=True)
        assert [1, 2] == [item["offset"] for item in result["publications"]]
        world.broker.is_held = False

        client.expect_no_push()

    @pytest.mark.parametrize("is_positioned", [True, False])
    def test_who_joins_ahead_of_the_room_gets_a_frame_of_its_own(self, world: World, *, is_positioned: bool) -> None:
        """What others still wait for it has; from then on it shares their bytes."""
        (first,) = members(world, 1)
        world.publish("kept:a")
        world.settle()
        assert [1] == first.offsets("kept:a")
        world.broker.is_held = True
        for _ in range(3):
            world.publish("kept:a")
        world.deliver()
        (second,) = members(world, 1, recoverable=is_positioned)
        assert [2] == first.offsets("kept:a")
        second.expect_no_push()
        world.publish("kept:a")
        for offset in (3, 4):
            world.deliver()
            assert [offset] == first.offsets("kept:a")
            second.expect_no_push()
        world.deliver()

        assert [5] == first.offsets("kept:a")
        assert [5] == second.offsets("kept:a")
        world.publish("kept:a")
        world.deliver()
        assert [6] == first.offsets("kept:a")
        assert [6] == second.offsets("kept:a")
        assert first.transport.frames[-1] is second.transport.frames[-1]

    def test_who_joins_within_a_tick_gets_what_comes_after(self, world: World) -> None:
        """And not what came before in the same tick."""
        (first,) = members(world, 1)
        world.broker.is_held = True
        world.publish("kept:a")
        world.deliver()
        second = world.connected("2")
        third = world.connected("3")
        world.clock.advance(0)
        world.publish("kept:a")
        world.deliver()
        second.ask("subscribe", channel="kept:a")
        world.publish("kept:a")
        world.deliver()
        third.ask("subscribe", channel="kept:a")

        assert [1, 2, 3] == first.offsets("kept:a")
        second.expect_reply(2, "subscribe")
        assert [3] == second.offsets("kept:a")
        third.expect_reply(2, "subscribe")
        third.expect_no_push()
        world.publish("kept:a")
        world.deliver()
        assert [[4]] * 3 == [client.offsets("kept:a") for client in (first, second, third)]

    def test_who_joins_within_a_tick_and_ahead_of_the_room(self, world: World) -> None:
        """It waits for its offset over several ticks, and then misses nothing of one."""
        (first,) = members(world, 1)
        second = world.connected("2")
        world.broker.is_held = True
        for _ in range(5):
            world.publish("kept:a")
        world.deliver(2)
        second.ask("subscribe", channel="kept:a")
        world.deliver()
        assert [1, 2, 3] == first.offsets("kept:a")
        second.expect_reply(2, "subscribe")
        world.publish("kept:a")
        world.deliver()
        assert [4] == first.offsets("kept:a")
        world.deliver(2)

        assert [5, 6] == first.offsets("kept:a")
        assert [6] == second.offsets("kept:a")

    @pytest.mark.parametrize("skip_history", [False, True])
    def test_who_joins_within_a_tick_of_a_channel_without_offsets(self, world: World, *, skip_history: bool) -> None:
        """Only the order tells what came before."""
        channel = "kept:a" if skip_history else "plain:a"
        (first,) = members(world, 1, channel)
        world.publish(channel, b"1", skip_history=skip_history)
        world.deliver()
        second = world.connected("2")
        world.publish(channel, b"2", skip_history=skip_history)
        world.deliver()
        second.ask("subscribe", channel=channel)
        world.publish(channel, b"3", skip_history=skip_history)
        world.deliver()

        assert [1, 2, 3] == [first.expect_push("pub", channel)["data"] for _ in range(3)]
        second.expect_reply(2, "subscribe")
        # Connecting ended the first tick, so the second one held 2 and 3.
        assert 3 == second.expect_push("pub", channel)["data"]
        second.expect_no_push()

    def test_the_reply_comes_before_everything_of_the_channel(self, world: World) -> None:
        """Also its own join."""
        client = world.connected("1")
        client.ask("subscribe", channel="seen:a", join_leave=True)
        world.publish("seen:a", b"1")

        client.expect_reply(2, "subscribe")
        assert client.id == client.expect_push("join", "seen:a")["info"]["client"]
        client.expect_push("pub", "seen:a")

    def test_what_comes_twice_is_sent_once(self, world: World) -> None:
        """An offset that was there already is dropped."""
        epoch = epoch_of(world)
        (client,) = members(world, 1)
        for offset in (2, 2, 1, 3, 2):
            world.hub.deliver(publication(offset, epoch))

        assert [2, 3] == client.offsets("kept:a")

    @given(
        st.lists(
            st.sampled_from([("publish", 0), ("publish", 0), ("deliver", 0), ("deliver", 0), ("tick", 0)])
            | st.tuples(st.sampled_from(["join", "recover", "leave"]), st.integers(0, 3)),
            max_size=60,
        )
    )
    def test_every_member_gets_everything_after_its_offset_once(self, steps: list[tuple[str, int]]) -> None:
        """However publications, their way through the broker, joins and ends of ticks fall together."""
        audience = Audience()
        for verb, number in steps:
            getattr(audience, verb)(number)
        audience.world.broker.is_held = False
        for number in list(audience.at):
            audience.read(number)
            assert audience.top == audience.at[number]
            audience.clients[number].expect_no_push()
        audience.world.assert_sound()


class Audience:
    """Four clients that come to one channel and go.

    Attributes:
        at: By number, the offset up to which a member has everything.
        seen: The same of those who left.
        top: Publications made.
    """

    def __init__(self) -> None:
        self.world = World()
        self.world.broker.is_held = True
        self.clients = [self.world.connected(str(number)) for number in range(4)]
        self.at: dict[int, int] = {}
        self.seen = dict.fromkeys(range(4), 0)
        self.top = 0

    def read(self, number: int) -> None:
        """Take what came; each publication must be the next one."""
        for offset in self.clients[number].offsets("kept:a"):
            assert self.at[number] + 1 == offset
            self.at[number] = offset

    def publish(self, _: int) -> None:
        """Put a publication into the broker."""
        self.world.publish("kept:a")
        self.top += 1

    def deliver(self, _: int) -> None:
        """Let one out of it."""
        if self.world.broker.waiting:
            self.world.deliver()

    def tick(self, _: int) -> None:
        """End the tick."""
        for number in self.at:
            self.read(number)

    def join(self, number: int) -> None:
        """Subscribe, going on from the top."""
        if number not in self.at:
            self._join(number, recoverable=True)

    def recover(self, number: int) -> None:
        """Subscribe, going on from where it was."""
        if number not in self.at:
            self._join(number, recover=True, offset=self.seen[number])

    def _join(self, number: int, **wish: object) -> None:
        result = self.clients[number].subscribe("kept:a", **wish)
        self.at[number] = result.get("offset", 0)
        for item in result.get("publications", []):
            assert self.at[number] + 1 == item["offset"]
            self.at[number] = item["offset"]

    def leave(self, number: int) -> None:
        """Unsubscribe; what came in the tick comes before the reply."""
        if number in self.at:
            request = self.clients[number].ask("unsubscribe", channel="kept:a")
            self.read(number)
            self.clients[number].expect_reply(request, "unsubscribe")
            self.seen[number] = self.at.pop(number)


class TestHolding:
    """What comes while a member waits for its history."""

    def joining(self, world: World, **params: object) -> FakeClient:
        """Return a client whose subscribe waits for the store; it has seen what was published before."""
        client = world.connected("1")
        world.streams.reads.close()
        client.ask("subscribe", channel="kept:a", **params)
        world.settle()
        return client

    def test_is_merged_into_the_reply(self, world: World) -> None:
        """Read, held, and what comes after: each once and in order."""
        world.publish("kept:a", b"1")
        world.settle()
        client = self.joining(world, recover=True)
        world.publish("kept:a", b"2")
        world.publish("kept:a", b"3")
        world.settle()
        was_reading = client.transport.is_reading
        world.streams.reads.open()
        result = client.expect_reply(2, "subscribe")

        assert [(1, 1), (2, 2), (3, 3)] == [(item["data"], item["offset"]) for item in result["publications"]]
        assert (True, True) == (result["recovered"], result["was_recovering"])
        assert (False, True) == (was_reading, client.transport.is_reading)
        world.publish("kept:a")
        assert [4] == client.offsets("kept:a")

    def test_lies_before_the_reply_without_recovery(self, world: World) -> None:
        """The position covers it, and it is not sent."""
        client = self.joining(world, recoverable=True)
        world.publish("kept:a")
        world.settle()
        world.streams.reads.open()
        result = client.expect_reply(2, "subscribe")

        assert 1 == result["offset"]
        assert "publications" not in result
        client.expect_no_push()

    def test_counts_for_nothing_before_the_reply(self, world: World) -> None:
        """It is not present, and nobody hears of it."""
        other = world.connected("2")
        other.subscribe("seen:a", join_leave=True)
        other.expect_push("join", "seen:a")
        client = self.joining(world)

        assert {} == world.hub.presence("kept:a")
        assert (0, 0) == world.hub.presence_stats("kept:a")
        assert 2 == world.hub.subscriptions
        client.lose()
        world.streams.reads.open()
        other.expect_no_push()
        world.assert_sound()

    def test_a_gap_ends_the_connection(self, world: World) -> None:
        """With 3010; the client comes back and recovers."""
        epoch = epoch_of(world)
        client = self.joining(world, recover=True)
        world.hub.deliver(publication(3, epoch))
        world.streams.reads.open()

        client.expect_closed(Disconnects.INSUFFICIENT_STATE)
        world.assert_empty()

    @pytest.mark.parametrize(("count", "is_refused"), [(1024, False), (1025, True)])
    def test_is_bounded(self, world: World, count: int, *, is_refused: bool) -> None:
        """At the bound, and one past it the client tries again."""
        epoch = epoch_of(world)
        client = self.joining(world, recover=True)
        for offset in range(2, count + 2):
            world.hub.deliver(publication(offset, epoch))
        world.streams.reads.open()

        if is_refused:
            client.expect_error(2, Errors.INTERNAL)
            world.assert_sound()
            assert {} == world.hub.rooms
        else:
            assert count + 1 == len(client.expect_reply(2, "subscribe")["publications"])

    def test_an_overrun_member_may_try_again(self, world: World) -> None:
        """Others in the room are not touched."""
        (other,) = members(world, 1)
        client = self.joining(world)
        world.streams.reads.close()
        for _ in range(1025):
            world.publish("kept:a")
        world.settle()
        assert 1025 == len(other.offsets("kept:a"))
        world.streams.reads.open()
        client.expect_error(2, Errors.INTERNAL)

        assert 1025 == client.subscribe("kept:a", recoverable=True)["offset"]

    def test_a_room_is_kept_for_who_is_joining(self, world: World) -> None:
        """When the last member leaves meanwhile, what comes is still held."""
        (other,) = members(world, 1)
        client = self.joining(world, recover=True)
        other.lose()
        world.publish("kept:a")
        world.settle()
        world.streams.reads.open()

        assert [1] == [item["offset"] for item in client.expect_reply(2, "subscribe")["publications"]]
        world.publish("kept:a")
        assert [2] == client.offsets("kept:a")

    def test_who_is_lost_while_joining_leaves_nothing(self, world: World) -> None:
        """Neither before the answer of the store nor after it."""
        client = self.joining(world)
        client.lose()
        world.assert_sound()
        world.streams.reads.open()
        world.settle()

        world.assert_empty()


class TestGaps:
    """A publication is missing."""

    def test_ends_a_subscription_that_is_positioned(self, world: World) -> None:
        """With 2500, so that the client recovers; what came before the gap is sent first."""
        epoch = epoch_of(world)
        client, bystander = world.connected("1"), world.connected("2")
        client.subscribe("kept:a", recoverable=True)
        bystander.subscribe("kept:a")
        world.hub.deliver(publication(2, epoch))
        world.hub.deliver(publication(4, epoch))
        world.hub.deliver(publication(5, epoch))

        assert [2] == client.offsets("kept:a")
        client.expect_unsubscribed("kept:a", Unsubscribes.INSUFFICIENT_STATE)
        client.expect_no_push()
        assert [2, 4, 5] == bystander.offsets("kept:a")
        world.assert_sound()

    @pytest.mark.parametrize("wish", ["positioned", "recover", "recoverable"])
    def test_every_wish_that_means_a_position_is_checked(self, world: World, wish: str) -> None:
        """Positioned alone, too."""
        epoch = epoch_of(world)
        client = world.connected("1")
        client.subscribe("kept:a", **{wish: True})
        world.hub.deliver(publication(3, epoch))

        client.expect_unsubscribed("kept:a", Unsubscribes.INSUFFICIENT_STATE)

    def test_ends_a_connection_that_the_server_subscribed(self, world: World) -> None:
        """With 3010, since there is no subscribe that the client could repeat."""
        epoch = epoch_of(world, "checked:a")
        client = world.connected("1", channels=["checked:a"])
        world.hub.deliver(publication(2, epoch, "checked:a"))
        world.hub.deliver(publication(4, epoch, "checked:a"))

        assert [2] == client.offsets("checked:a")
        client.expect_closed(Disconnects.INSUFFICIENT_STATE)
        world.assert_empty()

    def test_another_epoch_is_a_gap(self, world: World) -> None:
        """Even when the offset would fit."""
        epoch_of(world)
        client, bystander = world.connected("1"), world.connected("2")
        client.subscribe("kept:a", recoverable=True)
        bystander.subscribe("kept:a")
        world.hub.deliver(publication(2, "another"))
        world.hub.deliver(publication(3, "another"))

        client.expect_unsubscribed("kept:a", Unsubscribes.INSUFFICIENT_STATE)
        assert [2, 3] == bystander.offsets("kept:a")

    def test_the_client_comes_back_with_what_it_missed(self, world: World) -> None:
        """The stream has it all; the gap was on the way."""
        (client,) = members(world, 1, recoverable=True)
        for _ in range(3):
            world.publish("kept:a")
        world.broker.waiting.popleft()
        client.expect_unsubscribed("kept:a", Unsubscribes.INSUFFICIENT_STATE)
        result = client.subscribe("kept:a", recover=True, offset=0)

        assert [1, 2, 3] == [item["offset"] for item in result["publications"]]
        client.expect_no_push()
        world.publish("kept:a")
        assert [4] == client.offsets("kept:a")

    def test_a_room_that_everybody_left_for_a_gap_is_gone(self, world: World) -> None:
        """Nothing is written to it any more."""
        epoch = epoch_of(world)
        (client,) = members(world, 1, recoverable=True)
        world.hub.deliver(publication(3, epoch))
        client.expect_unsubscribed("kept:a", Unsubscribes.INSUFFICIENT_STATE)

        assert {} == world.hub.rooms
        assert {} == world.hub._dirty


class TestLeaving:
    """The end of a membership."""

    def test_what_came_in_the_tick_is_still_its_own(self, world: World) -> None:
        """And what comes after is not."""
        (client,) = members(world, 1)
        world.publish("kept:a")
        world.deliver()
        client.ask("unsubscribe", channel="kept:a")
        world.publish("kept:a")

        assert [1] == client.offsets("kept:a")
        client.expect_reply(3, "unsubscribe")
        client.expect_no_push()

    def test_who_is_joining_hears_nothing_of_the_tick(self, world: World) -> None:
        """It never got its reply."""
        (other,) = members(world, 1)
        client = world.connected("2")
        world.streams.reads.close()
        client.ask("subscribe", channel="kept:a")
        world.publish("kept:a")
        world.deliver()
        client.lose()

        assert 1 == len(client.transport.frames)
        assert [1] == other.offsets("kept:a")

    def test_is_idempotent(self, world: World) -> None:
        """The second time nothing is there to end."""
        (client,) = members(world, 1)
        member = client.connection.memberships["kept:a"]
        world.hub.leave(member)
        world.hub.leave(member)

        assert 0 == world.hub.subscriptions

    def test_an_old_membership_does_not_end_a_new_one(self, world: World) -> None:
        """Of the same connection in the same channel."""
        (client,) = members(world, 1)
        old = client.connection.memberships["kept:a"]
        client.do("unsubscribe", channel="kept:a")
        client.subscribe("kept:a")
        world.hub.leave(old)

        assert 1 == world.hub.subscriptions
        world.assert_sound()

    def test_the_last_one_takes_the_room_along(self, world: World) -> None:
        """And what was still to be flushed in it."""
        clients = members(world, 2)
        world.publish("kept:a")
        world.deliver()
        clients[0].lose()
        assert 1 == len(world.hub.rooms)
        clients[1].lose()

        assert {} == world.hub.rooms
        world.settle()
        world.assert_empty()


class TestPresence:
    """Who is there."""

    def test_has_one_entry_a_connection(self, world: World) -> None:
        """Two of one user are two clients and one user."""
        clients = [world.connected("1", info={"n": 1}), world.connected("1"), world.connected("2")]
        for client in clients:
            client.subscribe("seen:a")

        found = world.hub.presence("seen:a")
        assert [client.id for client in clients] == list(found)
        expected = b'{"user":"1","client":"' + clients[0].id.encode() + b'","conn_info":{"n":1}}'
        assert expected == found[clients[0].id]
        assert (3, 2) == world.hub.presence_stats("seen:a")

    def test_of_an_empty_channel(self, world: World) -> None:
        """Is nobody."""
        assert {} == world.hub.presence("seen:a")
        assert (0, 0) == world.hub.presence_stats("seen:a")

    @pytest.mark.parametrize("end", ["lost", "closed", "unsubscribed", "kicked"])
    def test_has_no_ghosts(self, world: World, end: str) -> None:
        """However a member goes."""
        (stays, goes) = members(world, 2, "seen:a")
        if end == "lost":
            goes.lose()
            goes.lose()
        elif end == "closed":
            goes.connection.close(Disconnects.FORCE_DISCONNECT)
        elif end == "unsubscribed":
            goes.do("unsubscribe", channel="seen:a")
        else:
            goes.connection.unsubscribe(goes.connection.memberships["seen:a"], Unsubscribes.SERVER)

        assert [stays.id] == list(world.hub.presence("seen:a"))
        assert (1, 1) == world.hub.presence_stats("seen:a")
        world.assert_sound()

    def test_is_removed_after_the_socket_was_closed(self, world: World) -> None:
        """Whatever has to be waited for there comes after the close frame."""
        client = world.connected("1")
        client.subscribe("seen:a")
        found: list[list[str]] = []

        class Watching(FakeTransport):
            """Looks who is there when it is closed."""

            @override
            def close(self, code: int, reason: str) -> None:
                found.append(list(world.hub.presence("seen:a")))
                super().close(code, reason)

        client.connection.transport = Watching()
        client.connection.close(Disconnects.FORCE_DISCONNECT)

        assert [[client.id]] == found
        assert {} == world.hub.presence("seen:a")


class TestJoinsAndLeaves:
    """Who comes and goes."""

    def test_come_to_those_who_asked(self, world: World) -> None:
        """The own join too; others get nothing."""
        asked, other = world.connected("1"), world.connected("2")
        asked.subscribe("seen:a", join_leave=True)
        assert {"info": {"user": "1", "client": asked.id}} == asked.expect_push("join", "seen:a")
        other.subscribe("seen:a")
        assert "2" == asked.expect_push("join", "seen:a")["info"]["user"]
        other.do("unsubscribe", channel="seen:a")

        assert {"info": {"user": "2", "client": other.id}} == asked.expect_push("leave", "seen:a")
        asked.expect_no_push()
        other.expect_no_push()

    def test_come_to_everybody_where_the_namespace_says_so(self, world: World) -> None:
        """Asked for or not."""
        one, two = world.connected("1"), world.connected("2")
        one.subscribe("chat:a")
        one.expect_push("join", "chat:a")
        two.subscribe("chat:a")
        assert "2" == one.expect_push("join", "chat:a")["info"]["user"]
        assert "2" == two.expect_push("join", "chat:a")["info"]["user"]
        two.lose()

        assert "2" == one.expect_push("leave", "chat:a")["info"]["user"]

    def test_do_not_come_where_there_are_none(self, world: World) -> None:
        """Asking does not help."""
        (client, other) = members(world, 2, "kept:a", join_leave=True)
        other.lose()

        client.expect_no_push()

    def test_join_reaches_the_broker_before_leave(self, world: World) -> None:
        """Of one connection; otherwise it would seem to stay for ever."""
        world.broker.is_held = True
        client = world.connected("1")
        client.subscribe("seen:a")
        client.lose()

        assert [EventKind.JOIN, EventKind.LEAVE] == [event.kind for event in world.broker.waiting]

    def test_keep_their_place_among_publications(self, world: World) -> None:
        """In a frame of the tick; those who did not ask get the publications alone."""
        asked, other = world.connected("1"), world.connected("2")
        asked.subscribe("seen:a", join_leave=True)
        asked.expect_push("join", "seen:a")
        other.subscribe("seen:a")
        asked.expect_push("join", "seen:a")
        third = world.connected("3")
        world.publish("seen:a", b"1")
        third.ask("subscribe", channel="seen:a")
        world.publish("seen:a", b"2")
        world.settle()
        frames = len(asked.transport.frames)

        assert {"data": 1} == asked.expect_push("pub", "seen:a")
        assert "3" == asked.expect_push("join", "seen:a")["info"]["user"]
        assert {"data": 2} == asked.expect_push("pub", "seen:a")
        assert frames == len(asked.transport.frames)
        assert [0, 0] == other.offsets("seen:a")

    def test_come_to_a_late_member_that_asked(self, world: World) -> None:
        """And not to one that did not."""
        (other,) = members(world, 1, "chat:a")
        other.expect_push("join", "chat:a")
        world.publish("chat:a")
        world.deliver()
        late = world.connected("2")
        world.publish("chat:a")
        world.deliver()
        late.ask("subscribe", channel="chat:a")
        late.expect_reply(2, "subscribe")

        assert "2" == late.expect_push("join", "chat:a")["info"]["user"]
        late.expect_no_push()
        world.assert_sound()

    def test_late_member_that_did_not_ask_gets_publications_alone(self, world: World) -> None:
        """Its own join is not for it."""
        (other,) = members(world, 1, "seen:a", join_leave=True)
        other.expect_push("join", "seen:a")
        late = world.connected("2")
        world.publish("seen:a", b"1")
        world.deliver()
        late.ask("subscribe", channel="seen:a")
        world.settle()

        late.expect_reply(2, "subscribe")
        late.expect_no_push()
        world.publish("seen:a", b"2")
        assert {"data": 2} == late.expect_push("pub", "seen:a")


class TestSlowClients:
    """A transport over its limit."""

    def test_is_closed_before_the_next_write(self, world: World) -> None:
        """With 3008; it recovers when it comes back. Others are not touched."""
        slow, other = members(world, 2)
        slow.transport.is_full = True
        world.publish("kept:a")
        world.settle()
        assert slow.transport.closed is None
        world.publish("kept:a")

        assert [1, 2] == other.offsets("kept:a")
        assert [1] == slow.offsets("kept:a")
        slow.expect_closed(Disconnects.SLOW)
        world.assert_sound()

    def test_stays_when_it_has_caught_up(self, world: World) -> None:
        """By the next tick."""
        (client,) = members(world, 1)
        client.transport.is_full = True
        world.publish("kept:a")
        world.settle()
        client.transport.is_full = False
        world.publish("kept:a")

        assert [1, 2] == client.offsets("kept:a")
        client.expect_no_push()

    def test_who_is_gone_is_not_looked_at(self, world: World) -> None:
        """It left while it was overfull."""
        client, other = members(world, 2)
        client.transport.is_full = True
        world.publish("kept:a")
        world.settle()
        client.lose()
        assert {} == world.hub._overfull
        world.publish("kept:a")

        assert [1, 2] == other.offsets("kept:a")
        assert [(None,)] == [arguments[:1] for arguments in world.observer.of("connection_closed")]


class TestTables:
    """Connections, users and addresses."""

    def test_know_users_by_their_connections(self, world: World) -> None:
        """All of them, or the one that is named."""
        one, two, other = world.connected("1"), world.connected("1"), world.connected("2")

        assert [one.connection, two.connection] == world.hub.of_user("1")
        assert [two.connection] == world.hub.of_user("1", client=two.id)
        assert [] == world.hub.of_user("1", client=other.id)
        assert [] == world.hub.of_user("nobody")

    def test_count_who_has_not_connected(self, world: World) -> None:
        """Also beside anonymous connections that have."""
        anonymous, silent = world.connected(), world.client()
        assert 1 == world.hub.unauthenticated
        silent.lose()
        assert 0 == world.hub.unauthenticated
        assert [anonymous.connection] == world.hub.of_user("")
        world.assert_sound()

    def test_forget_everything_of_a_connection(self, world: World) -> None:
        """Whatever it had, and when it is removed twice."""
        clients = [world.connected("1"), world.connected("1"), world.connected(), world.client(address="1.1.1.1")]
        for client in clients[:3]:
            client.subscribe("kept:a")
            client.subscribe("seen:b")
        for client in clients:
            client.lose()
            world.hub.remove(client.connection)
        world.settle()

        world.assert_empty()

    def test_addresses_are_counted(self, world: World) -> None:
        """Down to none."""
        clients = [world.client(address="1.1.1.1") for _ in range(2)]
        assert {"1.1.1.1": 2} == world.hub.addresses
        clients[0].lose()
        assert {"1.1.1.1": 1} == world.hub.addresses
        clients[1].lose()
        assert {} == world.hub.addresses

    def test_works_without_a_broker(self, world: World) -> None:
        """Nobody is told of joins, then."""
        hub = Hub(soon=lambda _: None, now=world.clock.now, observer=RecordingObserver())
        connection = world.connected("1").connection
        member = hub.begin(connection, world.channel("seen:a"), expires_at=math.inf)
        member.is_announced = True
        hub.complete(member, Position(0, ""))
        hub.leave(member)

        assert 0 == hub.subscriptions
