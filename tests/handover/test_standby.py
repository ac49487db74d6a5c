"""What a process says and does that must not serve."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing
from typing import Final

import pytest

from tests.support.process import API_KEY, ServiceProcess
from tests.support.raw_websocket import RawWebSocket
from tests.support.service_api import admin, api, figures, local_http

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

_PROMPT_SECONDS: Final = 8.0
"""Less than a drain would take, with the grace that is set here."""


async def test_whoever_stands_by_says_so_everywhere(sqlite_url: str) -> None:
    """It works, it has started, it is not ready, and it sends everybody away with the hint to come back."""
    environ = {"DATABASE_URL": sqlite_url, "DRAIN_GRACE_SECONDS": "20"}
    async with ServiceProcess.start(environ) as holder, ServiceProcess.start(environ) as standby:
        async with local_http() as http:
            health = {what: await http.get(f"{standby.url}/api/health/{what}") for what in ("live", "startup", "ready")}
            answer = await http.post(
                f"{standby.url}/api/publish",
                json={"channel": "news:a", "data": 1},
                headers={"X-API-Key": API_KEY},
            )
        async with await RawWebSocket.handshake(standby.port) as socket:
            upgrade = socket.response
        status = (await admin(standby, "GET", "status")).json()
        gated = await admin(standby, "POST", "gate", {})
        seen = await figures(standby)
        held = (await admin(holder, "GET", "status")).json()["lock"]

        assert {"live": 200, "startup": 200, "ready": 503} == {what: item.status_code for what, item in health.items()}
        (reason,) = health["ready"].json()["reasons"]
        assert reason.startswith("STANDBY: ")
        assert " has the lock since 2" in reason
        assert (503, 100, True) == (answer.status_code, answer.json()["code"], "Retry-After" in answer.headers)
        assert (503, True) == (upgrade.status, "retry-after" in upgrade.headers)
        assert {"kind": "file", "held": False, "token": 0} == status["lock"]
        assert {"kind": "file", "held": True, "token": 1} == held
        assert 409 == gated.status_code
        assert (0, 0, 1) == (seen["lock_held"], seen["lock_token"], seen['phase{phase="STANDBY"}'])
        assert "offset" in await api(holder, "publish", channel="news:a", data=1)

        standby.signal(signal.SIGTERM)
        assert 0 == await standby.wait(_PROMPT_SECONDS)


async def test_a_database_that_is_not_there_is_waited_for() -> None:
    """The process runs and says what it waits for."""
    async with ServiceProcess.start({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}) as service:
        async with local_http() as http:
            ready = await http.get(f"{service.url}/api/health/ready")
        assert 503 == ready.status_code
        assert ["STANDBY: the database cannot be reached: nothing listens at the address of the database"] == (
            ready.json()["reasons"]
        )

        service.signal(signal.SIGTERM)
        assert 0 == await service.wait(_PROMPT_SECONDS)


async def test_one_that_is_unfit_ends_the_process(unmigrated_postgres_url: str) -> None:
    """With a code of its own, and what to do."""
    with pytest.raises(AssertionError, match="ended with 3") as ended:
        async with ServiceProcess.start({"DATABASE_URL": unmigrated_postgres_url}):
            pass

    assert "service migrate" in str(ended.value)
    assert "Traceback" not in str(ended.value)


async def test_one_that_was_overtaken_commits_nothing_and_comes_back(sqlite_url: str) -> None:
    """Somebody has raised the token behind its back, as after a backup was restored."""
    async with ServiceProcess.start({"DATABASE_URL": sqlite_url}) as service:
        async with await RawWebSocket.open(service.port) as socket:
            await socket.connect(service.token("42"))
            with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database, database:
                database.execute("UPDATE slackwater_fence SET token = 41")
            async with local_http() as http:
                answer = await http.post(
                    f"{service.url}/api/publish",
                    json={"channel": "chat:a", "data": 1},
                    headers={"X-API-Key": API_KEY},
                )
            await socket.expect_closed(3001)

        assert 100 == answer.json()["error"]["code"]
        async with asyncio.timeout(20):
            while 1 != (await figures(service)).get("lock_held"):
                pass
        seen = await figures(service)
        assert (42, 1) == (seen["lock_token"], seen["lock_losses_total"])
        assert 1 == (await api(service, "publish", channel="chat:a", data=2))["offset"]


async def test_a_second_signal_hurries_it(sqlite_url: str) -> None:
    """Also one that serves: the lock is let go, and marked as released."""
    environ = {"DATABASE_URL": sqlite_url, "DRAIN_GRACE_SECONDS": "20"}
    async with ServiceProcess.start(environ) as first, ServiceProcess.start(environ) as second:
        first.signal(signal.SIGTERM)
        first.signal(signal.SIGTERM)
        assert 0 == await first.wait(_PROMPT_SECONDS)
        async with asyncio.timeout(20):
            while 1 != (await figures(second)).get("lock_held"):
                pass

        assert {"kind": "file", "held": True, "token": 2} == (await admin(second, "GET", "status")).json()["lock"]
