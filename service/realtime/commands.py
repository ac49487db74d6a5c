"""What each command of a client does: one function a command, and the table of them.

A function decides from what the context knows, changes the hub, and answers
through the session. It awaits nothing but futures before its first change.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from service.auth import policy
from service.auth.tokens import ConnectionClaims, Overrides, SubscriptionClaims, TokenFault
from service.core import codec
from service.core.codes import Disconnect, Disconnects, Error, Errors
from service.core.messages import (
    REJECT_UNRECOVERED,
    ConnectRequest,
    HistoryRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    Request,
    RpcRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from service.core.recovery import Page, Recovery, merge, recover
from service.core.stream import Position
from service.realtime.context import Call
from service.realtime.ports import Draft, Event
from service.realtime.steps import enter_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from service.core.namespaces import Channel, Namespace
    from service.core.stream import Publication
    from service.realtime.connection import Connection
    from service.realtime.context import Context
    from service.realtime.hub import Member

__all__ = ("COMMANDS", "COUNTED", "history_page", "subscribe_by_server")

COUNTED: Final = frozenset({"publish", "rpc", "send", "history", "presence", "presence_stats"})
"""The commands that count as messages for the limit of messages a minute."""

_NO_OVERRIDES: Final = Overrides()
_NO_CREDENTIALS: Final = Disconnect(Disconnects.BAD_REQUEST.code, "no credentials: connect with a token")


def _resolve(context: Context, connection: Connection, name: str) -> Channel | Error:
    """Find a channel, unless it lies outside the namespaces that the connection's token is for."""
    channel = context.namespaces.resolve(name)
    if isinstance(channel, Error) or connection.namespaces is None:
        return channel
    return channel if channel.namespace.name in connection.namespaces else Errors.PERMISSION_DENIED


def _params(request: Request) -> Any:  # noqa: ANN401 - the table below pairs each function with its own type
    return request.params


# Connecting.


async def connect(context: Context, connection: Connection, request: Request) -> None:
    """Say who the client is, and subscribe it to what the server wants it in."""
    params: ConnectRequest = _params(request)
    claims = _identify(context, params)
    if isinstance(claims, Disconnect):
        connection.session.close(claims)
        return
    if isinstance(claims, Error):
        connection.reject(request, claims)
        return
    limit = context.limits.connections_per_user
    if limit and claims.user and len(context.hub.users.get(claims.user, ())) >= limit:
        context.observer.limited("connections_per_user")
        connection.session.close(Disconnects.CONNECTION_LIMIT)
        return
    channels = _server_channels(context, claims)
    if isinstance(channels, Error):
        connection.reject(request, channels)
        return
    if len(channels) > context.limits.channels_per_client:
        context.observer.limited("channels_per_client")
        connection.session.close(Disconnects.CHANNEL_LIMIT)
        return
    await _welcome(context, connection, request, claims, channels)


def _identify(context: Context, params: ConnectRequest) -> ConnectionClaims | Error | Disconnect:
    if not params.token:
        return ConnectionClaims(user="") if context.allow_anonymous else _NO_CREDENTIALS
    claims = context.tokens.connection(params.token)
    if isinstance(claims, TokenFault):
        return Errors.TOKEN_EXPIRED if claims is TokenFault.EXPIRED else Disconnects.INVALID_TOKEN
    if not claims.user and not context.allow_anonymous:
        return Disconnects.PERMISSION_DENIED
    return claims


def _server_channels(context: Context, claims: ConnectionClaims) -> dict[str, tuple[Channel, Any]] | Error:
    """Return the channels to subscribe a client to: those of its token, and its personal one."""
    found: dict[str, tuple[Channel, Any]] = {}
    for item in claims.channels:
        channel = context.namespaces.resolve(item.channel)
        if isinstance(channel, Error):
            return channel
        found[channel.name] = (channel, item)
    # A token for some namespaces alone opens no personal channel, which lies in none of them.
    if context.personal_channels and claims.namespaces is None:
        personal = context.namespaces.personal(claims.user)
        if personal is not None:
            found.setdefault(personal.name, (personal, None))
    return found


