"""The person at the terminal: what is shown, what is asked, and the commands of the person's own."""

from __future__ import annotations

import datetime as dt
import json
import os
import select
import signal
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import click
from typing_extensions import override

from deploytool.child import ChildTimeoutError, run_child
from deploytool.clock import Clock, SystemClock
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
        clock: Counts the seconds that each may take.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], clock: Clock) -> None:
        self._commands = commands
        self._clock = clock

    @override
    def run(self, phase: Phase, moment: str, journal: Journal, pause: Callable[[float], None]) -> None:
        for command in self._commands.get(f"{moment}-{phase.value}", ()):
            self._one(command, phase, moment, journal, pause)

    def _one(self, command: str, phase: Phase, moment: str, journal: Journal, pause: Callable[[float], None]) -> None:
        state = {"phase": phase.value, "moment": moment, "journal": json.loads(journal.to_json())}
        environ = {**os.environ, "DEPLOYTOOL_PHASE": phase.value, "DEPLOYTOOL_MOMENT": moment}
        try:
            # The operator's own command, in a shell as the operator's pages show it.
            ended = run_child(
                ["/bin/sh", "-c", command],
                text=json.dumps(state),
                environ=environ,
                seconds=_HOOK_SECONDS,
                pause=pause,
                clock=self._clock,
            )
        except ChildTimeoutError as error:
            raise PhaseError(
                f"the hook {moment} {phase.value} took more than {_HOOK_SECONDS:g} s: {command}"
            ) from error
        except OSError as error:
            raise PhaseError(f"the hook {moment} {phase.value} cannot be run: {error}") from error
        if ended.code:
            said = " ".join((ended.complained or ended.said).split())[:_SHOWN]
            raise PhaseError(f"the hook {moment} {phase.value} ended with {ended.code}: {command}: {said}")


