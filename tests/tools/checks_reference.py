"""Write the reference of the checks: ``python -m tests.tools.checks_reference``.

The page and the schemas are made of the catalogue, the settings and the report, so that they cannot fall behind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from deploytool.checks.catalog import ITEMS
from deploytool.cli.render.machine import report_schema
from deploytool.cli.render.text import HEADINGS
from deploytool.model.finding import Category, Depth, Item, Rule
from deploytool.planning.configuration import SCHEMA as WINDOWS
from deploytool.settings import schema

__all__ = ("DIRECTORY", "PAGES", "write")

DIRECTORY: Final = Path(__file__).parents[2] / "docs" / "reference"

_NOTICE: Final = "<!-- Made from the code by `python -m tests.tools.checks_reference`. -->"
_DEPTHS: Final = {Depth.OFFLINE: "files", Depth.LIVE: "cluster", Depth.PROBE: "traffic"}

_INTRODUCTION: Final = f"""\
# Checks

{_NOTICE}

`deploytool check` goes through the sixteen items of the pre-production checklist. An item has rules; each says what it
saw, where and when. Ids are stable: waivers, pipelines and reports name them.

## Outcomes

| Outcome | Means | Exit code |
|---|---|---|
| `pass` | it was seen to be in order | 0 |
| `warn` | something to read; fails under `--strict` | 0, or 4 |
| `fail` | it was seen to be wrong, or a waiver has expired | 3 |
| `inconclusive` | it could not be verified; what would make it visible is said | 5 |
| `blocked` | it could not be verified, because of an item that failed; that one is named | 5 |
| `waived` | it does not pass, and somebody has decided to live with that for now | 0 |
| `not applicable` | there is nothing here that it applies to, or not at this depth | 0 |

The worst outcome of an item's rules is the item's, and the worst of the items decides the exit code. When nothing at
all was verified, that is `inconclusive`.

## Depths

| Looks at | With | Leaves out |
|---|---|---|
| files | `--offline PATH...` | what only a cluster or traffic shows is `not applicable` |
| cluster | nothing further | what takes traffic is `inconclusive` |
| traffic | `--probe` | nothing |
"""


def _placeholders(text: str) -> str:
    for word in ("namespace", "workload", "release", "item", "url"):
        text = text.replace(f"{{{word}}}", word.upper())
    return text.replace("|", "\\|")


def _rule(rule: Rule) -> str:
    cells = (
        f"`{rule.id}`",
        rule.title,
        _DEPTHS[rule.depth],
        rule.severity.name.lower(),
        _placeholders(rule.remediation),
    )
    return f"| {' | '.join(cells)} |"


def _item(item: Item) -> Iterator[str]:
    yield from ("", f"### {item.id}", "", f"{item.number}. {item.title[0].upper()}{item.title[1:]}.", "", item.knows)
    if item.depends_on:
        names = " and ".join(f"[{name}](#{name.replace('.', '')})" for name in item.depends_on)
        yield from ("", f"Blocked where it could not be tried and {names} failed.")
    yield from ("", "| Rule | Holds when | Looks at | Severity | Remedy |", "|---|---|---|---|---|")
    yield from map(_rule, item.rules)


def _checks() -> Iterator[str]:
    yield _INTRODUCTION
    for category in Category:
        yield from ("", f"## {HEADINGS[category]}")
        for item in ITEMS:
            if item.category is category:
                yield from _item(item)
    yield from _settings()


def _settings() -> Iterator[str]:
    yield from (
        "",
        "## Settings",
        "",
        (
            "`deploytool.yaml` in the current folder, or the file that `--config` names. Unknown keys are errors. "
            "[deploytool.schema.json](deploytool.schema.json) describes it to an editor. The command line wins over it."
        ),
        "",
        "| Key | Value | Default | Means |",
        "|---|---|---|---|",
    )
    yield from _keys(schema(WINDOWS)["properties"], "")


def _keys(properties: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, described in properties.items():
        inner = described.get("items", described)
        default = f"`{json.dumps(described['default'])}`" if "default" in described else ""
        kind = f"list of {inner['type']}s" if described["type"] == "array" else described["type"]
        if inner["type"] != "object":
            yield f"| `{path}{name}` | {kind} | {default} | {described['description']} |"
        else:
            shown = "list of mappings" if inner is not described else "mapping"
            yield f"| `{path}{name}` | {shown} |  | {described['description']} |"
            yield from _keys(inner["properties"], f"{path}{name}{'[]' if inner is not described else ''}.")


PAGES: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    "checks.md": _checks,
    "deploytool.schema.json": lambda: iter([json.dumps(schema(WINDOWS), indent=2)]),
    "check-report.schema.json": lambda: iter([json.dumps(report_schema(), indent=2)]),
}
"""What makes the lines of each page, by its file name in ``DIRECTORY``."""


def write(directory: Path = DIRECTORY) -> None:
    """Write every page anew."""
    for name, lines in PAGES.items():
        (directory / name).write_text("\n".join(lines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
