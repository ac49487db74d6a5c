"""How a rollout can end otherwise than well.

::

    DeploytoolError
    └── RolloutError
        ├── TransientError       an answer that may be another one in a moment
        ├── PhaseError           a phase failed: cancel, or go back
        │   └── GaveUpError      it went on not working; ends with 5 where nothing had begun
        ├── RefusedError         it must not even begin; ends with 3
        ├── LockHeldError        somebody else rolls out; ends with 6
        ├── LockLostError        somebody else has taken over, or we can no longer prove that nobody has; ends with 6
        ├── OutsideWindowError   ends with 7
        ├── OperatorError        a person has to look; ends with 9
        └── LeftError            interrupted, and can be resumed; ends with 130
"""

from __future__ import annotations

from deploytool.errors import DeploytoolError

__all__ = (
    "GaveUpError",
    "LeftError",
    "LockHeldError",
    "LockLostError",
    "OperatorError",
    "OutsideWindowError",
    "PhaseError",
    "RefusedError",
    "RolloutError",
    "TransientError",
)


class RolloutError(DeploytoolError):
    """Something about a rollout."""


class TransientError(RolloutError):
    """It did not work now, and may in a moment: no answer, a conflict, too many requests, an error of the server.

    Whether what was asked for was done is not known: look before it is asked for again.

    Attributes:
        retry_seconds: That the other side asked to wait; 0 when it did not say.
    """

    exit_code = 5

    def __init__(self, problem: str, *, retry_seconds: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_seconds = retry_seconds


class PhaseError(RolloutError):
    """A phase failed for good."""

    exit_code = 8


class GaveUpError(PhaseError):
    """What might have worked in a moment did not work for as long as it was tried."""

    exit_code = 5


class RefusedError(RolloutError):
    """It must not begin like this; nothing was changed."""

    exit_code = 3


class LockHeldError(RolloutError):
    """Somebody else rolls out, or has left a rollout unfinished."""

    exit_code = 6


class LockLostError(RolloutError):
    """The lock is somebody else's now, or may be: whatever is done next may be done twice."""

    exit_code = 6


class OutsideWindowError(RolloutError):
    """No window is open for long enough."""

    exit_code = 7


class OperatorError(RolloutError):
    """A person has to look; going on could make it worse."""

    exit_code = 9


class LeftError(RolloutError):
    """The rollout was interrupted, and waits to be resumed."""

    exit_code = 130
