"""What a client sees when its channel's database fails, or when it missed too much."""

from __future__ import annotations

import pytest

from service.core.codes import Disconnects, Errors, Unsubscribes
from service.errors import DatabaseUnavailable
from tests.support.client import FakeClient
from tests.support.world import World


@pytest.fixture
def world() -> World:
    """An instance."""
    return World()


def break_database(world: World) -> None:
    """Let nothing be read or kept from now on."""
    world.streams.broken = DatabaseUnavailable("gone")


class TestTrouble:
    """The database fails, and everybody stays."""

    def test_a_publication_is_refused_for_the_moment(self, world: World) -> None:
        """Nobody gets it, nobody is closed, and the next one goes through."""
        reader, writer = world.connected("1"), world.connected("2")
        for client in (reader, writer):
            client.subscribe("kept:a")
        break_database(world)
        writer.refused(Errors.INTERNAL, "publish", channel="kept:a", data=1)
        reader.expect_no_push()
        world.streams.broken = None
        writer.send(writer.command("publish", channel="kept:a", data=2))

        assert 2 == reader.expect_push("pub", "kept:a")["data"]
        world.assert_sound()

    @pytest.mark.parametrize("reverse", [False, True])
    def test_history_is_refused_for_the_moment(self, world: World, *, reverse: bool) -> None:
        """It is no defect of ours."""
        client = world.connected("1")
        break_database(world)
        client.refused(Errors.INTERNAL, "history", channel="kept:a", limit=1, reverse=reverse)

        world.assert_sound()

    @pytest.mark.parametrize("recover", [False, True])
    def test_a_subscription_is_refused_for_the_moment(self, world: World, *, recover: bool) -> None:
        """The client tries again by itself, and is in no channel meanwhile."""
        client = world.connected("1")
        break_database(world)
        client.refused(Errors.INTERNAL, "subscribe", channel="kept:a", recover=recover)
        assert {} == world.hub.rooms
        world.streams.broken = None

        client.subscribe("kept:a", recover=recover)
        world.assert_sound()

    def test_a_connection_whose_channels_cannot_be_read_comes_back(self, world: World) -> None:
        """Its token says that it is in a channel; where it stands there cannot be told."""
        break_database(world)
        client = world.client()
        client.ask("connect", token=world.token("1", subs={"kept:a": {}}))

        client.expect_closed(Disconnects.INSUFFICIENT_STATE)
        assert Disconnects.INSUFFICIENT_STATE.reconnects
        world.assert_empty()


class TestAheadOfTheTop:
    """A client that knows the epoch and has publications that the stream has not."""

    def test_gives_the_channel_another_epoch(self, world: World) -> None:
        """The client is told that it did not recover; others that were ahead will be told too."""
        known = world.publish("kept:a")
        assert known is not None
        wish = {"recover": True, "offset": 3, "epoch": known.epoch}
        result = world.connected("1").subscribe("kept:a", **wish)

        assert not result.get("recovered", False)
        assert (1, False) == (result["offset"], result["epoch"] == known.epoch)
        for _ in range(5):
            world.publish("kept:a")
        assert not world.connected("2").subscribe("kept:a", **wish).get("recovered", False)

    @pytest.mark.parametrize(("offset", "epoch"), [(3, ""), (3, "another"), (1, None)])
    def test_others_change_nothing(self, world: World, offset: int, epoch: str | None) -> None:
        """Who does not know the epoch proves nothing, and who is at the top is right."""
        known = world.publish("kept:a")
        assert known is not None
        epoch = known.epoch if epoch is None else epoch
        result = world.connected("1").subscribe("kept:a", recover=True, offset=offset, epoch=epoch)

        assert known.epoch == result["epoch"]

    def test_those_who_listen_start_over_and_settle(self, world: World) -> None:
        """Once: after that they have the new epoch."""
        known = world.publish("kept:a")
        assert known is not None
        world.settle()
        listener = world.connected("1")
        listener.subscribe("kept:a", recoverable=True)
        world.connected("2").subscribe("kept:a", recover=True, offset=9, epoch=known.epoch)
        world.publish("kept:a")
        listener.expect_unsubscribed("kept:a", Unsubscribes.INSUFFICIENT_STATE)
        result = listener.subscribe("kept:a", recover=True, offset=1, epoch=known.epoch)
        assert not result.get("recovered", False)

        listener.do("unsubscribe", channel="kept:a")
        result = listener.subscribe("kept:a", recover=True, offset=result["offset"], epoch=result["epoch"])
        assert result["recovered"]


