"""What operators see of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.db.database import Database, PoolSizes
from service.db.watch import DatabaseWatch

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer


async def test_shows_pool_and_server(database_url: str) -> None:
    """What is used of the pool is current; the server is asked, where there is one."""
    database = Database(database_url, pool=PoolSizes(size=3, overflow=2))
    await database.start()
    watch = DatabaseWatch(database, degraded=lambda: "", may_look=lambda: True)
    await watch.look()
    async with database.engine.connect():
        pool = watch.pool()
    await database.close()

    assert (3, 2, 1) == (pool.size, pool.overflow, pool.in_use)
    if watch.kind == "postgres":
        assert watch.server is not None
        assert watch.server.max_connections > watch.server.reserved + watch.server.in_use > 0
    else:
        assert watch.server is None


async def test_a_server_that_is_gone_is_not_known(own_postgres_server: PostgresServer) -> None:
    """Figures from before would be wrong."""
    database = Database(own_postgres_server.create_database())
    await database.start()
    watch = DatabaseWatch(database, degraded=lambda: "", may_look=lambda: True)
    await watch.look()
    own_postgres_server.stop("immediate")
    known = watch.server
    await watch.look()
    await database.close()

    assert known is not None
    assert watch.server is None


async def test_a_standby_asks_nobody(postgres_url: str) -> None:
    """The connections of the server are for those who serve."""
    database = Database(postgres_url)
    await database.start()
    watch = DatabaseWatch(database, degraded=lambda: "", may_look=lambda: False)
    await watch.look()
    await database.close()

    assert watch.server is None
