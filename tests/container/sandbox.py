"""Stands in for a container builder and runtime: a mount namespace and a changed root, on the host's own system files.

The base image is an empty tree that sees the host's ``/usr`` (read-only) and a few files of ``/etc``, with a ``python``
where the official images have theirs. A build step runs in it as root, as in a builder; the service runs in it as the
image's user, without capabilities, with everything read-only but the volumes and ``/tmp``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.container.dockerfile import Copy, Run, Stage, is_in_context

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("Sandbox", "build", "missing")

_SYSTEM_FOLDERS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "dev", "proc")
_EMPTY_FOLDERS = ("etc", "opt", "root", "run", "srv", "tmp", "var")
_SETTINGS = ("ca-certificates", "group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd", "pip.conf", "resolv.conf")
_TREES = ("alternatives", "ssl")

# What the machine's own pip needs to reach its index; handed to build steps alone, as a builder's arguments would be.
_FOR_BUILDING = ("PIP_", "SSL_", "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")

_MOUNT = """
root=$1; shift
mount --bind "$root" "$root"
for folder in usr bin sbin lib lib32 lib64 libx32 dev proc; do
  [ -d "/$folder" ] && [ ! -L "/$folder" ] || continue
  mount --rbind "/$folder" "$root/$folder"
done
mount -o remount,bind,ro "$root/usr"
"""
_BUILD = _MOUNT + 'exec chroot "$root" "$@"'
# Volumes, separated by colons, come first.
_SERVE = (
    "volumes=$1; shift"
    + _MOUNT
    + """
IFS=:
for volume in $volumes; do mount --bind "$root$volume" "$root$volume"; done
unset IFS
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -o remount,bind,ro "$root"
exec chroot "$root" "$@"
"""
)


def missing() -> str | None:
    """Return what this machine lacks for a sandbox; None when it lacks nothing."""
    if os.geteuid() != 0:
        return "root is needed to change the root folder"
    for tool in ("unshare", "mount", "chroot", "setpriv"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if _base_python() is None:
        return "no Python 3.11 or newer with venv under /usr"
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)  # noqa: S607  # found above
    return None if probe.returncode == 0 else f"no mount namespace: {probe.stderr.strip()}"


def _base_python() -> Path | None:
    for candidate in ("/usr/local/bin/python3", "/usr/bin/python3"):
        script = "import ensurepip, sys, venv; raise SystemExit(sys.version_info < (3, 11))"
        if (
            Path(candidate).exists()
            and subprocess.run([candidate, "-c", script], capture_output=True, check=False).returncode == 0  # noqa: S603  # fixed
        ):
            return Path(candidate)
    return None


def _base_image(root: Path) -> None:
    """Fill an empty folder with what ``FROM python`` gives."""
    _folders(root)
    for name in _SETTINGS:
        if Path("/etc", name).is_file():
            shutil.copy(Path("/etc", name), root / "etc" / name)
    for name in _TREES:
        if Path("/etc", name).is_dir():
            shutil.copytree(Path("/etc", name), root / "etc" / name, symlinks=True)
    python = _base_python()
    assert python is not None
    (root / "base").mkdir()
    (root / "base" / "python").symlink_to(python)


def _folders(root: Path) -> None:
    root.mkdir(mode=0o755)
    for name in _SYSTEM_FOLDERS:
        host = Path("/", name)
        if host.is_symlink():
            (root / name).symlink_to(host.readlink())
        elif host.is_dir():
            (root / name).mkdir()
    for name in _EMPTY_FOLDERS:
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)


def build(stages: Sequence[Stage], context: Path, workplace: Path) -> Sandbox:
    """Carry out a Dockerfile, each stage in an empty tree of its own, and return the last one.

    Args:
        stages: As parsed.
        context: The checkout.
        workplace: An empty folder that root owns.
    """
    roots: dict[str | None, Path] = {}
    root = workplace
    for number, stage in enumerate(stages):
        root = roots[stage.name] = workplace / f"stage-{number}"
        _base_image(root)
        for step in stage.steps:
            if isinstance(step, Run):
                _run(root, step)
            else:
                _copy(root, step, roots[step.stage] if step.stage else None, context)
    return Sandbox(root, stages[-1])


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {"HOME": "/root", **environment, "PATH": environment["PATH"] + ":/base"}


def _run(root: Path, step: Run) -> None:
    (root / step.folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    host = {name: value for name, value in os.environ.items() if name.startswith(_FOR_BUILDING)}
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _BUILD, "sh", str(root)]
    inside = ["sh", "-euc", f"cd {step.folder}; {step.command}"]
    done = subprocess.run(  # noqa: S603  # the Dockerfile's own steps
        [*command, *inside],
        env={**host, **_environment(step.environment)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"RUN {step.command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _copy(root: Path, step: Copy, origin: Path | None, context: Path) -> None:
    ignore = "" if origin else (context / ".dockerignore").read_text()
    for source in step.sources:
        start = (origin or context) / source.lstrip("/")
        target = root / step.target.lstrip("/")
        if step.is_folder:
            target /= start.name
        if origin:
            shutil.copytree(start, target, symlinks=True)
            continue
        wanted = [
            path
            for path in ([start] if start.is_file() else sorted(start.rglob("*")))
            if path.is_file() and is_in_context(path.relative_to(context).as_posix(), ignore)
        ]
        assert wanted, f"COPY {source}: nothing of it reaches the builder"
        for path in wanted:
            copy = target / path.relative_to(start)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


class Sandbox:
    """A finished image, ready to start processes in.

    Args:
        root: Its tree.
        stage: The stage that describes it.
    """

    def __init__(self, root: Path, stage: Stage) -> None:
        self._root = root
        self._stage = stage

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        """Start a process as the image's user; its pid is that of the command itself, for signals.

        Args:
            command: Program and arguments, looked up in the image.
            environment: On top of the image's own, as ``docker run --env`` would.
        """
        user, _, group = self._stage.user.partition(":")
        drop = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"]
        drop += ["--bounding-set=-all", "--inh-caps=-all"]
        script = ["sh", "-euc", _SERVE, "sh", ":".join(self._stage.volumes), str(self._root)]
        return subprocess.Popen(  # noqa: S603  # the image's own commands
            ["unshare", "--mount", "--propagation", "private", *script, *drop, *command],  # noqa: S607  # checked by missing()
            env={**_environment(self._stage.environment), "HOME": "/", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: Sequence[str], **environment: str) -> tuple[int, str]:
        """Run a process to its end; return its exit code and what it printed."""
        process = self.start(command, **environment)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output
