"""Committing publications together: what arrives during a commit goes with the next one.

One commit is under way at a time. Offsets are given out when it starts, so that one that fails leaves no
hole; publications are delivered when it has succeeded, in their order, and then those who wait are answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from service.core.codes import Error, Errors
from service.core.rows import Head, Row
from service.core.stream import Position, Publication
from service.errors import (
    DatabaseError,
    DatabaseUnavailable,
    NotCommitted,
    OutcomeUnknown,
    OutOfStep,
    Overtaken,
    RowsRefused,
)
from service.realtime.ports import Appended
from service.realtime.stream_cache import NO_TENURE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from service.core.namespaces import Channel
    from service.core.tenure import Tenure
    from service.realtime.ports import Draft, Observer, StreamStore, StreamTables, Tasks
    from service.realtime.stream_cache import CachedStream, StreamCache, Watch

__all__ = ("CommitLimits", "GroupCommit")

_RETRY_SECONDS = 0.05
_MAX_RETRY_SECONDS = 1.0
_ADOPTED_AT_ONCE = 512
_ADOPTED_BYTES = 4 * 1024 * 1024
_MAX_RESULTS = 200_000
_MAX_OUTBOX_IDS = 10_000
_ROW_BYTES = 256  # what a row takes beside its payload, roughly


@dataclass(frozen=True, slots=True)
class CommitLimits:
    """Bounds of what is committed together, and of what waits.

    Attributes:
        group_rows: Publications in one commit.
        group_bytes: Bytes in one commit, unless a single publication has more.
        waiting_rows: Publications that wait for their commit; past it they are refused, those of the outbox apart,
            of which one batch comes at a time.
        waiting_bytes: Bytes of them.
        idempotency_seconds: How long the result of a key is remembered.
    """

    group_rows: int = 512
    group_bytes: int = 8 * 1024 * 1024
    waiting_rows: int = 16_384
    waiting_bytes: int = 64 * 1024 * 1024
    idempotency_seconds: float = 300.0


class _Entry:
    """A draft that waits for its commit.

    Attributes:
        outbox_id: Of the row that it comes from; 0 for none.
        is_elsewhere: Whether it leaves no row in its stream, and another store delivers it.
        future: Gets what became of it.
    """

    __slots__ = ("channel", "draft", "future", "is_elsewhere", "outbox_id", "size")

    def __init__(
        self, channel: Channel, draft: Draft, outbox_id: int, future: asyncio.Future[Appended | Error]
    ) -> None:
        self.channel = channel
        self.draft = draft
        self.outbox_id = outbox_id
        self.is_elsewhere = draft.skip_history or not channel.namespace.is_durable
        self.size = _ROW_BYTES + len(draft.data) + len(draft.info or b"") + len(draft.tags or b"")
        self.future = future


class _Change:
    """A change of a whole stream that waits for its turn: removal, or with an epoch its renewal."""

    __slots__ = ("channel", "epoch", "future")

    def __init__(self, channel: Channel, epoch: str, future: asyncio.Future[Error | None]) -> None:
        self.channel = channel
        self.epoch = epoch
        self.future = future


class _Progress:
    """Where a stream will stand when a plan is committed."""

    __slots__ = ("epoch", "stream", "top", "version")

    def __init__(self, stream: CachedStream) -> None:
        self.stream = stream
        self.top = stream.window.top
        self.epoch = stream.window.epoch
        self.version = stream.version

    def is_outdated(self, draft: Draft) -> bool:
        """Whether this or a newer version was published already; else note it."""
        version, epoch = draft.version, draft.version_epoch
        if self.version[1] == epoch and version <= self.version[0]:
            return True
        self.version = (version, epoch)
        return False


class _Step(NamedTuple):
    """What happens with an entry once the plan is committed.

    Attributes:
        appended: Its answer; None where another store has to say.
        stream: That the publication is added to; None when there is nothing to add.
    """

    entry: _Entry
    appended: Appended | None
    stream: CachedStream | None


class _Plan:
    """A group with its offsets.

    Attributes:
        rows: To be committed.
        owners: Index of the entry that each row belongs to.
        results: New results of idempotency keys.
    """

    __slots__ = ("at", "owners", "progress", "results", "rows", "steps", "token")

    def __init__(self, at: float, token: int) -> None:
        self.at = at
        self.token = token
        self.rows: list[Row] = []
        self.owners: list[int] = []
        self.steps: list[_Step] = []
        self.progress: dict[str, _Progress] = {}
        self.results: dict[tuple[str, str], Position] = {}


class GroupCommit:
    """The one writer of the streams in a database. Event loop only.

    Args:
        tables: Take what is committed.
        cache: Knows the streams; changed here alone when something is committed.
        tenure: Asked right before every commit, and before deliveries.
        elsewhere: Delivers what leaves no row; it never waits.
        tasks: Where commits run.
        wall: Unix seconds.
        deliver: Takes what was committed: channel, publication, epoch.
        overtaken: Called when another instance has taken over.
        sleep: Waits between two attempts to learn the outcome of a commit.
    """

    def __init__(  # noqa: PLR0913 - one of each
        self,
        tables: StreamTables,
        cache: StreamCache,
        tenure: Tenure,
        *,
        elsewhere: StreamStore,
        tasks: Tasks,
        wall: Callable[[], float],
        observer: Observer,
        watch: Watch,
        limits: CommitLimits,
        overtaken: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._tables = tables
        self._cache = cache
        self._tenure = tenure
        self._elsewhere = elsewhere
        self._tasks = tasks
        self._wall = wall
        self._observer = observer
        self._watch = watch
        self._limits = limits
        self._overtaken = overtaken
        self._sleep = sleep
        self.deliver: Callable[[str, Publication, str], None] = _to_nobody
        self._queue: deque[_Entry | _Change] = deque()
        self._waiting_bytes = 0
        self._is_running = False
        self._under_way: Sequence[_Entry] = ()
        self._token = tenure.token
        # A commit whose outcome is not known; nothing is appended before it is.
        self._unsettled: _Plan | None = None
        # (channel, key) -> (Unix seconds, result), oldest first; all that were written after the instant below.
        self._results: dict[tuple[str, str], tuple[float, Position]] = {}
        self._complete_since = wall()
        # Outbox rows that are committed although their batch was told that it is not known.
        self._marked: dict[int, Position] = {}
        # Outbox rows that were delivered, but not marked yet.
        self._passed_on: dict[int, Appended] = {}

    @property
    def waiting(self) -> int:
        """How many publications wait for their commit."""
        return len(self._queue)

    @property
    def is_settled(self) -> bool:
        """Whether the outcome of every commit is known."""
        return self._unsettled is None

    # What comes in.

    def put(self, channel: Channel, draft: Draft, *, outbox_id: int = 0) -> asyncio.Future[Appended | Error]:
        """Let a draft wait for its commit.

        Raises:
            NotCommitted: Too much waits already.
        """
        limits = self._limits
        if not outbox_id and (len(self._queue) >= limits.waiting_rows or self._waiting_bytes >= limits.waiting_bytes):
            self._observer.limited("publications_waiting")
            raise NotCommitted(Errors.TOO_MANY_REQUESTS)
        future: asyncio.Future[Appended | Error] = asyncio.get_running_loop().create_future()
        entry = _Entry(channel, draft, outbox_id, future)
        self._waiting_bytes += entry.size
        self._queue.append(entry)
        if not self._is_running:
            self._start()
        return future

    def change(self, channel: Channel, *, epoch: str = "") -> asyncio.Future[Error | None]:
        """Let a removal wait for its turn, or with an epoch the stream's renewal."""
        future: asyncio.Future[Error | None] = asyncio.get_running_loop().create_future()
        self._queue.append(_Change(channel, epoch, future))
        if not self._is_running:
            self._start()
        return future

    def _start(self) -> None:
        self._tasks.spawn(self._run())
        self._is_running = True

    def reset(self) -> None:
        """Forget what was known under another tenure, and refuse what waits."""
        self._forget()
        self._refuse_waiting()

    def _forget(self) -> None:
        self._token = self._tenure.token
        self._unsettled = None
        for memory in (self._results, self._marked, self._passed_on):
            memory.clear()
        self._complete_since = self._wall()

    # What is told.

    def _refuse(self, entries: Sequence[_Entry], error: Error = Errors.INTERNAL) -> None:
        for entry in entries:
            if not entry.future.done():
                entry.future.set_result(error)

    def _refuse_waiting(self) -> None:
        """Refuse what waits: it would most likely fail too, and must not overtake what failed."""
        queue, self._queue, self._waiting_bytes = self._queue, deque(), 0
        for entry in queue:
            if not entry.future.done():
                entry.future.set_result(Errors.INTERNAL)

    def _give_up(self, entries: Sequence[_Entry]) -> None:
        """Refuse a group and what waits behind it."""
        self._refuse(entries)
        self._refuse_waiting()

    # Committing.

    async def _run(self) -> None:
        """Commit until nothing waits."""
        try:
            while self._queue or self._unsettled is not None:
                # Those who have just been answered publish again in this turn of the loop, and come along.
                await asyncio.sleep(0)
                if self._token != self._tenure.token:
                    self._forget()
                if self._unsettled is not None:
                    await self._settle(self._unsettled)
                elif self._queue:
                    await self._next()
        finally:
            self._is_running = False
            self._refuse(self._under_way)
            self._under_way = ()
            self._cache.busy = ()
            if self._queue:
                # A defect, or the end of the process; nobody may wait for ever.
                self._refuse_waiting()

    async def _next(self) -> None:
        first = self._queue[0]
        if isinstance(first, _Change):
            self._queue.popleft()
            await self._perform(first)
            return
        entries = self._under_way = self._take()
        try:
            found = await self._prepare(entries)
        except DatabaseError as error:
            self._trouble(error, self._token)
            self._give_up(entries)
        else:
            await self._commit(entries, found)
        if self._unsettled is None:
            self._cache.busy = ()
        self._under_way = ()

    def _take(self) -> list[_Entry]:
        """Take the next group from the queue."""
        queue, limits = self._queue, self._limits
        entries: list[_Entry] = []
        size, has_rows = 0, False
        while queue and len(entries) < limits.group_rows:
            entry = queue[0]
            if isinstance(entry, _Change) or (entries and size + entry.size > limits.group_bytes):
                break
            if entry.is_elsewhere and entry.outbox_id and has_rows:
                # It is delivered before it is marked, and so has to wait for those before it.
                break
            has_rows = has_rows or not entry.is_elsewhere
            size += entry.size
            entries.append(entry)
            queue.popleft()
        self._waiting_bytes -= size
        return entries

    async def _prepare(self, entries: Sequence[_Entry]) -> dict[tuple[str, str], Position]:
        """Learn everything that the plan depends on, and return results of keys that only the database knows."""
        channels = {entry.channel.name: entry.channel for entry in entries if not entry.is_elsewhere}
        self._cache.busy = channels
        await self._cache.know(channels)
        now = self._wall()
        since = now - self._limits.idempotency_seconds
        if self._complete_since <= since:
            return {}
        keys = {
            (entry.channel.name, entry.draft.idempotency_key)
            for entry in entries
            if entry.draft.idempotency_key and not entry.is_elsewhere
        }
        keys = {key for key in keys if key not in self._results}
        found = await self._tables.results(keys, since=since) if keys else {}
        # Another tenure may have begun meanwhile.
        await self._cache.know(channels)
        return found

    async def _commit(self, entries: Sequence[_Entry], found: Mapping[tuple[str, str], Position]) -> bool:
        """Commit a group, without those rows that the database refuses; False when it failed as a whole."""
        while entries:
            plan = _Plan(0.0, self._token)
            try:
                await self._pass_on(entries)
                plan = self._plan(entries, found)
                await self._append(plan)
            except RowsRefused as refusal:
                indexes = [index for index in refusal.indexes if index < len(plan.rows)]
                if not indexes and len(plan.rows) > 1:
                    return await self._commit_halves(entries, plan.owners[len(plan.rows) // 2], found)
                refused = {plan.owners[index] for index in indexes or (0,)}
                error = Error(Errors.BAD_REQUEST.code, f"{Errors.BAD_REQUEST.message}: {refusal.reason}")
                self._refuse([entries[index] for index in refused], error)
                entries = [entry for index, entry in enumerate(entries) if index not in refused]
            except Exception as error:  # noqa: BLE001 - whatever it was: nobody knows what became of the commit
                self._failed(entries, plan, error)
                return False
            else:
                await self._apply(plan)
                return True
        return True

    async def _commit_halves(
        self, entries: Sequence[_Entry], middle: int, found: Mapping[tuple[str, str], Position]
    ) -> bool:
        """Find the row that is refused by halving; what is right is committed on the way."""
        if await self._commit(entries[:middle], found):
            return await self._commit(entries[middle:], found)
        self._refuse(entries[middle:])
        return False

    async def _append(self, plan: _Plan) -> None:
        self._check(plan.token)
        if plan.rows:
            await self._tables.append(plan.rows, token=plan.token)
            # It is committed; but whoever serves now delivers it.
            self._check(plan.token)
            self._watch.fine(writing=True)

    def _check(self, token: int) -> None:
        """See to it that the tenure under which something was begun still holds.

        Raises:
            DatabaseUnavailable: It does not, or another one of this very process has begun.
        """
        if token != self._tenure.token:
            raise DatabaseUnavailable(NO_TENURE)
        self._cache.check()

    def _trouble(self, error: BaseException, token: int, *, writing: bool = False) -> None:
        """Note that the database failed, unless it was for the end of a tenure."""
        if token == self._tenure.token and self._tenure.holds():
            self._watch.trouble(error, writing=writing)

    def _failed(self, entries: Sequence[_Entry], plan: _Plan, error: Exception) -> None:
        """Decide what a commit that raised means for everybody else."""
        self._give_up(entries)
        if isinstance(error, Overtaken):
            self._report(plan.token)
            return
        self._trouble(error, plan.token, writing=True)
        if isinstance(error, (OutcomeUnknown, OutOfStep)) or not isinstance(error, DatabaseError):
            self._unsettled = plan
            self._observer.noted("database.unsettled", reason=self._watch.reason, rows=len(plan.rows))
        if not isinstance(error, DatabaseError):
            self._observer.failed("commit", error)

    def _report(self, token: int) -> None:
        """Say that somebody has taken over, unless it was this process itself."""
        if token == self._tenure.token:
            self._overtaken()

    # Planning.

    def _plan(self, entries: Sequence[_Entry], found: Mapping[tuple[str, str], Position]) -> _Plan:
        """Give out offsets. Nothing is changed but the plan."""
        plan = _Plan(self._wall(), self._token)
        for index, entry in enumerate(entries):
            step = None
            if entry.is_elsewhere or entry.outbox_id or entry.draft.idempotency_key:
                step = self._decided(entry, plan, found)
            step = step or self._advance(entry, plan)
            plan.steps.append(step)
            if step.stream is None and entry.outbox_id and entry.outbox_id not in self._marked:
                plan.rows.append(Row(entry.channel.name, 0, "", b"", outbox_id=entry.outbox_id))
            elif step.stream is None:
                continue
            plan.owners.append(index)
        return plan

    def _advance(self, entry: _Entry, plan: _Plan) -> _Step:
        """Give an entry the next offset of its stream, unless its version is outdated."""
        draft, name = entry.draft, entry.channel.name
        ahead = plan.progress.get(name)
        if ahead is None:
            ahead = plan.progress[name] = _Progress(self._cache.streams[name])
        version, key, epoch = max(0, draft.version), draft.idempotency_key, ahead.epoch
        if version and ahead.is_outdated(draft):
            step = _Step(entry, Appended(Position(ahead.top, epoch), None), None)
        else:
            ahead.top = offset = ahead.top + 1
            data, info, tags, at = draft.data, draft.info, draft.tags, plan.at
            plan.rows.append(
                Row(name, offset, epoch, data, info, tags, at, key, version, draft.version_epoch, entry.outbox_id)
            )
            publication = Publication(offset, data, info, tags, at)
            step = _Step(entry, Appended(Position(offset, epoch), publication), ahead.stream)
        if key:
            plan.results[name, key] = Position(ahead.top, epoch)
        return step

    def _decided(self, entry: _Entry, plan: _Plan, found: Mapping[tuple[str, str], Position]) -> _Step | None:
        """Return what happens with an entry that is not added to a stream; None for one that is."""
        marked = self._marked.get(entry.outbox_id)
        if marked is not None:
            return _Step(entry, Appended(marked, None), None)
        if entry.is_elsewhere:
            return _Step(entry, self._passed_on.get(entry.outbox_id), None)
        key = (entry.channel.name, entry.draft.idempotency_key)
        position = plan.results.get(key) if key[1] else None
        if key[1] and position is None:
            at, position = self._results.get(key) or (plan.at, found.get(key))
            if plan.at - at >= self._limits.idempotency_seconds:
                position = None
        return None if position is None else _Step(entry, Appended(position, None), None)

    async def _pass_on(self, entries: Sequence[_Entry]) -> None:
        """Deliver outbox rows that leave nothing in a stream; they are marked with the commit.

        The other way round a row could get lost in between.
        """
        self._cache.check()
        for entry in entries:
            if entry.is_elsewhere and entry.outbox_id and entry.outbox_id not in self._passed_on:
                self._passed_on[entry.outbox_id] = await self._elsewhere.append(entry.channel, entry.draft)

    # What a commit changes.

    async def _apply(self, plan: _Plan) -> None:
        """Deliver what was committed, in order, and answer those who wait; nothing here suspends."""
        answers = [await self._deliver(step) for step in plan.steps]
        self._take_in(plan)
        for step, answer in zip(plan.steps, answers, strict=True):
            if not step.entry.future.done():
                step.entry.future.set_result(answer)

    async def _deliver(self, step: _Step) -> Appended | Error:
        entry, appended, stream = step
        if appended is None:
            try:
                return await self._elsewhere.append(entry.channel, entry.draft)
            except NotCommitted as refused:
                return refused.error
        if stream is not None and appended.publication is not None:
            self._send(stream, appended.publication)
        return appended

    def _send(self, stream: CachedStream, publication: Publication) -> None:
        self._cache.add(stream, publication)
        try:
            self.deliver(stream.name, publication, stream.window.epoch)
        except Exception as error:  # noqa: BLE001 - a defect in a delivery must not keep others from theirs
            self._observer.failed("delivery", error)

    def _take_in(self, plan: _Plan) -> None:
        """Note what else the commit has changed."""
        for ahead in plan.progress.values():
            if ahead.top:
                ahead.stream.version = ahead.version
                ahead.stream.has_row = True
        for key, position in plan.results.items():
            self._results.pop(key, None)
            self._results[key] = (plan.at, position)
        for row in plan.rows:
            if row.outbox_id and not row.offset:
                self._passed_on.pop(row.outbox_id, None)
        self._cache.bound()

    # Unknown outcomes.

    async def _settle(self, plan: _Plan) -> None:
        """Find out what became of a commit; until then nothing is appended."""
        seconds = _RETRY_SECONDS
        while self._unsettled is plan:
            try:
                await self._conclude(plan)
            except DatabaseError as error:
                if self._token != self._tenure.token or not self._tenure.holds():
                    # It is the business of whoever serves next.
                    self._unsettled = None
                    break
                self._watch.trouble(error)
                self._refuse_waiting()
                await self._sleep(seconds)
                seconds = min(2 * seconds, _MAX_RETRY_SECONDS)
            else:
                self._watch.fine()
                self._unsettled = None
        self._cache.busy = ()

    async def _conclude(self, plan: _Plan) -> None:
        """Take in what is committed.

        Only what the database holds counts, and not what was sent: a commit that was given up earlier may have come
        late and have taken the place of this one.
        """
        self._check(plan.token)
        heads = await self._tables.heads(list(plan.progress)) if plan.progress else {}
        self._check(plan.token)
        self._complete_since = self._wall()
        sent = {
            (step.stream.name, step.appended.publication): step.entry.outbox_id
            for step in plan.steps
            if step.stream is not None and step.appended is not None and step.entry.outbox_id
        }
        for name, ahead in plan.progress.items():
            head = heads.get(name)
            if (head.top if head is not None else 0) != ahead.stream.window.top:
                await self._adopt(ahead.stream, head, sent, plan.token)
        while len(self._marked) > _MAX_OUTBOX_IDS:
            del self._marked[next(iter(self._marked))]

    async def _adopt(
        self, stream: CachedStream, head: Head | None, sent: Mapping[tuple[str, Publication | None], int], token: int
    ) -> None:
        """Deliver what the database holds above the top that is known here.

        Args:
            sent: Outbox rows of what was sent, which are marked when it is there.
        """
        window = stream.window
        self._observer.noted("stream.adopted", known=window.top, found=head.top if head else 0)
        if head is None or head.epoch != window.epoch or head.top < window.top:
            self._cache.drop(stream.name)
            return
        while window.top < head.top:
            items = await self._tables.read(
                stream.name, after=window.top, limit=_ADOPTED_AT_ONCE, oldest=0.0, max_bytes=_ADOPTED_BYTES
            )
            self._check(token)
            if not items or items[0].offset != window.top + 1:
                # They are gone already; who listens finds the gap.
                self._cache.drop(stream.name)
                return
            for item in items:
                self._send(stream, item)
                outbox_id = sent.get((stream.name, item))
                if outbox_id is not None:
                    self._marked[outbox_id] = Position(item.offset, window.epoch)
        stream.version = (head.version, head.version_epoch)
        stream.has_row = True
        self._cache.bound()

    # Changes of a whole stream.

    async def _perform(self, change: _Change) -> None:
        name = change.channel.name
        self._cache.busy = {name}
        refusal: Error | None = Errors.INTERNAL
        token = self._token
        try:
            stream = await self._cache.stream(change.channel)
            await self._write_change(stream, change.epoch, token)
            refusal = None
        except Overtaken:
            self._refuse_waiting()
            self._report(token)
        except DatabaseError as error:
            self._trouble(error, token, writing=True)
            if isinstance(error, OutcomeUnknown):
                self._cache.drop(name)
        except Exception as error:  # noqa: BLE001 - as for a commit: nobody knows what became of it
            self._cache.drop(name)
            self._observer.failed("stream change", error)
        finally:
            self._cache.busy = ()
            if not change.future.done():
                change.future.set_result(refusal)

    async def _write_change(self, stream: CachedStream, epoch: str, token: int) -> None:
        self._check(token)
        if epoch:
            if stream.has_row:
                await self._tables.renew(stream.name, epoch, token=token)
                self._check(token)
            stream.window.epoch = epoch
            stream.generation += 1
            return
        if stream.has_row:
            await self._tables.remove(stream.name, token=token)
            self._check(token)
        self._cache.clear(stream)

    # Forgetting.

    def expire(self) -> None:
        """Forget results that are too old or too many."""
        oldest = self._wall() - self._limits.idempotency_seconds
        results = self._results
        old = []
        for key, (at, _) in results.items():
            if at > oldest:
                break
            old.append(key)
        excess = len(results) - len(old) - _MAX_RESULTS
        if excess > 0:
            old += islice(results, len(old), len(old) + excess)
            self._complete_since = max(self._complete_since, results[old[-1]][0])
        for key in old:
            del results[key]


def _to_nobody(channel: str, publication: Publication, epoch: str) -> None:
    """Deliver to nobody: the store is used alone."""
