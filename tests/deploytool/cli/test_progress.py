from __future__ import annotations

import io

import pytest
from typing_extensions import override

from deploytool.cli.progress import Terminal


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
