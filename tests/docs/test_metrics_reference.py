"""The reference of the metrics is what a scrape answers with."""

from __future__ import annotations

from tests.tools.metrics_reference import BEGIN, END, PAGE, render


def test_table_is_current() -> None:
    """Run ``python -m tests.tools.metrics_reference`` after a change of the metrics."""
    page = PAGE.read_text()

    assert (1, 1) == (page.count(BEGIN), page.count(END))
    assert render(page) == page
