from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from deploytool.checks import catalog
from deploytool.cli import checking
from deploytool.cli.progress import Terminal
from deploytool.model.finding import Depth
from deploytool.model.snapshot import Snapshot
from deploytool.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator


class _Screen(io.StringIO):
    """A terminal that keeps everything that was written to it."""

    @override
    def isatty(self) -> bool:
        return True


def _play(terminal: Terminal) -> None:
    terminal.step("reading the cluster")
    terminal.step("testing under load")
    for done in range(1, 4):
        terminal.count("publications", done, 3)
    terminal.note("load report: here")
    terminal.clear()


def test_each_change_is_a_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """In a log of a pipeline; what is counted is told at its end alone."""
    _play(Terminal())

    out, err = capsys.readouterr()
    assert "" == out
    assert [
        "reading the cluster",
        "testing under load",
        "publications: 3 of 3",
        "note: load report: here",
    ] == err.splitlines()


def test_terminal_shows_a_bar_and_leaves_the_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are written over; the bar goes when it is done."""
    screen = _Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    _play(Terminal())

    shown = screen.getvalue()
    assert "publications" in shown
    assert "3/3" in shown
    assert "note: load report: here\n" in shown
    assert shown.endswith("note: load report: here\n")


def test_quiet_one_says_notes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """As for a report that goes to a machine."""
    _play(Terminal(is_quiet=True))

    assert ["note: load report: here"] == capsys.readouterr().err.splitlines()


def test_results_are_not_printed_behind_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal shows both streams: the line of the step is gone when there is something to print."""
    screen = _Screen()
    monkeypatch.setattr("sys.stderr", screen)

    def observe(*_: Any, progress: Terminal, **__: Any) -> Generator[Snapshot]:  # noqa: ANN401 - as it is called
        for what in ("reading the cluster", "counting connections"):
            progress.step(what)
            yield Snapshot(Depth.LIVE, 0.0)

    monkeypatch.setattr("deploytool.cli.live.observe", observe)

    for _ in checking.live(checking.Plan(catalog.ITEMS, Settings()), probe=False, given={}):
        assert screen.getvalue().endswith("\r\033[K")
