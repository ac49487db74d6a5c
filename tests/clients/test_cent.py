"""PyPI ``cent``, as it comes, against a process of the service."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import cent
import pytest
import requests
from cent.exceptions import CentApiResponseError, CentTransportError, CentUnauthorizedError
from centrifuge import (
    Client,
    ClientEventHandler,
    ClientState,
    PublicationContext,
    ServerPublicationContext,
    ServerSubscribedContext,
    ServerUnsubscribedContext,
    SubscriptionEventHandler,
    UnsubscribedContext,
)
from typing_extensions import override

from tests.support.process import API_KEY, ServiceProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from centrifuge import DisconnectedContext

pytestmark = pytest.mark.e2e

SECONDS = 10.0


class Ear(ClientEventHandler, SubscriptionEventHandler):
    """Puts what a client hears into a queue, as (what, detail)."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

    @override
    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self.heard.put_nowait(("disconnected", (ctx.code, ctx.reason)))

    @override
    async def on_publication(self, ctx: PublicationContext | ServerPublicationContext) -> None:
        self.heard.put_nowait(("publication", ctx.pub.data))

    @override
    async def on_subscribed(self, ctx: Any) -> None:
        if isinstance(ctx, ServerSubscribedContext):
            self.heard.put_nowait(("server subscribed", (ctx.channel, ctx.data)))

    @override
    async def on_unsubscribed(self, ctx: UnsubscribedContext | ServerUnsubscribedContext) -> None:
        if isinstance(ctx, ServerUnsubscribedContext):
            self.heard.put_nowait(("server unsubscribed", ctx.channel))
        else:
            self.heard.put_nowait(("unsubscribed", (ctx.code, ctx.reason)))

    async def expect(self, what: str, detail: object) -> None:
        """Wait until this is heard, next."""
        async with asyncio.timeout(SECONDS):
            assert (what, detail) == await self.heard.get()


@asynccontextmanager
async def _listener(
    service: ServiceProcess, user: str, channel: str | None = None
) -> AsyncIterator[tuple[Client, Ear]]:
    """Connect a stock client, subscribed to a channel when one is given."""
    ear = Ear()
    client = Client(service.ws_url, token=service.token(user), events=ear)
    async with asyncio.timeout(SECONDS):
        await client.connect()
        await client.ready()
        if channel is not None:
            subscription = client.new_subscription(channel, events=ear)
            await subscription.subscribe()
            await subscription.ready()
    yield client, ear
    await client.disconnect()


@pytest.fixture
async def service() -> AsyncIterator[ServiceProcess]:
    """A process of the service."""
    async with ServiceProcess.start({"PERSONAL_CHANNELS": "false", "HTTP_MAX_BODY_BYTES": "100000"}) as process:
        yield process


@pytest.fixture
async def api(service: ServiceProcess) -> AsyncIterator[cent.AsyncClient]:
    """The asynchronous client with the right key."""
    client = cent.AsyncClient(f"{service.url}/api", API_KEY)
    yield client
    await client.close()


async def test_publish_and_broadcast_reach_stock_clients(service: ServiceProcess, api: cent.AsyncClient) -> None:
    """What cent sends arrives, once, and cent reads where it stands."""
    once = cent.PublishRequest(channel="chat:1", data={"x": 1}, tags={"k": "v"}, idempotency_key="once")
    async with _listener(service, "42", "chat:1") as (_, ear):
        published = await api.publish(once)
        again = await api.publish(once)
        broadcast = await api.broadcast(cent.BroadcastRequest(channels=["chat:1", "nowhere:1"], data="both"))
        await ear.expect("publication", {"x": 1})
        await ear.expect("publication", "both")

    kept, refused = broadcast.responses

    assert 1 == published.offset
    assert published == again
    assert kept.result is not None
    assert (2, published.epoch) == (kept.result.offset, kept.result.epoch)
    assert refused.error is not None
    assert 102 == refused.error.code