async def _welcome(
    context: Context,
    connection: Connection,
    request: Request,
    claims: ConnectionClaims,
    channels: Mapping[str, tuple[Channel, Any]],
) -> None:
    params: ConnectRequest = _params(request)
    session, now = connection.session, context.clock.now()
    connection.info = claims.info
    connection.namespaces = claims.namespaces
    session.user = claims.user
    context.hub.authenticate(connection)
    joins: list[tuple[Member, Position]] = []
    subs: list[bytes] = []
    for channel, item in channels.values():
        info = item.info if item is not None else None
        wish = params.subs.get(channel.name) or SubscribeRequest()
        member = context.hub.begin(connection, channel, chan_info=info, expires_at=math.inf, by_server=True)
        outcome = await _join(context, member, wish, item.overrides if item is not None else _NO_OVERRIDES)
        if isinstance(outcome, Error) or connection.memberships.get(channel.name) is not member:
            # A gap, or it was overrun, or the connection ended meanwhile.
            connection.close(Disconnects.INSUFFICIENT_STATE)
            return
        joins.append((member, outcome.position))
        extra = item.data if item is not None else None
        subs.append(codec.quote(channel.name) + b":" + _subscribe_result(outcome, member, wish, data=extra))
    expires_at, ttl = _monotonic(context, claims.expires_at)
    parts = [
        b'{"client":%b,"version":%b' % (codec.quote(session.client), codec.quote(f"slackwater {context.version}")),
        b',"ping":%d,"pong":true' % round(context.limits.session.ping_seconds),
    ]
    if ttl:
        parts.append(b',"expires":true,"ttl":%d' % ttl)
    if subs:
        parts.append(b',"subs":{' + b",".join(subs) + b"}")
    session.accept(request, claims.user, b"".join(parts) + b"}", expires_at=expires_at, now=now)
    context.observer.authenticated()
    for member, position in joins:
        context.hub.complete(member, position)
    context.greet(connection)
    connection.reschedule()


async def refresh(context: Context, connection: Connection, request: Request) -> None:
    """Take a new connection token in the place of one that runs out."""
    params: RefreshRequest = _params(request)
    claims = context.tokens.connection(params.token)
    if isinstance(claims, TokenFault):
        connection.close(Disconnects.EXPIRED if claims is TokenFault.EXPIRED else Disconnects.INVALID_TOKEN)
        return
    if claims.user != connection.user:
        connection.close(Disconnects.INVALID_TOKEN)
        return
    connection.info = claims.info
    connection.namespaces = claims.namespaces
    connection.session.expires_at, ttl = _monotonic(context, claims.expires_at)
    expires = b',"expires":true,"ttl":%d' % ttl if ttl else b""
    version = codec.quote(f"slackwater {context.version}")
    result = b'{"client":%b,"version":%b%b}' % (codec.quote(connection.client), version, expires)
    connection.session.reply(request, result)
    connection.reschedule()


def _monotonic(context: Context, expires_at: float | None) -> tuple[float, int]:
    """Turn a Unix time into a monotonic one and the whole seconds until then, at least 1; None means never."""
    if expires_at is None:
        return math.inf, 0
    left = expires_at - context.clock.wall()
    return context.clock.now() + left, max(1, math.ceil(left))


# Subscribing.


