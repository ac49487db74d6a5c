"""An application writes, the service is killed and started again, and stock subscribers listen."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from service.db.database import Database
from service.db.outbox import OutboxTable
from tests.outbox.load import CHANNELS, Load, check_order
from tests.rounds.subscribers import Subscriber
from tests.support.outbox_application import application_on
from tests.support.process import ServiceProcess
from tests.support.restarts import RestartedService
from tests.support.service_api import api

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("rounds")]

_RESTARTS = 3
_NAMESPACE = {
    "name": "news",
    "history_size": 1_000_000,
    "history_ttl": "24h",
    "force_recovery": True,
    "allow_recovery": True,
    "allow_subscribe_for_client": True,
}
_ENVIRON = {
    "LOCK_PROVE_SECONDS": "0.2",
    "LOCK_SERVE_SECONDS": "1.0",
    "LOCK_WAIT_SECONDS": "1.2",
    "LOCK_SESSION_SECONDS": "3.0",
    "OUTBOX_POLL_SECONDS": "0.1",
    "DRAIN_SPREAD_SECONDS": "0",
}


async def until_empty(url: str) -> None:
    """Wait until nothing waits in the outbox."""
    database = Database(url)
    table = OutboxTable(database)
    async with asyncio.timeout(120):
        while (await table.figures()).waiting:  # noqa: ASYNC110 - each look takes its time
            await asyncio.sleep(0.02)
    await database.close()


async def _tops(service: ServiceProcess) -> dict[str, int]:
    return {name: (await api(service, "history", channel=name, limit=0))["offset"] for name in CHANNELS}


async def _live_through(url: str, directory: Path, *, rows: int) -> None:
    seed, overlaps = random.randrange(2**32), not url.startswith("sqlite")  # noqa: S311 - told when it fails
    load = Load(application_on(url), rows=rows, connections=8 if overlaps else 2, seed=seed, overlaps=overlaps)
    namespaces = directory / "namespaces.json"
    namespaces.write_text(json.dumps({"namespaces": [_NAMESPACE]}))
    environ = {**_ENVIRON, "DATABASE_URL": url, "NAMESPACES_FILE": str(namespaces)}
    async with RestartedService.run(environ) as service:
        process = service.process
        subscribers = [Subscriber(process.ws_url, process.token("42"), name) for name in CHANNELS]
        for subscriber in subscribers:
            await subscriber.start()
        async with asyncio.TaskGroup() as tasks:
            part = rows // (_RESTARTS + 1)
            await load.allow(part * 3 // 2)
            tasks.create_task(load.run())
            for number in range(1, _RESTARTS + 1):
                await load.until_committed(part * number)
                await service.kill()
                # Half of what the application writes between two ends it writes while nobody is there.
                await load.until_committed(part * (2 * number + 1) // 2)
                await service.start()
                await load.allow(rows if number == _RESTARTS else part * (2 * number + 3) // 2)
            await load.until_over()
        await until_empty(url)
        tops = await _tops(service.process)
        for subscriber in subscribers:
            await subscriber.until(tops[subscriber.channel])
            await subscriber.stop()

    assert 0 == sum(subscriber.losses for subscriber in subscribers)
    arrived = {
        subscriber.channel: [json.dumps(seen.name).encode() for seen in subscriber.seen] for subscriber in subscribers
    }
    for subscriber in subscribers:
        assert list(range(1, tops[subscriber.channel] + 1)) == [seen.offset for seen in subscriber.seen]
    check_order(load, arrived)


async def test_subscribers_get_every_row_once(database_url: str, tmp_path: Path) -> None:
    """In the order promised, with three ends of the process in between."""
    await _live_through(database_url, tmp_path, rows=1_500)


@pytest.mark.rounds
async def test_subscribers_get_every_row_of_ten_thousand_once(database_url: str, tmp_path: Path) -> None:
    """The whole load."""
    await _live_through(database_url, tmp_path, rows=10_000)
