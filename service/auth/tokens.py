"""Who a token says its bearer is: verified JSON Web Tokens as plain values.

Each configured key belongs to one family of algorithms. The ``alg`` of a token
picks a row among these and never a key: HS rows hold the secret, RS rows the RSA
key, and the one ES row that fits the curve holds the EC key. Whatever else the
header offers (``kid``, ``jku``, ``jwk``, ``x5u``) is not looked at, and ``crit``
is refused, since no extension is understood here.

The signature, the base64 and the header are PyJWT's. The claims are read here: time
comes from a clock that is passed in, raw JSON stays raw, and a token that has run
out must be told from a bad one, for the client gets a new one only in the first case.
"""

from __future__ import annotations

import enum
import re
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import InvalidKeyError, PyJWS, PyJWTError
from jwt.algorithms import Algorithm, ECAlgorithm, HMACAlgorithm, RSAAlgorithm
from msgspec import UNSET, Raw, Struct, UnsetType
from typing_extensions import override

from service.core import codec
from service.errors import SettingsError

__all__ = (
    "MAX_TOKEN_LENGTH",
    "MIN_HMAC_SECRET_BYTES",
    "MIN_RSA_KEY_BITS",
    "ConnectionClaims",
    "Overrides",
    "ServerSubscription",
    "SubscriptionClaims",
    "TokenFault",
    "TokenKeys",
    "TokenVerifier",
    "issue",
)

_KNOWN_HEADERS: Final = 64
MAX_TOKEN_LENGTH: Final = 32_768
"""Characters of a token. Enough for 128 channels of 180 characters; to refuse the longest takes about a millisecond."""

MIN_HMAC_SECRET_BYTES: Final = 32
"""A shorter secret can be guessed offline from any token. Source: RFC 7518 section 3.2, for HS256."""

MIN_RSA_KEY_BITS: Final = 2048
"""Source: RFC 7518 section 3.3."""

# Without padding, and with nothing empty: a token without a signature does not get as far as being parsed.
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MAX_INSTANT: Final = float(2**53)  # past it a float skips whole seconds
_HASHES: Final = {"HS256": HMACAlgorithm.SHA256, "HS384": HMACAlgorithm.SHA384, "HS512": HMACAlgorithm.SHA512}
_RSA_HASHES: Final = {"RS256": RSAAlgorithm.SHA256, "RS384": RSAAlgorithm.SHA384, "RS512": RSAAlgorithm.SHA512}
_CURVES: Final = {
    "secp256r1": ("ES256", ECAlgorithm.SHA256),
    "secp384r1": ("ES384", ECAlgorithm.SHA384),
    "secp521r1": ("ES512", ECAlgorithm.SHA512),
}
_UNUSED_KEY: Final = b""  # what PyJWT wants to be given; the rows bring their own


