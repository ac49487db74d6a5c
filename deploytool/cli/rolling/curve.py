"""How many clients were connected when: what was counted, for how long there were none, and a drawing of it. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from deploytool.rollout.ports import Event

__all__ = ("Band", "Gap", "Look", "draw", "gap_text", "gaps_of", "looks_of", "seconds_text")

_COUNTS: Final = ("left", "clients", "back")
_WIDTH, _PLOT = 960.0, 190.0
_LEFT, _RIGHT, _BOTTOM = 52.0, 14.0, 44.0
_TOP, _TOP_OF_UPRIGHT = 56.0, 116.0
_STEPS_SECONDS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)
_MOST_TICKS: Final = 11
_MOST_DOTS: Final = 150
_LETTER: Final = 7.0
_LEAST_BAND: Final = 13.0
_SPARSE_SECONDS: Final = 5.0
_MINUTE, _HOUR = 60.0, 3600.0
_TENTHS_BELOW: Final = 10.0


@dataclass(frozen=True, slots=True)
class Look:
    """Clients that were counted.

    Attributes:
        at: In unix seconds.
    """

    at: float
    clients: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which nobody was connected, between the looks by which it is known.

    Attributes:
        last_seen_at: The last look with a client.
        empty_from: The first look without one.
        empty_until: The last look without one.
        seen_again_at: The first look with a client again; None when none came back while somebody looked.
    """

    last_seen_at: float
    empty_from: float
    empty_until: float
    seen_again_at: float | None

    @property
    def least_seconds(self) -> float:
        """It was not shorter."""
        return max(0.0, self.empty_until - self.empty_from)

    @property
    def most_seconds(self) -> float | None:
        """It was not longer; None when it had no end."""
        return None if self.seen_again_at is None else max(self.least_seconds, self.seen_again_at - self.last_seen_at)


@dataclass(frozen=True, slots=True)
class Band:
    """One phase."""

    name: str
    begun_at: float
    ended_at: float


def looks_of(events: Iterable[Event]) -> tuple[Look, ...]:
    """Return what was counted, in order."""
    found = []
    for event in events:
        counted = next((event.data[name] for name in _COUNTS if name in event.data), None)
        if event.kind == "progress" and type(counted) is int and event.data.get("is_seen") is not False:
            found.append(Look(event.at, counted))
    return tuple(found)


def gaps_of(looks: Iterable[Look]) -> tuple[Gap, ...]:
    """Return the times in which nobody was connected, after somebody had been."""
    found = []
    last: Look | None = None
    empty: list[Look] = []
    for look in looks:
        if look.clients == 0:
            empty.append(look)
            continue
        if last is not None and empty:
            found.append(Gap(last.at, empty[0].at, empty[-1].at, look.at))
        last, empty = look, []
    if last is not None and empty:
        found.append(Gap(last.at, empty[0].at, empty[-1].at, None))
    return tuple(found)


def seconds_text(seconds: float) -> str:
    """Return a duration for people: ``3.4 s``, ``1 min 20 s``, ``2 h 5 min``."""
    if seconds < _TENTHS_BELOW:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def draw(looks: Sequence[Look], bands: Sequence[Band], gaps: Sequence[Gap], baseline: int | None, start: str) -> str:
    """Return an SVG of the curve, with the phases as bands.

    Args:
        looks: At least one.
        bands: In order.
        gaps: Marked.
        baseline: Clients before; None when they were not counted.
        start: What time the left edge is, for people.
    """
    return "\n".join(_Drawing(looks, bands, gaps, baseline).lines(start))