class TestTooMuch:
    """More was missed than fits into a reply."""

    @staticmethod
    def come_back(world: World, **wish: object) -> tuple[FakeClient, dict[str, object]]:
        """Connect anew and subscribe from a position."""
        client = world.connected("1")
        return client, client.subscribe("kept:a", recover=True, **wish)

    @pytest.mark.parametrize(("missed", "recovered"), [(4, True), (5, False)])
    def test_settles_after_one_reconnection(self, missed: int, *, recovered: bool) -> None:
        """At the bound and one past it: it is never closed as slow, and goes on from the top it is told."""
        world = World(page_bytes=400 + 4 * 64)
        known = world.publish("kept:a", b"0")
        assert known is not None
        for _ in range(missed):
            world.publish("kept:a", b'"' + b"x" * 98 + b'"')
        world.settle()
        client, result = self.come_back(world, offset=known.offset, epoch=known.epoch)

        assert recovered is result.get("recovered", False)
        assert (missed if recovered else 0) == len(result.get("publications", []))  # type: ignore[arg-type]  # JSON
        client.expect_no_push()
        # It takes its state from elsewhere, and stays; the next interruption is an ordinary one.
        top = missed + 1 if recovered else result["offset"]
        world.publish("kept:a", b"1")
        assert top == client.expect_push("pub", "kept:a")["offset"] - 1
        client.lose()
        world.publish("kept:a", b"2")
        world.settle()
        again, result = self.come_back(world, offset=missed + 2, epoch=known.epoch)
        assert result["recovered"]
        assert [missed + 3] == [item["offset"] for item in result["publications"]]  # type: ignore[attr-defined]  # JSON
        again.expect_no_push()

    @pytest.mark.parametrize(("size", "recovered"), [(50, True), (51, False)])
    def test_everything_in_a_publication_counts(self, size: int, *, recovered: bool) -> None:
        """Not the data alone: tags may be as long."""
        world = World(page_bytes=200 + 2 * 64)
        tags = b'{"t":"' + b"x" * (size - 8) + b'"}'
        for _ in range(2):
            world.publish("kept:a", b'"' + b"x" * 20 + b'"', info=b'{"user":"4","client":"1234"}', tags=tags)
        world.settle()
        result = world.connected("1").subscribe("kept:a", recover=True)

        assert recovered is result.get("recovered", False)
        assert (2 if recovered else 0) == len(result.get("publications", []))

    def test_what_came_during_the_read_counts(self) -> None:
        """It is in the reply as well."""
        world = World(page_bytes=200 + 2 * 64 - 1)
        known = world.publish("kept:a", b"0")
        assert known is not None
        world.settle()
        world.streams.reads.close()
        client = world.connected("1")
        request = client.ask("subscribe", channel="kept:a", recover=True, offset=1, epoch=known.epoch)
        for _ in range(2):
            world.publish("kept:a", b'"' + b"x" * 98 + b'"')
        world.settle()
        world.streams.reads.open()
        result = client.expect_reply(request, "subscribe")

        assert (3, False) == (result["offset"], result.get("recovered", False))
        assert "publications" not in result

    @pytest.mark.parametrize(("size", "recovered"), [(100, [True, True]), (101, [True, False])])
    def test_channels_of_a_token_share_one_reply(self, size: int, recovered: list[bool]) -> None:
        """They are recovered in order, as far as the bytes go."""
        world = World(page_bytes=200 + 2 * 64)
        for name, length in (("kept:a", 100), ("kept:b", size)):
            world.publish(name, b'"' + b"x" * (length - 2) + b'"')
        world.settle()
        names = ("kept:a", "kept:b")
        token = world.token("1", subs={name: {} for name in names})
        subs = {name: {"recover": True} for name in names}
        result = world.client().do("connect", token=token, subs=subs)

        assert recovered == [result["subs"][name].get("recovered", False) for name in names]
