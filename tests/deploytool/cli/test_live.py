from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from deploytool.cli import live
from deploytool.cli.live import LiveOptions, admin_key
from deploytool.cli.traffic import Traffic
from deploytool.clock import SystemClock
from deploytool.cluster.client import Cluster, Listing
from deploytool.cluster.errors import ForbiddenError
from deploytool.cluster.snapshot import Release
from deploytool.model.expectations import LoadThresholds
from deploytool.model.finding import Depth
from deploytool.model.node import Node, Place
from deploytool.model.observations import AlertRule, PrometheusRules, Status, Unseen
from deploytool.model.snapshot import Snapshot, Target
from deploytool.service_api import AdminApi, HttpTransport

_TARGET = Target("live", "realtime", "live")


def node(kind: str, name: str, **content: Any) -> Node:  # noqa: ANN401 - JSON
    """Return an object of the cluster."""
    labels = content.pop("labels", {})
    return Node(Place("GET x"), {"kind": kind, "metadata": {"name": name, "labels": labels}, **content})


def seen(*objects: Node, **fields: Any) -> Snapshot:  # noqa: ANN401 - of a snapshot
    """Return what was seen of a release with the Service ``live``."""
    return Snapshot(Depth.LIVE, 0.0, _TARGET, objects=(node("Service", "live"), *objects), **fields)


def ingress(service: str, host: str, *, tls: bool = True) -> Node:
    """Return an Ingress."""
    path = {"path": "/", "backend": {"service": {"name": service}}}
    spec = {"rules": [{"host": host, "http": {"paths": [path]}}], "tls": [{"hosts": [host]}] if tls else []}
    return node("Ingress", "i", spec=spec)


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ((), ""),
        ((ingress("live", "a.example.org"),), "wss://a.example.org"),
        ((ingress("live", "a.example.org", tls=False),), "ws://a.example.org"),
        ((ingress("other", "b.example.org"), ingress("live", "a.example.org")), "wss://a.example.org"),
        (
            (
                node(
                    "HTTPRoute",
                    "r",
                    spec={"hostnames": ["c.example.org"], "rules": [{"backendRefs": [{"name": "live"}]}]},
                ),
            ),
            "wss://c.example.org",
        ),
        ((node("HTTPRoute", "r", spec={"rules": [{"backendRefs": [{"name": "live"}]}]}),), ""),
        ((node("Ingress", "odd", spec={"rules": "x", "tls": 3}),), ""),
    ],
)
def test_public_address_is_that_of_the_way_in(objects: tuple[Node, ...], expected: str) -> None:
    """Of an Ingress or an HTTPRoute that leads to the workload's own Service."""
    assert expected == live._public_url(seen(*objects))


def release(env: list[dict[str, Any]]) -> Release:
    """Return a release whose container has this environment."""
    deployment = {"metadata": {"name": "live"}, "spec": {"template": {"spec": {"containers": [{"env": env}]}}}}
    return Release(deployment, Listing((deployment,)), "realtime")


def test_origins_are_those_that_the_pod_is_told() -> None:
    """Once each, without a path, as browsers send them."""
    env: list[dict[str, Any]] = [
        {"name": "FRONTEND_URL", "value": "https://App.example.org/start"},
        {"name": "WS_ALLOWED_ORIGINS", "value": "https://app.example.org, https://b.example.org:8443,nonsense"},
        {"name": "REPL_URL", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}},
        {"name": "OTHER", "value": "https://c.example.org"},
    ]

    assert ("https://app.example.org", "https://b.example.org:8443") == live._configured_origins(release(env))


def test_runbooks_are_those_of_its_alerts() -> None:
    """By the release that made them, by the name in the expression, or as Prometheus has them."""
    rules = [
        {"alert": "A", "expr": "x", "annotations": {"runbook_url": "https://a"}},
        {"alert": "B", "expr": 'x{job="live-admin"}', "annotations": {"runbook_url": "https://b"}},
        {"alert": "C", "expr": "x"},
    ]
    ours = node(
        "PrometheusRule", "o", spec={"groups": [{"rules": rules[:1]}]}, labels={"app.kubernetes.io/instance": "live"}
    )
    others = node("PrometheusRule", "p", spec={"groups": [{"rules": rules}]})
    loaded = AlertRule("D", "live > 1", annotations={"runbook_url": "https://d"})
    foreign = AlertRule("E", "x > 1", annotations={"runbook_url": "https://e"})
    prometheus = PrometheusRules("p", 0.0, (loaded, foreign))

    found = list(live._runbooks(seen(ours, others, prometheus=prometheus)))

    assert ["https://a", "https://b", "https://d"] == found


