from __future__ import annotations

import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from service.core.codes import Disconnects, Errors, Unsubscribes, rows
from service.core.namespaces import json_schema, parse_namespaces
from service.settings import GROUPS, settings_of
from tests.tools.reference import DIRECTORY, PAGES, TOML_EXAMPLE, YAML_EXAMPLE, write


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    """Else: ``python -m tests.tools.reference``."""
    expected = "\n".join(PAGES[name]()) + "\n"

    assert expected == (DIRECTORY / name).read_text(encoding="utf-8")


def test_every_page_is_written(tmp_path: Path) -> None:
    """Where there is no directory yet, it is made."""
    write(tmp_path / "reference")

    assert set(PAGES) == {path.name for path in (tmp_path / "reference").iterdir()}
    assert all(path.stat().st_size > 100 for path in (tmp_path / "reference").iterdir())


def test_every_setting_has_its_own_line() -> None:
    """With four cells, none of them empty."""
    lines = [line for line in PAGES["settings.md"]() if line.startswith("| `")]
    names = [setting.name for group in GROUPS.values() for setting in settings_of(group).values()]

    assert [f"`{name}`" for name in names] == [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert all(all(cell.strip() for cell in line.strip("|").split("|")) for line in lines)


def test_every_code_has_its_own_line() -> None:
    """Rows with the same code too."""
    lines = [line for line in PAGES["codes.md"]() if line.startswith("| ") and line[2].isdigit()]
    codes = [row.code for table in (Errors, Disconnects, Unsubscribes) for _, row in rows(table)]

    assert codes == [int(line.split(" | ")[0].removeprefix("| ")) for line in lines]


@pytest.mark.parametrize("document", [tomllib.loads(TOML_EXAMPLE), yaml.safe_load(YAML_EXAMPLE)], ids=["toml", "yaml"])
def test_examples_work(document: object) -> None:
    """They are accepted by the service and by the published schema."""
    jsonschema.validate(document, json_schema())

    assert len(parse_namespaces(document)) > 1
