"""Write what is made from the schema of the chart's values: ``python -m tests.tools.chart_values``.

`values.schema.json` says what each value is, what it accepts and what it is by default.
The chart's `values.yaml` and the reference page hold the same, for people; a test keeps them current.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ("CHART", "MADE", "SCHEMA", "defaults", "write")

_ROOT: Final = Path(__file__).parents[2]
CHART: Final = _ROOT / "helm" / "slackwater"
SCHEMA: Final = CHART / "values.schema.json"

_COMMAND: Final = "python -m tests.tools.chart_values"
_WIDTH: Final = 110
_DEFINITIONS: Final = "#/definitions/"
_IN_WORDS: Final[Mapping[str, str]] = {
    "bytes": "amount of memory",
    "duration": "duration",
    "memoryLimit": "amount of memory",
    "name": "name",
    "namespace": "namespace",
    "optionalDuration": "duration or empty",
    "peers": "list of NetworkPolicy peers",
    "quantity": "quantity",
    "stringMap": "map of text",
    "subjects": "list of RBAC subjects",
    "whenThere": "true, false or auto",
}
_KINDS: Final[Mapping[str, str]] = {"string": "text", "boolean": "true or false", "integer": "whole number"}
_Schema = Mapping[str, Any]


def _schema() -> _Schema:
    schema: _Schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return schema


def _properties(schema: _Schema) -> Iterator[tuple[str, _Schema]]:
    """Yield what belongs into a values file; ``global`` belongs to parent charts."""
    yield from ((name, value) for name, value in schema["properties"].items() if name != "global")


def _is_group(schema: _Schema) -> bool:
    return "default" not in schema


def defaults(schema: _Schema | None = None) -> dict[str, Any]:
    """Return the values of a release that sets none, by name."""
    return {
        name: defaults(value) if _is_group(value) else value["default"]
        for name, value in _properties(schema or _schema())
    }


def _values(schema: _Schema, indent: str = "") -> Iterator[str]:
    """Yield the lines of ``values.yaml``: each value below its description."""
    for name, value in _properties(schema):
        if not indent:
            yield ""
        yield from textwrap.wrap(
            value["description"].replace("`", ""),
            _WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_on_hyphens=False,
        )
        if _is_group(value):
            yield f"{indent}{name}:"
            yield from _values(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {json.dumps(value['default'], ensure_ascii=False)}"


def _values_file() -> Iterator[str]:
    yield f"# Made from values.schema.json by `{_COMMAND}`."
    yield from _values(_schema())


def _accepts(value: _Schema) -> str:
    """Say in a few words what a value may be."""
    if "$ref" in value:
        return _IN_WORDS[value["$ref"].removeprefix(_DEFINITIONS)]
    one_of = value.get("enum") or value.get("if", {}).get("not", {}).get("enum")
    if one_of:
        return ", ".join(f"`{one}`" for one in one_of)
    kind = value.get("type", "string")
    if kind == "array":
        items = value["items"]
        return f"list of {_accepts(items)}" + ("" if items.get("type") == "string" else "s")
    return _KINDS.get(kind, kind) + _range(value)


def _range(value: _Schema) -> str:
    if {"minimum", "maximum"} <= value.keys():
        return f" from {value['minimum']} to {value['maximum']}"
    above = f" above {value['exclusiveMinimum']}" if "exclusiveMinimum" in value else ""
    return above + (f" to {value['maximum']}" if "maximum" in value else "")


def _leaves(schema: _Schema, prefix: str) -> Iterator[tuple[str, _Schema]]:
    for name, value in _properties(schema):
        if _is_group(value):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _table(leaves: Iterator[tuple[str, _Schema]]) -> Iterator[str]:
    yield from ("| Value | Accepts | Default | Means |", "|---|---|---|---|")
    for name, value in leaves:
        default = json.dumps(value["default"], ensure_ascii=False)
        yield f"| `{name}` | {_accepts(value)} | `{default}` | {value['description']} |"


def _page() -> Iterator[str]:
    schema = _schema()
    yield from ("# Values of the chart", "", f"<!-- Made from helm/slackwater/values.schema.json by `{_COMMAND}`. -->")
    yield ""
    yield "Unknown keys are refused. A duration has a unit: `500ms`, `30s`, `5m`, `24h`, `1d`, or several: `1h30m`."
    yield "No secret is a value. [Install with Helm](../how-to/install-with-helm.md) shows what has to be set."
    yield from ("", "## Release", "")
    yield from _table((name, value) for name, value in _properties(schema) if not _is_group(value))
    for name, value in _properties(schema):
        if _is_group(value):
            yield from ("", f"## {name}", "", value["description"], "")
            yield from _table(_leaves(value, f"{name}."))


MADE: Final[Mapping[Path, Callable[[], Iterator[str]]]] = {
    CHART / "values.yaml": _values_file,
    _ROOT / "docs" / "reference" / "chart-values.md": _page,
}
"""What makes the lines of each file."""


def write() -> None:
    """Write every file anew."""
    for path, lines in MADE.items():
        path.write_text("\n".join(lines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
