"""Write the reference pages that are made from the code: ``python -m tests.tools.reference``.

Settings, codes and namespaces are described once, where they are defined. A test
holds the pages to what this module makes of them.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from service.core.codes import Disconnect, Disconnects, Error, Errors, Unsubscribe, Unsubscribes, rows
from service.core.namespaces import BUILT_IN, DEMO, Namespace, json_schema
from service.settings import GROUPS, Setting, groups, settings_of

__all__ = ("DIRECTORY", "PAGES", "TOML_EXAMPLE", "YAML_EXAMPLE", "write")

DIRECTORY: Final = Path(__file__).parents[2] / "docs" / "reference"

_NOTICE: Final = "<!-- Made from the code by `python -m tests.tools.reference`. -->"

TOML_EXAMPLE: Final = """\
[[namespaces]]
name = ""                            # channels without a namespace
presence = true
allow_subscribe_for_client = true
allow_presence_for_subscriber = true
allow_user_limited_channels = true

[[namespaces]]
name = "chat"
presence = true
join_leave = true
force_push_join_leave = true
history_size = 100
history_ttl = "24h"
force_recovery = true
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_history_for_subscriber = true
allow_presence_for_subscriber = true
channel_regex = "[a-z0-9-]+"
"""

YAML_EXAMPLE: Final = """\
namespaces:
  - name: news
    history_size: 20
    history_ttl: 1h
    allow_recovery: true
    allow_subscribe_for_client: true
    allow_subscribe_for_anonymous: true
