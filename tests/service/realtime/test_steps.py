from __future__ import annotations

import asyncio

import pytest

from service.realtime.steps import DONE, enter_task, first_step, rest


async def test_a_coroutine_that_waits_for_nothing_is_done_at_once() -> None:
    """Without a task."""
    done: list[str] = []

    async def work() -> None:
        done.append("all")

    assert DONE is first_step(work())
    assert ["all"] == done


async def test_a_coroutine_that_waits_goes_on_in_a_task() -> None:
    """From where it stopped, over as many waits as it has."""
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    done: list[str] = []

    async def work() -> None:
        done.append("began")
        done.append(await first)
        done.append(await second)

    coroutine = work()
    awaited = first_step(coroutine)
    assert ["began"] == done

    async def go_on() -> None:
        await rest(coroutine, awaited)

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on())
        await asyncio.sleep(0)
        first.set_result("one")
        second.set_result("two")

    assert ["began", "one", "two"] == done


@pytest.mark.parametrize("is_caught", [True, False])
async def test_an_exception_from_what_it_waits_for_reaches_it(*, is_caught: bool) -> None:
    """It may catch it, wait again, and end; or let it through."""
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()

    async def work() -> str:
        try:
            await first
        except OSError:
            if not is_caught:
                raise
            await second
        return "went on"

    coroutine = work()
    step = coroutine.send(None)
    first.set_exception(OSError("gone"))
    second.set_result(None)

    async def go_on() -> str:
        return await rest(coroutine, step)

    if is_caught:
        assert "went on" == await go_on()
    else:
        with pytest.raises(OSError, match="gone"):
            await go_on()


async def test_an_exception_may_end_it() -> None:
    """When it is caught, and nothing is waited for after that."""
    future = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            await future
        except OSError:
            return "caught"
        return "never"

    coroutine = work()
    step = coroutine.send(None)
    future.set_exception(OSError("gone"))

    async def go_on() -> str:
        return await rest(coroutine, step)

    assert "caught" == await go_on()


async def test_cancelling_the_task_cancels_it() -> None:
    """And what it has to clean up is cleaned up."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done: list[str] = []

    async def work() -> None:
        try:
            await future
        finally:
            done.append("cleaned up")

    coroutine = work()
    awaited = first_step(coroutine)

    async def go_on() -> None:
        await rest(coroutine, awaited)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(go_on())
        await asyncio.sleep(0)
        task.cancel()

    assert task.cancelled()
    assert future.cancelled()
    assert ["cleaned up"] == done


async def test_an_exception_before_the_first_wait_comes_out_at_once() -> None:
    """There is no task yet that it could end."""

    async def work() -> None:
        raise OSError("at once")

    with pytest.raises(OSError, match="at once"):
        first_step(work())


@pytest.mark.parametrize("is_closed", [False, True])
async def test_dropping_it_closes_the_coroutine(*, is_closed: bool) -> None:
    """As at the end of a loop with tasks left; the coroutine may have been closed before."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done: list[str] = []

    async def work() -> None:
        try:
            await future
        finally:
            done.append("cleaned up")

    coroutine = work()
    awaited = first_step(coroutine)

    async def go_on() -> None:
        await rest(coroutine, awaited)

    dropped = go_on()
    assert future is dropped.send(None)
    if is_closed:
        coroutine.close()
    dropped.close()

    assert ["cleaned up"] == done


async def test_entering_a_task() -> None:
    """What the first step may not do works from there on: a timeout asks for the task that it is in."""
    done: list[str] = []

    async def work() -> None:
        await enter_task()
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        done.append("in time")

    coroutine = work()
    awaited = first_step(coroutine)
    assert awaited is not DONE
    assert [] == done

    async def go_on() -> None:
        await rest(coroutine, awaited)

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on())

    assert ["in time"] == done
