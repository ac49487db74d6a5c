"""What every store of streams has to do, whatever it keeps them in.

A test module of a store has a class that inherits `StreamStoreSuite` and overrides the
fixture `store` with an empty one that reads the time from the fixture ``clock``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import msgspec
import pytest

from service.core.namespaces import Channel, Namespace
from service.core.recovery import Page
from service.core.stream import Position, Publication
from service.realtime.ports import Appended, Draft, StreamStore
from tests.support.clock import ManualClock

__all__ = ("StreamStoreSuite", "channel", "data_of", "everything", "fill", "offsets")

HUGE = 2**63 - 1
"""The largest offset that a client can name."""

SIZE = 5
TTL_SECONDS = 100.0


def channel(name: str = "room", **options: object) -> Channel:
    """Return a channel that keeps five publications for 100 s, unless told otherwise."""
    options = {"history_size": SIZE, "history_ttl": TTL_SECONDS} | options
    return Channel(name, msgspec.convert(options, Namespace))


def offsets(items: Sequence[Publication]) -> list[int]:
    """Return where they stand."""
    return [item.offset for item in items]


def data_of(items: Sequence[Publication]) -> list[bytes]:
    """Return what was published."""
    return [item.data for item in items]


async def fill(store: StreamStore, where: Channel, count: int) -> list[Appended]:
    """Publish ``count`` numbers from 1 on."""
    return [await store.append(where, Draft(b"%d" % number)) for number in range(1, count + 1)]


async def everything(store: StreamStore, where: Channel) -> Page:
    """Read all there is."""
    return await store.read(where, after=0, limit=1000)


class StreamStoreSuite:
    """The suite.

    Attributes:
        idempotency_seconds: How long the store remembers the result of a key.
        top_seconds: How long it remembers a stream after its last publication.
    """

    idempotency_seconds: ClassVar[float] = 300.0
    top_seconds: ClassVar[float] = 86_400.0

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time that the store is told."""
        return ManualClock()

    @pytest.fixture
    def store(self, clock: ManualClock) -> StreamStore:
        """An empty store; to be overridden."""
        raise NotImplementedError(clock)

    def instant(self, clock: ManualClock) -> float:
        """Return what the store writes down as the time; to be overridden where that is not monotonic."""
        return clock.now()

    # Appending and reading.

    async def test_a_new_stream_is_at_zero(self, store: StreamStore) -> None:
        """With an epoch, so that a client that waits for the first publication has a position."""
        page = await everything(store, channel())

        assert [] == list(page.items)
        assert 0 == page.top.offset
        assert page.top.epoch

    async def test_the_first_publication_goes_on_from_there(self, store: StreamStore) -> None:
        """Same epoch, offset 1: whoever subscribed before it misses nothing."""
        before = await everything(store, channel())
        (position, _) = await store.append(channel(), Draft(b"{}"))

        assert Position(1, before.top.epoch) == position

    async def test_offsets_grow_by_one(self, store: StreamStore) -> None:
        """Without a gap, and the answer holds what the reader gets."""
        appended = await fill(store, channel(), 4)
        page = await everything(store, channel())

        assert [1, 2, 3, 4] == [answer.position.offset for answer in appended if answer.position]
        assert [answer.publication for answer in appended] == list(page.items)
        assert appended[-1].position == page.top

    async def test_appends_keep_their_order_when_they_are_made_at_once(self, store: StreamStore) -> None:
        """The order of the calls, not that of the tasks' ends."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(store.append(channel(), Draft(b"%d" % number))) for number in range(4)]
        positions = [task.result().position for task in tasks]

        assert all(before and after and before.offset < after.offset for before, after in pairwise(positions))
        assert [b"0", b"1", b"2", b"3"] == data_of((await everything(store, channel())).items)

    async def test_channels_are_apart(self, store: StreamStore) -> None:
        """Names are compared as wholes."""
        await fill(store, channel("one"), 3)
        (position, _) = await store.append(channel("one:two"), Draft(b"{}"))

        assert position is not None
        assert 1 == position.offset
        assert 3 == (await everything(store, channel("one"))).top.offset

    async def test_everything_of_a_publication_is_kept(self, store: StreamStore, clock: ManualClock) -> None:
        """To the byte."""
        draft = Draft(b'{"a" : "\xc3\xa9"}', info=b'{"user":"1"}', tags=b'{"x":"y"}')
        await store.append(channel(), draft)
        (item,) = (await everything(store, channel())).items

        assert (1, draft.data, draft.info, draft.tags) == (item.offset, item.data, item.info, item.tags)
        assert self.instant(clock) == item.at

    @pytest.mark.parametrize(
        ("after", "limit", "found"),
        [
            pytest.param(0, 10, [2, 3, 4, 5, 6], id="before-what-is-kept"),
            pytest.param(1, 10, [2, 3, 4, 5, 6], id="right-before-what-is-kept"),
            pytest.param(4, 10, [5, 6], id="within"),
            pytest.param(2, 2, [3, 4], id="limited"),
            pytest.param(2, 0, [], id="top-alone"),
            pytest.param(6, 10, [], id="at-the-top"),
            pytest.param(7, 10, [], id="ahead-of-the-top"),
            pytest.param(HUGE, 300, [], id="huge"),
        ],
    )
    async def test_read(self, store: StreamStore, after: int, limit: int, found: list[int]) -> None:
        """Oldest first, above the offset, at most as many as asked for; the top comes with it always."""
        await fill(store, channel(), 6)
        page = await store.read(channel(), after=after, limit=limit)

        assert found == offsets(page.items)
        assert 6 == page.top.offset

    @pytest.mark.parametrize(
        ("before", "limit", "found"),
        [
            pytest.param(2**63, 10, [6, 5, 4, 3, 2], id="from-the-end"),
            pytest.param(HUGE, 2, [6, 5], id="limited"),
            pytest.param(7, 1, [6], id="right-after-the-top"),
            pytest.param(6, 10, [5, 4, 3, 2], id="from-the-top"),
            pytest.param(4, 0, [], id="top-alone"),
            pytest.param(2, 10, [], id="before-what-is-kept"),
            pytest.param(1, 10, [], id="at-the-first"),
        ],
    )
    async def test_read_back(self, store: StreamStore, before: int, limit: int, found: list[int]) -> None:
        """Newest first, below the offset."""
        await fill(store, channel(), 6)
        page = await store.read_back(channel(), before=before, limit=limit)

        assert found == offsets(page.items)
        assert 6 == page.top.offset

    async def test_read_back_of_nothing(self, store: StreamStore) -> None:
        """Gives the same top as reading forward."""
        page = await store.read_back(channel(), before=2**63, limit=10)

        assert [] == list(page.items)
        assert (await everything(store, channel())).top == page.top

    # Delivering.

    async def test_delivers_before_it_answers(self, store: StreamStore) -> None:
        """Everything that was made, once, in the order of the offsets; nothing for what was not."""
        delivered: list[tuple[str, Publication, str]] = []
        store.use(lambda name, publication, epoch: delivered.append((name, publication, epoch)))
        answers: list[tuple[Appended, int]] = []
        for draft in (Draft(b"1", version=7), Draft(b"2", idempotency_key="k"), Draft(b"3", idempotency_key="k")):
            appended = await store.append(channel(), draft)
            answers.append((appended, len(delivered)))
        await store.append(channel(), Draft(b"4", version=7))

        assert [1, 2, 2] == [count for _, count in answers]
        assert [answer.publication for answer, _ in answers[:2]] == [publication for _, publication, _ in delivered]
        position = answers[0][0].position
        assert position is not None
        assert [("room", position.epoch)] * 2 == [(name, epoch) for name, _, epoch in delivered]

    async def test_delivers_what_has_no_place_in_a_stream(self, store: StreamStore) -> None:
        """With offset 0 and no epoch."""
        delivered: list[tuple[str, int, str]] = []
        store.use(lambda name, publication, epoch: delivered.append((name, publication.offset, epoch)))
        await store.append(channel("none", history_size=0, history_ttl=0), Draft(b"1"))
        await store.append(channel("skips"), Draft(b"1", skip_history=True))

        assert [("none", 0, ""), ("skips", 0, "")] == delivered

    # Continuity.

    async def test_a_client_ahead_of_the_top_means_another_epoch(self, store: StreamStore) -> None:
        """Offsets go on, and so does what is kept."""
        appended = await fill(store, channel(), 2)
        await store.diverged(channel())
        page = await everything(store, channel())

        assert appended[-1].position is not None
        assert appended[-1].position.epoch != page.top.epoch
        assert [1, 2] == offsets(page.items)
        (position, _) = await store.append(channel(), Draft(b"3"))
        assert Position(3, page.top.epoch) == position

    async def test_an_untouched_channel_can_get_another_epoch_too(self, store: StreamStore) -> None:
        """It alone, and its first publication takes it over."""
        before = (await everything(store, channel())).top
        await store.diverged(channel())
        after = (await everything(store, channel())).top

        assert (0, False) == (after.offset, before.epoch == after.epoch)
        assert before == (await everything(store, channel("other"))).top
        (position, _) = await store.append(channel(), Draft(b"1"))
        assert Position(1, after.epoch) == position

    @pytest.mark.parametrize(("seconds", "is_renewed"), [(59.9, False), (60.0, True)])
    async def test_an_epoch_lives_for_a_minute_at_least(
        self, store: StreamStore, clock: ManualClock, seconds: float, *, is_renewed: bool
    ) -> None:
        """Each new one makes every subscriber start over: nobody may ask for that as often as he likes."""
        await fill(store, channel(), 1)
        await store.diverged(channel())
        told = (await everything(store, channel())).top.epoch
        clock.advance(seconds)
        store.expire(clock.now(), {})
        await store.diverged(channel())

        assert is_renewed is ((await everything(store, channel())).top.epoch != told)
        other = (await everything(store, channel("other"))).top.epoch
        await store.diverged(channel("other"))
        assert other != (await everything(store, channel("other"))).top.epoch

    # What is kept.

    @pytest.mark.parametrize(
        "where",
        [
            channel(history_size=0),
            channel(history_ttl=0),
            channel(history_size=0, history_ttl=0),
        ],
    )
    async def test_a_channel_without_history_keeps_nothing(self, store: StreamStore, where: Channel) -> None:
        """There is a publication to deliver, and it has no place in any stream."""
        (position, publication) = await store.append(where, Draft(b"1", b"2", b"3"))

        assert position is None
        assert publication is not None
        assert (0, b"1", b"2", b"3") == (publication.offset, publication.data, publication.info, publication.tags)
        assert [] == list((await everything(store, channel())).items)

    async def test_a_publication_may_skip_history(self, store: StreamStore) -> None:
        """It takes no offset."""
        await fill(store, channel(), 1)
        (position, publication) = await store.append(channel(), Draft(b"skipped", skip_history=True))

        assert position is None
        assert publication is not None
        assert 0 == publication.offset
        assert [b"1"] == data_of((await everything(store, channel())).items)

    @pytest.mark.parametrize(("count", "kept"), [(SIZE, [1, 2, 3, 4, 5]), (SIZE + 1, [2, 3, 4, 5, 6])])
    async def test_keeps_as_many_as_the_namespace_says(self, store: StreamStore, count: int, kept: list[int]) -> None:
        """At the size, and one past it."""
        await fill(store, channel(), count)

        assert kept == offsets((await everything(store, channel())).items)

    @pytest.mark.parametrize("is_backward", [False, True])
    @pytest.mark.parametrize(("seconds", "kept"), [(TTL_SECONDS - 0.001, 1), (TTL_SECONDS, 0)])
    async def test_keeps_as_long_as_the_namespace_says(
        self, store: StreamStore, clock: ManualClock, seconds: float, kept: int, *, is_backward: bool
    ) -> None:
        """Also when nobody swept in between; the top stays."""
        (position, _) = await store.append(channel(), Draft(b"1"))
        clock.advance(seconds)
        read = store.read_back(channel(), before=HUGE, limit=10) if is_backward else everything(store, channel())
        page = await read

        assert kept == len(page.items)
        assert position == page.top

    async def test_remove_keeps_the_top(self, store: StreamStore) -> None:
        """Offsets go on."""
        appended = await fill(store, channel(), 2)
        await store.remove(channel())
        page = await everything(store, channel())

        assert [] == list(page.items)
        assert appended[-1].position == page.top
        (position, _) = await store.append(channel(), Draft(b"3"))
        assert Position(3, page.top.epoch) == position

    async def test_remove_of_nothing(self, store: StreamStore) -> None:
        """Does nothing."""
        before = (await everything(store, channel())).top
        await store.remove(channel())

        assert before == (await everything(store, channel())).top

    # Repetitions.

    async def test_a_repeated_key_gets_the_first_result(self, store: StreamStore) -> None:
        """And nothing to deliver, also after others were published."""
        first = await store.append(channel(), Draft(b"1", idempotency_key="k"))
        await fill(store, channel(), 1)
        second = await store.append(channel(), Draft(b"other", idempotency_key="k"))

        assert Appended(first.position, None) == second
        assert 2 == (await everything(store, channel())).top.offset

    async def test_keys_belong_to_a_channel(self, store: StreamStore) -> None:
        """The same key elsewhere is another publication; another key here too."""
        await store.append(channel("one"), Draft(b"1", idempotency_key="k"))
        others = [
            await store.append(channel("two"), Draft(b"1", idempotency_key="k")),
            await store.append(channel("one"), Draft(b"1", idempotency_key="l")),
        ]

        assert all(other.publication is not None for other in others)

    async def test_keys_work_without_history(self, store: StreamStore) -> None:
        """Delivered once."""
        where = channel(history_size=0, history_ttl=0)
        first = await store.append(where, Draft(b"1", idempotency_key="k"))
        second = await store.append(where, Draft(b"1", idempotency_key="k"))

        assert first.publication is not None
        assert Appended(None, None) == second

    @pytest.mark.parametrize("is_swept", [False, True])
    @pytest.mark.parametrize(("before_the_end", "repeats"), [(0.001, True), (0.0, False)])
    async def test_keys_are_remembered_for_a_time(
        self, store: StreamStore, clock: ManualClock, before_the_end: float, *, repeats: bool, is_swept: bool
    ) -> None:
        """After that the key may be used again, and is remembered anew."""
        draft = Draft(b"1", idempotency_key="k")
        await store.append(channel(), draft)
        clock.advance(self.idempotency_seconds - before_the_end)
        if is_swept:
            store.expire(clock.now(), {})
        again = await store.append(channel(), draft)

        assert repeats is (again.publication is None)
        assert (await store.append(channel(), draft)).publication is None

    async def test_an_old_version_is_not_published(self, store: StreamStore) -> None:
        """The answer is the top; a newer one and another epoch of versions are."""
        drafts = [
            Draft(b"1", version=2),
            Draft(b"2", version=2),
            Draft(b"3", version=1),
            Draft(b"4", version=3),
            Draft(b"5", version=1, version_epoch="new"),
            Draft(b"6"),
        ]
        appended = [await store.append(channel(), draft) for draft in drafts]

        assert [True, False, False, True, True, True] == [answer.publication is not None for answer in appended]
        assert [1, 1, 1, 2, 3, 4] == [answer.position.offset for answer in appended if answer.position]
        assert [b"1", b"4", b"5", b"6"] == data_of((await everything(store, channel())).items)

    # Forgetting.

    async def test_expire_keeps_what_is_young(self, store: StreamStore, clock: ManualClock) -> None:
        """Sweeping changes nothing that a reader could see."""
        await fill(store, channel(), 3)
        clock.advance(TTL_SECONDS - 1)
        before = await everything(store, channel())
        store.expire(clock.now(), {})

        assert before == await everything(store, channel())
        assert [1, 2, 3] == offsets(before.items)

    async def test_the_top_outlives_the_publications(self, store: StreamStore, clock: ManualClock) -> None:
        """Until the time for it has passed: who comes back learns that something is gone."""
        (position, _) = await store.append(channel(), Draft(b"1"))
        clock.advance(self.top_seconds - 1)
        store.expire(clock.now(), {})

        assert position == (await everything(store, channel())).top

    async def test_a_watched_stream_is_never_forgotten(self, store: StreamStore, clock: ManualClock) -> None:
        """Its members have a position in it."""
        (position, _) = await store.append(channel(), Draft(b"1"))
        clock.advance(10 * self.top_seconds)
        store.expire(clock.now(), {"room"})

        assert position == (await everything(store, channel())).top

    async def test_a_watched_channel_keeps_its_epoch_while_others_are_forgotten(
        self, store: StreamStore, clock: ManualClock
    ) -> None:
        """Also one that was never published to: its members wait for offset 1 of the epoch they were told."""
        watched = channel("watched")
        told = (await everything(store, watched)).top
        for name in ("one", "two"):
            await store.append(channel(name), Draft(b"1"))
            clock.advance(self.top_seconds)
            store.expire(clock.now(), {"watched"})

            assert told == (await everything(store, watched)).top
            assert told == (await store.read_back(watched, before=HUGE, limit=1)).top
        (position, _) = await store.append(watched, Draft(b"1"))
        assert Position(1, told.epoch) == position
