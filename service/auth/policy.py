"""Who may do what with a channel.

Pure functions over the options of the channel's namespace and small facts about who
asks. They answer None for yes, and for no the error that the client gets. That the
channel exists, and its name is a good one, was settled when it was resolved
(errors 102 and 107).

What the server does for a client, by a token's ``channels`` and ``subs``, a personal
channel or the server API, does not ask here: no option of a client holds for it. The
one exception are the channels of organizations: nothing outranks membership, so
`admits` is asked whoever subscribes a client.
"""

from __future__ import annotations

from typing import Final

from service.core import namespaces
from service.core.codes import Error, Errors
from service.core.namespaces import Channel
from service.core.organizations import Role, is_id

__all__ = (
    "ORGANIZATIONS",
    "admits",
    "grants_join_leave",
    "grants_positioning",
    "grants_recovery",
    "may_publish",
    "may_read_history",
    "may_read_presence",
    "may_subscribe",
    "organization_of",
)

ORGANIZATIONS: Final = namespaces.ORGANIZATIONS.name
"""The namespace whose channels belong to organizations, whoever defines its options."""

_BOUNDARY: Final = ":"


def organization_of(channel: Channel) -> str | None:
    """Return the organization that a channel belongs to.

    Returns:
        None for a channel that has nothing to do with organizations; empty for one in their
        namespace that is neither ``org:<id>`` nor ``org:<id>:<room>``, and then it is nobody's.
    """
    if channel.namespace.name != ORGANIZATIONS:
        return None
    name, _, _ = channel.name.removeprefix(ORGANIZATIONS + _BOUNDARY).partition(_BOUNDARY)
    return name if is_id(name) and not channel.name.endswith(_BOUNDARY) else ""


def admits(channel: Channel, role: Role | None) -> bool:
    """Whether a channel is open to somebody at all; for others than organizations' it always is.

    Args:
        channel: Any.
        role: Of the user in the channel's organization; None for whoever is no member.
    """
    return role is not None or organization_of(channel) is None


def may_subscribe(channel: Channel, user: str, *, has_valid_token: bool, role: Role | None = None) -> Error | None:
    """Decide over a subscription that a client asks for.

    Args:
        channel: Private ones (``$``) open to a token alone; user-limited ones (``#``) to a
            token or to the users in the name, never to users in general.
        user: ``""`` for an anonymous connection.
        has_valid_token: A subscription token was verified, and its user, channel and
            client are those of this command.
        role: Of the user in the channel's organization. Without one, no token opens the channel.
    """
    if not admits(channel, role):
        return Errors.PERMISSION_DENIED
    if has_valid_token or (not channel.is_private and _is_open_to(channel, user)):
        return None
    return Errors.PERMISSION_DENIED


def may_publish(channel: Channel, user: str, *, subscribed: bool, role: Role | None = None) -> Error | None:
    """Decide over a publication that a client sends.

    Args:
        channel: Any; with ``allow_publish_for_client`` private and user-limited ones too,
            as the protocol has it.
        user: ``""`` for an anonymous connection.
        subscribed: This connection is subscribed to the channel.
        role: Of the user in the channel's organization; None elsewhere.
    """
    if not admits(channel, role) or (role is not None and not role.may_publish):
        return Errors.PERMISSION_DENIED
    options = channel.namespace
    return _access(
        user,
        client=options.allow_publish_for_client,
        subscriber=options.allow_publish_for_subscriber and subscribed,
        anonymous=options.allow_publish_for_anonymous,
    )


def may_read_history(channel: Channel, user: str, *, subscribed: bool, role: Role | None = None) -> Error | None:
    """Decide over reading what was published; not available (108) where nothing is kept.

    Args:
        channel: Any.
        user: ``""`` for an anonymous connection.
        subscribed: This connection is subscribed to the channel.
        role: Of the user in the channel's organization; None elsewhere.
    """
    if not admits(channel, role):
        return Errors.PERMISSION_DENIED
    return _history(channel, user, subscribed=subscribed)


def _history(channel: Channel, user: str, *, subscribed: bool) -> Error | None:
    options = channel.namespace
    if not options.has_history:
        return Errors.NOT_AVAILABLE
    return _access(
        user,
        client=options.allow_history_for_client,
        subscriber=options.allow_history_for_subscriber and subscribed,
        anonymous=options.allow_history_for_anonymous,
    )


def may_read_presence(channel: Channel, user: str, *, subscribed: bool, role: Role | None = None) -> Error | None:
    """Decide over reading who is there, or how many; not available (108) where it is not kept.

    Args:
        channel: Any.
        user: ``""`` for an anonymous connection.
        subscribed: This connection is subscribed to the channel.
        role: Of the user in the channel's organization; None elsewhere.
    """
    if not admits(channel, role):
        return Errors.PERMISSION_DENIED
    return _presence(channel, user, subscribed=subscribed)


def _presence(channel: Channel, user: str, *, subscribed: bool) -> Error | None:
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
    return options.has_history and (options.allow_recovery or _history(channel, user, subscribed=True) is None)


def grants_positioning(channel: Channel, user: str) -> bool:
    """Whether a subscriber who asks for positioning gets it: where allowed, or where it may read history anyway."""
    options = channel.namespace
    return options.has_history and (options.allow_positioning or _history(channel, user, subscribed=True) is None)


def grants_join_leave(channel: Channel, user: str) -> bool:
    """Whether a subscriber who asks for joins and leaves gets them: where there are any, if it may read presence."""
    return channel.namespace.join_leave and _presence(channel, user, subscribed=True) is None


def _is_open_to(channel: Channel, user: str) -> bool:
    options = channel.namespace
    if channel.is_user_limited:
        return channel.admits(user)
    return options.allow_subscribe_for_client and (user != "" or options.allow_subscribe_for_anonymous)


def _access(user: str, *, client: bool, subscriber: bool, anonymous: bool) -> Error | None:
    """Apply the one rule of publish, history and presence: some way in, and for the anonymous leave to use it."""
    return None if (client or subscriber) and (user != "" or anonymous) else Errors.PERMISSION_DENIED