class TextLines(ports.View):
    """One line a change, with the time; progress only when its text changes."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or (lambda line: click.echo(line, err=True))
        self._last = ""

    @override
    def show(self, event: Event) -> None:
        text = line_of(event)
        if text == self._last or not text or _is_for_machines(event):
            return
        self._last = text
        self._write(f"{_clock(event)} {text}")


def _clock(event: Event) -> str:
    return dt.datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S")


def _is_for_machines(event: Event) -> bool:
    return event.kind == "progress" and not event.text


def line_of(event: Event) -> str:
    """Return an event in one line; empty when there is nothing to say."""
    words = {"phase": "...", "done": "done", "failed": "FAILED", "end": "END"}
    word = words.get(event.kind, "")
    return " ".join(part for part in (event.phase.value, word, _printable(event.text)) if part)


def _printable(text: str) -> str:
    """Return the text with what could steer a terminal made visible; some of it comes from other people."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


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
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class LiveTree(ports.View):
    """Phases as a tree that is drawn anew at every change; one line each, however narrow the terminal is.

    Attributes:
        console: Of rich.
        rows: What is known of each phase, in the order in which it is shown.
    """

    console: Any
    title: str
    rows: dict[Phase, _Row] = field(default_factory=lambda: {phase: _Row() for phase in FORWARD})
    _live: Any = None
    _is_drawing: bool = False
    _end: str = ""

    def __enter__(self) -> Self:
        self._is_drawing = True
        self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_drawing = False
        self._stop()
        if self._end:
            self.console.print(self._end, markup=False, highlight=False)

    @override
    def show(self, event: Event) -> None:
        if _is_for_machines(event):
            return
        match event.kind:
            case "phase":
                self._begin(event.phase)
                self._set(event, "running")
            case "done":
                self._set(event, "done")
            case "failed":
                # In the tree there may not be room for all of it.
                self._say(event)
                self._set(event, "failed")
            case "progress":
                self._set(event, "running")
            case "end":
                self._end = line_of(event)
            case _:
                self._say(event)
        if self._is_drawing and not event.text.startswith(_ASKS):
            self._draw()

    def _draw(self) -> None:
        from rich.live import Live

        if self._live is None:
            self._live = Live(self.tree(), console=self.console, auto_refresh=False)
            self._live.start(refresh=True)
        else:
            self._live.update(self.tree(), refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, event: Event) -> None:
        if event.text.startswith(_ASKS):
            # What is typed now would be drawn over: the question comes last, until something happens again.
            self._stop()
        self.console.print(f"{_clock(event)} {line_of(event)}", markup=False, highlight=False)

    def _set(self, event: Event, state: str) -> None:
        self.rows[event.phase] = _Row(state, event.text, event.data)
        if event.phase is Phase.ROLLED_BACK and Phase.ROLLING_BACK in self.rows:
            # One way back, of which the end alone is told.
            self.rows[Phase.ROLLING_BACK].state = "done"
            self.rows[Phase.ROLLING_BACK].data = {}

    def _begin(self, phase: Phase) -> None:
        """Take note that a phase begins: what comes before it is over, and what will not come is not shown."""
        if phase not in FORWARD:
            self.rows = {one: row for one, row in self.rows.items() if row.state != "pending"}
            return
        for one in FORWARD[: FORWARD.index(phase)]:
            if self.rows[one].state == "pending":
                self.rows[one].state = "done"

    def tree(self) -> Any:  # noqa: ANN401 - of rich
        """Return it as it is now."""
        from rich.text import Text
        from rich.tree import Tree

        encoding = self.console.encoding
        is_unicode = "utf" in encoding.lower()
        marks, blocks = (_MARKS, _BLOCKS) if is_unicode else (_PLAIN_MARKS, "#-")
        width = _BAR if self.console.width >= _WIDE else _BAR // 2
        fitting: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis" if is_unicode else "crop"}
        tree = Tree(Text(self.title, **fitting))
        for phase, row in self._shown():
            text = (
                f"{_bar(row.data, width, blocks)}{_printable(row.text)}".replace("\n", " ")
                .encode(encoding, "replace")
                .decode(encoding)
            )
            label = (f"{marks[row.state]} {phase.value:{_LONGEST if text else 0}}", _STYLES[row.state])
            tree.add(Text.assemble(label, f"  {text}" if text else "", **fitting))
        return tree

    def _shown(self) -> list[tuple[Phase, _Row]]:
        """Return the rows for which there is room: what is still to come is left out first, then what is long over."""
        rows, room = list(self.rows.items()), max(self.console.height - 2, 1)
        while len(rows) > room and len(rows) > 1 and rows[-1][1].state == "pending":
            rows.pop()
        return rows[-room:]


_ASKS: Final = "paused: "
_BAR: Final = 20
_WIDE: Final = 80
_LONGEST: Final = max(len(one.value) for one in FORWARD)
_BLOCKS: Final = "█░"
_MARKS: Final = {"pending": "·", "running": "▶", "done": "✓", "failed": "✗"}
_PLAIN_MARKS: Final = {"pending": ".", "running": ">", "done": "+", "failed": "x"}
_STYLES: Final = {"pending": "dim", "running": "cyan", "done": "green", "failed": "red"}


def _bar(data: Mapping[str, object], width: int, blocks: str) -> str:
    """Draw the count of a drain as it falls, or of clients coming back as it rises."""
    total, value = data.get("total"), data.get("left", data.get("back"))
    if not isinstance(total, int) or not isinstance(value, int) or total <= 0:
        return ""
    filled = min(width, round(width * value / total))
    return f"{blocks[0] * filled}{blocks[1] * (width - filled)} "


def new_view(output: str, title: str) -> ports.View:
    """Return what suits: JSON where it is asked for, a tree on a terminal, lines elsewhere."""
    if output == "json":
        return EventLines()
    if sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb":
        from rich.console import Console

        return LiveTree(Console(stderr=True), title)
    return TextLines()
