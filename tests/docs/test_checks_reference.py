"""The reference of the checks is what the code does."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from deploytool.checks.catalog import ITEMS
from tests.tools.checks_reference import DIRECTORY, PAGES, write


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    """Else: ``python -m tests.tools.checks_reference``."""
    assert "\n".join(PAGES[name]()) + "\n" == (DIRECTORY / name).read_text(encoding="utf-8")


def test_every_page_is_written(tmp_path: Path) -> None:
    """Into the folder that is named."""
    write(tmp_path)

    assert set(PAGES) == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", [name for name in PAGES if name.endswith(".json")])
def test_schemas_are_schemas(name: str) -> None:
    """Of the draft that they name."""
    jsonschema.Draft202012Validator.check_schema(json.loads((DIRECTORY / name).read_text()))


def test_every_item_and_rule_has_its_line() -> None:
    """Under a heading that can be linked to."""
    page = (DIRECTORY / "checks.md").read_text()

    for item in ITEMS:
        section = page.partition(f"### {item.id}\n")[2].partition("\n### ")[0]
        assert all(f"| `{rule.id}` |" in section for rule in item.rules)