class _NoSecrets:
    """A cluster in which we may not read Secrets."""

    def get(self, *_: object) -> dict[str, Any]:
        raise ForbiddenError(verb="get", group="", resource="secrets", name="keys", namespace="realtime", user="ada")


class _Secret:
    """A cluster with one Secret."""

    def __init__(self, data: dict[str, str]) -> None:
        self._data = data

    def get(self, *_: object) -> dict[str, Any]:
        return {"data": self._data}


_FROM_SECRET = [{"name": "ADMIN_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "ADMIN_KEY"}}}]


def key_of(cluster: object, env: list[dict[str, Any]], environ: dict[str, str], **options: str) -> str | Unseen:
    """Look for the admin key."""
    return admin_key(LiveOptions(**options), cast("Cluster", cluster), release(env), environ)  # type: ignore[arg-type]  # texts


def test_admin_key_comes_from_the_nearest_place(tmp_path: Path) -> None:
    """A file, else the environment, else the Secret."""
    file = tmp_path / "key"
    file.write_text("from-file\n")
    secret = _Secret({"ADMIN_KEY": "ZnJvbS1zZWNyZXQ="})
    environ = {"SLACKWATER_ADMIN_KEY": "from-environment"}

    assert "from-file" == key_of(secret, _FROM_SECRET, environ, admin_key_file=str(file))
    assert "from-environment" == key_of(secret, _FROM_SECRET, environ)
    assert "from-secret" == key_of(secret, _FROM_SECRET, {})


@pytest.mark.parametrize(
    ("cluster", "env", "words"),
    [
        pytest.param(_NoSecrets(), _FROM_SECRET, "may not get secrets keys", id="forbidden"),
        pytest.param(_Secret({}), _FROM_SECRET, "holds no ADMIN_KEY", id="no such key"),
        pytest.param(_Secret({"ADMIN_KEY": "ä"}), _FROM_SECRET, "holds no ADMIN_KEY", id="no base64"),
        pytest.param(_NoSecrets(), [], "takes its ADMIN_KEY from no Secret", id="of another make"),
    ],
)
def test_admin_key_that_cannot_be_found_is_a_sentence(cluster: object, env: list[dict[str, Any]], words: str) -> None:
    """With the other ways to give it."""
    found = key_of(cluster, env, {})

    assert isinstance(found, Unseen)
    assert words in found.why


def test_admin_key_file_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    """Absent, a folder, or no text."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "nowhere", tmp_path, binary):
        assert isinstance(key_of(_NoSecrets(), [], {}, admin_key_file=str(path)), Unseen)


class _Silence:
    def step(self, text: str) -> None:
        """Say nothing."""

    def count(self, what: str, done: int, total: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


def traffic(status: Status | Unseen, *, url: str = "ws://127.0.0.1:1", connect_to: str = "") -> dict[str, Any]:
    """Return what all probes say where nobody listens."""
    api = AdminApi(HttpTransport("http://127.0.0.1:1"), "k", SystemClock())
    probes = Traffic(
        LiveOptions(connect_to=connect_to), url, (), LoadThresholds(), api, status, SystemClock(), _Silence()
    )
    return dict(probes.run(["handshakes", "origins", "tokens", "tls", "gauge", "load", "rate"]))


def status(connections: int = 0) -> Status:
    """Return the status of a service that allows 1,000."""
    return Status("x", 0.0, "i", "ACTIVE", connections, limits={"max_connections": 1000, "messages_per_minute": 100})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(traffic(status(), url=""), "public address is not known", id="no address"),
        pytest.param(traffic(status(), url="ftp://x"), "is no address", id="an odd address"),
        pytest.param(traffic(status(), connect_to="x"), "HOST:PORT", id="an odd place"),
        pytest.param(traffic(Unseen("it is silent")), "it is silent", id="no status"),
        pytest.param(traffic(status(900)), "900 of 1000", id="full"),
    ],
)
def test_traffic_that_may_not_be_is_not(found: dict[str, Any], words: str) -> None:
    """Each field says why, and nothing was sent."""
    assert 7 == len(found)
    for one in found.values():
        assert isinstance(one, Unseen)
        assert words in one.why


def test_traffic_to_nobody_is_inconclusive() -> None:
    """One probe's failure is no other's."""
    found = traffic(status())

    assert 7 == len(found)
    assert all(isinstance(one, Unseen) for name, one in found.items() if name != "tls")


def test_limit_that_is_switched_off_is_not_tried() -> None:
    """There is nothing that could refuse."""
    off = Status("x", 0.0, "i", "ACTIVE", 0, limits={"max_connections": 1000, "messages_per_minute": 0})

    assert "switched off" in traffic(off)["rate"].why
