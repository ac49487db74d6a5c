"""The tables of organizations, their members and their keys, on either database.

Whoever writes compares the fencing token in the same statement, as the streams do: an
instance that was overtaken changes nothing more, and a write that hangs holds no lock but its
own statement's. On Postgres that is one statement that commits by itself, on SQLite a
transaction that takes the writer's place when it begins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from advanced_alchemy.exceptions import AdvancedAlchemyError
from advanced_alchemy.filters import LimitOffset, OrderBy
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy import (
    CTE,
    ColumnElement,
    Delete,
    FromClause,
    Subquery,
    Update,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from service.core.organizations import ApiKeyRecord, MemberRecord, Organization, Role, Scope
from service.db.database import Database
from service.db.models import ApiKeyRow, FenceRow, MemberRow, OrganizationRow, Table
from service.errors import Overtaken

__all__ = ("OrganizationTables",)

_SCOPES: Final = frozenset(Scope)
_TROUBLE: Final = (SQLAlchemyError, AdvancedAlchemyError, OSError, TimeoutError)


class _Organizations(SQLAlchemyAsyncRepository[OrganizationRow]):
    model_type = OrganizationRow


class _Keys(SQLAlchemyAsyncRepository[ApiKeyRow]):
    model_type = ApiKeyRow


class OrganizationTables:
    """Implements ``service.realtime.organizations.OrganizationTables``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_postgres = database.kind == "postgres"

    # Reading.

    async def read(self, organization: str, *, settled: bool = False) -> tuple[Organization, list[MemberRecord]] | None:
        """Return an organization and its members; see the port."""
        if settled:
            await self._settle()
        async with self._reading() as session:
            row = await _Organizations(session=session).get_one_or_none(id=organization)
            if row is None:
                return None
            columns = select(MemberRow.user_id, MemberRow.role, MemberRow.created_at)
            found = await session.execute(columns.where(MemberRow.organization_id == organization))
            members = [MemberRecord(user, Role(role), _seconds(at)) for user, role, at in found]
            return _organization(row), members

    async def read_keys(self, *, settled: bool = False) -> list[ApiKeyRecord]:
        """Return the keys of all organizations; see the port."""
        if settled:
            await self._settle()
        async with self._reading() as session:
            rows = await _Keys(session=session).get_many(ApiKeyRow.organization_id.is_not(None))
            return [_key(row) for row in rows]

    async def page(self, *, after: str, limit: int, prefix: str = "") -> list[Organization]:
        """Return organizations by id; see the port."""
        wanted: list[ColumnElement[bool]] = [OrganizationRow.id > after]
        if prefix:
            wanted.append(OrganizationRow.id.startswith(prefix, autoescape=True))
        async with self._reading() as session:
            rows = await _Organizations(session=session).get_many(
                *wanted, OrderBy("id", "asc"), LimitOffset(limit=limit, offset=0)
            )
            return [_organization(row) for row in rows]

    # Writing.

    async def create(self, organization: Organization, *, token: int) -> None:
        """Add an organization."""
        values = _of_organization(organization) | {"created_at": _instant(organization.created_at)}
        await self._write(_Write(OrganizationRow, values | {"id": organization.id}), token)

    async def change(self, organization: Organization, *, token: int) -> bool:
        """Write name and quotas of an organization."""
        statement = update(OrganizationRow).where(OrganizationRow.id == organization.id)
        return await self._write(statement.values(**_of_organization(organization)), token)

    async def delete(self, organization: str, *, token: int) -> bool:
        """Remove an organization; its members and keys go with it by their foreign keys."""
        return await self._write(delete(OrganizationRow).where(OrganizationRow.id == organization), token)

    async def add_member(self, organization: str, member: MemberRecord, *, token: int) -> None:
        """Add a member."""
        values = {
            "organization_id": organization,
            "user_id": member.user,
            "role": member.role.value,
            "created_at": _instant(member.created_at),
        }
        await self._write(_Write(MemberRow, values), token)

    async def change_member(self, organization: str, member: MemberRecord, *, token: int) -> bool:
        """Write the role of a member."""
        statement = update(MemberRow).where(*_is_member(organization, member.user)).values(role=member.role.value)
        return await self._write(statement, token)

    async def remove_member(self, organization: str, user: str, *, token: int) -> bool:
        """Remove a member."""
        return await self._write(delete(MemberRow).where(*_is_member(organization, user)), token)

    async def add_key(self, key: ApiKeyRecord, *, token: int) -> None:
        """Add a key."""
        values = {
            "id": key.id,
            "organization_id": key.organization,
            "name": key.name,
            "digest": key.digest,
            "scopes": sorted(key.scopes),
            "per_minute": key.per_minute,
            "created_at": _instant(key.created_at),
            "expires_at": _instant(key.expires_at),
            "revoked_at": _instant(key.revoked_at),
        }
        await self._write(_Write(ApiKeyRow, values), token)

    async def revoke_key(self, key: str, at: float, *, token: int) -> bool:
        """Write when a key was revoked."""
        statement = update(ApiKeyRow).where(ApiKeyRow.id == key).values(revoked_at=_instant(at))
        return await self._write(statement, token)

    # How it is sent.

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncSession]:
        try:
            async with AsyncSession(self._database.engine, expire_on_commit=False) as session:
                yield session
        except _TROUBLE as error:
            raise self._database.translate(error, committing=False) from error

    async def _settle(self) -> None:
        """Wait for a statement whose answer was lost and that still works: it holds the row of the fence."""
        fence = select(FenceRow.id).where(FenceRow.id == 1).with_for_update()
        try:
            async with self._writer().connect() as connection:
                await connection.execute(fence)
                await connection.commit()
        except _TROUBLE as error:
            raise self._database.translate(error, committing=False) from error

    async def _write(self, change: _Write | Update | Delete, token: int) -> bool:
        """Commit one statement under the token; False when there was no row to change."""
        is_sent = False
        try:
            async with self._writer().connect() as connection:
                is_sent = True
                try:
                    held, done = await self._send(connection, change, token)
                except SQLAlchemyError:
                    raise
                except BaseException:
                    # Cancelled, or no answer in time: nobody knows what the session is still at.
                    await connection.invalidate()
                    raise
        except _TROUBLE as error:
            raise self._database.translate(error, committing=is_sent) from error
        if not held:
            raise Overtaken
        return done > 0

    async def _send(
        self, connection: AsyncConnection, change: _Write | Update | Delete, token: int
    ) -> tuple[bool, int]:
        ours = select(FenceRow.id).where(FenceRow.id == 1, FenceRow.token == token)
        if self._is_postgres:
            fence = ours.with_for_update(read=True).cte("fence").prefix_with("MATERIALIZED")
            done = _fenced(change, fence).returning(literal(1).label("one")).cte("done")
            row = (await connection.execute(select(_count(fence), _count(done)))).one()
            return row[0] > 0, row[1]
        held = (await connection.execute(ours)).first() is not None
        done_count = (await connection.execute(_fenced(change, ours.subquery()))).rowcount if held else 0
        await connection.commit()
        return held, done_count

    def _writer(self) -> AsyncEngine:
        if self._is_postgres:
            return self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
        return self._database.writer