async def subscribe(context: Context, connection: Connection, request: Request) -> None:
    """Join a channel, and hand over what the client missed in it."""
    params: SubscribeRequest = _params(request)
    channel = _resolve(context, connection, params.channel)
    if isinstance(channel, Error):
        connection.reject(request, channel)
        return
    refusal = _cannot_subscribe(context, connection, channel, params)
    claims = refusal or _permission(context, connection, channel, params.token)
    if isinstance(claims, Disconnect):
        connection.close(claims)
        return
    if isinstance(claims, Error):
        connection.reject(request, claims)
        return
    expires_at, ttl = _monotonic(context, claims.expires_at if claims else None)
    member = context.hub.begin(connection, channel, chan_info=claims.info if claims else None, expires_at=expires_at)
    outcome = await _join(context, member, params, claims.overrides if claims else _NO_OVERRIDES)
    if connection.memberships.get(channel.name) is not member:
        # It was overrun, or the connection ended meanwhile.
        connection.reject(request, Errors.INTERNAL)
        return
    if isinstance(outcome, Error):
        context.hub.leave(member)
        connection.reject(request, outcome)
        return
    data = claims.data if claims else None
    connection.session.reply(request, _subscribe_result(outcome, member, params, ttl=ttl, data=data))
    context.hub.complete(member, outcome.position)
    if ttl:
        connection.reschedule()


def _cannot_subscribe(
    context: Context, connection: Connection, channel: Channel, params: SubscribeRequest
) -> Error | None:
    if channel.name in connection.memberships:
        return Errors.ALREADY_SUBSCRIBED
    if params.type:
        # Map and shared-poll subscriptions are not offered.
        return Errors.PERMISSION_DENIED
    # What the server added, the personal channel first of all, takes no place away from the client.
    own = sum(not member.by_server for member in connection.memberships.values())
    if own >= context.limits.channels_per_client:
        context.observer.limited("channels_per_client")
        return Errors.LIMIT_EXCEEDED
    return None


def _permission(
    context: Context, connection: Connection, channel: Channel, token: str
) -> SubscriptionClaims | Error | Disconnect | None:
    """Return the claims of a subscription token, None where none was needed, or a refusal."""
    if not token:
        return policy.may_subscribe(channel, connection.user, has_valid_token=False)
    claims = context.tokens.subscription(token)
    if isinstance(claims, TokenFault):
        return Errors.TOKEN_EXPIRED if claims is TokenFault.EXPIRED else Errors.PERMISSION_DENIED
    if not _is_for(claims, connection, channel.name):
        return Disconnects.INVALID_TOKEN
    return policy.may_subscribe(channel, connection.user, has_valid_token=True) or claims


def _is_for(claims: SubscriptionClaims, connection: Connection, channel: str) -> bool:
    return (
        claims.user == connection.user and claims.channel == channel and claims.client in (None, "", connection.client)
    )


async def _join(
    context: Context, member: Member, wish: SubscribeRequest, overrides: Overrides = _NO_OVERRIDES
) -> Recovery[Publication | Event] | Error:
    """Find where a member begins, and what it missed; its flags are set on the way."""
    channel, user = member.room.channel, member.connection.user
    options = _options(channel.namespace, overrides)
    member.is_announced = options.join_leave
    member.is_present = options.presence
    member.wants_joins = options.join_leave and (
        options.force_push_join_leave or (wish.join_leave and policy.grants_join_leave(channel, user))
    )
    if not options.has_history:
        return Recovery(recovered=False, items=(), position=Position(0, ""))
    member.is_recoverable = options.force_recovery or (
        (wish.recoverable or wish.recover) and policy.grants_recovery(channel, user)
    )
    member.is_positioned = (
        member.is_recoverable
        or options.force_positioning
        or (wish.positioned and policy.grants_positioning(channel, user))
    )
    wants = wish.recover and member.is_recoverable
    limit = context.limits.page_size
    page = await context.streams.read(channel, after=wish.offset if wants else 0, limit=limit if wants else 0)
    outcome: Recovery[Publication | Event] = Recovery(recovered=False, items=(), position=page.top)
    if wants:
        outcome = recover(Position(wish.offset, wish.epoch), page)
    if wants and sum(len(item.data) for item in page.items) > context.limits.page_bytes:
        outcome = Recovery(recovered=False, items=(), position=page.top)
    merged = merge(outcome, [event for event in member.held or () if event.offset])
    if merged is None:
        # A publication is neither in the stream nor among those held back: the client has to start over.
        member.connection.close(Disconnects.INSUFFICIENT_STATE)
        return Errors.INTERNAL
    if wants:
        context.observer.recovered(len(merged.items), success=merged.recovered)
        if not merged.recovered and wish.flag & REJECT_UNRECOVERED:
            return Errors.UNRECOVERABLE_POSITION
    return merged


