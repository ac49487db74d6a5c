"""What the relay of the outbox and its table tell each other."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("OutboxFigures", "OutboxRow", "Refusal")


class OutboxRow(NamedTuple):
    """A row that waits.

    Attributes:
        channel: As the application wrote it; cut where it is far too long for a name.
        data: JSON; empty when it is longer than was asked for.
        data_bytes: How long it is.
        tags: JSON, None for none; empty when it is longer than was asked for.
        tags_bytes: How long they are.
        tries: How often the row was refused.
    """

    id: int
    channel: str
    data: bytes
    data_bytes: int
    tags: bytes | None
    tags_bytes: int
    tries: int


class Refusal(NamedTuple):
    """Why a row was not published.

    Attributes:
        reason: For whoever reads the table.
        is_last: Whether the row is set aside: it was refused often enough.
    """

    id: int
    reason: str
    is_last: bool


class OutboxFigures(NamedTuple):
    """What is in the table.

    Attributes:
        waiting: Rows, those that were refused and will be tried again among them. A very large number may be cut.
        oldest_seconds: How long the one with the smallest id has been waiting; 0 when none is.
        set_aside: Rows that a person has to look at. May be cut as well.
    """

    waiting: int
    oldest_seconds: float
    set_aside: int
