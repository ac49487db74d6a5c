"""What was sent, what was acknowledged, and whether every subscriber saw what it had to see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ("Entry", "Ledger", "Seen")


class Seen(NamedTuple):
    """A publication that reached a subscriber; ``name`` is what was published."""

    offset: int
    name: str


@dataclass(eq=False)
class Entry:
    """One attempt to publish; nobody ever repeats one.

    Attributes:
        name: Different from that of every other: that of the publisher, a colon, and its number.
        acknowledged: Whether the publisher was told that it is kept.
    """

    name: str
    channel: str
    acknowledged: bool = False


class Ledger:
    """The one memory of a whole test.

    Attributes:
        entries: By their names.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def begin(self, name: str, channel: str) -> Entry:
        """Note that something is about to be sent."""
        entry = self.entries[name] = Entry(name, channel)
        return entry

    def cancel(self, entry: Entry) -> None:
        """Forget what was not sent after all."""
        del self.entries[entry.name]

    def acknowledged(self, channel: str) -> set[str]:
        """Return the names of what was acknowledged in a channel."""
        return {entry.name for entry in self.entries.values() if entry.acknowledged and entry.channel == channel}

    def check(self, channel: str, subscribers: Sequence[Sequence[Seen]]) -> None:
        """Check what the subscribers of a channel saw since its first publication.

        Every acknowledged publication once, the others at most once, nothing else, in one order for all, and those of
        one publisher in the order in which it sent them.
        """
        first = subscribers[0]
        for other in subscribers[1:]:
            assert list(first) == list(other), _difference(first, other)

        assert list(range(1, len(first) + 1)) == [seen.offset for seen in first], f"{channel}: offsets have a gap"

        names = [seen.name for seen in first]

        assert len(set(names)) == len(names), f"{channel}: something came twice"
        assert not [name for name in names if name not in self.entries], f"{channel}: came from nowhere"

        missing = self.acknowledged(channel) - set(names)

        assert not missing, f"{channel}: acknowledged and lost: {sorted(missing)[:5]}"
        for publisher, numbers in _by_publisher(names).items():
            assert sorted(numbers) == numbers, f"{channel}: the publications of {publisher} changed places"


def _by_publisher(names: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name in names:
        publisher, _, number = name.rpartition(":")
        found.setdefault(publisher, []).append(int(number))
    return found


def _difference(left: Sequence[Seen], right: Sequence[Seen]) -> str:
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return f"at {index}: {one} and {other}"
    return f"{len(left)} and {len(right)} publications"
