"""The process of a container, and what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ("ContainerProcess", "Log")

_LINE_COUNT = 20_000
_LINE_BYTES = 1 << 20
_KILL_SECONDS = 5.0
_KEPT_NAMES = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "COVERAGE_PROCESS_START")


@dataclass(slots=True)
class Log:
    """The lines of one run of a container.

    Attributes:
        lines: Unix seconds and text.
        is_ended: Nothing follows.
    """

    lines: list[tuple[float, str]] = field(default_factory=list)
    is_ended: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, wall: float, text: str) -> None:
        """Note a line; beyond many, the oldest goes."""
        self.lines.append((wall, text))
        if len(self.lines) > _LINE_COUNT:
            del self.lines[0]
        self.changed.set()

    def end(self) -> None:
        """Note that nothing follows."""
        self.is_ended = True
        self.changed.set()


class ContainerProcess:
    """A process that was started for a container."""

    def __init__(self, process: asyncio.subprocess.Process, log: Log) -> None:
        self._process = process
        self.log = log

    @classmethod
    async def start(cls, argv: list[str], environ: Mapping[str, str], folder: Path, log: Log) -> ContainerProcess:
        """Start it, in a session of its own, so that its whole group can be signalled.

        Raises:
            OSError: There is nothing of this name to run.
        """
        kept = {name: value for name, value in os.environ.items() if name in _KEPT_NAMES}
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=folder,
            env={**kept, **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_BYTES,
            start_new_session=True,
        )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def run(self, wall: Callable[[], float]) -> int:
        """Read what it writes until it ends; returns its exit code as a runtime tells it (128 + signal)."""
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                self.log.add(wall(), line.decode(errors="replace").rstrip("\n"))
            code = await self._process.wait()
        finally:
            self.kill()
            self.log.end()
            # After a cancellation, too: what is left of it is gone before the loop is.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_SECONDS):
                    await self._process.communicate()
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and whatever it started."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number is signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)
