from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.auth.api_keys import ApiKeyFault, Caller, digest_of, organization_key
from service.core.codes import Errors
from service.core.organizations import ApiKeyRecord, MemberRecord, Organization, Role, Scope
from service.errors import DatabaseError, DatabaseUnavailable, OutcomeUnknown, Overtaken
from service.realtime.organizations import OrganizationFigures, Organizations, RecentCount, Refusal, TooMany
from service.realtime.server_commands import Node, ServerContext, Usage, call
from tests.support.backstage import StageClient
from tests.support.organizations import FakeOrganizationTables, OrganizationsStage

SECRET = "s" * 43
DENIED = {"code": 103, "message": "permission denied"}
INTERNAL = {"code": 100, "message": "internal server error", "temporary": True}


@pytest.fixture
async def stage() -> AsyncIterator[OrganizationsStage]:
    """An instance with organizations, and none made yet."""
    stage = OrganizationsStage()
    async with stage.running():
        yield stage
    assert [] == stage.observer.failures


async def ask(stage: OrganizationsStage, client: StageClient, method: str, **params: object) -> dict[str, Any]:
    """Send a command and return its reply, waiting for what it has to wait for."""
    client.lines()
    client.send(method, **params)
    await stage.idle()
    (reply,) = [line for line in client.lines() if "id" in line]
    return reply


async def server(stage: OrganizationsStage, method: str, caller: Caller | None = None, **params: object) -> Any:  # noqa: ANN401 - as the method has it
    """Call a method of the server API."""
    node = Node("uid", "name", "1", 0.0, lambda: Usage(0.0, 0))
    context = ServerContext(stage.context, node)
    outcome = await call(context, method, json.dumps(params).encode(), *([caller] if caller else []))
    return json.loads(outcome) if isinstance(outcome, bytes) else outcome


# Counting.


def test_recent_count_forgets_after_a_minute() -> None:
    """To the second, and says when there is room again."""
    count = RecentCount()

    assert [None, None] == [count.take(100.5, 3), count.take(101.0, 3)]
    assert count.take(130.0, 3) is None
    assert TooMany(30) == count.take(130.0, 3)
    assert TooMany(1) == count.take(159.9, 3)
    assert count.take(160.0, 3) is None
    assert 3 == count.total(160.0)
    assert 2 == count.total(161.0)
    assert 0 == count.total(1000.0)


def test_recent_count_without_a_limit_only_counts() -> None:
    """Every event is let in."""
    count = RecentCount()

    assert [None] * 100 == [count.take(5.0, 0) for _ in range(100)]
    assert 100 == count.total(5.0)
    assert 0 == count.wait(5.0, 0)


def test_recent_count_says_when_a_lowered_limit_has_room() -> None:
    """As many as are too many have to pass out of the minute."""
    count = RecentCount()
    for second in (10.0, 20.0, 30.0):
        count.take(second, 0)

    assert [0, 40, 50, 60] == [count.wait(30.0, limit) for limit in (4, 3, 2, 1)]


# Reading.


async def test_organization_is_read_once_for_all_who_ask(stage: OrganizationsStage) -> None:
    """A thousand clients that come back at once cost one read, and later ones none."""
    await stage.tables.create(Organization("acme"), token=0)
    for user in ("1", "2", "3"):
        await stage.tables.add_member("acme", MemberRecord(user, Role.MEMBER), token=0)
    stage.tables.gate.clear()
    clients = [stage.connect(user) for user in ("1", "2", "3", "4")]
    for client in clients:
        client.send("subscribe", channel="org:acme")
    await stage.idle()
    assert [[]] * 4 == [client.lines() for client in clients]
    stage.tables.gate.set()
    await stage.idle()

    replies = [next(line for line in client.lines() if "id" in line) for client in clients]
    assert [True, True, True, False] == ["subscribe" in reply for reply in replies]
    assert DENIED == replies[3]["error"]
    assert ["acme"] == stage.tables.reads
    assert "subscribe" in await ask(stage, stage.connect("1"), "subscribe", channel="org:acme:room")
    assert ["acme"] == stage.tables.reads


