"""The cluster of a test, and a namespace in it: simulated, or a real one where it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simcluster.cluster import SimCluster
from tests.simcluster.target import SIMULATED_ONLY, Target, is_real, open_target

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("any_cluster", "cluster", "target")

_RATE = 10.0


@pytest.fixture(scope="module")
def any_cluster() -> Iterator[SimCluster | None]:
    """A simulated cluster for the tests of a module; None where a real one is given."""
    if is_real():
        yield None
    else:
        with SimCluster.start(rate=_RATE) as cluster:
            yield cluster


@pytest.fixture
def cluster(any_cluster: SimCluster | None) -> SimCluster:
    """The simulated cluster, for what only it can do."""
    if any_cluster is None:
        pytest.skip(SIMULATED_ONLY)
    return any_cluster


@pytest.fixture
def target(any_cluster: SimCluster | None) -> Iterator[Target]:
    """A namespace of its own."""
    with open_target(any_cluster) as target:
        yield target
