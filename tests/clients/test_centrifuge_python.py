"""The stock Python client, as it comes from its package, against a running process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from centrifuge import (
    ClientState,
    ReplyError,
    StreamPosition,
    SubscriptionState,
)

from tests.support.process import ServiceProcess
from tests.support.service_api import api, figures, until_empty, until_figures
from tests.support.stock_client import StockClient, stock_client
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("clients-python"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[ServiceProcess]:
    """One process for all, with room for the messages of a whole module."""
    async with ServiceProcess.start({"WS_MESSAGES_PER_MINUTE": "0"}) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="module")
async def service(shared: ServiceProcess) -> AsyncIterator[ServiceProcess]:
    """The shared process; nothing may be left in it by a test."""
    yield shared
    await until_empty(shared)


@pytest_asyncio.fixture(loop_scope="module")
async def proxy(service: ServiceProcess) -> AsyncIterator[TcpProxy]:
    """A bad network in front of it."""
    async with TcpProxy.start(service.port) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def alice(service: ServiceProcess) -> AsyncIterator[StockClient]:
    """A connected client."""
    async with stock_client(service.ws_url, token=service.token("alice", info={"name": "Alice"})) as stock:
        yield stock


@pytest_asyncio.fixture(loop_scope="module")
async def bob(service: ServiceProcess) -> AsyncIterator[StockClient]:
    """Another one."""
    async with stock_client(service.ws_url, token=service.token("bob")) as stock:
        yield stock


async def test_both_paths_are_served(service: ServiceProcess) -> None:
    """A client connects at the protocol's own address and at the short one."""
    for path in ("/connection/websocket", "/ws"):
        url = service.url.replace("http", "ws", 1) + path
        async with stock_client(url, token=service.token("paths")) as stock:
            assert ClientState.CONNECTED == stock.client.state


async def test_publication_reaches_every_subscriber(alice: StockClient, bob: StockClient) -> None:
    """Publisher and others receive it, with who published it."""
    mine, seen_by_alice = await alice.subscribe("chat:everyone")
    _, seen_by_bob = await bob.subscribe("chat:everyone")
    await mine.publish({"text": "hello"})
    for events in (seen_by_alice, seen_by_bob):
        pub = (await events.expect("publication")).pub

        assert {"text": "hello"} == pub.data
        assert 1 == pub.offset
        assert ("alice", {"name": "Alice"}) == (pub.info.user, pub.info.conn_info)


async def test_server_publication_has_no_client_info(service: ServiceProcess, alice: StockClient) -> None:
    """What a back end publishes comes from nobody, with its tags."""
    _, events = await alice.subscribe("chat:backend")
    position = await api(service, "publish", channel="chat:backend", data=[1, None], tags={"kind": "test"})
    pub = (await events.expect("publication")).pub

    assert ([1, None], None, {"kind": "test"}) == (pub.data, pub.info, pub.tags)
    assert position["offset"] == pub.offset


async def test_presence_shows_who_is_there(alice: StockClient, bob: StockClient) -> None:
    """Presence by client and its figures, before and after one leaves."""
    mine, _ = await alice.subscribe("chat:here")
    theirs, _ = await bob.subscribe("chat:here")
    presence = await mine.presence()
    stats = await mine.presence_stats()

    assert {"alice", "bob"} == {info.user for info in presence.clients.values()}
    assert (2, 2) == (stats.num_clients, stats.num_users)

    await theirs.unsubscribe()
    # Its answer comes after the unsubscribe, on the same connection.
    with pytest.raises(ReplyError) as refusal:
        await bob.client.presence("chat:here")

    assert 103 == refusal.value.code
    assert ["alice"] == [info.user for info in (await mine.presence()).clients.values()]


async def test_join_and_leave_are_pushed(service: ServiceProcess, alice: StockClient) -> None:
    """Coming and going is told, one's own coming too."""
    _, events = await alice.subscribe("chat:door")

    assert "alice" == (await events.expect("join")).info.user

    async with stock_client(service.ws_url, token=service.token("carol")) as carol:
        await carol.subscribe("chat:door")

        assert "carol" == (await events.expect("join")).info.user

    assert "carol" == (await events.expect("leave")).info.user