async def test_unknown_organization_is_answered_as_to_a_stranger(stage: OrganizationsStage) -> None:
    """Nobody finds out which organizations there are; to ask again costs no second read."""
    await stage.made(ada="owner")
    client = stage.connect("bob")

    for channel in (
        "org:acme",
        "org:ghost",
        "org:ghost:room",
        "org:ghost",
        "org:Acme",
        "org:acme:",
        "org:-",
        "$org:acme",
    ):
        assert DENIED == (await ask(stage, client, "subscribe", channel=channel))["error"], channel
        for method in ("publish", "history", "presence", "presence_stats"):
            more = {"data": 1} if method == "publish" else {}
            assert DENIED == (await ask(stage, client, method, channel=channel, **more))["error"], (channel, method)
    assert ["acme", "ghost"] == stage.tables.reads


async def test_anonymous_client_causes_no_read(stage: OrganizationsStage) -> None:
    """It is nobody's member."""
    assert DENIED == (await ask(stage, stage.connect(), "subscribe", channel="org:acme"))["error"]
    assert [] == stage.tables.reads


async def test_database_trouble_is_temporary(stage: OrganizationsStage) -> None:
    """The client is asked to come again, nothing is remembered, and what is in memory goes on working."""
    await stage.tables.create(Organization("acme"), token=0)
    await stage.tables.add_member("acme", MemberRecord("1", Role.MEMBER), token=0)
    stage.tables.failures = [DatabaseUnavailable("down")]
    client = stage.connect("1")

    assert INTERNAL == (await ask(stage, client, "subscribe", channel="org:acme"))["error"]
    assert "subscribe" in await ask(stage, client, "subscribe", channel="org:acme")
    stage.tables.failures = [DatabaseUnavailable("down")] * 9
    assert "publish" in await ask(stage, client, "publish", channel="org:acme", data=1)


async def test_defect_in_a_read_leaves_nobody_waiting(stage: OrganizationsStage) -> None:
    """It is noted, and the client may come again."""
    await stage.tables.create(Organization("acme"), token=0)
    stage.tables.failures = [ZeroDivisionError()]

    assert INTERNAL == (await ask(stage, stage.connect("1"), "subscribe", channel="org:acme"))["error"]
    assert ["organizations.read"] == [where for where, _ in stage.observer.failures]
    stage.observer.failures.clear()


async def test_who_goes_away_does_not_end_the_read_for_others(stage: OrganizationsStage) -> None:
    """Nor is anything begun for a connection that is gone."""
    await stage.tables.create(Organization("acme"), token=0)
    for user in ("1", "2"):
        await stage.tables.add_member("acme", MemberRecord(user, Role.MEMBER), token=0)
    stage.tables.gate.clear()
    first, second = stage.connect("1"), stage.connect("2")
    first.send("subscribe", channel="org:acme")
    second.send("subscribe", channel="org:acme")
    await stage.idle()
    first.connection.lost()
    stage.tables.gate.set()
    await stage.idle()

    assert "subscribe" in second.lines()[0]
    assert 1 == stage.hub.subscriptions
    assert OrganizationFigures(2, 1, 1, 0) == stage.organizations.figures("acme")


async def test_cancelled_reader_does_not_end_the_read_for_others(stage: OrganizationsStage) -> None:
    """A request that is given up belongs to its caller alone."""
    await stage.tables.create(Organization("acme"), token=0)
    stage.tables.gate.clear()
    async with asyncio.TaskGroup() as group:
        given_up = group.create_task(stage.organizations.load("acme"))
        other = group.create_task(stage.organizations.load("acme"))
        await stage.idle()
        given_up.cancel()
        stage.tables.gate.set()

    assert given_up.cancelled()
    assert other.result()


async def test_reads_begin_only_while_this_instance_serves(stage: OrganizationsStage) -> None:
    """What another instance may change meanwhile is not taken into memory."""
    await stage.tables.create(Organization("acme"), token=0)
    stage.serves = False
    with pytest.raises(DatabaseUnavailable):
        await stage.organizations.load("acme")
    stage.serves = True

    assert [] == stage.tables.reads
    assert await stage.organizations.load("acme")


async def test_reset_forgets_what_is_known_and_what_is_read(stage: OrganizationsStage) -> None:
    """After another instance has served, everything is read anew, and a read from before does not count."""
    await stage.made(ada="owner")
    stage.tables.gate.clear()
    async with asyncio.TaskGroup() as group:
        late = group.create_task(_outcome(stage.organizations.load("other")))
        await stage.idle()
        stage.organizations.reset()
        stage.tables.members["acme"].clear()
        stage.tables.organizations["other"] = Organization("other")
        stage.tables.members["other"] = {}
        stage.tables.gate.set()

    assert isinstance(late.result(), DatabaseUnavailable)
    assert await stage.organizations.load("acme")
    assert stage.organizations.role_in("acme", "ada") is None
    assert await stage.organizations.load("other")