def _options(namespace: Namespace, overrides: Overrides) -> Namespace:
    """Return the options that hold for one subscription: the namespace's, but for what its token says otherwise."""
    if overrides == _NO_OVERRIDES:
        return namespace
    changes = {item.name: getattr(overrides, item.name) for item in fields(overrides)}
    return structs.replace(namespace, **{name: value for name, value in changes.items() if value is not None})


def _subscribe_result(
    outcome: Recovery[Publication | Event],
    member: Member,
    wish: SubscribeRequest,
    *,
    ttl: int = 0,
    data: bytes | None = None,
) -> bytes:
    result: dict[str, object] = {}
    if ttl:
        result["expires"], result["ttl"] = True, ttl
    if member.is_positioned:
        result["positioned"] = True
        result["recoverable"] = member.is_recoverable
        result["epoch"] = outcome.position.epoch
        # Publications in the reply bring a recovered client from its own offset to the top.
        result["offset"] = wish.offset if outcome.recovered else outcome.position.offset
    if wish.recover:
        result["was_recovering"] = True
        result["recovered"] = outcome.recovered
    parts = [codec.encode({key: value for key, value in result.items() if value})[:-1]]
    if outcome.items:
        parts.append(b'"publications":[' + b",".join(map(_encoded, outcome.items)) + b"]")
    if data is not None:
        parts.append(b'"data":' + data)
    return parts[0] + (b"," if len(parts) > 1 and len(parts[0]) > 1 else b"") + b",".join(parts[1:]) + b"}"


async def unsubscribe(context: Context, connection: Connection, request: Request) -> None:
    """Leave a channel; to leave one that the client is not in succeeds too."""
    params: UnsubscribeRequest = _params(request)
    member = connection.memberships.get(params.channel)
    if member is not None:
        context.hub.leave(member)
    connection.session.reply(request)


async def sub_refresh(context: Context, connection: Connection, request: Request) -> None:
    """Take a new subscription token in the place of one that runs out."""
    params: SubRefreshRequest = _params(request)
    member = connection.memberships.get(params.channel)
    if member is None or member.by_server:
        connection.reject(request, Errors.PERMISSION_DENIED)
        return
    if not params.token:
        connection.reject(request, Errors.BAD_REQUEST)
        return
    claims = context.tokens.subscription(params.token)
    if claims is TokenFault.EXPIRED:
        connection.reject(request, Errors.EXPIRED)
        return
    if isinstance(claims, TokenFault) or not _is_for(claims, connection, params.channel):
        connection.close(Disconnects.INVALID_TOKEN)
        return
    member.expires_at, ttl = _monotonic(context, claims.expires_at)
    member.chan_info = claims.info
    connection.session.reply(request, b'{"expires":true,"ttl":%d}' % ttl if ttl else b"{}")
    connection.reschedule()


