"""A rollout as one HTML file: what became of it, when, why, and what a person can do now.

The file needs nothing else: no script, no font, no host. Everything that others wrote is escaped, and the file itself
tells browsers to run nothing.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from deploytool.cli.rolling import curve
from deploytool.cli.rolling.story import Tone, advice, headline_of
from deploytool.cli.rolling.stylesheet import STYLE
from deploytool.rollout.phases import ENDINGS, FORWARD, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from deploytool.cli.rolling.story import Story
    from deploytool.rollout.journal import Step
    from deploytool.rollout.ports import Event

__all__ = ("render", "write")

_MOST_LINES: Final = 1000
_LEAST_BAR: Final = 0.4
_WAITS: Final = frozenset({Phase.AWAIT_WINDOW})
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        # It is there only when something went wrong.
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def render(story: Story) -> str:
    """Return the report."""
    tone, headline = headline_of(story)
    title = f"{headline}: {story.workload}"
    what = f"deploytool {story.command} \N{MIDDLE DOT} {story.workload} in {story.namespace}"
    written = (
        f"Written by deploytool {story.version} at {_when(story.ended_at, story.zone)}. Times are those of the machine "
        "that ran it."
    )
    parts = (
        *_head(title),
        f'<body class="{tone.value}"><main><header>',
        f'<p class="what">{_text(what)}</p>',
        f'<h1><span class="badge">{_SIGNS[tone]}</span> {_text(headline)}</h1>',
        f'<p class="ending">{_text(story.text)}</p></header>',
        *_failure(story),
        *_what_now(story),
        *_facts(story),
        *_connections(story),
        *_phases(story),
        *_told(story),
        f"<footer>{_text(written)}</footer>",
        "</main></body></html>",
    )
    return "\n".join(parts) + "\n"


_SIGNS: Final = {
    Tone.GOOD: "\N{CHECK MARK}",
    Tone.BACK: "\N{ANTICLOCKWISE OPEN CIRCLE ARROW}",
    Tone.BAD: "\N{WARNING SIGN}",
    Tone.CALM: "\N{BULLET}",
}


def _head(title: str) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
    yield f"<title>{_text(title)}</title>\n<style>{STYLE}</style></head>"


def _failure(story: Story) -> Iterator[str]:
    failure, ending = story.journal.failure, story.ending
    if ending is None or not story.exit_code or not failure or failure in ending.text:
        return
    yield f'<section class="failure"><h2>Why</h2><p class="said">{_text(failure)}</p></section>'


def _what_now(story: Story) -> Iterator[str]:
    words, commands = advice(story)
    yield f'<section class="now"><h2>What a person can do now</h2><p>{_text(words)}</p>'
    if commands:
        yield f'<pre class="commands">{_text(chr(10).join(commands))}</pre>'
    yield "</section>"


def _facts(story: Story) -> Iterator[str]:
    journal = story.journal
    begun = min(journal.steps[0].begun_at, story.began_at) if journal.steps else story.began_at
    ended = _end_of(story)
    facts = [
        ("From", f"<code>{_text(journal.old)}</code>"),
        ("To", f"<code>{_text(journal.new)}</code>" if journal.new else "the same: a drain alone"),
        ("Who", _text(journal.actor)),
        ("Why", _text(journal.reason) if journal.reason else '<span class="none">no reason was given</span>'),
        ("Began", _text(_when(begun, story.zone))),
        ("Ended", f"{_text(_when(ended, story.zone))}, after {curve.seconds_text(ended - begun)}"),
        *([("Nobody connected", _gap(story))] if journal.baseline is not None else []),
        *([("Outside of a window", _text(journal.override))] if journal.override else []),
        *([("A drill", "it was to go back, whatever came of it")] if journal.drill else []),
        ("Rollout", f"<code>{_text(journal.rollout)}</code>, exit code {story.exit_code}"),
    ]
    yield '<section><h2>Which, who, when</h2><dl class="facts">'
    for name, value in facts:
        yield f"<div><dt>{name}</dt><dd>{value}</dd></div>"
    yield "</dl></section>"


def _gap(story: Story) -> str:
    found = curve.gaps_of(curve.looks_of(story.events))
    if not found:
        return "at no time that was seen"
    return "; then ".join(curve.gap_text(one) for one in found)


def _end_of(story: Story) -> float:
    last = story.journal.last
    is_over = last is not None and last.done_at is not None and (last.phase in ENDINGS or last.phase is Phase.COMMIT)
    return last.done_at if is_over and last is not None and last.done_at is not None else story.ended_at


def _connections(story: Story) -> Iterator[str]:
    looks = curve.looks_of(story.events)
    if story.journal.baseline is None or not looks:
        return
    gaps = curve.gaps_of(looks)
    bands = [curve.Band(one.name, one.begun_at, one.ended_at) for one in _rows(story) if one.name != "PREFLIGHT"]
    yield "<section><h2>Connected clients</h2>"
    yield '<div class="wide">'
    yield curve.draw(looks, bands, gaps, story.journal.baseline, _clock(looks[0].at, story.zone))
    yield "</div>"
    if not gaps:
        yield "<p>At no look was nobody connected.</p></section>"
        return
    yield "<p>From the last close to the first accept:</p><ul>"
    for gap in gaps:
        yield f"<li>{_spelled(gap, story.zone)}</li>"
    yield (
        '</ul><p class="precision">What happened between two looks is not known closer, and a client that waits before '
        "it tries again comes later than it could.</p></section>"
    )


def _spelled(gap: curve.Gap, zone: dt.tzinfo | None) -> str:
    """Say how long a gap was, how well that is known, and from what."""
    last, empty = _tenths(gap.last_seen_at, zone), _tenths(gap.empty_from, zone)
    text = f"<strong>{curve.gap_text(gap)}</strong>"
    if gap.seen_again_at is None or gap.most_seconds is None:
        return f"{text}: a client was seen last at {last}, none at {empty}, and none again before this ended."
    return (
        f"{text}, at least {gap.least_seconds:.1f} s and at most {gap.most_seconds:.1f} s: a client was seen last at "
        f"{last}, none from {empty} to {_tenths(gap.empty_until, zone)}, and one again at "
        f"{_tenths(gap.seen_again_at, zone)}."
    )


# Phases.


@dataclass(frozen=True, slots=True)
class _Row:
    """A phase as it is drawn.

    Attributes:
        state: ``done``, ``failed``, ``left`` or ``went`` for one whose end is not known.
    """

    name: str
    begun_at: float
    ended_at: float
    state: str
    note: str
    is_wait: bool = False


def _rows(story: Story) -> list[_Row]:
    steps = story.journal.steps
    found = _preflight(story)
    for index, step in enumerate(steps):
        after = steps[index + 1] if index + 1 < len(steps) else None
        ended = step.done_at
        if ended is None:
            ended = story.ended_at if after is None else after.begun_at
        ended = max(ended, step.begun_at)
        state = _state(step, after)
        note = story.journal.failure if state == "failed" else step.note
        if step.phase in ENDINGS and note == story.journal.failure:
            # It is said above all of this, and at the phase that failed.
            note = ""
        found.append(_Row(step.phase.value, step.begun_at, ended, state, note, step.phase in _WAITS))
    return found


def _state(step: Step, after: Step | None) -> str:
    if step.done_at is not None:
        return "done"
    if after is None:
        return "left"
    is_forward = step.phase in FORWARD
    return "failed" if is_forward and after.phase not in FORWARD else "went"


def _preflight(story: Story) -> list[_Row]:
    """Return the phase that is in no journal, because nothing is locked yet."""
    own = [one for one in story.events if one.phase is Phase.PREFLIGHT]
    if not own:
        return []
    done = next((one for one in own if one.kind == "done"), None)
    first = story.journal.steps[0].begun_at if story.journal.steps else story.ended_at
    ended = max(own[0].at, done.at if done is not None else min(first, story.ended_at))
    state = "done" if done is not None else "failed" if story.ending is None else "left"
    return [_Row("PREFLIGHT", own[0].at, ended, state, done.text if done is not None else story.problem)]


_STATES: Final = {
    "done": "\N{CHECK MARK}",
    "failed": "\N{BALLOT X}",
    "left": "\N{HORIZONTAL ELLIPSIS}",
    "went": "\N{EN DASH}",
}


def _phases(story: Story) -> Iterator[str]:
    rows = _rows(story)
    if not rows:
        return
    scale = _Scale(rows)
    yield '<section><h2>Phases</h2><div class="wide"><table class="phases">'
    yield '<thead><tr><th>Phase</th><th>Began</th><th class="number">Took</th>'
    yield '<th class="when">When</th><th>Seen</th></tr></thead><tbody>'
    for row in rows:
        left, right = scale.at(row.begun_at), scale.at(row.ended_at)
        width = max(right - left, _LEAST_BAR)
        yield (
            f'<tr class="{row.state}"><th scope="row"><span class="mark">{_STATES[row.state]}</span> '
            f"{_text(row.name)}</th><td>{_clock(row.begun_at, story.zone)}</td>"
            f'<td class="number">{curve.seconds_text(row.ended_at - row.begun_at)}</td>'
            '<td class="when"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="track" width="100" height="10"/><rect class="bar" x="{min(left, 100 - width):.2f}" '
            f'width="{width:.2f}" height="10"/></svg></td><td class="said">{_text(row.note)}</td></tr>'
        )
    yield "</tbody></table></div>"
    if scale.is_bent:
        yield '<p class="precision">Waiting for a window, and the time in which nobody ran it, are drawn shorter.</p>'
    yield "</section>"


class _Scale:
    """From instants to percent of the width; where nothing but waiting goes on, time is drawn shorter.

    Args:
        rows: At least one.
    """

    def __init__(self, rows: Sequence[_Row]) -> None:
        edges = sorted({edge for row in rows for edge in (row.begun_at, row.ended_at)})
        pairs = list(itertools.pairwise(edges))
        busy = [_is_busy(rows, begun, ended) for begun, ended in pairs]
        longest = max(sum(pair[1] - pair[0] for pair, is_busy in zip(pairs, busy, strict=True) if is_busy) / 5, 1.0)
        drawn = [
            ended - begun if is_busy else min(ended - begun, longest)
            for (begun, ended), is_busy in zip(pairs, busy, strict=True)
        ]
        whole = sum(drawn) or 1.0
        self.is_bent = sum(pair[1] - pair[0] for pair in pairs) > sum(drawn) + 1.0
        self._edges, self._places = edges, [0.0]
        for one in drawn:
            self._places.append(self._places[-1] + 100 * one / whole)

    def at(self, edge: float) -> float:
        """Return where an edge of a row is."""
        return self._places[self._edges.index(edge)]


def _is_busy(rows: Iterable[_Row], begun: float, ended: float) -> bool:
    return any(row.begun_at <= begun and ended <= row.ended_at and not row.is_wait for row in rows)


# What was said.


def _told(story: Story) -> Iterator[str]:
    shown = [one for one in story.events if one.kind in ("note", "failed", "done", "end") and one.text]
    if not shown:
        return
    yield '<section><h2>What was said</h2><table class="log"><tbody>'
    for event in shown[:_MOST_LINES]:
        kind, word = _sort(event)
        yield (
            f'<tr class="{kind}"><td class="at">{_clock(event.at, story.zone)}</td><td class="phase">'
            f'{_text(event.phase.value)}</td><td class="said">{f"<b>{word}</b> " if word else ""}'
            f"{_text(event.text.removeprefix(f'{word}: ') if word else event.text)}</td></tr>"
        )
    yield "</tbody></table>"
    if len(shown) > _MOST_LINES:
        yield f'<p class="precision">{len(shown) - _MOST_LINES} lines more are left out.</p>'
    yield "</section>"


def _sort(event: Event) -> tuple[str, str]:
    """Return how a line is shown, and the word that it begins with."""
    if event.kind == "failed":
        return "failed", "failed"
    if event.kind != "note":
        return event.kind, ""
    word = event.text.partition(": ")[0]
    return (word, word) if word in ("warning", "event", "log") else ("note", "")


# Words.


def _when(at: float, zone: dt.tzinfo | None) -> str:
    """Return an instant in local time and in UTC."""
    utc = dt.datetime.fromtimestamp(at, dt.UTC)
    local = utc.astimezone(zone)
    text = utc.strftime("%Y-%m-%d %H:%M:%S UTC")
    return text if local.tzname() == "UTC" else f"{local.strftime('%a %Y-%m-%d %H:%M:%S %Z')} ({text})"


def _clock(at: float, zone: dt.tzinfo | None) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).astimezone(zone).strftime("%H:%M:%S")


def _tenths(at: float, zone: dt.tzinfo | None) -> str:
    tenths = math.floor(at * 10)
    return f"{_clock(tenths / 10, zone)}.{tenths % 10}"


def _text(text: str) -> str:
    """Return what somebody wrote as HTML that says just that, with what cannot be seen made visible."""
    return escape("".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text))
