"""An operator's terminal: one bash, and in it no more programs than an operator is expected to have."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simcluster.images import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ("Done", "Terminal", "open_terminal")

_SECONDS = 150.0
_FROM_THE_SYSTEM = ("cat", "curl", "grep", "sleep", "touch")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended.

    Attributes:
        text: All that it printed, on both streams, in order.
    """

    command: str
    code: int
    text: str


class Terminal:
    """One bash; see `open_terminal`. What a command sets, the next one finds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def run(self, command: str) -> Done:
        """Run a command to its end."""
        assert self._process.stdin is not None
        mark = f"-- {secrets.token_hex(8)}"
        # Nothing that a command asks for is typed, and bash must not read on in the place of the command.
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\ncode=$?; echo; echo {shlex.quote(mark)} $code\n")
        self._process.stdin.flush()
        lines: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=_SECONDS)
            except queue.Empty:
                raise AssertionError(f"{command} did not end; it printed {''.join(lines)}") from None
            assert line is not None, f"the terminal was closed by {command}: {''.join(lines)}"
            if line.startswith(mark):
                return Done(command, int(line.rpartition(" ")[2]), "".join(lines).removesuffix("\n"))
            lines.append(line)


@contextmanager
def open_terminal(folder: Path, environ: Mapping[str, str]) -> Iterator[Terminal]:
    """Open a terminal in a folder; what still runs in it is ended with it.

    Args:
        folder: Where it is opened; beside it a folder with its programs is made.
        environ: Over the environment of the tests.
    """
    programs = folder.with_name(f"{folder.name}-programs")
    programs.mkdir(exist_ok=True)
    _install(programs)
    told = {"PATH": str(programs), "HOME": str(folder), "COLUMNS": "120", "NO_COLOR": "1", "CI": "1", **environ}
    process = subprocess.Popen(  # noqa: S603 - its commands are those of our pages
        [shutil.which("bash") or "bash", "--noprofile", "--norc"],
        cwd=folder,
        env={**os.environ, **told},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield Terminal(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _install(programs: Path) -> None:
    """Write the programs of the terminal: what a page takes for granted, and nothing else."""
    python, path = shlex.quote(sys.executable), shlex.quote(os.environ["PATH"])
    packages = os.pathsep.join({str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    tool = f'PATH={path} PYTHONPATH={shlex.quote(str(ROOT))} exec {python} -m deploytool "$@"'
    # Helm takes the name of its field manager from the name that it is called by.
    sdk = f'PYTHONPATH={shlex.quote(packages)} exec -a helm {python} -m tests.deploytool.live.helm_command "$@"'
    pip = f'exec {python} -m pip "$@"'
    for name, script in {"deploytool": tool, "helm": sdk, "pip": pip}.items():
        file = programs / name
        file.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        file.chmod(0o755)
    kubectl = Path(sys.executable).parent / "kubectl"
    found = {name: shutil.which(name) for name in _FROM_THE_SYSTEM} | {"kubectl": str(kubectl)}
    for name, target in found.items():
        if target is not None and not (programs / name).exists():
            (programs / name).symlink_to(target)