class _Write:
    """A row to add."""

    def __init__(self, table: type[Table], values: Mapping[str, object]) -> None:
        self.table = table
        self.values = values


def _fenced(change: _Write | Update | Delete, fence: FromClause) -> Any:  # noqa: ANN401 - one of three, all alike here
    """Return a statement that does nothing unless there is a row in ``fence``."""
    if isinstance(change, _Write):
        columns = change.table.__table__.columns
        values = [literal(value, columns[name].type) for name, value in change.values.items()]
        return insert(change.table).from_select(list(change.values), select(*values).select_from(fence))
    return change.where(exists(select(literal(1)).select_from(fence)))


def _count(rows: CTE | Subquery) -> ColumnElement[int]:
    return select(func.count()).select_from(rows).scalar_subquery()


def _is_member(organization: str, user: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return MemberRow.organization_id == organization, MemberRow.user_id == user


def _of_organization(organization: Organization) -> dict[str, object]:
    return {
        "name": organization.name,
        "max_connections": organization.max_connections,
        "publications_per_minute": organization.publications_per_minute,
        "max_channels": organization.max_channels,
        "updated_at": _instant(organization.updated_at),
    }


def _organization(row: OrganizationRow) -> Organization:
    return Organization(
        id=row.id,
        name=row.name,
        max_connections=row.max_connections,
        publications_per_minute=row.publications_per_minute,
        max_channels=row.max_channels,
        created_at=_seconds(row.created_at),
        updated_at=_seconds(row.updated_at),
    )


def _key(row: ApiKeyRow) -> ApiKeyRecord:
    return ApiKeyRecord(
        id=row.id,
        organization=row.organization_id or "",
        name=row.name,
        digest=row.digest,
        # A scope that later code has written opens nothing here.
        scopes=frozenset(Scope(scope) for scope in row.scopes if scope in _SCOPES),
        per_minute=row.per_minute,
        created_at=_seconds(row.created_at),
        expires_at=None if row.expires_at is None else _seconds(row.expires_at),
        revoked_at=None if row.revoked_at is None else _seconds(row.revoked_at),
    )


def _seconds(instant: datetime) -> float:
    return instant.timestamp()


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)