async def test_join_and_leave_are_pushed_on_request(alice: StockClient, bob: StockClient) -> None:
    """Where the namespace does not force them, who asks gets them and who does not does not."""
    _, asked = await alice.subscribe("lobby", join_leave=True)
    mine, silent = await bob.subscribe("lobby")

    assert "alice" == (await asked.expect("join")).info.user
    assert "bob" == (await asked.expect("join")).info.user

    await mine.publish("last")
    await silent.expect("publication")

    assert not silent.of("join")


async def test_history_pages_forward_and_back(alice: StockClient) -> None:
    """Limit, since and reverse."""
    mine, _ = await alice.subscribe("chat:past")
    for number in range(1, 6):
        await mine.publish(number)
    top = await mine.history()
    first = await mine.history(limit=2)
    after = await mine.history(limit=-1, since=StreamPosition(offset=2, epoch=top.epoch))
    back = await mine.history(limit=2, reverse=True)
    before = await mine.history(limit=10, since=StreamPosition(offset=3, epoch=top.epoch), reverse=True)

    assert ([], 5) == (top.publications, top.offset)
    assert [1, 2] == [pub.data for pub in first.publications]
    assert [3, 4, 5] == [pub.data for pub in after.publications]
    assert [5, 4] == [pub.data for pub in back.publications]
    assert [2, 1] == [pub.data for pub in before.publications]


async def test_history_of_another_epoch_is_unrecoverable(alice: StockClient) -> None:
    """A position in a stream that is gone is error 112."""
    mine, _ = await alice.subscribe("chat:epoch")
    with pytest.raises(ReplyError) as refusal:
        await mine.history(limit=1, since=StreamPosition(offset=1, epoch="another"))

    assert 112 == refusal.value.code


async def _cut_by_reset(_service: ServiceProcess, proxy: TcpProxy) -> None:
    proxy.cut()


async def _cut_by_api(service: ServiceProcess, _proxy: TcpProxy) -> None:
    await api(service, "disconnect", user="dora", disconnect={"code": 3011, "reason": "force reconnect"})


async def _cut_for_slowness(service: ServiceProcess, proxy: TcpProxy) -> None:
    before = (await figures(service))['connections_closed_total{code="3008"}']
    proxy.stall()
    for number in range(400):
        await api(service, "publish", channel="chat:cut", data=[number, "x" * 60_000])
        if number % 20 == 19 and (await figures(service))['connections_closed_total{code="3008"}'] > before:
            break
    proxy.flow()


@pytest.mark.parametrize(
    ("cut", "code"),
    [
        pytest.param(_cut_by_reset, 1, id="reset"),
        pytest.param(_cut_by_api, 3011, id="by-the-server"),
        pytest.param(_cut_for_slowness, 3008, id="slow"),
    ],
)
async def test_missed_publications_are_recovered(
    service: ServiceProcess, proxy: TcpProxy, cut: Callable[[ServiceProcess, TcpProxy], Awaitable[None]], code: int
) -> None:
    """After a cut the client comes back by itself and gets what it missed, once and in order."""
    async with stock_client(proxy.ws_url, token=service.token("dora")) as dora:
        _, events = await dora.subscribe("chat:cut")
        first = (await api(service, "publish", channel="chat:cut", data="before"))["offset"]
        await events.expect("publication")
        proxy.is_open = False
        await cut(service, proxy)

        assert code == (await dora.events.expect("connecting")).code

        last = first
        for number in (1, 2, 3):
            last = (await api(service, "publish", channel="chat:cut", data=number))["offset"]
        proxy.is_open = True
        again = await events.expect("subscribed")

        assert (True, True) == (again.was_recovering, again.recovered)

        while not events.publications or events.publications[-1] != 3:
            await events.expect("publication")
        offsets = [context.pub.offset for context in events.of("publication")]

        assert list(range(first, last + 1)) == offsets


