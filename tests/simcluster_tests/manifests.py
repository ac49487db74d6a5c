"""Manifests that the tests of the simulated cluster apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.process import ADMIN_KEY, API_KEY, HMAC_SECRET

if TYPE_CHECKING:
    from tests.simcluster.target import Target

__all__ = ("DEPLOYMENT", "idle", "service_objects")

DEPLOYMENT = ("apps/v1", "Deployment")


def idle(target: Target, *, replicas: int = 1, image: str = "", **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a Deployment whose container sleeps; ``spec`` is put over its own."""
    container = {"name": "app", "image": image or target.idle_image, "command": ["sleep", "3600"]}
    labels = {"app": "idle"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "idle", "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
            **spec,
        },
    }


def service_objects(target: Target) -> list[dict[str, Any]]:
    """Return a Secret, two Services and a Deployment of the service."""
    labels = {"app": "slackwater"}
    secret = {"API_KEY": API_KEY, "ADMIN_KEY": ADMIN_KEY, "TOKEN_HMAC_SECRET": HMAC_SECRET}
    container = {
        "name": "slackwater",
        "image": target.image,
        "envFrom": [{"secretRef": {"name": "slackwater"}}],
        "env": [
            {"name": "DATABASE_URL", "value": "memory:"},
            {"name": "DRAIN_SPREAD_SECONDS", "value": "0.2"},
            {"name": "LOG_FORMAT", "value": "json"},
        ],
        "ports": [{"name": "http", "containerPort": 3000}, {"name": "admin", "containerPort": 3001}],
        "startupProbe": {"httpGet": {"path": "/api/health/startup", "port": "http"}, "periodSeconds": 1},
        "readinessProbe": {"httpGet": {"path": "/api/health/ready", "port": "http"}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/api/health/live", "port": "http"}, "periodSeconds": 5},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    container["startupProbe"] |= {"failureThreshold": 300}  # type: ignore[operator]  # a dict
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 30,
            "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "slackwater"}, "stringData": secret},
        _service("slackwater", {"name": "http", "port": 80, "targetPort": "http"}, labels),
        _service("slackwater-admin", {"name": "admin", "port": 3001, "targetPort": "admin"}, labels),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "slackwater", "labels": labels},
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": template,
            },
        },
    ]


def _service(name: str, port: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    is_admin = name.endswith("-admin")
    spec = {"selector": labels, "ports": [port], "publishNotReadyAddresses": is_admin}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
