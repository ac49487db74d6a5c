"""The way to the admin API through the API server, for those who have no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytool.cluster.client import Cluster, RawAnswer

__all__ = ("ServiceProxy",)


class ServiceProxy:
    """Carries requests to one Service by ``services/proxy``, which RBAC can limit to its name.

    Args:
        cluster: Whose API server.
        service: Name and port, joined by a colon, as in the annotation ``slackwater.dev/admin-service``.
    """

    def __init__(self, cluster: Cluster, service: str) -> None:
        self._cluster = cluster
        self._service = service

    @property
    def source(self) -> str:
        """Where requests go, for people."""
        return f"services/{self._service}/proxy"

    def send(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes) -> RawAnswer:
        """Send one request and return the answer of the Service, whatever its status.

        Raises:
            ClusterError: The API server refused it, or found nobody behind the Service.
        """
        return self._cluster.proxy(self._service, method, path, headers=headers, body=body)
