"""Running a coroutine without a task for as long as it does not have to wait.

A command on a channel in memory is decided on the spot. To start a task for it
would cost more than the command; to write it twice, with and without ``await``, would
cost more than that.
"""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

__all__ = ("DONE", "enter_task", "first_step", "rest")

DONE = object()
"""What `first_step` returns for a coroutine that has ended."""

T = TypeVar("T")


def first_step(work: Coroutine[Any, Any, None]) -> object:
    """Run ``work`` to its end or to the first thing it waits for.

    Returns:
        ``DONE``, or what it waits for, to be handed to `rest` inside a task.
    """
    try:
        return work.send(None)
    except StopIteration:
        return DONE


@types.coroutine
def enter_task() -> Generator[None, Any, None]:
    """Go on in a task from here.

    For code of the application, which may begin with a timeout, a task group or a library that asks for its task.
    """
    yield


@types.coroutine
def rest(work: Coroutine[Any, Any, T], awaited: object) -> Generator[object, Any, T]:
    """Go on with a coroutine that `first_step` left waiting for ``awaited``.

    The first thing waited for must be a future, or `enter_task`: what needs to know its task, such as
    ``asyncio.timeout``, may only come later.
    """
    if asyncio.isfuture(awaited):
        # A task takes this mark off a future when it begins to wait; where several wait for the same one, e.g. the
        # commit that all their publications are in, the second would find it gone and take the future for a slip.
        awaited._asyncio_future_blocking = True  # noqa: SLF001 - part of the protocol between futures and tasks
    while True:
        try:
            sent = yield awaited
        except GeneratorExit:
            # Dropped unfinished: it may only be closed now, also when the collector came to it first.
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - everything is the coroutine's to handle, cancellation too
            try:
                awaited = work.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # StopIteration does not say of which type its value is
        else:
            try:
                awaited = work.send(sent)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # StopIteration does not say of which type its value is
