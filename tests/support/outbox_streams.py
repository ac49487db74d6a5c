"""Where a test lets the relay of the outbox publish: a list in place of a stream store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from service.core.codes import Error
from service.core.namespaces import Channel
from service.core.stream import Position, Publication
from service.realtime.ports import Appended, Draft
from tests.support.outbox_table import MemoryOutbox

__all__ = ("ListedStreams",)


class ListedStreams:
    """Marks what it takes, as a store does in its transaction.

    Attributes:
        published: (channel, data, tags) in order.
        batches: How many rows came together.
        trouble: Raised, and nothing is taken, while it is set.
        refusals: Errors by the data that are refused.
        lost_answers: Raise this once after everything was taken, as when a connection breaks at the wrong moment.
        may_commit: Closed by a test: commits wait there.
    """

    def __init__(self, outbox: MemoryOutbox) -> None:
        self._outbox = outbox
        self.published: list[tuple[str, bytes, bytes | None]] = []
        self.batches: list[int] = []
        self.trouble: Exception | None = None
        self.refusals: dict[bytes, Error] = {}
        self.lost_answers: Exception | None = None
        self.may_commit = asyncio.Event()
        self.may_commit.set()

    async def append_all(self, drafts: Sequence[tuple[Channel, Draft, int]]) -> list[Appended | Error]:
        """Take the drafts in order."""
        await self.may_commit.wait()
        if self.trouble is not None:
            raise self.trouble
        self.batches.append(len(drafts))
        outcomes = [await self._append(*draft) for draft in drafts]
        lost, self.lost_answers = self.lost_answers, None
        if lost is not None:
            raise lost
        return outcomes

    async def _append(self, channel: Channel, draft: Draft, row_id: int) -> Appended | Error:
        if draft.data in self.refusals:
            return self.refusals[draft.data]
        await self._outbox.mark(row_id)
        self.published.append((channel.name, draft.data, draft.tags))
        offset = len(self.published)
        return Appended(Position(offset, "e"), Publication(offset, draft.data, None, draft.tags, 0.0))

    @property
    def data(self) -> list[bytes]:
        """What was published, in order."""
        return [data for _, data, _ in self.published]
