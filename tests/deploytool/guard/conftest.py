from __future__ import annotations

from tests.simcluster.fixtures import any_cluster, cluster, target

__all__ = ("any_cluster", "cluster", "target")
