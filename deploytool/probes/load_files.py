"""The report of a load test as files: JSON for machines, and a page with charts beside it for people."""

from __future__ import annotations

import html
import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from deploytool.model.observations import LoadReport
from deploytool.probes.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from deploytool.probes.load import LoadResult, Second

__all__ = ("JSON_NAME", "PAGE_NAME", "as_json", "as_page", "read_report", "write_report")

JSON_NAME: Final = "load-report.json"
PAGE_NAME: Final = "load-report.html"

_FORMAT: Final = 1
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 220, 64, 28


def write_report(folder: Path, result: LoadResult) -> tuple[Path, Path]:
    """Write both files, and return where they are.

    Raises:
        ProbeError: The folder cannot be written to.
    """
    page, data = folder / PAGE_NAME, folder / JSON_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data.write_text(as_json(result), encoding="utf-8")
        page.write_text(as_page(result), encoding="utf-8")
    except OSError as error:
        raise ProbeError(f"the load report cannot be written to {folder}: {error.strerror}") from error
    return data, page


def read_report(path: Path) -> LoadReport:
    """Read what `write_report` wrote.

    Raises:
        ProbeError: It is no such file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != _FORMAT:
            found = {}
        return LoadReport(**{**found["report"], "source": str(path)})
    except OSError as error:
        raise ProbeError(f"the load report {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProbeError(f"{path} is no load report of ours") from error


def as_json(result: LoadResult) -> str:
    """Return the report and what it was made of."""
    content = {
        "format": _FORMAT,
        "report": asdict(result.report),
        "plan": asdict(result.plan),
        "seconds": [asdict(second) for second in result.seconds],
    }
    return json.dumps(content, indent=1) + "\n"


def as_page(result: LoadResult) -> str:
    """Return a page that needs nothing else: no script, no file, no network."""
    report = result.report
    when = datetime.fromtimestamp(report.at, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows = {
        "Ended": when,
        "Test": report.source,
        "Image": report.image_digest or "not known",
        "Connections": report.connections,
        "Publications": f"{report.publications} in {report.duration_seconds:.1f} s",
        "Deliveries": f"{report.deliveries}, {report.lost} lost",
        "Errors": report.errors,
        "Latency": f"{_milliseconds(report.p50_seconds)} median, {_milliseconds(report.p99_seconds)} for 99 of 100",
    }
    table = "\n".join(
        f"<tr><th scope=row>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    latency = _chart(
        result.seconds,
        "Latency from publishing to receiving, each second",
        (("99 of 100", lambda one: one.p99_seconds, "high"), ("median", lambda one: one.p50_seconds, "low")),
        _milliseconds,
    )
    deliveries = _chart(
        result.seconds,
        "Deliveries each second",
        (("delivered", lambda one: float(one.delivered), "low"),),
        lambda value: f"{value:g}",
    )
    return _PAGE.format(title=f"Load test of {when}", table=table, latency=latency, deliveries=deliveries)


_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --low: #0b6e99; --high: #c2410c; }}
@media (prefers-color-scheme: dark) {{ :root {{ --low: #5cc3ea; --high: #ff9a5c; }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
th {{ text-align: left; padding-right: 2rem; font-weight: 600; vertical-align: top; }}
td {{ overflow-wrap: anywhere; }}
svg {{ width: 100%; height: auto; }}
svg text {{ font-size: 12px; fill: currentColor; }}
.grid {{ stroke: currentColor; opacity: 0.2; }}
.low {{ stroke: var(--low); }} .high {{ stroke: var(--high); }}
.low, .high {{ fill: none; stroke-width: 2; }}
text.low {{ fill: var(--low); stroke: none; }} text.high {{ fill: var(--high); stroke: none; }}
</style>
<h1>{title}</h1>
<table>
{table}
</table>
{latency}
{deliveries}
</html>
"""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _chart(
    seconds: Sequence[Second],
    title: str,
    lines: tuple[tuple[str, Callable[[Any], float], str], ...],
    words: Callable[[float], str],
) -> str:
    top = _nice(max((value(one) for one in seconds for _, value, _ in lines), default=0.0))
    wide, high = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - 24

    def place(index: int, value: float) -> str:
        x = _LEFT + wide * index / max(1, len(seconds) - 1)
        return f"{x:.1f},{_HEIGHT - _BOTTOM - high * value / top:.1f}"

    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{html.escape(words(top * part))}</text>'
        for part in (0.0, 0.5, 1.0)
        for y in (_HEIGHT - _BOTTOM - high * part,)
    )
    drawn = "".join(
        f'<polyline class="{style}" points="'
        + " ".join(place(index, value(one)) for index, one in enumerate(seconds))
        + f'"/><text class="{style}" x="{_LEFT + 96 * number}" y="14">{html.escape(name)}</text>'
        for number, (name, value, style) in enumerate(lines)
    )
    last = max(0, len(seconds) - 1)
    axis = (
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">0 s</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 8}" text-anchor="end">{last} s</text>'
    )
    label = html.escape(title)
    return (
        f"<h2>{label}</h2>\n"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{grid}{drawn}{axis}</svg>'
    )


def _nice(value: float) -> float:
    """Return a round number that is no smaller; 1.0 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)
