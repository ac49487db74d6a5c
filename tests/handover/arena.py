"""Two processes of the service on one database, and clients that try both of them all the time."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.handover.journal import ACCEPT, BEGIN, DELIVERY, Reign, read, reigns
from tests.support.process import API_KEY, ServiceProcess
from tests.support.service_api import local_http
from tests.support.silent_proxy import SilentProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

__all__ = ("Arena", "Contender")

_CHANNEL: Final = "handover"
_POLL_SECONDS: Final = 0.02
_PUBLISH_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 0.5
"""Of a client with a process that does not answer, since it was stopped."""


class Contender:
    """One process, and the clients that try it.

    Attributes:
        proxy: Between it and a Postgres; None on SQLite.
    """

    def __init__(self, name: str, service: ServiceProcess, journal: Path, proxy: SilentProxy | None) -> None:
        self.name = name
        self.service = service
        self.proxy = proxy
        self._journal = journal

    @property
    def phases(self) -> list[str]:
        """All that it logged, in order."""
        return [line["after"] for line in self.service.lines if line.get("event") == "phase.changed"]

    @property
    def phase(self) -> str:
        """The last that it logged."""
        return self.phases[-1] if self.phases else "STARTING"

    @property
    def is_active(self) -> bool:
        """Whether it said that it serves, and has not ended since."""
        return self.phase == "ACTIVE" and self.service.process.returncode is None

    def reigns(self) -> list[Reign]:
        """Return its tenures so far."""
        return reigns(self.name, read(self._journal))

    def serves_everybody(self) -> bool:
        """Whether it has let somebody in and delivered in its present tenure."""
        mine = self.reigns()
        return bool(mine) and self.is_active and mine[-1].number_of(ACCEPT) > 0 and mine[-1].number_of(DELIVERY) > 0

    async def try_all_the_time(self) -> None:
        """Publish, listen, come and go, whatever the answers are, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish())
            tasks.create_task(self._listen())
            tasks.create_task(self._come_and_go())

    async def _publish(self) -> None:
        async with local_http() as http:
            http.headers["X-API-Key"] = API_KEY
            for number in itertools.count():
                try:
                    async with asyncio.timeout(_PATIENCE_SECONDS):
                        body = {"channel": _CHANNEL, "data": [self.name, number]}
                        await http.post(f"{self.service.url}/api/publish", json=body)
                except (httpx.HTTPError, TimeoutError):
                    # It does not serve, or nobody is there.
                    pass
                await asyncio.sleep(_PUBLISH_SECONDS)

    async def _listen(self) -> None:
        while True:
            async for _ in self._frames():
                pass
            await asyncio.sleep(_POLL_SECONDS)

    async def _come_and_go(self) -> None:
        while True:
            async for _ in self._frames():
                break
            await asyncio.sleep(_POLL_SECONDS)

    async def _frames(self) -> AsyncIterator[str | bytes]:
        """Connect and subscribe, and yield what comes until the connection ends."""
        try:
            async with connect(
                self.service.ws_url, open_timeout=_PATIENCE_SECONDS, close_timeout=_PATIENCE_SECONDS, proxy=None
            ) as socket:
                await self._subscribe(socket)
                async for frame in socket:
                    yield frame
        except (OSError, TimeoutError, WebSocketException):
            # Refused, closed, or nobody is there.
            return

    async def _subscribe(self, socket: ClientConnection) -> None:
        commands = (
            {"id": 1, "connect": {"token": self.service.token("42")}},
            {"id": 2, "subscribe": {"channel": _CHANNEL}},
        )
        await socket.send("\n".join(json.dumps(command) for command in commands))


class Arena:
    """Contenders on one database, two at a time.

    Attributes:
        everybody: All that there were, in the order of their start.
    """

    def __init__(
        self, stack: AsyncExitStack, tasks: asyncio.TaskGroup, directory: Path, environ: Mapping[str, str]
    ) -> None:
        self._stack = stack
        self._tasks = tasks
        self._directory = directory
        self._environ = environ
        self._clients: dict[Contender, asyncio.Task[None]] = {}
        self.everybody: list[Contender] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, environ: Mapping[str, str]) -> AsyncIterator[Arena]:
        """Start two contenders; the first serves, with the settings of ``environ`` over those of tests."""
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            arena = cls(stack, tasks, directory, environ)
            try:
                await arena.start()
                await arena.start()
                yield arena
            finally:
                for task in arena._clients.values():
                    task.cancel()

    async def start(self) -> Contender:
        """Start another one, and let clients try it."""
        name = f"process {len(self.everybody) + 1}"
        journal = self._directory / f"{name}.journal"
        environ, proxy = dict(self._environ), None
        url = environ["DATABASE_URL"]
        if url.startswith("postgresql"):
            port = int(url.rpartition("/")[0].rpartition(":")[2])
            proxy = await self._stack.enter_async_context(SilentProxy.start(port))
            environ["DATABASE_URL"] = url.replace(f":{port}/", f":{proxy.port}/")
        service = await self._stack.enter_async_context(
            ServiceProcess.start({**environ, "JOURNAL": str(journal)}, module="tests.handover.runner")
        )
        contender = Contender(name, service, journal, proxy)
        self.everybody.append(contender)
        self._clients[contender] = self._tasks.create_task(contender.try_all_the_time())
        return contender

    async def until(self, condition: Callable[[], bool], what: str, *, seconds: float) -> None:
        """Wait for what the processes log or write down."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 - another process makes it true
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            logs = "\n".join(f"--- {one.name}, {one.phase}\n{one.service.log()}" for one in self.everybody[-3:])
            raise AssertionError(f"not in time: {what}\n{logs}") from None

    async def holder(self, *, seconds: float) -> tuple[Contender, Contender]:
        """Wait until one of the two that run lets people in and delivers; return it and the other."""
        running = [one for one in self.everybody if one.service.process.returncode is None]
        assert 2 == len(running)
        await self.until(lambda: any(one.serves_everybody() for one in running), "somebody serves", seconds=seconds)
        first, second = running
        return (first, second) if first.serves_everybody() else (second, first)

    async def bury(self, contender: Contender, number: signal.Signals) -> int:
        """End a process by a signal and return its exit code."""
        contender.service.signal(number)
        code = await contender.service.wait()
        self._clients.pop(contender).cancel()
        return code

    def assert_sound(self) -> None:
        """Assert that every process that ran had nothing to say about defects."""
        for one in self.everybody:
            assert not [line for line in one.service.lines if line.get("level") == "error"], one.service.log()

    def all_reigns(self) -> list[Reign]:
        """Return the tenures of all of them."""
        return [reign for one in self.everybody for reign in one.reigns()]

    def begins(self) -> int:
        """Return how many tenures there were."""
        return sum(reign.number_of(BEGIN) for reign in self.all_reigns())
