"""A chart of what was reached, as SVG: one bar a goal, from the goal's own line to what was measured. Pure.

The scale is logarithmic, since a goal may be missed by a tenth or exceeded twentyfold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log2

from tests.bench.figures import Standing

__all__ = ("Bar", "chart")

WIDTH = 980
TITLE_X, AXIS_X, AXIS_WIDTH = 16, 250, 440
TEXT_X = AXIS_X + AXIS_WIDTH + 16
HEAD, ROW, BAR, FOOT = 76, 26, 14, 34
LOWEST, HIGHEST = -2, 4
"""Powers of two at the ends of the axis; what lies beyond is cut off there."""
COLOURS = {
    Standing.MET: "#2e7d4f",
    Standing.BARELY_MET: "#8ab03c",
    Standing.NEARLY_MET: "#e0a030",
    Standing.MISSED: "#c0392b",
}
INK, FAINT, PAPER = "#24292f", "#d0d7de", "#ffffff"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row."""

    title: str
    gain: float
    """So many times better than the goal; below 1 it is missed."""
    standing: Standing
    text: str
    """What was measured, and the goal."""


def chart(bars: Sequence[Bar], *, title: str, subtitle: str) -> str:
    """Draw the bars, in their order.

    Args:
        title: In large letters.
        subtitle: Below it; what the reader has to know about the run.
    """
    height = HEAD + ROW * len(bars) + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f'<g font-family="system-ui, sans-serif" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        _text(TITLE_X, 28, title, size=17),
        _text(TITLE_X, 48, subtitle, size=12),
        *_axis(height),
        *(part for row, bar in enumerate(bars) for part in _bar(row, bar)),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(gain: float) -> float:
    power = log2(gain) if gain > 0 else LOWEST
    power = min(max(power, LOWEST), HIGHEST)
    return round(AXIS_X + AXIS_WIDTH * (power - LOWEST) / (HIGHEST - LOWEST), 1)


def _axis(height: int) -> list[str]:
    parts = []
    for power in range(LOWEST, HIGHEST + 1):
        x, is_goal = _x(2.0**power), power == 0
        parts.append(
            f'<line x1="{x}" y1="{HEAD - 8}" x2="{x}" y2="{height - FOOT}" '
            f'stroke="{INK if is_goal else FAINT}" stroke-width="{1.5 if is_goal else 1}"/>'
        )
        label = "goal" if is_goal else (f"{2**power} x" if power > 0 else f"1/{2**-power}")
        parts.append(_text(x, height - FOOT + 18, label, size=11, anchor="middle"))
    return parts


def _bar(row: int, bar: Bar) -> list[str]:
    y, goal, end = HEAD + ROW * row, _x(1.0), _x(bar.gain)
    left, width = min(goal, end), max(2.0, round(abs(end - goal), 1))
    middle, fill = y + ROW / 2 + 4, COLOURS[bar.standing]
    return [
        _text(TITLE_X, middle, bar.title),
        f'<rect x="{left}" y="{y + (ROW - BAR) / 2}" width="{width}" height="{BAR}" rx="2" fill="{fill}">',
        f"<title>{escape(bar.standing.value)}</title></rect>",
        _text(TEXT_X, middle, bar.text, size=12),
    ]


def _text(x: float, y: float, text: str, *, size: int = 13, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
