from __future__ import annotations

import asyncio
import importlib
import pkgutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from service.db import migrate as migrations
from service.db import schema
from service.db.database import Database, PoolSizes, Timeouts
from service.db.failures import translate
from service.db.migrations import levels, versions
from service.db.models import Table
from service.db.schema import LEVEL, Schema
from service.errors import DatabaseError, DatabaseUnfit, RowsRefused
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["postgres", "sqlite"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    url: str = request.getfixturevalue("unmigrated_postgres_url")
    return url


async def execute(url: str, *statements: str) -> None:
    """Change a database behind the service's back."""
    database = Database(url)
    try:
        async with database.engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await database.close()


async def failure(url: str, statement: str) -> DatabaseError:
    """Return what the error of a statement means."""
    try:
        await execute(url, statement)
    except Exception as error:  # noqa: BLE001 - of whichever layer
        return translate(error, committing=False)
    raise AssertionError("the statement is accepted")


def applied(level: int, oldest_level: int) -> str:
    """Return the statement by which a migration says that it was there."""
    return f"INSERT INTO slackwater_schema (level, oldest_level) VALUES ({level}, {oldest_level})"  # noqa: S608 - numbers


async def start(url: str) -> None:
    """Start on a database as the service does."""
    database = Database(url)
    try:
        await database.start()
    finally:
        await database.close()


async def test_goes_up_from_nothing_and_then_does_nothing(empty_url: str) -> None:
    """However often it is called."""
    database = Database(empty_url)
    first = await migrations.migrate(database)
    second = await migrations.migrate(database)
    await database.start()
    await database.close()

    assert (Schema(0, 0), Schema(LEVEL, 1)) == first
    assert (Schema(LEVEL, 1), Schema(LEVEL, 1)) == second


async def test_database_without_tables_is_refused_by_the_name_of_the_command(empty_url: str) -> None:
    """And looking at it changes nothing."""
    database = Database(empty_url)

    assert Schema() == await migrations.current(database)
    with pytest.raises(DatabaseUnfit, match=r"has no tables yet .* run `python -m service migrate`"):
        await database.start()
    assert (await migrations.current(database)).is_behind
    await database.close()


def test_looking_makes_no_sqlite_file(tmp_path: Path) -> None:
    """Nor a directory."""
    database = Database(f"sqlite:///{tmp_path}/data/x.db")

    assert Schema() == asyncio.run(migrations.current(database))
    assert not (tmp_path / "data").exists()


def test_makes_the_directory_of_a_sqlite_file(tmp_path: Path) -> None:
    """For us alone; but not a whole path, which may be a volume that is not mounted."""
    migrations.migrate_url(f"sqlite:///{tmp_path}/data/x.db")

    assert 0o700 == (tmp_path / "data").stat().st_mode & 0o777
    with pytest.raises(DatabaseUnfit, match="there is no directory"):
        migrations.migrate_url(f"sqlite:///{tmp_path}/far/away/x.db")


async def test_newer_schema_that_admits_this_code_is_fine(database_url: str) -> None:
    """So that a rollout can be taken back; migrating changes nothing."""
    await execute(database_url, applied(LEVEL + 1, LEVEL))
    await start(database_url)
    database = Database(database_url)
    migrated = await migrations.migrate(database)
    await database.close()

    assert migrated.before == migrated.after == Schema(LEVEL + 1, LEVEL)


async def test_newer_schema_that_does_not_admit_this_code_is_refused(database_url: str) -> None:
    """With the level that is needed; a later one that is more lenient does not change that."""
    await execute(database_url, applied(LEVEL + 1, LEVEL + 1), applied(LEVEL + 2, 1))

    with pytest.raises(DatabaseUnfit, match=f"code of level {LEVEL + 1} or newer may run on, and this code is of"):
        await start(database_url)


async def test_older_schema_is_refused_by_the_name_of_the_command(database_url: str) -> None:
    """Migrations are no side effect of a start, unless that is set."""
    await execute(database_url, "DELETE FROM slackwater_schema")

    with pytest.raises(DatabaseUnfit, match="run `python -m service migrate`"):
        await start(database_url)


async def test_several_at_once_wait_for_each_other(empty_url: str) -> None:
    """One migrates, the others find it done."""

    async def one() -> migrations.Migrated:
        database = Database(empty_url, pool=PoolSizes(1, 0))
        try:
            return await migrations.migrate(database)
        finally:
            await database.close()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(4)]
    found = sorted(task.result().before.level for task in tasks)

    assert [0, LEVEL, LEVEL, LEVEL] == found
    assert {LEVEL} == {task.result().after.level for task in tasks}


