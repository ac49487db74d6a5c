"""What the realtime shell needs from the outside, as small protocols.

Whoever adds a transport, a stream store or a broker implements one of these and
runs its conformance suite in tests/conformance.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine

    from service.core.codes import Disconnect, Error
    from service.core.namespaces import Channel
    from service.core.phase import Phase
    from service.core.recovery import Page
    from service.core.stream import Position, Publication

__all__ = (
    "Appended",
    "Broker",
    "Draft",
    "Event",
    "EventKind",
    "Observer",
    "StreamStore",
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

    Appends to one channel keep the order of the calls. A coroutine awaits nothing but
    futures, so that callers may run its first step outside a task.
    """

    async def append(self, channel: Channel, draft: Draft) -> Appended:
        """Give a draft its offset and keep it as the channel's namespace says; the answer means that it is kept."""
        ...

    async def read(self, channel: Channel, *, after: int, limit: int) -> Page:
        """Return up to ``limit`` publications above the offset ``after``, oldest first, and the top.

        Reading writes nothing: a channel that was never published to has offset 0 and
        the store's own epoch, which its stream takes over later.
        """
        ...

    async def read_back(self, channel: Channel, *, before: int, limit: int) -> Page:
        """Return up to ``limit`` publications below the offset ``before``, newest first, and the top."""
        ...

    async def remove(self, channel: Channel) -> None:
        """Forget the publications of a channel; its top offset and epoch stay."""
        ...

    def expire(self, now: float, watched: Collection[str]) -> None:
        """Forget what is too old; streams of ``watched`` channels keep their top."""
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
