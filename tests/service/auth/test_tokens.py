from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.auth.tokens import (
    MAX_TOKEN_LENGTH,
    ConnectionClaims,
    Overrides,
    ServerSubscription,
    SubscriptionClaims,
    TokenFault,
    TokenKeys,
    TokenVerifier,
    issue,
)
from service.errors import SettingsError
from tests.service.auth.signing import OTHER_SECRET, SECRET, Pair, segment, sign
from tests.support.clock import ManualClock

NOW = 1_800_000_000.0
INVALID = TokenFault.INVALID
EXPIRED = TokenFault.EXPIRED
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The first text that is drawn builds Hypothesis' tables, however fast the code under test."""
NONE = segment(b'{"alg":"none"}')


class Parties(TypedDict, total=False):
    """What ``TokenKeys`` asks of a token beside its signature."""

    audience: str
    issuer: str


class Keys(Parties, total=False):
    """The fields of ``TokenKeys``, for the tests that need only some."""

    hmac_secret: bytes
    rsa_public_pem: str
    ecdsa_public_pem: str


def verifier(**keys: Unpack[Keys]) -> TokenVerifier:
    """Make a verifier at ``NOW``; with the HMAC secret when no keys are given."""
    return TokenVerifier(TokenKeys(**keys) if keys else TokenKeys(hmac_secret=SECRET), ManualClock(wall=NOW).wall)


def connection(payload: bytes | dict[str, Any], **parties: Unpack[Parties]) -> ConnectionClaims | TokenFault:
    """Verify a payload as a connection token, genuinely signed."""
    return verifier(hmac_secret=SECRET, **parties).connection(sign(payload))


def subscription(payload: bytes | dict[str, Any], **parties: Unpack[Parties]) -> SubscriptionClaims | TokenFault:
    """Verify a payload as a subscription token, genuinely signed."""
    return verifier(hmac_secret=SECRET, **parties).subscription(sign(payload))


def b64(data: bytes) -> str:
    """Return base64 of the standard alphabet, padded, as the b64 claims have it."""
    return base64.b64encode(data).decode()


# Algorithms and keys.


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac_token_verifies_with_the_secret(algorithm: str) -> None:
    """All three sizes hold with the secret they were signed with, and with no other."""
    token = sign({"sub": "42"}, header={"alg": algorithm})

    assert ConnectionClaims("42") == verifier().connection(token)
    assert INVALID is verifier(hmac_secret=OTHER_SECRET).connection(token)


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_rsa_token_verifies_with_the_public_key(algorithm: str, rsa_key: Pair) -> None:
    """All three sizes hold with the public half of the key, and with no other."""
    token = rsa_key.sign(algorithm, {"sub": "42"})
    other = Pair(rsa.generate_private_key(65_537, 2048))

    assert ConnectionClaims("42") == verifier(rsa_public_pem=rsa_key.public_pem).connection(token)
    assert INVALID is verifier(rsa_public_pem=other.public_pem).connection(token)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_ec_token_verifies_with_the_public_key_of_its_curve_alone(algorithm: str, ec_keys: dict[str, Pair]) -> None:
    """A key serves the one algorithm of its curve."""
    token = ec_keys[algorithm].sign(algorithm, {"sub": "42"})
    other = Pair(ec.generate_private_key(ec_keys[algorithm].private.curve))  # type: ignore[union-attr] # EC by fixture

    for name, pair in ec_keys.items():
        expected = ConnectionClaims("42") if name == algorithm else INVALID
        assert expected == verifier(ecdsa_public_pem=pair.public_pem).connection(token)
    assert INVALID is verifier(ecdsa_public_pem=other.public_pem).connection(token)


def test_each_key_brings_the_algorithms_of_its_family_alone(rsa_key: Pair, ec_keys: dict[str, Pair]) -> None:
    """What is configured says which algorithms stand a chance."""
    hmac, rsa_family = {"HS256", "HS384", "HS512"}, {"RS256", "RS384", "RS512"}
    ec_pem = ec_keys["ES384"].public_pem

    assert set() == TokenVerifier(TokenKeys(), lambda: NOW).algorithms
    assert hmac == verifier(hmac_secret=SECRET).algorithms
    assert rsa_family == verifier(rsa_public_pem=rsa_key.public_pem).algorithms
    assert {"ES384"} == verifier(ecdsa_public_pem=ec_pem).algorithms
    assert (
        hmac | rsa_family | {"ES384"}
        == verifier(hmac_secret=SECRET, rsa_public_pem=rsa_key.public_pem, ecdsa_public_pem=ec_pem).algorithms
    )


def test_every_family_verifies_when_all_keys_are_there(rsa_key: Pair, ec_keys: dict[str, Pair]) -> None:
    """The header picks the row, and each row has its own key."""
    all_keys = verifier(
        hmac_secret=SECRET, rsa_public_pem=rsa_key.public_pem, ecdsa_public_pem=ec_keys["ES256"].public_pem
    )
    tokens = (
        sign({"sub": "42"}),
        rsa_key.sign("RS256", {"sub": "42"}),
        ec_keys["ES256"].sign("ES256", {"sub": "42"}),
    )

    assert [ConnectionClaims("42")] * 3 == [all_keys.connection(token) for token in tokens]


