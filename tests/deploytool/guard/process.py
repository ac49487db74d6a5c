"""The guard as a process, and what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simcluster.images import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.simcluster.target import Target

__all__ = ("LABEL", "GuardProcess", "deploytool", "events_of", "guarding")

LABEL = {"slackwater.dev/guard": "true"}
_SECONDS = 30.0


@dataclass
class GuardProcess:
    """A guard that runs.

    Attributes:
        lines: What it has said on stderr.
    """

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _said: threading.Condition = field(default_factory=threading.Condition)

    def read(self) -> None:
        """Take up what it says until it ends."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._said:
                self.lines.append(line)
                self._said.notify_all()

    def wait_for(self, pattern: str, *, seconds: float = _SECONDS) -> re.Match[str]:
        """Wait for a line, said before or not, and return what matched."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._said:
            match = self._said.wait_for(found, seconds)
        assert match is not None, f"{pattern!r} was not said:\n{''.join(self.lines)}"
        return match

    def count(self, pattern: str) -> int:
        """Return how many lines match."""
        with self._said:
            return sum(bool(re.search(pattern, line)) for line in self.lines)


def _environ(kubeconfig: Path, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def guarding(target: Target, *arguments: str, kubeconfig: Path | None = None) -> Iterator[GuardProcess]:
    """Run ``deploytool guard run`` until the block ends; it ends with 0."""
    command = [sys.executable, "-m", "deploytool", "guard", "run", "--namespace", target.namespace, *arguments]
    environ = _environ(kubeconfig or target.kubeconfig, target.folder)
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        guard = GuardProcess(process)
        reader = threading.Thread(target=guard.read, daemon=True)
        reader.start()
        try:
            guard.wait_for("guard.listening")
            yield guard
        finally:
            process.terminate()
            code = process.wait(_SECONDS)
            reader.join(_SECONDS)
        assert code == 0, "".join(guard.lines)


def deploytool(target: Target, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the tool to its end, in the target's namespace."""
    return subprocess.run(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-m", "deploytool", *arguments, "--namespace", target.namespace],
        env=_environ(kubeconfig or target.kubeconfig, target.folder),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def events_of(target: Target, reason: str, *, seconds: float = _SECONDS) -> dict[str, Any]:
    """Wait for an Event and return it."""
    events = target.client().resources.get(api_version="v1", kind="Event")
    for event in events.watch(namespace=target.namespace, timeout=int(seconds)):
        raw: dict[str, Any] = event["raw_object"]
        if raw.get("reason") == reason:
            return raw
    raise AssertionError(f"no Event {reason} in {seconds} s")