async def test_history(api: cent.AsyncClient) -> None:
    """Pages in both directions, tags, and what is left when it was removed."""
    drafts = [cent.PublishRequest(channel="chat:1", data=number, tags={"n": str(number)}) for number in (1, 2, 3)]
    (*_, kept) = [await api.publish(request) for request in drafts]
    since = cent.StreamPosition(offset=1, epoch=kept.epoch)

    page = await api.history(cent.HistoryRequest(channel="chat:1", limit=1, since=since))
    newest = await api.history(cent.HistoryRequest(channel="chat:1", limit=2, reverse=True))
    await api.history_remove(cent.HistoryRemoveRequest(channel="chat:1"))
    empty = await api.history(cent.HistoryRequest(channel="chat:1", limit=9))

    assert [(2, 2, {"n": "2"})] == [(item.offset, item.data, item.tags) for item in page.publications]
    assert [3, 2] == [item.offset for item in newest.publications]
    assert ([], 3, kept.epoch) == (empty.publications, empty.offset, empty.epoch)


async def test_presence_channels_and_info(service: ServiceProcess, api: cent.AsyncClient) -> None:
    """Who is there is read by cent's own models, where nobody is too."""
    async with _listener(service, "42", "chat:1"):
        presence = await api.presence(cent.PresenceRequest(channel="chat:1"))
        stats = await api.presence_stats(cent.PresenceStatsRequest(channel="chat:1"))
        fitting = await api.channels(cent.ChannelsRequest(pattern="chat:*"))
        (node,) = (await api.info(cent.InfoRequest())).nodes

    assert ["42"] == [entry.user for entry in presence.presence.values()]
    assert (1, 1) == (stats.num_clients, stats.num_users)
    assert {"chat:1": 1} == {name: item.num_clients for name, item in fitting.channels.items()}
    assert (1, 1, 1, 1) == (node.num_clients, node.num_users, node.num_subs, node.num_channels)
    assert node.uid
    assert node.name
    assert node.process is not None
    assert node.process.rss > 1_000_000
    assert {} == (await api.presence(cent.PresenceRequest(channel="chat:empty"))).presence
    assert {} == (await api.channels(cent.ChannelsRequest(pattern="news:*"))).channels


