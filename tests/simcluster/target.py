"""The cluster that a test works on: simulated, or a real one when ``KUBECONFIG`` and an image are given.

A test that takes a `Target` must not depend on which it is.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubernetes import config, dynamic, watch

from tests.simcluster.cluster import SimCluster
from tests.simcluster.images import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ("SIMULATED_ONLY", "Target", "is_real", "open_target")

SIMULATED_ONLY = "works on the parts of the simulated cluster"

_DEADLINE_SECONDS = 30.0
_IDLE_IMAGE = "busybox:1"


def is_real(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the environment names a real cluster and an image that it can pull."""
    return bool(environ.get("KUBECONFIG") and environ.get("SLACKWATER_TEST_IMAGE"))


@dataclass(slots=True)
class Target:
    """A namespace to work in.

    Attributes:
        folder: For files of the test.
        image: Of the service.
        other_image: Of the service too, under another name; the same one on a real cluster with one image.
        idle_image: Sleeps when it is told to.
    """

    kubeconfig: Path
    namespace: str
    folder: Path
    image: str
    other_image: str
    idle_image: str = _IDLE_IMAGE

    def client(self) -> Any:  # noqa: ANN401 - the client has no types
        """Return a dynamic client."""
        cache = self.folder / f"discovery-{secrets.token_hex(4)}.json"
        return dynamic.DynamicClient(config.new_client_from_config(str(self.kubeconfig)), cache_file=str(cache))

    def wait(
        self,
        kind: tuple[str, str],
        name: str,
        is_wanted: Callable[[dict[str, Any]], bool],
        *,
        seconds: float = _DEADLINE_SECONDS,
    ) -> dict[str, Any]:
        """Watch an object until it is as wanted, and return it.

        Args:
            kind: apiVersion and kind.
        """
        client = self.client()
        resource = client.resources.get(api_version=kind[0], kind=kind[1])
        stream = resource.watch(
            namespace=self.namespace,
            field_selector=f"metadata.name={name}",
            timeout=int(seconds),
            watcher=watch.Watch(),
        )
        last: dict[str, Any] = {}
        for event in stream:
            last = event["raw_object"]
            if event["type"] != "DELETED" and is_wanted(last):
                return last
        raise AssertionError(f"{kind[1]} {name} did not become what was wanted in {seconds} s: {last}")


@contextmanager
def open_target(cluster: SimCluster | None) -> Iterator[Target]:
    """Make a namespace, and remove it with everything in it.

    Args:
        cluster: None takes the real one that the environment names.
    """
    name = f"slackwater-test-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as folder:
        if cluster is None:
            image = os.environ["SLACKWATER_TEST_IMAGE"]
            target = Target(Path(os.environ["KUBECONFIG"]), name, Path(folder), image, image)
        else:
            cluster.images.add(_IDLE_IMAGE, Image())
            target = Target(cluster.kubeconfig(), name, Path(folder), "slackwater:1", "slackwater:2")
        namespaces = target.client().resources.get(api_version="v1", kind="Namespace")
        namespaces.create(body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            yield target
        finally:
            namespaces.delete(name=name)
