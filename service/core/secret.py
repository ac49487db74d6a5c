"""A value that must not be seen: compared in constant time, never printed."""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn

from typing_extensions import override

__all__ = ("Secret",)


class Secret:
    """Wraps a key, so that no log line, traceback or ``repr`` of a settings group shows it.

    Args:
        value: The key itself; not empty.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself: for signing and for connecting, not for showing."""
        return self._value

    def matches(self, candidate: str) -> bool:
        """Return whether ``candidate`` is the key, in a time that does not depend on either."""
        return hmac.compare_digest(_digest(self._value), _digest(candidate))

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._value)

    @override
    def __hash__(self) -> int:
        return hash(_digest(self._value))

    @override
    def __repr__(self) -> str:
        return "Secret(***)"

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def _digest(text: str) -> bytes:
    """Return 32 bytes whatever the length, so that comparing tells nothing about it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
