"""Who may do what with a channel.

Pure functions over the options of the channel's namespace and small facts about who
asks. They answer None for yes, and for no the error that the client gets. That the
channel exists, and its name is a good one, was settled when it was resolved
(errors 102 and 107).

What the server does for a client, by a token's ``channels`` and ``subs``, a personal
channel or the server API, does not ask here: no option of a client holds for it.
"""

from __future__ import annotations

from service.core.codes import Error, Errors
from service.core.namespaces import Channel

__all__ = (
    "grants_join_leave",
    "grants_positioning",
    "grants_recovery",
    "may_publish",
    "may_read_history",
    "may_read_presence",
    "may_subscribe",
)


def may_subscribe(channel: Channel, user: str, *, has_valid_token: bool) -> Error | None:
    """Decide over a subscription that a client asks for.

    Args:
        channel: Private ones (``$``) open to a token alone; user-limited ones (``#``) to a
            token or to the users in the name, never to users in general.
        user: ``""`` for an anonymous connection.
        has_valid_token: A subscription token was verified, and its user, channel and
            client are those of this command.
    """
    if has_valid_token or (not channel.is_private and _is_open_to(channel, user)):
        return None
    return Errors.PERMISSION_DENIED


def may_publish(channel: Channel, user: str, *, subscribed: bool) -> Error | None:
    """Decide over a publication that a client sends.

    Args:
        channel: Any; with ``allow_publish_for_client`` private and user-limited ones too,
            as the protocol has it.
        user: ``""`` for an anonymous connection.
        subscribed: This connection is subscribed to the channel.
    """
    options = channel.namespace
    return _access(
        user,
        client=options.allow_publish_for_client,
        subscriber=options.allow_publish_for_subscriber and subscribed,
        anonymous=options.allow_publish_for_anonymous,
    )


def may_read_history(channel: Channel, user: str, *, subscribed: bool) -> Error | None:
    """Decide over reading what was published; not available (108) where nothing is kept.

    Args:
        channel: Any.
        user: ``""`` for an anonymous connection.
        subscribed: This connection is subscribed to the channel.
    """
    options = channel.namespace
    if not options.has_history:
        return Errors.NOT_AVAILABLE
    return _access(
        user,
        client=options.allow_history_for_client,
        subscriber=options.allow_history_for_subscriber and subscribed,
        anonymous=options.allow_history_for_anonymous,
    )


def may_read_presence(channel: Channel, user: str, *, subscribed: bool) -> Error | None:
    """Decide over reading who is there, or how many; not available (108) where it is not kept.

    Args:
        channel: Any.
        user: ``""`` for an anonymous connection.
        subscribed: This connection is subscribed to the channel.
    """
    options = channel.namespace
    if not options.presence:
        return Errors.NOT_AVAILABLE
    return _access(
        user,
        client=options.allow_presence_for_client,
        subscriber=options.allow_presence_for_subscriber and subscribed,
        anonymous=options.allow_presence_for_anonymous,
    )


def grants_recovery(channel: Channel, user: str) -> bool:
    """Whether a subscriber who asks for recovery gets it: where allowed, or where it may read history anyway."""
    options = channel.namespace
    return options.has_history and (options.allow_recovery or may_read_history(channel, user, subscribed=True) is None)


def grants_positioning(channel: Channel, user: str) -> bool:
    """Whether a subscriber who asks for positioning gets it: where allowed, or where it may read history anyway."""
    options = channel.namespace
    return options.has_history and (
        options.allow_positioning or may_read_history(channel, user, subscribed=True) is None
    )


def grants_join_leave(channel: Channel, user: str) -> bool:
    """Whether a subscriber who asks for joins and leaves gets them: where there are any, if it may read presence."""
    return channel.namespace.join_leave and may_read_presence(channel, user, subscribed=True) is None


def _is_open_to(channel: Channel, user: str) -> bool:
    options = channel.namespace
    if channel.is_user_limited:
        return channel.admits(user)
    return options.allow_subscribe_for_client and (user != "" or options.allow_subscribe_for_anonymous)


def _access(user: str, *, client: bool, subscriber: bool, anonymous: bool) -> Error | None:
    """Apply the one rule of publish, history and presence: some way in, and for the anonymous leave to use it."""
    return None if (client or subscriber) and (user != "" or anonymous) else Errors.PERMISSION_DENIED
