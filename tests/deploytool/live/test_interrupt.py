"""A check that is interrupted leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.deploytool.live.release import ADA, NAME, Release
from tests.simcluster.images import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

_SECONDS = 15.0
_WAITING = "waiting until the burst of messages is forgotten"


def test_interrupted_probe_ends_with_130_and_closes_what_it_opened(release: Release) -> None:
    """In the middle of the minute that the burst of messages takes."""
    connect_to = (release.folder / "connect-to").read_text()
    command = (
        "check", "--probe", "--select", "rate-limits", "--connect-to", connect_to, "--ca-file", "authority.pem"
    )  # fmt: skip
    environ = {**os.environ, "KUBECONFIG": release.kubeconfig(ADA), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-m", "deploytool", *command],
        cwd=release.folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if _WAITING in line:
                break
        during = _probe_connections(release, 1)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)

    assert 1 == during
    assert 130 == process.returncode, "".join(lines) + rest
    assert "Traceback" not in rest
    assert 0 == _probe_connections(release, 0)


def _probe_connections(release: Release, wanted: int) -> int:
    """Ask until there are as many as wanted, or for long enough; returns how many there are."""
    address = release.cluster.address(release.admin.namespace, f"{NAME}-admin", 3001)
    key = (release.folder / "admin-key").read_text()
    until = time.monotonic() + _SECONDS  # noqa: TID251 - a deadline of a real process
    with httpx.Client(headers={"X-Admin-Key": key}, trust_env=False) as client:
        while True:
            count = int(client.get(f"http://{address}/api/admin/status").json()["connections"]["probe"])
            if count == wanted or time.monotonic() > until:  # noqa: TID251 - ditto
                return count
