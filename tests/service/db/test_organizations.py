from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from typing_extensions import override

from service.db.database import Database
from service.db.organizations import OrganizationTables
from service.errors import DatabaseUnavailable, DatabaseUnfit
from tests.conformance.organizations import ACME, OrganizationTablesSuite


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with the tables of the service and nothing in them."""
    database = Database(database_url)
    await database.start()
    yield database
    await database.close()


class TestOrganizationTables(OrganizationTablesSuite):
    """The suite on both databases."""

    @pytest.fixture
    @override
    def tables(self, database: Database) -> OrganizationTables:
        """Empty ones."""
        return OrganizationTables(database)


async def test_trouble_is_translated(database_url: str) -> None:
    """A database without the tables says what to do, in our own words."""
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE slackwater_members RENAME TO elsewhere"))
    tables = OrganizationTables(database)
    await tables.create(ACME, token=0)

    try:
        with pytest.raises(DatabaseUnfit, match="is missing: run"):
            await tables.read("acme")
    finally:
        await database.close()


async def test_cancelled_change_leaves_no_connection_behind(database: Database) -> None:
    """It is done or not; the next change goes on over a connection that nobody else still uses."""
    tables = OrganizationTables(database)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(tables.create(ACME, token=0))
        await asyncio.sleep(0)
        task.cancel()

    assert await tables.read("ghost", settled=True) is None
    if await tables.read("acme", settled=True) is None:
        await tables.create(ACME, token=0)
    assert await tables.delete("acme", token=0)
    assert 0 == database.pool_state().in_use


async def test_settled_read_waits_for_a_change_under_way(postgres_url: str) -> None:
    """A statement whose answer was lost has ended, or the read says that it could not find out."""
    from service.db.database import Timeouts  # noqa: PLC0415 - of this test alone

    database = Database(postgres_url, timeouts=Timeouts(statement=0.3))
    tables = OrganizationTables(database)
    try:
        await tables.create(ACME, token=0)
        async with database.engine.connect() as other:
            await other.execute(text("SELECT 1 FROM slackwater_fence WHERE id = 1 AND token = 0 FOR SHARE"))
            await other.execute(text("UPDATE slackwater_organizations SET name = 'late' WHERE id = 'acme'"))
            with pytest.raises(DatabaseUnavailable):
                await tables.read("acme", settled=True)
            await other.commit()
        found = await tables.read("acme", settled=True)
        assert found is not None

        assert "late" == found[0].name
    finally:
        await database.close()
