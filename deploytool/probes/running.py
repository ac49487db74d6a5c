"""Probes as plain calls with a hard limit of time; in a thread of their own where they last."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from deploytool.model.observations import Unseen
from deploytool.probes.errors import ProbeError, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from deploytool.probes.address import Address

__all__ = ("Background", "run")

_T = TypeVar("_T")
_END_SECONDS = 5.0


def run(work: Callable[[], Coroutine[Any, Any, _T]], address: Address, seconds: float) -> _T | Unseen:
    """Run a probe to its end, or until it has taken too long.

    Args:
        work: The probe; it closes what it opened when it is cancelled.
        address: That it tries, for the words of a failure.
        seconds: That it may take.
    """
    try:
        return asyncio.run(_limited(work, address, seconds))
    except Exception as error:  # noqa: BLE001 - whatever a peer can make a library raise
        found = explain(error, address.url)
        return Unseen(found.problem, found.remediation)


async def _limited(work: Callable[[], Coroutine[Any, Any, _T]], address: Address, seconds: float) -> _T:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work()
    except TimeoutError:
        if limit.expired():
            raise ProbeError(f"{address.url} kept a probe waiting for {seconds:g} s, so it was given up") from None
        raise


class Background:
    """A probe that goes on while others run.

    Concurrency: its event loop lives in a thread of its own; the other methods are for the thread that made it.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, _T]], address: Address, seconds: float) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._result: Future[Any] = Future()
        self._work = work
        self._address = address
        self._seconds = seconds
        self._thread = threading.Thread(target=self._main, name="probe", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        try:
            self._result.set_result(run(self._noted, self._address, self._seconds))
        except asyncio.CancelledError:
            self._result.set_result(Unseen("it was interrupted"))

    async def _noted(self) -> Any:  # noqa: ANN401 - of the probe
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        return await self._work()

    def result(self) -> Any:  # noqa: ANN401 - of the probe
        """Wait for the end, and return what the probe returned or why it could not."""
        return self._result.result(self._seconds + _END_SECONDS)

    def stop(self) -> None:
        """End it early, if it still runs; it closes what it opened."""
        if self._result.done() or self._loop is None or self._task is None:
            return
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(_END_SECONDS)
