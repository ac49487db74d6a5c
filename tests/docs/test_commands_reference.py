"""The reference of the commands is what they take."""

from __future__ import annotations

from tests.tools.commands_reference import BEGIN, END, PAGE, commands, options, render


def test_page_is_current() -> None:
    """Else: ``python -m tests.tools.commands_reference``."""
    page = PAGE.read_text()

    assert (1, 1) == (page.count(BEGIN), page.count(END))
    assert render(page) == page


def test_every_option_says_what_it_means() -> None:
    """In its help, which is its line in the reference."""
    silent = [
        f"{name}: {line}" for name, command in commands().items() for line in options(command) if line.endswith("|  |")
    ]

    assert [] == silent