def test_a_token_of_another_family_than_the_key_is_invalid(rsa_key: Pair, ec_keys: dict[str, Pair]) -> None:
    """A key never verifies what another family signed."""
    keys: dict[str, Keys] = {
        "HS": {"hmac_secret": SECRET},
        "RS": {"rsa_public_pem": rsa_key.public_pem},
        "ES": {"ecdsa_public_pem": ec_keys["ES256"].public_pem},
    }
    tokens = {
        "HS": sign({"sub": "42"}),
        "RS": rsa_key.sign("RS256", {"sub": "42"}),
        "ES": ec_keys["ES256"].sign("ES256", {"sub": "42"}),
    }

    for family, key in keys.items():
        for other, token in tokens.items():
            assert (INVALID if family != other else ConnectionClaims("42")) == verifier(**key).connection(token)


def test_without_any_key_every_token_is_invalid() -> None:
    """No key is no leave to skip the signature."""
    keyless = TokenVerifier(TokenKeys(), lambda: NOW)

    assert INVALID is keyless.connection(sign({"sub": "42"}))
    assert INVALID is keyless.connection(f"{NONE}.{segment(b'{}')}.")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS1", "PS256", "EdDSA"])
def test_an_algorithm_outside_the_keys_is_invalid_whatever_the_signature(algorithm: str, rsa_key: Pair) -> None:
    """``none`` and its spellings are refused, signed or not."""
    checked = verifier(hmac_secret=SECRET, rsa_public_pem=rsa_key.public_pem)
    signed = sign({"sub": "42"}, header={"alg": algorithm})
    signing_input, _, _ = signed.rpartition(".")

    assert INVALID is checked.connection(signed)
    assert INVALID is checked.connection(f"{signing_input}.")
    assert INVALID is checked.connection(signing_input)


@pytest.mark.parametrize("algorithm", [None, 5, True, ["HS256"], {"HS256": 1}], ids=repr)
def test_an_algorithm_that_is_no_string_is_invalid(algorithm: object) -> None:
    """A JSON value of another kind is no way around the list."""
    assert INVALID is verifier().connection(sign({"sub": "42"}, header={"alg": algorithm}))


def test_a_header_without_an_algorithm_is_invalid() -> None:
    """Nothing is assumed for a token that does not say."""
    assert INVALID is verifier().connection(sign({"sub": "42"}, header={"typ": "JWT"}))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac_with_the_public_key_as_the_secret_is_invalid(algorithm: str, rsa_key: Pair) -> None:
    """The classic confusion: what is public would be the secret."""
    for pem in (rsa_key.public_pem, rsa_key.public_pem.strip(), rsa_key.public_pem + "\n"):
        forged = sign({"sub": "42"}, secret=pem.encode(), header={"alg": algorithm})

        assert INVALID is verifier(rsa_public_pem=rsa_key.public_pem).connection(forged)
        assert INVALID is verifier(rsa_public_pem=rsa_key.public_pem, hmac_secret=SECRET).connection(forged)


def test_rsa_pss_with_the_right_key_is_invalid(rsa_key: Pair) -> None:
    """The right key does not help a family that is not spoken."""
    assert INVALID is verifier(rsa_public_pem=rsa_key.public_pem).connection(rsa_key.sign("PS256", {"sub": "42"}))


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"kid": "../../dev/null"}, id="kid"),
        pytest.param({"jku": "http://127.0.0.1:1/keys"}, id="jku"),
        pytest.param({"x5u": "http://127.0.0.1:1/cert", "x5c": ["AAAA"]}, id="x5u"),
        pytest.param({"jwk": {"kty": "oct", "k": segment(OTHER_SECRET)}}, id="jwk"),
        pytest.param({"typ": "anything", "cty": "JWT"}, id="typ"),
    ],
)
def test_keys_that_the_header_offers_are_ignored(extra: dict[str, Any]) -> None:
    """They neither help a forged token nor hurt a genuine one."""
    header = {"alg": "HS256"} | extra

    assert ConnectionClaims("42") == verifier().connection(sign({"sub": "42"}, header=header))
    assert INVALID is verifier().connection(sign({"sub": "42"}, header=header, secret=OTHER_SECRET))


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"crit": ["exp"], "exp": 1}, id="unknown"),
        pytest.param({"crit": ["b64"], "b64": True}, id="known to PyJWT"),
        pytest.param({"crit": ["b64"], "b64": False}, id="detached"),
        pytest.param({"crit": []}, id="empty"),
        pytest.param({"crit": "b64", "b64": True}, id="no list"),
        pytest.param({"crit": None}, id="null"),
        pytest.param({"b64": False}, id="b64 without crit"),
    ],
)
def test_critical_extensions_are_invalid(extra: dict[str, Any]) -> None:
    """No extension is understood, not even the one that PyJWT knows."""
    assert INVALID is verifier().connection(sign({"sub": "42"}, header={"alg": "HS256"} | extra))


