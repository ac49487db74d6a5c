"""Every item of the checklist, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.checks import (
    alerts,
    balancing,
    database,
    documents,
    limits,
    load,
    metrics,
    origins,
    replicas,
    tls,
    tokens,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploytool.model.finding import Item

__all__ = ("ITEMS", "find", "select")

ITEMS: tuple[Item, ...] = (
    *replicas.ITEMS,
    *database.ITEMS,
    *origins.ALLOWED,
    *balancing.ITEMS,
    *metrics.ITEMS,
    *alerts.MEMORY,
    *alerts.ERROR_RATE,
    *load.ITEMS,
    *tokens.ITEMS,
    *limits.ITEMS,
    *origins.RESTRICTED,
    *tls.ITEMS,
    *documents.ITEMS,
)


def find(word: str) -> tuple[Item, ...]:
    """Return what a word stands for: an id, its part after the dot, a number, or a category; empty for nothing."""
    return tuple(item for item in ITEMS if word in {item.id, item.name, str(item.number), item.category.value})


def select(wanted: Iterable[str], unwanted: Iterable[str]) -> tuple[Item, ...]:
    """Return the items that the words stand for, in the order of the checklist.

    Args:
        wanted: Words as ``find`` takes them; none stand for all items.
        unwanted: What is left out again.
    """
    chosen = {item.id for word in wanted for item in find(word)} or {item.id for item in ITEMS}
    left_out = {item.id for word in unwanted for item in find(word)}
    return tuple(item for item in ITEMS if item.id in chosen - left_out)
