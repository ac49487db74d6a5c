"""The compose file: one instance, hardened, and no secret of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, parsed."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return document


def test_compose_runs_one_instance_with_postgres_beside_it(compose: dict[str, Any]) -> None:
    """No replica setting at all, so that nobody raises one; the service waits for a healthy database."""
    service = compose["services"]["slackwater"]

    assert set(compose["services"]) == {"slackwater", "postgres"}
    assert not {"deploy", "scale"} & set(service)
    assert service["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "healthcheck" in compose["services"]["postgres"]


def test_compose_takes_away_what_the_service_does_not_need(compose: dict[str, Any]) -> None:
    """The image is made to work like this; see test_dockerfile."""
    service = compose["services"]["slackwater"]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108  # the container's own
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [volume.partition(":")[2] for volume in service["volumes"]] == ["/data"]


def test_compose_refuses_to_start_without_its_secrets(compose: dict[str, Any]) -> None:
    """Every secret is a required variable with a message, none has a value or a default."""
    for name in ("API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET"):
        assert re.fullmatch(r"\$\{" + name + r":\?.+\}", compose["services"]["slackwater"]["environment"][name])
    assert compose["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")


def test_compose_publishes_the_admin_port_on_loopback_alone(compose: dict[str, Any]) -> None:
    """Whoever needs it from elsewhere goes through the host."""
    (admin,) = [port for port in compose["services"]["slackwater"]["ports"] if port.endswith(":3001")]

    assert admin.startswith("127.0.0.1:")


def test_compose_gives_a_drain_its_time(compose: dict[str, Any]) -> None:
    """Longer than the default budget of 25 s, else the process is killed while it drains."""
    assert int(compose["services"]["slackwater"]["stop_grace_period"].removesuffix("s")) > 25
