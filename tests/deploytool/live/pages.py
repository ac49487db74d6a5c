"""The pages that an operator reads: their commands, and what each is said to show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.simcluster.images import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Command", "Section", "missing", "sections")

_CODES: Final = re.compile(r"  # exit code ([\d, or]+)$")
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page.

    Attributes:
        codes: One of them it ends with, says the page.
        shows: Lines that it prints, in this order; ``…`` stands for anything.
    """

    text: str
    codes: frozenset[int]
    shows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """What stands below one heading.

    Attributes:
        heading: Empty for what stands above the first.
        settings: The ``deploytool.yaml`` that it shows; empty for none.
    """

    heading: str
    commands: tuple[Command, ...]
    settings: str = ""


def sections(page: str) -> list[Section]:
    """Return what is to be carried out of a page, in order.

    Args:
        page: Below ``docs``.
    """
    parts = re.split(r"^#{2,3} (.*)$", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)
    return [_section(heading, text) for heading, text in zip(["", *parts[1::2]], parts[::2], strict=True)]


def _section(heading: str, text: str) -> Section:
    commands: list[Command] = []
    settings, end = "", -1
    for block in _FENCE.finditer(text):
        kind, content = block.groups()
        if kind == "sh":
            commands += _commands(content)
        elif kind == "text" and not text[end : block.start()].strip():
            # What stands right below commands is what the last of them shows.
            commands[-1] = Command(commands[-1].text, commands[-1].codes, tuple(content.splitlines()))
        elif kind == "yaml" and content.startswith("# deploytool.yaml"):
            settings = content
        end = block.end()
    return Section(heading, tuple(commands), settings)


def _commands(block: str) -> Iterator[Command]:
    for line in block.replace("\\\n", " ").splitlines():
        found = _CODES.search(line)
        codes = frozenset(map(int, re.findall(r"\d+", found[1]))) if found else frozenset({0})
        yield Command(_CODES.sub("", line), codes)


def missing(shows: tuple[str, ...], text: str) -> list[str]:
    """Return the lines that a command is said to show and did not, or not in this order."""
    at, lost = 0, []
    for line in shows:
        # Where anything may stand there may be nothing, and no space before it either.
        pattern = re.compile(r"[^\n]*".join(re.escape(part) for part in re.split(" ?… ?", line)))
        found = pattern.search(text, at)
        if found is None:
            lost.append(line)
        else:
            at = found.end()
    return lost
