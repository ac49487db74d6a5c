"""Filling the gap of a client that comes back: what to send it, or that it cannot be filled.

Pure: reads nothing, decides from what was read. Source: client protocol, streams
and recovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from service.core.stream import Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.core.stream import Publication

__all__ = ("HasOffset", "Page", "Recovery", "merge", "recover")


class HasOffset(Protocol):
    """Anything with a place in a stream: a publication that was read, or one that was held back."""

    @property
    def offset(self) -> int:
        """Place in the stream, from 1."""
        ...


T_co = TypeVar("T_co", bound=HasOffset, covariant=True)
T = TypeVar("T", bound=HasOffset)


@dataclass(frozen=True, slots=True)
class Page:
    """What one read of a stream gave.

    Attributes:
        items: Publications, in the order asked for.
        top: Position of the stream at the moment of the read.
    """

    items: Sequence[Publication]
    top: Position


@dataclass(frozen=True, slots=True)
class Recovery(Generic[T_co]):
    """The outcome for one subscriber.

    Attributes:
        recovered: Whether ``items`` is everything that the client missed.
        items: Publications to hand over in the reply, oldest first; empty when not recovered.
        position: Where the subscriber stands once it has them; publications up to here
            are never sent to it again.
    """

    recovered: bool
    items: Sequence[T_co]
    position: Position


def recover(since: Position, page: Page) -> Recovery[Publication]:
    """Decide whether a page read from ``since`` on brings the client to the top.

    Args:
        since: What the client remembers; an empty epoch means any.
        page: Publications after ``since.offset``, oldest first, and the top.
    """
    top = page.top
    if since.epoch not in ("", top.epoch) or since.offset > top.offset:
        return Recovery(recovered=False, items=(), position=top)
    if since.offset == top.offset:
        return Recovery(recovered=True, items=(), position=top)
    items = page.items
    whole = bool(items) and items[0].offset == since.offset + 1 and items[-1].offset == top.offset
    return Recovery(recovered=whole, items=items if whole else (), position=top)


def merge(recovery: Recovery[T], held: Iterable[T]) -> Recovery[T] | None:
    """Join live publications that were held back during the read to its outcome.

    Returns:
        The outcome at the newest held publication, each publication once; None when
        there is a gap between them, and the client must start over.
    """
    items = list(recovery.items)
    offset = recovery.position.offset
    for item in held:
        if item.offset <= offset:
            continue
        if item.offset != offset + 1:
            return None
        offset = item.offset
        items.append(item)
    # Without recovery the client begins at the top that the reply names, so what was held back lies before it.
    return Recovery(
        recovered=recovery.recovered,
        items=tuple(items) if recovery.recovered else (),
        position=Position(offset, recovery.position.epoch),
    )
