from __future__ import annotations

import re

import pytest

from service.core.organizations import ID_PATTERN, USER_PATTERN, ApiKeyRecord, Role, Scope, is_id, is_user


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        *((text, True) for text in ("a", "0", "a-", "a-b", "a" * 63, "0" * 63)),
        *((text, False) for text in ("", "-", "-a", "A", "a_b", "a.b", "a:b", "a b", "ä", "a\n", "\na", "a" * 64, "٣")),
    ],
)
def test_id_is_part_of_channel_names(text: str, *, fine: bool) -> None:
    """Small letters, digits and dashes, a letter or digit first."""
    assert fine is is_id(text)
    assert fine <= (re.search(ID_PATTERN, text) is not None)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        *((text, True) for text in ("a", "a b", "auth0|42", "a@b.c", "ö", "🚀", "...", "a" * 255, "a:b", "#", "42,43")),
        *((text, False) for text in ("", "a/b", "a\n", "\x00", "\x7f", ".", "..", "a" * 256)),
    ],
)
def test_user_is_part_of_urls(text: str, *, fine: bool) -> None:
    """Anything but what would get lost there."""
    assert fine is is_user(text)
    assert fine <= (re.search(USER_PATTERN, text) is not None)


def test_only_viewers_do_not_publish() -> None:
    """What the others may do besides is for the application."""
    assert [Role.OWNER, Role.ADMIN, Role.MEMBER] == [role for role in Role if role.may_publish]


def test_key_is_good_until_it_is_revoked_or_runs_out() -> None:
    """At the instant itself it is no longer."""
    key = ApiKeyRecord("k", "acme", "", b"", frozenset(Scope), expires_at=10.0)

    assert [True, False] == [key.is_good(9.999), key.is_good(10.0)]
    assert not ApiKeyRecord("k", "acme", "", b"", frozenset(Scope), revoked_at=1.0).is_good(0.0)
