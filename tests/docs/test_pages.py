"""How the pages for operators are read, before their commands are carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploytool.live.pages import missing, sections
from tests.deploytool.live.terminal import open_terminal

if TYPE_CHECKING:
    from pathlib import Path

_PAGES = (
    "how-to/rollout.md",
    "runbooks/lock-stuck.md",
    "runbooks/rollback-failed.md",
    "runbooks/drain-stuck.md",
    "runbooks/guard-in-a-fight.md",
)


@pytest.mark.parametrize(
    ("shows", "text", "lost"),
    [
        (("a … c", "d"), "x\na b c\nd", []),
        (("… begun GATE …",), "  10:00  begun GATE", []),
        (("d", "a"), "a\nd", ["a"]),
        (("a … c",), "a\nc", ["a … c"]),
        (("exit (1)",), "exit 1", ["exit (1)"]),
    ],
)
def test_missing_lines(shows: tuple[str, ...], text: str, lost: list[str]) -> None:
    """In order, within a line, and by the letter but for what may be anything."""
    assert lost == missing(shows, text)


@pytest.mark.parametrize("page", _PAGES)
def test_page_has_commands_and_says_what_they_show(page: str) -> None:
    """Else the test that carries it out would prove little."""
    commands = [command for section in sections(page) for command in section.commands]

    assert len(commands) >= 8
    assert any(command.shows for command in commands)


def test_exit_codes_are_read_from_the_page() -> None:
    """None of them is left in the command."""
    found = [command for section in sections("runbooks/lock-stuck.md") for command in section.commands]
    (second,) = (command for command in found if command.text.endswith("--reason second"))

    assert frozenset({6}) == second.codes
    assert ("deploytool: the lock is held by … (first)",) == second.shows


def test_terminal_has_the_programs_of_the_pages_and_no_others(tmp_path: Path) -> None:
    """What one command sets, the next one finds; a program that no page may take for granted is not there."""
    folder = tmp_path / "operator"
    folder.mkdir()
    with open_terminal(folder, {}) as terminal:
        done = [terminal.run(one) for one in ("word=there", 'echo "$word" >&2', "ls", "false | cat", "cat")]

    assert [0, 0, 127, 0, 0] == [one.code for one in done]
    assert "there\n" == done[1].text
