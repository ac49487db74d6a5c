"""What a back end may say: the parameters of each method of the server API, as typed values.

Field names are those of the wire. A missing field, null and the zero value mean the
same, since back ends are written in many languages; unknown fields are ignored. Embedded
JSON stays raw: it is checked to be JSON while decoding, and never rebuilt.
"""

# Annotations are read at run time, so they are not postponed here.
from typing import Annotated

import msgspec
from msgspec import Meta, field

from service.core.messages import StreamPositionRequest, Uint63

__all__ = (
    "BatchParams",
    "BroadcastParams",
    "ChannelParams",
    "ChannelsParams",
    "DisconnectParams",
    "DisconnectWish",
    "HistoryParams",
    "InfoParams",
    "OptionWish",
    "OverrideWishes",
    "PublicationParams",
    "PublishParams",
    "RefreshParams",
    "RpcParams",
    "SubscribeParams",
    "UnsubscribeParams",
    "UserParams",
)

_ChannelName = Annotated[str, Meta(description="Name of the channel.", examples=["chat:index"])]
_Base64 = Annotated[str | None, Meta(description="The same, as JSON that is encoded in base64; it comes first.")]
_UnixSeconds = Annotated[Uint63 | None, Meta(description="Unix time in seconds; missing or 0 for never.")]


class PublicationParams(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same in one channel and in many."""

    data: Annotated[msgspec.Raw, Meta(description="Any JSON; subscribers get it as it is.")] = field(
        default_factory=msgspec.Raw
    )
    b64data: _Base64 = None
    tags: Annotated[
        dict[str, str] | None, Meta(description="Texts by name that go with the publication.", examples=[{"kind": "a"}])
    ] = None
    skip_history: Annotated[bool | None, Meta(description="Deliver it, but do not keep it.")] = None
    idempotency_key: Annotated[
        str | None,
        Meta(description="A second publication in a channel with the same key within 5 minutes is not made."),
    ] = None
    version: Annotated[
        Uint63 | None,
        Meta(description="Of the state that is published: what is not above the version seen last is not published."),
    ] = None
    version_epoch: Annotated[str | None, Meta(description="Another one starts the count of versions anew.")] = None


class PublishParams(PublicationParams, frozen=True, kw_only=True):
    """Publish into one channel."""

    channel: _ChannelName = ""


class BroadcastParams(PublicationParams, frozen=True, kw_only=True):
    """Publish the same into many channels."""

    channels: Annotated[
        list[str] | None, Meta(description="Names of the channels.", examples=[["chat:index", "news:all"]])
    ] = None


class UserParams(msgspec.Struct, frozen=True, kw_only=True):
    """Whose connections are meant."""

    user: Annotated[str, Meta(description="All connections of this user.", examples=["42"])] = ""
    client: Annotated[
        str | None, Meta(description="Of those, only the one with this client id. Without a user, an anonymous one.")
    ] = None
    session: Annotated[str | None, Meta(description="Not available: connections have no session ids.")] = None


class OptionWish(msgspec.Struct, frozen=True):
    """Whether an option is on."""

    value: bool = False


class OverrideWishes(msgspec.Struct, frozen=True):
    """Options of the namespace that are otherwise for this one subscription; missing ones stay."""

    presence: OptionWish | None = None
    join_leave: OptionWish | None = None
    force_push_join_leave: OptionWish | None = None
    force_positioning: OptionWish | None = None
    force_recovery: OptionWish | None = None


class SubscribeParams(UserParams, frozen=True, kw_only=True):
    """Subscribe the connections of a user."""

    channel: _ChannelName = ""
    info: Annotated[msgspec.Raw, Meta(description="Any JSON, shown to others as chan_info.")] = field(
        default_factory=msgspec.Raw
    )
    b64info: _Base64 = None
    data: Annotated[msgspec.Raw, Meta(description="Any JSON for the client itself, in the push.")] = field(
        default_factory=msgspec.Raw
    )
    b64data: _Base64 = None
    expire_at: _UnixSeconds = None
    recover_since: Annotated[
        StreamPositionRequest | None, Meta(description="Also send what was published after this position.")
    ] = None
    override: OverrideWishes | None = None


class UnsubscribeParams(UserParams, frozen=True, kw_only=True):
    """Unsubscribe the connections of a user."""

    channel: _ChannelName = ""


class DisconnectWish(msgspec.Struct, frozen=True):
    """A code and a reason of the back end's own."""

    code: Annotated[
        int,
        Meta(
            description="3000 to 4999. Clients come back after 3000 to 3499 and 4000 to 4499, and not after the others."
        ),
    ] = 0
    reason: Annotated[str, Meta(description="1 to 123 bytes.")] = ""


class DisconnectParams(UserParams, frozen=True, kw_only=True):
    """Close the connections of a user."""

    whitelist: Annotated[list[str] | None, Meta(description="Client ids that stay.")] = None
    disconnect: Annotated[
        DisconnectWish | None,
        Meta(description="Instead of 3503.", examples=[{"code": 4500, "reason": "logged out elsewhere"}]),
    ] = None


class RefreshParams(UserParams, frozen=True, kw_only=True):
    """Change when the connections of a user run out."""

    expired: Annotated[bool | None, Meta(description="They have run out: close them.")] = None
    expire_at: Annotated[
        Uint63 | None, Meta(description="Unix time in seconds when they run out; missing or 0 leaves it as it is.")
    ] = None
    info: Annotated[msgspec.Raw, Meta(description="Any JSON, shown to others as conn_info.")] = field(
        default_factory=msgspec.Raw
    )


class ChannelParams(msgspec.Struct, frozen=True):
    """Which channel is meant."""

    channel: _ChannelName = ""


class HistoryParams(msgspec.Struct, frozen=True):
    """Read what was published."""

    channel: _ChannelName = ""
    limit: Annotated[
        int | None,
        Meta(description="Most publications; 0 asks for offset and epoch alone, -1 for all that fit."),
    ] = None
    since: Annotated[
        StreamPositionRequest | None,
        Meta(description="Begin behind this position.", examples=[{"offset": 10, "epoch": "aBcDeFgH"}]),
    ] = None
    reverse: Annotated[bool | None, Meta(description="Newest first.")] = None


class ChannelsParams(msgspec.Struct, frozen=True):
    """List the channels that somebody is subscribed to."""

    pattern: Annotated[
        str | None, Meta(description="With * ? [abc] {this,that}; without it all channels.", examples=["chat:*"])
    ] = None


class InfoParams(msgspec.Struct, frozen=True):
    """Nothing: ``info`` has no parameters."""


class RpcParams(msgspec.Struct, frozen=True):
    """Call a method of the application that runs in this process."""

    method: str = ""
    params: Annotated[msgspec.Raw, Meta(description="Any JSON.")] = field(default_factory=msgspec.Raw)


class BatchParams(msgspec.Struct, frozen=True):
    """Several commands in one request."""

    commands: Annotated[
        list[msgspec.Raw] | None,
        Meta(
            description="Objects with one key each, the method, and its parameters.",
            examples=[[{"publish": {"channel": "chat:index", "data": {"text": "hi"}}}, {"info": {}}]],
        ),
    ] = None
    parallel: Annotated[
        bool | None, Meta(description="Begin every command at once, without waiting for those before it.")
    ] = None
