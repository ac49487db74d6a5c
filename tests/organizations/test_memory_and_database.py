"""What is known in memory is what a real database holds, whatever goes wrong between the two."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from service.core.organizations import ApiKeyRecord, Organization, Role, Scope
from service.db.database import Database
from service.db.organizations import OrganizationTables
from service.errors import DatabaseError, DatabaseUnavailable, OutcomeUnknown
from service.realtime.instance import Background
from service.realtime.organizations import Organizations
from tests.support.backstage import Recorder

STEPS = 60


class Flaky:
    """Tables whose calls fail now and then, before they reach the database or after it has committed."""

    def __init__(self, tables: OrganizationTables, chance: random.Random) -> None:
        self._tables = tables
        self._chance = chance
        self.is_quiet = False

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._tables, name)

        async def attempt(*arguments: object, **options: object) -> Any:  # noqa: ANN401 - whatever the call returns
            luck = 1.0 if self.is_quiet else self._chance.random()
            if luck < 0.1:
                raise DatabaseUnavailable("made up")
            result = await call(*arguments, **options)
            if luck < 0.25:
                raise OutcomeUnknown("made up")
            return result

        return attempt


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_memory_is_what_the_database_holds(database_url: str, seed: int) -> None:
    """After any changes, several at once, of which some fail and some may have been committed."""
    chance, observer = random.Random(seed), Recorder()  # noqa: S311 - to repeat a failure
    database = Database(database_url)
    tables = OrganizationTables(database)
    flaky, background = Flaky(tables, chance), Background(observer.failed)
    organizations = Organizations(flaky, tasks=background, observer=observer, pause=lambda _: asyncio.sleep(0))  # type: ignore[arg-type]  # a stand-in that fails now and then
    try:
        async with asyncio.TaskGroup() as group:
            background.use(group)
            for _ in range(STEPS // 3):
                async with asyncio.TaskGroup() as steps:
                    for _ in range(3):
                        steps.create_task(_quietly(_step(organizations, chance)))
            flaky.is_quiet = True
            await _assert_same(organizations, tables)
            await background.end(patience_seconds=5.0)
    finally:
        await database.close()

    assert [] == observer.failures


def _step(organizations: Organizations, chance: random.Random) -> Awaitable[object]:
    name, user, role = chance.choice(["a", "b"]), chance.choice(["1", "2", "3"]), chance.choice(list(Role))
    key = ApiKeyRecord(f"{name}{user}", name, "", b"x" * 32, frozenset({Scope.PUBLISH}))
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: organizations.create(Organization(name)),
        lambda: organizations.create(Organization(name)),
        lambda: organizations.change(name, max_channels=chance.randrange(9)),
        lambda: organizations.delete(name),
        lambda: organizations.add_member(name, user, role),
        lambda: organizations.add_member(name, user, role),
        lambda: organizations.change_member(name, user, role),
        lambda: organizations.remove_member(name, user),
        lambda: organizations.add_key(key),
        lambda: organizations.revoke_key(name, key.id),
    ]
    return chance.choice(steps)()


async def _quietly(work: Awaitable[object]) -> None:
    with suppress(DatabaseError):
        await work


async def _assert_same(organizations: Organizations, tables: OrganizationTables) -> None:
    keys = sorted(await tables.read_keys(settled=True), key=lambda key: key.id)
    for name in ("a", "b"):
        kept = await tables.read(name, settled=True)
        await organizations.load(name)
        assert (kept[0] if kept else None) == organizations.get(name)
        members = sorted(kept[1], key=lambda member: member.user) if kept else []
        assert members == organizations.members(name, after="", limit=9)
        assert [key for key in keys if key.organization == name] == await organizations.keys(name)
