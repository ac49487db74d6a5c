"""What the realtime shell needs from the outside, as small protocols.

Whoever adds a transport, a stream store or a broker implements one of these and
runs its conformance suite in tests/conformance.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence

    from service.core.codes import Disconnect, Error
    from service.core.namespaces import Channel
    from service.core.phase import Phase
    from service.core.recovery import Page
    from service.core.rows import Head, Row
    from service.core.stream import Position, Publication
    from service.core.tenure import Grant, Occupied

__all__ = (
    "Appended",
    "Broker",
    "Draft",
    "Event",
    "EventKind",
    "InstanceLock",
    "Observer",
    "StreamStore",
    "StreamTables",
    "Tasks",
    "Transport",
)


class Transport(Protocol):
    """One WebSocket on its way out. Event loop only; nothing here awaits or raises.

    It calls its connection's ``overfull`` when more than the send buffer's limit is unsent,
    and ``drained`` when that is no longer so.
    """

    def write(self, frame: bytes) -> None:
        """Send a frame made by ``core.frames.text_frame``; the bytes are shared and never changed."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame behind what was written and end the connection; idempotent.

        The transport gives a peer that does not answer some seconds and then cuts it off.
        """
        ...

    def is_over_limit(self) -> bool:
        """Whether more than the send buffer's limit was still unsent when last looked at."""
        ...

    def pause_reading(self) -> None:
        """Take nothing more in, so that the peer's own writes stall; idempotent."""
        ...

    def resume_reading(self) -> None:
        """Take in again; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Draft:
    """A publication that has no offset yet.

    Attributes:
        data: Raw JSON on one line.
        info: Raw JSON about the client that publishes; None when the server does.
        tags: Raw JSON object of strings; None for none.
        idempotency_key: Unique in the channel for some minutes; empty for none.
        version: Of the state that is published, above 0; 0 for none.
        version_epoch: Another one starts the count of versions anew.
        skip_history: Deliver it, but do not keep it.
    """

    data: bytes
    info: bytes | None = None
    tags: bytes | None = None
    idempotency_key: str = ""
    version: int = 0
    version_epoch: str = ""
    skip_history: bool = False


class Appended(NamedTuple):
    """What became of a draft.

    Attributes:
        position: Of the publication, or of the stream when nothing was added; None on a
            channel without history.
        publication: To be delivered; None when it was a repetition or out of date.
    """

    position: Position | None
    publication: Publication | None


class StreamStore(Protocol):
    """Streams of publications by channel, with offsets, epochs and idempotency keys.

    Appends to one channel keep the order of the calls. What a coroutine awaits first is
    a future, so that callers may run its first step outside a task.
    """

    def use(self, deliver: Callable[[str, Publication, str], None]) -> None:
        """Hand every publication that is made to ``deliver``, with its channel and epoch (empty without history).

        It is called in the order of the offsets, and before the `append` that made the publication returns.
        """
        ...

    async def append(self, channel: Channel, draft: Draft) -> Appended:
        """Give a draft its offset and keep it as the channel's namespace says; the answer means that it is kept.

        Raises:
            NotCommitted: It was not kept as far as is known, and is not delivered now.
        """
        ...

    async def read(self, channel: Channel, *, after: int, limit: int) -> Page:
        """Return up to ``limit`` publications above the offset ``after``, oldest first, and the top.

        Reading writes nothing: a channel that was never published to has offset 0 and
        the store's own epoch, which its stream takes over later. A store may return fewer when they are many bytes.

        Raises:
            DatabaseError: It cannot be read now.
        """
        ...

    async def read_back(self, channel: Channel, *, before: int, limit: int) -> Page:
        """Return up to ``limit`` publications below the offset ``before``, newest first, and the top."""
        ...

    async def remove(self, channel: Channel) -> None:
        """Forget the publications of a channel; its top offset and epoch stay.

        Raises:
            NotCommitted: They are not forgotten as far as is known.
        """
        ...

    async def diverged(self, channel: Channel) -> None:
        """Take note of a client that knows the epoch and is ahead of the top: something was lost.

        The channel gets another epoch, at most once a minute: whoever else was ahead must not take the publications
        that come now for those that it has.
        """
        ...

    def expire(self, now: float, watched: Collection[str]) -> None:
        """Forget what is too old; streams of ``watched`` channels keep their top."""
        ...


class StreamTables(Protocol):
    """The tables of a database that streams are kept in; statements and nothing else.

    All instants are Unix seconds. Every method may raise a `DatabaseError`:

    * ``DatabaseUnavailable``: surely nothing of this call was committed;
    * ``OutcomeUnknown``: the connection was lost while a commit was under way;
    * ``Overtaken``: ``token`` is no longer the one in the table; nothing was committed;
    * ``OutOfStep``: the table holds something that the caller does not know of; nothing was committed.

    Cancelled calls leave no connection behind that still works on them.
    """

    async def epoch(self) -> str:
        """Return the epoch of the database, which streams without a row have."""
        ...

    async def heads(self, channels: Collection[str]) -> dict[str, Head]:
        """Return what is known of streams; those without a row are left out."""
        ...

    async def results(self, keys: Collection[tuple[str, str]], *, since: float) -> dict[tuple[str, str], Position]:
        """Return the results of idempotency keys (channel, key) that were written after ``since``."""
        ...

    async def append(self, rows: Sequence[Row], *, token: int) -> None:
        """Commit rows, tops, epochs, versions, results and outbox marks together, or nothing at all.

        Args:
            rows: Ascending by offset in each channel, without a gap; those with offset 0 only mark. A result is
                written over one that the same key has from earlier.
            token: Compared with the one in the table, by the same transaction.

        Raises:
            RowsRefused: The database refuses some of them for what is in them: their indexes. Nothing was committed.
            OutOfStep: The top of a channel is not right below its first row, or an outbox row is not waiting.
        """
        ...

    async def read(self, channel: str, *, after: int, limit: int, oldest: float, max_bytes: int) -> list[Publication]:
        """Return publications above ``after`` that were made after ``oldest``, oldest first.

        Returns:
            Up to ``limit``; it stops before the one with which their data would pass ``max_bytes``, but not before
            the first.
        """
        ...

    async def read_back(
        self, channel: str, *, before: int, limit: int, oldest: float, max_bytes: int
    ) -> list[Publication]:
        """Return publications below ``before`` that were made after ``oldest``, newest first; bounded as in `read`."""
        ...

    async def remove(self, channel: str, *, token: int) -> None:
        """Delete the publications of a channel; its head stays."""
        ...

    async def renew(self, channel: str, epoch: str, *, token: int) -> None:
        """Give a stream another epoch; offsets go on. One without a row stays without."""
        ...

    async def trim(self, bounds: Mapping[str, tuple[int, float]], *, limit: int, token: int) -> int:
        """Delete what is no longer to be kept; tops stay.

        Args:
            bounds: By channel: the lowest offset that is kept, and the instant up to which (that one included)
                publications go.
            limit: Most publications to delete.

        Returns:
            How many were deleted; ``limit`` means that there may be more.
        """
        ...

    async def names(self, *, after: str, limit: int) -> list[tuple[str, int]]:
        """Return up to ``limit`` channels that have a row, and their tops, by name from the one behind ``after``."""
        ...

    async def expire_results(self, before: float, *, limit: int, token: int) -> int:
        """Delete up to ``limit`` results written at or before ``before``, and return how many were."""
        ...

    async def probe(self, *, token: int) -> None:
        """Commit a write that changes nothing, to learn whether the database takes writes again."""
        ...


class EventKind(enum.IntEnum):
    """What happened in a channel."""

    PUBLICATION = 0
    JOIN = 1
    LEAVE = 2


class Event(NamedTuple):
    """Something in a channel on its way from where it happened to the hub.

    Attributes:
        offset: Of a publication with history, from 1; else 0.
        epoch: Of its stream; empty without history.
        body: The encoded publication, or the encoded info of who came or left.
    """

    kind: EventKind
    channel: str
    offset: int
    epoch: str
    body: bytes


class Broker(Protocol):
    """Carries events to the hub, in the order in which they were handed in.

    Delivery is at most once: what gets lost on the way is found by its offset.

    Attributes:
        reaches_others: Whether hubs of other instances get the events too, so that what
            nobody here listens to still has to be sent.
    """

    reaches_others: bool = True

    def publish(self, event: Event) -> None:
        """Hand an event in; returns at once."""
        ...


class Tasks(Protocol):
    """Where work that has to wait goes on."""

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run ``work`` in the background; it ends at the latest with the process."""
        ...


