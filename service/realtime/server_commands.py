"""What each method of the server API does: one function a method, and the table of them.

A back end that has the operator's key may do what it likes with any channel of a known namespace; the
options for clients do not hold for it. One with the key of an organization reaches that organization's
channels and members, as far as the key's scopes go. Each function returns the encoded result, or the
error that the back end gets. Nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import binascii
import math
from base64 import b64decode
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from service.auth.api_keys import OPERATOR, Caller
from service.auth.policy import organization_of
from service.auth.tokens import Overrides
from service.core import codec
from service.core.codes import Disconnect, Disconnects, Error, Errors, Unsubscribes
from service.core.organizations import Scope
from service.core.session import State
from service.core.stream import Position
from service.core.wildcards import matcher
from service.errors import DatabaseError, NotCommitted
from service.realtime.commands import encode_presence, history_page, subscribe_by_server
from service.realtime.context import Call
from service.realtime.ports import Draft
from service.realtime.server_messages import (
    BatchParams,
    BroadcastParams,
    ChannelParams,
    ChannelsParams,
    DisconnectParams,
    DisconnectWish,
    HistoryParams,
    InfoParams,
    OverrideWishes,
    PublicationParams,
    PublishParams,
    RefreshParams,
    RpcParams,
    SubscribeParams,
    UnsubscribeParams,
    UserParams,
)
from service.realtime.steps import DONE, first_step, rest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from service.core.namespaces import Channel
    from service.realtime.connection import Connection
    from service.realtime.context import Context

__all__ = (
    "MAX_BATCH_REPLY_BYTES",
    "MAX_KEY_LENGTH",
    "METHODS",
    "Malformed",
    "Method",
    "Node",
    "ServerContext",
    "Usage",
    "call",
    "encode_error",
)

MAX_KEY_LENGTH: Final = 255
"""Characters of an idempotency key and of a version epoch, since both are kept in memory."""

MAX_BATCH_REPLY_BYTES: Final = 32 * 1024 * 1024
"""Once the replies of a batch are longer, its other commands are refused: a thousand histories must not fill memory."""

_REASON_BYTES: Final = 123  # what a close frame holds beside its code
_CODES: Final = range(3000, 5000)
_CHANNELS_AT_ONCE: Final = 256

_decode_command = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Usage(NamedTuple):
    """What the process takes of its machine.

    Attributes:
        cpu: Percent of one core.
        rss: Bytes of memory.
    """

    cpu: float
    rss: int


@dataclass(frozen=True, slots=True)
class Node:
    """The process as ``info`` shows it.

    Attributes:
        uid: New with every start of the process.
        name: For people.
        started_at: Monotonic seconds.
        usage: Asks how much the process takes now.
    """

    uid: str
    name: str
    version: str
    started_at: float
    usage: Callable[[], Usage]


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What the methods work with.

    Attributes:
        batch_commands: Most commands in a batch.
        broadcast_channels: Most channels in a broadcast.
        caller: Who asks.
    """

    context: Context
    node: Node
    batch_commands: int = 1000
    broadcast_channels: int = 1000
    caller: Caller = OPERATOR


@dataclass(frozen=True, slots=True)
class Malformed:
    """A body that cannot be read as the parameters of its method.

    Attributes:
        problem: What it is instead, without anything of the body itself.
    """

    problem: str


class Method(NamedTuple):
    """A method of the server API.

    Attributes:
        params: Type of its parameters.
        decode: Reads them, or raises what msgspec raises.
        run: Does it.
        scope: That the key of an organization has to have; None for the operator alone.
    """

    params: type[msgspec.Struct]
    decode: Callable[[bytes], Any]
    run: Callable[[ServerContext, Any], Awaitable[bytes | Error]]
    scope: Scope | None


