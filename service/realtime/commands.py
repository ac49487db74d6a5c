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
from service.core.session import State
from service.core.stream import Position
from service.errors import DatabaseError, NotCommitted
from service.realtime.context import Call
from service.realtime.organizations import Place
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

_ENVELOPE_BYTES: Final = 64
"""Around the data of a publication in a reply, at most: its offset, and the names of its parts."""

_NO_OVERRIDES: Final = Overrides()
_NO_CREDENTIALS: Final = Disconnect(Disconnects.BAD_REQUEST.code, "no credentials: connect with a token")


def _resolve(context: Context, connection: Connection, name: str) -> Channel | Error:
    """Find a channel, unless it lies outside of what the connection's token is for."""
    channel = context.namespaces.resolve(name)
    return channel if isinstance(channel, Error) or connection.reaches(channel) else Errors.PERMISSION_DENIED


async def _ready(context: Context, user: str, channel: Channel) -> Error | None:
    """See to it that membership can be looked up; who cannot be a member causes no read."""
    if channel.namespace.name != policy.ORGANIZATIONS or not user:
        return None
    return await context.organizations.ready(channel)


async def _enter(context: Context, connection: Connection, name: str) -> Channel | Error:
    """Find a channel as `_resolve` does, and have its members at hand."""
    channel = _resolve(context, connection, name)
    if isinstance(channel, Error):
        return channel
    refusal = await _ready(context, connection.user, channel)
    if connection.session.state is State.CLOSED:
        # Nobody is left to answer, and nothing may be begun for it.
        refusal = Errors.INTERNAL
    return refusal or channel


def _params(request: Request) -> Any:  # noqa: ANN401 - the table below pairs each function with its own type
    return request.params


# Connecting.


async def connect(context: Context, connection: Connection, request: Request) -> None:
    """Say who the client is, and subscribe it to what the server wants it in."""
    claims = _identify(context, _params(request))
    granted = await _granted(context, claims) if isinstance(claims, ConnectionClaims) else claims
    if connection.session.state is State.CLOSED:
        # It ended while the members of an organization were read.
        return
    if isinstance(granted, Disconnect):
        connection.session.close(granted)
    elif isinstance(granted, Error):
        connection.reject(request, granted)
    else:
        await _welcome(context, connection, request, *granted)


def _identify(context: Context, params: ConnectRequest) -> ConnectionClaims | Error | Disconnect:
    if not params.token:
        return ConnectionClaims(user="") if context.allow_anonymous else _NO_CREDENTIALS
    claims = context.tokens.connection(params.token)
    if isinstance(claims, TokenFault):
        return Errors.TOKEN_EXPIRED if claims is TokenFault.EXPIRED else Disconnects.INVALID_TOKEN
    if not claims.user and not context.allow_anonymous:
        return Disconnects.PERMISSION_DENIED
    return claims


async def _granted(
    context: Context, claims: ConnectionClaims
) -> tuple[ConnectionClaims, dict[str, tuple[Channel, Any]]] | Error | Disconnect:
    """Return the claims and the channels to subscribe a client to, or why it is not let in."""
    channels = await _server_channels(context, claims)
    # Nothing waits between this count and the place that is taken.
    if _has_too_many(context, claims):
        context.observer.limited("connections_per_user")
        return Disconnects.CONNECTION_LIMIT
    if isinstance(channels, Error):
        return channels
    if len(channels) > context.limits.channels_per_client:
        context.observer.limited("channels_per_client")
        return Disconnects.CHANNEL_LIMIT
    return claims, channels


def _has_too_many(context: Context, claims: ConnectionClaims) -> bool:
    """Whether a user has all the connections that it may have; those for one organization count for themselves."""
    limit = context.limits.connections_per_user
    if not limit or not claims.user:
        return False
    mine = context.hub.users.get(claims.user, ())
    return sum(connection.organization == claims.organization for connection in mine) >= limit


