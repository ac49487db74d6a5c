from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.auth.api_keys import OPERATOR, ApiKey, Caller, digest_of, organization_key
from service.core.codes import Errors
from service.core.organizations import ApiKeyRecord, Scope
from service.errors import DatabaseUnavailable
from service.realtime.callers import Callers, Stranger
from tests.support.organizations import OrganizationsStage

KEY = "a key of thirty-two characters!!"
SECRET = "s" * 43
PRESENTED = organization_key("k1", SECRET)


@pytest.fixture
async def stage() -> AsyncIterator[OrganizationsStage]:
    """An instance with one organization, which has one key."""
    stage = OrganizationsStage()
    async with stage.running():
        await stage.made()
        record = ApiKeyRecord("k1", "acme", "", digest_of(SECRET), frozenset({Scope.PUBLISH}), per_minute=1)
        await stage.organizations.add_key(record)
        yield stage


async def test_key_says_who_it_is(stage: OrganizationsStage) -> None:
    """In either header, but in one alone, and never in the URL."""
    callers = Callers(ApiKey(KEY), stage.organizations)

    assert OPERATOR is await callers.identify([KEY])
    assert OPERATOR is await callers.identify([], [f"apikey {KEY}"])
    assert Caller("acme", frozenset({Scope.PUBLISH}), "k1") == await callers.identify([PRESENTED])
    for keys, authorizations, in_url in (
        ([], [], False),
        ([KEY, PRESENTED], [], False),
        ([KEY], [f"apikey {PRESENTED}"], False),
        ([PRESENTED], [], True),
        (["wrong"], [], False),
        ([organization_key("k1", "t" * 43)], [], False),
    ):
        found = await callers.identify(keys, authorizations, in_url=in_url)
        assert isinstance(found, Stranger)
        assert (Errors.UNAUTHORIZED, 0) == (found.error, found.retry_after)


async def test_good_key_may_have_to_wait(stage: OrganizationsStage) -> None:
    """For its minute to pass, or for the database."""
    callers = Callers(ApiKey(KEY), stage.organizations)
    await callers.identify([PRESENTED])

    assert Stranger(Errors.TOO_MANY_REQUESTS, "this key has used up its minute", 60) == await callers.identify(
        [PRESENTED]
    )
    stage.organizations.reset()
    stage.tables.failures = [DatabaseUnavailable("down")]
    found = await callers.identify([PRESENTED])
    assert isinstance(found, Stranger)
    assert (Errors.INTERNAL, 1) == (found.error, found.retry_after)


async def test_without_an_operators_key_organizations_have_theirs(stage: OrganizationsStage) -> None:
    """And an empty key is nobody's."""
    callers = Callers(ApiKey(""), stage.organizations)

    assert isinstance(await callers.identify([""]), Stranger)
    assert isinstance(await callers.identify([PRESENTED]), Caller)
