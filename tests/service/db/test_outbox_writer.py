from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from service.db.database import Database
from service.db.outbox import OutboxTable
from service.db.outbox_writer import Publication, publication, publications
from tests.conformance.outbox_table import waiting


@pytest_asyncio.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The application's own engine, as it would make one."""
    url = database_url.replace("postgresql:", "postgresql+asyncpg:", 1).replace("sqlite:", "sqlite+aiosqlite:", 1)
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture
async def table(database_url: str) -> AsyncIterator[OutboxTable]:
    """What the service sees."""
    database = Database(database_url)
    await database.start()
    yield OutboxTable(database)
    await database.close()


async def found(table: OutboxTable) -> list[tuple[str, bytes, bytes | None]]:
    """Return what waits, without ids."""
    return [(row.channel, row.data, row.tags) for row in await waiting(table)]


async def test_on_a_session(engine: AsyncEngine, table: OutboxTable) -> None:
    """Seen when the session has committed."""
    async with AsyncSession(engine) as session:
        await session.execute(publication("news:a", {"order": 17}, {"kind": "order"}))
        await session.commit()

    assert [("news:a", b'{"order":17}', b'{"kind":"order"}')] == await found(table)


async def test_on_a_connection(engine: AsyncEngine, table: OutboxTable) -> None:
    """The same statement."""
    async with engine.begin() as connection:
        await connection.execute(publication("news:a", [1, None]))

    assert [("news:a", b"[1,null]", None)] == await found(table)


async def test_on_a_session_without_async(engine: AsyncEngine, table: OutboxTable) -> None:
    """The same again."""

    def write(session: Session) -> None:
        session.execute(publication("news:a", "text"))

    async with AsyncSession(engine) as session:
        await session.run_sync(write)
        await session.commit()

    assert [("news:a", b'"text"', None)] == await found(table)


async def test_a_rollback_takes_it_back(engine: AsyncEngine, table: OutboxTable) -> None:
    """As everything else in the transaction."""
    async with AsyncSession(engine) as session:
        await session.execute(publication("news:a", 1))
        await session.rollback()

    assert [] == await found(table)


async def test_several_in_one_statement(engine: AsyncEngine, table: OutboxTable) -> None:
    """In their order."""
    async with engine.begin() as connection:
        await connection.execute(
            publications(
                [Publication("news:a", number, {"n": str(number)} if number % 2 else None) for number in range(20)]
            )
        )

    assert [
        ("news:a", b"%d" % number, b'{"n":"%d"}' % number if number % 2 else None) for number in range(20)
    ] == await found(table)


@pytest.mark.parametrize(
    ("data", "written"),
    [
        pytest.param(None, b"null", id="null"),
        pytest.param(msgspec.Raw(b'{"a" : 1.50}'), b'{"a" : 1.50}', id="raw"),
        pytest.param({"é": "\0'"}, '{"é":"\\u0000\'"}'.encode(), id="characters"),
        pytest.param(
            {"at": datetime(2027, 1, 15, tzinfo=UTC), "id": UUID(int=1)},
            b'{"at":"2027-01-15T00:00:00Z","id":"00000000-0000-0000-0000-000000000001"}',
            id="types-of-an-application",
        ),
    ],
)
async def test_data(engine: AsyncEngine, table: OutboxTable, data: Any, written: bytes) -> None:  # noqa: ANN401 - any JSON
    """Reaches the table as msgspec writes it."""
    async with engine.begin() as connection:
        await connection.execute(publication("news:a", data))

    assert [("news:a", written, None)] == await found(table)


async def test_data_that_is_no_json_fails_in_the_applications_transaction(
    engine: AsyncEngine, table: OutboxTable
) -> None:
    """By the database itself, so that nobody has to find out later."""
    with pytest.raises(DBAPIError):
        async with engine.begin() as connection:
            await connection.execute(publication("news:a", msgspec.Raw(b"{")))

    assert [] == await found(table)


def test_data_that_cannot_be_written_is_refused_at_once() -> None:
    """Before any statement."""
    with pytest.raises(TypeError):
        publication("news:a", object())


def test_needs_nothing_of_the_service() -> None:
    """An application imports it without the rest."""
    script = (
        "import sys, service.db.outbox_writer;"
        "print([name for name in sys.modules if name.split('.')[0] in ('service', 'litestar', 'uvicorn')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603 - our own command

    assert "['service', 'service.db', 'service.db.outbox_writer']" == done.stdout.strip()