async def _server_channels(context: Context, claims: ConnectionClaims) -> dict[str, tuple[Channel, Any]] | Error:
    """Return the channels to subscribe a client to: those of its token, and its personal one."""
    found: dict[str, tuple[Channel, Any]] = {}
    for item in claims.channels:
        channel = context.namespaces.resolve(item.channel)
        if isinstance(channel, Error):
            return channel
        refusal = await _ready(context, claims.user, channel)
        if refusal is not None:
            return refusal
        found[channel.name] = (channel, item)
    # A token for some channels alone opens no personal channel, which is none of them.
    if context.personal_channels and claims.namespaces is None and claims.organization is None:
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
    session, now = connection.session, context.clock.now()
    connection.info = claims.info
    connection.namespaces = claims.namespaces
    connection.organization = claims.organization
    session.user = claims.user
    context.hub.authenticate(connection)
    joins = await _join_all(context, connection, _params(request), channels)
    if isinstance(joins, Disconnect):
        connection.close(joins)
        return
    expires_at, ttl = _monotonic(context, claims.expires_at)
    parts = [
        b'{"client":%b,"version":%b' % (codec.quote(session.client), codec.quote(f"slackwater {context.version}")),
        b',"ping":%d,"pong":true' % round(context.limits.session.ping_seconds),
    ]
    if ttl:
        parts.append(b',"expires":true,"ttl":%d' % ttl)
    if joins:
        parts.append(b',"subs":{' + b",".join(sub for _, _, sub in joins) + b"}")
    session.accept(request, claims.user, b"".join(parts) + b"}", expires_at=expires_at, now=now)
    context.observer.authenticated()
    for member, position, _ in joins:
        context.hub.complete(member, position)
    context.greet(connection)
    connection.reschedule()


async def _join_all(
    context: Context, connection: Connection, params: ConnectRequest, channels: Mapping[str, tuple[Channel, Any]]
) -> list[tuple[Member, Position, bytes]] | Disconnect:
    """Join the channels that the server subscribes a client to; each with its part of the reply."""
    joins: list[tuple[Member, Position, bytes]] = []
    taken_bytes = 0
    for channel, item in channels.values():
        if not _is_admitted(context, connection, channel):
            # A token that was made before its user was removed must not keep it from everything else.
            continue
        place = context.organizations.lacks(channel, connection)
        if place is not None:
            return Disconnects.CHANNEL_LIMIT if place is Place.CHANNELS else Disconnects.CONNECTION_LIMIT
        info, data, overrides = (item.info, item.data, item.overrides) if item else (None, None, _NO_OVERRIDES)
        wish = params.subs.get(channel.name) or SubscribeRequest()
        member = context.hub.begin(connection, channel, chan_info=info, expires_at=math.inf, by_server=True)
        outcome = await _join(context, member, wish, overrides, taken_bytes=taken_bytes)
        if isinstance(outcome, Error):
            return Disconnects.INSUFFICIENT_STATE
        taken_bytes += sum(map(_size_in_reply, outcome.items))
        sub = codec.quote(channel.name) + b":" + _subscribe_result(outcome, member, wish, data=data)
        joins.append((member, outcome.position, sub))
        if any(connection.memberships.get(member.room.name) is not member for member, _, _ in joins):
            # One was overrun, or the connection ended, or the user was removed from an organization meanwhile.
            return Disconnects.INSUFFICIENT_STATE
    return joins


async def refresh(context: Context, connection: Connection, request: Request) -> None:
    """Take a new connection token in the place of one that runs out."""
    params: RefreshRequest = _params(request)
    claims = context.tokens.connection(params.token)
    if isinstance(claims, TokenFault):
        connection.close(Disconnects.EXPIRED if claims is TokenFault.EXPIRED else Disconnects.INVALID_TOKEN)
        return
    if claims.user != connection.user or claims.organization != connection.organization:
        # Who may make tokens for one organization alone does not prolong what a wider token opened.
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
    channel = await _enter(context, connection, params.channel)
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
        connection.reject(request, _why_gone(context, connection, channel))
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
    if not _is_admitted(context, connection, channel):
        return Errors.PERMISSION_DENIED
    return Errors.LIMIT_EXCEEDED if context.organizations.lacks(channel, connection) is not None else None


def _is_admitted(context: Context, connection: Connection, channel: Channel) -> bool:
    return policy.admits(channel, context.organizations.role(channel, connection.user))


def _why_gone(context: Context, connection: Connection, channel: Channel) -> Error:
    """Return why a join did not get to its end: its user was removed, or it was overrun, or the connection ended."""
    return Errors.INTERNAL if _is_admitted(context, connection, channel) else Errors.PERMISSION_DENIED


