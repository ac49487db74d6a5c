"""Whatever stands in a file: an answer or a refusal in a sentence, never a defect."""

from __future__ import annotations

import json
import os

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploytool import manifests
from deploytool.checks import catalog, evaluation
from deploytool.cli.render import machine, text
from deploytool.errors import ManifestError
from deploytool.model.expectations import Expectations
from deploytool.model.finding import Report
from tests.helm.rendering import texts
from tests.support.fuzzing import is_full

relaxed = settings(
    max_examples=2000 if is_full(os.environ) else 200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

KINDS = [
    "Deployment", "StatefulSet", "DaemonSet", "HorizontalPodAutoscaler", "ScaledObject", "Service", "Ingress",
    "PodDisruptionBudget", "PrometheusRule", "ServiceMonitor", "ConfigMap", "Kustomization", "List", "Pod",
]  # fmt: skip
WORDS = [
    "spec", "metadata", "template", "containers", "env", "envFrom", "name", "value", "valueFrom", "configMapRef",
    "replicas", "strategy", "type", "selector", "matchLabels", "matchExpressions", "labels", "annotations", "groups",
    "rules", "alert", "expr", "items", "tls", "hosts", "resources", "limits", "memory", "scaleTargetRef", "maxReplicas",
    "minAvailable", "maxUnavailable", "endpoints", "port", "volumes", "volumeMounts", "services", "deploy", "scale",
    "environment", "FRONTEND_URL", "WS_PING_INTERVAL", "TOKEN_HMAC_SECRET", "app.kubernetes.io/name",
]  # fmt: skip
DIRECTIVES = [
    "server", "location", "/ws", "~", "(", "{", "}", ";", "proxy_pass", "http://a", "upstream", "a", "listen", "80",
    "ssl", "proxy_set_header", "Upgrade", "proxy_read_timeout", "ip_hash", "include", "x_by_lua_block", '"', "#", "\n",
]  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["slackwater", "1.1", "*"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.integers(), inner, max_size=5)
    ),
    max_leaves=40,
)
OBJECTS = st.builds(
    lambda kind, content: {**content, "kind": kind},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(WORDS), VALUES),
)


def judged(source: str, data: bytes) -> Report | None:
    """Judge a file; None when it is refused."""
    try:
        snapshot = manifests.parse(source, data)
    except ManifestError:
        return None
    report = evaluation.evaluate(snapshot, Expectations(), catalog.ITEMS)
    defects = [
        one.message for found in report.results for one in found.findings if "the check itself failed" in one.message
    ]
    assert not defects
    for write in (text.table, text.short, machine.as_json, machine.as_junit, machine.as_sarif):
        assert write(report)
    return report


@relaxed
@given(st.lists(OBJECTS | VALUES, max_size=4))
def test_any_objects_are_judged(documents: list[object]) -> None:
    """Fields of the wrong kind, missing, null, or anywhere."""
    judged("web.yaml", yaml.safe_dump_all(documents).encode())


@relaxed
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """As YAML and as nginx."""
    judged("web.yaml", data)
    judged("site.conf", data)


@relaxed
@given(
    st.lists(
        st.sampled_from(DIRECTIVES),
        max_size=40,
    )
)  # fmt: skip
def test_any_words_of_nginx_are_read_or_refused(words: list[str]) -> None:
    """In any order."""
    judged("site.conf", " ".join(words).encode())


@pytest.mark.parametrize(
    "path", ["spec", "spec.template", "spec.template.spec", "spec.template.spec.containers", "metadata"]
)
@pytest.mark.parametrize("value", [None, [], {}, "text", 5, [None], [[]], {"a": None}], ids=json.dumps)
def test_any_part_of_the_chart_may_be_anything(path: str, value: object) -> None:
    """Each part of our own Deployment replaced."""
    deployment = yaml.safe_load(texts()["deployment.yaml"])
    *way, last = path.split(".")
    inner = deployment
    for key in way:
        inner = inner[key]
    inner[last] = value

    assert judged("web.yaml", yaml.safe_dump(deployment).encode()) is not None
