"""What a person types and sees around rollouts, without a cluster."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from deploytool.cli import cli
from deploytool.cli.rolling.people import CommandHooks, EventLines, LiveTree, TextLines, WaitingClock
from deploytool.cli.rolling.planned import recorded
from deploytool.cluster.lease import Holder
from deploytool.rollout.errors import LockLostError, PhaseError
from deploytool.rollout.journal import Journal
from deploytool.rollout.phases import Phase
from deploytool.rollout.ports import Event
from tests.support.clock import ManualClock

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


def test_single_day_is_written_as_the_schema_says(tmp_path: Path) -> None:
    """Without quotes, though ``on`` is true to YAML 1.1."""
    move = '{name: move, on: 2026-12-01, at: "22:00", length: 4h}'
    done = _run(tmp_path, "window", "next", "--at", "2026-11-30T12:00", text=f"windows: {{zone: UTC, open: [{move}]}}")

    assert "Tue 2026-12-01 22:00 UTC (2026-12-01 22:00 UTC)\n" == done.output


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


def _hooks(commands: dict[str, list[str]]) -> CommandHooks:
    return CommandHooks(commands, WaitingClock())


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_hook_gets_the_state(tmp_path: Path) -> None:
    """As JSON on stdin, and the phase in the environment."""
    out = tmp_path / "out"
    hooks = _hooks({"before-GATE": [f'cat > {out}; printf "\\n$DEPLOYTOOL_PHASE" >> {out}']})

    hooks.run(Phase.GATE, "before", _JOURNAL, _pause)
    hooks.run(Phase.GATE, "after", _JOURNAL, _pause)

    state, phase = out.read_text().splitlines()
    assert "GATE" == phase
    assert ("GATE", "before", "web:2") == tuple(
        one for one in (json.loads(state)["phase"], json.loads(state)["moment"], json.loads(state)["journal"]["new"])
    )


def test_failing_hook_is_named() -> None:
    """With what it said."""
    hooks = _hooks({"after-SMOKE": ["echo no thanks >&2; exit 3"]})

    with pytest.raises(PhaseError, match=r"the hook after SMOKE ended with 3: .*: no thanks"):
        hooks.run(Phase.SMOKE, "after", _JOURNAL, _pause)


def test_hook_that_does_not_read_is_no_failure() -> None:
    """A command may ignore its stdin."""
    _hooks({"before-GATE": ["true"]}).run(Phase.GATE, "before", _JOURNAL, _pause)


def test_lock_is_kept_alive_while_a_hook_runs(tmp_path: Path) -> None:
    """Whoever waits for it comes by again and again, and may say that it has to end."""
    may_end, passes = tmp_path / "end", []

    def pause(seconds: float) -> None:
        passes.append(seconds)
        if len(passes) == 3:
            may_end.touch()
        _pause(seconds)

    wait = f"while [ ! -e {may_end} ]; do sleep 0.01; done"
    _hooks({"before-GATE": [wait]}).run(Phase.GATE, "before", _JOURNAL, pause)

    def lose(_: float) -> None:
        raise LockLostError("somebody else holds it")

    with pytest.raises(LockLostError):
        _hooks({"before-GATE": ["exec sleep 1000"]}).run(Phase.GATE, "before", _JOURNAL, lose)

    assert 3 <= len(passes)


def test_hook_that_does_not_end_is_ended() -> None:
    """It is a failure of its phase, as any other."""
    clock = ManualClock()

    with pytest.raises(PhaseError, match="the hook before GATE took more than 30 s: exec sleep 1000"):
        CommandHooks({"before-GATE": ["exec sleep 1000"]}, clock).run(Phase.GATE, "before", _JOURNAL, clock.advance)


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
    assert "▶ DRAIN         ███████████████░░░░░ 30 of 40 connections left" in shown
    assert "✗ SMOKE         no [bold]answer[/bold]" in shown
    assert "· COMMIT" in shown


def _tree(*events: Event, width: int = 100, height: int = 40, encoding: str = "utf-8") -> list[str]:
    """Return what the tree looks like in the end, line by line."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console = Console(file=file, width=width, height=height, force_terminal=False)
    tree = LiveTree(console, "web in realtime")
    for event in events:
        tree.show(event)
    file.seek(0)
    file.truncate()
    console.print(tree.tree())
    file.flush()
    file.seek(0)
    return file.read().splitlines()


def test_tree_does_not_wrap_on_a_narrow_terminal() -> None:
    """A row is a line; what has no room is cut off, and a failure is said in full above."""
    long = Event(1.0, "failed", Phase.READY, "no " * 60)
    counted = Event(2.0, "progress", Phase.RECONNECT, "38 of 40 clients are back", {"back": 38, "total": 40})
    lines = _tree(Event(0.0, "phase", Phase.READY, ""), long, counted, width=60)

    assert 13 == len(lines)
    assert all(len(line) <= 60 for line in lines)
    assert any("✗ READY" in line and line.endswith("…") for line in lines)
    assert any("▶ RECONNECT     ██████████ 38 of 40 clients are back" in line for line in lines)
    console = Console(file=io.StringIO(), width=60)
    LiveTree(console, "").show(long)
    assert isinstance(console.file, io.StringIO)
    assert 60 == console.file.getvalue().split().count("no")