async def test_migration_that_fails_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or none: the tables are gone when the last step fails."""

    def fail(*levels: int) -> None:
        raise UnicodeError(levels)

    monkeypatch.setattr(levels, "record_level", fail)
    database = Database(empty_url)
    with pytest.raises(DatabaseError):
        await migrations.migrate(database)
    async with database.engine.connect() as connection:
        tables = await connection.run_sync(lambda plain: inspect(plain).get_table_names())
    await database.close()

    assert [] == tables


async def test_migrations_make_the_tables_of_the_models(database_url: str) -> None:
    """Column by column, with their types."""

    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, parents: object) -> bool:
            del parents
            return kind != "table" or name != "slackwater_migrations"

        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": ours})
        return [*compare_metadata(context, Table.metadata)]

    database = Database(database_url)
    async with database.engine.connect() as connection:
        assert [] == await connection.run_sync(differences)
    await database.close()


def test_level_is_that_of_the_newest_migration() -> None:
    """Each has its own, in order, and refuses to go back."""
    modules = [
        importlib.import_module(f"{versions.__name__}.{found.name}")
        for found in pkgutil.iter_modules(versions.__path__)
    ]
    levels = [module.LEVEL for module in modules]

    assert list(range(1, LEVEL + 1)) == levels
    assert [f"{level:04}" for level in levels] == [module.revision for module in modules]
    assert all(1 <= module.OLDEST_LEVEL <= module.LEVEL for module in modules)
    for module in modules:
        with pytest.raises(NotImplementedError, match="never go back"):
            module.downgrade()


async def test_guards_have_one_row(database_url: str) -> None:
    """Made by the migration, and there can be no second one."""
    database = Database(database_url)
    async with database.engine.connect() as connection:
        fence = (await connection.execute(text("SELECT id, token, holder, released FROM slackwater_fence"))).all()
        identity = (await connection.execute(text("SELECT id, epoch, timeline FROM slackwater_identity"))).all()
    await database.close()

    assert [(1, 0, "", True)] == [tuple(row) for row in fence]
    assert [(1, "", 0)] == [tuple(row) for row in identity]
    second = await failure(database_url, "INSERT INTO slackwater_identity VALUES (2, '', '', 0)")
    assert isinstance(second, RowsRefused)


@pytest.mark.parametrize("data", ["{", "", "nonsense"])
async def test_outbox_takes_json_alone(database_url: str, data: str) -> None:
    """From whoever writes it."""
    insert = f"INSERT INTO slackwater_outbox (channel, data) VALUES ('x', '{data}')"  # noqa: S608 - of this test

    assert isinstance(await failure(database_url, insert), RowsRefused)


async def test_outbox_counts_by_itself(database_url: str) -> None:
    """Rows get ascending ids, and the time of their writing."""
    insert = "INSERT INTO slackwater_outbox (channel, data) VALUES ('x', '[1]')"
    await execute(database_url, insert, insert)
    database = Database(database_url)
    async with database.engine.connect() as connection:
        rows = (await connection.execute(text("SELECT id, tries FROM slackwater_outbox ORDER BY id"))).all()
    await database.close()

    assert [(1, 0), (2, 0)] == [tuple(row) for row in rows]


async def test_migrating_is_not_bound_by_the_statement_timeout(
    postgres_server: PostgresServer, unmigrated_postgres_url: str
) -> None:
    """Who waits for another's migration waits as long as that takes."""
    holder, waiter = (Database(unmigrated_postgres_url, timeouts=Timeouts(statement=0.2)) for _ in range(2))
    async with holder.engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": migrations.LOCK_KEY})
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(migrations.migrate(waiter))
            waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not await asyncio.to_thread(postgres_server.sql, waits):
                pass
            with pytest.raises(DBAPIError):  # passes the time that would be too long
                await connection.execute(text("SELECT pg_sleep(10)"))
            await connection.rollback()
            migrated = await waiting
    await holder.close()
    await waiter.close()

    assert Schema(LEVEL, 1) == migrated.after


def test_schema_says_what_is_wrong() -> None:
    """Nothing, when it is as new as the code."""
    schema.check(Schema(LEVEL, LEVEL))
    with pytest.raises(DatabaseUnfit, match="this code needs level"):
        schema.check(Schema(LEVEL - 1, 1))
