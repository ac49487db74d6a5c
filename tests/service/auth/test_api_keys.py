from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth import api_keys
from service.auth.api_keys import (
    OPERATOR,
    ApiKey,
    ApiKeyFault,
    Caller,
    digest_of,
    last_four,
    organization_key,
    parse_organization_key,
)
from service.core.organizations import Scope

KEY = "a key of thirty-two characters!!"


@pytest.mark.parametrize(
    ("x_api_key", "authorization", "fault"),
    [
        pytest.param([KEY], [], None, id="X-API-Key"),
        pytest.param([], [f"apikey {KEY}"], None, id="Authorization"),
        pytest.param([], [f"ApiKey  {KEY} "], None, id="scheme in any case"),
        pytest.param([KEY], ["Bearer abc"], None, id="another scheme beside it"),
        pytest.param([], [], ApiKeyFault.MISSING, id="none"),
        pytest.param([""], [], ApiKeyFault.MISSING, id="empty"),
        pytest.param([], ["apikey"], ApiKeyFault.MISSING, id="scheme alone"),
        pytest.param([], ["apikey "], ApiKeyFault.MISSING, id="scheme and a space"),
        pytest.param([], [KEY], ApiKeyFault.MISSING, id="no scheme"),
        pytest.param([], [f"Bearer {KEY}"], ApiKeyFault.MISSING, id="bearer"),
        pytest.param([], [f"apikey{KEY}"], ApiKeyFault.MISSING, id="scheme without a space"),
        pytest.param([KEY, KEY], [], ApiKeyFault.AMBIGUOUS, id="twice"),
        pytest.param([KEY], [f"apikey {KEY}"], ApiKeyFault.AMBIGUOUS, id="in both"),
        pytest.param(["wrong"], [f"apikey {KEY}"], ApiKeyFault.AMBIGUOUS, id="a wrong and a right one"),
        pytest.param(["wrong"], [], ApiKeyFault.WRONG, id="wrong"),
        pytest.param([KEY[:-1]], [], ApiKeyFault.WRONG, id="cut"),
        pytest.param([KEY + "!"], [], ApiKeyFault.WRONG, id="longer"),
        pytest.param([KEY.upper()], [], ApiKeyFault.WRONG, id="case"),
        pytest.param([f" {KEY}"], [], ApiKeyFault.WRONG, id="space"),
        pytest.param([f"{KEY},{KEY}"], [], ApiKeyFault.WRONG, id="joined by a proxy"),
        pytest.param(["schlüssel"], [], ApiKeyFault.WRONG, id="not ASCII"),
        pytest.param(["\ud800"], [], ApiKeyFault.WRONG, id="no text at all"),
    ],
)
def test_check(x_api_key: list[str], authorization: list[str], fault: ApiKeyFault | None) -> None:
    """Exactly one key, the right one, in a header."""
    assert fault is ApiKey(KEY).check(x_api_key, authorization)


@pytest.mark.parametrize("x_api_key", [[], [KEY], ["wrong"]])
def test_a_key_in_the_url_is_refused_even_beside_a_right_one(x_api_key: list[str]) -> None:
    """Whoever put it there learns of it at the first request, with the reason."""
    fault = ApiKey(KEY).check(x_api_key, in_url=True)

    assert ApiKeyFault.IN_URL is fault
    assert "URL" in fault.value


@pytest.mark.parametrize("presented", ["", " ", "None", KEY])
def test_no_key_is_right_when_none_is_configured(presented: str) -> None:
    """Forgetting the setting closes the door rather than opening it."""
    assert not ApiKey("").matches(presented)
    assert ApiKey("").check([presented]) is not None


def test_the_key_is_not_in_the_text_of_the_object() -> None:
    """A log line gives nothing away."""
    assert "thirty" not in repr(ApiKey(KEY))


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary comparison would tell how many leading characters are right."""
    compared: list[tuple[bytes, bytes]] = []

    def spy(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return hmac.compare_digest(left, right)

    monkeypatch.setattr(api_keys, "compare_digest", spy)
    ApiKey(KEY).matches("wrong")

    assert [(KEY.encode(), b"wrong")] == compared


@given(presented=st.text(st.characters(codec=None), max_size=40))
def test_no_text_raises_or_matches(presented: str) -> None:
    """A header may hold anything."""
    assert (presented == KEY) is ApiKey(KEY).matches(presented)


# Keys of organizations.


@given(st.from_regex(r"[0-9a-f]{1,12}", fullmatch=True), st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True))
def test_key_of_an_organization_is_taken_apart_again(key_id: str, secret: str) -> None:
    """With whatever a random secret holds, underscores too."""
    key = organization_key(key_id, secret)

    assert (key_id, digest_of(secret)) == parse_organization_key(key)
    assert key[-4:] == last_four(digest_of(secret))
    assert secret == key.split("_", 2)[2][:-4]
    assert parse_organization_key(key[:-1]) is None


@given(st.text())
def test_what_is_no_key_of_an_organization_is_seen_as_none(text: str) -> None:
    """Whatever it is."""
    assert parse_organization_key(text) is None
    assert parse_organization_key(f"sw_{text}") is None


@pytest.mark.parametrize(
    ("caller", "scope", "organization", "allowed"),
    [
        pytest.param(OPERATOR, None, None, True, id="operator"),
        pytest.param(OPERATOR, Scope.TOKENS, "acme", True, id="operator, anywhere"),
        pytest.param(Caller("acme", frozenset(Scope)), None, None, False, id="what is the operator's alone"),
        pytest.param(Caller("acme", frozenset(Scope)), Scope.TOKENS, None, True, id="in its scopes"),
        pytest.param(Caller("acme", frozenset(Scope)), Scope.TOKENS, "acme", True, id="its own"),
        pytest.param(Caller("acme", frozenset(Scope)), Scope.TOKENS, "other", False, id="another"),
        pytest.param(Caller("acme", frozenset({Scope.PUBLISH})), Scope.TOKENS, "acme", False, id="another scope"),
        pytest.param(Caller("acme", frozenset()), None, "acme", False, id="no scopes"),
    ],
)
def test_caller_may_do_what_its_scopes_say(
    caller: Caller, scope: Scope | None, organization: str | None, *, allowed: bool
) -> None:
    """With its own organization."""
    assert allowed is caller.may(scope, organization)


def test_caller_reaches_what_is_its_own() -> None:
    """What belongs to nobody, or to no organization, is not."""
    acme = Caller("acme", frozenset(Scope))

    assert [True, False, False, False] == [acme.reaches(name) for name in ("acme", "other", "", None)]
    assert all(OPERATOR.reaches(name) for name in ("acme", "", None))
