"""Somebody else's regular expressions."""

from __future__ import annotations

import time

import pytest

from deploytool.checks.patterns import matches


@pytest.mark.parametrize(
    ("pattern", "text", "whole", "found"),
    [
        pytest.param("^/(ws|x)$", "/ws", False, True, id="found"),
        pytest.param("/w", "/ws", True, False, id="not as a whole"),
        pytest.param("(", "x", False, None, id="none"),
        pytest.param("(a+)+$", "a" * 30 + "b", False, None, id="a repeated group"),
        pytest.param("(.*){2,}x", "a" * 30, False, None, id="a counted group"),
        pytest.param(".*" * 30 + "x", "a" * 60, False, None, id="many repetitions"),
        pytest.param("a" * 301, "a", False, None, id="long"),
        pytest.param("a{99999999999}", "a", False, None, id="an endless count"),
    ],
)
def test_matches_never_takes_long(pattern: str, text: str, whole: bool, found: bool | None) -> None:  # noqa: FBT001  # a case
    """What could is not judged."""
    began = time.process_time()

    assert found is matches(pattern, text, whole=whole)
    assert time.process_time() - began < 1


def test_matches_may_ignore_case() -> None:
    """As nginx does with ``~*``."""
    assert matches("^/WS", "/ws", whole=False, ignore_case=True)
    assert not matches("^/WS", "/ws", whole=False)
