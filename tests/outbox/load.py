"""An application that writes into the outbox in random transactions, and what it was promised for that."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from tests.support.outbox_table import Application

__all__ = ("CHANNELS", "Load", "Transaction", "check_order")

# So many that one recovery brings all there ever is in one of them: whoever comes back last may have missed that much.
CHANNELS = tuple(f"news:outbox-{number}" for number in range(50))

_MAX_ROWS = 40
_ROLLED_BACK = 0.15
_LONG = 0.1
_OVERLAPPED = 25


class _RolledBackError(Exception):
    """The application changed its mind."""


@dataclass
class Transaction:
    """A transaction that was committed.

    Attributes:
        began: Before its first row; every transaction whose ``committed`` is smaller had committed by then.
        committed: After its commit was confirmed.
        rows: Channel of each row, in the order in which they were inserted.
    """

    number: int
    began: int
    committed: int = 0
    rows: list[str] = field(default_factory=list)


class Load:
    """Writes until enough rows are committed.

    Args:
        application: Where transactions are begun.
        rows: To commit at least.
        connections: Transactions at the same time at most.
        seed: Of all that is random.
        overlaps: Let some transactions stay open while many others commit; for databases that can do that.

    Attributes:
        committed: Every transaction that was, by its number.
        row_count: How many rows they have.
    """

    def __init__(self, application: Application, *, rows: int, connections: int, seed: int, overlaps: bool) -> None:
        self.committed: dict[int, Transaction] = {}
        self.row_count = 0
        self.rolled_back = 0
        self._application = application
        self._rows = rows
        self._connections = connections
        self._overlaps = overlaps
        self._open = 0
        self._allowed = rows
        self._random = random.Random(seed)  # noqa: S311 - to be repeated
        self._numbers = count()
        self._moments = count(1)
        self._ended = asyncio.Condition()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Write until enough rows are committed."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._connections):
                tasks.create_task(self._write())
        self._over.set()

    async def until_over(self) -> None:
        """Wait until the last transaction has ended."""
        await self._over.wait()

    async def allow(self, rows: int) -> None:
        """Begin no more transactions for now once so many rows are committed."""
        self._allowed = rows
        async with self._ended:
            self._ended.notify_all()

    async def until_committed(self, rows: int) -> None:
        """Wait until so many rows are committed."""
        async with self._ended:
            await self._ended.wait_for(lambda: self.row_count >= rows)

    async def _write(self) -> None:
        while self.row_count < self._rows:
            async with self._ended:
                await self._ended.wait_for(lambda: self.row_count < self._allowed or self._rows <= self.row_count)
            transaction = Transaction(next(self._numbers), next(self._moments))
            try:
                await self._transact(transaction)
            except _RolledBackError:
                self.rolled_back += 1
            else:
                transaction.committed = next(self._moments)
                self.committed[transaction.number] = transaction
                self.row_count += len(transaction.rows)
            async with self._ended:
                self._ended.notify_all()

    async def _transact(self, transaction: Transaction) -> None:
        chance = self._random
        channels = chance.choices(CHANNELS, k=chance.randint(1, _MAX_ROWS))
        is_long, is_rolled_back = self._overlaps and chance.random() < _LONG, chance.random() < _ROLLED_BACK
        async with self._application.transaction() as writer:
            for index, channel in enumerate(channels):
                if is_long and index == len(channels) // 2:
                    await self._overlap()
                await writer.write(channel, json.dumps([transaction.number, index]).encode())
                transaction.rows.append(channel)
            if is_rolled_back:
                raise _RolledBackError

    async def _overlap(self) -> None:
        """Stay open while others commit, unless nearly all are open like that already."""
        if self._open >= self._connections // 2:
            return
        self._open += 1
        enough = len(self.committed) + self.rolled_back + _OVERLAPPED
        async with self._ended:
            await self._ended.wait_for(
                lambda: len(self.committed) + self.rolled_back >= enough or self._allowed <= self.row_count
            )
        self._open -= 1


def check_order(load: Load, arrived: Mapping[str, Sequence[bytes]]) -> None:
    """Check that exactly what was committed arrived, each row once, and in the order promised.

    Args:
        load: What was committed.
        arrived: Data of the publications in the order of their channel, by its name.
    """
    expected = {
        name: sorted(
            (number, index)
            for number, item in load.committed.items()
            for index, channel in enumerate(item.rows)
            if channel == name
        )
        for name in CHANNELS
    }
    found = {name: [(int(number), int(index)) for number, index in map(json.loads, arrived[name])] for name in CHANNELS}

    assert expected == {name: sorted(rows) for name, rows in found.items()}

    for name, rows in found.items():
        _check_channel(name, rows, load.committed)


def _check_channel(name: str, rows: Sequence[tuple[int, int]], committed: Mapping[int, Transaction]) -> None:
    last_index: dict[int, int] = {}
    # The transaction that began last of those that have arrived: whoever had committed by then must be there already.
    latest: Transaction | None = None
    for number, index in rows:
        transaction = committed[number]

        assert last_index.get(number, -1) < index, f"{name}: rows of one transaction changed places"
        assert latest is None or latest.began < transaction.committed, f"{name}: came after one that began later"

        last_index[number] = index
        if latest is None or transaction.began > latest.began:
            latest = transaction
