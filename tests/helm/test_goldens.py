"""What the chart makes, whole, so that a change of it is seen in review.

Write them anew with ``python -m tests.helm.test_goldens``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.helm.rendering import texts

DIRECTORY = Path(__file__).parent / "goldens"
NAMES = ("minimal", "production")


def rendered(name: str) -> str:
    """Render the values of a golden file as ``helm template`` prints them, and the notes."""
    values = yaml.safe_load((DIRECTORY / f"{name}.values.yaml").read_text())
    return "".join(f"---\n# {file}\n{text.strip()}\n" for file, text in texts(values).items())


@pytest.mark.parametrize("name", NAMES)
def test_rendered_as_before(name: str) -> None:
    """Else look at the difference, and write them anew."""
    assert (DIRECTORY / f"{name}.golden").read_text() == rendered(name)


if __name__ == "__main__":
    for each in NAMES:
        (DIRECTORY / f"{each}.golden").write_text(rendered(each))
