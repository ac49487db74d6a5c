from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploytool.live import rollouts
from tests.deploytool.live.release import Release, installed
from tests.simcluster.fixtures import any_cluster, cluster, target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

__all__ = ("any_cluster", "cluster", "live", "release", "target")


@pytest.fixture
def release(cluster: SimCluster, target: Target) -> Iterator[Release]:
    """The chart, installed as for production, with what stands around it."""
    with installed(cluster, target) as release:
        yield release


@pytest.fixture
def live(cluster: SimCluster, target: Target) -> Iterator[rollouts.Live]:
    """The chart with a volume, for somebody who rolls it out."""
    with rollouts.installed(cluster, target) as live:
        yield live
