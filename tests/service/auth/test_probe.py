"""Probe tokens open a probe's own channel, and nothing else at all."""

from __future__ import annotations

from typing import Any

import pytest

from service.auth.probe import ProbeTokens, ProbingVerifier, is_probe
from service.auth.tokens import ConnectionClaims, SubscriptionClaims, TokenFault, TokenKeys, TokenVerifier, issue
from service.core.codes import Errors
from tests.service.auth.signing import SECRET, Pair
from tests.support.clock import ManualClock
from tests.support.ids import SequentialIds
from tests.support.surfaces import Surfaces

KEY = "what only operators know"
USER = "probe:00000000-0000-4000-8000-000000000001"


@pytest.fixture
def clock() -> ManualClock:
    """A clock for whoever signs and whoever verifies."""
    return ManualClock()


@pytest.fixture
def probe(clock: ManualClock) -> ProbeTokens:
    """What the admin API hands tokens out of."""
    return ProbeTokens(KEY, wall=clock.wall, ids=SequentialIds())


@pytest.fixture
def verifier(clock: ManualClock, probe: ProbeTokens) -> TokenVerifier:
    """What connections are checked with."""
    keys = TokenKeys(hmac_secret=SECRET, audience="app", issuer="us")
    return ProbingVerifier(keys, clock.wall, probe)


def signed_as_probe(probe: ProbeTokens, **claims: object) -> str:
    """Return a token with the right signature that no probe would be given."""
    return issue(probe._key, claims)


def test_valid_tokens_say_who_the_probe_is_and_nothing_more(
    clock: ManualClock, probe: ProbeTokens, verifier: TokenVerifier
) -> None:
    """They are accepted whatever audience and issuer the application's tokens must name."""
    tokens = probe.issue(60)

    assert USER == tokens.user == tokens.channel
    assert clock.wall() + 60 == tokens.expires_at
    assert ConnectionClaims(
        user=USER, expires_at=tokens.expires_at, namespaces=frozenset({"probe"})
    ) == verifier.connection(tokens.valid.connection)
    assert SubscriptionClaims(user=USER, channel=USER, expires_at=tokens.expires_at) == verifier.subscription(
        tokens.valid.subscription
    )


def test_valid_tokens_end_in_time(clock: ManualClock, probe: ProbeTokens, verifier: TokenVerifier) -> None:
    """Nobody keeps a probe's tokens for later."""
    tokens = probe.issue(60)
    clock.advance(60)

    assert TokenFault.EXPIRED is verifier.connection(tokens.valid.connection)
    assert TokenFault.EXPIRED is verifier.subscription(tokens.valid.subscription)


def test_valid_tokens_hold_for_all_of_the_time_asked_for(probe: ProbeTokens, clock: ManualClock) -> None:
    """An instant between two seconds does not shorten them."""
    clock.advance(0.6)

    assert clock.wall() + 1.2 <= probe.issue(1.2).expires_at


@pytest.mark.parametrize("kind", ["expired", "wrong_signature"])
def test_bad_tokens_are_refused_for_what_they_are(probe: ProbeTokens, verifier: TokenVerifier, kind: str) -> None:
    """The one is told to get another token, the other is not."""
    pair = getattr(probe.issue(60), kind)
    fault = TokenFault.EXPIRED if kind == "expired" else TokenFault.INVALID

    assert fault is verifier.connection(pair.connection)
    assert fault is verifier.subscription(pair.subscription)


def test_tokens_hold_after_a_restart(clock: ManualClock, probe: ProbeTokens) -> None:
    """The next process derives the same key from the same secret."""
    tokens = probe.issue(60)
    next_process = ProbeTokens(KEY, wall=clock.wall, ids=SequentialIds())

    assert isinstance(next_process.connection(tokens.valid.connection), ConnectionClaims)


def test_tokens_of_another_secret_are_refused(clock: ManualClock, probe: ProbeTokens) -> None:
    """A changed admin key ends all probes."""
    other = ProbeTokens(KEY + "!", wall=clock.wall, ids=SequentialIds())

    assert TokenFault.INVALID is probe.connection(other.issue(60).valid.connection)


def test_tokens_are_worth_nothing_to_the_application(clock: ManualClock, probe: ProbeTokens) -> None:
    """They are not signed with a key that anybody else verifies with, and not with the secret itself."""
    tokens = probe.issue(60)
    application = TokenVerifier(TokenKeys(hmac_secret=SECRET), clock.wall)
    with_the_secret = TokenVerifier(TokenKeys(hmac_secret=(KEY * 2).encode()), clock.wall)

    assert TokenFault.INVALID is application.connection(tokens.valid.connection)
    assert TokenFault.INVALID is with_the_secret.connection(tokens.valid.connection)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"sub": "42", "exp": 2e9}, id="a person"),
        pytest.param({"sub": "", "exp": 2e9}, id="nobody"),
        pytest.param({"sub": "probe:", "exp": 2e9}, id="a probe without a name"),
        pytest.param({"sub": USER + "\n", "exp": 2e9}, id="a line more"),
        pytest.param({"sub": USER}, id="for ever"),
    ],
)
def test_connection_token_is_refused_when_it_is_for(probe: ProbeTokens, claims: dict[str, Any]) -> None:
    """Not even the right signature opens a connection to anybody but a probe."""
    assert TokenFault.INVALID is probe.connection(signed_as_probe(probe, **claims))


