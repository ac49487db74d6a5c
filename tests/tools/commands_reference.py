"""The options in docs/reference/deploytool.md, made of the commands themselves.

``python -m tests.tools.commands_reference`` writes the page again.
"""

from __future__ import annotations

import inspect
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from deploytool.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ("BEGIN", "END", "PAGE", "commands", "options", "render")

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "deploytool.md"

BEGIN: Final = "<!-- begin of the commands, written by tests.tools.commands_reference -->\n"
END: Final = "<!-- end of the commands -->\n"
_ANYTHING: Final = "ITEM"
_SHARED: Final = {
    "Which release": ("lock release",),
    "How a rollout goes": ("rollout plan", "rollout resume", "drain"),
}
"""Options that several commands take, by their heading: those that all of the named ones have."""
_OWN: Final = frozenset({"--reason"})
"""Of the shared ones by their name alone: they mean something else in each."""


def commands() -> dict[str, click.Command]:
    """Return every command by its words."""
    return dict(_below(cli, ()))


def _below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    names = group.list_commands(context)
    # A group that takes any word has a command for the words that are no commands of it.
    for name in (*names, *((_ANYTHING,) if words else ())):
        try:
            _, command, _ = group.resolve_command(context, [name])
        except click.UsageError:
            continue
        if isinstance(command, click.Group):
            yield from _below(command, (*words, name))
        elif command is not None:
            yield " ".join((*words, name)), command


def options(command: click.Command) -> list[str]:
    """Return a line of the table for each of its options."""
    return [_line(one) for one in command.params if isinstance(one, click.Option) and not one.hidden]


def _line(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if not option.is_flag:
        kind = option.type
        # In a table a bar would end the cell.
        given = " or ".join(kind.choices) if isinstance(kind, click.Choice) else option.metavar or kind.name.upper()
        names += f" {given}"
    default = option.default if option.show_default else None
    told = "" if default is None else f" `{default}` unless said."
    text = option.help or ""
    again = " Repeatable." if option.multiple and "repeatable" not in text else ""
    return f"| {names} | {text}{told}{again} |"


def _table(lines: Iterable[str]) -> Iterator[str]:
    yield from ("| Option | Means |", "|---|---|", *lines, "")


def _page() -> Iterator[str]:
    known = commands()
    shared: dict[str, list[str]] = {}
    for heading, names in _SHARED.items():
        first, *others = (options(known[name]) for name in names)
        taken = {*chain.from_iterable(shared.values())}
        in_all = [line for line in first if all(line in one for one in others) and line not in taken]
        shared[heading] = [line for line in in_all if not any(f"`{name}`" in line for name in _OWN)]
    for name, command in known.items():
        yield from (f"### {name}", "", *_said(command), "")
        lines = options(command)
        of = [heading for heading, some in shared.items() if set(some) <= set(lines)]
        own = [line for line in lines if not any(line in shared[heading] for heading in of)]
        if own:
            yield from _table(own)
        if of:
            links = " and ".join(f"[{heading.lower()}](#{heading.lower().replace(' ', '-')})" for heading in of)
            yield from (f"Besides, the options of {links}.", "")
    for heading, lines in shared.items():
        yield from (f"### {heading}", "", *_table(lines))


def _said(command: click.Command) -> Iterator[str]:
    """Yield what its help says, without what is marked to stay as it is written."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if not paragraph.startswith("\b"):
            yield from (*paragraph.splitlines(), "")


def render(page: str) -> str:
    """Return a page with the commands in it brought up to date."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(_page())
    while "\n\n\n" in lines:
        lines = lines.replace("\n\n\n", "\n\n")
    return f"{before}{BEGIN}\n{lines}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
