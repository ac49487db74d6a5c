"""What a group of rows means for each table, and which rows no database would take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from service.core.rows import Row

__all__ = ("Group", "NewHead", "is_storable", "make_group", "refused_rows")

_INTEGER_LIMIT: Final = 2**63
# Postgres keeps at most 2,704 bytes of an entry of an index, and says so only when it comes to that.
_ENTRY_BYTES: Final = 2600


class NewHead(NamedTuple):
    """What a group does to the row of one stream.

    Attributes:
        first: Lowest offset of the group in this channel; the top must be right below it.
        version: Of the last row that had one; 0 leaves the stream's as it is.
    """

    channel: str
    first: int
    top: int
    epoch: str
    version: int
    version_epoch: str
    at: float


class Group(NamedTuple):
    """Rows by the tables that they go to.

    Attributes:
        publications: Those with an offset, in order.
        heads: One for each of their channels, sorted by name: statements that meet lock in one order.
        results: Rows that have a key, the last one of each key, sorted for the same reason.
        outbox_ids: Ascending, each once.
    """

    publications: Sequence[Row]
    heads: Sequence[NewHead]
    results: Sequence[Row]
    outbox_ids: Sequence[int]


def make_group(rows: Iterable[Row]) -> Group:
    """Sort rows by what has to be written for them."""
    publications: list[Row] = []
    heads: dict[str, NewHead] = {}
    results: dict[tuple[str, str], Row] = {}
    outbox_ids: set[int] = set()
    for row in rows:
        if row.outbox_id:
            outbox_ids.add(row.outbox_id)
        if not row.offset:
            continue
        publications.append(row)
        known = heads.get(row.channel)
        if known is None:
            heads[row.channel] = NewHead(
                row.channel, row.offset, row.offset, row.epoch, row.version, row.version_epoch, row.at
            )
        else:
            version = (row.version, row.version_epoch) if row.version else (known.version, known.version_epoch)
            heads[row.channel] = NewHead(row.channel, known.first, row.offset, row.epoch, *version, row.at)
        if row.key:
            results[row.channel, row.key] = row
    return Group(
        publications,
        [heads[channel] for channel in sorted(heads)],
        [results[key] for key in sorted(results)],
        sorted(outbox_ids),
    )


def refused_rows(rows: Sequence[Row]) -> list[int]:
    """Return the indexes of rows that cannot be written, ascending, as far as that can be told from here."""
    return [index for index, row in enumerate(rows) if not _may_be_written(row)]


def is_storable(text: str) -> bool:
    """Whether a text can be kept: Postgres knows no NUL, and half of a surrogate pair is no character."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _may_be_written(row: Row) -> bool:
    if not row.offset:
        return row.outbox_id < _INTEGER_LIMIT
    name = row.channel + row.key
    if not is_storable(name + row.epoch + row.version_epoch):
        return False
    # A character has at most 4 bytes: most names need not be encoded to know that they are short.
    if len(name) * 4 > _ENTRY_BYTES and len(name.encode()) > _ENTRY_BYTES:
        return False
    return row.offset < _INTEGER_LIMIT and row.version < _INTEGER_LIMIT and row.outbox_id < _INTEGER_LIMIT
