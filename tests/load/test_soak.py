"""Clients that vanish without closing leave nothing behind."""

from __future__ import annotations

import pytest

from tests.load.soak import soak

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]


async def test_clients_that_vanish_leave_nothing() -> None:
    """The short form of the soak: hundreds of clients for some seconds; whether memory grows takes longer to see."""
    outcome = await soak(clients=200, seconds=8, sample_seconds=4, ping_milliseconds=1000)

    assert outcome.counts["connected"] >= 200
    assert outcome.counts["vanished"] > 0
    assert outcome.counts["pushes"] > outcome.counts["published"] > 200
    assert "never given up" not in outcome.counts