def test_the_last_of_two_algorithms_in_a_header_does_not_leave_the_family(rsa_key: Pair) -> None:
    """Whichever of them counts, the secret is not the public key."""
    header = b'{"alg":"RS256","alg":"HS256"}'
    forged = sign({"sub": "42"}, secret=rsa_key.public_pem.encode(), header=header)

    assert INVALID is verifier(rsa_public_pem=rsa_key.public_pem).connection(forged)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        pytest.param({"hmac_secret": b""}, "TOKEN_HMAC_SECRET has 0 bytes", id="empty secret"),
        pytest.param({"hmac_secret": b"x" * 31}, "TOKEN_HMAC_SECRET has 31 bytes", id="31 bytes"),
        pytest.param({"hmac_secret": b"ssh-rsa " + b"A" * 40}, "TOKEN_HMAC_SECRET is a key of another kind", id="ssh"),
        pytest.param(
            {"hmac_secret": b'{"kty":"oct","k":"' + b"A" * 40 + b'"}'},
            "TOKEN_HMAC_SECRET is a key of another kind",
            id="jwk",
        ),
        pytest.param({"rsa_public_pem": "garbage"}, "TOKEN_RSA_PUBLIC_KEY is no RSA public key", id="rsa garbage"),
        pytest.param({"rsa_public_pem": ""}, "TOKEN_RSA_PUBLIC_KEY is no RSA public key", id="rsa empty"),
        pytest.param({"rsa_public_pem": "käse"}, "TOKEN_RSA_PUBLIC_KEY is no RSA public key", id="rsa not ascii"),
        pytest.param({"ecdsa_public_pem": "garbage"}, "TOKEN_ECDSA_PUBLIC_KEY is no EC public key", id="ec garbage"),
    ],
)
def test_a_key_that_cannot_be_used_stops_the_start(keys: Keys, problem: str) -> None:
    """The problem begins with the name of the setting."""
    with pytest.raises(SettingsError, match=problem):
        verifier(**keys)


def test_a_secret_of_32_bytes_is_enough_for_every_hmac() -> None:
    """PyJWT's warning about HS384 and HS512 does not become an error."""
    exact = verifier(hmac_secret=b"x" * 32)

    for algorithm in ("HS256", "HS384", "HS512"):
        token = sign({"sub": "42"}, secret=b"x" * 32, header={"alg": algorithm})
        assert ConnectionClaims("42") == exact.connection(token)


def test_pem_as_the_secret_stops_the_start(rsa_key: Pair) -> None:
    """Whoever puts a public key there would let anybody sign."""
    for pem in (rsa_key.public_pem, rsa_key.private_pem, "  " + rsa_key.public_pem):
        with pytest.raises(SettingsError, match="TOKEN_HMAC_SECRET is PEM"):
            verifier(hmac_secret=pem.encode())


def test_keys_in_the_wrong_place_stop_the_start_and_are_all_named(rsa_key: Pair, ec_keys: dict[str, Pair]) -> None:
    """All problems come at once, and no secret with them."""
    ed = ed25519.Ed25519PrivateKey.generate().public_key()
    swapped: Keys = {
        "hmac_secret": b"short",
        "rsa_public_pem": ec_keys["ES256"].public_pem,
        "ecdsa_public_pem": rsa_key.public_pem,
    }

    with pytest.raises(SettingsError) as caught:
        verifier(**swapped)
    assert (
        "TOKEN_HMAC_SECRET has 5 bytes, it needs 32 or more",
        "TOKEN_RSA_PUBLIC_KEY is no RSA public key in PEM",
        "TOKEN_ECDSA_PUBLIC_KEY is no EC public key in PEM",
    ) == caught.value.problems
    assert "short" not in str(caught.value)
    with pytest.raises(SettingsError, match="no RSA public key"):
        verifier(rsa_public_pem=rsa_key.private_pem)
    with pytest.raises(SettingsError, match="no EC public key"):
        verifier(ecdsa_public_pem=ed.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def test_weak_or_unknown_public_keys_stop_the_start() -> None:
    """Size and curve are looked at before any token is."""
    weak = Pair(rsa.generate_private_key(65_537, 1024))  # noqa: S505 - to be refused
    odd = Pair(ec.generate_private_key(ec.SECP256K1()))

    with pytest.raises(SettingsError, match="has 1024 bits"):
        verifier(rsa_public_pem=weak.public_pem)
    with pytest.raises(SettingsError, match="is on secp256k1"):
        verifier(ecdsa_public_pem=odd.public_pem)


def test_the_secret_is_not_in_the_text_of_the_keys() -> None:
    """A log line of the keys gives nothing away."""
    assert "secret of" not in repr(TokenKeys(hmac_secret=SECRET))


# The form of a token.


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "garbage",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "{}",
        "null",
        "\x00",
        "ä.ö.ü",
        "\ud800.a.b",
        "\N{KELVIN SIGN}.a.b",
        pytest.param("." * 10_000, id="dots"),
    ],
)
def test_what_is_no_token_is_invalid(token: str) -> None:
    """Any text may come in the place of a token."""
    assert INVALID is verifier().connection(token)
    assert INVALID is verifier().subscription(token)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda token: token + "=", id="padding"),
        pytest.param(lambda token: token + "\n", id="newline"),
        pytest.param(lambda token: " " + token, id="space"),
        pytest.param(lambda token: token + ".", id="dot"),
        pytest.param(lambda token: token[:-1], id="cut"),
        pytest.param(lambda token: token.replace(".", "=.", 1), id="padded header"),
        pytest.param(lambda token: "Bearer " + token, id="scheme"),
    ],
)
def test_a_valid_token_written_otherwise_is_invalid(change: Callable[[str], str]) -> None:
    """There is one way to write a token."""
    token = sign({"sub": "42"})

    assert ConnectionClaims("42") == verifier().connection(token)
    assert INVALID is verifier().connection(change(token))


