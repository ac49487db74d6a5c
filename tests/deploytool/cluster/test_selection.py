from __future__ import annotations

from typing import Any, cast

import pytest

from deploytool.cluster.client import Cluster
from deploytool.cluster.errors import ClusterError, ForbiddenError, MissingError, SelectionError
from deploytool.cluster.selection import ADMIN_SERVICE, GUARD, select


class _Namespaces:
    """Answers the one question that a selection asks."""

    namespace = "realtime"

    def __init__(self, error: ClusterError | None = None) -> None:
        self._error = error

    def get(self, *_: object) -> dict[str, Any]:
        if self._error is not None:
            raise self._error
        return {}


def deployment(name: str, *, label: str = "", annotation: str = "") -> dict[str, Any]:
    """Return a Deployment as a list has it."""
    labels = {GUARD: label} if label else {}
    annotations = {ADMIN_SERVICE: annotation} if annotation else None
    return {"metadata": {"name": name, "labels": labels, "annotations": annotations}}


def cluster(error: ClusterError | None = None) -> Cluster:
    """Return a cluster whose namespace is there, or why not."""
    return cast("Cluster", _Namespaces(error))


OURS, OTHER = deployment("live", label="true"), deployment("web")


def test_the_only_one_of_ours_is_meant() -> None:
    """Others do not matter."""
    assert OURS is select(cluster(), [OTHER, OURS], "")


def test_annotation_makes_it_ours_too() -> None:
    """As of another service that keeps the admin contract."""
    other = deployment("chat", annotation="chat-admin:admin")

    assert other is select(cluster(), [OTHER, other], "")


def test_two_that_match_are_named() -> None:
    """Nothing is guessed."""
    with pytest.raises(SelectionError, match=r"2 workloads in namespace realtime: live, two.*--workload") as caught:
        select(cluster(), [OURS, deployment("two", label="true"), OTHER], "")

    assert 2 == caught.value.exit_code


def test_name_chooses_between_them() -> None:
    """As the sentence says."""
    assert OURS is select(cluster(), [OURS, deployment("two", label="true")], "live")


def test_workload_that_is_not_ours_is_refused() -> None:
    """With what would make it ours."""
    with pytest.raises(SelectionError, match=r"web in namespace realtime is not ours.*annotate deployment web"):
        select(cluster(), [OURS, OTHER], "web")


def test_switched_off_label_does_not_count() -> None:
    """Only "true" does."""
    with pytest.raises(SelectionError, match=r"none of its Deployments \(live\) is ours"):
        select(cluster(), [deployment("live", label="false")], "")


def test_absent_name_lists_those_there_are() -> None:
    """A typing error is seen at once."""
    with pytest.raises(SelectionError, match=r"no Deployment lvie.*Ours there: live"):
        select(cluster(), [OURS, OTHER], "lvie")


@pytest.mark.parametrize("name", ["", "live"])
def test_absent_namespace_is_told_from_an_empty_one(name: str) -> None:
    """A list of either is empty."""
    with pytest.raises(SelectionError, match="there is no namespace realtime"):
        select(cluster(MissingError("no")), [], name)


def test_empty_namespace_is_said_to_be() -> None:
    """Whether or not we may look at namespaces."""
    forbidden = ForbiddenError(verb="get", group="", resource="namespaces", name="realtime")
    for error in (None, forbidden):
        with pytest.raises(SelectionError, match="it has no Deployment"):
            select(cluster(error), [], "")