async def subscribe_by_server(  # noqa: PLR0913 - the parameters of the server API's own method
    context: Context,
    connection: Connection,
    channel: Channel,
    *,
    info: bytes | None = None,
    data: bytes | None = None,
    expires_at: float | None = None,
    since: Position | None = None,
    overrides: Overrides = _NO_OVERRIDES,
) -> Error | None:
    """Subscribe a client for the server API, and tell it.

    Args:
        expires_at: Unix seconds; None for never.
        since: Hand over what was published after this position.
    """
    if channel.name in connection.memberships:
        return Errors.ALREADY_SUBSCRIBED
    # Each side has its own share: neither the server nor the client takes places away from the other.
    if sum(member.by_server for member in connection.memberships.values()) >= context.limits.channels_per_client:
        context.observer.limited("channels_per_client")
        return Errors.LIMIT_EXCEEDED
    wish = SubscribeRequest(
        recover=since is not None, offset=since.offset if since else 0, epoch=since.epoch if since else ""
    )
    until, _ = _monotonic(context, expires_at)
    member = context.hub.begin(connection, channel, chan_info=info, expires_at=until, by_server=True)
    outcome = await _join(context, member, wish, overrides)
    if connection.memberships.get(channel.name) is not member:
        return Errors.INTERNAL
    if isinstance(outcome, Error):
        context.hub.leave(member)
        return outcome
    start = since.offset if since is not None and outcome.recovered else outcome.position.offset
    result: dict[str, object] = {}
    if member.is_positioned:
        result = {"recoverable": member.is_recoverable, "positioned": True}
        result |= {"epoch": outcome.position.epoch, "offset": start}
    encoded = codec.encode({key: value for key, value in result.items() if value})[:-1]
    if data is not None:
        encoded += (b',"data":' if len(encoded) > 1 else b'"data":') + data
    connection.push(codec.push(channel.name, "subscribe", encoded + b"}"))
    for item in outcome.items:
        connection.push(codec.publication_push(channel.name, _encoded(item)))
    context.hub.complete(member, outcome.position)
    connection.reschedule()
    return None


# Publishing and asking.


async def publish(context: Context, connection: Connection, request: Request) -> None:
    """Publish as the user of the connection."""
    params: PublishRequest = _params(request)
    channel = _resolve(context, connection, params.channel)
    if isinstance(channel, Error):
        connection.reject(request, channel)
        return
    refusal = policy.may_publish(channel, connection.user, subscribed=_is_in(connection, channel))
    if params.type:
        refusal = Errors.NOT_AVAILABLE
    if refusal is not None:
        connection.reject(request, refusal)
        return
    member = connection.memberships.get(channel.name)
    chan_info = member.chan_info if member is not None else None
    info = codec.client_info(connection.user, connection.client, connection.info, chan_info)
    await context.publisher.publish(channel, Draft(codec.compact(params.data), info))
    connection.session.reply(request)


def _is_in(connection: Connection, channel: Channel) -> bool:
    member = connection.memberships.get(channel.name)
    return member is not None and member.has_joined


async def history(context: Context, connection: Connection, request: Request) -> None:
    """Read a stream."""
    params: HistoryRequest = _params(request)
    channel = _resolve(context, connection, params.channel)
    if isinstance(channel, Error):
        connection.reject(request, channel)
        return
    refusal = policy.may_read_history(channel, connection.user, subscribed=_is_in(connection, channel))
    if refusal is not None:
        connection.reject(request, refusal)
        return
    since = Position(params.since.offset, params.since.epoch) if params.since is not None else None
    page = await history_page(context, channel, limit=params.limit, since=since, reverse=params.reverse)
    if isinstance(page, Error):
        connection.reject(request, page)
        return
    connection.session.reply(request, encode_page(page))


async def history_page(
    context: Context, channel: Channel, *, limit: int, since: Position | None, reverse: bool
) -> Page | Error:
    """Read one page of a stream for a client or the server API.

    Args:
        limit: Publications; 0 for the top alone, -1 for as many as a page holds. A page is bounded in bytes too.
        since: Not itself in the page; None for the beginning, or for the end in reverse.
        reverse: Newest first.
    """
    if reverse and since is not None and since.offset == 0:
        return Errors.BAD_REQUEST
    page_size = context.limits.page_size
    count = page_size if limit < 0 else min(limit, page_size)
    if reverse:
        before = since.offset if since is not None else 2**63
        page = await context.streams.read_back(channel, before=before, limit=count)
    else:
        page = await context.streams.read(channel, after=since.offset if since is not None else 0, limit=count)
    if since is not None and since.epoch not in ("", page.top.epoch):
        return Errors.UNRECOVERABLE_POSITION
    return Page(_within(page.items, context.limits.page_bytes), page.top)


