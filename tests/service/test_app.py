from __future__ import annotations

import pytest
from litestar.testing import TestClient

from service.app import build
from service.ids import SystemIds
from service.settings import load


@pytest.mark.parametrize("surface", ["public", "admin"])
@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:3000", 200), ("127.0.0.1", 200), ("evil.example", 403), ("localhost.evil.example", 403)],
)
def test_development_answers_this_machine_alone(surface: str, host: str, status: int) -> None:
    """A page whose name points to 127.0.0.1 reaches neither socket, metrics included."""
    settings = load({"SLACKWATER_MODE": "development", "DATABASE_URL": "memory:"}, secret=SystemIds().secret)
    with TestClient(getattr(build(settings), surface)) as client:
        path = "/metrics" if surface == "admin" else "/api/health/live"

        assert status == client.get(path, headers={"Host": host}).status_code
