"""Reading something once, for everybody who wants it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from service.errors import DatabaseError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from service.realtime.ports import Observer, Tasks

__all__ = ("SharedReads",)

K = TypeVar("K")
V = TypeVar("V")


class SharedReads(Generic[K, V]):
    """Values that were read once and are kept until they are dropped. Event loop only.

    Those who ask for a value while it is read wait for the same read. The read belongs to
    none of them: who goes away meanwhile does not end it for the others.

    Args:
        read: Reads a value, or raises `DatabaseError`.
        name: What is read, for the observer.
    """

    def __init__(
        self, read: Callable[[K], Awaitable[V]], *, name: str, tasks: Tasks | None, observer: Observer
    ) -> None:
        self._read = read
        self._name = name
        self._tasks = tasks
        self._observer = observer
        self._values: dict[K, V] = {}
        self._waiting: dict[K, list[asyncio.Future[V | DatabaseError]]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def get(self, key: K) -> V | None:
        """Return what is known, None when nothing was read."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep what is known without reading; not while it is read."""
        self._values[key] = value

    def drop(self, key: K) -> None:
        """Forget a value; not while it is read."""
        self._values.pop(key, None)

    def reset(self) -> None:
        """Forget everything; who waits is told that there was no answer, and what is being read does not count."""
        waiting, self._waiting = self._waiting, {}
        self._values.clear()
        for waiters in waiting.values():
            _answer(waiters, DatabaseUnavailable("this instance does not serve any more"))

    async def load(self, key: K) -> V:
        """Return a value, reading it when it is not known. It awaits a future first, or nothing.

        Raises:
            DatabaseError: It could not be read; the next one who asks tries again.
        """
        if key in self._values:
            return self._values[key]
        waiter: asyncio.Future[V | DatabaseError] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.get(key)
        if waiters is None:
            waiters = self._waiting[key] = [waiter]
            self._begin(key, waiters)
        else:
            waiters.append(waiter)
        outcome = await waiter
        if isinstance(outcome, DatabaseError):
            raise outcome
        return outcome

    def _begin(self, key: K, waiters: list[asyncio.Future[V | DatabaseError]]) -> None:
        try:
            if self._tasks is None:
                raise RuntimeError  # noqa: TRY301 - as if it had not started
            self._tasks.spawn(self._share(key, waiters))
        except RuntimeError as error:
            del self._waiting[key]
            raise DatabaseUnavailable("the service has not started, or has ended") from error

    async def _share(self, key: K, waiters: list[asyncio.Future[V | DatabaseError]]) -> None:
        outcome: V | DatabaseError = DatabaseUnavailable("the read was ended")
        try:
            outcome = await self._read(key)
        except DatabaseError as error:
            self._observer.noted("read.failed", what=self._name, reason=error.reason)
            outcome = error
        except Exception as error:  # noqa: BLE001 - the root of a read: whoever waits for it has to go on
            self._observer.failed(self._name, error)
            outcome = DatabaseUnavailable("a defect of our own")
        finally:
            if self._waiting.get(key) is waiters:
                del self._waiting[key]
                if not isinstance(outcome, DatabaseError):
                    self._values[key] = outcome
                _answer(waiters, outcome)


def _answer(waiters: list[asyncio.Future[V | DatabaseError]], outcome: V | DatabaseError) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(outcome)