def test_the_longest_token_verifies_and_one_character_more_is_invalid() -> None:
    """The bound is met exactly."""
    # Each 3 bytes are 4 characters; try paddings until the length is met exactly.
    tokens = [sign({"sub": "42", "pad": "x" * size}) for size in range(24_400, 24_530)]
    lengths = {len(token): token for token in tokens}
    longest = lengths.get(MAX_TOKEN_LENGTH) or lengths[MAX_TOKEN_LENGTH - 1]
    beyond = min(length for length in lengths if length > MAX_TOKEN_LENGTH)

    assert ConnectionClaims("42") == verifier().connection(longest)
    assert INVALID is verifier().connection(lengths[beyond])
    assert beyond - MAX_TOKEN_LENGTH <= 2


@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["arrays", "objects"])
def test_deep_nesting_is_invalid_wherever_it_stands(opening: bytes) -> None:
    """The parsers' limit ends in a refusal, in the header as in the claims."""
    depth = 3_500
    deep = opening * depth + b"0" + (b"]" if opening == b"[" else b"}") * depth

    assert INVALID is verifier().connection(sign(b'{"sub":"42"}', header=b'{"alg":"HS256","x":' + deep + b"}"))
    assert INVALID is verifier().connection(sign(deep))
    for name in (b"info", b"unknown", b"subs", b"channel", b"exp"):
        assert INVALID is verifier().connection(sign(b'{"sub":"42","' + name + b'":' + deep + b"}"))


def test_info_may_nest_as_deep_as_a_command_and_no_deeper() -> None:
    """Other clients have to read it."""
    assert isinstance(connection(b'{"info":' + b"[" * 128 + b"]" * 128 + b"}"), ConnectionClaims)
    assert INVALID is connection(b'{"info":' + b"[" * 129 + b"]" * 129 + b"}")
    assert INVALID is connection({"b64info": b64(b"[" * 129 + b"]" * 129)})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"[]",
        b'["sub"]',
        b'"42"',
        b"42",
        b"null",
        b"true",
        b"{",
        b'{"sub":"42"} {}',
        b"{'sub':'42'}",
        b'{"sub":"\xff"}',
        b'{"sub":"\\ud800"}',
        b'\xef\xbb\xbf{"sub":"42"}',
        b'{"info":NaN}',
        b'{"info":"\xff"}',
        '{"sub":"42"}'.encode("utf-16"),
        bytes(range(256)),
    ],
    ids=repr,
)
def test_a_signed_payload_that_is_no_object_is_invalid(payload: bytes) -> None:
    """A good signature does not make good JSON."""
    assert INVALID is connection(payload)
    assert INVALID is subscription(payload)


# Time.


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        pytest.param({"exp": NOW + 1}, None, id="exp ahead"),
        pytest.param({"exp": NOW}, EXPIRED, id="exp now"),
        pytest.param({"exp": NOW - 1}, EXPIRED, id="exp past"),
        pytest.param({"exp": NOW + 0.5}, None, id="exp half a second ahead"),
        pytest.param({"exp": 0}, EXPIRED, id="exp 0 is 1970"),
        pytest.param({"nbf": NOW}, None, id="nbf now"),
        pytest.param({"nbf": NOW - 1}, None, id="nbf past"),
        pytest.param({"nbf": NOW + 1}, EXPIRED, id="nbf ahead"),
        pytest.param({"nbf": NOW + 1, "exp": NOW + 2}, EXPIRED, id="nbf ahead, exp ahead"),
        pytest.param({"iat": NOW + 1000}, None, id="iat ahead is another clock's"),
        pytest.param({"expire_at": NOW - 1}, EXPIRED, id="expire_at past"),
        pytest.param({"expire_at": NOW - 1, "exp": NOW + 9}, EXPIRED, id="expire_at past, exp ahead"),
        pytest.param({"expire_at": 0, "exp": NOW - 1}, EXPIRED, id="exp is checked beside expire_at 0"),
        pytest.param({"expire_at": NOW + 9, "exp": NOW - 1}, EXPIRED, id="exp is checked beside expire_at"),
    ],
)
def test_a_token_is_expired_outside_its_time(claims: dict[str, Any], fault: TokenFault | None) -> None:
    """The end is exclusive, the beginning inclusive; both kinds of token agree."""
    results = (connection({"sub": "42"} | claims), subscription({"sub": "42", "channel": "room"} | claims))

    assert [fault] * 2 == [result if isinstance(result, TokenFault) else None for result in results]


