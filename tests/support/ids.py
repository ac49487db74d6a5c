"""Identifiers that count up, so that a test can write them down."""

from __future__ import annotations

from itertools import count

from typing_extensions import override

from service.ids import Ids

__all__ = ("SequentialIds",)

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_EPOCH_LENGTH = 8


class SequentialIds(Ids):
    """Every kind of identifier starts at 1 and has a counter of its own.

    Args:
        fraction: What ``fraction()`` always answers, in [0, 1).
    """

    def __init__(self, *, fraction: float = 0.5) -> None:
        self._fraction = fraction
        self._uuids = count(1)
        self._epochs = count(1)
        self._secrets = count(1)

    @override
    def uuid(self) -> str:
        """Answer ``00000000-0000-4000-8000-000000000001`` first."""
        return f"00000000-0000-4000-8000-{next(self._uuids):012x}"

    @override
    def epoch(self) -> str:
        """Answer ``aaaaaaab`` first, then ``aaaaaaac``."""
        number = next(self._epochs)
        letters = []
        for _ in range(_EPOCH_LENGTH):
            number, index = divmod(number, len(_LETTERS))
            letters.append(_LETTERS[index])
        return "".join(reversed(letters))

    @override
    def fraction(self) -> float:
        return self._fraction

    @override
    def secret(self) -> str:
        """Answer 43 characters that end in a number, as long as a real one."""
        return f"secret-for-tests-only-{next(self._secrets):021d}"
