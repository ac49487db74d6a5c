"""Whether a request carries the key of the server API or of the admin API.

A key belongs into a header. In a URL it would end up in logs and histories, so it is
refused there even when it is the right one.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from hmac import compare_digest
from typing import Final

__all__ = ("ApiKey", "ApiKeyFault", "presented_key")

_SCHEME: Final = "apikey"


class ApiKeyFault(enum.Enum):
    """Why a request is answered with 401; the value is the reason that it is told."""

    MISSING = "no API key: send it as X-API-Key, or as Authorization: apikey"
    AMBIGUOUS = "more than one API key"
    IN_URL = "an API key in the URL is not accepted: send it as X-API-Key, or as Authorization: apikey"
    WRONG = "wrong API key"


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


def _of_authorization(value: str) -> str | None:
    scheme, _, key = value.strip(" \t").partition(" ")
    return key.strip(" \t") if scheme.lower() == _SCHEME else None


def _bytes(key: str) -> bytes:
    """Encode any string at all, since a comparison of strings raises for what is not ASCII."""
    return key.encode("utf-8", "surrogatepass")