class _Drawing:
    def __init__(self, looks: Sequence[Look], bands: Sequence[Band], gaps: Sequence[Gap], baseline: int | None) -> None:
        self._looks, self._gaps, self._baseline = looks, gaps, baseline
        self._began = looks[0].at
        self._seconds = max(looks[-1].at - self._began, 1.0)
        self._most = max(*(one.clients for one in looks), baseline or 0, 1)
        edges = [(one.name, self._x(one.begun_at), self._x(one.ended_at)) for one in bands]
        self._shown = [one for one in edges if one[2] - one[1] >= 1.0]
        is_upright = any(_is_upright(*one) for one in self._shown)
        self._top = _TOP_OF_UPRIGHT if is_upright else _TOP
        self._floor = self._top + _PLOT

    def _x(self, at: float) -> float:
        share = min(max((at - self._began) / self._seconds, 0.0), 1.0)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, clients: float) -> float:
        return self._floor - clients / self._most * _PLOT

    def lines(self, start: str) -> Iterator[str]:
        yield (
            f'<svg class="curve" viewBox="0 0 {_WIDTH:g} {self._floor + _BOTTOM:g}" role="img" '
            'aria-label="Connected clients over time, with the phases as bands">'
        )
        yield from self._drawn_bands()
        yield from self._axes(start)
        yield from self._drawn_gaps()
        yield from self._line()
        yield "</svg>"

    def _drawn_bands(self) -> Iterator[str]:
        for number, (name, left, right) in enumerate(self._shown):
            kind = "odd" if number % 2 else "even"
            yield (
                f'<g class="band {kind}"><title>{escape(name)}</title>'
                f'<rect x="{left:.1f}" y="8" width="{right - left:.1f}" height="{self._floor - 8:.1f}"/>'
                f"{_label(name, left, right)}</g>"
            )

    def _axes(self, start: str) -> Iterator[str]:
        floor = self._floor
        for clients in _rungs(self._most):
            height = self._y(clients)
            yield f'<line class="grid" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{height:.1f}" y2="{height:.1f}"/>'
            yield f'<text class="tick" x="{_LEFT - 7:g}" y="{height + 4:.1f}" text-anchor="end">{clients}</text>'
        step = next((one for one in _STEPS_SECONDS if self._seconds / one < _MOST_TICKS), _STEPS_SECONDS[-1])
        for number in range(int(self._seconds // step) + 1):
            across = self._x(self._began + number * step)
            yield f'<line class="axis" x1="{across:.1f}" x2="{across:.1f}" y1="{floor:g}" y2="{floor + 5:g}"/>'
            yield (
                f'<text class="tick" x="{across:.1f}" y="{floor + 18:g}" text-anchor="middle">'
                f"{_tick(number * step)}</text>"
            )
        yield f'<line class="axis" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{floor:g}" y2="{floor:g}"/>'
        yield (
            f'<text class="caption" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.1f}" y="{floor + _BOTTOM - 6:g}" '
            f'text-anchor="middle">time since {escape(start)}</text>'
        )
        yield (
            f'<text class="caption" transform="translate(13 {(floor + self._top) / 2:.1f}) rotate(-90)" '
            'text-anchor="middle">connected clients</text>'
        )
        if self._baseline:
            height, right = self._y(self._baseline), _WIDTH - _RIGHT
            yield f'<line class="baseline" x1="{_LEFT:g}" x2="{right:g}" y1="{height:.1f}" y2="{height:.1f}"/>'
            yield (
                f'<text class="tick" x="{_WIDTH - _RIGHT - 4:g}" y="{height - 5:.1f}" text-anchor="end">'
                f"{self._baseline} before</text>"
            )

    def _drawn_gaps(self) -> Iterator[str]:
        taken = 0.0
        for gap in self._gaps:
            end = self._looks[-1].at if gap.seen_again_at is None else gap.seen_again_at
            left, right = self._x(gap.last_seen_at), self._x(end)
            yield self._shade("gap may", left, right)
            yield self._shade("gap", self._x(gap.empty_from), self._x(gap.empty_until))
            text = f"nobody: {gap_text(gap)}"
            half = len(text) * _LETTER / 2
            middle = min(max((left + right) / 2, _LEFT + half), _WIDTH - _RIGHT - half)
            if middle - half > taken:
                where = f'x="{middle:.1f}" y="{self._top - 12:g}"'
                yield f'<text class="gap-text" {where} text-anchor="middle">{text}</text>'
                taken = middle + half

    def _shade(self, kind: str, left: float, right: float) -> str:
        return (
            f'<rect class="{kind}" x="{left:.1f}" y="{self._top - 6:g}" width="{right - left:.1f}" '
            f'height="{_PLOT + 6:g}"/>'
        )

    def _line(self) -> Iterator[str]:
        points = [(self._x(one.at), self._y(one.clients)) for one in self._looks]
        for (one, other), (first, second) in zip(
            itertools.pairwise(self._looks), itertools.pairwise(points), strict=True
        ):
            # Where nobody looked for a while, the line is a guess.
            kind = "line guess" if other.at - one.at > _SPARSE_SECONDS else "line"
            yield (
                f'<line class="{kind}" x1="{first[0]:.1f}" y1="{first[1]:.1f}" x2="{second[0]:.1f}" '
                f'y2="{second[1]:.1f}"/>'
            )
        if len(points) <= _MOST_DOTS:
            for across, height in points:
                yield f'<circle class="dot" cx="{across:.1f}" cy="{height:.1f}" r="2.6"/>'


def gap_text(gap: Gap) -> str:
    """Return how long it was, with how well that is known."""
    if gap.most_seconds is None:
        return f"{seconds_text(gap.least_seconds)} or more"
    half = (gap.most_seconds - gap.least_seconds) / 2
    return f"{gap.least_seconds + half:.1f} s \N{PLUS-MINUS SIGN} {half:.1f} s"


def _is_upright(name: str, left: float, right: float) -> bool:
    return _LEAST_BAND <= right - left < len(name) * _LETTER + 4


def _label(name: str, left: float, right: float) -> str:
    """Write the name across where there is room for it, upright where there is a little, and not at all elsewhere."""
    middle, text = (left + right) / 2, escape(name)
    if _is_upright(name, left, right):
        return f'<text transform="translate({middle + 4:.1f} 12) rotate(-90)" text-anchor="end">{text}</text>'
    if right - left < _LEAST_BAND:
        return ""
    return f'<text x="{middle:.1f}" y="22" text-anchor="middle">{text}</text>'


def _rungs(most: int) -> Iterator[int]:
    """Yield the heights that are written at the side: from three to six round numbers."""
    step = 1
    for step in (factor * 10**power for power in range(9) for factor in (1, 2, 5)):
        if most / step <= 5:  # noqa: PLR2004 - more would be crowded
            break
    yield from range(0, most + 1, step)


def _tick(seconds: int) -> str:
    if seconds % 3600 == 0 and seconds:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 and seconds else f"{seconds} s"
