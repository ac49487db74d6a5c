"""The examples of the guide to the outbox, run as they stand there."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.db.database import Database
from service.db.outbox import OutboxTable
from tests.conformance.outbox_table import waiting
from tests.support.postgres import PostgresServer

_PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "outbox.md"
_EXPECTED: Final = ("news:orders", {"order": 17, "state": "paid"}, {"kind": "order"})


def blocks(language: str) -> list[str]:
    """Return the examples in one language, in the order of the page."""
    return re.findall(rf"```{language}\n(.*?)```", _PAGE.read_text(), re.DOTALL)


def driver_url(url: str) -> str:
    """Return a URL as SQLAlchemy wants it."""
    return url.replace("postgresql:", "postgresql+asyncpg:", 1).replace("sqlite:", "sqlite+aiosqlite:", 1)


async def execute(url: str, script: str) -> None:
    """Run statements one by one; BEGIN and COMMIT are the engine's to say."""
    engine = create_async_engine(driver_url(url))
    async with engine.begin() as connection:
        for statement in script.split(";"):
            if statement.strip() not in ("", "BEGIN", "COMMIT"):
                # As it stands there: to SQLAlchemy's own text a colon would begin a parameter.
                await connection.exec_driver_sql(statement)
    await engine.dispose()


async def found(url: str) -> list[tuple[str, Any, Any]]:
    """Return what waits in the outbox."""
    database = Database(url)
    await database.start()
    rows = await waiting(OutboxTable(database))
    await database.close()
    return [(row.channel, json.loads(row.data), json.loads(row.tags or b"null")) for row in rows]


@pytest.fixture
def orders_url(database_url: str) -> str:
    """A database with the tables of the service."""
    return database_url


_ORDERS: Final = "CREATE TABLE orders (id integer PRIMARY KEY, state text); INSERT INTO orders VALUES (17, 'new')"


async def test_sql(orders_url: str) -> None:
    """The first example inserts what it says, on both databases."""
    await execute(orders_url, _ORDERS)
    await execute(orders_url, blocks("sql")[0])

    assert [_EXPECTED] == await found(orders_url)


async def test_litestar(orders_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application of the example changes its own table and inserts the row."""
    await execute(orders_url, _ORDERS)
    path = tmp_path / "example.py"
    path.write_text(blocks("python")[0])
    spec = importlib.util.spec_from_file_location("outbox_example", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    # Litestar looks a handler's module up.
    monkeypatch.setitem(sys.modules, spec.name, example)
    spec.loader.exec_module(example)
    application = example.create_application(driver_url(orders_url))
    # In this loop, as under a server: the engine's connections belong to the loop in which they were made.
    async with (
        application.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client,
    ):
        answer = await client.post("/orders/17/pay")
        # From the second application of a process on, advanced-alchemy 1.12 keeps the engine under a name with a number
        # and looks for it under the plain one when the application ends.
        (engine,) = (item for item in application.state.dict().values() if isinstance(item, AsyncEngine))
    await engine.dispose()

    assert (201, {"order": 17}) == (answer.status_code, answer.json())
    assert [_EXPECTED] == await found(orders_url)


async def test_rows_that_were_set_aside_wait_again(orders_url: str) -> None:
    """After the statement of the guide; the one before it finds them."""
    await execute(orders_url, blocks("sql")[0].split("BEGIN;")[1].partition("UPDATE")[0])
    await execute(
        orders_url,
        "INSERT INTO slackwater_outbox (channel, data, tries, error, set_aside_at)"
        " VALUES ('nobody:a', '1', 5, 'unknown channel', CURRENT_TIMESTAMP)",
    )
    engine = create_async_engine(driver_url(orders_url))
    async with engine.begin() as connection:
        row = (await connection.execute(text(blocks("sql")[2].rstrip().rstrip(";")))).one()
    await engine.dispose()

    assert ("nobody:a", 5, "unknown channel") == (row.channel, row.tries, row.error)
    assert [] == await found(orders_url)

    await execute(orders_url, blocks("sql")[3])

    assert [("nobody:a", 1, None)] == await found(orders_url)


def test_an_application_needs_to_insert_and_no_more(postgres_server: PostgresServer, postgres_url: str) -> None:
    """A role of its own that was granted what the guide says can do what the guide does."""
    grant = blocks("sql")[1].rstrip().rstrip(";")
    insert = blocks("sql")[0].partition("INSERT")[2].partition(";")[0]
    name = postgres_url.rpartition("/")[2]
    postgres_server.sql("CREATE ROLE application")
    try:
        postgres_server.sql(grant, "SET ROLE application", f"INSERT {insert}", database=name)
        rows = postgres_server.sql("SELECT channel FROM slackwater_outbox", database=name)
    finally:
        postgres_server.sql("DROP OWNED BY application", database=name)
        postgres_server.sql("DROP ROLE application")

    assert [["news:orders"]] == rows