async def test_batch(api: cent.AsyncClient) -> None:
    """The replies are read as the results of their commands."""
    commands = [
        cent.PublishRequest(channel="chat:1", data=1),
        cent.BroadcastRequest(channels=["chat:1", "chat:2"], data=2),
        cent.PresenceStatsRequest(channel="chat:1"),
    ]
    for parallel, offset in ((False, 1), (True, 3)):
        result = await api.batch(cent.BatchRequest(requests=commands, parallel=parallel))
        published, broadcast, stats = (cast("Any", reply) for reply in result.replies)

        assert offset == published.offset
        assert [offset + 1, (offset + 1) // 2] == [response.result.offset for response in broadcast.responses]
        assert 0 == stats.num_clients


async def test_server_side_subscription_unsubscribe_and_disconnect(
    service: ServiceProcess, api: cent.AsyncClient
) -> None:
    """A back end puts its user into a channel and out of it again, and closes the connection."""
    async with _listener(service, "42") as (client, ear), _listener(service, "43", "chat:1") as (other, _):
        await api.subscribe(
            cent.SubscribeRequest(user="42", channel="chat:1", data={"why": "invited"}, info={"role": "guest"})
        )
        await ear.expect("server subscribed", ("chat:1", {"why": "invited"}))
        await api.publish(cent.PublishRequest(channel="chat:1", data="hello"))
        await ear.expect("publication", "hello")
        presence = await api.presence(cent.PresenceRequest(channel="chat:1"))
        await api.unsubscribe(cent.UnsubscribeRequest(user="42", channel="chat:1"))
        await ear.expect("server unsubscribed", "chat:1")
        await api.disconnect(cent.DisconnectRequest(user="42"))
        await ear.expect("disconnected", (3503, "force disconnect"))

        assert [{"role": "guest"}, None] == [presence.presence[key].chan_info for key in _by_user(presence)]
        assert ClientState.DISCONNECTED == client.state
        assert ClientState.CONNECTED == other.state


def _by_user(presence: cent.PresenceResult) -> list[str]:
    return sorted(presence.presence, key=lambda client: presence.presence[client].user)


async def test_unsubscribe_ends_a_subscription_of_the_client_for_good(
    service: ServiceProcess, api: cent.AsyncClient
) -> None:
    """The stock client does not subscribe again by itself."""
    async with _listener(service, "42", "chat:1") as (_, ear):
        await api.unsubscribe(cent.UnsubscribeRequest(user="42", channel="chat:1"))
        await ear.expect("unsubscribed", (2000, "server unsubscribe"))

        assert {} == (await api.presence(cent.PresenceRequest(channel="chat:1"))).presence


async def test_disconnect_with_a_code_of_ones_own(service: ServiceProcess, api: cent.AsyncClient) -> None:
    """Code and reason reach the stock client."""
    why = cent.Disconnect(code=4500, reason="logged out elsewhere")
    async with _listener(service, "42") as (_, ear):
        await api.disconnect(cent.DisconnectRequest(user="42", disconnect=why))
        await ear.expect("disconnected", (4500, "logged out elsewhere"))


async def test_refresh_of_a_live_connection(service: ServiceProcess, api: cent.AsyncClient) -> None:
    """The push does not disturb the stock client."""
    async with _listener(service, "42", "chat:1") as (client, ear):
        await api.refresh(cent.RefreshRequest(user="42", expire_at=4_000_000_000))
        await api.publish(cent.PublishRequest(channel="chat:1", data="still here"))
        await ear.expect("publication", "still here")

        assert ClientState.CONNECTED == client.state


async def test_errors_are_told_apart(service: ServiceProcess, api: cent.AsyncClient) -> None:
    """Each kind of failure is one of cent's own exceptions."""
    one = cent.PublishRequest(channel="chat:1", data=1)
    with pytest.raises(CentApiResponseError) as unknown:
        await api.publish(cent.PublishRequest(channel="nowhere:1", data=1))
    with pytest.raises(CentApiResponseError) as unavailable:
        await api.presence(cent.PresenceRequest(channel="news:1"))
    with pytest.raises(CentTransportError) as too_many:
        await api.batch(cent.BatchRequest(requests=[one] * 1001))
    with pytest.raises(CentTransportError) as too_long:
        await api.publish(cent.PublishRequest(channel="chat:1", data="x" * 100_000))

    assert (102, 108) == (unknown.value.code, unavailable.value.code)
    assert (400, 413) == (too_many.value.status_code, too_long.value.status_code)

    stranger = cent.AsyncClient(f"{service.url}/api", "wrong")
    with pytest.raises(CentUnauthorizedError):
        await stranger.info(cent.InfoRequest())
    await stranger.close()


@pytest.fixture
def sync_api(service: ServiceProcess) -> Iterator[cent.Client]:
    """The synchronous client with the right key."""
    with requests.Session() as session:
        yield cent.Client(f"{service.url}/api", API_KEY, session=session)


async def test_synchronous_client(sync_api: cent.Client) -> None:
    """The same wire, over another HTTP client."""

    def talk() -> tuple[object, ...]:
        published = sync_api.publish(cent.PublishRequest(channel="chat:1", data={"x": 1}))
        history = sync_api.history(cent.HistoryRequest(channel="chat:1", limit=-1))
        batch = sync_api.batch(cent.BatchRequest(requests=[cent.PublishRequest(channel="chat:1", data=2)]))
        with pytest.raises(CentApiResponseError):
            sync_api.publish(cent.PublishRequest(channel="nowhere:1", data=1))
        return published.offset, history.publications[0].data, cast("Any", batch.replies[0]).offset

    assert (1, {"x": 1}, 2) == await asyncio.to_thread(talk)