def test_connection_token_cannot_bring_channels_or_namespaces(probe: ProbeTokens) -> None:
    """What else it says is not looked at."""
    token = signed_as_probe(
        probe, sub=USER, exp=2e9, channels=["chat:a"], subs={"b": {}}, info={"name": "x"}, namespaces=["chat"]
    )

    assert ConnectionClaims(user=USER, expires_at=2e9, namespaces=frozenset({"probe"})) == probe.connection(token)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"sub": USER, "channel": "chat:lobby", "exp": 2e9}, id="another namespace"),
        pytest.param({"sub": USER, "channel": USER[:-1] + "2", "exp": 2e9}, id="another probe's channel"),
        pytest.param({"sub": "42", "channel": "42", "exp": 2e9}, id="a person"),
        pytest.param({"sub": USER, "channel": USER}, id="for ever"),
    ],
)
def test_subscription_token_is_refused_when_it_is_for(probe: ProbeTokens, claims: dict[str, Any]) -> None:
    """Not even the right signature opens any channel but the probe's own."""
    assert TokenFault.INVALID is probe.subscription(signed_as_probe(probe, **claims))


def test_one_kind_of_token_is_not_the_other(probe: ProbeTokens) -> None:
    """As with the application's tokens."""
    tokens = probe.issue(60)

    assert TokenFault.INVALID is probe.connection(tokens.valid.subscription)
    assert TokenFault.INVALID is probe.subscription(tokens.valid.connection)


def test_application_tokens_are_judged_by_their_own_keys(verifier: TokenVerifier) -> None:
    """With probes allowed, nothing changes for everybody else."""
    claims = {"sub": "42", "aud": "app", "iss": "us"}
    expected = ConnectionClaims(user="42")

    assert expected == verifier.connection(issue(SECRET, claims))
    assert TokenFault.EXPIRED is verifier.connection(issue(SECRET, claims | {"exp": 1}))
    assert TokenFault.INVALID is verifier.connection(issue(SECRET, {"sub": "42"}))
    assert SubscriptionClaims(user="42", channel="a") == verifier.subscription(issue(SECRET, claims | {"channel": "a"}))


def test_probes_are_believed_where_only_public_keys_are(clock: ManualClock, probe: ProbeTokens, rsa_key: Pair) -> None:
    """The service has no secret of the application to sign with."""
    verifier = ProbingVerifier(TokenKeys(rsa_public_pem=rsa_key.public_pem), clock.wall, probe)
    token = issue(SECRET, {"sub": "42"})

    assert isinstance(verifier.connection(probe.issue(60).valid.connection), ConnectionClaims)
    assert TokenFault.INVALID is verifier.connection(token)


def test_tokens_do_not_show_in_a_repr(probe: ProbeTokens) -> None:
    """Nor in a traceback, then."""
    tokens = probe.issue(60)

    assert tokens.valid.connection not in repr(tokens)
    assert tokens.valid.subscription not in repr(tokens)


@pytest.mark.parametrize(("user", "expected"), [(USER, True), ("probe", False), ("42", False), ("", False)])
def test_is_probe_goes_by_the_reserved_prefix(user: str, *, expected: bool) -> None:
    """Whatever stands behind it."""
    assert expected is is_probe(user)


def test_probe_enters_its_channel_and_no_other() -> None:
    """From connect to publication, with the tokens as the admin API hands them out."""
    surfaces = Surfaces()
    tokens = surfaces.probe.issue(60)
    stranger = surfaces.probe.issue(60)
    client = surfaces.world.client()
    client.do("connect", token=tokens.valid.connection)

    client.refused(Errors.PERMISSION_DENIED, "subscribe", channel=tokens.channel)
    for channel in ("chat:lobby", "lobby", "news:today", "plain:x", f"#{tokens.user}"):
        message = client.ask("subscribe", channel=channel)
        client.take_in()
        assert "error" in client.inbox.popleft(), (channel, message)
    client.refused(Errors.PERMISSION_DENIED, "publish", channel="plain:x", data={})
    client.subscribe(tokens.channel, token=tokens.valid.subscription)
    client.do("publish", channel=tokens.channel, data={"n": 1})

    assert {"n": 1} == client.expect_push("pub", tokens.channel)["data"]
    client.refused(Errors.PERMISSION_DENIED, "publish", channel=stranger.channel, data={})
    surfaces.world.assert_sound()
