"""A client of the service across the end of its process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from deploytool.cli.rolling.service import AdminService
from deploytool.clock import SystemClock
from deploytool.probes.address import parse_address
from deploytool.probes.smoke import Pass, SmokeClient
from deploytool.rollout.errors import PhaseError
from deploytool.service_api import AdminApi, HttpTransport
from tests.support.process import ADMIN_KEY, ServiceProcess

if TYPE_CHECKING:
    from pathlib import Path

    from deploytool.rollout.ports import Mark

pytestmark = pytest.mark.e2e


def _service(process: ServiceProcess) -> AdminService:
    return AdminService(AdminApi(HttpTransport(process.admin_url), ADMIN_KEY, SystemClock()))


def _client(process: ServiceProcess) -> SmokeClient:
    def issue() -> Pass:
        tokens = _service(process).tokens(60.0)
        return Pass(tokens.channel, tokens.valid.connection, tokens.valid.subscription)

    return SmokeClient(parse_address(process.url), issue)


def _kept(file: Path) -> dict[str, str]:
    return {"DATABASE_URL": f"sqlite:///{file}", "DATABASE_MIGRATE": "true"}


async def _marked(environ: dict[str, str]) -> Mark:
    """Let a process live for a publication."""
    async with ServiceProcess.start(environ) as process:
        serving = await asyncio.to_thread(_service(process).status)
        mark = await asyncio.to_thread(_client(process).mark)
    return replace(mark, is_durable=serving.is_durable)


async def _smoked(environ: dict[str, str], mark: Mark) -> str:
    async with ServiceProcess.start(environ) as process:
        _, note = await asyncio.to_thread(_client(process).smoke, mark)
    return note


async def test_durable_history_is_recovered_by_the_next_process(tmp_path: Path) -> None:
    """And that it is lost is a failure: of another file, as when a volume was not mounted."""
    mark = await _marked(_kept(tmp_path / "one.db"))
    note = await _smoked(_kept(tmp_path / "one.db"), mark)

    assert mark.is_durable
    assert "connected, subscribed, published, received, recovered" in note
    assert "what was published before the switch was recovered" in note
    with pytest.raises(PhaseError, match="is lost, and history is kept in a database"):
        await _smoked(_kept(tmp_path / "two.db"), mark)


@pytest.mark.slow
async def test_history_in_memory_ends_with_the_process() -> None:
    """That is said, and is no failure."""
    mark = await _marked({"DATABASE_URL": "memory:"})
    note = await _smoked({"DATABASE_URL": "memory:"}, mark)

    assert not mark.is_durable
    assert "what was published before the switch is gone, and clients are told so" in note
