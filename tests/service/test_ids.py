from __future__ import annotations

import re
import uuid

import pytest

from service.ids import Ids, SystemIds
from tests.support.ids import SequentialIds


@pytest.fixture(params=[SystemIds, SequentialIds], ids=["system", "sequential"])
def ids(request: pytest.FixtureRequest) -> Ids:
    """The real thing and the fake, which must look alike."""
    made: Ids = request.param()
    return made


def test_uuid_is_a_random_one(ids: Ids) -> None:
    """Version 4, in the usual form."""
    text = ids.uuid()

    assert text == str(uuid.UUID(text))
    assert 4 == uuid.UUID(text).version


def test_epoch_is_eight_letters(ids: Ids) -> None:
    """Source: Centrifuge client protocol v2, streams."""
    assert re.fullmatch(r"[A-Za-z]{8}", ids.epoch())


def test_fraction_is_below_one(ids: Ids) -> None:
    """So that a spread of time is never exceeded."""
    assert all(0 <= ids.fraction() < 1 for _ in range(100))


def test_secret_is_long_enough_for_a_key(ids: Ids) -> None:
    """And can stand in a header, a URL and a shell."""
    assert re.fullmatch(r"[-_A-Za-z0-9]{43}", ids.secret())


@pytest.mark.parametrize("kind", ["uuid", "epoch", "secret"])
def test_nothing_comes_twice(ids: Ids, kind: str) -> None:
    """Each call makes another."""
    assert 100 == len({getattr(ids, kind)() for _ in range(100)})


def test_sequential_ids_can_be_written_down() -> None:
    """That is what they are for."""
    ids = SequentialIds(fraction=0.25)

    assert "00000000-0000-4000-8000-000000000001" == ids.uuid()
    assert ["aaaaaaab", "aaaaaaac"] == [ids.epoch(), ids.epoch()]
    assert 0.25 == ids.fraction()
