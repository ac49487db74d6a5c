"""Ten thousand connections on one process."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.process import ROOT, ServiceProcess
from tests.support.service_api import local_http, until_empty, until_figures
from tests.support.stock_client import stock_client

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

_CONNECTIONS = 10_000
_DESCRIPTORS = 10_200
"""Of the service, and of the clients' process: the connections, and what a process has open anyway."""


@contextmanager
def _descriptors(count: int) -> Iterator[None]:
    """Have processes started from here be allowed ``count`` open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        reason = f"needs {count} open files for each process; the hard limit is {hard} (ulimit -Hn)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count) if soft >= 0 else soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_ten_thousand_idle_connections_closed_at_once_leave_nothing() -> None:
    """They are all there at the same time, all gone after it, and the process answers before, between and after."""
    with _descriptors(_DESCRIPTORS):
        environ = {"WS_MAX_CONNECTIONS": str(_CONNECTIONS + 10)}
        async with ServiceProcess.start(environ) as service:
            clients = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.load.idle_clients", str(service.port), str(_CONNECTIONS)),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert clients.stdin is not None
            assert clients.stdout is not None
            try:
                assert b"connected\n" == await clients.stdout.readline()

                await until_figures(
                    service, {"connections": _CONNECTIONS, "users": _CONNECTIONS, "subscriptions": _CONNECTIONS}
                )
                await _answers(service)
                clients.stdin.write(b"close\n")
                await clients.stdin.drain()

                assert b"closed\n" == await clients.stdout.readline()
                assert 0 == await clients.wait()
            finally:
                if clients.returncode is None:
                    clients.kill()
                    await clients.wait()
            await until_empty(service)
            await _answers(service)
            service.signal()

            assert 0 == await service.wait()


async def _answers(service: ServiceProcess) -> None:
    """See that the process does its work: HTTP, and a client that comes, publishes and receives."""
    async with local_http() as http:
        assert 200 == (await http.get(f"{service.url}/api/health/ready")).status_code
    async with stock_client(service.ws_url, token=service.token("witness")) as stock:
        subscription, events = await stock.subscribe("chat:load")
        await subscription.publish("ping")

        assert "ping" == (await events.expect("publication")).pub.data
