"""Says on stderr what goes on: a line that is written over on a terminal, a bar for what is long, lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ("Terminal",)

_ERASE = "\r\033[K"


class Terminal:
    """Progress for a person; remembers whether a line or a bar is open.

    Args:
        is_quiet: Say nothing but notes.
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._is_terminal = sys.stderr.isatty()
        self._is_open = False
        self._bars: Bars | None = None
        self._counts: dict[str, TaskID] = {}

    def step(self, text: str) -> None:
        """Something begins."""
        self.clear()
        if self._is_quiet:
            return
        if self._is_terminal:
            click.echo(text, err=True, nl=False)
            self._is_open = True
        else:
            click.echo(text, err=True)

    def count(self, what: str, done: int, total: int) -> None:
        """Part of something long is done; elsewhere than on a terminal only the end of it is said."""
        if self._is_quiet:
            return
        if not self._is_terminal:
            if done == total:
                click.echo(f"{what}: {done} of {total}", err=True)
            return
        bars = self._bars or self._open_bars()
        if what not in self._counts:
            self._counts[what] = bars.add_task(what, total=total)
        bars.update(self._counts[what], completed=done, total=total)

    def note(self, text: str) -> None:
        """Something that a person should know; it stays."""
        self.clear()
        click.echo(f"note: {text}", err=True)

    def clear(self) -> None:
        """Take the open line or bar away, so that something else can be printed."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._counts.clear()
        if self._is_open:
            click.echo(_ERASE, err=True, nl=False)
            self._is_open = False

    def _open_bars(self) -> Bars:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.clear()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bars.start()
        return self._bars
