"""What an organization is: its quotas, its members and their roles, its keys and their scopes.

Values and small rules. Who may do what with a channel is ``service.auth.policy``.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

__all__ = (
    "ID_PATTERN",
    "MAX_QUOTA",
    "USER_PATTERN",
    "ApiKeyRecord",
    "MemberRecord",
    "Organization",
    "Role",
    "Scope",
    "is_id",
    "is_user",
)

ID_PATTERN: Final = "^[a-z0-9][a-z0-9-]{0,62}$"
"""Of an organization's id, which is part of channel names."""

USER_PATTERN: Final = r"^[^\x00-\x1f\x7f/]{1,255}$"
"""Of a member's user id, which is part of URLs: anything but control characters and ``/``."""

MAX_QUOTA: Final = 1_000_000_000

_ID: Final = re.compile(ID_PATTERN.strip("^$"))
_USER: Final = re.compile(USER_PATTERN.strip("^$"))


def is_id(text: str) -> bool:
    """Whether an organization may have this id."""
    return _ID.fullmatch(text) is not None


def is_user(text: str) -> bool:
    """Whether a user with this id can be a member."""
    # As a segment of a URL these two would be taken for something else.
    return _USER.fullmatch(text) is not None and text not in (".", "..")


class Role(enum.StrEnum):
    """What a member is. The service tells viewers from the others; the rest is for the application to use."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"

    @property
    def may_publish(self) -> bool:
        """Whether clients of such a member may publish."""
        return self is not Role.VIEWER


class Scope(enum.StrEnum):
    """What a key of an organization is for; a key does nothing else."""

    PUBLISH = "publish"
    HISTORY = "history"
    HISTORY_REMOVE = "history:remove"
    PRESENCE = "presence"
    CHANNELS = "channels"
    CONNECTIONS = "connections"
    ORGANIZATION_READ = "organization:read"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization; instants are Unix seconds.

    Attributes:
        max_connections: Clients in its channels at once; 0 for no limit.
        publications_per_minute: Into its channels; 0 for no limit.
        max_channels: Of its channels that somebody is in; 0 for no limit.
    """

    id: str
    name: str = ""
    max_connections: int = 0
    publications_per_minute: int = 0
    max_channels: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A user's place in an organization; instants are Unix seconds."""

    user: str
    role: Role
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """A key of an organization; instants are Unix seconds.

    Attributes:
        id: Part of the key itself, and no secret.
        digest: SHA-256 of the secret part.
        scopes: What it is for.
        per_minute: Requests a minute; 0 for no limit.
        expires_at: None for never.
        revoked_at: None while it is good.
    """

    id: str
    organization: str
    name: str
    digest: bytes
    scopes: frozenset[Scope]
    per_minute: int = 0
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None

    def is_good(self, wall: float) -> bool:
        """Whether it opens anything at this time, in Unix seconds."""
        return self.revoked_at is None and (self.expires_at is None or wall < self.expires_at)
