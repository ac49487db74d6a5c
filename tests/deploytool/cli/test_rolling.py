"""What a person types and sees around rollouts, without a cluster."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from deploytool.cli import cli
from deploytool.cli.rolling.people import CommandHooks, EventLines, LiveTree, TextLines
from deploytool.cli.rolling.planned import recorded
from deploytool.cluster.lease import Holder
from deploytool.rollout.errors import PhaseError
from deploytool.rollout.journal import Journal
from deploytool.rollout.phases import Phase
from deploytool.rollout.ports import Event

if TYPE_CHECKING:
    from pathlib import Path

_JOURNAL = (
    Journal("r1", "web", "ada@laptop", "new release", "web:1", "web:2", override="urgent")
    .begin(Phase.LOCK, 1_800_000_000.0)
    .finish(1_800_000_001.5)
    .begin(Phase.ANNOUNCE, 1_800_000_002.0)
)
_WINDOWS = """
namespace: realtime
windows:
  zone: Europe/Berlin
  open:
    - {name: nights, rule: "FREQ=WEEKLY;BYDAY=TU,TH", at: "23:30", length: 2h}
  closed:
    - {first: 2026-12-20, last: 2027-01-06, reason: "year's end"}
"""


def _run(folder: Path, *arguments: str, text: str = _WINDOWS) -> Any:  # noqa: ANN401 - of click
    path = folder / "settings.yaml"
    path.write_text(text)
    return CliRunner().invoke(cli, [*arguments, "--config", str(path)], standalone_mode=False)


def test_window_show(tmp_path: Path) -> None:
    """In local time and in UTC."""
    done = _run(tmp_path, "window", "show", "--at", "2026-10-20T12:00", "--count", "2")

    first, second = done.output.splitlines()
    begins, _, ends = first.partition(" until ")
    assert "Tue 2026-10-20 23:30 CEST (2026-10-20 21:30 UTC)" == begins
    assert "Wed 2026-10-21 01:30 CEST (2026-10-20 23:30 UTC): nights" == ends
    assert second.startswith("Thu 2026-10-22 23:30 CEST")


@pytest.mark.parametrize(
    ("at", "code", "said"),
    [
        ("2026-10-21T00:30", 0, "window nights is open"),
        ("2026-10-21T01:25", 7, "5 min are left, and 10 min are needed"),
        ("2026-10-21T12:00", 7, "no window is open"),
        ("2026-12-22T23:45", 7, "its day 2026-12-22 is excluded: year's end"),
        ("2026-12-22T23:45Z", 7, "its day 2026-12-22 is excluded: year's end"),
    ],
)
def test_window_explain(tmp_path: Path, at: str, code: int, said: str) -> None:
    """Why, and when next."""
    done = _run(tmp_path, "window", "explain", "--at", at)

    assert (code, True) == (done.return_value, said in done.output), done.output
    assert ("next: " in done.output) == (code == 7)


def test_window_next(tmp_path: Path) -> None:
    """One line, or 7."""
    found = _run(tmp_path, "window", "next", "--at", "2026-12-22T23:45")
    none = _run(tmp_path, "window", "next", text="windows: {zone: UTC}")

    assert "Thu 2027-01-07 23:30 CET (2027-01-07 22:30 UTC)\n" == found.output
    assert 0 == found.return_value
    assert 7 == none.return_value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("windows: {zone: Nowhere}", "Nowhere is no zone"),
        ("windows: {zone: UTC}\nnamespce: x", "namespce"),
        ("a: 1\n---\nb: 2", "more than one document"),
    ],
)
def test_nonsense_in_the_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    """Both by the section and beside it."""
    done = _run(tmp_path, "window", "show", text=text)

    assert said in str(done.exception)
    assert 2 == getattr(done.exception, "exit_code", 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--hook", "GATE=true"), "is no hook"),
        (("--hook", "before-GATE"), "is no hook"),
        (("--wait", "soon"), "is no duration"),
        (("--share", "2"), "2"),
        (("--drain-policy", "maybe"), "maybe"),
    ],
)
def test_nonsense_on_the_command_line_is_named(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """Before anything is asked of a cluster."""
    done = _run(tmp_path, "rollout", "run", "--image", "web:2", *arguments)

    assert 2 == getattr(done.exception, "exit_code", 0)
    assert said in done.exception.format_message()


def test_no_image_is_a_usage_error(tmp_path: Path) -> None:
    """It is the one thing that cannot be guessed."""
    assert 2 == getattr(_run(tmp_path, "rollout", "run").exception, "exit_code", 0)


# Hooks.


def test_hook_gets_the_state(tmp_path: Path) -> None:
    """As JSON on stdin, and the phase in the environment."""
    out = tmp_path / "out"
    hooks = CommandHooks({"before-GATE": [f'cat > {out}; printf "\\n$DEPLOYTOOL_PHASE" >> {out}']})

    hooks.run(Phase.GATE, "before", _JOURNAL)
    hooks.run(Phase.GATE, "after", _JOURNAL)

    state, phase = out.read_text().splitlines()
    assert "GATE" == phase
    assert ("GATE", "before", "web:2") == tuple(
        one for one in (json.loads(state)["phase"], json.loads(state)["moment"], json.loads(state)["journal"]["new"])
    )


def test_failing_hook_is_named() -> None:
    """With what it said."""
    hooks = CommandHooks({"after-SMOKE": ["echo no thanks >&2; exit 3"]})

    with pytest.raises(PhaseError, match=r"the hook after SMOKE ended with 3: .*: no thanks"):
        hooks.run(Phase.SMOKE, "after", _JOURNAL)


def test_hook_that_does_not_read_is_no_failure() -> None:
    """A command may ignore its stdin."""
    CommandHooks({"before-GATE": ["true"]}).run(Phase.GATE, "before", _JOURNAL)


# Views.

_EVENTS = (
    Event(1.0, "phase", Phase.DRAIN, ""),
    Event(2.0, "progress", Phase.DRAIN, "30 of 40 connections left", {"left": 30, "total": 40}),
    Event(3.0, "progress", Phase.DRAIN, "30 of 40 connections left", {"left": 30, "total": 40}),
    Event(4.0, "done", Phase.DRAIN, "40 clients in 3 s"),
    Event(5.0, "failed", Phase.SMOKE, "no [bold]answer[/bold]"),
    Event(6.0, "end", Phase.ROLLED_BACK, "rolled back"),
)


def test_lines_say_a_change_once() -> None:
    """With the time, and nothing twice."""
    lines: list[str] = []
    view = TextLines(lines.append)
    for event in _EVENTS:
        view.show(event)

    assert [line.partition(" ")[2] for line in lines] == [
        "DRAIN ...",
        "DRAIN 30 of 40 connections left",
        "DRAIN done 40 clients in 3 s",
        "SMOKE FAILED no [bold]answer[/bold]",
        "ROLLED_BACK END rolled back",
    ]


def test_events_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One a line, on stdout."""
    for event in _EVENTS:
        EventLines().show(event)

    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(_EVENTS) == len(found)
    assert {"at": 2.0, "kind": "progress", "phase": "DRAIN", "text": _EVENTS[1].text, "data": _EVENTS[1].data} == found[
        1
    ]


