"""The program of the tutorial, through a ``kill -9`` of the service."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.restarts import RestartedService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ROOT: Final = Path(__file__).parents[2]
_PAGE: Final = (_ROOT / "docs" / "tutorial" / "first-channel.md").read_text()
_SECRET: Final = "tutorial-tutorial-tutorial-tutorial"
_LINE_SECONDS: Final = 30.0


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(_LINE_SECONDS):
        return (await process.stdout.readline()).decode().rstrip()


@asynccontextmanager
async def _program(path: Path, token: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", str(path), stdout=asyncio.subprocess.PIPE, env={**os.environ, "TOKEN": token}
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def _token() -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "token", "--user", "42"),
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, "SLACKWATER_MODE": "development", "TOKEN_HMAC_SECRET": _SECRET},
    )
    out, _ = await process.communicate()
    return out.decode().strip()


@pytest.mark.e2e
async def test_publication_survives_a_kill(tmp_path: Path) -> None:
    """The program prints what the page says, in the order in which it says it."""
    shown = [line for block in re.findall(r"```text\n(.*?)```", _PAGE, re.DOTALL) for line in block.splitlines()]
    (source,) = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    settings = {
        "SLACKWATER_MODE": "development",
        "ADMIN_PORT": "0",
        "TOKEN_HMAC_SECRET": _SECRET,
        # What it is by default, where tests have a memory instead.
        "DATABASE_URL": f"sqlite:///{tmp_path / 'slackwater.db'}",
    }
    async with RestartedService.run(settings) as service:
        path = tmp_path / "first.py"
        path.write_text(source.replace("ws://127.0.0.1:3000", service.process.url.replace("http", "ws", 1)))
        token = await _token()
        async with _program(path, token) as first:
            printed = [await _line(first) for _ in range(3)]
            await service.kill()
            await service.start()
            printed.append(await _line(first))
            async with _program(path, token) as second:
                printed += [await _line(second) for _ in range(3)]
                at_the_first = await _line(first)

    assert shown == printed
    assert shown[-1] == at_the_first
