"""The Makefile on a fresh machine, with a stand-in for Python that writes down what it is asked to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Answers version checks, makes a virtual environment out of itself, and logs every other call with the mode it runs in.
PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c "*) exit 0 ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *) echo "${SLACKWATER_MODE:-unset} ${VIRTUAL_ENV:-inactive} $*" >> calls.log ;;
esac
"""

RUNTIME = (
    "unset inactive -m pip --disable-pip-version-check --no-input --quiet install --require-hashes -r requirements.lock"
)
DEVELOPMENT = RUNTIME.replace("requirements.lock", "requirements-dev.lock")
PROJECT = (
    "unset inactive -m pip --disable-pip-version-check --no-input --quiet install --no-deps --no-build-isolation -e ."
)
SERVE = "development inactive -m service"


class Checkout:
    """A checkout whose path has spaces, on a machine where the stand-in is the only Python."""

    def __init__(self, root: Path) -> None:
        self.root = root / "a check out"
        self.root.mkdir()
        for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
            shutil.copy(ROOT / name, self.root)
        self._tools = root / "bin"
        self._tools.mkdir()
        python = self._tools / "python3.12"
        python.write_text(PYTHON)
        python.chmod(0o755)

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run make with nothing in its environment but a path and what is given."""
        make = shutil.which("make")
        assert make is not None
        return subprocess.run(  # noqa: S603  # our own arguments
            [make, *arguments],
            cwd=self.root,
            env={"PATH": f"{self._tools}:/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def calls(self) -> list[str]:
        """Return what Python was asked to do since the last time."""
        log = self.root / "calls.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A fresh one."""
    if shutil.which("make") is None and os.environ.get("CI") != "true":
        pytest.skip("make is not installed")
    return Checkout(tmp_path)


def test_run_installs_what_the_service_needs_and_starts_it(checkout: Checkout) -> None:
    """From nothing, with somebody else's environment active, to a service in development mode."""
    done = checkout.make("run", VIRTUAL_ENV="/somewhere/else")

    assert (0, [RUNTIME, PROJECT, SERVE]) == (done.returncode, checkout.calls()), done.stderr


def test_run_installs_nothing_when_it_is_warm(checkout: Checkout) -> None:
    """The second start only starts."""
    checkout.make("run")
    checkout.calls()

    checkout.make("run")

    assert checkout.calls() == [SERVE]


def test_run_keeps_a_mode_that_was_asked_for(checkout: Checkout) -> None:
    """Development mode is a default."""
    checkout.make("run", SLACKWATER_MODE="production")

    assert checkout.calls()[-1] == SERVE.replace("development", "production")


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_run_installs_again_when_the_lock_has_changed(checkout: Checkout, name: str) -> None:
    """What runs is what is locked."""
    checkout.make("run")
    checkout.calls()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")

    checkout.make("run")

    assert checkout.calls() == [RUNTIME, PROJECT, SERVE]


def test_run_installs_again_when_the_checkout_has_moved(checkout: Checkout) -> None:
    """An editable install and console scripts hold absolute paths."""
    checkout.make("run")
    checkout.calls()
    checkout.root = checkout.root.rename(checkout.root.with_name("another place"))

    checkout.make("run")

    assert checkout.calls() == [RUNTIME, PROJECT, SERVE]


def test_run_after_test_installs_nothing(checkout: Checkout) -> None:
    """What development needs contains what the service needs."""
    checkout.make("test")
    installed, project, tests = checkout.calls()

    checkout.make("run")

    assert [DEVELOPMENT, PROJECT, SERVE] == [installed, project, *checkout.calls()]
    assert tests.startswith("unset inactive -m pytest")


def test_half_made_environment_is_made_anew(checkout: Checkout) -> None:
    """An interrupted first start does no harm."""
    broken = checkout.root / ".venv" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)

    done = checkout.make("run")

    assert (0, SERVE) == (done.returncode, checkout.calls()[-1])


def test_failed_install_is_tried_again(checkout: Checkout) -> None:
    """Only a finished install leaves its stamp."""
    (checkout.root / ".venv" / "bin").mkdir(parents=True)
    python = checkout.root / ".venv" / "bin" / "python"
    python.write_text(PYTHON.replace("*) echo", '*pip) echo "$@" >> calls.log; exit 1 ;;\n  *) echo'))
    python.chmod(0o755)

    first, second = checkout.make("run"), checkout.make("run")

    assert (2, 2) == (first.returncode, second.returncode)
    assert [call.split()[-1] for call in checkout.calls()] == ["requirements.lock", "requirements.lock"]


def test_missing_python_is_said_in_plain_words(checkout: Checkout) -> None:
    """No traceback and no shell error, but what is needed and how to name it."""
    done = checkout.make("run", "PYTHON_CANDIDATES=no-such-python")

    assert done.returncode == 2
    assert "needs Python 3.11 or newer" in done.stderr


def test_help_lists_the_targets(checkout: Checkout) -> None:
    """It is what a bare ``make`` does, and it installs nothing."""
    done = checkout.make()

    assert done.returncode == 0
    assert all(
        f"make {target} " in done.stdout for target in ("run", "test", "check", "bench", "docs", "lock", "clean")
    )
    assert not (checkout.root / ".venv").exists()