def _permission(
    context: Context, connection: Connection, channel: Channel, token: str
) -> SubscriptionClaims | Error | Disconnect | None:
    """Return the claims of a subscription token, None where none was needed, or a refusal."""
    if not token:
        role = context.organizations.role(channel, connection.user)
        return policy.may_subscribe(channel, connection.user, has_valid_token=False, role=role)
    claims = context.tokens.subscription(token)
    if isinstance(claims, TokenFault):
        return Errors.TOKEN_EXPIRED if claims is TokenFault.EXPIRED else Errors.PERMISSION_DENIED
    if not _is_for(claims, connection, channel.name):
        return Disconnects.INVALID_TOKEN
    role = context.organizations.role(channel, connection.user)
    return policy.may_subscribe(channel, connection.user, has_valid_token=True, role=role) or claims


def _is_for(claims: SubscriptionClaims, connection: Connection, channel: str) -> bool:
    return (
        claims.user == connection.user and claims.channel == channel and claims.client in (None, "", connection.client)
    )


async def _join(
    context: Context,
    member: Member,
    wish: SubscribeRequest,
    overrides: Overrides = _NO_OVERRIDES,
    *,
    taken_bytes: int = 0,
) -> Recovery[Publication | Event] | Error:
    """Find where a member begins, and what it missed; its flags are set on the way.

    Args:
        taken_bytes: What other recoveries take already of the bytes that one reply may have.
    """
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
    try:
        page = await _missed(context, channel, wish if wants else None)
    except DatabaseError:
        # It is nobody's defect, and noted where it is noticed.
        return Errors.INTERNAL
    outcome: Recovery[Publication | Event] = Recovery(recovered=False, items=(), position=page.top)
    if wants:
        outcome = recover(Position(wish.offset, wish.epoch), page)
    merged = merge(outcome, [event for event in member.held or () if event.offset])
    if merged is None:
        # A publication is neither in the stream nor among those held back: the client has to start over.
        member.connection.close(Disconnects.INSUFFICIENT_STATE)
        return Errors.INTERNAL
    if taken_bytes + sum(map(_size_in_reply, merged.items)) > context.limits.page_bytes:
        # A client for which the reply would be too long is closed as slow, again and again.
        merged = Recovery(recovered=False, items=(), position=merged.position)
    if wants:
        context.observer.recovered(len(merged.items), success=merged.recovered)
        if not merged.recovered and wish.flag & REJECT_UNRECOVERED:
            return Errors.UNRECOVERABLE_POSITION
    return merged


async def _missed(context: Context, channel: Channel, wish: SubscribeRequest | None) -> Page:
    """Read what somebody missed; None for who wants to know the top alone."""
    streams = context.streams
    if wish is None:
        return await streams.read(channel, after=0, limit=0)
    page = await streams.read(channel, after=wish.offset, limit=context.limits.recovery_size)
    if wish.offset > page.top.offset and wish.epoch == page.top.epoch:
        await streams.diverged(channel)
        page = await streams.read(channel, after=0, limit=0)
    return page


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
    refusal = _cannot_be_subscribed(context, connection, channel)
    if refusal is not None:
        return refusal
    wish = SubscribeRequest(
        recover=since is not None, offset=since.offset if since else 0, epoch=since.epoch if since else ""
    )
    until, _ = _monotonic(context, expires_at)
    member = context.hub.begin(connection, channel, chan_info=info, expires_at=until, by_server=True)
    outcome = await _join(context, member, wish, overrides)
    if connection.memberships.get(channel.name) is not member:
        return _why_gone(context, connection, channel)
    if isinstance(outcome, Error):
        context.hub.leave(member)
        return outcome
    start = since.offset if since is not None and outcome.recovered else outcome.position.offset
    connection.push(codec.push(channel.name, "subscribe", _subscribed(member, start, outcome.position.epoch, data)))
    for item in outcome.items:
        connection.push(codec.publication_push(channel.name, _encoded(item)))
    context.hub.complete(member, outcome.position)
    connection.reschedule()
    return None


def _cannot_be_subscribed(context: Context, connection: Connection, channel: Channel) -> Error | None:
    if channel.name in connection.memberships:
        return Errors.ALREADY_SUBSCRIBED
    if not _is_admitted(context, connection, channel):
        return Errors.PERMISSION_DENIED
    # Each side has its own share: neither the server nor the client takes places away from the other.
    if sum(member.by_server for member in connection.memberships.values()) >= context.limits.channels_per_client:
        context.observer.limited("channels_per_client")
        return Errors.LIMIT_EXCEEDED
    return Errors.LIMIT_EXCEEDED if context.organizations.lacks(channel, connection) is not None else None


