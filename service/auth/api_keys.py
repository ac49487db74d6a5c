"""Whether a request carries the key of the server API or of the admin API, and how keys of organizations look.

A key belongs into a header. In a URL it would end up in logs and histories, so it is
refused there even when it is the right one.

A key of an organization is ``sw_<id>_<secret>``. The id finds the key and is shown
everywhere; of the secret only a digest is kept. Its last four characters are made from
that digest, so that they can be shown beside a key without being kept, and are not part of the 256 bits.
"""

from __future__ import annotations

import enum
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, NamedTuple

from service.core.organizations import Scope

__all__ = (
    "OPERATOR",
    "ApiKey",
    "ApiKeyFault",
    "Caller",
    "OrganizationKey",
    "digest_of",
    "last_four",
    "organization_key",
    "parse_organization_key",
    "presented_key",
)

_SCHEME: Final = "apikey"
_PREFIX: Final = "sw"
_CHECK_LENGTH: Final = 4
_PARTS: Final = 3


class ApiKeyFault(enum.Enum):
    """Why a request is answered with 401; the value is the reason that it is told."""

    MISSING = "no API key: send it as X-API-Key, or as Authorization: apikey"
    AMBIGUOUS = "more than one API key"
    IN_URL = "an API key in the URL is not accepted: send it as X-API-Key, or as Authorization: apikey"
    WRONG = "wrong API key"
    REVOKED = "the API key was revoked"
    EXPIRED = "the API key has expired"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a back end is, once its key was found right.

    Attributes:
        organization: Whose key it is, and then it reaches nothing else; None for the key of the operator.
        scopes: What a key of an organization is for; the operator's is for everything.
        key: Id of the organization's key; empty for the operator's.
    """

    organization: str | None = None
    scopes: frozenset[Scope] = frozenset(Scope)
    key: str = ""

    @property
    def is_operator(self) -> bool:
        """Whether it may do everything."""
        return self.organization is None

    def may(self, scope: Scope | None, organization: str | None = None) -> bool:
        """Whether it may do what ``scope`` names; None is for the operator alone.

        Args:
            organization: To whom; None for its own.
        """
        if self.organization is None:
            return True
        return scope in self.scopes and organization in (None, self.organization)

    def reaches(self, organization: str | None) -> bool:
        """Whether it may see what belongs to ``organization``; None for what belongs to none."""
        return self.organization in (None, organization)


OPERATOR: Final = Caller()
"""Who has the key of the settings."""


class ApiKey:
    """The key that a request must carry.

    Args:
        expected: Empty when no key is configured, and then none is right.
    """

    __slots__ = ("_expected",)

    def __init__(self, expected: str) -> None:
        self._expected = _bytes(expected)

    def matches(self, presented: str) -> bool:
        """Compare in a time that does not tell how much of ``presented`` is right."""
        return compare_digest(self._expected, _bytes(presented)) and bool(self._expected)

    def check(
        self, x_api_key: Sequence[str], authorization: Sequence[str] = (), *, in_url: bool = False
    ) -> ApiKeyFault | None:
        """Decide over a request.

        Args:
            x_api_key: The values of every X-API-Key header (for the admin API, X-Admin-Key).
            authorization: The values of every Authorization header; other schemes than
                ``apikey`` count as no key.
            in_url: The query has an ``api_key``.

        Returns:
            None when the key is right.
        """
        if in_url:
            return ApiKeyFault.IN_URL
        presented = presented_key(x_api_key, authorization)
        if isinstance(presented, ApiKeyFault):
            return presented
        return None if self.matches(presented) else ApiKeyFault.WRONG


def presented_key(x_api_key: Sequence[str], authorization: Sequence[str] = ()) -> str | ApiKeyFault:
    """Return the one key in the headers of a request, or why there is not one."""
    keys = [*x_api_key, *(key for value in authorization if (key := _of_authorization(value)) is not None)]
    if len(keys) > 1:
        return ApiKeyFault.AMBIGUOUS
    return keys[0] if keys and keys[0] else ApiKeyFault.MISSING


class OrganizationKey(NamedTuple):
    """A key of an organization, taken apart.

    Attributes:
        id: Finds the key.
        digest: Of its secret part.
    """

    id: str
    digest: bytes


def organization_key(key_id: str, secret: str) -> str:
    """Return the key that is handed out.

    Args:
        key_id: Without an underscore.
        secret: Of 256 random bits, URL-safe.
    """
    return f"{_PREFIX}_{key_id}_{secret}{last_four(digest_of(secret))}"


def digest_of(secret: str) -> bytes:
    """Return what is kept of a secret. One round of SHA-256 does, since 256 random bits cannot be guessed."""
    return hashlib.sha256(_bytes(secret)).digest()


def last_four(digest: bytes) -> str:
    """Return the characters that the key of this digest ends with, by which people know it again."""
    return urlsafe_b64encode(hashlib.sha256(b"check" + digest).digest()).decode()[:_CHECK_LENGTH]


def parse_organization_key(text: str) -> OrganizationKey | None:
    """Take a key of an organization apart; None when it cannot be one."""
    parts = text.split("_", _PARTS - 1)
    if len(parts) != _PARTS or parts[0] != _PREFIX or not parts[1] or len(parts[2]) <= _CHECK_LENGTH:
        return None
    digest = digest_of(parts[2][:-_CHECK_LENGTH])
    right_end = compare_digest(_bytes(last_four(digest)), _bytes(parts[2][-_CHECK_LENGTH:]))
    return OrganizationKey(parts[1], digest) if right_end else None


def _of_authorization(value: str) -> str | None:
    scheme, _, key = value.strip(" \t").partition(" ")
    return key.strip(" \t") if scheme.lower() == _SCHEME else None


def _bytes(key: str) -> bytes:
    """Encode any string at all, since a comparison of strings raises for what is not ASCII."""
    return key.encode("utf-8", "surrogatepass")
