"""The person at the terminal: what is shown, what is asked, and the commands of the person's own."""

from __future__ import annotations

import datetime as dt
import json
import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import click
from typing_extensions import override

from deploytool.clock import SystemClock
from deploytool.rollout import ports
from deploytool.rollout.errors import PhaseError
from deploytool.rollout.phases import FORWARD, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

    from deploytool.rollout.journal import Journal
    from deploytool.rollout.ports import Event

__all__ = ("CommandHooks", "EventLines", "LiveTree", "Terminal", "TextLines", "WaitingClock", "new_view")

_HOOK_SECONDS: Final = 30.0
_SHOWN: Final = 300


class WaitingClock(ports.Clock):
    """The system's clocks; waiting ends when the operator interrupts."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self.interrupted = threading.Event()

    @override
    def now(self) -> float:
        return self._system.now()

    @override
    def wall(self) -> float:
        return self._system.wall()

    @override
    def pause(self, seconds: float) -> None:
        if self.interrupted.wait(seconds):
            self.interrupted.clear()


class Terminal(ports.Operator):
    """Ctrl-C, and the keys while it is paused; as a context it takes the signal and gives it back."""

    def __init__(self, clock: WaitingClock) -> None:
        self._clock = clock
        self._count = 0
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        self._clock.interrupted.set()

    @property
    @override
    def interrupts(self) -> int:
        return self._count

    @override
    def answer(self) -> str:
        if not sys.stdin.isatty():
            # Nobody can answer: a pause without end would hold the lock.
            return "leave"
        if not select.select([sys.stdin], [], [], 0.0)[0]:
            return ""
        return "back" if sys.stdin.readline().strip().lower() == "b" else "go on"


class CommandHooks(ports.Hooks):
    """Commands by phase and moment.

    Args:
        commands: ``before-GATE`` and the like, each with what the shell is to run.
        keep_going: Called while a command runs.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]]) -> None:
        self._commands = commands

    @override
    def run(self, phase: Phase, moment: str, journal: Journal) -> None:
        for command in self._commands.get(f"{moment}-{phase.value}", ()):
            self._one(command, phase, moment, journal)

    def _one(self, command: str, phase: Phase, moment: str, journal: Journal) -> None:
        state = {"phase": phase.value, "moment": moment, "journal": json.loads(journal.to_json())}
        environ = {**os.environ, "DEPLOYTOOL_PHASE": phase.value, "DEPLOYTOOL_MOMENT": moment}
        try:
            done = subprocess.run(  # noqa: S602 - the operator's own command, in the operator's own shell
                command,
                shell=True,
                input=json.dumps(state),
                env=environ,
                capture_output=True,
                text=True,
                timeout=_HOOK_SECONDS,
                check=False,
                start_new_session=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired as error:
            raise PhaseError(
                f"the hook {moment} {phase.value} took more than {_HOOK_SECONDS:g} s: {command}"
            ) from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[:_SHOWN]
            raise PhaseError(f"the hook {moment} {phase.value} ended with {done.returncode}: {command}: {said}")


class TextLines(ports.View):
    """One line a change, with the time; progress only when its text changes."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or (lambda line: click.echo(line, err=True))
        self._last = ""

    @override
    def show(self, event: Event) -> None:
        text = line_of(event)
        if text == self._last or not text:
            return
        self._last = text
        at = dt.datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S")
        self._write(f"{at} {text}")


def line_of(event: Event) -> str:
    """Return an event in one line; empty when there is nothing to say."""
    words = {"phase": "...", "done": "done", "failed": "FAILED", "end": "END"}
    word = words.get(event.kind, "")
    return " ".join(part for part in (event.phase.value, word, event.text) if part)


class EventLines(ports.View):
    """Every event as a line of JSON, for machines."""

    @override
    def show(self, event: Event) -> None:
        whole = {"at": event.at, "kind": event.kind, "phase": event.phase.value, "text": event.text}
        click.echo(json.dumps({**whole, "data": dict(event.data)}))


@dataclass(slots=True)
class _Row:
    state: str = "pending"
    text: str = ""


@dataclass(slots=True)
class LiveTree(ports.View):
    """Phases as a tree that is drawn anew at every change.

    Attributes:
        console: Of rich.
        rows: What is known of each phase, in the order in which it is shown.
    """

    console: Any
    title: str
    rows: dict[Phase, _Row] = field(default_factory=lambda: {phase: _Row() for phase in FORWARD})
    _live: Any = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=self.console, auto_refresh=False)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @override
    def show(self, event: Event) -> None:
        row = self.rows.setdefault(event.phase, _Row())
        match event.kind:
            case "phase":
                row.state, row.text = "running", event.text
            case "done":
                row.state, row.text = "done", event.text
            case "failed":
                row.state, row.text = "failed", event.text
            case "progress":
                row.text = f"{_bar(event.data)}{event.text}"
            case _:
                self.console.print(line_of(event), markup=False, highlight=False)
        if self._live is not None:
            self._live.update(self.tree(), refresh=True)

    def tree(self) -> Any:  # noqa: ANN401 - of rich
        """Return it as it is now."""
        from rich.text import Text
        from rich.tree import Tree

        marks = {"pending": ("·", "dim"), "running": ("▶", "cyan"), "done": ("✓", "green"), "failed": ("✗", "red")}
        tree = Tree(Text(self.title))
        for phase, row in self.rows.items():
            mark, style = marks[row.state]
            tree.add(Text.assemble((f"{mark} {phase.value}", style), f"  {row.text}"))
        return tree


def _bar(data: Mapping[str, object]) -> str:
    """Draw the count of a drain as it falls, or of clients coming back as it rises."""
    total, value = data.get("total"), data.get("left", data.get("back"))
    if not isinstance(total, int) or not isinstance(value, int) or total <= 0:
        return ""
    filled = min(20, round(20 * value / total))
    return f"{'█' * filled}{'░' * (20 - filled)} "


def new_view(output: str, title: str) -> ports.View:
    """Return what suits: JSON where it is asked for, a tree on a terminal, lines elsewhere."""
    if output == "json":
        return EventLines()
    if sys.stderr.isatty() and not os.environ.get("CI"):
        from rich.console import Console

        return LiveTree(Console(stderr=True), title)
    return TextLines()
