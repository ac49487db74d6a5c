"""The one timer of the process: everything that happens because time passed happens in `Ticker.tick`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from service.core.codes import Disconnects

if TYPE_CHECKING:
    from service.realtime.announcements import Announcements
    from service.realtime.context import Context
    from service.realtime.drainer import Drainer
    from service.realtime.lifecycle import Lifecycle

__all__ = ("TICK_SECONDS", "Ticker")

TICK_SECONDS = 0.05
_SWEEP_SECONDS = 1.0


class Ticker:
    """Calls whoever waits for time to pass. Event loop only.

    Attributes:
        ticked_at: Monotonic seconds when the last tick ended well; a tick that fails leaves it behind.
    """

    def __init__(self, context: Context, lifecycle: Lifecycle, announcements: Announcements, drainer: Drainer) -> None:
        self._context = context
        self._lifecycle = lifecycle
        self._announcements = announcements
        self._drainer = drainer
        self._swept_at = self.ticked_at = context.clock.now()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - a defect in one tick must not stop the heartbeats for good
                self._context.observer.failed("tick", error)

    def tick(self) -> None:
        """Do all that is due at this moment."""
        context, now = self._context, self._context.clock.now()
        # First of all: who may no longer serve sends everybody away, and nothing below sends anything.
        context.may_serve()
        for connection in context.wheel.due(now):
            try:
                connection.elapse()
            except Exception as error:  # noqa: BLE001 - the others are out of the wheel already and must have their turn
                context.observer.failed("heartbeat", error)
                connection.close(Disconnects.INTERNAL_ERROR)
        self._lifecycle.tick(now)
        self._announcements.tick(now)
        self._drainer.tick(now)
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            for limit in (context.messages, context.commands, context.refusals):
                limit.expire(now)
            context.streams.expire(now, context.hub.rooms)
        self.ticked_at = now
