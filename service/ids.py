"""The only reader of randomness. Everything else is handed its identifiers."""

from __future__ import annotations

import secrets
import string
import uuid
from typing import Protocol

from typing_extensions import override

__all__ = ("Ids", "SystemIds")

_EPOCH_LENGTH = 8
_SECRET_BYTES = 32
_FRACTION_BITS = 53  # what a float holds exactly, so 1.0 is never reached


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
        return str(uuid.uuid4())

    @override
    def epoch(self) -> str:
        return "".join(secrets.choice(string.ascii_letters) for _ in range(_EPOCH_LENGTH))

    @override
    def fraction(self) -> float:
        return secrets.randbits(_FRACTION_BITS) / (1 << _FRACTION_BITS)

    @override
    def secret(self) -> str:
        return secrets.token_urlsafe(_SECRET_BYTES)