class TokenFault(enum.Enum):
    """Why a token does not count."""

    INVALID = "invalid"
    """Not signed by a configured key, or its claims make no sense. A new token of this kind will not help."""

    EXPIRED = "expired"
    """Genuine, but not at this time (``exp``, ``nbf`` or ``expire_at``). A new token will help."""


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The keys that tokens may be signed with, and what else tokens must say.

    Attributes:
        hmac_secret: For HS256, HS384 and HS512; at least 32 bytes. None refuses those.
        rsa_public_pem: Public key for RS256, RS384 and RS512; at least 2048 bits. None
            refuses those.
        ecdsa_public_pem: Public key for ES256 (P-256), ES384 (P-384) or ES512 (P-521),
            the one that fits the curve. None refuses those.
        audience: Must be among the token's ``aud``; None does not check.
        issuer: Must be the token's ``iss``; None does not check.
    """

    hmac_secret: bytes | None = field(default=None, repr=False)
    rsa_public_pem: str | None = None
    ecdsa_public_pem: str | None = None
    audience: str | None = None
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class Overrides:
    """Options of the namespace that a token sets otherwise for one subscription; None leaves them."""

    presence: bool | None = None
    join_leave: bool | None = None
    force_recovery: bool | None = None
    force_positioning: bool | None = None
    force_push_join_leave: bool | None = None


@dataclass(frozen=True, slots=True)
class ServerSubscription:
    """A channel that the server subscribes a connection to because its token says so.

    Attributes:
        channel: Not empty; otherwise as the token spells it, not checked against any rule.
        info: Raw JSON shown beside the user in this channel, None for nothing.
        data: Raw JSON handed to the client with the subscription, None for nothing.
    """

    channel: str
    info: bytes | None = None
    data: bytes | None = None
    overrides: Overrides = Overrides()


@dataclass(frozen=True, slots=True)
class ConnectionClaims:
    """What a valid connection token says.

    Attributes:
        user: ``""`` for an anonymous one.
        expires_at: When the connection ends unless it is refreshed, in seconds since the
            Unix epoch; in the future when it was verified. None for never.
        info: Raw JSON without line breaks, shown beside the user; None for nothing.
        channels: In the order of the token, no channel twice.
        meta: Raw JSON for the server alone, never sent to a client; None for nothing.
        namespaces: The only ones whose channels the connection may touch; None for no such limit.
        organization: The only one whose channels the connection may touch; None for no such limit.
    """

    user: str
    expires_at: float | None = None
    info: bytes | None = None
    channels: tuple[ServerSubscription, ...] = ()
    meta: bytes | None = None
    namespaces: frozenset[str] | None = None
    organization: str | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionClaims:
    """What a valid subscription token says. Whether it fits the connection is for the caller to compare.

    Attributes:
        user: Must be the user of the connection; ``""`` for an anonymous one.
        channel: Must be the channel subscribed to; never empty.
        client: Must be the id of the connection; None fits any.
        info: Raw JSON without line breaks, shown beside the user in this channel; None
            for nothing.
        data: Raw JSON handed to the client with the subscription; None for nothing.
        expires_at: When the subscription ends unless it is refreshed, in seconds since the
            Unix epoch; in the future when it was verified. None for never.
    """

    user: str
    channel: str
    client: str | None = None
    info: bytes | None = None
    data: bytes | None = None
    expires_at: float | None = None
    overrides: Overrides = Overrides()


class TokenVerifier:
    """Tells genuine tokens from others, with keys that were read once.

    Args:
        keys: Without any key every token is invalid.
        wall: Seconds since the Unix epoch.

    Raises:
        SettingsError: A key cannot be used; every such key is named.

    Concurrency: one thread at a time.
    """

    def __init__(self, keys: TokenKeys, wall: Callable[[], float]) -> None:
        problems: list[str] = []
        self._jws = PyJWS(algorithms=())
        for name, algorithm in _rows(keys, problems):
            self._jws.register_algorithm(name, algorithm)
        if problems:
            raise SettingsError(problems)
        self._algorithms = tuple(self._jws.get_algorithms())
        # Header, as it stands in a token -> what its signature is verified with. Of genuine tokens alone, so that
        # strangers cannot fill it.
        self._known_headers: dict[str, Algorithm] = {}
        self._audience = keys.audience
        self._issuer = keys.issuer
        self._wall = wall

    @property
    def algorithms(self) -> frozenset[str]:
        """The values of ``alg`` that stand a chance."""
        return frozenset(self._algorithms)

    def connection(self, token: str) -> ConnectionClaims | TokenFault:
        """Verify a connection token.

        Returns:
            A fault for whatever is wrong with it; a subscription token is ``INVALID`` here.
        """
        try:
            payload = _decode_connection(self._payload(token))
            self._check_parties(payload)
            claims = _connection_claims(payload)
        except _REFUSALS:
            return TokenFault.INVALID
        return claims if self._is_current(payload) else TokenFault.EXPIRED

    def subscription(self, token: str) -> SubscriptionClaims | TokenFault:
        """Verify a subscription token.

        Returns:
            A fault for whatever is wrong with it; a connection token is ``INVALID`` here.
        """
        try:
            payload = _decode_subscription(self._payload(token))
            self._check_parties(payload)
            claims = _subscription_claims(payload)
        except _REFUSALS:
            return TokenFault.INVALID
        return claims if self._is_current(payload) else TokenFault.EXPIRED

    def _payload(self, token: str) -> bytes:
        """Return the signed bytes; raises one of ``_REFUSALS`` when the signature does not hold."""
        if len(token) > MAX_TOKEN_LENGTH or _COMPACT.fullmatch(token) is None:
            raise _RefusedError
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        algorithm = self._known_headers.get(header)
        if algorithm is not None:
            # Most tokens of an issuer have the same header, to the byte: what it says was examined with the first.
            if not algorithm.verify(signed.encode(), algorithm.prepare_key(_UNUSED_KEY), _decode_segment(signature)):
                raise _RefusedError
            return _decode_segment(payload)
        return self._examined_payload(token, header)

    def _examined_payload(self, token: str, header: str) -> bytes:
        """As `_payload`, for a token whose header was not seen on a genuine one before."""
        parts = self._jws.decode_complete(token, _UNUSED_KEY, self._algorithms)
        if "crit" in parts["header"]:
            # PyJWT knows one extension, a payload that is not base64; it has no use here. Source: RFC 7515 4.1.11.
            raise _RefusedError
        if len(self._known_headers) < _KNOWN_HEADERS:
            self._known_headers[header] = self._jws.get_algorithm_by_name(parts["header"]["alg"])
        payload: bytes = parts["payload"]
        return payload

    def _check_parties(self, payload: _Payload) -> None:
        if self._issuer is not None and payload.iss != self._issuer:
            raise _RefusedError
        if self._audience is not None:
            audiences = (payload.aud,) if isinstance(payload.aud, str) else payload.aud
            if audiences is UNSET or self._audience not in audiences:
                raise _RefusedError

    def _is_current(self, payload: _Payload) -> bool:
        """Whether it is neither too late nor too early; the instant of ``exp`` itself is too late."""
        now = self._wall()
        if payload.nbf is not UNSET and now < payload.nbf:
            return False
        # Both: expire_at moves the end of the connection, not the last moment to open one with this token.
        ends = (payload.expires_at, None if payload.exp is UNSET else payload.exp)
        return all(end is None or now < end for end in ends)


def _decode_segment(segment: str) -> bytes:
    """Decode base64url without padding, in its one canonical form; its letters were checked before."""
    decoded = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode():
        # The same bytes have other spellings; a token has one.
        raise _RefusedError
    return decoded


def issue(secret: bytes, claims: Mapping[str, Any], *, algorithm: str = "HS256") -> str:
    """Return a token signed with an HMAC secret.

    Args:
        secret: At least 32 bytes.
        claims: By their names in the token; values as ``msgspec`` encodes them.
        algorithm: HS256, HS384 or HS512.

    Raises:
        SettingsError: The secret cannot be used.
        ValueError: The algorithm is not of the HMAC family.
    """
    if algorithm not in _HASHES:
        raise ValueError(f"cannot sign with {algorithm}, only with {', '.join(_HASHES)}")
    problems: list[str] = []
    jws = PyJWS(algorithms=())
    for name, row in _hmac_rows(secret, problems):
        jws.register_algorithm(name, row)
    if problems:
        raise SettingsError(problems)
    return jws.encode(msgspec.json.encode(dict(claims)), _UNUSED_KEY, algorithm)


# Keys: one row for each algorithm, with the key inside it.


class _BoundHmac(HMACAlgorithm):
    """HMAC with one secret, examined once instead of at every token."""

    def __init__(self, name: str, secret: bytes) -> None:
        super().__init__(_HASHES[name])
        self._secret = super().prepare_key(secret)

    @override
    def prepare_key(self, key: str | bytes) -> bytes:
        return self._secret

    @override
    def check_key_length(self, key: bytes) -> None:
        """Say nothing: 32 bytes are enough for HS384 and HS512 too, and were counted at the start."""


class _BoundRsa(RSAAlgorithm):
    """RSA with one public key."""

    def __init__(self, name: str, key: RSAPublicKey) -> None:
        super().__init__(_RSA_HASHES[name])
        self._key = key

    @override
    def prepare_key(self, key: object) -> RSAPublicKey:
        return self._key


class _BoundEc(ECAlgorithm):
    """ECDSA with one public key, whose curve was looked at when the row was made."""

    def __init__(self, key: EllipticCurvePublicKey) -> None:
        super().__init__(_CURVES[key.curve.name][1])
        self._key = key

    @override
    def prepare_key(self, key: object) -> EllipticCurvePublicKey:
        return self._key


def _rows(keys: TokenKeys, problems: list[str]) -> Iterator[tuple[str, Algorithm]]:
    """Yield what the keys allow, noting each key that cannot be used."""
    if keys.hmac_secret is not None:
        yield from _hmac_rows(keys.hmac_secret, problems)
    if keys.rsa_public_pem is not None:
        yield from _rsa_rows(keys.rsa_public_pem, problems)
    if keys.ecdsa_public_pem is not None:
        yield from _ec_rows(keys.ecdsa_public_pem, problems)


def _hmac_rows(secret: bytes, problems: list[str]) -> Iterator[tuple[str, Algorithm]]:
    if len(secret) < MIN_HMAC_SECRET_BYTES:
        problems.append(f"TOKEN_HMAC_SECRET has {len(secret)} bytes, it needs {MIN_HMAC_SECRET_BYTES} or more")
    elif b"-----BEGIN" in secret:
        # Public keys are public: with one as the secret anybody could sign.
        problems.append("TOKEN_HMAC_SECRET is PEM, which belongs into TOKEN_RSA_PUBLIC_KEY or TOKEN_ECDSA_PUBLIC_KEY")
    else:
        try:
            yield from [(name, _BoundHmac(name, secret)) for name in _HASHES]
        except InvalidKeyError:
            problems.append("TOKEN_HMAC_SECRET is a key of another kind (SSH, DER or JWK), it must be a plain secret")


def _rsa_rows(pem: str, problems: list[str]) -> Iterator[tuple[str, Algorithm]]:
    key = _public_key(pem)
    if not isinstance(key, RSAPublicKey):
        problems.append("TOKEN_RSA_PUBLIC_KEY is no RSA public key in PEM")
    elif key.key_size < MIN_RSA_KEY_BITS:
        problems.append(f"TOKEN_RSA_PUBLIC_KEY has {key.key_size} bits, it needs {MIN_RSA_KEY_BITS} or more")
    else:
        for name in _RSA_HASHES:
            yield name, _BoundRsa(name, key)


def _ec_rows(pem: str, problems: list[str]) -> Iterator[tuple[str, Algorithm]]:
    key = _public_key(pem)
    if not isinstance(key, EllipticCurvePublicKey):
        problems.append("TOKEN_ECDSA_PUBLIC_KEY is no EC public key in PEM")
    elif key.curve.name not in _CURVES:
        problems.append(f"TOKEN_ECDSA_PUBLIC_KEY is on {key.curve.name}, it must be on one of {', '.join(_CURVES)}")
    else:
        yield _CURVES[key.curve.name][0], _BoundEc(key)


def _public_key(pem: str) -> object:
    """Return the key in ``pem``; None when there is none, or only a private one or a certificate."""
    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None


# Claims: what is signed, and what becomes of it.


class _RefusedError(ValueError):
    """A token is not accepted; never leaves this module."""


# PyJWT's own, what msgspec and base64 say to malformed text, and nesting that is too deep for either parser.
_REFUSALS: Final = (PyJWTError, ValueError, RecursionError)


class _BoolValue(Struct, frozen=True):
    value: bool = False


class _Override(Struct, frozen=True):
    presence: _BoolValue | None = None
    join_leave: _BoolValue | None = None
    force_recovery: _BoolValue | None = None
    force_positioning: _BoolValue | None = None
    force_push_join_leave: _BoolValue | None = None


class _Subscription(Struct, frozen=True):
    info: Raw = Raw()
    b64info: str | None = None
    data: Raw = Raw()
    b64data: str | None = None
    override: _Override | None = None


class _Payload(Struct, frozen=True, kw_only=True):
    """Claims of both kinds of token.

    What decides over rights may be left out but not be null: an issuer who writes
    ``"exp": null`` did not mean a token that never ends.
    """

    sub: str = ""
    exp: float | UnsetType = UNSET
    nbf: float | UnsetType = UNSET
    expire_at: float | UnsetType = UNSET
    aud: str | list[str] | UnsetType = UNSET
    iss: str | UnsetType = UNSET
    info: Raw = Raw()
    b64info: str | None = None

    def __post_init__(self) -> None:
        for instant in (self.exp, self.nbf, self.expire_at):
            if instant is not UNSET and not 0 <= instant <= _MAX_INSTANT:
                raise ValueError("an instant is out of range")

    @property
    def expires_at(self) -> float | None:
        """When what the token opened ends; ``expire_at`` overrides ``exp``, and its 0 means never."""
        if self.expire_at is not UNSET:
            return self.expire_at or None
        return None if self.exp is UNSET else self.exp


class _ConnectionPayload(_Payload, frozen=True, kw_only=True):
    channel: Raw = Raw()
    channels: list[str] | None = None
    subs: dict[str, _Subscription | None] | None = None
    meta: Raw = Raw()
    namespaces: list[str] | UnsetType = UNSET
    only_organization: str | UnsetType = UNSET


class _SubscriptionPayload(_Payload, frozen=True, kw_only=True):
    channel: str
    client: str | UnsetType = UNSET
    data: Raw = Raw()
    b64data: str | None = None
    override: _Override | None = None


_decode_connection = msgspec.json.Decoder(_ConnectionPayload).decode
_decode_subscription = msgspec.json.Decoder(_SubscriptionPayload).decode


def _connection_claims(payload: _ConnectionPayload) -> ConnectionClaims:
    if bytes(payload.channel):
        raise _RefusedError  # it is a subscription token, whatever the claim holds
    channels: dict[str, _Subscription] = dict.fromkeys(payload.channels or (), _Subscription())
    channels |= {name: options or _Subscription() for name, options in (payload.subs or {}).items()}
    if "" in channels:
        raise _RefusedError
    return ConnectionClaims(
        user=payload.sub,
        expires_at=payload.expires_at,
        info=_json(payload.info, payload.b64info),
        channels=tuple(
            ServerSubscription(
                channel=name,
                info=_json(options.info, options.b64info),
                data=_json(options.data, options.b64data),
                overrides=_overrides(options.override),
            )
            for name, options in channels.items()
        ),
        meta=_json(payload.meta, None),
        namespaces=None if payload.namespaces is UNSET else frozenset(payload.namespaces),
        organization=None if payload.only_organization is UNSET else payload.only_organization,
    )


def _subscription_claims(payload: _SubscriptionPayload) -> SubscriptionClaims:
    if not payload.channel:
        raise _RefusedError
    return SubscriptionClaims(
        user=payload.sub,
        channel=payload.channel,
        client=None if payload.client is UNSET else payload.client,
        info=_json(payload.info, payload.b64info),
        data=_json(payload.data, payload.b64data),
        expires_at=payload.expires_at,
        overrides=_overrides(payload.override),
    )


def _json(raw: Raw, base64: str | None) -> bytes | None:
    """Return a payload that can stand in a line of the protocol; the base64 form wins, null is nothing."""
    data = b64decode(base64, validate=True) if base64 else bytes(raw)
    if not data or data == b"null":
        return None
    if not codec.is_json(data):
        # Signed or not: it would be written between other JSON as it is.
        raise _RefusedError
    return codec.compact(data)


def _overrides(override: _Override | None) -> Overrides:
    if override is None:
        return _NO_OVERRIDES
    return Overrides(
        presence=_value(override.presence),
        join_leave=_value(override.join_leave),
        force_recovery=_value(override.force_recovery),
        force_positioning=_value(override.force_positioning),
        force_push_join_leave=_value(override.force_push_join_leave),
    )


_NO_OVERRIDES: Final = Overrides()


def _value(option: _BoolValue | None) -> bool | None:
    return None if option is None else option.value
