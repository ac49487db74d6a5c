from __future__ import annotations

import pickle

import pytest

from service.core.secret import Secret


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        pytest.param("correct horse", True, id="same"),
        pytest.param("correct hors", False, id="shorter"),
        pytest.param("correct horse ", False, id="longer"),
        pytest.param("", False, id="empty"),
        pytest.param("corrêct horse", False, id="not-ascii"),
        pytest.param("correct horse\udc80", False, id="surrogate"),
    ],
)
def test_matches_the_same_text_alone(candidate: str, *, expected: bool) -> None:
    """Whatever a peer sends is compared, and nothing raises."""
    assert expected is Secret("correct horse").matches(candidate)


def test_is_never_shown() -> None:
    """Not by itself, nor inside something else; only when it is asked for."""
    secret = Secret("correct horse")
    shown = f"{secret} {secret!r} {[secret]}"

    assert "correct horse" not in shown
    assert "Secret(***)" == repr(secret)
    assert "correct horse" == secret.reveal()


def test_is_equal_by_value() -> None:
    """So that groups of settings compare, and a text is no secret."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))


def test_is_not_pickled() -> None:
    """It would leave the process in the open."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("correct horse"))
