"""What the tables of organizations have to do, whatever they are kept in.

A test module of an implementation has a class that inherits `OrganizationTablesSuite` and
overrides the fixture `tables` with empty ones, whose fencing token is 0.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from service.core.organizations import ApiKeyRecord, MemberRecord, Organization, Role, Scope
from service.errors import Overtaken, RowsRefused
from service.realtime.organizations import OrganizationTables

__all__ = ("ACME", "KEY", "OrganizationTablesSuite")

ACME = Organization("acme", "Acme, Inc. 🚀", 10, 600, 5, created_at=1_800_000_000.123, updated_at=1_800_000_001.456)
ADA = MemberRecord("Ada|42", Role.OWNER, 1_800_000_002.789)
KEY = ApiKeyRecord(
    "abcdef123456",
    "acme",
    "a key",
    b"\x00\xff" * 16,
    frozenset({Scope.PUBLISH, Scope.MEMBERS_READ}),
    60,
    1_800_000_003.5,
)


class OrganizationTablesSuite:
    """The suite."""

    @pytest.fixture
    def tables(self) -> OrganizationTables:
        """Empty tables; to be overridden."""
        raise NotImplementedError

    async def test_what_was_never_made_is_not_there(self, tables: OrganizationTables) -> None:
        """Nothing is read, changed or removed, and nobody is told of an error."""
        assert await tables.read("acme") is None
        assert await tables.read("acme", settled=True) is None
        assert [] == await tables.page(after="", limit=10)
        assert [] == await tables.read_keys()
        assert not await tables.change(ACME, token=0)
        assert not await tables.delete("acme", token=0)
        assert not await tables.change_member("acme", ADA, token=0)
        assert not await tables.remove_member("acme", "42", token=0)
        assert not await tables.revoke_key("abc", 1.0, token=0)

    async def test_everything_is_read_back_as_it_was_written(self, tables: OrganizationTables) -> None:
        """Names, quotas, roles, scopes, digests and instants to the millisecond."""
        await tables.create(ACME, token=0)
        await tables.add_member("acme", ADA, token=0)
        await tables.add_key(KEY, token=0)
        await tables.add_key(replace(KEY, id="other", expires_at=1_900_000_000.25, scopes=frozenset()), token=0)

        assert (ACME, [ADA]) == _plain(await tables.read("acme"))
        assert (ACME, [ADA]) == _plain(await tables.read("acme", settled=True))
        keys = {key.id: key for key in await tables.read_keys()}
        assert {
            KEY.id: KEY,
            "other": replace(KEY, id="other", expires_at=1_900_000_000.25, scopes=frozenset()),
        } == keys
        assert keys == {key.id: key for key in await tables.read_keys(settled=True)}

    async def test_change_writes_all_but_when_it_was_made(self, tables: OrganizationTables) -> None:
        """Name and quotas are those handed in, and other organizations stay."""
        await tables.create(ACME, token=0)
        await tables.create(replace(ACME, id="other"), token=0)
        changed = Organization("acme", "New", 0, 1, 2, created_at=5.0, updated_at=1_800_000_099.0)

        assert await tables.change(changed, token=0)
        assert (replace(changed, created_at=ACME.created_at), []) == _plain(await tables.read("acme"))
        assert (replace(ACME, id="other"), []) == _plain(await tables.read("other"))

    async def test_member_changes_role_and_goes(self, tables: OrganizationTables) -> None:
        """Only the one that is named, and only where it is named."""
        for name in ("acme", "other"):
            await tables.create(replace(ACME, id=name), token=0)
            await tables.add_member(name, ADA, token=0)
        bob = MemberRecord("bob", Role.VIEWER, 1_800_000_003.0)
        await tables.add_member("acme", bob, token=0)

        assert await tables.change_member("acme", replace(ADA, role=Role.VIEWER), token=0)
        assert (ACME, [replace(ADA, role=Role.VIEWER), bob]) == _plain(await tables.read("acme"))
        assert await tables.remove_member("acme", ADA.user, token=0)
        assert (ACME, [bob]) == _plain(await tables.read("acme"))
        assert (replace(ACME, id="other"), [ADA]) == _plain(await tables.read("other"))

    async def test_what_is_there_already_is_refused(self, tables: OrganizationTables) -> None:
        """Nothing of it is written, and what is there stays."""
        await tables.create(ACME, token=0)
        await tables.add_member("acme", ADA, token=0)
        await tables.add_key(KEY, token=0)

        with pytest.raises(RowsRefused):
            await tables.create(replace(ACME, name="again"), token=0)
        with pytest.raises(RowsRefused):
            await tables.add_member("acme", replace(ADA, role=Role.VIEWER), token=0)
        with pytest.raises(RowsRefused):
            await tables.add_key(replace(KEY, name="again"), token=0)
        assert (ACME, [ADA]) == _plain(await tables.read("acme"))
        assert [KEY] == await tables.read_keys()

    async def test_members_and_keys_of_nobody_are_refused(self, tables: OrganizationTables) -> None:
        """They belong to an organization that is there."""
        with pytest.raises(RowsRefused):
            await tables.add_member("ghost", ADA, token=0)
        with pytest.raises(RowsRefused):
            await tables.add_key(KEY, token=0)

    async def test_revoked_key_stays_with_the_time(self, tables: OrganizationTables) -> None:
        """People still see it; nothing else of it changes."""
        await tables.create(ACME, token=0)
        await tables.add_key(KEY, token=0)

        assert await tables.revoke_key(KEY.id, 1_800_000_010.5, token=0)
        assert [replace(KEY, revoked_at=1_800_000_010.5)] == await tables.read_keys()

    async def test_delete_takes_members_and_keys_along(self, tables: OrganizationTables) -> None:
        """Of this organization alone."""
        for name in ("acme", "other"):
            await tables.create(replace(ACME, id=name), token=0)
            await tables.add_member(name, ADA, token=0)
            await tables.add_key(replace(KEY, id=f"key-{name}", organization=name), token=0)

        assert await tables.delete("acme", token=0)
        assert await tables.read("acme") is None
        assert ["key-other"] == [key.id for key in await tables.read_keys()]
        await tables.create(ACME, token=0)
        assert (ACME, []) == _plain(await tables.read("acme"))
        assert (replace(ACME, id="other"), [ADA]) == _plain(await tables.read("other"))

    async def test_page_goes_by_id(self, tables: OrganizationTables) -> None:
        """From behind a name, at most so many, with a beginning that they share."""
        names = ["a", "a-1", "a0", "ab", "b", "z9"]
        for name in reversed(names):
            await tables.create(replace(ACME, id=name), token=0)

        async def page(after: str, limit: int, prefix: str = "") -> list[str]:
            return [item.id for item in await tables.page(after=after, limit=limit, prefix=prefix)]

        assert names == await page("", 100)
        assert ["a", "a-1"] == await page("", 2)
        assert ["a0", "ab", "b"] == await page("a-1", 3)
        assert [] == await page("z9", 3)
        assert ["a0"] == await page("a-1", 1, "a")
        assert ["a-1"] == await page("", 9, "a-")
        assert [] == await page("", 9, "%")

    async def test_overtaken_instance_changes_nothing(self, tables: OrganizationTables) -> None:
        """With another token than the one in the table every change is refused, and reading goes on."""
        await tables.create(ACME, token=0)
        await tables.add_member("acme", ADA, token=0)
        await tables.add_key(KEY, token=0)
        changes: list[Callable[[], Awaitable[object]]] = [
            lambda: tables.create(replace(ACME, id="new"), token=7),
            lambda: tables.change(replace(ACME, name="new"), token=7),
            lambda: tables.delete("acme", token=7),
            lambda: tables.add_member("acme", replace(ADA, user="new"), token=7),
            lambda: tables.change_member("acme", replace(ADA, role=Role.VIEWER), token=7),
            lambda: tables.remove_member("acme", ADA.user, token=7),
            lambda: tables.add_key(replace(KEY, id="new"), token=7),
            lambda: tables.revoke_key(KEY.id, 1.0, token=7),
        ]

        for change in changes:
            with pytest.raises(Overtaken):
                await change()
        assert (ACME, [ADA]) == _plain(await tables.read("acme"))
        assert [ACME] == await tables.page(after="", limit=10)
        assert [KEY] == await tables.read_keys()


def _plain(
    found: tuple[Organization, Sequence[MemberRecord]] | None,
) -> tuple[Organization, list[MemberRecord]] | None:
    """Return what was read with members in order."""
    return None if found is None else (found[0], sorted(found[1], key=lambda member: member.user))