@pytest.mark.parametrize(
    ("claims", "expires_at"),
    [
        pytest.param({}, None, id="never"),
        pytest.param({"exp": NOW + 60}, NOW + 60, id="exp"),
        pytest.param({"exp": NOW + 60, "expire_at": NOW + 5}, NOW + 5, id="expire_at before exp"),
        pytest.param({"exp": NOW + 60, "expire_at": NOW + 600}, NOW + 600, id="expire_at after exp"),
        pytest.param({"exp": NOW + 60, "expire_at": 0}, None, id="expire_at 0 is never"),
        pytest.param({"expire_at": NOW + 5}, NOW + 5, id="expire_at alone"),
    ],
)
def test_expire_at_overrides_when_what_was_opened_ends(claims: dict[str, Any], expires_at: float | None) -> None:
    """``exp`` bounds the token, ``expire_at`` what it opened."""
    for result in (connection(claims), subscription({"channel": "room"} | claims)):
        assert isinstance(result, ConnectionClaims | SubscriptionClaims)
        assert expires_at == result.expires_at


@pytest.mark.parametrize("claim", ["exp", "nbf", "expire_at"])
@pytest.mark.parametrize(
    "value",
    [
        *("true", '"1900000000"', '"x"', "null", "[]", "{}", "-1", "-1e300", "NaN", "Infinity", "1e400", "-1e400"),
        *("1e308", "9" * 400, "0x10", "01"),
    ],
)
def test_an_instant_that_is_no_instant_is_invalid(claim: str, value: str) -> None:
    """Never expired, which would send the client for another of these, and never eternal."""
    assert INVALID is connection(f'{{"sub":"42","{claim}":{value}}}'.encode())
    assert INVALID is subscription(f'{{"sub":"42","channel":"room","{claim}":{value}}}'.encode())


def test_the_clock_is_asked_at_every_token() -> None:
    """A token that was good runs out as time passes."""
    clock = ManualClock(wall=NOW)
    checked = TokenVerifier(TokenKeys(hmac_secret=SECRET), clock.wall)
    token = sign({"sub": "42", "exp": NOW + 10})
    first = checked.connection(token)
    clock.advance(10)

    assert ConnectionClaims("42", expires_at=NOW + 10) == first
    assert EXPIRED is checked.connection(token)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"sub": 42}, id="claims"),
        pytest.param({"iss": "other"}, id="issuer"),
        pytest.param({"aud": "other"}, id="audience"),
    ],
)
def test_what_is_wrong_and_expired_is_invalid(claims: dict[str, Any]) -> None:
    """A client must not be sent for another token like this one."""
    payload = {"exp": NOW - 1, "iss": "us", "aud": "here"} | claims

    assert INVALID is connection(payload, issuer="us", audience="here")


def test_a_token_expired_and_wrongly_signed_is_invalid() -> None:
    """Nothing a forger writes is believed, not even when it expired."""
    assert INVALID is verifier().connection(sign({"exp": NOW - 1}, secret=OTHER_SECRET))


# Parties.


@pytest.mark.parametrize(
    ("audience", "valid"),
    [
        pytest.param('"here"', True, id="string"),
        pytest.param('["there","here"]', True, id="list"),
        pytest.param('"there"', False, id="other"),
        pytest.param('["there"]', False, id="other list"),
        pytest.param("[]", False, id="empty list"),
        pytest.param('"her"', False, id="prefix"),
        pytest.param('"here and there"', False, id="string that contains it"),
        pytest.param('"HERE"', False, id="case"),
        pytest.param("null", False, id="null"),
        pytest.param("5", False, id="number"),
        pytest.param('{"here":1}', False, id="object"),
        pytest.param('["here",5]', False, id="list with a number"),
        pytest.param(None, False, id="missing"),
    ],
)
def test_the_audience_must_be_ours_when_one_is_configured(audience: str | None, valid: bool) -> None:  # noqa: FBT001 - a parameter of the cases
    """Names are compared whole, alone or in a list."""
    payload = b'{"sub":"42"}' if audience is None else f'{{"sub":"42","aud":{audience}}}'.encode()

    assert (ConnectionClaims("42") if valid else INVALID) == connection(payload, audience="here")


