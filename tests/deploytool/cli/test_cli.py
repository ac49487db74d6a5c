"""The command line as a process, since exit codes and start-up time are promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jsonschema
import pytest

from deploytool.cli.render.machine import report_schema

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "slackwater"
PRODUCTION = ROOT / "tests" / "helm" / "goldens" / "production.values.yaml"
DEPLOYMENT = "{kind: Deployment, metadata: {name: web}, spec: {replicas: %s, strategy: {type: %s}}}"
GOOD = DEPLOYMENT % (1, "Recreate")
BAD = DEPLOYMENT % (3, "Recreate")


def deploytool(
    *arguments: str, stdin: str = "", folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the tool to its end."""
    command = [sys.executable, "-m", "deploytool", *arguments]
    variables = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(  # noqa: S603  # our own interpreter and arguments
        command, input=stdin, capture_output=True, text=True, check=False, timeout=30, env=variables, cwd=folder
    )


def offline(*arguments: str, stdin: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Check standard input."""
    return deploytool("check", "--offline", *arguments, "-", stdin=stdin, folder=folder)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["check", "--help"], ["--version"]], ids=" ".join)
def test_help_answers(arguments: list[str]) -> None:
    """Asking costs nothing and ends with 0."""
    done = deploytool(*arguments)

    assert (0, "") == (done.returncode, done.stderr)
    assert "deploytool" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """``--help`` answers in 0.2 s; what would make it slower is not loaded."""
    script = (
        f"import sys; from deploytool.cli import cli; cli({arguments!r}, standalone_mode=False);"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)  # noqa: S603  # as above

    for heavy in ("yaml", "asyncio", "kubernetes", "httpx", "rich", "litestar", "service", "pydantic", "websockets"):
        assert f"'{heavy}'" not in done.stderr


def test_offline_needs_nothing_that_is_optional() -> None:
    """``pip install slackwater`` is enough for it."""
    script = (
        "import sys; sys.modules.update(kubernetes=None, httpx=None);"
        f"from deploytool.cli import cli; code = cli(['check', '--offline', {str(ROOT / 'compose.yaml')!r}], "
        "standalone_mode=False); sys.exit(code)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603  # as above

    assert (3, "") == (done.returncode, done.stderr)


def test_live_says_what_to_install() -> None:
    """Where the extra is missing, a sentence and the code of a usage error."""
    script = (
        "import sys; sys.modules.update(kubernetes=None, httpx=None);"
        "sys.argv = ['deploytool', 'check', '-n', 'x']; from deploytool.cli import main; main()"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603  # as above

    assert (2, "") == (done.returncode, done.stdout)
    assert "pip install 'slackwater[deploytool]'" in done.stderr
    assert "Traceback" not in done.stderr


def _fastest(command: list[str]) -> float:
    """Return the least time in seconds that a command took, of five."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=ROOT)  # noqa: S603  # as above
        took.append(time.perf_counter() - began)
    return min(took)


@pytest.mark.bench
@pytest.mark.parametrize(
    ("arguments", "limit_seconds"),
    [
        pytest.param(["--help"], 0.2, id="help"),
        pytest.param(["check", "--help"], 0.2, id="help of check"),
        pytest.param(["check", "--offline", str(CHART), "--values", str(PRODUCTION)], 1.5, id="the chart"),
    ],
)
def test_it_answers_quickly(arguments: list[str], limit_seconds: float) -> None:
    """Measured as whole processes, beside a bare interpreter and kubectl in the same run.

    On a machine that is so busy that the bare interpreter takes longer than it should, the tool may too.
    """
    bare = _fastest([sys.executable, "-c", "pass"])
    kubectl = _fastest([str(Path(sys.executable).with_name("kubectl")), "version", "--client"])
    ours = _fastest([sys.executable, "-m", "deploytool", *arguments])

    assert ours < limit_seconds * max(1.0, bare / 0.02), (ours, bare, kubectl)


@pytest.mark.parametrize(
    ("manifest", "options", "code"),
    [
        pytest.param(GOOD, [], 0, id="fine"),
        pytest.param(BAD, [], 3, id="failed"),
        pytest.param(DEPLOYMENT % (1, "RollingUpdate"), [], 3, id="overlaps"),
        pytest.param(DEPLOYMENT % ('"${N}"', "Recreate"), [], 5, id="not a number"),
        pytest.param(BAD, ["-w", "other"], 5, id="no such workload"),
        pytest.param("kind: Service", [], 5, id="nothing to verify"),
        pytest.param(BAD, ["--skip", "single-instance"], 5, id="nothing else to verify"),
        pytest.param(BAD, ["--select", "1"], 3, id="selected"),
        pytest.param(BAD, ["--select", "security"], 5, id="others selected"),
    ],
)
def test_check_ends_with_the_code_of_what_it_found(manifest: str, options: list[str], code: int) -> None:
    """The exit code alone is enough for a pipeline."""
    done = offline(*options, stdin=manifest)

    assert (code, "") == (done.returncode, done.stderr)


def test_strict_ends_with_4_on_a_warning(tmp_path: Path) -> None:
    """A warning is only something to read otherwise."""
    text = "server { listen 80; location /ws { proxy_pass http://a; proxy_http_version 1.1; \
proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; } }"

    (tmp_path / "site.conf").write_text(text)

    codes = [
        deploytool("check", "--offline", *strict, "site.conf", folder=tmp_path).returncode
        for strict in ((), ("--strict",))
    ]

    assert [0, 4] == codes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["check", "--offline", "missing.yaml"], "missing.yaml: no such file or directory", id="no file"),
        pytest.param(["check", "--offline", "-"], "-, line 1, column 5: not valid YAML", id="not YAML"),
        pytest.param(["check", "--offline"], "--offline needs at least one PATH", id="no path"),
        pytest.param(["check", "web.yaml"], "PATH is read with --offline alone", id="no depth"),
        pytest.param(["check", "--offline", "--probe", "-"], "contradict each other", id="two depths"),
        pytest.param(["check", "--offline", "--wait", "5s", "-"], "files do not change", id="wait for files"),
        pytest.param(["check", "--load"], "--load takes --probe", id="load without probe"),
        pytest.param(["check", "-w", "a", "-w", "b"], "one --workload", id="two workloads live"),
        pytest.param(["check", "--wait", "soon"], "'soon' is no duration", id="no duration"),
        pytest.param(["check", "--offline", "-o", "xml", "-"], "'xml' is not one of", id="unknown format"),
        pytest.param(["check", "--offline", "--select", "17", "-"], "there is no item '17'", id="unknown item"),
        pytest.param(["check", "--offline", "--skip", "8,13", "-"], "by an option of its own", id="several items"),
        pytest.param(
            ["check", "--offline", "--config", "none.yaml", "-"], "none.yaml: cannot be read", id="no settings"
        ),
        pytest.param(["check", "--offline", "--values", "none.yaml", "-"], "none.yaml: cannot be read", id="no values"),
        pytest.param(
            [
                "check",
                "--offline",
                *(f"--skip={one}" for one in ("infrastructure", "monitoring", "security", "documentation")),
                "-",
            ],
            "nothing is left to judge",
            id="everything skipped",
        ),
        pytest.param(["examine"], "No such command 'examine'", id="unknown command"),
    ],
)
def test_usage_errors_are_told_without_a_traceback(arguments: list[str], says: str) -> None:
    """A person's mistake ends with 2 and one sentence on stderr."""
    done = deploytool(*arguments, stdin="a: b: c")

    assert (2, "") == (done.returncode, done.stdout)
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_defect_is_told_without_a_traceback(tmp_path: Path) -> None:
    """And ends with 1; a variable shows where."""
    (tmp_path / "sitecustomize.py").write_text(
        "import deploytool.manifests.reading as r\n"
        "def broken(*_): raise KeyError('surprise')\n"
        "r.Reading.add_path = broken\n"
    )
    arguments = ["check", "--offline", "-"]

    quiet = deploytool(*arguments, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    loud = deploytool(*arguments, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", DEPLOYTOOL_TRACEBACK="1")

    assert 1 == quiet.returncode
    assert "internal error: KeyError: 'surprise'" in quiet.stderr
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_check_prints_json_alone_to_stdout() -> None:
    """Data goes to stdout, so that it can be piped."""
    done = offline("-o", "json", stdin=BAD)

    document = json.loads(done.stdout)
    jsonschema.validate(document, report_schema())
    assert (3, "", "fail") == (done.returncode, done.stderr, document["outcome"])


@pytest.mark.parametrize("name", ["table", "short", "json", "junit", "sarif"])
def test_a_report_can_be_written_to_a_file(tmp_path: Path, name: str) -> None:
    """The table goes to stdout then, for whoever reads the log of the pipeline."""
    done = offline("-o", name, "--output-file", str(tmp_path / "report"), stdin=BAD)

    written = (tmp_path / "report").read_text()
    assert 3 == done.returncode
    assert done.stdout.startswith("Infrastructure\n  FAIL ")
    assert offline("-o", name, stdin=BAD).stdout.split() != [] != written.split()
    assert "replicas" in written


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """What was found was printed already."""
    done = offline("-o", "json", "--output-file", str(tmp_path / "none" / "report"), stdin=GOOD)

    assert 2 == done.returncode
    assert done.stdout.startswith("Infrastructure\n")
    assert "cannot be written: No such file or directory" in " ".join(done.stderr.split())


def test_the_streamed_table_is_the_rendered_one(tmp_path: Path) -> None:
    """Whether lines come one by one or at once makes no difference."""
    streamed = offline(stdin=BAD)
    offline("--output-file", str(tmp_path / "report"), stdin=BAD)

    assert streamed.stdout == (tmp_path / "report").read_text()


def test_colour_is_for_terminals() -> None:
    """Into a pipe there is none, with or without NO_COLOR."""
    assert "\x1b" not in deploytool("check", "--offline", "-", stdin=BAD, NO_COLOR="").stdout


def test_a_reader_that_leaves_is_no_error() -> None:
    """As in ``deploytool check ... | head -1``."""
    command = f"{sys.executable} -m deploytool check --offline -o json - | head -c 1"

    done = subprocess.run(  # noqa: S602  # a pipe of our own making
        command, shell=True, input=BAD, capture_output=True, text=True, check=False, timeout=30
    )

    assert "" == done.stderr


# settings


def test_settings_in_the_folder_are_taken(tmp_path: Path) -> None:
    """With waivers in them."""
    (tmp_path / "deploytool.yaml").write_text(
        textwrap.dedent("""
            skip: [documentation]
            waivers:
              - {item: single-instance, reason: being moved, owner: ada, expires: 2999-01-01}
        """)
    )

    done = offline("-o", "json", stdin=BAD, folder=tmp_path)

    document = json.loads(done.stdout)
    assert 12 == len(document["items"])
    assert ("waived", "being moved") == (document["items"][0]["outcome"], document["items"][0]["waiver"]["reason"])
    assert 0 == done.returncode


def test_an_expired_waiver_fails(tmp_path: Path) -> None:
    """However good the release is."""
    (tmp_path / "mine.yaml").write_text("waivers: [{item: '1', reason: r, owner: ada, expires: 2020-01-01}]")

    done = offline("--config", "mine.yaml", stdin=GOOD, folder=tmp_path)

    assert 3 == done.returncode
    assert "the waiver of ada expired" in done.stdout


def test_settings_that_make_no_sense_are_told_with_lines(tmp_path: Path) -> None:
    """All at once."""
    (tmp_path / "deploytool.yaml").write_text("roster: ada\nwaver: []\ntls_days_left: -1\n")

    done = offline(stdin=GOOD, folder=tmp_path)

    assert 2 == done.returncode
    assert "deploytool.yaml: 3 problems" in done.stderr
    assert "line 1: roster has to be a list" in done.stderr
    assert "line 2: unknown key waver; did you mean waivers?" in done.stderr
    assert "line 3: tls_days_left may not be negative" in done.stderr


# completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    """They call the tool back for words."""
    done = deploytool("completion", shell)

    assert (0, "") == (done.returncode, done.stderr)
    assert "_DEPLOYTOOL_COMPLETE" in done.stdout


def test_completion_knows_items() -> None:
    """After --select come ids, names and categories."""
    done = deploytool(
        _DEPLOYTOOL_COMPLETE="bash_complete", COMP_WORDS="deploytool check --select single", COMP_CWORD="3"
    )

    assert "single-instance" in done.stdout


# what the project ships


def test_check_passes_our_own_compose_file() -> None:
    """What the project ships keeps its own rule, once it is told which site connects."""
    done = deploytool(
        "check", "--offline", "--strict", str(ROOT / "compose.yaml"), FRONTEND_URL="https://app.example.org"
    )

    assert 0 == done.returncode, done.stdout


def test_check_passes_our_own_chart() -> None:
    """With values for production, nothing is found."""
    done = deploytool("check", "--offline", "--strict", str(CHART), "--values", str(PRODUCTION))

    assert 0 == done.returncode, done.stdout
