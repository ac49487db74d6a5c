"""What a database keeps of streams, as plain values.

Sans-I/O: shared by the engine that fills them and the tables that keep them, which do not know each other.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("Head", "Row")


class Head(NamedTuple):
    """What is known of a stream without its publications.

    Attributes:
        top: Offset of the newest publication that was ever made; 0 before the first.
        epoch: Identity of this incarnation of the stream.
        version: Of the last publication that had one; 0 for none.
        version_epoch: Which count of versions that was; empty for the default one.
    """

    top: int
    epoch: str
    version: int = 0
    version_epoch: str = ""


class Row(NamedTuple):
    """A publication on its way into the tables. A tuple, since thousands a second are made.

    Attributes:
        offset: From 1; 0 keeps no publication and only marks the outbox row.
        epoch: Of the stream; the row of a stream that has none yet takes it over.
        data: Raw JSON on one line.
        info: Raw JSON about who published; None for the server.
        tags: Raw JSON object of strings; None for none.
        at: Unix seconds.
        key: Idempotency key; empty for none.
        version: Above 0; 0 for none, and then the stream keeps the one that it has.
        version_epoch: Belongs to ``version``.
        outbox_id: Of the outbox row that is published by this; 0 for none.
    """

    channel: str
    offset: int
    epoch: str
    data: bytes
    info: bytes | None = None
    tags: bytes | None = None
    at: float = 0.0
    key: str = ""
    version: int = 0
    version_epoch: str = ""
    outbox_id: int = 0