def _within(items: Sequence[Publication], most_bytes: int) -> Sequence[Publication]:
    """Return as many of the first items as fit into a page; one at least, else nobody could read on."""
    size = 0
    for count, item in enumerate(items):
        size += len(item.data)
        if size > most_bytes and count:
            return items[:count]
    return items


def encode_page(page: Page) -> bytes:
    """Encode a page of history as its result."""
    publications = b",".join(map(codec.publication, page.items))
    return b'{"publications":[%b],"offset":%d,"epoch":%b}' % (
        publications,
        page.top.offset,
        codec.quote(page.top.epoch),
    )


async def presence(context: Context, connection: Connection, request: Request) -> None:
    """Say who is in a channel."""
    params: PresenceRequest = _params(request)
    channel = _presence_channel(context, connection, request, params.channel)
    if channel is not None:
        connection.session.reply(request, encode_presence(context, channel))


async def presence_stats(context: Context, connection: Connection, request: Request) -> None:
    """Say how many are in a channel."""
    params: PresenceStatsRequest = _params(request)
    channel = _presence_channel(context, connection, request, params.channel)
    if channel is not None:
        clients, users = context.hub.presence_stats(channel.name)
        connection.session.reply(request, codec.encode({"num_clients": clients, "num_users": users}))


def _presence_channel(context: Context, connection: Connection, request: Request, name: str) -> Channel | None:
    channel = _resolve(context, connection, name)
    if isinstance(channel, Error):
        connection.reject(request, channel)
        return None
    refusal = policy.may_read_presence(channel, connection.user, subscribed=_is_in(connection, channel))
    if refusal is not None:
        connection.reject(request, refusal)
        return None
    return channel


def encode_presence(context: Context, channel: Channel) -> bytes:
    """Encode who is in a channel as the result of ``presence``."""
    members = context.hub.presence(channel.name)
    entries = b",".join(codec.quote(client) + b":" + info for client, info in members.items())
    return b'{"presence":{' + entries + b"}}"


# The application.


async def rpc(context: Context, connection: Connection, request: Request) -> None:
    """Call a method of the application."""
    params: RpcRequest = _params(request)
    if connection.namespaces is not None:
        # A token for some namespaces alone does not reach the application.
        connection.reject(request, Errors.PERMISSION_DENIED)
        return
    method = context.procedures.methods.get(params.method)
    if method is None:
        connection.reject(request, Errors.METHOD_NOT_FOUND)
        return
    await enter_task()
    answer = await method(Call(connection.user, connection.client, bytes(params.data)))
    if isinstance(answer, Error):
        connection.reject(request, answer)
    else:
        connection.session.reply(request, b'{"data":' + codec.compact(answer) + b"}" if answer else b"{}")


async def send(context: Context, connection: Connection, request: Request) -> None:
    """Hand a message to the application."""
    params: SendRequest = _params(request)
    if connection.namespaces is not None:
        connection.close(Disconnects.PERMISSION_DENIED)
        return
    if context.procedures.on_send is None:
        connection.close(Disconnects.NOT_AVAILABLE)
        return
    await enter_task()
    await context.procedures.on_send(Call(connection.user, connection.client, bytes(params.data)))


def _encoded(item: Publication | Event) -> bytes:
    return item.body if isinstance(item, Event) else codec.publication(item)


COMMANDS: Final[Mapping[str, Callable[[Context, Connection, Request], Awaitable[None]]]] = {
    "connect": connect,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "publish": publish,
    "presence": presence,
    "presence_stats": presence_stats,
    "history": history,
    "send": send,
    "rpc": rpc,
    "refresh": refresh,
    "sub_refresh": sub_refresh,
}
"""What runs for each method that the session lets through."""
