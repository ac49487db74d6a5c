"""What the Dockerfile says, read and not yet carried out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.container.dockerfile import Copy, Run, Stage, is_in_context, stages

ROOT = Path(__file__).parents[2]
STAGES = stages((ROOT / "Dockerfile").read_text())
USER = 10001


@pytest.fixture(scope="module")
def image() -> Stage:
    """The last stage, as written."""
    return STAGES[-1]


def test_image_runs_as_a_numbered_user_that_is_not_root(image: Stage) -> None:
    """Kubernetes' runAsNonRoot can only judge a number."""
    assert image.user == f"{USER}:{USER}"


def test_image_keeps_state_in_data_alone(image: Stage) -> None:
    """The one volume is where DATA_DIR points."""
    assert image.volumes == ["/data"]
    assert image.environment["DATA_DIR"] == "/data"


def test_image_exposes_the_ports_that_it_listens_on(image: Stage) -> None:
    """The environment and EXPOSE agree, and SIGTERM is what starts a drain."""
    assert image.ports == [int(image.environment["PORT"]), int(image.environment["ADMIN_PORT"])]
    assert image.stop_signal == "SIGTERM"


def test_every_stage_starts_from_the_same_slim_python() -> None:
    """A virtual environment works only with the interpreter that made it."""
    assert {stage.base for stage in STAGES} == {"python:3.12-slim"}


def test_build_installs_nothing_without_a_hash() -> None:
    """Each pip install is either of the lock, or of the project itself without its dependencies."""
    commands = [step.command for stage in STAGES for step in stage.steps if isinstance(step, Run)]
    installs = [command for command in commands if "pip install" in command]

    assert installs
    assert all("--require-hashes" in command or "--no-deps --no-build-isolation ." in command for command in installs)


def test_secrets_are_not_in_the_image(image: Stage) -> None:
    """Without its secrets the service refuses to start, so none may be given a value here."""
    assert not [name for name in image.environment if name.endswith(("_KEY", "_SECRET", "_PASSWORD"))]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("pyproject.toml", True),
        ("service/core/codes.py", True),
        ("service/core/__pycache__/codes.cpython-312.pyc", False),
        (".env", False),
        (".git/config", False),
        ("data/state.db", False),
        ("tests/conftest.py", False),
    ],
)
def test_context_holds_what_is_copied_and_no_more(path: str, expected: bool) -> None:  # noqa: FBT001  # a table's column
    """Secrets and history never reach the builder."""
    assert expected is is_in_context(path, (ROOT / ".dockerignore").read_text())


def test_every_source_of_a_copy_exists() -> None:
    """A builder would stop at the first that does not."""
    copies = [step for stage in STAGES for step in stage.steps if isinstance(step, Copy)]

    assert [
        source for step in copies if step.stage is None for source in step.sources if not (ROOT / source).exists()
    ] == []