@pytest.mark.parametrize(
    ("issuer", "valid"),
    [('"us"', True), ('"them"', False), ('"us "', False), ('["us"]', False), ("null", False), (None, False)],
)
def test_the_issuer_must_be_ours_when_one_is_configured(issuer: str | None, valid: bool) -> None:  # noqa: FBT001 - a parameter of the cases
    """Names are compared whole."""
    payload = b'{"sub":"42"}' if issuer is None else f'{{"sub":"42","iss":{issuer}}}'.encode()

    assert (ConnectionClaims("42") if valid else INVALID) == connection(payload, issuer="us")


def test_audience_and_issuer_do_not_matter_when_none_is_configured() -> None:
    """What nobody asked for is not checked."""
    assert ConnectionClaims("42") == connection({"sub": "42", "aud": ["any"], "iss": "anybody"})


# Claims of a connection.


def test_a_connection_token_says_everything() -> None:
    """Every claim has its place, and ``subs`` says more than ``channels``."""
    claims = connection(
        {
            "sub": "42",
            "exp": NOW + 60,
            "jti": "ignored",
            "info": {"name": "Ann"},
            "meta": {"plan": "pro"},
            "channels": ["news:all", "room"],
            "subs": {
                "room": {
                    "info": {"role": "host"},
                    "data": [1],
                    "override": {
                        "presence": {"value": True},
                        "join_leave": {"value": False},
                        "force_recovery": {"value": True},
                        "force_positioning": {},
                        "unknown": {"value": True},
                    },
                },
                "#42": {"b64info": b64(b'"x"'), "b64data": b64(b"{}")},
                "plain": None,
            },
        }
    )
    overrides = Overrides(presence=True, join_leave=False, force_recovery=True, force_positioning=False)

    assert claims == ConnectionClaims(
        user="42",
        expires_at=NOW + 60,
        info=b'{"name": "Ann"}',
        channels=(
            ServerSubscription("news:all"),
            ServerSubscription("room", info=b'{"role": "host"}', data=b"[1]", overrides=overrides),
            ServerSubscription("#42", info=b'"x"', data=b"{}"),
            ServerSubscription("plain"),
        ),
        meta=b'{"plan": "pro"}',
    )


def test_a_token_without_anything_is_anonymous_and_never_expires() -> None:
    """All claims of a connection may be left out."""
    assert ConnectionClaims(user="") == connection(b"{}")


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param('"sub":42', id="sub number"),
        pytest.param('"sub":null', id="sub null"),
        pytest.param('"sub":["42"]', id="sub list"),
        pytest.param('"sub":true', id="sub bool"),
        pytest.param('"channel":"room"', id="channel"),
        pytest.param('"channel":""', id="channel empty"),
        pytest.param('"channel":null', id="channel null"),
        pytest.param('"channels":"room"', id="channels string"),
        pytest.param('"channels":[1]', id="channels number"),
        pytest.param('"channels":[null]', id="channels null inside"),
        pytest.param('"channels":[""]', id="channels empty name"),
        pytest.param('"channels":{"room":{}}', id="channels object"),
        pytest.param('"subs":["room"]', id="subs list"),
        pytest.param('"subs":{"room":true}', id="subs bool inside"),
        pytest.param('"subs":{"":{}}', id="subs empty name"),
        pytest.param('"subs":{"room":{"override":true}}', id="override bool"),
        pytest.param('"subs":{"room":{"override":{"presence":true}}}', id="override without value"),
        pytest.param('"subs":{"room":{"override":{"presence":{"value":1}}}}', id="override number"),
        pytest.param('"subs":{"room":{"b64info":"%%%"}}', id="subs b64info"),
        pytest.param('"b64info":5', id="b64info number"),
        pytest.param('"b64info":"%%%"', id="b64info no base64"),
        pytest.param('"b64info":"e30"', id="b64info without padding"),
        pytest.param('"b64info":"e30=\\n"', id="b64info with a newline"),
        pytest.param('"b64info":"//8="', id="b64info no json"),
        pytest.param('"b64info":"e30gMQ=="', id="b64info two values"),
    ],
)
def test_a_claim_of_the_wrong_kind_makes_a_connection_token_invalid(claims: str) -> None:
    """Nothing is guessed from a value of the wrong kind."""
    assert INVALID is connection(f"{{{claims}}}".encode())


def test_null_leaves_out_what_does_not_decide_over_rights() -> None:
    """Back ends that write null for nothing are understood."""
    nothing = dict.fromkeys(("info", "b64info", "channels", "subs", "meta"))
    room = dict.fromkeys(("info", "b64info", "data", "b64data", "override"))

    assert ConnectionClaims("42") == connection({"sub": "42"} | nothing)
    assert SubscriptionClaims("42", "room") == subscription({"sub": "42", "channel": "room"} | room)