async def call(server: ServerContext, method: str, body: bytes, caller: Caller = OPERATOR) -> bytes | Error | Malformed:
    """Do what a request asks for.

    Args:
        server: What the methods work with.
        method: A key of ``METHODS``.
        body: JSON object with the parameters.
        caller: Who asks.

    Returns:
        The encoded result, or why there is none.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return Malformed(f"not UTF-8: byte {error.start}")
    params = _read(METHODS[method], body)
    if isinstance(params, Malformed):
        return params
    return await _perform(server if caller is server.caller else replace(server, caller=caller), method, params)


def encode_error(error: Error) -> bytes:
    """Encode an error as back ends get it."""
    temporary = b',"temporary":true' if error.temporary else b""
    return b'{"code":%d,"message":%b%b}' % (error.code, codec.quote(error.message), temporary)


def _read(method: Method, body: bytes | msgspec.Raw) -> msgspec.Struct | Malformed:
    try:
        params: msgspec.Struct = method.decode(body)
    except msgspec.ValidationError as error:
        return Malformed(f"not what the method takes: {error}")
    except msgspec.DecodeError as error:
        return Malformed(f"not JSON: {error}" if body else "empty: send a JSON object, {} at least")
    except RecursionError:
        return Malformed("nested too deep")
    return params


async def _perform(server: ServerContext, method: str, params: msgspec.Struct) -> bytes | Error:
    """Run a method; what goes wrong in it is told to the observer."""
    server.context.observer.command(f"api_{method}")
    work = METHODS[method].run if server.caller.is_operator else _for_organization(method)
    return await _guarded(server, f"api_{method}", work(server, params))


def _for_organization(method: str) -> Callable[[ServerContext, Any], Awaitable[bytes | Error]]:
    """Return a method as the key of an organization may use it: in its scopes, and with the members at hand."""
    scope, run = METHODS[method].scope, METHODS[method].run

    async def work(server: ServerContext, params: Any) -> bytes | Error:  # noqa: ANN401 - as the table has it
        caller = server.caller
        # Each command of a batch is asked for itself.
        if caller.organization is None or not (method == "batch" or caller.may(scope)):
            return Errors.PERMISSION_DENIED
        try:
            await server.context.organizations.load(caller.organization)
        except DatabaseError:
            return Errors.INTERNAL
        return await run(server, params)

    return work


async def _guarded(server: ServerContext, name: str, work: Awaitable[bytes | Error]) -> bytes | Error:
    observer = server.context.observer
    try:
        outcome = await work
    except NotCommitted as refused:
        outcome = refused.error
    except Exception as error:  # noqa: BLE001 - the root of a command: a defect of ours fails this one alone
        observer.failed(name, error)
        outcome = Errors.INTERNAL
    if isinstance(outcome, Error):
        observer.error(name, outcome)
    return outcome


def _bad(problem: str) -> Error:
    return Error(Errors.BAD_REQUEST.code, f"{Errors.BAD_REQUEST.message}: {problem}")


def _unavailable(problem: str) -> Error:
    return Error(Errors.NOT_AVAILABLE.code, f"{Errors.NOT_AVAILABLE.message}: {problem}")


def _exceeded(problem: str) -> Error:
    return Error(Errors.LIMIT_EXCEEDED.code, f"{Errors.LIMIT_EXCEEDED.message}: {problem}")


def _channel(server: ServerContext, name: str) -> Channel | Error:
    """Return the channel of a name, or what is wrong with the name."""
    if not name:
        return _bad("channel is missing")
    channel = server.context.namespaces.resolve(name)
    if not server.caller.is_operator and channel is not Errors.BAD_REQUEST:
        # One refusal for all that is not its own, whether there is such a thing or not.
        is_own = not isinstance(channel, Error) and organization_of(channel) == server.caller.organization
        return channel if is_own else Errors.PERMISSION_DENIED
    if channel is Errors.BAD_REQUEST:
        return _bad(
            "this cannot be the name of a channel: it is too long, has characters other than visible ASCII, "
            "has one of & * / in it, or does not fit its namespace"
        )
    return channel


# Publishing.


async def publish(server: ServerContext, params: PublishParams) -> bytes | Error:
    """Publish into one channel."""
    channel = _channel(server, params.channel)
    if isinstance(channel, Error):
        return channel
    draft = _draft(server, params)
    if isinstance(draft, Error):
        return draft
    return await server.context.organizations.admit(channel) or _published(
        await server.context.publisher.publish(channel, draft)
    )


async def broadcast(server: ServerContext, params: BroadcastParams) -> bytes | Error:
    """Publish the same into many channels; what fails in one does not keep it from the others."""
    names = params.channels
    if not names:
        return _bad("channels is missing or empty")
    if len(names) > server.broadcast_channels:
        server.context.observer.limited("broadcast_channels")
        return _exceeded(f"{len(names)} channels in one broadcast, at most {server.broadcast_channels} are allowed")
    draft = _draft(server, params)
    if isinstance(draft, Error):
        return draft
    responses = [b""] * len(names)

    async def into(index: int) -> None:
        outcome = await _guarded(server, "api_broadcast", _publish_into(server, names[index], draft))
        responses[index] = _response(outcome)

    for start in range(0, len(names), _CHANNELS_AT_ONCE):
        if start:
            # Others get their turn in between.
            await asyncio.sleep(0)
        await _at_once([into(index) for index in range(start, min(start + _CHANNELS_AT_ONCE, len(names)))])
    return b'{"responses":[' + b",".join(responses) + b"]}"


async def _publish_into(server: ServerContext, name: str, draft: Draft) -> bytes | Error:
    channel = _channel(server, name)
    if isinstance(channel, Error):
        return channel
    return await server.context.organizations.admit(channel) or _published(
        await server.context.publisher.publish(channel, draft)
    )


async def _at_once(works: list[Coroutine[Any, Any, None]]) -> None:
    """Run what does not have to wait on the spot, in order, and wait for the others together.

    Each may first wait for a future only, as a stream store does.
    """
    waiting = [(work, awaited) for work in works if (awaited := first_step(work)) is not DONE]
    if waiting:
        async with asyncio.TaskGroup() as group:
            for work, awaited in waiting:
                group.create_task(_finish(work, awaited))


async def _finish(work: Coroutine[Any, Any, None], awaited: object) -> None:
    await rest(work, awaited)


def _response(outcome: bytes | Error) -> bytes:
    return b'{"error":%b}' % encode_error(outcome) if isinstance(outcome, Error) else b'{"result":%b}' % outcome


def _published(position: Position | None) -> bytes:
    if position is None:
        return b"{}"
    return b'{"offset":%d,"epoch":%b}' % (position.offset, codec.quote(position.epoch))


def _draft(server: ServerContext, params: PublicationParams) -> Draft | Error:
    """Check everything about a publication but its channel."""
    data = _payload(server, "data", params.data, params.b64data)
    if isinstance(data, Error):
        return data
    if not data:
        return _bad("data is missing")
    tags = codec.encode(params.tags) if params.tags else None
    limit = server.context.limits.session.message_bytes
    if tags is not None and len(tags) > limit:
        return _bad(f"tags has {len(tags)} bytes, at most {limit} are allowed")
    for name in ("idempotency_key", "version_epoch"):
        if len(getattr(params, name) or "") > MAX_KEY_LENGTH:
            return _bad(f"{name} has more than {MAX_KEY_LENGTH} characters")
    return Draft(
        data,
        tags=tags,
        idempotency_key=params.idempotency_key or "",
        version=params.version or 0,
        version_epoch=params.version_epoch or "",
        skip_history=bool(params.skip_history),
    )


def _payload(server: ServerContext, name: str, raw: msgspec.Raw, b64: str | None = None) -> bytes | Error:
    """Return embedded JSON as one line, empty when there is none, or what is wrong with it."""
    data = bytes(raw)
    if b64:
        name = f"b64{name}"
        try:
            data = b64decode(b64, validate=True)
        except (binascii.Error, ValueError):
            return _bad(f"{name} is not base64")
    limit = server.context.limits.session.message_bytes
    if len(data) > limit:
        server.context.observer.limited("message_bytes")
        return _bad(f"{name} has {len(data)} bytes, at most {limit} are allowed")
    if not codec.is_readable(data):
        text = f"{name} is nested deeper than {codec.MAX_DEPTH} levels or has a number of thousands of digits"
        return _bad(f"{text}, which some clients cannot read")
    if b64 and not codec.is_json(data):
        return _bad(f"{name} does not hold JSON in UTF-8, and no other data can be published")
    return codec.compact(data)


# Connections of a user.


def _targets(server: ServerContext, params: UserParams) -> list[Connection] | Error:
    """Return the connections that are meant; that there are none is fine."""
    if params.session:
        return _unavailable("connections have no session ids here: name one by its client id")
    if not params.user and not params.client:
        return _bad("user is missing")
    organization = server.caller.organization
    if organization is not None and server.context.organizations.role_in(organization, params.user) is None:
        return Errors.PERMISSION_DENIED
    return server.context.hub.of_user(params.user, client=params.client or "")


async def subscribe(server: ServerContext, params: SubscribeParams) -> bytes | Error:
    """Subscribe connections to a channel; one that is subscribed already stays as it is."""
    channel = _channel(server, params.channel)
    if isinstance(channel, Error):
        return channel
    connections = _targets(server, params)
    if isinstance(connections, Error):
        return connections
    wish = _subscription(server, params)
    if isinstance(wish, Error):
        return wish
    failure = await server.context.organizations.ready(channel)
    if failure is not None:
        return failure
    for connection in connections:
        # Asked anew each time: it may have ended while another one was waited for. A connection that an
        # organization has opened in the name of a user gets no more of that user's channels than that.
        if connection.session.state is State.CONNECTED and connection.is_open_to(channel):
            error = await subscribe_by_server(server.context, connection, channel, **wish)
            if error not in (None, Errors.ALREADY_SUBSCRIBED):
                failure = failure or error
    return failure or b"{}"


def _subscription(server: ServerContext, params: SubscribeParams) -> dict[str, Any] | Error:
    """Return how to subscribe, as `subscribe_by_server` wants to be told."""
    info = _optional(server, "info", params.info, params.b64info)
    data = _optional(server, "data", params.data, params.b64data)
    if isinstance(info, Error) or isinstance(data, Error):
        return info if isinstance(info, Error) else data  # type: ignore[return-value]  # one of them is an error
    if params.expire_at and params.expire_at <= server.context.clock.wall():
        return _bad("expire_at is in the past: it is Unix time in seconds")
    since = params.recover_since
    return {
        "info": info,
        "data": data,
        "expires_at": params.expire_at or None,
        "since": Position(since.offset, since.epoch) if since is not None else None,
        "overrides": _overrides(params.override),
    }


def _overrides(wishes: OverrideWishes | None) -> Overrides:
    if wishes is None:
        return Overrides()
    chosen = {option: getattr(wishes, option) for option in OverrideWishes.__struct_fields__}
    return Overrides(**{option: wish.value for option, wish in chosen.items() if wish is not None})


def _optional(server: ServerContext, name: str, raw: msgspec.Raw, b64: str | None = None) -> bytes | Error | None:
    """Return embedded JSON that may be missing; null counts as missing."""
    data = _payload(server, name, raw, b64)
    return None if data in (b"", b"null") else data


async def unsubscribe(server: ServerContext, params: UnsubscribeParams) -> bytes | Error:
    """Unsubscribe connections from a channel and tell them; they do not subscribe again by themselves."""
    channel = _channel(server, params.channel)
    if isinstance(channel, Error):
        return channel
    connections = _targets(server, params)
    if isinstance(connections, Error):
        return connections
    for connection in connections:
        member = connection.memberships.get(channel.name)
        if member is not None:
            connection.unsubscribe(member, Unsubscribes.SERVER)
    return b"{}"


async def disconnect(server: ServerContext, params: DisconnectParams) -> bytes | Error:
    """Close connections."""
    connections = _targets(server, params)
    if isinstance(connections, Error):
        return connections
    why = Disconnects.FORCE_DISCONNECT if params.disconnect is None else _why(params.disconnect)
    if isinstance(why, Error):
        return why
    kept = frozenset(params.whitelist or ())
    for connection in connections:
        if connection.client not in kept:
            connection.close(why)
    return b"{}"


def _why(wish: DisconnectWish) -> Disconnect | Error:
    if wish.code not in _CODES:
        return _bad(f"disconnect.code is a number from {_CODES.start} to {_CODES.stop - 1}")
    if not 1 <= len(wish.reason.encode()) <= _REASON_BYTES:
        # Without a reason the JavaScript client takes a terminal code for a lost connection and comes back.
        return _bad(f"disconnect.reason has 1 to {_REASON_BYTES} bytes")
    return Disconnect(wish.code, wish.reason)


async def refresh(server: ServerContext, params: RefreshParams) -> bytes | Error:
    """Change when connections run out, or what others see of them."""
    connections = _targets(server, params)
    if isinstance(connections, Error):
        return connections
    info = _optional(server, "info", params.info)
    if isinstance(info, Error):
        return info
    clock = server.context.clock
    left = params.expire_at - clock.wall() if params.expire_at else math.inf
    for connection in connections:
        if params.expired or left <= 0:
            connection.close(Disconnects.EXPIRED)
            continue
        connection.info = info or connection.info
        if left < math.inf:
            connection.session.expires_at = clock.now() + left
            connection.push(b'{"push":{"refresh":{"expires":true,"ttl":%d}}}' % math.ceil(left))
            connection.reschedule()
    return b"{}"


# Asking.


async def presence(server: ServerContext, params: ChannelParams) -> bytes | Error:
    """Say who is in a channel."""
    channel = _with_presence(server, params.channel)
    return channel if isinstance(channel, Error) else encode_presence(server.context, channel)


async def presence_stats(server: ServerContext, params: ChannelParams) -> bytes | Error:
    """Say how many are in a channel."""
    channel = _with_presence(server, params.channel)
    if isinstance(channel, Error):
        return channel
    return b'{"num_clients":%d,"num_users":%d}' % server.context.hub.presence_stats(channel.name)


def _with_presence(server: ServerContext, name: str) -> Channel | Error:
    channel = _channel(server, name)
    if not isinstance(channel, Error) and not channel.namespace.presence:
        return _unavailable("presence is off in the namespace of this channel")
    return channel


async def history(server: ServerContext, params: HistoryParams) -> bytes | Error:
    """Read a stream."""
    channel = _with_history(server, params.channel)
    if isinstance(channel, Error):
        return channel
    since = Position(params.since.offset, params.since.epoch) if params.since is not None else None
    page = await history_page(
        server.context, channel, limit=params.limit or 0, since=since, reverse=bool(params.reverse)
    )
    if page is Errors.BAD_REQUEST:
        return _bad("nothing is before offset 0: leave since out to begin at the newest")
    if isinstance(page, Error):
        return page
    publications = b",".join(map(codec.publication, page.items))
    top = page.top
    return b'{"publications":[%b],"offset":%d,"epoch":%b}' % (publications, top.offset, codec.quote(top.epoch))


async def history_remove(server: ServerContext, params: ChannelParams) -> bytes | Error:
    """Forget what was published; offsets go on from where they are."""
    channel = _with_history(server, params.channel)
    if isinstance(channel, Error):
        return channel
    await server.context.streams.remove(channel)
    return b"{}"


def _with_history(server: ServerContext, name: str) -> Channel | Error:
    channel = _channel(server, name)
    if not isinstance(channel, Error) and not channel.namespace.has_history:
        return _unavailable("history is off in the namespace of this channel")
    return channel


async def channels(server: ServerContext, params: ChannelsParams) -> bytes | Error:
    """List the channels that somebody is subscribed to."""
    fits = matcher(params.pattern or "*")
    if isinstance(fits, str):
        return _bad(f"pattern: {fits}")
    rooms = [room for room in server.context.hub.rooms.values() if server.caller.reaches(organization_of(room.channel))]
    return codec.encode(
        {"channels": {room.name: {"num_clients": len(room)} for room in rooms if len(room) and fits(room.name)}}
    )


async def info(server: ServerContext, params: InfoParams) -> bytes | Error:  # noqa: ARG001 - all methods are alike
    """Describe this process; there is one, so the list has one entry."""
    hub, node = server.context.hub, server.node
    usage = node.usage()
    described = {
        "uid": node.uid,
        "name": node.name,
        "version": node.version,
        "num_clients": len(hub.connections) - hub.unauthenticated,
        "num_users": len(hub.users),
        "num_subs": hub.subscriptions,
        "num_channels": len(hub.rooms),
        "uptime": int(server.context.clock.now() - node.started_at),
        "process": {"cpu": usage.cpu, "rss": usage.rss},
    }
    return codec.encode({"nodes": [described]})


# The application.


async def rpc(server: ServerContext, params: RpcParams) -> bytes | Error:
    """Call a method of the application; it sees a caller without a user."""
    method = server.context.procedures.methods.get(params.method)
    if method is None:
        return Errors.METHOD_NOT_FOUND
    sent = _payload(server, "params", params.params)
    if isinstance(sent, Error):
        return sent
    answer = await method(Call("", "", sent))
    if isinstance(answer, Error):
        return answer
    return b'{"data":%b}' % codec.compact(answer) if answer else b"{}"


# Several at once.


async def batch(server: ServerContext, params: BatchParams) -> bytes | Error:
    """Run several commands; one that fails does not keep the others from running.

    Their replies are in the order of the commands.
    """
    commands = params.commands or []
    if len(commands) > server.batch_commands:
        server.context.observer.limited("batch_commands")
        return _exceeded(f"{len(commands)} commands in one batch, at most {server.batch_commands} are allowed")
    replies = [b""] * len(commands)
    length = 0

    async def run(index: int, chosen: tuple[str, msgspec.Struct] | Error) -> None:
        nonlocal length
        if length > MAX_BATCH_REPLY_BYTES:
            too_much = _exceeded("the replies before this one are too long already: ask for less in one batch")
            replies[index] = b'{"error":%b}' % encode_error(too_much)
        else:
            replies[index] = await _command(server, chosen)
            length += len(replies[index])

    if params.parallel:
        async with asyncio.TaskGroup() as group:
            for index, raw in enumerate(commands):
                group.create_task(run(index, _choose(raw)))
    else:
        await _in_order(commands, run)
    return b'{"replies":[' + b",".join(replies) + b"]}"


async def _in_order(
    commands: Sequence[msgspec.Raw],
    run: Callable[[int, tuple[str, msgspec.Struct] | Error], Coroutine[Any, Any, None]],
) -> None:
    """Run commands one after the other, but publications that follow each other share their commits.

    Their order is that of their beginning, so none has to wait until the one before it is kept.
    """
    together: list[Coroutine[Any, Any, None]] = []
    for index, raw in enumerate(commands):
        chosen = _choose(raw)
        if not isinstance(chosen, Error) and chosen[0] == "publish":
            together.append(run(index, chosen))
            continue
        await _at_once(together)
        together = []
        await run(index, chosen)
    await _at_once(together)


async def _command(server: ServerContext, chosen: tuple[str, msgspec.Struct] | Error) -> bytes:
    """Run one command of a batch and encode its reply."""
    outcome: bytes | Error
    if isinstance(chosen, Error):
        outcome, method = chosen, ""
        server.context.observer.error("api_batch", chosen)
    else:
        method, params = chosen
        outcome = await _perform(server, method, params)
    return (
        b'{"error":%b}' % encode_error(outcome)
        if isinstance(outcome, Error)
        else b'{"%b":%b}' % (method.encode(), outcome)
    )


def _choose(raw: msgspec.Raw) -> tuple[str, msgspec.Struct] | Error:
    """Return the method of a command in a batch and its parameters, or what is wrong with the command."""
    try:
        command = _decode_command(raw)
    except msgspec.DecodeError:
        return _bad("a command is an object with one method in it")
    methods = [name for name in command if name in METHODS]
    if not methods:
        return Errors.METHOD_NOT_FOUND
    if len(methods) > 1:
        return _bad(f"a command has one method, this one has {' and '.join(methods)}")
    method = methods[0]
    if method == "batch":
        return _bad("a batch cannot hold a batch")
    params = _read(METHODS[method], command[method])
    return _bad(f"{method}: {params.problem}") if isinstance(params, Malformed) else (method, params)


def _method(
    params: type[msgspec.Struct],
    run: Callable[[ServerContext, Any], Awaitable[bytes | Error]],
    scope: Scope | None = None,
) -> Method:
    return Method(params, msgspec.json.Decoder(params).decode, run, scope)


METHODS: Final[Mapping[str, Method]] = {
    "publish": _method(PublishParams, publish, Scope.PUBLISH),
    "broadcast": _method(BroadcastParams, broadcast, Scope.PUBLISH),
    "subscribe": _method(SubscribeParams, subscribe, Scope.CONNECTIONS),
    "unsubscribe": _method(UnsubscribeParams, unsubscribe, Scope.CONNECTIONS),
    "disconnect": _method(DisconnectParams, disconnect, Scope.CONNECTIONS),
    "refresh": _method(RefreshParams, refresh, Scope.CONNECTIONS),
    "presence": _method(ChannelParams, presence, Scope.PRESENCE),
    "presence_stats": _method(ChannelParams, presence_stats, Scope.PRESENCE),
    "history": _method(HistoryParams, history, Scope.HISTORY),
    "history_remove": _method(ChannelParams, history_remove, Scope.HISTORY_REMOVE),
    "channels": _method(ChannelsParams, channels, Scope.CHANNELS),
    "info": _method(InfoParams, info),
    "rpc": _method(RpcParams, rpc),
    "batch": _method(BatchParams, batch),
}
"""What runs for each method."""