async def test_change_that_ends_after_a_reset_is_not_made_in_memory(stage: OrganizationsStage) -> None:
    """It was committed, but others may have changed more since."""
    await stage.organizations.load("acme")
    stage.tables.gate.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.organizations.create(Organization("acme")))
        await stage.idle()
        stage.organizations.reset()
        stage.tables.gate.set()

    assert stage.organizations.get("acme") is None
    assert await stage.organizations.load("acme")


async def test_delete_that_ends_after_a_reset_is_not_made_in_memory(stage: OrganizationsStage) -> None:
    """Whoever served meanwhile may have made an organization with this id."""
    await stage.made(ada="owner")
    await stage.organizations.keys("acme")
    stage.tables.gate.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.organizations.delete("acme"))
        await stage.idle()
        stage.organizations.reset()
        stage.tables.gate.set()
    stage.tables.organizations["acme"], stage.tables.members["acme"] = Organization("acme"), {}

    assert await stage.organizations.load("acme")


async def test_ids_that_lead_nowhere_are_forgotten_in_time(
    stage: OrganizationsStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that make up names fill a bounded memory; organizations that were made stay."""
    monkeypatch.setattr("service.realtime.organizations._MAX_ABSENT", 3)
    await stage.organizations.load("acme")
    await stage.made(ada="owner")
    for number in range(10):
        await stage.organizations.load(f"ghost-{number}")

    assert ["acme", "ghost-7", "ghost-8", "ghost-9"] == sorted(stage.organizations._entries)


async def test_without_a_database_there_are_no_organizations() -> None:
    """Their channels are open to nobody."""
    organizations = Organizations()

    assert not organizations.is_kept
    assert not await organizations.load("acme")
    assert [] == await organizations.page(after="", limit=1)
    assert [] == await organizations.keys("acme")
    assert ApiKeyFault.WRONG is await organizations.identify(organization_key("k1", SECRET))
    with pytest.raises(DatabaseUnavailable):
        await organizations.create(Organization("acme"))


# Membership and channels.


async def test_removed_member_is_unsubscribed_everywhere_at_once(stage: OrganizationsStage) -> None:
    """In every room and on every connection, by whatever way it came in; others and other channels stay."""
    await stage.made("acme", ada="owner", bob="member")
    await stage.made("other", bob="member")
    token_client = stage.connecting("bob", channels=["org:acme:by-token", "chat:x"])
    plain = stage.subscribed("bob", "org:acme")
    for channel in ("org:acme:room", "org:other", "chat:x"):
        plain.ask("subscribe", channel=channel)
    assert {} == await server(stage, "subscribe", user="bob", channel="org:acme:by-server")
    ada = stage.subscribed("ada", "org:acme")
    for client in (token_client, plain, ada):
        client.lines()

    assert await stage.organizations.remove_member("acme", "bob") is None

    ended = {"unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
    assert {"org:acme": ended, "org:acme:room": ended, "org:acme:by-server": ended} == {
        push.pop("channel"): push for push in plain.pushes() if "unsubscribe" in push
    }
    assert {"org:acme:by-token": ended, "org:acme:by-server": ended} == {
        push.pop("channel"): push for push in token_client.pushes() if "unsubscribe" in push
    }
    assert ["org:other", "chat:x"] == list(plain.connection.memberships)
    assert ["chat:x"] == list(token_client.connection.memberships)
    assert ["org:acme"] == [name for name in ada.connection.memberships if name.startswith("org:acme")]
    assert DENIED == plain.ask("subscribe", channel="org:acme")["error"]
    assert DENIED == plain.ask("publish", channel="org:acme", data=1)["error"]
    assert Errors.PERMISSION_DENIED == await server(stage, "subscribe", user="bob", channel="org:acme")


async def test_deleted_organization_is_left_by_all(stage: OrganizationsStage) -> None:
    """Its channels are as those of one that never was, and its figures begin anew."""
    await stage.made(ada="owner", bob="viewer")
    clients = [stage.subscribed("ada", "org:acme"), stage.subscribed("bob", "org:acme:room")]

    assert await stage.organizations.delete("acme") is None
    assert [{}, {}] == [client.connection.memberships for client in clients]
    assert DENIED == clients[0].ask("subscribe", channel="org:acme")["error"]
    assert Errors.UNKNOWN_CHANNEL == await server(stage, "publish", channel="org:acme", data=1)
    await stage.made(bob="member")
    assert OrganizationFigures(1, 0, 0, 0) == stage.organizations.figures("acme")
    assert DENIED == clients[0].ask("subscribe", channel="org:acme")["error"]
    assert "subscribe" in clients[1].ask("subscribe", channel="org:acme:room")


@pytest.mark.parametrize("way", ["remove", "delete"])
async def test_join_under_way_ends_with_the_membership(stage: OrganizationsStage, way: str) -> None:
    """Its subscribe is refused, and nothing of the channel reaches it."""
    await stage.made(ada="owner", bob="member")
    client = stage.connect("bob")
    release = _hold_reads(stage)
    client.send("subscribe", channel="org:acme")
    await stage.idle()
    assert 1 == len(stage.hub.rooms["org:acme"].joining)
    if way == "remove":
        await stage.organizations.remove_member("acme", "bob")
    else:
        await stage.organizations.delete("acme")
    release.set()
    await stage.idle()

    assert [DENIED] == [line.get("error") for line in client.lines()]
    assert {} == stage.hub.rooms


async def test_connect_under_way_begins_anew_when_a_membership_ends(stage: OrganizationsStage) -> None:
    """The client comes back and is not subscribed then; nothing is left half done."""
    await stage.made(bob="member")
    release = _hold_reads(stage)
    client = stage.connecting("bob", channels=["org:acme", "chat:x"])
    await stage.idle()
    await stage.organizations.remove_member("acme", "bob")
    release.set()
    await stage.idle()

    assert (3010, "insufficient state") == client.closed
    assert {} == stage.hub.rooms
    again = stage.connecting("bob", channels=["org:acme", "chat:x"])
    await stage.idle()
    assert {"chat:x"} == again.lines()[0]["connect"]["subs"].keys()


async def test_viewers_listen_and_do_not_publish(stage: OrganizationsStage) -> None:
    """A change of role holds from the next command on, and ends no subscription."""
    await stage.made(ada="viewer", bob="member")
    ada = stage.subscribed("ada", "org:acme")

    for method in ("history", "presence", "presence_stats"):
        assert method in ada.ask(method, channel="org:acme")
    assert DENIED == ada.ask("publish", channel="org:acme", data=1)["error"]
    await stage.organizations.change_member("acme", "ada", Role.ADMIN)
    assert "publish" in ada.ask("publish", channel="org:acme", data=1)
    await stage.organizations.change_member("acme", "ada", Role.VIEWER)
    assert DENIED == ada.ask("publish", channel="org:acme", data=1)["error"]
    assert ["org:acme"] == list(ada.connection.memberships)


async def test_connect_skips_the_channels_of_organizations_that_are_not_open(stage: OrganizationsStage) -> None:
    """An old token keeps nobody from everything else, and opens nothing."""
    await stage.made(ada="owner")
    client = stage.connecting("bob", channels=["org:acme", "org:ghost", "chat:x"])
    await stage.idle()

    assert {"chat:x"} == client.lines()[0]["connect"]["subs"].keys()


async def test_connect_is_put_off_when_members_cannot_be_read(stage: OrganizationsStage) -> None:
    """With a temporary error, so that the client comes again."""
    stage.tables.failures = [DatabaseUnavailable("down")]
    client = stage.connecting("bob", channels=["org:acme"])
    await stage.idle()

    assert [INTERNAL] == [line.get("error") for line in client.lines()]
    assert 0 == len(stage.hub.users)


async def test_connection_that_ends_while_its_members_are_read_leaves_nothing(stage: OrganizationsStage) -> None:
    """It never gets as far as being somebody."""
    stage.tables.gate.clear()
    client = stage.connecting("bob", channels=["org:acme"])
    await stage.idle()
    client.connection.lost()
    stage.tables.gate.set()
    await stage.idle()

    assert ({}, {}, {}, 0) == (stage.hub.connections, stage.hub.users, stage.hub.rooms, stage.hub.unauthenticated)


# Tokens for one organization.


async def test_confined_connection_touches_its_organization_alone(stage: OrganizationsStage) -> None:
    """Whoever its user is elsewhere, and whoever asks for it."""
    await stage.made("acme", bob="member")
    await stage.made("other", bob="member")
    client = stage.connect("bob", only_organization="acme")

    assert "subscribe" in client.ask("subscribe", channel="org:acme")
    for channel in ("org:other", "chat:x", "room"):
        assert DENIED == client.ask("subscribe", channel=channel)["error"]
        assert DENIED == client.ask("publish", channel=channel, data=1)["error"]
        assert {} == await server(stage, "subscribe", user="bob", channel=channel)
    client.connection.receive(b'{"id":99,"rpc":{"method":"x"}}')
    assert [DENIED] == [line["error"] for line in client.lines() if line.get("id") == 99]
    assert ["org:acme"] == list(client.connection.memberships)
    assert {} == await server(stage, "subscribe", user="bob", channel="org:acme:room")
    assert ["org:acme", "org:acme:room"] == list(client.connection.memberships)


async def test_refresh_keeps_the_confinement(stage: OrganizationsStage) -> None:
    """A token for one organization does not prolong what a wider one opened, nor the other way round."""
    from service.auth.tokens import issue  # noqa: PLC0415 - only where it is needed
    from tests.support.backstage import SECRET as HMAC  # noqa: PLC0415 - the stage's own

    await stage.made(bob="member")
    confined = issue(HMAC, {"sub": "bob", "only_organization": "acme"})
    wide = issue(HMAC, {"sub": "bob"})

    client = stage.connect("bob")
    assert "refresh" in client.ask("refresh", token=wide)
    client.send("refresh", token=confined)
    assert (3500, "invalid token") == client.closed
    client = stage.connect("bob", only_organization="acme")
    assert "refresh" in client.ask("refresh", token=confined)
    client.send("refresh", token=wide)
    assert (3500, "invalid token") == client.closed


# Quotas and figures.


async def test_connections_are_limited(stage: OrganizationsStage) -> None:
    """By 106, and 3504 for those of a token; more channels of the same connection are no more connections."""
    await stage.made(ada="owner", bob="member")
    await stage.organizations.change("acme", max_connections=1)
    ada, bob = stage.subscribed("ada", "org:acme"), stage.connect("bob")

    assert "subscribe" in ada.ask("subscribe", channel="org:acme:room")
    assert {"code": 106, "message": "limit exceeded"} == bob.ask("subscribe", channel="org:acme")["error"]
    assert Errors.LIMIT_EXCEEDED == await server(stage, "subscribe", user="bob", channel="org:acme")
    assert (3504, "connection limit") == stage.connecting("bob", channels=["org:acme"]).closed
    assert ["organization_connections"] * 3 == stage.observer.limits
    ada.ask("unsubscribe", channel="org:acme")
    assert 106 == bob.ask("subscribe", channel="org:acme")["error"]["code"]
    ada.connection.lost()
    assert "subscribe" in bob.ask("subscribe", channel="org:acme")


async def test_channels_are_limited(stage: OrganizationsStage) -> None:
    """By 106, and 3505 for those of a token; who joins one that is open already is let in."""
    await stage.made(ada="owner", bob="member")
    await stage.organizations.change("acme", max_channels=1)
    ada, bob = stage.subscribed("ada", "org:acme"), stage.connect("bob")

    assert 106 == ada.ask("subscribe", channel="org:acme:room")["error"]["code"]
    assert (3505, "channel limit") == stage.connecting("bob", channels=["org:acme:room"]).closed
    assert "subscribe" in bob.ask("subscribe", channel="org:acme")
    ada.ask("unsubscribe", channel="org:acme")
    bob.ask("unsubscribe", channel="org:acme")
    assert "subscribe" in ada.ask("subscribe", channel="org:acme:room")


async def test_publications_are_limited_whoever_makes_them(stage: OrganizationsStage) -> None:
    """By 111, which is temporary, until the minute has passed."""
    await stage.made(ada="owner")
    await stage.organizations.change("acme", publications_per_minute=2)
    ada = stage.subscribed("ada", "org:acme")

    assert "publish" in ada.ask("publish", channel="org:acme", data=1)
    assert 2 == (await server(stage, "publish", channel="org:acme", data=2))["offset"]
    refused = ada.ask("publish", channel="org:acme", data=3)["error"]
    assert (111, True) == (refused["code"], refused["temporary"])
    refusal = await server(stage, "publish", channel="org:acme:room", data=4)
    assert (111, True) == (refusal.code, refusal.temporary)
    outcome = await server(stage, "broadcast", channels=["org:acme", "chat:x"], data=5)
    assert [111, None] == [item.get("error", {}).get("code") for item in outcome["responses"]]
    assert 60 >= stage.organizations.publication_wait("acme") > 0
    stage.clock.advance(60)
    assert 0 == stage.organizations.publication_wait("acme")
    assert "publish" in ada.ask("publish", channel="org:acme", data=6)


async def test_figures_follow_what_goes_on(stage: OrganizationsStage) -> None:
    """And come back to nothing."""
    await stage.made(ada="owner", bob="member")
    assert OrganizationFigures(2, 0, 0, 0) == stage.organizations.figures("acme")
    ada, bob = stage.subscribed("ada", "org:acme"), stage.subscribed("bob", "org:acme:room")
    ada.ask("subscribe", channel="org:acme:room")
    ada.ask("publish", channel="org:acme", data=1)

    assert OrganizationFigures(2, 2, 2, 1) == stage.organizations.figures("acme")
    ada.connection.lost()
    bob.ask("unsubscribe", channel="org:acme:room")
    stage.clock.advance(61)
    assert OrganizationFigures(2, 0, 0, 0) == stage.organizations.figures("acme")
    assert OrganizationFigures(0, 0, 0, 0) == stage.organizations.figures("ghost")


# Keys.


def key(**changes: Any) -> ApiKeyRecord:  # noqa: ANN401 - fields of a record
    """Return a key of acme with the secret above."""
    values = {"id": "k1", "organization": "acme", "name": "", "digest": digest_of(SECRET), "scopes": frozenset(Scope)}
    return ApiKeyRecord(**(values | changes))


async def test_key_opens_until_it_is_revoked(stage: OrganizationsStage) -> None:
    """Who has the secret is told why it opens nothing any more; who has not, is told nothing."""
    await stage.made()
    await stage.organizations.add_key(key(scopes=frozenset({Scope.PUBLISH})))
    presented = organization_key("k1", SECRET)

    assert Caller("acme", frozenset({Scope.PUBLISH}), "k1") == await stage.organizations.identify(presented)
    for wrong in (
        organization_key("k1", "t" * 43),
        organization_key("k2", SECRET),
        presented[:-1],
        presented + "x",
        presented[:-1] + ("a" if presented[-1] != "a" else "b"),
        "sw_k1_",
        "sw__x",
        "sw_k1",
        "sw",
        "",
        "xx_k1_" + SECRET,
    ):
        assert ApiKeyFault.WRONG is await stage.organizations.identify(wrong), wrong
    assert isinstance(await stage.organizations.revoke_key("acme", "k1"), ApiKeyRecord)
    assert ApiKeyFault.REVOKED is await stage.organizations.identify(presented)
    assert ApiKeyFault.WRONG is await stage.organizations.identify(organization_key("k1", "t" * 43))
    (shown,) = await stage.organizations.keys("acme")
    assert stage.clock.wall() == shown.revoked_at
    again = await stage.organizations.revoke_key("acme", "k1")
    assert shown == again


async def test_key_runs_out(stage: OrganizationsStage) -> None:
    """At its instant."""
    await stage.made()
    await stage.organizations.add_key(key(expires_at=stage.clock.wall() + 10))
    presented = organization_key("k1", SECRET)
    stage.clock.advance(9.999)

    assert isinstance(await stage.organizations.identify(presented), Caller)
    stage.clock.advance(0.001)
    assert ApiKeyFault.EXPIRED is await stage.organizations.identify(presented)


async def test_key_has_a_rate(stage: OrganizationsStage) -> None:
    """Of requests a minute; what is refused does not count."""
    await stage.made()
    await stage.organizations.add_key(key(per_minute=2))
    presented = organization_key("k1", SECRET)

    assert isinstance(await stage.organizations.identify(presented), Caller)
    assert isinstance(await stage.organizations.identify(presented), Caller)
    assert TooMany(60) == await stage.organizations.identify(presented)
    assert ["key_requests"] == stage.observer.limits
    stage.clock.advance(60)
    assert isinstance(await stage.organizations.identify(presented), Caller)


async def test_keys_are_read_once_whatever_strangers_try(stage: OrganizationsStage) -> None:
    """A made-up key costs no read of its own."""
    await stage.made()
    for number in range(20):
        await stage.organizations.identify(organization_key(f"guess{number}", SECRET))

    assert 1 == stage.tables.reads.count("*")


async def test_key_goes_with_its_organization(stage: OrganizationsStage) -> None:
    """And with no other."""
    await stage.made("acme")
    await stage.made("other")
    await stage.organizations.add_key(key())
    await stage.organizations.add_key(key(id="k2", organization="other"))
    await stage.organizations.delete("acme")

    assert ApiKeyFault.WRONG is await stage.organizations.identify(organization_key("k1", SECRET))
    assert isinstance(await stage.organizations.identify(organization_key("k2", SECRET)), Caller)
    assert Refusal.NO_ORGANIZATION is await stage.organizations.revoke_key("acme", "k1")
    assert Refusal.NO_KEY is await stage.organizations.revoke_key("other", "k1")
    assert Refusal.NO_ORGANIZATION is await stage.organizations.add_key(key())


# Changes.


async def test_what_is_there_already_and_what_is_not(stage: OrganizationsStage) -> None:
    """Each change says why it is not made, and the tables are not asked to make it."""
    organizations = stage.organizations
    await stage.made(ada="owner")

    assert Refusal.EXISTS is await organizations.create(Organization("acme"))
    assert Refusal.MEMBER_EXISTS is await organizations.add_member("acme", "ada", Role.MEMBER)
    assert Refusal.NO_MEMBER is await organizations.change_member("acme", "bob", Role.MEMBER)
    assert Refusal.NO_MEMBER is await organizations.remove_member("acme", "bob")
    for change in (
        organizations.change("ghost", name="x"),
        organizations.delete("ghost"),
        organizations.add_member("ghost", "ada", Role.MEMBER),
        organizations.change_member("ghost", "ada", Role.MEMBER),
        organizations.remove_member("ghost", "ada"),
    ):
        assert Refusal.NO_ORGANIZATION is await change
    assert Role.OWNER is organizations.role_in("acme", "ada")


async def test_member_that_may_have_been_removed_is_found_out(stage: OrganizationsStage) -> None:
    """However long the database is away: nobody new comes in meanwhile, and then the truth holds."""
    await stage.made(ada="owner", bob="member")
    bob = stage.subscribed("bob", "org:acme")
    bob.pushes()
    stage.tables.failures = [OutcomeUnknown("lost"), *[DatabaseUnavailable("down")] * 3]
    with pytest.raises(OutcomeUnknown):
        await stage.organizations.remove_member("acme", "bob")
    await stage.idle()

    assert 3 == stage.pauses
    assert ["unsubscribe"] == [kind for push in bob.pushes() for kind in push if kind == "unsubscribe"]
    assert {} == bob.connection.memberships
    assert stage.organizations.role_in("acme", "bob") is None
    assert Role.OWNER is stage.organizations.role_in("acme", "ada")


async def test_tables_changed_behind_our_back_are_read_again(stage: OrganizationsStage) -> None:
    """A change that finds no row, or one too many, makes no promise and mends the memory."""
    await stage.made(ada="owner", bob="member")
    del stage.tables.members["acme"]["bob"]
    stage.tables.members["acme"]["eve"] = MemberRecord("eve", Role.VIEWER)

    assert Refusal.NO_MEMBER is await stage.organizations.change_member("acme", "bob", Role.ADMIN)
    await stage.idle()
    assert stage.organizations.role_in("acme", "bob") is None
    assert Role.VIEWER is stage.organizations.role_in("acme", "eve")


# Whatever is done, memory and tables say the same.

_NAMES = st.sampled_from(["a", "b"])
_USERS = st.sampled_from(["1", "2"])
_ROLES = st.sampled_from(list(Role))
_FAILURES = st.sampled_from(
    [None, None, None, DatabaseUnavailable("down"), OutcomeUnknown("lost"), Overtaken(), asyncio.CancelledError()]
)
_STEPS = st.one_of(
    st.tuples(st.just("create"), _NAMES),
    st.tuples(st.just("change"), _NAMES, st.integers(0, 3)),
    st.tuples(st.just("delete"), _NAMES),
    st.tuples(st.just("add_member"), _NAMES, _USERS, _ROLES),
    st.tuples(st.just("change_member"), _NAMES, _USERS, _ROLES),
    st.tuples(st.just("remove_member"), _NAMES, _USERS),
    st.tuples(st.just("add_key"), _NAMES, _USERS),
    st.tuples(st.just("revoke_key"), _NAMES, _USERS),
    st.tuples(st.just("subscribe"), _NAMES, _USERS),
    st.tuples(st.just("reset")),
)


@given(
    steps=st.lists(st.tuples(_STEPS, st.lists(_FAILURES, max_size=3)), max_size=25),
    together=st.integers(1, 4),
)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_memory_equals_the_tables_after_any_changes(
    steps: list[tuple[tuple[Any, ...], list[BaseException | None]]], together: int
) -> None:
    """Also when a call fails before, in the middle of, or after its commit, and when several come at once."""
    asyncio.run(_compare(steps, together))


async def _compare(steps: list[tuple[tuple[Any, ...], list[BaseException | None]]], together: int) -> None:
    stage = OrganizationsStage()
    async with stage.running():
        clients = {user: stage.connect(user) for user in ("1", "2")}
        await stage.made("a", **{"1": "member", "2": "viewer"})
        for client in clients.values():
            client.ask("subscribe", channel="org:a")
        for start in range(0, len(steps), together):
            async with asyncio.TaskGroup() as group:
                for step, failures in steps[start : start + together]:
                    stage.tables.failures += failures
                    group.create_task(_outcome(_do(stage, clients, step)))
        stage.tables.failures.clear()
        await stage.idle()
        await _assert_same(stage)


async def _do(stage: OrganizationsStage, clients: dict[str, StageClient], step: tuple[Any, ...]) -> None:
    organizations, (kind, *arguments) = stage.organizations, step
    changes: dict[str, Callable[..., Awaitable[object]]] = {
        "create": lambda name: organizations.create(Organization(name)),
        "change": lambda name, quota: organizations.change(name, max_channels=quota),
        "delete": organizations.delete,
        "add_member": organizations.add_member,
        "change_member": organizations.change_member,
        "remove_member": organizations.remove_member,
        "add_key": lambda name, user: organizations.add_key(key(id=f"{name}{user}", organization=name)),
        "revoke_key": lambda name, user: organizations.revoke_key(name, f"{name}{user}"),
    }
    if kind == "subscribe":
        name, user = arguments
        clients[user].send("subscribe", channel=f"org:{name}")
        await stage.idle()
    elif kind == "reset":
        for user, client in list(clients.items()):
            client.connection.lost()
            clients[user] = stage.connect(user)
        organizations.reset()
    else:
        await changes[kind](*arguments)


async def _assert_same(stage: OrganizationsStage) -> None:
    organizations, tables = stage.organizations, stage.tables
    for name in ("a", "b"):
        # What is in memory without reading now, and what is read now, are both what the tables hold.
        for _ in range(2):
            if name in organizations._entries:
                assert tables.organizations.get(name) == organizations.get(name)
                kept = tables.members.get(name, {})
                assert kept == {member.user: member for member in organizations.members(name, after="", limit=9)}
            await organizations.load(name)
        kept_keys = [item for item in tables.keys.values() if item.organization == name]
        assert sorted(kept_keys, key=lambda item: item.id) == await organizations.keys(name)
        room = stage.hub.rooms.get(f"org:{name}")
        members = list(room.members()) if room is not None else []
        assert all(member.connection.user in tables.members.get(name, {}) for member in members)
        assert organizations.figures(name)[1:3] == (len(members), min(1, len(members)))


async def _outcome(work: Awaitable[object]) -> object:
    try:
        return await work
    except (DatabaseError, asyncio.CancelledError) as error:
        return error


def _hold_reads(stage: OrganizationsStage) -> asyncio.Event:
    """Let reads of streams wait until the event is set."""
    released, read = asyncio.Event(), stage.streams.read

    async def later(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever a store takes
        if not released.is_set():
            waiter = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(_poll, released, waiter)
            await waiter
        return await read(*arguments, **options)

    stage.streams.read = later  # type: ignore[method-assign]  # of this one store
    return released


def _poll(event: asyncio.Event, waiter: asyncio.Future[None]) -> None:
    if waiter.done():
        return
    if event.is_set():
        waiter.set_result(None)
    else:
        asyncio.get_running_loop().call_soon(_poll, event, waiter)


def test_fake_tables_are_tables() -> None:
    """The port is what both implement."""
    assert {"read", "read_keys", "page", "create"} <= vars(FakeOrganizationTables).keys()
