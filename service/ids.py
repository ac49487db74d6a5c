"""The only reader of randomness. Everything else is handed its identifiers."""

from __future__ import annotations

import os
import random
import secrets
import string
from typing import Protocol

from typing_extensions import override

__all__ = ("Ids", "SystemIds")

_EPOCH_LENGTH = 8
_SECRET_BYTES = 32


class Ids(Protocol):
    """Where identifiers, jitter and generated secrets come from."""

    def uuid(self) -> str:
        """Return a random UUID in its 36-character form: a connection, an instance."""
        ...

    def epoch(self) -> str:
        """Return 8 random ASCII letters: the identity of one incarnation of a stream."""
        ...

    def fraction(self) -> float:
        """Return a number in [0, 1): jitter. Not for secrets."""
        ...

    def secret(self) -> str:
        """Return 43 URL-safe characters that hold 256 random bits."""
        ...


class SystemIds(Ids):
    """Randomness of the operating system."""

    @override
    def uuid(self) -> str:
        # As uuid.uuid4() does it, in a third of the time: every connection gets one. Source: RFC 9562 section 5.4.
        digits = os.urandom(16).hex()
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"

    @override
    def epoch(self) -> str:
        return "".join(secrets.choice(string.ascii_letters) for _ in range(_EPOCH_LENGTH))

    @override
    def fraction(self) -> float:
        return random.random()  # noqa: S311 - jitter, as the protocol says

    @override
    def secret(self) -> str:
        return secrets.token_urlsafe(_SECRET_BYTES)
