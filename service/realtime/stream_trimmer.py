"""Deleting what is no longer kept, a little at a time, beside what is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.core.codes import Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.core.namespaces import Channel
    from service.core.tenure import Tenure
    from service.realtime.ports import StreamTables

__all__ = ("StreamTrimmer",)

_ROWS_AT_ONCE = 1_000
_CHANNELS_AT_ONCE = 200
_BATCHES_AT_ONCE = 10
_LOOKS_AT_ONCE = 2


class StreamTrimmer:
    """Goes round all streams of the database, and begins again.

    Reads leave out what should be gone by themselves: here only room is won.

    Args:
        resolve: Finds a channel by its name. What belongs to none stays: a namespace may come back.
        idempotency_seconds: Results of keys are deleted after that.
    """

    def __init__(
        self,
        tables: StreamTables,
        tenure: Tenure,
        *,
        resolve: Callable[[str], Channel | Error],
        wall: Callable[[], float],
        idempotency_seconds: float,
    ) -> None:
        self._tables = tables
        self._tenure = tenure
        self._resolve = resolve
        self._wall = wall
        self._idempotency_seconds = idempotency_seconds
        self._after = ""
        self._pending: dict[str, tuple[int, float]] = {}

    async def step(self) -> None:
        """Delete a few batches; the next call goes on from there.

        Raises:
            DatabaseError: The database failed; the next call tries again.
        """
        looks = 0
        for _ in range(_BATCHES_AT_ONCE):
            if not self._tenure.holds():
                return
            if not self._pending:
                if looks == _LOOKS_AT_ONCE or not await self._look_further():
                    break
                looks += 1
            if await self._tables.trim(self._pending, limit=_ROWS_AT_ONCE, token=self._tenure.token) < _ROWS_AT_ONCE:
                self._pending = {}
        for _ in range(_BATCHES_AT_ONCE):
            before = self._wall() - self._idempotency_seconds
            if await self._tables.expire_results(before, limit=_ROWS_AT_ONCE, token=self._tenure.token) < _ROWS_AT_ONCE:
                break

    async def _look_further(self) -> bool:
        """Find the bounds of the next channels; False after the last, and then the round begins again."""
        names = await self._tables.names(after=self._after, limit=_CHANNELS_AT_ONCE)
        self._after = names[-1][0] if names else ""
        now = self._wall()
        for name, top in names:
            channel = self._resolve(name)
            if not isinstance(channel, Error) and channel.namespace.is_durable:
                namespace = channel.namespace
                self._pending[name] = (top - namespace.history_size + 1, now - namespace.history_ttl)
        return bool(names)
