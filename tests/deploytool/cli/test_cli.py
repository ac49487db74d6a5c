"""The command line as a process, since exit codes and start-up time are promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOYMENT = "{kind: Deployment, metadata: {name: web}, spec: {replicas: %s, strategy: {type: %s}}}"


def deploytool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the tool to its end."""
    command = [sys.executable, "-m", "deploytool", *arguments]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(  # noqa: S603  # our own interpreter and arguments
        command, input=stdin, capture_output=True, text=True, check=False, timeout=30, env=environment
    )


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["check", "--help"], ["--version"]], ids=" ".join)
def test_help_answers(arguments: list[str]) -> None:
    """Asking costs nothing and ends with 0."""
    done = deploytool(*arguments)

    assert (0, "") == (done.returncode, done.stderr)
    assert "deploytool" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    """``--help`` answers in 0.2 s; what would make it slower is not loaded."""
    script = (
        "import sys; from deploytool.cli import cli; cli(['check', '--help'], standalone_mode=False);"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)  # noqa: S603  # as above

    for heavy in ("yaml", "asyncio", "kubernetes", "httpx", "rich", "litestar", "service", "pydantic"):
        assert f"'{heavy}'" not in done.stderr


@pytest.mark.parametrize(
    ("manifest", "options", "code"),
    [
        pytest.param(DEPLOYMENT % (1, "Recreate"), [], 0, id="fine"),
        pytest.param(DEPLOYMENT % (2, "Recreate"), [], 3, id="failed"),
        pytest.param(DEPLOYMENT % (1, "RollingUpdate"), [], 0, id="warned"),
        pytest.param(DEPLOYMENT % (1, "RollingUpdate"), ["--strict"], 4, id="warned under --strict"),
        pytest.param(DEPLOYMENT % ('"${N}"', "Recreate"), [], 5, id="not a number"),
        pytest.param(DEPLOYMENT % (2, "Recreate"), ["-w", "other"], 5, id="no such workload"),
        pytest.param("kind: Service", [], 5, id="nothing to verify"),
    ],
)
def test_check_ends_with_the_code_of_what_it_found(
    tmp_path: Path, manifest: str, options: list[str], code: int
) -> None:
    """The exit code alone is enough for a pipeline."""
    path = tmp_path / "web.yaml"
    path.write_text(manifest)

    done = deploytool("check", "--offline", *options, str(path))

    assert (code, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["check", "--offline", "missing.yaml"], "missing.yaml: no such file or directory", id="no file"),
        pytest.param(["check", "--offline", "-"], "-, line 1: not valid YAML", id="not YAML"),
        pytest.param(["check", "--offline"], "Missing argument 'PATH...'", id="no path"),
        pytest.param(["check", "web.yaml"], "Missing option '--offline'", id="no depth"),
        pytest.param(["check", "--offline", "-o", "xml", "-"], "'xml' is not one of", id="unknown format"),
        pytest.param(["examine"], "No such command 'examine'", id="unknown command"),
    ],
)
def test_usage_errors_are_told_without_a_traceback(arguments: list[str], says: str) -> None:
    """A person's mistake ends with 2 and one sentence on stderr."""
    done = deploytool(*arguments, stdin="a: b: c")

    assert (2, "") == (done.returncode, done.stdout)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_check_prints_json_alone_to_stdout() -> None:
    """Data goes to stdout, so that it can be piped."""
    done = deploytool("check", "--offline", "-o", "json", "-", stdin=DEPLOYMENT % (3, "Recreate"))

    document = json.loads(done.stdout)
    assert (3, "", "fail") == (done.returncode, done.stderr, document["outcome"])


def test_check_passes_our_own_compose_file() -> None:
    """What the project ships keeps its own rule."""
    done = deploytool("check", "--offline", "--strict", str(Path(__file__).parents[3] / "compose.yaml"))

    assert done.returncode == 0
