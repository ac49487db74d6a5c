"""The table of docs/reference/metrics.md, made of the descriptions that a scrape is made of.

``python -m tests.tools.metrics_reference`` writes the page again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from service.observability.metrics import METRICS

__all__ = ("BEGIN", "END", "PAGE", "render", "table")

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"

BEGIN: Final = "<!-- begin of the table, written by tests.tools.metrics_reference -->\n"
END: Final = "<!-- end of the table -->\n"


def table() -> str:
    """Return one line for each metric, in the order of a scrape."""
    lines = ["| Metric | Type | Label | Meaning |", "|---|---|---|---|"]
    for item in METRICS:
        label = f"`{item.label}`" if item.label else ""
        lines.append(f"| `{item.exposed_name}` | {item.kind} | {label} | {item.help} |")
    return "\n".join(lines) + "\n"


def render(page: str) -> str:
    """Return a page with the table in it brought up to date."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
