"""The relay: takes the rows that an application wrote into the outbox, and publishes them in order.

A row is waiting until it is marked, and its mark is committed together with the publication. So there is no cursor
that a late commit of a smaller id could fall behind, and nothing to remember over a restart. One batch is under way at
a time: if a batch could overtake one that failed, rows of one transaction could change places.

Knows no database: the table and the bell are ports.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from service.auth.policy import ORGANIZATIONS, organization_of
from service.core import codec
from service.core.codes import Error, Errors
from service.core.outbox import Refusal
from service.errors import ServiceError
from service.realtime.ports import Draft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from service.core.namespaces import Channel, Namespaces
    from service.core.outbox import OutboxFigures, OutboxRow
    from service.realtime.ports import Appended, Observer

__all__ = (
    "BATCH_BYTES",
    "BATCH_ROWS",
    "AppendAll",
    "Outbox",
    "OutboxBell",
    "OutboxOptions",
    "OutboxTable",
)

BATCH_ROWS: Final = 512
"""Rows that are under way together, and so are committed together."""

BATCH_BYTES: Final = 4 * 1024 * 1024
"""Of their data and tags; one row that is longer by itself goes alone."""

_TAGS: Final = msgspec.json.Decoder(dict[str, str])
_REST_GROWTH: Final = 4.0
_MAX_RESTING: Final = 10_000
_FIGURES_SECONDS: Final = 10.0
_EXPIRED_AT_ONCE: Final = 1_000


class OutboxTable(Protocol):
    """The table. Every method raises a ``ServiceError`` when the database does not answer.

    Rows are marked as published by the stream store, in the transaction of the publication.
    """

    async def waiting(
        self, *, limit: int, row_bytes: int, batch_bytes: int, resting: Collection[int], held: Collection[str] = ()
    ) -> list[OutboxRow]:
        """Return rows that are neither published nor set aside, by their ids, from the smallest.

        Args:
            limit: Most rows.
            row_bytes: Data and tags that are longer are left out of their row.
            batch_bytes: The rows end with the one that reaches it.
            resting: Ids of rows to pass over.
            held: Channels to pass over, each with those whose names go on with a colon.
        """
        ...

    async def refuse(self, refusals: Sequence[Refusal], *, token: int) -> None:
        """Count one try more for each, note the reason, and set aside those whose last try it was.

        Does nothing when ``token`` is not the current one, and to rows that do not wait any more.
        """
        ...

    async def expire(self, *, keep_seconds: float, limit: int) -> int:
        """Delete at most ``limit`` rows that were published longer ago, the smallest ids first; returns how many."""
        ...

    async def figures(self) -> OutboxFigures:
        """Count."""
        ...


class OutboxBell(Protocol):
    """Tells when rows may have come. To miss one costs time only: the table is asked now and then anyway."""

    async def run(self, ring: Callable[[], None]) -> None:
        """Call ``ring`` after rows were committed, and when that could not be heard for a while; until cancelled."""
        ...


class AppendAll(Protocol):
    """Where rows become publications: a stream store that marks them as it commits."""

    def __call__(self, drafts: Sequence[tuple[Channel, Draft, int]], /) -> Awaitable[Sequence[Appended | Error]]:
        """Append all in this order, each with the id of its row.

        An error that is temporary, or a ``ServiceError`` for all, says nothing about the row: it waits on. Rows that
        were committed after all are marked all the same.
        """
        ...


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    """How the relay works.

    Attributes:
        message_bytes: Longest data, and longest tags.
        poll_seconds: Between two looks at the table when nothing rings; also the shortest rest of a refused row.
        max_tries: Refusals after which a row is set aside, from 1.
        keep_seconds: How long a published row stays in the table; 0 deletes it at the next opportunity.
    """

    message_bytes: int
    poll_seconds: float = 1.0
    max_tries: int = 5
    keep_seconds: float = 86_400.0


class Outbox:
    """Publishes what waits in the table, for as long as this instance may serve. Event loop only.

    Only a refusal of the row itself counts as a try. A refused row rests, each time four times as long, while those
    behind it go on. When a quota is used up, nothing counts, and everything that it is for waits, in its order. When
    the database fails, nothing counts and everything waits.

    Args:
        table: Where rows wait.
        append_all: Publishes and marks them.
        token: The fencing token of this instance, 0 while it may not serve.
        namespaces: Every channel must be of one of them.
        now: Monotonic seconds.
        admit: Asked for each row whose content is right; returns why it may not be published. A temporary error
            says nothing about the row: the channel waits, and with it all those of its organization, whose quota
            it is; ``Errors.INTERNAL``, for when nobody can tell, lets the whole outbox wait. None admits all.
    """

    def __init__(  # noqa: PLR0913 - the parts it works with, by name
        self,
        table: OutboxTable,
        append_all: AppendAll,
        *,
        token: Callable[[], int],
        namespaces: Namespaces,
        options: OutboxOptions,
        now: Callable[[], float],
        observer: Observer,
        admit: Callable[[Channel], Awaitable[Error | None]] | None = None,
    ) -> None:
        self._table = table
        self._append_all = append_all
        self._token = token
        self._namespaces = namespaces
        self._options = options
        self._now = now
        self._observer = observer
        self._admit = admit
        self._rung = asyncio.Event()
        # Refused rows, and when each is looked at again. What was refused first is first.
        self._resting: dict[int, float] = {}
        # Channels that have to wait, and until when; at most one for each organization.
        self._held: dict[str, float] = {}

    def wake(self) -> None:
        """Look at the table at once; rows may have come."""
        self._rung.set()

    async def run(self, bell: OutboxBell | None = None) -> None:
        """Publish until cancelled.

        Args:
            bell: Spares the wait for the next look; None for a database that has none.
        """
        async with asyncio.TaskGroup() as tasks:
            if bell is not None:
                tasks.create_task(bell.run(self.wake))
            tasks.create_task(self._tidying())
            await self._relaying()

    async def _relaying(self) -> None:
        while True:
            self._rung.clear()
            if await self._guarded("outbox.relay", self._relay_all):
                await self._until_rung()
            else:
                # Trouble: whoever rings does not make it go away.
                await asyncio.sleep(self._options.poll_seconds)

    async def _relay_all(self) -> None:
        while await self.relay():
            pass

    async def _until_rung(self) -> None:
        try:
            async with asyncio.timeout(self._options.poll_seconds):
                await self._rung.wait()
        except TimeoutError:
            # Nothing rang: what came all the same is found now.
            return

    async def _tidying(self) -> None:
        while True:
            await self._guarded("outbox.tidy", self.tidy)
            await asyncio.sleep(_FIGURES_SECONDS)

    async def _guarded(self, where: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do some work, and return whether it went well; what went wrong is noted."""
        try:
            await work()
        except ServiceError as trouble:
            self._observer.noted(f"{where}.waits", reason=str(trouble))
            return False
        except Exception as error:  # noqa: BLE001 - the root of a task: a defect must not stop the outbox for good
            self._observer.failed(where, error)
            return False
        return True

    async def tidy(self) -> None:
        """Tell the observer what is in the table, and delete from it what was published long ago."""
        if not self._token():
            # Whoever serves now tells it.
            self._observer.outbox_seen(0, 0.0, 0)
            return
        self._observer.outbox_seen(*await self._table.figures())
        expired = _EXPIRED_AT_ONCE
        while expired >= _EXPIRED_AT_ONCE and self._token():
            expired = await self._table.expire(keep_seconds=self._options.keep_seconds, limit=_EXPIRED_AT_ONCE)

    async def relay(self) -> int:
        """Publish the next batch, and return how many rows it had, those apart that have to wait.

        Raises:
            ServiceError: The database failed. Rows of the batch that it took are marked, the others still wait.
        """
        self._wake_rested()
        if not self._token():
            return 0
        rows = await self._table.waiting(
            limit=BATCH_ROWS,
            row_bytes=self._options.message_bytes,
            batch_bytes=BATCH_BYTES,
            resting=self._resting,
            held=self._held,
        )
        held = len(self._held)
        drafts: list[tuple[Channel, Draft, int]] = []
        refused: list[tuple[OutboxRow, Error]] = []
        for row in rows:
            read = await self._admitted(self._read(row))
            if isinstance(read, Error):
                refused.append((row, read))
            elif read is not None:
                drafts.append((*read, row.id))
        count = len(drafts) + len(refused) + len(self._held) - held
        token = self._token()
        if drafts and token:
            refused += await self._publish(drafts, {row.id: row for row in rows})
        if refused and token:
            await self._refuse(refused, token)
        return count if token else 0

    async def _publish(
        self, drafts: Sequence[tuple[Channel, Draft, int]], rows: dict[int, OutboxRow]
    ) -> list[tuple[OutboxRow, Error]]:
        """Publish what can be, and return what was refused."""
        outcomes = await self._append_all(drafts)
        refused = [
            (rows[row_id], outcome)
            for (_, _, row_id), outcome in zip(drafts, outcomes, strict=True)
            if isinstance(outcome, Error)
        ]
        self._observer.outbox_relayed(len(drafts) - len(refused))
        passing = [error for _, error in refused if error.temporary]
        if passing:
            # No word about the rows: they wait on, in their order.
            raise _NotTaken(passing[0].message)
        return refused

    async def _refuse(self, refused: Sequence[tuple[OutboxRow, Error]], token: int) -> None:
        options = self._options
        refusals = [Refusal(row.id, error.message, row.tries + 1 >= options.max_tries) for row, error in refused]
        await self._table.refuse(refusals, token=token)
        now = self._now()
        for refusal, (row, error) in zip(refusals, refused, strict=True):
            self._observer.error("outbox", error)
            if refusal.is_last:
                self._observer.noted("outbox.set_aside", row=row.id, reason=refusal.reason)
            else:
                self._resting[row.id] = now + options.poll_seconds * _REST_GROWTH**row.tries
        while len(self._resting) > _MAX_RESTING:
            # Too many to remember: the first of them has its next try early.
            del self._resting[next(iter(self._resting))]

    def _wake_rested(self) -> None:
        now = self._now()
        if self._resting:
            self._resting = {row_id: until for row_id, until in self._resting.items() if now < until}
        if self._held:
            self._held = {name: until for name, until in self._held.items() if now < until}

    # What a row holds.

    def _read(self, row: OutboxRow) -> tuple[Channel, Draft] | Error:
        """Return what to publish, or what is wrong with the row; the same holds as for the server API."""
        channel = self._namespaces.resolve(row.channel)
        if isinstance(channel, Error):
            return channel
        draft = self._draft(row)
        return draft if isinstance(draft, Error) else (channel, draft)

    async def _admitted(self, read: tuple[Channel, Draft] | Error) -> tuple[Channel, Draft] | Error | None:
        """Return what may be published now, or why it never may; None for what has to wait."""
        if self._admit is None or isinstance(read, Error):
            return read
        owner = _owner(read[0])
        if owner in self._held:
            # What it stands behind waits too.
            return None
        refusal = await self._admit(read[0])
        if refusal is None:
            return read
        if refusal.code == Errors.INTERNAL.code:
            raise _NotTaken(refusal.message)
        if not refusal.temporary:
            return refusal
        self._observer.error("outbox", refusal)
        self._held[owner] = self._now() + self._options.poll_seconds
        return None

    def _draft(self, row: OutboxRow) -> Draft | Error:
        limit = self._options.message_bytes
        for name, size in (("data", row.data_bytes), ("tags", row.tags_bytes)):
            if size > limit:
                self._observer.limited("message_bytes")
                return _bad(f"{name} has {size} bytes, at most {limit} are allowed")
        if not codec.is_json(row.data):
            return _bad(
                f"data is not JSON in UTF-8, is nested deeper than {codec.MAX_DEPTH} levels or has a number of "
                "thousands of digits"
            )
        tags = _tags(row.tags)
        return tags if isinstance(tags, Error) else Draft(codec.compact(row.data), tags=tags)


def _owner(channel: Channel) -> str:
    """Return the name under which a channel waits: that of its organization's own channel, else its own."""
    organization = organization_of(channel)
    return f"{ORGANIZATIONS}:{organization}" if organization else channel.name


class _NotTaken(ServiceError):  # noqa: N818 - a condition that passes by itself
    """Some rows were neither published nor refused."""


def _tags(raw: bytes | None) -> bytes | Error | None:
    """Return tags as they are published, None for none."""
    if raw is None or raw.strip() == b"null":
        return None
    try:
        tags = _TAGS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _bad("tags is no object of strings")
    return codec.encode(tags) if tags else None


def _bad(problem: str) -> Error:
    return Error(Errors.BAD_REQUEST.code, f"{Errors.BAD_REQUEST.message}: {problem}")
