"""The script of ``helm test``, run against a service."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from tests.helm.rendering import container, environment, render
from tests.support.process import ADMIN_KEY, API_KEY, HMAC_SECRET, ServiceProcess

SECRETS = {"keys": {"API_KEY": API_KEY, "ADMIN_KEY": ADMIN_KEY, "TOKEN_HMAC_SECRET": HMAC_SECRET}}
STEPS = (
    "the instance is ready",
    "the public port keeps the metrics to itself",
    "the admin API asks for its key",
    "the admin API makes probe tokens",
    "a client connects",
    "it subscribes",
    "it receives what it publishes",
)


async def smoke(public: str, admin: str, **changes: str) -> tuple[int | None, list[str]]:
    """Run what the test pod runs, with the addresses of a process in place of the Services'."""
    (one,) = render()["Pod", "live-slackwater-test"]["spec"]["containers"]
    assert one["command"] == ["python", "-c"]
    environ = environment(one, SECRETS) | {"PUBLIC_ADDRESS": public, "ADMIN_ADDRESS": admin} | changes
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        *one["args"],
        env={"PATH": os.environ["PATH"], **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode().splitlines()


@pytest.mark.e2e
async def test_service_with_the_chart_s_environment_passes() -> None:
    """Started with what the chart renders, and tried as `helm test` does, from end to end."""
    rendered = environment(container(render()), SECRETS)
    loopback = {"HOST": "127.0.0.1", "ADMIN_HOST": "127.0.0.1", "PORT": "0", "ADMIN_PORT": "0"}
    kept = {name: value for name, value in rendered.items() if name != "DATA_DIR"}
    async with ServiceProcess.start({**kept, **loopback}) as service:
        public, admin = service.url.removeprefix("http://"), service.admin_url.removeprefix("http://")

        assert (0, [f"ok: {step}" for step in STEPS]) == await smoke(public, admin)
        code, said = await smoke(public, admin, ADMIN_KEY="wrong" * 8)
        assert code == 1
        assert said[-1].startswith("FAILED: the admin API makes probe tokens; saw (401,")
        code, said = await smoke(admin, admin)
        assert (1, "FAILED: the public port keeps the metrics to itself; saw 200") == (code, said[-1])