class Observer:
    """Receiver of what happened, for metrics and logs. This one ignores everything.

    Never told a payload, a token, or anything else a client would not want in a log.
    """

    def connection_opened(self) -> None:
        """Count a WebSocket that was let in."""

    def connection_closed(self, why: Disconnect | None, seconds: float) -> None:
        """Count the end of a connection; ``why`` is None when the peer went away."""

    def upgrade_refused(self, reason: str) -> None:
        """Count an upgrade that was refused; ``reason`` is one of few short words."""

    def authenticated(self) -> None:
        """Count a connection whose connect command was accepted."""

    def command(self, method: str) -> None:
        """Count a command."""

    def error(self, method: str, error: Error) -> None:
        """Count a command that was refused."""

    def limited(self, limit: str) -> None:
        """Count a refusal for one of the limits, by its name."""

    def published(self, size: int) -> None:
        """Count a publication of ``size`` bytes."""

    def delivered(self, deliveries: int, size: int) -> None:
        """Count deliveries of one flush of a channel; ``size`` is the frame's, in bytes."""

    def recovered(self, publications: int, *, success: bool) -> None:
        """Count an attempt to recover."""

    def phase_changed(self, before: Phase, after: Phase, reason: str) -> None:
        """Note where the process stands now."""

    def drained(self, batch: int, closed: int, remaining: int) -> None:
        """Note one batch of a drain."""

    def failed(self, where: str, error: BaseException) -> None:
        """Note a defect of our own: an exception that nobody expected."""

    def noted(self, event: str, **facts: object) -> None:
        """Note something worth a line in the log."""

    def outbox_relayed(self, rows: int) -> None:
        """Count rows of the outbox that were published and marked."""

    def outbox_seen(self, waiting: int, oldest_seconds: float, set_aside: int) -> None:
        """Take what is in the outbox: rows that wait, for how long the oldest does, and rows that were set aside."""


