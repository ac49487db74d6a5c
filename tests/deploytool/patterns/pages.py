"""The configuration in the pages of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ("ROOT", "blocks")

ROOT = Path(__file__).parents[3]


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page under ``docs/how-to`` that are in a language."""
    text = (ROOT / "docs" / "how-to" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
