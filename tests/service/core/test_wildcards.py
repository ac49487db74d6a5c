from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.wildcards import MAX_ALTERNATIVES, MAX_PATTERN_LENGTH, matcher


def fits(pattern: str, name: str) -> bool:
    """Whether a good pattern selects a name."""
    match = matcher(pattern)
    assert not isinstance(match, str), match
    return match(name)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "", True),
        ("**", "chat:a/b", True),
        ("chat:*", "chat:1", True),
        ("chat:*", "xchat:1", False),
        ("chat:*:log", "chat:1:log", True),
        ("chat:*:log", "chat:1:logs", False),
        ("chat:?", "chat:1", True),
        ("chat:?", "chat:", False),
        ("chat:?", "chat:12", False),
        ("chat:[0-9a]", "chat:a", True),
        ("chat:[0-9a]", "chat:b", False),
        ("chat:[!0-9]", "chat:b", True),
        ("chat:[!0-9]", "chat:1", False),
        ("[]]", "]", True),
        ("[z-a]", "m", False),
        ("[", "[", True),
        ("Chat", "chat", False),
        ("a.c", "abc", False),
        ("{chat,news}:1", "news:1", True),
        ("{chat,news}:1", "demo:1", False),
        ("{chat:{a,b*},news}", "chat:bc", True),
        ("{chat:{a,b*},news}", "news", True),
        ("{chat:{a,b*},news}", "chat:c", False),
        ("{a,}b", "b", True),
        ("[{,}]", ",", True),
        ("a,b", "a,b", True),
        (r"\*", "*", True),
        (r"\*", "a", False),
        (r"\[a]", "[a]", True),
        (r"\{a\,b\}", "{a,b}", True),
        (r"{\,,\}}", "}", True),
        (r"\\", "\\", True),
        (r"\!\?", "!?", True),
    ],
)
def test_pattern_selects_names(pattern: str, name: str, expected: bool) -> None:  # noqa: FBT001 - one of three columns
    """Every kind of wildcard, and the characters themselves."""
    assert expected is fits(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("{a", "a { has no } behind it"),
        ("{a,{b}", "a { has no } behind it"),
        ("a}", "a } has no { before it"),
        ("{a}}", "a } has no { before it"),
        ("a\\", "no character behind"),
        ("a" * (MAX_PATTERN_LENGTH + 1), "at most 255 characters"),
        ("{a,b}" * 7, "more than 64 patterns"),
        ("{a,b}" * 51, "more than 64 patterns"),
    ],
)
def test_pattern_that_means_nothing_is_explained(pattern: str, problem: str) -> None:
    """In words, and before it costs anything."""
    match = matcher(pattern)

    assert isinstance(match, str)
    assert problem in match


def test_pattern_may_be_as_long_and_stand_for_as_many_as_the_limits_say() -> None:
    """At the limit it works."""
    assert fits("a" * MAX_PATTERN_LENGTH, "a" * MAX_PATTERN_LENGTH)
    assert MAX_ALTERNATIVES == 2**6
    assert fits("{a,b}" * 6, "ababab")


@pytest.mark.timeout(10)
def test_many_stars_take_no_longer_than_few() -> None:
    """A pattern cannot hold the process up."""
    assert not fits("*a" * 100 + "b", "a" * 255)
    assert not fits("{*a,*b}" * 6 + "c", "ab" * 127)


@given(st.text("ab*?[]!-", max_size=12), st.text("ab[]!-", max_size=12))
def test_pattern_without_braces_is_one_of_the_shell(pattern: str, name: str) -> None:
    """The standard library agrees."""
    assert fnmatch.fnmatchcase(name, pattern) == fits(pattern, name)
