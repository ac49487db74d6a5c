"""A release of the chart whose guard runs in the simulated cluster, as the account that the chart makes for it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.simcluster.helm import helm
from tests.simcluster.identity import User
from tests.simcluster.images import ROOT, service_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

__all__ = ("CHART", "GUARD", "NAME", "installed", "values")

CHART = str(ROOT / "helm" / "slackwater")
NAME = "live-slackwater"
GUARD = f"{NAME}-guard"
_IMAGE = "slackwater:guarded"


def values(*, is_guarded: bool = True, replicas: int = 1) -> dict[str, Any]:
    """Return the values of the release; nothing in the API server keeps it single."""
    repository, _, tag = _IMAGE.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag},
        "replicaCount": replicas,
        "secret": {"generate": True},
        "settings": {"frontendUrl": "https://app.example.org"},
        "admissionPolicy": {"enabled": False},
        "guard": {"enabled": is_guarded},
        "tests": {"enabled": False},
    }


@contextmanager
def installed(cluster: SimCluster, target: Target, *, is_guarded: bool = True) -> Iterator[None]:
    """Install the release, and remove it again."""
    account = User.service_account(target.namespace, GUARD)
    kubeconfig = str(cluster.kubeconfig(account, namespace=target.namespace))
    image = service_image()
    # A pod finds the API server by files at a fixed path, which this machine does not have.
    cluster.images.add(_IMAGE, replace(image, environ={**image.environ, "KUBECONFIG": kubeconfig}))
    helm(target, "install", CHART, "live", values(is_guarded=is_guarded), wait="watcher", timeout=60)
    try:
        yield
    finally:
        helm(target, "uninstall", "live", ignore_not_found=True)
