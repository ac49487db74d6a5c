"""What can go wrong in a benchmark.

BenchError
├── UnavailableError  the machine lacks something; that server or size is left out, with the reason
└── MeasurementError  a server or the generator did not do what was measured; the run counts as failed
"""

__all__ = ("BenchError", "MeasurementError", "UnavailableError")


class BenchError(Exception):
    """Base of the tree."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnavailableError(BenchError):
    """Something is not installed or not permitted here."""


class MeasurementError(BenchError):
    """A measurement started and gave no valid figure."""
