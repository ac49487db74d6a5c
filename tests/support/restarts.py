"""A service that is ended without a word and started again, always at the same address."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path

import httpx

from tests.support.process import ServiceProcess
from tests.support.service_api import local_http

__all__ = ("RestartedService",)

_READY_SECONDS = 60.0
_FREEZE_SECONDS = 10.0
# Below the range from which the system takes ports by itself, so that it stays free while nobody serves.
_PORTS = range(32_000, 32_700)


class RestartedService:
    """One service, of which there is a process after the other.

    Args:
        environ: Its settings, but for the port.

    Attributes:
        process: The one that runs, or ran last.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.process: ServiceProcess
        self._environ = {**environ, "PORT": str(_free_port())}
        self._stack = AsyncExitStack()

    @classmethod
    @asynccontextmanager
    async def run(cls, environ: Mapping[str, str]) -> AsyncIterator[RestartedService]:
        """Start it; at the end of the block it is ended."""
        service = cls(environ)
        try:
            await service.start()
            yield service
        finally:
            await service._stack.aclose()

    async def start(self) -> None:
        """Start, and return when it serves."""
        self.process = await self._stack.enter_async_context(ServiceProcess.start(self._environ))
        await self.until_ready()

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.signal(signal.SIGKILL)
        await self.process.wait()
        await self._stack.aclose()

    async def freeze(self) -> None:
        """Stop every thread of it where it stands."""
        self.process.signal(signal.SIGSTOP)
        async with asyncio.timeout(_FREEZE_SECONDS):
            # A signal takes its time to arrive, longest at a thread that waits for the disk.
            while not _stands_still(self.process.pid):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self.process.signal(signal.SIGCONT)

    async def until_ready(self) -> None:
        """Wait until it says that it serves."""
        try:
            async with asyncio.timeout(_READY_SECONDS), local_http() as http:
                while not await self._is_ready(http):  # noqa: ASYNC110 - each question takes its time
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"the service does not serve:\n{self.process.log()}") from None

    async def _is_ready(self, http: httpx.AsyncClient) -> bool:
        try:
            return (await http.get(f"{self.process.url}/api/health/ready")).is_success
        except httpx.HTTPError:
            return False


def _stands_still(pid: int) -> bool:
    # The state comes behind the name, which is in parentheses and may hold anything.
    return all(
        task.read_text().rpartition(")")[2].split()[0] == "T" for task in Path(f"/proc/{pid}/task").glob("*/stat")
    )


def _free_port() -> int:
    for port in random.sample(_PORTS, 100):
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
