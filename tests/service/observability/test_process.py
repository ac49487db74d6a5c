"""Readings of this very process."""

from __future__ import annotations

from service.observability.process import SystemProcess


def test_memory_and_processor_time_are_read() -> None:
    """In bytes and seconds, and time only ever grows."""
    process = SystemProcess()

    assert 1_000_000 < process.memory_bytes() < 100_000_000_000
    assert 0 < process.cpu_seconds() <= process.cpu_seconds()