@pytest.mark.parametrize(
    ("claims", "info"),
    [
        pytest.param(b'"info":{"a":\n\t1,\r\n"b":2}', {"a": 1, "b": 2}, id="line breaks"),
        pytest.param(b'"b64info":"' + b64(b'\n{"a":\n1}\r\n').encode() + b'"', {"a": 1}, id="line breaks in base64"),
        pytest.param(b'"info":1,"b64info":"' + b64(b"2").encode() + b'"', 2, id="base64 wins"),
        pytest.param(b'"info":1,"b64info":""', 1, id="empty base64 does not"),
        pytest.param(b'"info":"\\n\xc3\xa4"', "\nä", id="escapes stay"),
    ],
)
def test_info_stays_raw_json_that_fits_on_one_line(claims: bytes, info: object) -> None:
    """A line break inside would end a line of the protocol and forge the next."""
    result = connection(b"{" + claims + b"}")

    assert isinstance(result, ConnectionClaims)
    assert result.info is not None
    assert info == json.loads(result.info)
    assert b"\n" not in result.info
    assert b"\r" not in result.info


def test_big_numbers_in_info_are_not_rounded() -> None:
    """Raw JSON is handed on as it was signed."""
    result = connection(b'{"info":12345678901234567890123.0}')

    assert ConnectionClaims("", info=b"12345678901234567890123.0") == result


# Claims of a subscription.


def test_a_subscription_token_says_everything() -> None:
    """Every claim has its place."""
    claims = subscription(
        {
            "sub": "42",
            "channel": "$room",
            "client": "a-client-id",
            "info": {"role": "host"},
            "data": {"hello": 1},
            "exp": NOW + 60,
            "override": {"force_push_join_leave": {"value": True}},
        }
    )

    assert claims == SubscriptionClaims(
        user="42",
        channel="$room",
        client="a-client-id",
        info=b'{"role": "host"}',
        data=b'{"hello": 1}',
        expires_at=NOW + 60,
        overrides=Overrides(force_push_join_leave=True),
    )


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param('"sub":"42"', id="a connection token"),
        pytest.param('"sub":"42","channels":["room"]', id="a connection token with channels"),
        pytest.param('"sub":"42","channel":""', id="channel empty"),
        pytest.param('"sub":"42","channel":null', id="channel null"),
        pytest.param('"sub":"42","channel":5', id="channel number"),
        pytest.param('"sub":"42","channel":["room"]', id="channel list"),
        pytest.param('"sub":5,"channel":"room"', id="sub number"),
        pytest.param('"channel":"room","client":5', id="client number"),
        pytest.param('"channel":"room","client":null', id="client null"),
        pytest.param('"channel":"room","b64data":"%%%"', id="b64data no base64"),
        pytest.param('"channel":"room","override":[]', id="override list"),
    ],
)
def test_a_claim_of_the_wrong_kind_makes_a_subscription_token_invalid(claims: str) -> None:
    """Nothing is guessed, and no channel means no subscription."""
    assert INVALID is subscription(f"{{{claims}}}".encode())


def test_an_empty_client_fits_no_connection() -> None:
    """It stays a client to compare with, and does not come to mean any."""
    result = subscription({"channel": "room", "client": ""})

    assert SubscriptionClaims("", "room", client="") == result


# Issuing.


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_issued_tokens_verify_here_and_by_pyjwt(algorithm: str) -> None:
    """What the command line prints is an ordinary token."""
    token = issue(SECRET + b"!" * 40, {"sub": "42", "exp": int(NOW) + 60, "info": {"a": 1}}, algorithm=algorithm)
    options = {"verify_exp": False}

    assert isinstance(verifier(hmac_secret=SECRET + b"!" * 40).connection(token), ConnectionClaims)
    assert "42" == jwt.decode(token, SECRET + b"!" * 40, algorithms=[algorithm], options=options)["sub"]  # type: ignore[arg-type]  # the library has no type for its options
    assert INVALID is verifier(hmac_secret=OTHER_SECRET).connection(token)


def test_issue_signs_with_a_good_secret_and_hmac_alone() -> None:
    """No token is made that no verifier would take."""
    with pytest.raises(SettingsError, match="TOKEN_HMAC_SECRET"):
        issue(b"short", {"sub": "42"})
    for algorithm in ("none", "RS256", "ES256", "hs256"):
        with pytest.raises(ValueError, match=algorithm):
            issue(SECRET, {"sub": "42"}, algorithm=algorithm)


# Anything at all.

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
_CLAIM = st.sampled_from(
    [
        *("sub", "exp", "nbf", "iat", "aud", "iss", "expire_at", "info", "b64info", "meta"),
        *("channels", "subs", "channel", "client", "data", "b64data", "override"),
    ]
)


@CALM
@given(token=st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,40}(\.[A-Za-z0-9_-]{0,40}){0,4}", fullmatch=True))
def test_no_text_raises_or_verifies(token: str) -> None:
    """Nobody guesses a token."""
    assert INVALID is verifier().connection(token)
    assert INVALID is verifier().subscription(token)