def test_tree_draws_the_drain() -> None:
    """What was said is shown as it is, markup or not."""
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    tree = LiveTree(console, "web in realtime")
    for event in _EVENTS[:2]:
        tree.show(event)
    console.print(tree.tree())
    tree.show(_EVENTS[4])
    console.print(tree.tree())

    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "▶ DRAIN  ███████████████░░░░░ 30 of 40 connections left" in shown
    assert "✗ SMOKE  no [bold]answer[/bold]" in shown
    assert "· COMMIT" in shown


# What is on record.


def test_record_in_words() -> None:
    """Who, why, how far."""
    holder = Holder("ada@laptop/r1", 1_800_000_000.0, 60.0, "new release", _JOURNAL.to_json(), "")

    text = recorded("web", holder, 1_800_000_010.0, output="text")

    assert "web: locked by ada@laptop/r1 (new release), renewed 10 s ago" in text
    assert "web:1 -> web:2, outside of a window: urgent" in text
    assert "done  LOCK               1.5 s" in text
    assert "begun ANNOUNCE" in text
    late = recorded("web", holder, 1_800_000_100.0, output="text")
    assert "not renewed for 100 s: resume or abort it" in late
    assert json.loads(recorded("web", holder, 1_800_000_100.0, output="json"))["expired"] is True


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        (None, "web: nobody rolls out"),
        (Holder("", 0.0, 60.0, "", "", "2027 eve: lost"), "released by force: 2027 eve: lost"),
        (Holder("", 0.0, 60.0, "", '{"version": 9}', ""), "has version 9, and this deploytool knows 1"),
        (Holder("", 0.0, 60.0, "", "garbage", ""), "cannot be read"),
    ],
)
def test_record_that_is_none(holder: Holder | None, said: str) -> None:
    """Nothing to show, or nothing that can be read: said, in text and in JSON."""
    assert said in recorded("web", holder, 1.0, output="text")
    assert json.loads(recorded("web", holder, 1.0, output="json"))["journal"] is None