async def test_connection_token_is_refreshed_in_time(service: ServiceProcess) -> None:
    """A short token is renewed while the connection goes on."""
    asked = 0

    async def get_token() -> str:
        nonlocal asked
        asked += 1
        return service.token("short", seconds=2)

    refreshed = (await figures(service))['commands_total{method="refresh"}']
    async with stock_client(service.ws_url, get_token=get_token) as stock:
        await until_figures(service, {'commands_total{method="refresh"}': refreshed + 2}, at_least=True)

        assert asked >= 3
        assert ClientState.CONNECTED == stock.client.state
        assert 1 == len(stock.events.of("connected"))
        assert not stock.events.of("error")


async def test_expired_token_makes_the_client_fetch_another(service: ServiceProcess) -> None:
    """Error 109 is answered by a new token and another try."""

    async def get_token() -> str:
        return service.token("late")

    async with stock_client(service.ws_url, token=service.token("late", seconds=-10), get_token=get_token) as stock:
        assert ClientState.CONNECTED == stock.client.state


async def test_invalid_token_is_the_end(service: ServiceProcess) -> None:
    """A client with a token that cannot be right is told so and stays away."""
    stock = StockClient(service.ws_url, token="not.a.token")
    await stock.client.connect()
    end = await stock.events.expect("disconnected")

    assert (3500, "invalid token") == (end.code, end.reason)


async def test_private_channel_needs_its_token(service: ServiceProcess, alice: StockClient) -> None:
    """A channel with ``$`` opens to a token for this user and this channel alone."""

    async def get_token(channel: str) -> str:
        return service.token("alice", channel=channel, info={"seat": 4})

    refused, events = await alice.begin_subscribe("$chat:vip")

    assert 103 == (await events.expect("unsubscribed")).code

    alice.client.remove_subscription(refused)
    opened, events = await alice.subscribe("$chat:vip", get_token=get_token)
    await opened.publish("in")

    assert {"seat": 4} == (await events.expect("publication")).pub.info.chan_info


async def test_subscription_token_is_refreshed_in_time(service: ServiceProcess, alice: StockClient) -> None:
    """A short subscription token is renewed while the subscription goes on."""
    asked = 0

    async def get_token(channel: str) -> str:
        nonlocal asked
        asked += 1
        return service.token("alice", channel=channel, seconds=2)

    refreshed = (await figures(service))['commands_total{method="sub_refresh"}']
    subscription, events = await alice.subscribe("$chat:short", get_token=get_token)
    await until_figures(service, {'commands_total{method="sub_refresh"}': refreshed + 2}, at_least=True)

    assert asked >= 3
    assert SubscriptionState.SUBSCRIBED == subscription.state
    assert 1 == len(events.of("subscribed"))
    assert not events.of("error")


async def test_user_limited_channel_opens_to_its_users(alice: StockClient, bob: StockClient) -> None:
    """A channel with ``#`` lists who may enter."""
    _, events = await alice.subscribe("chat:dialog#alice,carol")
    _, refused = await bob.begin_subscribe("chat:dialog#alice,carol")

    assert 103 == (await refused.expect("unsubscribed")).code
    assert events.of("subscribed")


async def test_token_subscribes_by_the_server(service: ServiceProcess) -> None:
    """Channels in the token, and the personal one, are entered without a command of the client."""
    token = service.token("eve", channels=["chat:one"], subs={"chat:two": {"data": {"hello": 1}}})
    async with stock_client(service.ws_url, token=token) as eve:
        subscribed = {context.channel: context for context in [await eve.events.expect("subscribed") for _ in "123"]}

        assert {"chat:one", "chat:two", "#eve"} == set(subscribed)
        assert {"hello": 1} == subscribed["chat:two"].data

        for channel in ("chat:one", "#eve"):
            await api(service, "publish", channel=channel, data=channel)
            context = await eve.events.expect("publication")

            assert (channel, channel) == (context.channel, context.pub.data)


async def test_server_side_subscription_recovers(service: ServiceProcess, proxy: TcpProxy) -> None:
    """What was missed in a server-side subscription comes with the connect reply."""
    token = service.token("frank", channels=["chat:server-side"])
    async with stock_client(proxy.ws_url, token=token) as frank:
        await api(service, "publish", channel="chat:server-side", data=0)
        await frank.events.expect("publication")
        proxy.is_open = False
        proxy.cut()
        for number in (1, 2):
            await api(service, "publish", channel="chat:server-side", data=number)
        proxy.is_open = True
        for number in (1, 2):
            assert number == (await frank.events.expect("publication")).pub.data

        again = [context for context in frank.events.of("subscribed") if context.channel == "chat:server-side"]

        assert (2, True) == (len(again), again[-1].recovered)
        assert [0, 1, 2] == frank.events.publications


