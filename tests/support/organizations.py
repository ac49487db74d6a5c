"""The tables of organizations in memory, which fail when and how a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from typing_extensions import override

from service.core.organizations import ApiKeyRecord, MemberRecord, Organization, Role
from service.errors import DatabaseError, OutcomeUnknown, Overtaken, RowsRefused
from service.realtime.organizations import Organizations, OrganizationTables
from tests.support.backstage import Backstage

__all__ = ("FakeOrganizationTables", "OrganizationsStage")


class FakeOrganizationTables(OrganizationTables):
    """Behaves as the real ones do; one change at a time.

    Attributes:
        token: The one that lets changes through.
        organizations: By id.
        members: By organization, then by user.
        keys: By id.
        reads: What was read: organizations by id, ``*`` for the keys.
        failures: Raised by the next calls, one each; None lets a call through.
        gate: Closed by a test: every call waits there before it does anything.
    """

    def __init__(self) -> None:
        self.token = 0
        self.organizations: dict[str, Organization] = {}
        self.members: dict[str, dict[str, MemberRecord]] = {}
        self.keys: dict[str, ApiKeyRecord] = {}
        self.reads: list[str] = []
        self.failures: list[BaseException | None] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @override
    async def read(self, organization: str, *, settled: bool = False) -> tuple[Organization, list[MemberRecord]] | None:
        self.reads.append(organization)
        late = await self._begin()
        found = self.organizations.get(organization)
        kept = None if found is None else (found, list(self.members[organization].values()))
        await self._end(late)
        return kept

    @override
    async def read_keys(self, *, settled: bool = False) -> list[ApiKeyRecord]:
        self.reads.append("*")
        late = await self._begin()
        kept = list(self.keys.values())
        await self._end(late)
        return kept

    @override
    async def page(self, *, after: str, limit: int, prefix: str = "") -> list[Organization]:
        late = await self._begin()
        await self._end(late)
        wanted = sorted(name for name in self.organizations if name > after and name.startswith(prefix))
        return [self.organizations[name] for name in wanted[:limit]]

    @override
    async def create(self, organization: Organization, *, token: int) -> None:
        late = await self._begin(token)
        if organization.id in self.organizations:
            raise RowsRefused("there already")
        self.organizations[organization.id] = organization
        self.members[organization.id] = {}
        await self._end(late)

    @override
    async def change(self, organization: Organization, *, token: int) -> bool:
        late = await self._begin(token)
        known = self.organizations.get(organization.id)
        if known is not None:
            self.organizations[organization.id] = replace(organization, created_at=known.created_at)
        await self._end(late)
        return known is not None

    @override
    async def delete(self, organization: str, *, token: int) -> bool:
        late = await self._begin(token)
        known = self.organizations.pop(organization, None)
        self.members.pop(organization, None)
        self.keys = {name: key for name, key in self.keys.items() if key.organization != organization}
        await self._end(late)
        return known is not None

    @override
    async def add_member(self, organization: str, member: MemberRecord, *, token: int) -> None:
        late = await self._begin(token)
        if organization not in self.organizations or member.user in self.members[organization]:
            raise RowsRefused("there already, or for nobody")
        self.members[organization][member.user] = member
        await self._end(late)

    @override
    async def change_member(self, organization: str, member: MemberRecord, *, token: int) -> bool:
        late = await self._begin(token)
        known = self.members.get(organization, {}).get(member.user)
        if known is not None:
            self.members[organization][member.user] = replace(known, role=member.role)
        await self._end(late)
        return known is not None

    @override
    async def remove_member(self, organization: str, user: str, *, token: int) -> bool:
        late = await self._begin(token)
        known = self.members.get(organization, {}).pop(user, None)
        await self._end(late)
        return known is not None

    @override
    async def add_key(self, key: ApiKeyRecord, *, token: int) -> None:
        late = await self._begin(token)
        if key.organization not in self.organizations or key.id in self.keys:
            raise RowsRefused("there already, or for nobody")
        self.keys[key.id] = key
        await self._end(late)

    @override
    async def revoke_key(self, key: str, at: float, *, token: int) -> bool:
        late = await self._begin(token)
        known = self.keys.get(key)
        if known is not None:
            self.keys[key] = replace(known, revoked_at=at)
        await self._end(late)
        return known is not None

    # When something goes wrong.

    async def _begin(self, token: int | None = None) -> BaseException | None:
        # On the way to the database, and below on the way back, others have their turn.
        await asyncio.sleep(0)
        await self.gate.wait()
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, DatabaseError) and not isinstance(failure, OutcomeUnknown):
            raise failure
        if token not in (None, self.token):
            raise Overtaken
        # What ends a call in the middle ends it after its commit.
        return failure

    async def _end(self, late: BaseException | None) -> None:
        await asyncio.sleep(0)
        if late is not None:
            raise late


class OrganizationsStage(Backstage):
    """A stage with organizations, whose tables are a fake. For a running loop.

    Attributes:
        tables: What a database would hold.
        organizations: What is known of it in memory.
        pauses: How often a read was put off; each lets everybody else go on first.
        serves: Whether this instance may.
    """

    def __init__(self, *, channels_per_client: int = 128) -> None:
        super().__init__(channels_per_client=channels_per_client)
        self.tables = FakeOrganizationTables()
        self.pauses = 0
        self.serves = True
        self.organizations = Organizations(
            self.tables,
            tasks=self.background,
            clock=self.clock,
            token=lambda: 0,
            observer=self.observer,
            may_serve=lambda: self.serves,
            pause=self._pause,
        )
        self.context = replace(self.context, organizations=self.organizations, may_serve=lambda: self.serves)
        self.hub.watch(self.organizations)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OrganizationsStage]:
        """Let work go on in the background; what still runs at the end is cancelled."""
        async with asyncio.TaskGroup() as group:
            self.background.use(group)
            yield self
            await self.background.end(patience_seconds=0.0)

    async def idle(self) -> None:
        """Let everything in the background get as far as it can."""
        for _ in range(20):
            await asyncio.sleep(0)
        self.settle()

    async def made(self, organization: str = "acme", /, **members: str) -> None:
        """Make an organization with members by user, named with their roles."""
        await self.organizations.create(Organization(organization))
        for user, role in members.items():
            await self.organizations.add_member(organization, user, Role(role))

    async def _pause(self, seconds: float) -> None:
        assert seconds > 0
        self.pauses += 1
        await asyncio.sleep(0)