class InstanceLock(Protocol):
    """What one process at a time can have, wherever the others run. Event loop only.

    All calls but `abandon` may raise ``DatabaseUnavailable``, after which the same call may succeed later, and
    ``DatabaseUnfit``, after which it will not. One call at a time, but for `abandon`.

    Attributes:
        kind: What it reaches: this process alone (``local``), those that share a volume (``file``), or
            those that share a database (``database``).
    """

    kind: Literal["local", "file", "database"]

    async def acquire(self) -> Grant | Occupied:
        """Try to get the lock, without waiting for whoever has it, and raise the token when that went well."""
        ...

    async def settle(self) -> None:
        """Note that whoever was before us has surely stopped; called before a tenure that had to wait begins."""
        ...

    async def prove(self, within: float) -> float:
        """Ask whether the lock is still ours; comes back to it when its session was lost and nobody took it.

        Args:
            within: Seconds that the answer may take.

        Returns:
            When the answered query was sent, by the clock of the tenure.

        Raises:
            Overtaken: It is not, or its token is no longer the last one.
        """
        ...

    async def release(self) -> None:
        """Say that we have ended, unless the wait of a tenure was never over, and let go; never raises."""
        ...

    def abandon(self) -> None:
        """Cut the session at once; what waits for it fails, and the next `acquire` begins anew. Idempotent."""
        ...
