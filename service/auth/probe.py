"""Tokens with which an operator tries the running service.

They are signed with a key of their own, derived from a secret that operators have
anyway, and never with a key of the application: a probe token is worth nothing to
anybody else who verifies the application's tokens, it can be made where only public
keys are configured, and it still holds after a restart, so that a probe can see itself
come back.

A probe's user and its channel have the same name, ``probe:<uuid>``. Whatever else a
token signed with the probe key may say is not looked at, and the connection that it
opens may touch no other namespace.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from typing_extensions import override

from service.auth.tokens import (
    ConnectionClaims,
    SubscriptionClaims,
    TokenFault,
    TokenKeys,
    TokenVerifier,
    issue,
)
from service.core.namespaces import PROBE
from service.ids import Ids

__all__ = ("ProbeTokens", "ProbingVerifier", "TokenPair", "Tokens", "is_probe")

_PREFIX: Final = f"{PROBE.name}:"
_USER: Final = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PURPOSE: Final = b"slackwater probe tokens 1"
_EXPIRED_FOR_SECONDS: Final = 3600


def is_probe(user: str) -> bool:
    """Whether a user is a probe's; ids that begin with ``probe:`` are reserved for them."""
    return user.startswith(_PREFIX)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A connection token and a subscription token of the same kind, for the same user."""

    connection: str = field(repr=False)
    subscription: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one probe needs to see that good tokens are accepted and others are not.

    Attributes:
        user: Made up for this probe; also the name of its channel.
        valid: Accepted until ``expires_at``.
        expired: Genuine, but too old.
        wrong_signature: In date, signed with a key that nobody has.
        expires_at: Seconds since the Unix epoch.
    """

    user: str
    valid: TokenPair
    expired: TokenPair
    wrong_signature: TokenPair
    expires_at: int

    @property
    def channel(self) -> str:
        """The one channel that the tokens open."""
        return self.user


class ProbeTokens:
    """Makes probe tokens, and tells genuine ones from others.

    Args:
        secret: What only operators know, such as the key of the admin API; at least one
            character. Tokens are signed with a key derived from it, not with it.
        wall: Seconds since the Unix epoch.
        ids: Where users and the key of wrong signatures come from.
    """

    def __init__(self, secret: str, *, wall: Callable[[], float], ids: Ids) -> None:
        # Hexadecimal, since a key of raw bytes could by chance look like one of another kind.
        self._key = hmac.new(secret.encode("utf-8", "surrogatepass"), _PURPOSE, hashlib.sha256).hexdigest().encode()
        self._verifier = TokenVerifier(TokenKeys(hmac_secret=self._key), wall)
        self._wall = wall
        self._ids = ids

    def issue(self, ttl_seconds: float) -> Tokens:
        """Make up a probe and return its tokens, the valid ones for at least ``ttl_seconds``."""
        user = _PREFIX + self._ids.uuid()
        now = math.floor(self._wall())
        expires_at = math.ceil(self._wall() + ttl_seconds)
        return Tokens(
            user=user,
            valid=_sign(self._key, user, now, expires_at),
            expired=_sign(self._key, user, now - 2 * _EXPIRED_FOR_SECONDS, now - _EXPIRED_FOR_SECONDS),
            wrong_signature=_sign(self._ids.secret().encode(), user, now, expires_at),
            expires_at=expires_at,
        )

    def connection(self, token: str) -> ConnectionClaims | TokenFault:
        """Verify a connection token of a probe; all it can say is who the probe is, and until when."""
        claims = self._verifier.connection(token)
        if isinstance(claims, TokenFault):
            return claims
        if _USER.fullmatch(claims.user) is None or claims.expires_at is None:
            return TokenFault.INVALID
        return ConnectionClaims(user=claims.user, expires_at=claims.expires_at, namespaces=frozenset({PROBE.name}))

    def subscription(self, token: str) -> SubscriptionClaims | TokenFault:
        """Verify a subscription token of a probe; it can be for the probe's own channel alone."""
        claims = self._verifier.subscription(token)
        if isinstance(claims, TokenFault):
            return claims
        if _USER.fullmatch(claims.user) is None or claims.channel != claims.user or claims.expires_at is None:
            return TokenFault.INVALID
        return SubscriptionClaims(user=claims.user, channel=claims.channel, expires_at=claims.expires_at)


class ProbingVerifier(TokenVerifier):
    """Believes the application's tokens, and for their own users and channels those of probes.

    Which key a token is tried with is not for the token to say: the application's come
    first, the probes' after, and only for what those did not sign.

    Args:
        keys: As in ``TokenVerifier``.
        wall: Seconds since the Unix epoch.
        probe: Whose tokens are believed besides.
    """

    def __init__(self, keys: TokenKeys, wall: Callable[[], float], probe: ProbeTokens) -> None:
        super().__init__(keys, wall)
        self._probe = probe

    @override
    def connection(self, token: str) -> ConnectionClaims | TokenFault:
        claims = super().connection(token)
        return self._probe.connection(token) if claims is TokenFault.INVALID else claims

    @override
    def subscription(self, token: str) -> SubscriptionClaims | TokenFault:
        claims = super().subscription(token)
        return self._probe.subscription(token) if claims is TokenFault.INVALID else claims


def _sign(key: bytes, user: str, issued_at: int, expires_at: int) -> TokenPair:
    claims: dict[str, object] = {"sub": user, "iat": issued_at, "exp": expires_at}
    return TokenPair(connection=issue(key, claims), subscription=issue(key, claims | {"channel": user}))
