"""The machine under the benchmark: cores, descriptors, the cache directory, CPU and memory of process trees."""

import os
import platform
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from tests.bench.errors import UnavailableError

__all__ = (
    "Cores",
    "Usage",
    "cache_directory",
    "choose_cores",
    "core_seconds",
    "describe",
    "kill_tree",
    "on_core",
    "raise_descriptor_limit",
    "realtime_prefix",
    "usage",
)

PACKAGES = ("litestar", "uvicorn", "uvloop", "httptools", "websockets", "msgspec")


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the two sides run. The same number twice means that they share a core, and figures mean little."""

    server: int
    generator: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children have used so far."""

    cpu_seconds: float
    resident_bytes: int


def choose_cores(wanted: tuple[int, int] | None) -> Cores:
    """Pick a core for the server and one for the generator.

    Args:
        wanted: Server core and generator core, or None for the first and the last core this process may use: these
            are the likeliest not to share one physical core.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if wanted is None:
        return Cores(server=allowed[0], generator=allowed[-1])
    missing = set(wanted) - set(allowed)
    if missing:
        allowed_text = ", ".join(map(str, allowed))
        raise UnavailableError(f"core {min(missing)} may not be used here; allowed are {allowed_text}")
    return Cores(*wanted)


def core_seconds(cores: Cores) -> float:
    """CPU time that all processes, and a host that takes the core away, have used on the two cores so far.

    Interrupts are left out: loopback traffic is handled there, and is ours.
    """
    per_core = psutil.cpu_times(percpu=True)
    used = [per_core[core] for core in {cores.server, cores.generator}]
    return float(sum(times.user + times.nice + times.system + times.steal for times in used))


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Run on one core only, so that processes started inside stay there with all their threads; None for any core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def realtime_prefix() -> list[str]:
    """The command prefix for real-time scheduling.

    Raises:
        UnavailableError: `chrt` is missing, or this user may not use it.
    """
    prefix = ["chrt", "--rr", "1"]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)  # noqa: S603 - literals
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnavailableError("real-time scheduling is not permitted here (chrt failed)") from error
    return prefix


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one, for this process and what it starts.

    Returns:
        The limit now in force.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def cache_directory() -> Path:
    """Where the compiled generator and the Node peer's package live; outside the source tree."""
    base = os.environ.get("SLACKWATER_BENCH_CACHE")
    root = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slackwater-bench"
    root.mkdir(parents=True, exist_ok=True)
    return root


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def usage(pid: int) -> Usage:
    """Sum CPU time and resident memory over a process and its children."""
    cpu_seconds, resident_bytes = 0.0, 0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu_seconds += times.user + times.system
            resident_bytes += process.memory_info().rss
    return Usage(cpu_seconds, resident_bytes)


def kill_tree(pid: int) -> None:
    """End a process and its children at once."""
    for process in reversed(_tree(pid)):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def describe() -> dict[str, object]:
    """What a reader of the figures must know about the machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in PACKAGES},
    }
