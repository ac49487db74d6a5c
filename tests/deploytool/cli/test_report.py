"""The report of a rollout: to the letter, whatever happened, and whatever anybody wrote.

``python -m tests.deploytool.cli.test_report`` writes the golden again.
"""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from deploytool.cli import cli
from deploytool.cli.rolling.curve import Gap, Look, gap_text, gaps_of, looks_of, seconds_text
from deploytool.cli.rolling.report import render, write
from deploytool.cli.rolling.story import Recorder, Story
from deploytool.cli.rolling.wiring import Bench
from deploytool.planning.window import Need
from deploytool.rollout.errors import LeftError, RefusedError, TransientError
from deploytool.rollout.journal import Journal
from deploytool.rollout.phases import Phase
from deploytool.rollout.plan import Ending, Plan
from deploytool.rollout.ports import Event, View
from deploytool.rollout.runner import Runner
from tests.deploytool.rollout.world import NEW, OLD, Fault, Process, World

GOLDEN = Path(__file__).parent / "goldens" / "rollout-report.html"
_AT = 1_800_000_000.0
_BERLIN = ZoneInfo("Europe/Berlin")
_HOSTILE = '</style></p><script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31m\u202e\ud800 " onload="x'


class _Nobody(View):
    @override
    def show(self, event: Event) -> None:
        del event


def _journal() -> Journal:
    """A rollout that waits for its window, is resumed, and goes back."""
    steps = (
        (Phase.LOCK, 0.0, 0.1, ""),
        (Phase.ANNOUNCE, 0.1, 0.3, "maintenance"),
        (Phase.AWAIT_WINDOW, 0.3, 7200.0, "window nights is open"),
        (Phase.RECHECK, 7200.0, 7200.2, "40 clients"),
        (Phase.GATE, 7200.2, 7201.0, "new WebSockets are refused, open ones live"),
        (Phase.DRAIN, 7201.0, 7205.0, "40 clients in 4.0 s"),
        (Phase.SWITCH, 7205.0, 7206.0, "helm upgrade of live from revision 1"),
        (Phase.READY, 7206.0, None, ""),
        (Phase.ROLLING_BACK, 7215.0, 7236.0, "40 of 40 clients are back after 10.0 s"),
        (Phase.ROLLED_BACK, 7236.0, 7236.1, "pod web-1: CrashLoopBackOff"),
    )
    journal = Journal("r1", "web", "ada@laptop", "release 1.4", OLD, NEW, failure="pod web-1: CrashLoopBackOff")
    journal = replace(journal, baseline=40)
    for phase, begun, done, note in steps:
        journal = journal.begin(phase, _AT + begun)
        if done is not None:
            journal = journal.finish(_AT + done, note)
    return journal


def _counts(phase: Phase, name: str, *looks: tuple[float, int]) -> list[Event]:
    return [Event(_AT + at, "progress", phase, f"{n} clients", {name: n, "total": 40}) for at, n in looks]


def story(**fields: Any) -> Story:  # noqa: ANN401 - any field
    """Return what became of it."""
    events = [
        Event(_AT - 3.0, "phase", Phase.PREFLIGHT, ""),
        Event(_AT - 2.0, "note", Phase.PREFLIGHT, "warning: web:2 is named by a tag, which can move"),
        Event(_AT - 0.5, "done", Phase.PREFLIGHT, "3 changes, from web:1 to web:2"),
        *_counts(Phase.RECHECK, "clients", (7200.1, 40)),
        *_counts(Phase.DRAIN, "left", (7201.0, 40), (7202.0, 31), (7203.0, 18), (7204.0, 4), (7205.0, 0)),
        *_counts(Phase.READY, "clients", (7207.0, 0), (7208.5, 0)),
        Event(_AT + 7214.0, "note", Phase.READY, "event: web-1: BackOff: Back-off restarting failed container"),
        Event(_AT + 7214.0, "note", Phase.READY, "log: web-1: Traceback (most recent call last):"),
        Event(_AT + 7214.5, "failed", Phase.READY, "pod web-1: CrashLoopBackOff"),
        *_counts(Phase.ROLLING_BACK, "clients", (7221.0, 0), (7222.0, 0)),
        *_counts(Phase.ROLLING_BACK, "back", (7223.0, 12), (7224.0, 30), (7225.0, 40), (7236.0, 40)),
        Event(_AT + 7236.1, "end", Phase.ROLLED_BACK, "rolled back to web:1: pod web-1: CrashLoopBackOff"),
    ]
    ending = Ending(Phase.ROLLED_BACK, 8, "rolled back to web:1: pod web-1: CrashLoopBackOff")
    whole: dict[str, Any] = {
        "command": "rollout run",
        "workload": "web",
        "namespace": "realtime",
        "journal": _journal(),
        "events": events,
        "ending": ending,
        "problem": "",
        "exit_code": 8,
        "has_begun": True,
        "began_at": _AT - 3.0,
        "ended_at": _AT + 7236.2,
        "zone": _BERLIN,
        "version": "1.2.3",
    }
    return Story(**{**whole, **fields})


