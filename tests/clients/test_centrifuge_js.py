"""The stock JavaScript client, as it comes from npm, against a running process.

The scenarios are in ``tests/js``; each is a test of its own here.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support.process import ADMIN_KEY, API_KEY, HMAC_SECRET, ROOT, ServiceProcess
from tests.support.service_api import until_empty

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("clients-js"),
]

_PROJECT = ROOT / "tests" / "js"
_FILE = _PROJECT / "centrifuge.test.mjs"
_INSTALLED = _PROJECT / "node_modules" / ".package-lock.json"
_INSTALL_SECONDS = 120


def _names() -> list[str]:
    """Return the scenarios; the one that is written once for several ways of being cut is listed by those."""
    text = _FILE.read_text()
    cuts = re.findall(r'^  \["([^"]+)", \d+, async', text, re.MULTILINE)
    return [
        *re.findall(r'^test\("([^"]+)"', text, re.MULTILINE),
        *(f"missed publications are recovered after a cut: {cut}" for cut in cuts),
    ]


def _missing(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def node() -> str:
    """Where node is, with the packages of the lock file installed."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        _missing("the JavaScript client needs node and npm")
    assert found is not None
    assert npm is not None
    lock = _PROJECT / "package-lock.json"
    if not _INSTALLED.exists() or _INSTALLED.stat().st_mtime < lock.stat().st_mtime:
        command = [npm, "ci", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(  # noqa: S603 - a fixed command
            command, cwd=_PROJECT, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
        if done.returncode:
            _missing(f"npm ci failed: {done.stderr}")
        _INSTALLED.touch()
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(node: str) -> AsyncIterator[ServiceProcess]:
    """One process for all; nothing may be left in it by the scenarios."""
    assert node

    async with ServiceProcess.start({"WS_MESSAGES_PER_MINUTE": "0"}) as found:
        yield found
        await until_empty(found)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", _names())
async def test_scenario(node: str, service: ServiceProcess, name: str) -> None:
    """A scenario of ``tests/js``."""
    environ = {
        "PATH": os.environ["PATH"],
        "SERVICE_URL": service.url,
        "ADMIN_URL": service.admin_url,
        "API_KEY": API_KEY,
        "ADMIN_KEY": ADMIN_KEY,
        "HMAC_SECRET": HMAC_SECRET,
    }
    process = await asyncio.create_subprocess_exec(
        node,
        *("--test-reporter=tap", "--test-name-pattern", f"/^{re.escape(name)}$/", str(_FILE)),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            output = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert 0 == process.returncode, output
    assert "# pass 1\n" in output, output
