"""Programs that are run beside a rollout: whoever waits for one goes on renewing what has to be renewed."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deploytool.clock import Clock

__all__ = ("ChildTimeoutError", "Ended", "run_child")

_POLL_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 5.0
_MOST_BYTES: Final = 64 << 20


class ChildTimeoutError(Exception):
    """It took too long, and was stopped; what it was about may be half done."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a program.

    Attributes:
        code: Its exit code; negative for the number of the signal that ended it.
        said: On its output.
        complained: On its error output.
    """

    code: int
    said: str
    complained: str


def run_child(  # noqa: PLR0913 - what a process is made of
    command: Sequence[str],
    *,
    text: str,
    environ: Mapping[str, str],
    seconds: float,
    pause: Callable[[float], None],
    clock: Clock,
    executable: str | None = None,
) -> Ended:
    """Run a program to its end.

    Args:
        command: Its name and arguments.
        text: Given on its input, by a file that has no name.
        environ: All of its environment.
        seconds: For which it may run.
        pause: Waits for so many seconds; the only way in which this waits. When it raises, the program is stopped.
        clock: Counts the seconds.
        executable: What is run by that name; None for the name itself.

    Raises:
        ChildTimeoutError: It ran for longer.
        OSError: It cannot be run.
    """
    with ExitStack() as stack:
        given, said, complained = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(text.encode())
        given.seek(0)
        process = subprocess.Popen(  # noqa: S603 - what the caller says
            command,
            executable=executable,
            env=dict(environ),
            stdin=given,
            stdout=said,
            stderr=complained,
            # Ctrl-C is ours to handle: what is interrupted in the middle may leave a mess.
            start_new_session=True,
        )
        _await(process, seconds, pause, clock)
        return Ended(process.returncode, _text(said), _text(complained))


def _await(process: subprocess.Popen[bytes], seconds: float, pause: Callable[[float], None], clock: Clock) -> None:
    until = clock.now() + seconds
    try:
        while process.poll() is None:
            if clock.now() >= until:
                raise ChildTimeoutError
            pause(_POLL_SECONDS)
    finally:
        if process.poll() is None:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # The whole group: a shell leaves behind what it started.
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            return


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MOST_BYTES).decode(errors="replace")
