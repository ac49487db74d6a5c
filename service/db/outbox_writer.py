"""For applications: publish by inserting a row, in the same transaction as the change that it tells of.

``publication`` makes a statement. Execute it on whatever the transaction runs on, a session or a connection, in
a coroutine or not::

    async with session_maker.begin() as session:
        session.add(order)
        await session.execute(publication("org:acme:orders", {"order": 17, "state": "paid"}))

Needs SQLAlchemy and msgspec alone, and nothing of the running service; the tables are made by its migrations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Insert, Text, column, insert, table
from sqlalchemy.types import UserDefinedType
from typing_extensions import override

__all__ = ("OUTBOX", "Publication", "publication", "publications")


class _Json(UserDefinedType[str]):
    """JSON that is text already. The database parses it, so what is none fails in the application's transaction."""

    cache_ok = True

    @override
    def get_col_spec(self, **_: object) -> str:
        return "JSON"


OUTBOX: Final = table("slackwater_outbox", column("channel", Text()), column("data", _Json()), column("tags", _Json()))
"""The columns that an application writes; the others have defaults."""


class Publication(NamedTuple):
    """What is to be published.

    Attributes:
        data: Anything that msgspec writes as JSON; ``msgspec.Raw`` for JSON that is there already.
        tags: None for none.
    """

    channel: str
    data: Any
    tags: Mapping[str, str] | None = None


def publication(channel: str, data: Any, tags: Mapping[str, str] | None = None) -> Insert:  # noqa: ANN401 - any JSON
    """Return the statement that publishes ``data`` in ``channel`` once its transaction has committed.

    Args:
        channel: Whether there is such a channel is seen when the row is published, not now.
        data: As in `Publication`.
        tags: Text by name, sent along with the data.

    Raises:
        TypeError: ``data`` cannot be written as JSON.
    """
    return publications([Publication(channel, data, tags)])


def publications(items: Sequence[Publication]) -> Insert:
    """Return one statement for several publications, at least one; they are published in this order."""
    return insert(OUTBOX).values(
        [
            {"channel": item.channel, "data": _text(item.data), "tags": _text(item.tags) if item.tags else None}
            for item in items
        ]
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
