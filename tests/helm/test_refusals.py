from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import Any

import helm_python
import pytest

from tests.helm.rendering import MINIMAL, render, texts, values_of


def refusal(values: dict[str, Any]) -> str:
    """Render values that must be refused, and return what Helm says, in one line."""
    with pytest.raises(helm_python.HelmError) as raised:
        texts(values)
    return " ".join(str(raised.value).split())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("replicaCount=2", "'1 (or 0, which stops it): the service keeps its connections in the memory of one process"),
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("autoscaling.enabled=true", "additional properties 'autoscaling' not allowed"),
        ("settings.maxConections=5", "at '/settings': additional properties 'maxConections' not allowed"),
        ("settings.pingInterval=30", "at '/settings/pingInterval': value must be 'a duration: a number with a unit"),
        ("settings.pingInterval=soon", "a duration: a number with a unit, such as 500ms, 30s, 5m, 24h or 1d"),
        ("drain.budget=-5s", "at '/drain/budget': value must be 'a duration"),
        ("drain.spread=10 s", "at '/drain/spread': value must be 'a duration"),
        ("resources.limits.memory=0", "without a limit one process can take the node with it"),
        ("resources.requests.cpu=much", "a quantity of Kubernetes, such as 250m"),
        ("persistence.accessMode=ReadWriteMany", "a volume that several nodes write would let two instances serve"),
        ("image.digest=latest", "sha256: and 64 hexadecimal digits"),
        ("fullnameOverride=Big.Name", "a name of small letters, digits and dashes"),
        ("ingress.controller=haproxy", "nginx, traefik, or none"),
        ("admissionPolicy.enabled=perhaps", "true, false, or auto"),
        ("ingress=null", "missing property 'ingress'"),
        ("existingSecret=", "kubectl create secret generic live-slackwater-keys --namespace realtime --from-literal="),
        ("secret.generate=true", "existingSecret and secret.generate are both set"),
        ("image.repository=", "docker build --tag REGISTRY/slackwater:0.1.0 . docker push REGISTRY/slackwater:0.1.0"),
        ("database.directKey=direct", "database.directKey is set, and database.existingSecret is empty"),
        ("settings.recoveryMaxBytes=500000,settings.sendBufferBytes=500000", "settings.recoveryMaxBytes is 500000,"),
        ("settings.recoveryMaxBytes=786433", "at '/settings/recoveryMaxBytes'"),
        ("settings.lockServe=2s", "settings.lockServe is 2s, not more than settings.lockProve (2s)"),
        ("settings.lockWait=5s", "settings.lockWait is 5s, not more than settings.lockServe (5s)"),
        ("settings.lockSession=1s", "settings.lockSession is 1s, not more than settings.lockProve (2s)"),
        ("persistence.existingClaim=mine", "persistence.existingClaim is set, and persistence.enabled is off"),
        ("resources.requests.memory=2Gi", "resources.requests.memory is 2Gi, more than resources.limits.memory"),
        ("settings.historyMaxMemory=1Gi", "is 1Gi; it may be 1Mi to less than resources.limits.memory"),
        ("settings.historyMaxMemory=500k", "it may be 1Mi to less than"),
        ("settings.historyMaxMemory=lots", "an amount of memory, such as 768Mi or 2Gi, and more than 0"),
        ("rbac.check[0].kind=ServiceAccount,rbac.check[0].name=ci", "rbac.check: the ServiceAccount ci has no"),
        ("drain.budget=1s", "drain.budget is 1s, not more than drain.grace and drain.spread together (1 s)"),
        ("drain.grace=20s,drain.spread=5s", "together (25 s), so the spread would be cut short"),
        ("drain.terminationGracePeriod=29s", "the pod could be killed while it drains: at least 30s"),
        ("settings.pongTimeout=30s", "settings.pongTimeout is 30s, not less than settings.pingInterval"),
        ("settings.maxMessageBytes=2000000", "settings.maxFrameBytes is 1048576, less than settings.maxMessageBytes"),
        ("settings.sendBufferBytes=65536", "settings.sendBufferBytes is 65536, less than settings.maxFrameBytes"),
        ("settings.allowedOrigins={https://*.example.org}", "there is no wildcard"),
        ("settings.pingInterval=50ms", "settings.pingInterval is 50ms; it may be 100ms to 24h"),
        ("settings.outboxPoll=1ms", "settings.outboxPoll is 1ms; it may be 10ms to 1h"),
        ("drain.budget=2h", "drain.budget is 2h; it may be 1ms to 1h"),
        ("namespaces[0].name=chat,namespaces[1].name=chat", 'namespaces: "chat" is defined twice'),
        ("namespaces[0].name=x", "at '/namespaces/0/name'"),
        ("namespaces[0].name=chat,namespaces[0].histroy_size=5", "additional properties 'histroy_size' not allowed"),
        ("namespaces[0].presence=true", "missing property 'name'"),
        ("ingress.enabled=true", "ingress.host is empty: name the host"),
        ("ingress.enabled=true,ingress.host=a.example,ingress.readTimeout=40s", "the proxy would cut it"),
        ("httpRoute.enabled=true", "httpRoute.parentRefs is empty: name the Gateway"),
        ("httpRoute.requestTimeout=1d", "a duration of the Gateway API, such as 0s or 24h; or empty"),
        ("extraEnv[0].name=WEB_CONCURRENCY,extraEnv[0].value=four", "extraEnv holds WEB_CONCURRENCY, which the chart"),
        ("extraEnv[0].name=API_KEY,extraEnv[0].value=open", "extraEnv holds API_KEY, which the chart sets itself"),
        ("extraEnv[0].name=IMAGE_DIGEST,extraEnv[0].value=x", "extraEnv holds IMAGE_DIGEST"),
    ],
)  # fmt: skip
def test_refused_in_words(change: str, words: str) -> None:
    """A person reads what is wrong and what to do."""
    assert words in refusal(values_of(change))


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """Whoever installs for the first time needs one attempt to learn what is missing."""
    said = refusal({"ingress": {"enabled": True}})

    assert all(word in said for word in ("image.repository is empty", "existingSecret is empty", "ingress.host is"))


def test_no_secret_is_taken_as_a_value() -> None:
    """Wherever somebody would put one."""
    for name in ("apiKey", "adminKey", "tokenHmacSecret", "secrets"):
        assert f"additional properties '{name}' not allowed" in refusal(values_of(f"{name}=open"))
    for place in ("secret", "settings", "database"):
        assert "not allowed" in refusal(values_of(f"{place}.password=open"))


def test_printed_kubectl_line_makes_a_secret_that_the_chart_takes() -> None:
    """The line that the refusal prints is run as it stands, as a dry run."""
    missing = [name for name in ("kubectl", "openssl") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    with pytest.raises(helm_python.HelmError) as raised:
        texts({**MINIMAL, "existingSecret": ""})
    (line,) = re.findall(r"^\s*(kubectl .*)$", str(raised.value), re.MULTILINE)
    made = json.loads(
        subprocess.run(  # noqa: S602 - the line is the chart's
            f"{line} --dry-run=client --output json",
            shell=True,
            check=True,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/nonexistent"},
        ).stdout
    )

    assert made["metadata"]["namespace"] == "realtime"
    assert {"API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET"} == made["data"].keys()
    assert len(set(made["data"].values())) == 3
    assert f"--set existingSecret={made['metadata']['name']}" in str(raised.value)


def test_zero_replicas_stop_the_service() -> None:
    """0 is no second replica."""
    assert render(values_of("replicaCount=0"))["Deployment", "live-slackwater"]["spec"]["replicas"] == 0
