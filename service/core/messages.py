"""What a client may say: the commands of the protocol as typed values.

Field names and defaults are those of the wire, where a missing field and its
zero value mean the same. ``bytes`` fields of the protocol are embedded raw JSON
and stay raw: they are checked to be JSON while decoding, and never rebuilt.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

from service.core.codes import Error

__all__ = (
    "Command",
    "ConnectRequest",
    "HistoryRequest",
    "PresenceRequest",
    "PresenceStatsRequest",
    "PublishRequest",
    "RefreshRequest",
    "Request",
    "RpcRequest",
    "SendRequest",
    "StreamPositionRequest",
    "SubRefreshRequest",
    "SubscribeRequest",
    "UnsubscribeRequest",
)

Uint32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
# msgspec bounds integers by int64; offsets beyond it cannot be reached by counting.
Uint63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

REJECT_UNRECOVERED = 2
"""Bit of ``SubscribeRequest.flag``: answer error 112 instead of ``recovered: false``."""


class SubscribeRequest(msgspec.Struct, frozen=True, gc=False):
    """Join a channel; ``type`` other than 0 (stream) asks for a kind of subscription that is not offered."""

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Uint63 = 0
    data: msgspec.Raw = msgspec.Raw()
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    flag: int = 0
    type: int = 0


class ConnectRequest(msgspec.Struct, frozen=True):
    """First command of a connection; ``subs`` carries positions of server-side subscriptions by channel."""

    token: str = ""
    data: msgspec.Raw = msgspec.Raw()
    subs: dict[str, SubscribeRequest] = {}
    name: str = ""
    version: str = ""


class RefreshRequest(msgspec.Struct, frozen=True, gc=False):
    """A new connection token before the old one runs out."""

    token: str = ""


class SubRefreshRequest(msgspec.Struct, frozen=True, gc=False):
    """A new subscription token before the old one runs out."""

    channel: str = ""
    token: str = ""
    type: int = 0


class UnsubscribeRequest(msgspec.Struct, frozen=True, gc=False):
    """Leave a channel."""

    channel: str = ""


class PublishRequest(msgspec.Struct, frozen=True, gc=False):
    """Publish ``data`` (raw JSON, empty when it was missing)."""

    channel: str = ""
    data: msgspec.Raw = msgspec.Raw()
    type: int = 0


class PresenceRequest(msgspec.Struct, frozen=True, gc=False):
    """Ask who is in a channel."""

    channel: str = ""


class PresenceStatsRequest(msgspec.Struct, frozen=True, gc=False):
    """Ask how many are in a channel."""

    channel: str = ""


class StreamPositionRequest(msgspec.Struct, frozen=True, gc=False):
    """A position that a client remembers; an empty epoch means any."""

    offset: Uint63 = 0
    epoch: str = ""


class HistoryRequest(msgspec.Struct, frozen=True):
    """Read a stream: ``limit`` 0 asks for the top alone, -1 for all that the server gives in one page."""

    channel: str = ""
    limit: int = 0
    since: StreamPositionRequest | None = None
    reverse: bool = False


class RpcRequest(msgspec.Struct, frozen=True, gc=False):
    """Call a method of the application."""

    data: msgspec.Raw = msgspec.Raw()
    method: str = ""


class SendRequest(msgspec.Struct, frozen=True, gc=False):
    """A message to the application that gets no answer."""

    data: msgspec.Raw = msgspec.Raw()


class PingRequest(msgspec.Struct, frozen=True, gc=False):
    """In the schema, but answered with error 108."""


class Command(msgspec.Struct, frozen=True):
    """One line of a frame: an id and exactly one method; nothing at all is a pong."""

    id: Uint32 = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RpcRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None


class Request(NamedTuple):
    """A command that the protocol allows here and that somebody has to decide.

    Attributes:
        id: What the reply is matched by; 0 for ``send``, which gets none.
        method: Field of ``Command`` that was set.
        params: The value of that field.
        size: Bytes that the command took on the wire.
        refusal: What the session refuses it with, when its turn comes; None leaves the decision to the shell.
    """

    id: int
    method: str
    params: msgspec.Struct
    size: int
    refusal: Error | None = None
