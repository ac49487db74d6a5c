"""The checklist as data."""

from __future__ import annotations

import dataclasses

import pytest

from deploytool.checks.catalog import ITEMS, find, select
from deploytool.model.finding import Category
from deploytool.model.snapshot import OBSERVED, Snapshot


def test_items_are_those_of_the_checklist() -> None:
    """Sixteen, four under each heading, in order, with ids that say where they belong."""
    assert [*range(1, 17)] == [item.number for item in ITEMS]
    assert [category for category in Category for _ in range(4)] == [item.category for item in ITEMS]
    assert all(item.id.startswith(f"{item.category.value}.") for item in ITEMS)


def test_ids_are_stable() -> None:
    """Waivers, pipelines and documents name them; one that changes is a breaking change."""
    assert [
        "infrastructure.single-instance",
        "infrastructure.database-pool",
        "infrastructure.websocket-origins",
        "infrastructure.session-affinity",
        "monitoring.connection-metrics",
        "monitoring.memory-alert",
        "monitoring.error-rate",
        "monitoring.performance-test",
        "security.authentication",
        "security.rate-limits",
        "security.origins-restricted",
        "security.tls",
        "documentation.team-trained",
        "documentation.deployment-procedure",
        "documentation.rollback-procedure",
        "documentation.runbooks",
    ] == [item.id for item in ITEMS]


def test_rules_have_ids_of_their_own_and_say_what_to_do() -> None:
    """Within an item; a remediation is a sentence."""
    for item in ITEMS:
        assert len({rule.id for rule in item.rules}) == len(item.rules)
        assert all(rule.remediation.endswith((".", ")")) for rule in item.rules)


def test_needs_and_dependencies_exist() -> None:
    """A name that does not exist would be waited for without end."""
    fields = {field.name for field in dataclasses.fields(Snapshot)}

    assert fields >= OBSERVED
    for item in ITEMS:
        assert item.needs <= OBSERVED
        assert {*item.depends_on} <= {other.id for other in ITEMS} - {item.id}


@pytest.mark.parametrize(
    ("word", "numbers"),
    [
        pytest.param("12", [12], id="a number"),
        pytest.param("tls", [12], id="a name"),
        pytest.param("security.tls", [12], id="an id"),
        pytest.param("security", [9, 10, 11, 12], id="a category"),
        pytest.param("tl", [], id="part of a name"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_find_takes_a_word(word: str, numbers: list[int]) -> None:
    """An id, the part after the dot, a number, a category."""
    assert numbers == [item.number for item in find(word)]


def test_select_takes_away_what_is_unwanted() -> None:
    """Skipping weighs more than selecting."""
    assert [9, 10, 12] == [item.number for item in select(["security"], ["11"])]
    assert 12 == len(select([], ["documentation"]))
