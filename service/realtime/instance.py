"""One running instance of the service: its parts, put together once."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.core.drain import DrainPolicy
from service.core.phase import Phase
from service.realtime.drainer import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from service.db.watch import DatabaseWatch
    from service.realtime.admission import Admission, AdmissionLimits
    from service.realtime.announcements import Announcements
    from service.realtime.context import Context
    from service.realtime.drainer import Drainer
    from service.realtime.durable_streams import DurableStreams
    from service.realtime.hub import Hub
    from service.realtime.lifecycle import Lifecycle
    from service.realtime.succession import Succession
    from service.realtime.ticker import Ticker

__all__ = ("Background", "DrainDefaults", "Instance")


class Background:
    """Where commands that have to wait go on: a task group that lives as long as the application."""

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        self._failed = failed
        self._group: asyncio.TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def use(self, group: asyncio.TaskGroup) -> None:
        """Run in ``group`` from now on."""
        self._group, self._loop, self._thread = group, asyncio.get_running_loop(), threading.get_ident()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run ``work`` in the background; a defect in it is noted and ends nothing else. From any thread."""
        if self._group is None or self._loop is None:
            work.close()
            raise RuntimeError("the service has not started yet")
        if threading.get_ident() == self._thread:
            self._start(self._group, work)
        else:
            # Litestar runs handlers that are no coroutines in threads, and they may publish.
            self._loop.call_soon_threadsafe(self._start, self._group, work)

    def _start(self, group: asyncio.TaskGroup, work: Coroutine[object, object, None]) -> None:
        task = group.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self, *, patience_seconds: float) -> None:
        """Wait for what still runs, then cancel it: a handler that never returns must not keep the process alive."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=patience_seconds)
        for task in late:
            task.cancel()
        if late:
            self._failed("background", TimeoutError(f"{len(late)} still ran {patience_seconds:g} s after the drain"))

    async def _guarded(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the root of a task
            self._failed("background", error)


@dataclass(frozen=True, slots=True)
class DrainDefaults:
    """How a drain goes when nobody says otherwise.

    Attributes:
        spread_seconds: By how many connections are open.
        budget_seconds: After which all that is left is closed at once.
    """

    grace_seconds: float
    spread_seconds: Callable[[int], float]
    budget_seconds: float


@dataclass(frozen=True, slots=True)
class Instance:
    """The parts of this process that its surfaces work with.

    Attributes:
        id: New with every start of the process.
        image_digest: Of the container image, None when nobody said.
        started_at: Monotonic seconds.
        database: What operators see of it; None when nothing is kept.
        durable: The streams in it; None when nothing is kept.
        loops: Run as long as the application, beside the ticker and the succession.
    """

    id: str
    version: str
    image_digest: str | None
    started_at: float
    context: Context
    lifecycle: Lifecycle
    announcements: Announcements
    drainer: Drainer
    succession: Succession
    admission: Admission
    admission_limits: AdmissionLimits
    ticker: Ticker
    background: Background
    drain_defaults: DrainDefaults
    ttl_seconds: float
    database: DatabaseWatch | None = None
    durable: DurableStreams | None = None
    loops: tuple[Callable[[], Coroutine[object, object, None]], ...] = ()

    @property
    def hub(self) -> Hub:
        """Who is connected."""
        return self.context.hub

    def drain(
        self,
        origin: Origin,
        *,
        grace_seconds: float | None = None,
        spread_seconds: float | None = None,
        budget_seconds: float | None = None,
        ttl_seconds: float | None = None,
    ) -> bool:
        """Begin or renew a drain; None takes the settings. False when the phase does not allow it."""
        defaults = self.drain_defaults
        policy = DrainPolicy(
            grace_seconds=defaults.grace_seconds if grace_seconds is None else grace_seconds,
            spread_seconds=(
                defaults.spread_seconds(len(self.hub.connections)) if spread_seconds is None else spread_seconds
            ),
        )
        ttl = self.ttl_seconds if ttl_seconds is None else ttl_seconds
        return self.drainer.start(
            origin,
            policy,
            budget_seconds=defaults.budget_seconds if budget_seconds is None else budget_seconds,
            ttl_seconds=math.inf if origin is Origin.SIGNAL else ttl,
        )

    def close(self) -> None:
        """Enter the last phase."""
        self.lifecycle.enter(Phase.CLOSED, "stopped")
