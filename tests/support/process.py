"""A service started for real, as a process of its own on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = ("ADMIN_KEY", "API_KEY", "HMAC_SECRET", "ServiceProcess")

API_KEY = "test-api-key-0123456789-0123456789-01"
ADMIN_KEY = "test-admin-key-0123456789-0123456789"
HMAC_SECRET = "test-hmac-secret-0123456789-0123456789-0123456789"

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 30.0

_ENVIRON = {
    "SLACKWATER_MODE": "production",
    "HOST": "127.0.0.1",
    "PORT": "0",
    "ADMIN_PORT": "0",
    "API_KEY": API_KEY,
    "ADMIN_KEY": ADMIN_KEY,
    "TOKEN_HMAC_SECRET": HMAC_SECRET,
    "LOG_FORMAT": "json",
    "DATABASE_URL": "memory:",
}


class ServiceProcess:
    """One process of the service.

    Attributes:
        url: Public address, ``http://127.0.0.1:<port>``.
        admin_url: Address of the admin port.
        lines: What it logged so far, one JSON object each (or the bare text under ``text``).
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.admin_url = ""
        self.lines: list[dict[str, Any]] = []
        self._ready = asyncio.Event()
        self._reader = asyncio.ensure_future(self._read())  # noqa: TID251 - ends with the process

    @classmethod
    @asynccontextmanager
    async def start(
        cls, environ: Mapping[str, str] | None = None, *, module: str = "service"
    ) -> AsyncIterator[ServiceProcess]:
        """Start with the settings of tests and ``environ`` over them; killed at the end if it still runs.

        Args:
            environ: More settings.
            module: What is run; something that serves as ``service`` does.
        """
        with tempfile.TemporaryDirectory() as data:
            kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                cwd=ROOT,
                env={**kept, **_ENVIRON, "DATA_DIR": data, **(environ or {})},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            service = cls(process)
            try:
                await service._wait_ready()
                yield service
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()
                await service._reader

    async def _wait_ready(self) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            raise AssertionError(f"the service did not start:\n{self.log()}") from None
        if not self.url:
            raise AssertionError(f"the service ended with {self.process.returncode}:\n{self.log()}")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self._note(line.decode(errors="replace").rstrip("\n"))
        await self.process.wait()
        self._ready.set()

    def _note(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"text": line}
        if not isinstance(entry, dict):
            entry = {"text": line}
        self.lines.append(entry)
        if entry.get("event") == "service.ready":
            self.url, self.admin_url = entry["url"], entry["admin_url"]
            self._ready.set()

    @property
    def port(self) -> int:
        """The public port."""
        return int(self.url.rpartition(":")[2])

    @property
    def ws_url(self) -> str:
        """Where stock clients connect."""
        return self.url.replace("http", "ws", 1) + "/connection/websocket"

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def log(self) -> str:
        """Everything it logged, for the text of a failure."""
        return "\n".join(json.dumps(line) for line in self.lines)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def wait(self, seconds: float = 30.0) -> int:
        """Wait for its end and return the exit code."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await self._reader
        return code

    @staticmethod
    def token(user: str, *, channel: str | None = None, seconds: float = 3600, **claims: object) -> str:
        """Return a token that the process accepts."""
        import time  # noqa: PLC0415 - only where it is needed

        extra = {"channel": channel} if channel is not None else {}
        payload = {"sub": user, "exp": int(time.time() + seconds), **extra, **claims}  # noqa: TID251 - a real process lives in real time
        return jwt.encode(payload, HMAC_SECRET, algorithm="HS256")
