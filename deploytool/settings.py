"""``deploytool.yaml``: where to look, and what to hold a release against.

The one description of the file is the schema below; it is published, and it is what a file is checked by. Reads no
file: a document that was loaded comes in, values with the lines of their keys go out.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from deploytool.errors import SettingsError
from deploytool.model.expectations import Expectations, LoadThresholds, Waiver
from deploytool.model.node import Lined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ("FILE", "SCHEMA", "Settings", "schema", "settings_of")

FILE: Final = "deploytool.yaml"
"""Where it is looked for when no file is named."""

_DAY: Final = 86_400.0
_DATE_PATTERN: Final = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?)?$"

_Schema = dict[str, Any]


def _text(description: str, **more: object) -> _Schema:
    return {"type": "string", "minLength": 1, "description": description, **more}


def _texts(description: str, **more: object) -> _Schema:
    return {"type": "array", "items": {"type": "string", "minLength": 1, **more}, "description": description}


def _number(description: str, default: float, *, kind: str = "number") -> _Schema:
    return {"type": kind, "minimum": 0, "default": default, "description": description}


def _object(properties: _Schema, description: str, *, required: Sequence[str] = ()) -> _Schema:
    closed = {"type": "object", "additionalProperties": False, "properties": properties, "description": description}
    return {**closed, "required": list(required)} if required else closed


_LOAD: Final = LoadThresholds()
_EXPECTED: Final = Expectations()

SCHEMA: Final[_Schema] = _object(
    {
        "namespace": _text("Namespace of the release; without it that of the kubeconfig's context."),
        "workload": _text("Name of the Deployment; without it the only one of Slackwater in the namespace."),
        "context": _text("Context of the kubeconfig; without it the current one."),
        "url": _text("Public address of the service.", pattern="^(wss?|https?)://"),
        "prometheus_url": _text("Address of a Prometheus that is asked for its rules.", pattern="^https?://"),
        "admin_url": _text("Address of the admin API; without it the API server's proxy.", pattern="^https?://"),
        "admin_key_file": _text("File that holds the admin key; without it the release's Secret is asked for."),
        "browsers": {
            "type": "boolean",
            "default": _EXPECTED.has_browsers,
            "description": "Whether pages in browsers connect. When not, no origin has to be configured.",
        },
        "origins": _texts(
            "Production origins; every one of them has to be allowed, and no other.", pattern="^https?://"
        ),
        "load_balancer": {
            "type": "boolean",
            "description": "Whether something spreads WebSockets over servers. When not, affinity does not apply.",
        },
        "tls_days_left": _number(
            "A certificate that is valid for fewer days fails.", _EXPECTED.tls_days_left, kind="integer"
        ),
        "roster": _texts("Who has to be trained: user names, as `kubectl auth whoami` shows them."),
        "drill_max_age_days": _number(
            "A rollback drill that is older does not count.", _EXPECTED.drill_max_age_seconds / _DAY
        ),
        "attestation_max_days": _number(
            "An attestation that is valid for longer warns; 0 for any length.", _EXPECTED.max_attestation_seconds / _DAY
        ),
        "load": _object(
            {
                "connections": _number("Connections at the same time, at least.", _LOAD.connections, kind="integer"),
                "publications": _number("Publications, at least.", _LOAD.publications, kind="integer"),
                "p99_seconds": _number(
                    "Seconds from publishing to receiving, at most, for 99 of 100 deliveries.", _LOAD.p99_seconds
                ),
                "lost": _number("Deliveries that never came, at most.", _LOAD.lost, kind="integer"),
                "errors": _number("Connections or commands that failed, at most.", _LOAD.errors, kind="integer"),
                "max_age_days": _number("An older report is out of date.", _LOAD.max_age_seconds / _DAY),
            },
            "What a load report has to reach.",
        ),
        "skip": _texts("Items that are not judged: ids, numbers or categories, as --skip takes them."),
        "waivers": {
            "type": "array",
            "description": "Items that somebody has decided to live with. One that has expired fails.",
            "items": _object(
                {
                    "item": _text("Id of the item, or its part after the dot, or its number."),
                    "reason": _text("Why it is all right for now."),
                    "owner": _text("Who decided, and will mend it."),
                    "expires": _text(
                        "Last day on which it holds, such as 2027-03-31, or an instant with a zone.",
                        pattern=_DATE_PATTERN,
                    ),
                },
                "A waiver.",
                required=("item", "reason", "owner", "expires"),
            ),
        },
        # What it holds belongs to planning, which reads it itself.
        "windows": {"type": "object", "description": "When a rollout may start; commands of rollouts read it."},
    },
    "Settings of deploytool. Unknown keys are errors.",
)
"""The file as JSON Schema, without its head."""


def schema(windows: Mapping[str, Any]) -> _Schema:
    """Return the schema as it is published, with what ``windows`` may hold."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "deploytool.yaml",
        **SCHEMA,
        "properties": {**SCHEMA["properties"], "windows": dict(windows)},
    }


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file says.

    Attributes:
        where: The texts that say where to look, by key; a key that is not in the file is not in here.
        skip: Items that are not judged.
        source: The file; empty when there is none.
    """

    expectations: Expectations = field(default_factory=Expectations)
    where: Mapping[str, str] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    source: str = ""


def settings_of(source: str, document: object, items: Mapping[str, str]) -> Settings:
    """Return what a document says; an empty one says nothing.

    Args:
        source: Name of the file, for errors.
        document: As it was loaded.
        items: Ids of items by each word that stands for just one.

    Raises:
        SettingsError: It does not follow the schema; all problems are listed.
    """
    content = {} if document is None else document
    problems = [*_problems(content, SCHEMA, "", None)]
    if problems or not isinstance(content, dict):
        raise SettingsError(source, problems)
    waivers = [_waiver(one, items, problems) for one in content.get("waivers", [])]
    twins = {one.item for one in waivers if sum(one.item == other.item for other in waivers) > 1}
    problems += [f"{item} is waived more than once" for item in sorted(twins)]
    if problems:
        raise SettingsError(source, problems)
    texts = ("namespace", "workload", "context", "url", "prometheus_url", "admin_url", "admin_key_file")
    return Settings(
        expectations=_expectations(content, tuple(waivers)),
        where={name: content[name] for name in texts if name in content},
        skip=tuple(content.get("skip", ())),
        source=source,
    )


def _expectations(content: Mapping[str, Any], waivers: tuple[Waiver, ...]) -> Expectations:
    load = content.get("load", {})
    return Expectations(
        origins=tuple(content.get("origins", ())),
        has_browsers=content.get("browsers", _EXPECTED.has_browsers),
        behind_load_balancer=content.get("load_balancer"),
        tls_days_left=content.get("tls_days_left", _EXPECTED.tls_days_left),
        roster=tuple(content.get("roster", ())),
        drill_max_age_seconds=_days(content, "drill_max_age_days", _EXPECTED.drill_max_age_seconds),
        max_attestation_seconds=_days(content, "attestation_max_days", _EXPECTED.max_attestation_seconds),
        load=LoadThresholds(
            connections=load.get("connections", _LOAD.connections),
            publications=load.get("publications", _LOAD.publications),
            p99_seconds=load.get("p99_seconds", _LOAD.p99_seconds),
            lost=load.get("lost", _LOAD.lost),
            errors=load.get("errors", _LOAD.errors),
            max_age_seconds=_days(load, "max_age_days", _LOAD.max_age_seconds),
        ),
        waivers=waivers,
    )


def _days(content: Mapping[str, Any], name: str, default: float) -> float:
    return float(content[name]) * _DAY if name in content else default


def _waiver(content: Mapping[str, Any], items: Mapping[str, str], problems: list[str]) -> Waiver:
    line = _line(content, "item")
    item = items.get(str(content["item"]), "")
    if not item:
        close = difflib.get_close_matches(str(content["item"]), items, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        problems.append(f"{_at(line)}waivers: there is no item {content['item']}{hint}")
    expires = _instant(content["expires"])
    if expires is None:
        problems.append(f"{_at(_line(content, 'expires'))}waivers: {content['expires']} is no date")
    return Waiver(item, content["reason"].strip(), content["owner"].strip(), expires or 0.0, line)


def _instant(value: object) -> float | None:
    """Return the end of a day, or an instant, in unix seconds; None when it is neither."""
    try:
        parsed = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    is_day = isinstance(value, str) and len(value) == len("2027-03-31")
    if isinstance(parsed, dt.datetime):
        known = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=dt.UTC)
        return known.timestamp() + (_DAY if is_day else 0.0)
    if isinstance(parsed, dt.date):
        midnight = dt.datetime.combine(parsed, dt.time(), dt.UTC)
        return midnight.timestamp() + _DAY
    return None


def _problems(value: object, expected: _Schema, path: str, line: int | None) -> Iterator[str]:
    """Yield what is wrong with a value, as far as the parts of JSON Schema that are used here can tell."""
    kind = expected["type"]
    name = f"{_at(line)}{path or 'the file'}"
    if kind == "object":
        yield from _object_problems(value, expected, path, line)
    elif kind == "string":
        yield from _text_problems(value, expected, name)
    elif kind != "array":
        yield from _plain_problems(value, kind, name)
    elif not isinstance(value, list):
        yield f"{name} has to be a list"
    else:
        for index, one in enumerate(value):
            yield from _problems(one, expected["items"], f"{path}[{index}]", line)


def _plain_problems(value: object, kind: str, name: str) -> Iterator[str]:
    if kind == "boolean":
        if not isinstance(value, bool):
            yield f"{name} has to be true or false"
    elif isinstance(value, bool) or not isinstance(value, (int,) if kind == "integer" else (int, float)):
        yield f"{name} has to be a {'whole ' if kind == 'integer' else ''}number"
    elif not value >= 0:
        yield f"{name} may not be negative"


def _text_problems(value: object, expected: _Schema, name: str) -> Iterator[str]:
    pattern = expected.get("pattern", "")
    if isinstance(value, dt.date) and pattern == _DATE_PATTERN:
        return
    if not isinstance(value, str):
        yield f"{name} has to be text; put it in quotes"
    elif not value.strip():
        yield f"{name} is empty"
    elif pattern and not re.search(pattern, value):
        example = "a date such as 2027-03-31" if pattern == _DATE_PATTERN else f"an address ({pattern})"
        yield f"{name} has to be {example}, not {value[:80]}"


def _object_problems(value: object, expected: _Schema, path: str, line: int | None) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{_at(line)}{path or 'the file'} has to be a mapping of keys and values"
        return
    properties = expected.get("properties")
    if properties is None:
        return
    for key, one in value.items():
        where = _line(value, str(key))
        inner = f"{path}.{key}" if path else str(key)
        if key not in properties:
            close = difflib.get_close_matches(str(key), properties, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(properties)}"
            yield f"{_at(where)}unknown key {inner}{hint}"
        else:
            yield from _problems(one, properties[key], inner, where)
    begins = min(value.lines.values(), default=line) if isinstance(value, Lined) else line
    for key in expected.get("required", ()):
        if key not in value:
            yield f"{_at(begins)}{path} needs {key}"


def _line(content: object, key: str) -> int | None:
    return content.lines.get(key) if isinstance(content, Lined) else None


def _at(line: int | None) -> str:
    return "" if line is None else f"line {line}: "