async def test_server_subscribes_and_unsubscribes(service: ServiceProcess, alice: StockClient) -> None:
    """The server API puts a client into a channel and out of it."""
    await alice.events.expect("subscribed")
    await api(service, "subscribe", user="alice", channel="chat:invited", data={"by": "server"})
    subscribed = await alice.events.expect("subscribed")

    assert ("chat:invited", {"by": "server"}) == (subscribed.channel, subscribed.data)

    await api(service, "publish", channel="chat:invited", data=1)

    assert 1 == (await alice.events.expect("publication")).pub.data

    await api(service, "unsubscribe", user="alice", channel="chat:invited")

    assert "chat:invited" == (await alice.events.expect("unsubscribed")).channel


async def test_server_ends_a_subscription_of_the_client(service: ServiceProcess, alice: StockClient) -> None:
    """An unsubscribe by the server is final, with its code."""
    subscription, events = await alice.subscribe("chat:removed")
    await api(service, "unsubscribe", user="alice", channel="chat:removed")
    end = await events.expect("unsubscribed")

    assert (2000, "server unsubscribe") == (end.code, end.reason)
    assert SubscriptionState.UNSUBSCRIBED == subscription.state
    assert ClientState.CONNECTED == alice.client.state


async def test_server_disconnects_for_good(service: ServiceProcess) -> None:
    """A disconnect by the server is final unless its code says otherwise."""
    async with stock_client(service.ws_url, token=service.token("gone")) as stock:
        await api(service, "disconnect", user="gone")
        end = await stock.events.expect("disconnected")

        assert (3503, "force disconnect") == (end.code, end.reason)
        assert ClientState.DISCONNECTED == stock.client.state


async def test_unknown_method_is_refused(alice: StockClient) -> None:
    """A call that nobody offers is error 104 and ends nothing."""
    with pytest.raises(ReplyError) as refusal:
        await alice.client.rpc("nothing", {})

    assert refusal.value.code in (104, 108)
    assert ClientState.CONNECTED == alice.client.state


async def test_unknown_namespace_is_refused(alice: StockClient) -> None:
    """Error 102 ends the subscription alone."""
    _, events = await alice.begin_subscribe("nowhere:x")

    assert 102 == (await events.expect("unsubscribed")).code


async def test_client_with_128_channels_comes_back_without_a_refusal() -> None:
    """The usual limits let a client return to all its channels at once, several times."""
    async with ServiceProcess.start() as service, TcpProxy.start(service.port) as proxy:
        async with stock_client(proxy.ws_url, token=service.token("many")) as stock:
            pairs = [await stock.begin_subscribe(f"chat:room-{number}") for number in range(128)]
            for _ in range(3):
                for _, events in pairs:
                    await events.expect("subscribed")
                proxy.cut()
            for _, events in pairs:
                await events.expect("subscribed")

            assert not [events.of("error") for _, events in pairs if events.of("error")]
            assert not [events.of("unsubscribed") for _, events in pairs if events.of("unsubscribed")]
            found = await figures(service)

            assert not {name: value for name, value in found.items() if name.startswith("errors_total") and value}
            assert not {name: value for name, value in found.items() if name.startswith("limited_total") and value}
        await until_empty(service)


async def test_many_clients_get_everything_in_order(service: ServiceProcess) -> None:
    """Forty clients, each publishing, see the same stream."""
    async with asyncio.timeout(30):
        clients = [StockClient(service.ws_url, token=service.token(f"u{number}")) for number in range(40)]
        try:
            for stock in clients:
                await stock.connect()
            pairs = [await stock.subscribe("crowd") for stock in clients]
            for number, (subscription, _) in enumerate(pairs):
                await subscription.publish(number)
            for _, events in pairs:
                while len(events.publications) < len(clients):
                    await events.expect("publication")
        finally:
            for stock in clients:
                await stock.client.disconnect()

        assert [list(range(40))] * 40 == [events.publications for _, events in pairs]
