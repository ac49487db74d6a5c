"""The route of the metrics."""

from __future__ import annotations

from tests.support.surfaces import Surfaces


async def test_metrics_are_exposed_as_text() -> None:
    """In the format and with the type that Prometheus expects."""
    surfaces = Surfaces()
    surfaces.clients(3)

    answer = await surfaces.ask("GET", "/metrics", headers={})

    assert 200 == answer.status_code
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "no-store" == answer.headers["cache-control"]
    assert "\nslackwater_connections 3.0\n" in answer.text
