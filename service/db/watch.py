"""What operators see of the database: how much of the pool is used, and how much of the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

from service.db.schema import LEVEL
from service.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.db.database import Database, Pool, ServerFacts

__all__ = ("DatabaseWatch",)

LOOK_SECONDS: Final = 15.0
"""Between two looks at the server; each takes a connection of the pool for a moment."""


class DatabaseWatch:
    """Looks at the server now and then, so that a status asks nobody. Event loop only.

    Args:
        database: Looked at.
        degraded: Says why the database does not do what it is asked; empty when all is well.
        may_look: Whether this instance serves; a standby leaves the server alone.
        sleep: Waits for a number of seconds.

    Attributes:
        server: What the server said last; None before the first look, after one that failed, and on SQLite.
    """

    def __init__(
        self,
        database: Database,
        *,
        degraded: Callable[[], str],
        may_look: Callable[[], bool],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._degraded = degraded
        self._may_look = may_look
        self._sleep = sleep
        self.server: ServerFacts | None = None

    @property
    def kind(self) -> Literal["postgres", "sqlite"]:
        """``postgres`` or ``sqlite``."""
        return self._database.kind

    @property
    def code_level(self) -> int:
        """Level of the schema that this code was written for."""
        return LEVEL

    @property
    def degraded(self) -> str:
        """Why the database does not do what it is asked; empty when all is well."""
        return self._degraded()

    def pool(self) -> Pool:
        """Return the pool as it is now."""
        return self._database.pool_state()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await self._sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once."""
        if self.kind != "postgres" or not self._may_look():
            return
        try:
            self.server = await self._database.facts()
        except DatabaseError:
            # Those who work with the database say so; here it is only not known.
            self.server = None