def test_tree_keeps_what_goes_on_in_sight_on_a_low_terminal() -> None:
    """What is still to come is left out first, then what is long over."""
    early = _tree(Event(0.0, "phase", Phase.GATE, ""), height=10)
    late = _tree(Event(0.0, "phase", Phase.RECONNECT, ""), height=10)

    assert 9 == len(early) == len(late)
    assert any("▶ GATE" in line for line in early)
    assert any("▶ RECONNECT" in line for line in late)
    assert not any("PREFLIGHT" in line for line in late)


def test_tree_shows_the_way_back() -> None:
    """What will not come any more is not shown, and no phase seems to go on for ever."""
    lines = _tree(
        Event(0.0, "phase", Phase.READY, ""),
        Event(1.0, "failed", Phase.READY, "not ready"),
        Event(2.0, "phase", Phase.ROLLING_BACK, "not ready"),
        Event(3.0, "progress", Phase.ROLLING_BACK, "9 of 9 clients are back", {"back": 9, "total": 9}),
        Event(4.0, "done", Phase.ROLLED_BACK, "9 of 9 clients are back after 2 s"),
    )
    rows = {line.split()[-1 if len(line.split()) < 3 else 2]: line.split()[1] for line in lines[1:]}

    assert {"✓", "✗"} == {*rows.values()}
    assert "✗" == rows["READY"]
    assert ("✓", "✓", "✓") == (rows["LOCK"], rows["ROLLING_BACK"], rows["ROLLED_BACK"])
    assert not {"SMOKE", "RECONNECT", "COMMIT"} & rows.keys()


def test_tree_is_drawn_where_there_are_only_letters() -> None:
    """A terminal that knows no Unicode is no reason to fail."""
    lines = _tree(
        Event(1.0, "done", Phase.GATE, "refuses…" * 20),
        Event(2.0, "progress", Phase.DRAIN, "30 left", {"left": 30, "total": 40}),
        encoding="ascii",
    )

    assert 13 == len(lines)
    assert any("> DRAIN         ###############----- 30 left" in line for line in lines)


def test_what_others_wrote_does_not_steer_the_terminal() -> None:
    """A message of a pod is shown, and not obeyed; a rule of several lines is one row in the tree."""
    hostile = Event(1.0, "failed", Phase.READY, "\x1b[2J\x07 rule:\n  verbs: [get]")
    lines: list[str] = []
    TextLines(lines.append).show(hostile)
    tree = _tree(hostile)

    assert lines[0].endswith("READY FAILED \\x1b[2J\\x07 rule:\n  verbs: [get]")
    assert any("✗ READY         \\x1b[2J\\x07 rule:   verbs: [get]" in line for line in tree)


def test_end_is_said_below_the_tree() -> None:
    """Where it is looked for."""
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with LiveTree(console, "web") as tree:
        tree.show(Event(1.0, "end", Phase.COMMIT, "web:2 serves"))

    assert isinstance(console.file, io.StringIO)
    assert "COMMIT END web:2 serves" == console.file.getvalue().splitlines()[-1].removeprefix("\x1b[?25h")


def test_question_comes_last_until_it_is_answered() -> None:
    """What the operator types stands below it, and is not drawn over."""
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    assert isinstance(console.file, io.StringIO)
    with LiveTree(console, "web") as tree:
        tree.show(Event(1.0, "phase", Phase.DRAIN, ""))
        tree.show(Event(1.0, "note", Phase.DRAIN, "paused: Enter goes on, b goes back, Ctrl-C leaves it as it is"))
        asked = console.file.getvalue()
        tree.show(Event(2.0, "failed", Phase.DRAIN, "the operator asked to go back"))
        answered = console.file.getvalue().removeprefix(asked)

    assert "paused: Enter goes on" in asked.splitlines()[-1]
    assert asked.endswith("\n")
    assert "DRAIN FAILED the operator asked to go back" in answered.splitlines()[0]
    assert "✗ DRAIN" in answered


def test_what_is_for_machines_is_shown_to_machines_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A count between two lines."""
    event = Event(2.0, "progress", Phase.READY, "", {"clients": 3})
    lines: list[str] = []
    TextLines(lines.append).show(event)
    tree = _tree(event)
    EventLines().show(event)

    assert [] == lines
    assert any("· READY" in line for line in tree)
    assert {"clients": 3} == json.loads(capsys.readouterr().out)["data"]


# What is on record.


def test_record_in_words() -> None:
    """Who, why, how far."""
    holder = Holder("ada@laptop/r1", 1_800_000_000.0, 60.0, "new release", _JOURNAL.to_json(), "")

    text = recorded("web", holder, 1_800_000_010.0, output="text")

    assert "web: locked by ada@laptop/r1 (new release), renewed 10 s ago" in text
    assert "web:1 -> web:2, outside of a window: urgent" in text
    assert "done  LOCK               1.5 s" in text
    assert "begun ANNOUNCE" in text
    drill = replace(holder, journal=replace(_JOURNAL, drill=True).to_json())
    assert "web:1 -> web:2, a drill, outside of a window" in recorded("web", drill, 1_800_000_010.0, output="text")
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