def test_golden() -> None:
    """To the letter."""
    assert GOLDEN.read_text(encoding="utf-8") == render(story())


class _Seen(HTMLParser):
    """What a browser would make of a page.

    Attributes:
        tags: That were opened, with their attributes.
        text: Of everything but the style.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @override
    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    @override
    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def test_page_is_whole_and_needs_nothing_else() -> None:
    """Every tag is closed; no script, and nothing that is fetched from anywhere."""
    page = render(story())
    seen = _Seen(page)

    assert [] == seen.open
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in seen.tags}
    assert not {"src", "href"} & {name for _, attributes in seen.tags for name in attributes}
    assert not re.search(r"url\(|@import|https?:", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_it_says_who_why_when_and_what_now() -> None:
    """In local time and in UTC."""
    text = _Seen(render(story())).text

    for said in (
        "Rolled back",
        "ada@laptop",
        "release 1.4",
        "Fri 2027-01-15 08:59:57 CET (2027-01-15 07:59:57 UTC)",
        "Mend the new one",
        "18.0 s \N{PLUS-MINUS SIGN} 1.0 s",
        "at least 17.0 s and at most 19.0 s",
        "a client was seen last at 11:00:04.0, none from 11:00:05.0 to 11:00:22.0, and one again at 11:00:23.0",
        "drawn shorter",
        "Traceback (most recent call last):",
        "deploytool 1.2.3",
    ):
        assert said in text, said


def test_what_others_wrote_does_not_break_out() -> None:
    """Log lines, reasons, images, names: each is shown as it is, and none is anything else."""
    plain = story()
    hostile = replace(
        plain.journal,
        actor=_HOSTILE, reason=_HOSTILE, old=_HOSTILE, new=_HOSTILE, override=_HOSTILE, failure=_HOSTILE,
        rollout=_HOSTILE, steps=tuple(replace(one, note=_HOSTILE) for one in plain.journal.steps),
    )  # fmt: skip
    events = [replace(one, text=f"log: {_HOSTILE}" if one.kind == "note" else _HOSTILE) for one in plain.events]
    ending = Ending(Phase.NEEDS_OPERATOR, 9, "x", (_HOSTILE,))
    page = render(
        story(journal=hostile, events=events, ending=ending, workload=_HOSTILE, namespace=_HOSTILE, version=_HOSTILE)
    )
    seen = _Seen(page)

    page.encode()
    assert [] == seen.open
    assert not {"script", "img"} & {tag for tag, _ in seen.tags}
    assert {tag for tag, _ in seen.tags} <= {tag for tag, _ in _Seen(render(plain)).tags} | {"pre", "section", "p"}
    assert not {"onerror", "onload"} & {name for _, attributes in seen.tags for name in attributes}
    assert not {"\x1b", "\u202e", "\ud800"} & {*page}
    assert r"\x1b[31m\u202e\ud800" in seen.text
    assert 10 < seen.text.count("<script>alert(1)</script>")


_JUST = Journal("r1", "web", "ada@laptop", "", OLD, NEW)
_LOCKED = _JUST.begin(Phase.LOCK, _AT).finish(_AT)
_GONE = replace(_LOCKED, failure="the drain is over", new="", baseline=0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ending": Ending(Phase.COMMIT, 0, "web:2 serves"), "exit_code": 0}, ("Rolled out", "--image web:1")),
        ({"ending": Ending(Phase.CANCELLED, 0, "cancelled"), "exit_code": 0}, ("Cancelled", "Nothing is left")),
        ({"ending": Ending(Phase.ROLLED_BACK, 0, "back"), "exit_code": 0}, ("Gone back, as was asked",)),
        ({"ending": Ending(Phase.NEEDS_OPERATOR, 9, "stuck", ("kubectl x",)), "exit_code": 9},
         ("Needs a person", "kubectl x", "CrashLoopBackOff")),
        ({"ending": Ending(Phase.DRAIN, 130, "interrupted", ("deploytool rollout resume",)), "exit_code": 130},
         ("Interrupted", "deploytool rollout resume")),
        ({"ending": Ending(Phase.DRAIN, 6, "overtaken"), "exit_code": 6}, ("The lock was lost",)),
        ({"ending": None, "exit_code": 3, "problem": "these checks failed", "has_begun": False, "journal": _JUST},
         ("Not begun", "these checks failed", "Nothing was changed")),
        ({"ending": None, "exit_code": 7, "problem": "no window is open", "has_begun": False, "journal": _JUST},
         ("Not begun", "deploytool window next")),
        ({"ending": None, "exit_code": 6, "problem": "held by eve", "has_begun": False, "journal": _JUST},
         ("Not begun", "deploytool rollout status --namespace realtime --workload web")),
        ({"ending": None, "exit_code": 130, "problem": "interrupted", "has_begun": False, "journal": _JUST},
         ("Not begun", "Nothing was changed.")),
        ({"ending": None, "exit_code": 5, "problem": "no answer", "journal": _LOCKED}, ("Broke off", "resume")),
        ({"ending": None, "exit_code": 1, "problem": "KeyError", "has_begun": False, "journal": _JUST}, ("Broke off",)),
        ({"ending": Ending(Phase.ROLLED_BACK, 0, "back"), "exit_code": 0, "journal": _GONE, "command": "drain"},
         ("Drained, and open again", "a drain alone")),
        ({"events": [], "journal": _LOCKED}, ("Rolled back",)),
    ],
)  # fmt: skip
def test_every_ending_is_told(fields: dict[str, Any], said: tuple[str, ...]) -> None:
    """In a few words, with what comes next."""
    seen = _Seen(render(story(**fields)))

    assert [] == seen.open
    for one in said:
        assert one in seen.text


# The curve.


def test_counts_are_read_from_what_was_shown() -> None:
    """A count that is only repeated, because nobody answered, is none."""
    events = [
        Event(1.0, "progress", Phase.DRAIN, "", {"left": 3, "total": 3}),
        Event(2.0, "progress", Phase.READY, "0 ready", {}),
        Event(3.0, "progress", Phase.READY, "", {"clients": 0}),
        Event(4.0, "progress", Phase.RECONNECT, "", {"back": 0, "is_seen": False}),
        Event(5.0, "progress", Phase.RECONNECT, "", {"back": 2, "is_seen": True}),
        Event(6.0, "note", Phase.RECONNECT, "", {"back": 9}),
        Event(7.0, "progress", Phase.RECONNECT, "", {"back": True}),
    ]

    assert (Look(1.0, 3), Look(3.0, 0), Look(5.0, 2)) == looks_of(events)
    assert (Gap(1.0, 3.0, 3.0, 5.0),) == gaps_of(looks_of(events))


def test_count_that_nobody_answered_is_no_look() -> None:
    """What was counted before is repeated for people, and not drawn."""
    first = Process(World())
    begun: list[int] = []
    first.on_show = lambda event: begun.append(len(first.calls)) if event.phase is Phase.RECONNECT else None
    plan = Plan(override="a test", need=Need(60.0, 60.0))
    Runner(first.ports, plan, _JUST).run()
    process = Process(World(), Fault(first.calls.index("status", begun[0]), lambda: TransientError("timeout")))

    assert Phase.COMMIT is Runner(process.ports, plan, _JUST).run().phase

    back = [one for one in process.events if one.kind == "progress" and "back" in one.data]
    assert 1 == [one.data["is_seen"] for one in back].count(False)
    assert len(back) - 1 == len(looks_of(back))


def test_gap_without_an_end_says_so() -> None:
    """Nobody came back while somebody looked."""
    (gap,) = gaps_of([Look(1.0, 3), Look(2.0, 0), Look(9.0, 0)])

    assert gap.most_seconds is None
    assert "7.0 s or more" == gap_text(gap)
    assert () == gaps_of([Look(1.0, 0), Look(2.0, 3)])


@given(
    st.floats(0.0, 100.0),
    st.floats(0.0, 100.0),
    st.lists(st.floats(0.01, 5.0), min_size=1, max_size=200),
)
def test_gap_is_never_outside_of_what_is_said(closed_at: float, away: float, pauses: list[float]) -> None:
    """Whenever somebody looked."""
    at, looks = 0.0, []
    for pause in pauses:
        looks.append(Look(at, 0 if closed_at <= at < closed_at + away else 5))
        at += pause

    for gap in gaps_of(looks):
        assert gap.least_seconds <= away + 1e-6
        assert gap.most_seconds is None or away <= gap.most_seconds + 1e-6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0.0 s"), (3.44, "3.4 s"), (9.96, "10.0 s"), (42.0, "42 s"), (80.0, "1 min 20 s"), (7500.0, "2 h 5 min")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    """With as much as matters."""
    assert text == seconds_text(seconds)


# When it is written.


def _bench(process: Process) -> tuple[Bench, Recorder]:
    recorder = Recorder(process.ports.view)
    release: Any = SimpleNamespace(name="web", namespace="realtime")
    nothing: Any = None
    return Bench(
        release, OLD, nothing, nothing, replace(process.ports, view=recorder), None, "s", recorder, []
    ), recorder


@pytest.mark.parametrize(
    ("behaviour", "headline", "seconds"),
    [("good", "Rolled out", 4.0), ("crashes", "Rolled back", 4.0), ("refuses", "Rolled back", 68.0)],
)
def test_report_is_written_whatever_becomes_of_it(
    behaviour: str, headline: str, seconds: float, tmp_path: Path
) -> None:
    """With the curve of what was seen, which is also what goes on record."""
    bench, recorder = _bench(Process(World(behaviour=behaviour)))
    runner = Runner(bench.ports, Plan(override="a test", need=Need(60.0, 60.0)), _JUST)
    path = tmp_path / "report.html"

    bench.carry_out("rollout run", runner, runner.run, report=str(path), zone=_BERLIN)

    seen = _Seen(path.read_text(encoding="utf-8"))
    assert headline in seen.text
    assert "a test" in seen.text
    assert [f"report: {path}"] == bench.last_words
    assert [path] == [*tmp_path.iterdir()]
    least, most = recorder.gaps()[0]
    assert 0.0 < least <= seconds <= most < seconds + 3.0


@pytest.mark.parametrize(
    ("error", "headline"),
    [(RefusedError("web runs web:2 already"), "Not begun"), (LeftError("interrupted"), "Not begun"),
     (KeyError("oops"), "Broke off")],
)  # fmt: skip
def test_report_is_written_when_it_does_not_begin(error: Exception, headline: str, tmp_path: Path) -> None:
    """And the error goes on to whoever prints it."""
    bench, _ = _bench(Process(World()))
    path = tmp_path / "report.html"

    def fail() -> Ending:
        raise error

    with pytest.raises(type(error)):
        bench.carry_out("drain", Runner(bench.ports, Plan(), _JUST), fail, report=str(path), zone=None)

    text = _Seen(path.read_text(encoding="utf-8")).text
    assert headline in text
    assert str(error) in text


def test_report_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    """The directory went away meanwhile: told, and the rollout is what it is."""
    bench, _ = _bench(Process(World()))
    ending = Ending(Phase.COMMIT, 0, "done")
    path = tmp_path / "gone" / "report.html"

    found = bench.carry_out("drain", Runner(bench.ports, Plan(), _JUST), lambda: ending, report=str(path), zone=None)

    assert ending is found
    (said,) = bench.last_words
    assert f"the report {path} was not written" in said


def test_report_replaces_whole(tmp_path: Path) -> None:
    """Or leaves what was there, and nothing beside it."""
    path = tmp_path / "report.html"
    write(path, "first")
    write(path, "second")

    with pytest.raises(UnicodeEncodeError):
        write(path, "\ud800")

    assert "second" == path.read_text()
    assert [path] == [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", ["run", "resume", "abort", "drain"])
@pytest.mark.parametrize("name", ["nowhere/report.html", "file/report.html", ".", "/dev/null"])
def test_place_of_the_report_is_tried_first(command: str, name: str, tmp_path: Path) -> None:
    """Before a cluster is asked for anything."""
    (tmp_path / "file").touch()
    words = ("drain",) if command == "drain" else ("rollout", command)
    image = ("--image", NEW) if command == "run" else ()
    where = str(tmp_path / name)

    done = CliRunner().invoke(cli, [*words, *image, "--report", where], standalone_mode=False)

    assert 2 == getattr(done.exception, "exit_code", 0)
    said = done.exception.format_message()  # type: ignore[union-attr]  # of click
    assert str(Path(where).parent) in said


def test_recorder_shows_and_bounds_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting for days does not fill the memory."""
    monkeypatch.setattr("deploytool.cli.rolling.story._MOST_EVENTS", 3)
    recorder = Recorder(_Nobody())
    for number in range(5):
        recorder.show(Event(float(number), "progress", Phase.READY, "", {"clients": number}))
    recorder.show(Event(9.0, "end", Phase.COMMIT, "done"))

    assert ["progress"] * 3 + ["end"] == [one.kind for one in recorder.events]


if __name__ == "__main__":
    GOLDEN.write_text(render(story()), encoding="utf-8")