"""


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    columns = [*head]
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for line in lines:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"


def _prose(docstring: str) -> str:
    """Turn the text of a docstring into one line of Markdown."""
    return " ".join(docstring.replace("``", "`").split())


def _field_docstrings(group: type) -> dict[str, str]:
    """Return the docstring below each field of a class, by the field's name."""
    (body,) = (
        node.body
        for node in ast.walk(ast.parse(inspect.getsource(groups)))
        if isinstance(node, ast.ClassDef) and node.name == group.__name__
    )
    return {
        field.target.id: _prose(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _default(setting: Setting) -> str:
    """Return the default of a setting in words, that of development mode too when it differs."""
    if setting.default_text is not None:
        return setting.default_text
    shown = setting.kind.show(setting.default)
    default = f"`{shown}`" if shown else "none"
    if setting.development == setting.default:
        return default
    return f"{default}; in development `{setting.kind.show(setting.development)}`"


def _settings() -> Iterator[str]:
    yield from ("# Settings", "", _NOTICE, "")
    yield (
        "Settings are environment variables. An empty value counts as not given, and white space around a value is "
        "cut off, except around secrets, where it is an error."
    )
    yield (
        "Everything that is wrong is reported at once, by name, and the process does not start. "
        "No report repeats a secret."
    )
    for group in GROUPS.values():
        texts = _field_docstrings(group)
        yield from ("", f"## {group.__name__}", "", _prose(inspect.getdoc(group) or ""), "")
        yield from _table(
            ("Name", "Value", "Default", "Means"),
            (
                (f"`{setting.name}`", setting.kind.accepts, _default(setting), texts[name])
                for name, setting in settings_of(group).items()
            ),
        )


def _codes() -> Iterator[str]:
    yield from ("# Codes", "", _NOTICE, "")
    yield "The range of a code tells a client what to do; stock clients act on it by themselves."
    yield from ("", "## Errors", "", "A command is answered with an error, and the connection lives on.", "")
    yield from _table(
        ("Code", "Message", "Temporary"),
        (
            (str(row.code), row.message, "yes, the same command may succeed later" if row.temporary else "no")
            for _, row in rows(Errors)
            if isinstance(row, Error)
        ),
    )
    yield from (
        "",
        "## Disconnects",
        "",
        "The WebSocket is closed with a code and a reason. One code may come with several reasons.",
        "",
    )
    yield from _table(
        ("Code", "Reason", "The client"),
        (
            (str(row.code), row.reason, "connects again" if row.reconnects else "stays away")
            for _, row in rows(Disconnects)
            if isinstance(row, Disconnect)
        ),
    )
    yield from ("", "## Unsubscribes", "", "One subscription ends by an `unsubscribe` push.", "")
    yield from _table(
        ("Code", "Reason", "The client"),
        (
            (str(row.code), row.reason, "subscribes again" if row.resubscribes else "stays unsubscribed")
            for _, row in rows(Unsubscribes)
            if isinstance(row, Unsubscribe)
        ),
    )


_NAMESPACES_INTRODUCTION: Final = f"""\
# Namespaces

{_NOTICE}

A namespace holds the options of all channels whose names begin with its own and a colon: `chat:room-1` is in `chat`.
A channel without a colon has the options of the namespace with the empty name.
A channel in a namespace that is not defined is answered with error 102.

## Channel names

* At most `WS_MAX_CHANNEL_LENGTH` characters, of visible ASCII: no space, no control character.
  Anything else is answered with error 107.
* `/`, `*` and `&` are reserved by the protocol and answered with error 107.
* A leading `$` makes a channel private: every subscription needs a token. It does not count as part of the namespace.
* `#` limits a channel to the users listed after the last one, separated by commas: `dialog#42,43`.
  Where the namespace does not set `allow_user_limited_channels`, only a token or the server opens such a channel.
* `#42` is the personal channel of user 42, to which the server subscribes that user (`PERSONAL_CHANNELS`).
  A user whose id cannot be part of a name, or would name somebody else (it holds a comma, `#` or `:`), has none.

## The file

`NAMESPACES_FILE` names a file in TOML, YAML or JSON. It is the whole list: the built-in namespaces below are gone, but
for `probe`, which the deploy tool needs, `org`, whose channels belong to organizations, and `demo` where the page at
`/` is on; all can be defined in the file too. Whatever the options of `org` say, `org:<id>` and `org:<id>:<room>` are
open to [members of that organization](../how-to/organizations.md) alone, and every other channel in it to nobody.
Unknown keys, options that contradict each other and options that cannot have an effect stop the start, all reported at
once. [namespaces.schema.json](namespaces.schema.json) describes the file to an editor.

```toml
{TOML_EXAMPLE}```

In YAML, a namespace that anybody may listen to:

```yaml
{YAML_EXAMPLE}```

## Options
"""


def _namespaces() -> Iterator[str]:
    yield _NAMESPACES_INTRODUCTION
    properties: Mapping[str, Mapping[str, object]] = json_schema()["$defs"]["Namespace"]["properties"]
    yield from _table(
        ("Option", "Default", "Means"),
        (
            (f"`{name}`", _literal(option.get("default", "required")), str(option["description"]))
            for name, option in properties.items()
        ),
    )
    yield from ("", "## Built-in namespaces", "")
    yield "These hold when there is no file; `demo` only where the page at `/` is on."
    yield ""
    everyone = (*BUILT_IN, DEMO)
    options = [field.name for field in msgspec.structs.fields(Namespace) if field.name != "name"]
    yield from _table(
        ("Option", *(f"`{namespace.name}`" if namespace.name else '`""`' for namespace in everyone)),
        (
            (f"`{option}`", *(_cell(getattr(namespace, option)) for namespace in everyone))
            for option in options
            if any(getattr(namespace, option) for namespace in everyone)
        ),
    )
    yield from ("", "Options that are not in this table are off in all of them.")


def _literal(value: object) -> str:
    """Write a default as it would be written in a file."""
    return value if isinstance(value, str) else f"`{json.dumps(value)}`" if value is not None else "none"


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    return {True: "yes", False: ""}[value] if isinstance(value, bool) else f"{value:g}"


def _schema() -> Iterator[str]:
    yield json.dumps(json_schema(), indent=2)


PAGES: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    "settings.md": _settings,
    "codes.md": _codes,
    "namespaces.md": _namespaces,
    "namespaces.schema.json": _schema,
}
"""What makes the lines of each page, by its file name in ``DIRECTORY``."""


def write(directory: Path = DIRECTORY) -> None:
    """Write every page anew."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, lines in PAGES.items():
        (directory / name).write_text("\n".join(lines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
