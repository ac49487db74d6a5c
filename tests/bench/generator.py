"""The load generator from Python: compile `load/wsload.c` at first use, drive it over its standard streams.

The generator is a process of its own on a core of its own; this module only sends commands and reads their answers.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.bench.errors import MeasurementError, UnavailableError
from tests.bench.machine import Usage, cache_directory, on_core, usage

__all__ = ("Answer", "Generator", "Traffic", "build")

SOURCE = Path(__file__).parent / "load" / "wsload.c"
FLAGS = ("-O2", "-std=gnu11")
Answer = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the generator says to one kind of server."""

    subscribe_path: str
    publish_path: str
    opening_frames: tuple[str, ...] = ()
    """First frame of each connection, used in turn; commands are separated by newlines. Empty: say nothing. `~` becomes
    the position to recover from."""
    ack: str = ""
    """Part of the message that tells that a connection is ready. Empty: ready after the handshake."""
    publication: str = "$"
    """A publication: `%` becomes an increasing id, `$` the payload; `^`, here and elsewhere, the number of the room."""
    heartbeats: bool = False
    """Answer `{}` with `{}`."""
    history: str = ""
    """What a client that comes back says when its position is lost. Empty: positions are not remembered."""
    api_header: str = ""
    """Header with the key of the HTTP API."""
    api_publish: str = ""
    """Parameters of a publish over the HTTP API, as `publication`. Empty: there is no such API."""
    rooms: int = 1


def build() -> Path:
    """Compile the generator unless the cache has it already.

    Returns:
        Path of the program.

    Raises:
        UnavailableError: No C compiler, or it refused the source.
    """
    compiler = os.environ.get("CC") or next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "")
    if not compiler or not shutil.which(compiler):
        reason = "the load generator needs a C compiler: install gcc or clang (package build-essential), or set CC"
        raise UnavailableError(reason)
    source = SOURCE.read_bytes()
    key = hashlib.sha256(b"\0".join([source, compiler.encode(), " ".join(FLAGS).encode()])).hexdigest()[:16]
    program = cache_directory() / f"wsload-{os.uname().machine}-{key}"
    if program.exists():
        return program
    unfinished = program.with_suffix(f".{os.getpid()}")
    done = subprocess.run(  # noqa: S603 - a compiler of this machine
        [compiler, *FLAGS, str(SOURCE), "-o", str(unfinished)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        reason = f"{compiler} could not compile the load generator:\n{done.stderr.strip()}"
        raise UnavailableError(reason)
    unfinished.rename(program)
    return program


class Generator:
    """A running generator; a context manager that ends it."""

    def __init__(  # noqa: PLR0913 - one call site, and each is a property of the process started
        self,
        program: Path,
        port: int,
        traffic: Traffic,
        *,
        core: int | None,
        work: Path,
        prefix: Sequence[str],
        spin: bool,
    ) -> None:
        """Start the generator.

        Args:
            program: As `build` returned it.
            port: Where the server listens on 127.0.0.1.
            traffic: What to say.
            core: The core to stay on; None for any.
            work: Directory for the file of opening frames.
            prefix: Command prefix that sets the scheduling class, or empty.
            spin: Poll without sleeping while measuring.
        """
        command = [*prefix, str(program), "--port", str(port)]
        command += ["--subscribe-path", traffic.subscribe_path, "--publish-path", traffic.publish_path]
        command += ["--publication", traffic.publication, "--rooms", str(traffic.rooms)]
        if traffic.opening_frames:
            frames = work / "frames"
            frames.write_text("".join(frame.replace("\n", "\t") + "\n" for frame in traffic.opening_frames))
            command += ["--frames", str(frames)]
        command += ["--ack", traffic.ack] if traffic.ack else []
        command += ["--history", traffic.history] if traffic.history else []
        command += ["--api-header", traffic.api_header] if traffic.api_header else []
        command += ["--api-publish", traffic.api_publish] if traffic.api_publish else []
        command += ["--heartbeats"] if traffic.heartbeats else []
        command += ["--spin"] if spin else []
        with on_core(core):
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def usage(self) -> Usage:
        """CPU time and memory of the generator so far."""
        return usage(self._process.pid)

    def ask(self, command: str) -> Answer:
        """Send one command and wait for its answer.

        Raises:
            MeasurementError: The generator died, a connection was refused or lost, the server answered with an
                error, or publications did not reach everyone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            reason = f"the load generator died at '{command}'"
            raise MeasurementError(reason)
        answer: Answer = json.loads(line)
        complaint = _complaint(answer)
        if complaint:
            reason = f"'{command}': {complaint}"
            raise MeasurementError(reason)
        return answer


def _complaint(answer: Answer) -> str:
    """What makes an answer invalid as a measurement, or nothing."""
    faults = [
        f"{answer[name]} {text}"
        for name, text in (
            ("lost", "connections lost"),
            ("errors", "error replies"),
            ("incomplete", "publications that did not reach everyone"),
        )
        if answer.get(name)
    ]
    if answer.get("opened", 0) != answer.get("wanted", 0):
        faults.append(f"{answer['opened']} of {answer['wanted']} connections opened")
    if not faults:
        return ""
    trouble = answer.get("trouble")
    return ", ".join(faults) + (f" ({trouble})" if trouble else "")
