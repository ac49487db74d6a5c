"""What every lock of an instance has to do, whatever it is made of.

A test module of a lock has a class that inherits `InstanceLockSuite` and overrides the fixture
`make`. Locks that it makes stand for processes of their own, all on the same place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, Protocol

import pytest

from service.core.tenure import Grant, Occupied
from service.errors import DatabaseError, DatabaseUnavailable, Overtaken
from service.realtime.ports import InstanceLock

__all__ = ("InstanceLockSuite", "Make", "granted", "proven")

_DEADLINE_SECONDS = 10.0


class Make(Protocol):
    """Makes the lock of one process."""

    def __call__(self, name: str, *, pod: str = "") -> InstanceLock:
        """Return a lock whose holder has this name and pod."""
        ...


async def granted(lock: InstanceLock) -> Grant:
    """Try until the lock is got: a database needs a moment to notice that a session is gone."""
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while True:
            outcome = await lock.acquire()
            if isinstance(outcome, Grant):
                return outcome
            await asyncio.sleep(0.01)


async def proven(lock: InstanceLock) -> float:
    """Try until it can be proven, as the loop does within its deadline."""
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while True:
            try:
                return await lock.prove(1.0)
            except DatabaseUnavailable:
                await asyncio.sleep(0.01)


class InstanceLockSuite:
    """The suite.

    Attributes:
        KIND: What the lock says of itself.
        WAITS: Whether the successor of one that did not end cleanly has to wait.
        COMES_BACK: Whether a session that was cut can be replaced by another.
    """

    KIND: ClassVar[str]
    WAITS: ClassVar[bool] = True
    COMES_BACK: ClassVar[bool] = True

    @pytest.fixture
    def make(self) -> Make:
        """Return what makes locks on one place that nobody has had before."""
        raise NotImplementedError

    @pytest.fixture
    def boot(self) -> Callable[[], float]:
        """Return the clock that the locks read."""
        raise NotImplementedError

    async def test_says_what_it_reaches(self, make: Make) -> None:
        """For the status."""
        assert self.KIND == make("one").kind

    async def test_the_first_gets_it_at_once(self, make: Make) -> None:
        """Nobody was there before it."""
        lock = make("one")
        grant = await lock.acquire()

        assert isinstance(grant, Grant)
        assert (1, False) == (grant.token, grant.must_wait)
        await lock.release()

    async def test_the_second_does_not(self, make: Make) -> None:
        """And learns who has it, and since when."""
        first, second = make("host one"), make("host two")
        await granted(first)
        outcome = await second.acquire()

        assert isinstance(outcome, Occupied)
        assert "host one" == outcome.holder
        assert 1_700_000_000 < outcome.since
        assert isinstance(await second.acquire(), Occupied)
        await first.release()
        await second.release()

    async def test_a_release_leaves_nothing_to_wait_for(self, make: Make) -> None:
        """The token is another one all the same."""
        first, second = make("one"), make("two")
        before = await granted(first)
        await first.release()
        grant = await granted(second)

        assert (before.token + 1, False) == (grant.token, grant.must_wait)
        await second.release()

    async def test_after_a_death_the_next_waits(self, make: Make) -> None:
        """Where a session may end before its holder does."""
        first, second = make("one"), make("two")
        before = await granted(first)
        assert isinstance(await second.acquire(), Occupied)
        first.abandon()
        grant = await granted(second)

        assert (before.token + 1, self.WAITS) == (grant.token, grant.must_wait)
        await second.release()

    async def test_in_the_same_pod_nobody_waits(self, make: Make) -> None:
        """The container before has surely ended."""
        first, second = make("one", pod="p1"), make("two", pod="p1")
        await granted(first)
        first.abandon()

        assert not (await granted(second)).must_wait
        await second.release()

    async def test_another_pod_waits(self, make: Make) -> None:
        """It may run on a node that was only cut off."""
        first, second = make("one", pod="p1"), make("two", pod="p2")
        await granted(first)
        first.abandon()

        assert self.WAITS == (await granted(second)).must_wait
        await second.release()

    async def test_who_dies_waiting_hands_the_wait_on(self, make: Make) -> None:
        """To the next container of its own pod too: the one before both may still serve."""
        first, second, third = make("one", pod="p1"), make("two", pod="p2"), make("three", pod="p2")
        await granted(first)
        first.abandon()
        await granted(second)
        second.abandon()

        assert self.WAITS == (await granted(third)).must_wait
        await third.release()

    async def test_who_ends_waiting_hands_the_wait_on(self, make: Make) -> None:
        """A clean end of one that never served says nothing about the one before it."""
        first, second, third = make("one"), make("two"), make("three")
        await granted(first)
        first.abandon()
        await granted(second)
        await second.release()

        assert self.WAITS == (await granted(third)).must_wait
        await third.release()

    async def test_who_has_waited_ends_like_everybody(self, make: Make) -> None:
        """Nobody waits for it, nor for the one before it."""
        first, second, third = make("one"), make("two", pod="p2"), make("three")
        await granted(first)
        first.abandon()
        await granted(second)
        await second.settle()
        await second.release()

        assert not (await granted(third)).must_wait
        await third.release()

    async def test_who_has_waited_is_known_by_its_pod(self, make: Make) -> None:
        """From then on."""
        first, second, third = make("one"), make("two", pod="p2"), make("three", pod="p2")
        await granted(first)
        first.abandon()
        await granted(second)
        await second.settle()
        second.abandon()

        assert not (await granted(third)).must_wait
        await third.release()

    async def test_nobody_waits_for_itself(self, make: Make) -> None:
        """Whoever lost its session, and stopped, finds no predecessor but itself."""
        lock = make("one")
        before = await granted(lock)
        lock.abandon()
        grant = await granted(lock)

        assert (before.token + 1, False) == (grant.token, grant.must_wait)
        await lock.release()

    async def test_but_for_whoever_was_in_between(self, make: Make) -> None:
        """Then it has a predecessor like everybody."""
        first, second = make("one"), make("two")
        await granted(first)
        first.abandon()
        await granted(second)
        second.abandon()

        assert self.WAITS == (await granted(first)).must_wait
        await first.release()

    async def test_a_proof_is_as_old_as_its_question(self, make: Make, boot: Callable[[], float]) -> None:
        """The answer may have been under way for long."""
        lock = make("one")
        grant = await granted(lock)
        before = boot()
        sent_at = await lock.prove(5.0)

        assert before <= sent_at
        assert before <= grant.proven_at or grant.proven_at <= sent_at
        await lock.release()

    async def test_a_session_that_was_cut_is_replaced(self, make: Make) -> None:
        """While nobody else took the lock, the tenure goes on under its token."""
        lock, other = make("one"), make("two")
        grant = await granted(lock)
        lock.abandon()
        if self.COMES_BACK:
            await proven(lock)
            assert isinstance(await other.acquire(), Occupied)
        else:
            with pytest.raises(Overtaken):
                await lock.prove(5.0)
        await lock.release()

        after = await granted(other)
        assert grant.token + 1 == after.token
        await other.release()

    async def test_no_proof_while_somebody_else_has_it(self, make: Make) -> None:
        """A session alone proves nothing."""
        first, second = make("one"), make("two")
        await granted(first)
        first.abandon()
        await granted(second)
        for _ in range(3):
            with pytest.raises(DatabaseError):
                await first.prove(5.0)

        await second.prove(5.0)
        await first.release()
        await second.release()

    async def test_no_proof_once_somebody_else_had_it(self, make: Make) -> None:
        """The token tells, also when the lock is free again."""
        first, second = make("one"), make("two")
        await granted(first)
        first.abandon()
        await granted(second)
        await second.release()

        with pytest.raises(Overtaken):
            await proven(first)
        await first.release()

    async def test_letting_go_can_be_repeated(self, make: Make) -> None:
        """Also by one that never had it."""
        lock = make("one")
        lock.abandon()
        await lock.release()
        await granted(lock)
        await lock.release()
        await lock.release()
        lock.abandon()

        assert isinstance(await make("two").acquire(), Grant)
