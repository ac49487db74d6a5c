"""The time during which this instance may serve.

Sans-I/O: a proof of the lock is brought in with the instant at which its query was *sent*,
and everybody who is about to let somebody in, to deliver or to commit asks `Tenure.holds` first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Grant", "Occupied", "Tenure")


@dataclass(frozen=True, slots=True)
class Grant:
    """The lock is ours, and a new fencing number is committed.

    Attributes:
        token: That number, above those of all before; 0 when nothing is fenced.
        proven_at: When the query was sent that proved it, by the clock of the tenure; infinity for a
            lock that cannot get lost while the process exists.
        must_wait: The one before us did not say that it had ended, so that it may serve for a while yet.
    """

    token: int
    proven_at: float
    must_wait: bool = False


@dataclass(frozen=True, slots=True)
class Occupied:
    """Somebody else has the lock.

    Attributes:
        holder: Who, for people; empty when that is not known.
        since: Unix seconds since when; 0 when that is not known.
    """

    holder: str = ""
    since: float = 0.0


class Tenure:
    """The right to serve, and until when it is proven. Event loop only.

    Args:
        now: Seconds of a clock that goes on while the machine sleeps.
        serve_seconds: For how long a proof holds, counted from when its query was sent.

    Attributes:
        token: The fencing number of this tenure; 0 while there is none, or when nothing is fenced.
        until: When the last proof runs out, by the clock of ``now``; infinity when it never does.
    """

    __slots__ = ("_now", "_serve_seconds", "token", "until")

    def __init__(self, now: Callable[[], float], serve_seconds: float) -> None:
        self._now = now
        self._serve_seconds = serve_seconds
        self.token = 0
        self.until = -math.inf

    @classmethod
    def always(cls) -> Tenure:
        """Return one that has begun and never runs out, for a process that shares nothing with others."""
        tenure = cls(lambda: 0.0, 0.0)
        tenure.until = math.inf
        return tenure

    def begin(self, token: int, proven_at: float) -> None:
        """Start to serve under ``token``.

        Args:
            proven_at: When the query was sent whose answer proved the lock; infinity for a lock that
                cannot get lost while the process exists.
        """
        self.token, self.until = token, proven_at + self._serve_seconds

    def prove(self, sent_at: float) -> bool:
        """Go on by a proof; False when it came too late, since what has run out never comes back."""
        if not self.holds():
            return False
        self.until = max(self.until, sent_at + self._serve_seconds)
        return self.holds()

    def end(self) -> None:
        """Serve no longer."""
        self.token, self.until = 0, -math.inf

    def holds(self) -> bool:
        """Whether this instance may serve at this very moment."""
        return self._now() < self.until