def _subscribed(member: Member, offset: int, epoch: str, data: bytes | None) -> bytes:
    """Encode what a client is told of a subscription that the server made."""
    result: dict[str, object] = {}
    if member.is_positioned:
        result = {"recoverable": member.is_recoverable, "positioned": True, "epoch": epoch, "offset": offset}
    encoded = codec.encode({key: value for key, value in result.items() if value})[:-1]
    if data is not None:
        encoded += (b',"data":' if len(encoded) > 1 else b'"data":') + data
    return encoded + b"}"


# Publishing and asking.


async def publish(context: Context, connection: Connection, request: Request) -> None:
    """Publish as the user of the connection."""
    params: PublishRequest = _params(request)
    channel = await _enter(context, connection, params.channel)
    if isinstance(channel, Error):
        connection.reject(request, channel)
        return
    role = context.organizations.role(channel, connection.user)
    refusal = policy.may_publish(channel, connection.user, subscribed=_is_in(connection, channel), role=role)
    if params.type:
        refusal = Errors.NOT_AVAILABLE
    if refusal is None and role is not None and context.organizations.take_publication(channel) is not None:
        refusal = Errors.TOO_MANY_REQUESTS
    if refusal is not None:
        connection.reject(request, refusal)
        return
    member = connection.memberships.get(channel.name)
    chan_info = member.chan_info if member is not None else None
    info = codec.client_info(connection.user, connection.client, connection.info, chan_info)
    try:
        await context.publisher.publish(channel, Draft(codec.compact(params.data), info))
    except NotCommitted as refused:
        connection.reject(request, refused.error)
        return
    connection.session.reply(request)


def _is_in(connection: Connection, channel: Channel) -> bool:
    member = connection.memberships.get(channel.name)
    return member is not None and member.has_joined


async def history(context: Context, connection: Connection, request: Request) -> None:
    """Read a stream."""
    params: HistoryRequest = _params(request)
    channel = await _enter(context, connection, params.channel)
    if isinstance(channel, Error):
        connection.reject(request, channel)
        return
    role = context.organizations.role(channel, connection.user)
    refusal = policy.may_read_history(channel, connection.user, subscribed=_is_in(connection, channel), role=role)
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
    try:
        if reverse:
            before = since.offset if since is not None else 2**63
            page = await context.streams.read_back(channel, before=before, limit=count)
        else:
            page = await context.streams.read(channel, after=since.offset if since is not None else 0, limit=count)
    except DatabaseError:
        return Errors.INTERNAL
    if since is not None and since.epoch not in ("", page.top.epoch):
        return Errors.UNRECOVERABLE_POSITION
    return Page(_within(page.items, context.limits.page_bytes), page.top)


def _within(items: Sequence[Publication], most_bytes: int) -> Sequence[Publication]:
    """Return as many of the first items as fit into a page; one at least, else nobody could read on."""
    size = 0
    for count, item in enumerate(items):
        size += _size(item)
        if size > most_bytes and count:
            return items[:count]
    return items


def _size(item: Publication | Event) -> int:
    if isinstance(item, Event):
        return len(item.body)
    return len(item.data) + len(item.info or b"") + len(item.tags or b"")


def _size_in_reply(item: Publication | Event) -> int:
    # Small publications are mostly what stands around them.
    return _size(item) + _ENVELOPE_BYTES


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
    channel = await _presence_channel(context, connection, request, params.channel)
    if channel is not None:
        connection.session.reply(request, encode_presence(context, channel))


async def presence_stats(context: Context, connection: Connection, request: Request) -> None:
    """Say how many are in a channel."""
    params: PresenceStatsRequest = _params(request)
    channel = await _presence_channel(context, connection, request, params.channel)
    if channel is not None:
        clients, users = context.hub.presence_stats(channel.name)
        connection.session.reply(request, codec.encode({"num_clients": clients, "num_users": users}))


async def _presence_channel(context: Context, connection: Connection, request: Request, name: str) -> Channel | None:
    channel = await _enter(context, connection, name)
    if isinstance(channel, Error):
        connection.reject(request, channel)
        return None
    role = context.organizations.role(channel, connection.user)
    refusal = policy.may_read_presence(channel, connection.user, subscribed=_is_in(connection, channel), role=role)
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
    if connection.is_confined:
        # A token for some channels alone does not reach the application.
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
    if connection.is_confined:
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
