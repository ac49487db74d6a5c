"""The lock files: complete, hashed, and free of whatever machine wrote them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-deploytool.lock", "requirements-dev.lock")


def locked(name: str) -> set[tuple[str, str]]:
    """Return canonical names with versions; a package may have one version for each of several Pythons."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {(canonicalize_name(package), version) for package, version in pins}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The whole of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_no_index_host_or_path(name: str) -> None:
    """Which index to use is a matter of the machine that installs."""
    lines = (ROOT / name).read_text().splitlines()

    assert [line for line in lines if "//" in line or re.match(r"\s*(-(?!-hash=)|/|.* @ )", line)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_lock_pins_and_hashes_everything(name: str) -> None:
    """Each entry is one version with at least one sha256."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    entries = text.replace("\\\n", " ").strip().splitlines()

    assert len(entries) == len(locked(name))
    assert [entry for entry in entries if not re.search(r"==.* --hash=sha256:[0-9a-f]{64}", entry)] == []


def test_each_lock_contains_the_one_before_at_the_same_versions() -> None:
    """What is tested is what runs."""
    assert locked("requirements.lock") <= locked("requirements-deploytool.lock") <= locked("requirements-dev.lock")


@pytest.mark.parametrize(
    ("lock", "extra"),
    [
        ("requirements.lock", None),
        ("requirements-deploytool.lock", None),
        ("requirements-deploytool.lock", "deploytool"),
        ("requirements-dev.lock", None),
        ("requirements-dev.lock", "helm"),
        ("requirements-dev.lock", "dev"),
    ],
)
def test_lock_satisfies_what_the_project_declares(project: dict[str, Any], lock: str, extra: str | None) -> None:
    """A dependency that was added or raised without ``make lock`` is found here."""
    declared = (
        project["project"]["dependencies"] if extra is None else project["project"]["optional-dependencies"][extra]
    )
    requirements = [Requirement(text) for text in (*declared, *project["build-system"]["requires"])]
    # An extra that contains another names the project itself; the other has a row of its own.
    requirements = [one for one in requirements if one.name != project["project"]["name"]]
    pins = locked(lock)

    unmet = [requirement for requirement in requirements if not any(_meets(requirement, *pin) for pin in pins)]
    assert unmet == []


def _meets(requirement: Requirement, name: str, version: str) -> bool:
    return canonicalize_name(requirement.name) == name and requirement.specifier.contains(version, prereleases=True)