@CALM
@given(payload=st.binary(max_size=200))
def test_no_signed_bytes_raise(payload: bytes) -> None:
    """Any bytes may be signed; the answer is a value."""
    for result in (connection(payload), subscription(payload)):
        assert isinstance(result, TokenFault | ConnectionClaims | SubscriptionClaims)


@CALM
@given(claims=st.dictionaries(_CLAIM, _JSON, max_size=8))
def test_no_signed_claims_raise_and_what_verifies_can_be_sent(claims: dict[str, Any]) -> None:
    """Known claims may hold any JSON; the answer is a value that fits the wire."""
    for result in (connection(claims), subscription(claims)):
        if not isinstance(result, TokenFault):
            result.user.encode()
            assert result.expires_at is None or result.expires_at > NOW
            assert result.info is None or b"\n" not in result.info
            json.loads(result.info or b"0")


@CALM
@given(header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "b64", "crit", "jku", "jwk", "x5u"]), _JSON))
def test_no_header_raises_and_none_but_the_right_algorithm_verifies(header: dict[str, Any]) -> None:
    """Known header names may hold any JSON."""
    result = verifier().connection(sign({"sub": "42"}, header=header))

    assert INVALID is result


@settings(CALM, max_examples=400)
@given(data=st.data())
def test_no_mutation_of_a_valid_token_verifies(data: st.DataObject, rsa_key: Pair, ec_keys: dict[str, Pair]) -> None:
    """A changed token is another token, in every family."""
    checked = verifier(
        hmac_secret=SECRET, rsa_public_pem=rsa_key.public_pem, ecdsa_public_pem=ec_keys["ES256"].public_pem
    )
    token = data.draw(st.sampled_from(_valid_tokens(rsa_key, ec_keys)), label="token")
    mutant = data.draw(_mutants(token), label="mutant")

    assert isinstance(checked.connection(token), ConnectionClaims)
    assert mutant == token or INVALID is checked.connection(mutant)
    assert INVALID is checked.subscription(mutant)


def test_no_other_last_character_verifies(rsa_key: Pair, ec_keys: dict[str, Pair]) -> None:
    """The last character of a signature has bits to spare, which must not be spare."""
    checked = verifier(
        hmac_secret=SECRET, rsa_public_pem=rsa_key.public_pem, ecdsa_public_pem=ec_keys["ES256"].public_pem
    )
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for token in _valid_tokens(rsa_key, ec_keys):
        others = [token[:-1] + character for character in alphabet if character != token[-1]]

        assert {INVALID} == {checked.connection(other) for other in others}


_SIGNED: dict[int, list[str]] = {}


def _valid_tokens(rsa_key: Pair, ec_keys: dict[str, Pair]) -> list[str]:
    """Return one token of each family, signed once, since ECDSA signs otherwise every time."""
    claims = {"sub": "42", "info": {"name": "Ann"}}
    return _SIGNED.setdefault(
        id(rsa_key), [sign(claims), rsa_key.sign("RS256", claims), ec_keys["ES256"].sign("ES256", claims)]
    )


@st.composite
def _mutants(draw: st.DrawFn, token: str) -> str:
    """Change, insert, remove, exchange or repeat characters, or exchange whole segments."""
    at = draw(st.integers(0, len(token) - 1))
    to = draw(st.integers(at, len(token)))
    piece = draw(st.text("ABCxyz019-_.=", min_size=1, max_size=3) | st.text(min_size=1, max_size=2))
    header, payload, signature = token.split(".")
    other = segment(json.dumps({"sub": draw(st.text(max_size=5))}).encode())
    return draw(
        st.sampled_from(
            [
                token[:at] + piece + token[at + 1 :],
                token[:at] + piece + token[at:],
                token[:at] + token[to:],
                token[:at] + token[at:to].swapcase() + token[to:],
                token[:to] + token[at:],
                f"{payload}.{header}.{signature}",
                f"{header}.{other}.{signature}",
                f"{NONE}.{payload}.{signature}",
                f"{header}.{payload}.{payload}",
            ]
        )
    )


@pytest.mark.parametrize(
    ("claims", "organization"),
    [
        pytest.param({}, None, id="left out"),
        pytest.param({"only_organization": "acme"}, "acme", id="one"),
        pytest.param({"only_organization": ""}, "", id="nobody's"),
        pytest.param({"organization": 42}, None, id="another claim, of the application"),
        pytest.param({"only_organization": None}, TokenFault.INVALID, id="null"),
        pytest.param({"only_organization": ["acme"]}, TokenFault.INVALID, id="a list"),
    ],
)
def test_connection_may_be_for_one_organization_alone(
    claims: dict[str, object], organization: str | TokenFault | None
) -> None:
    """What confines it may be left out, but not be nonsense."""
    verifier = TokenVerifier(TokenKeys(hmac_secret=SECRET), ManualClock().wall)
    found = verifier.connection(issue(SECRET, {"sub": "42", **claims}))

    assert organization == (found if isinstance(found, TokenFault) else found.organization)
