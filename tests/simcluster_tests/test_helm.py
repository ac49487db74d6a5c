from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simcluster.helm import HelmError, helm
from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import Target

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

_TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data: {greeting: {{ .Values.greeting | quote }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: tiny}}
  template:
    metadata: {labels: {app: tiny}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: app
          image: {{ .Values.image }}
          command: [sleep, "3600"]
          env: [{name: GREETING, value: {{ .Values.greeting | quote }}}]
"""


@pytest.fixture
def chart(target: Target) -> Path:
    """A small chart."""
    folder = target.folder / "tiny"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: tiny, version: 0.1.0}")
    (folder / "values.yaml").write_text(json.dumps({"greeting": "hello", "image": target.idle_image}))
    (folder / "templates" / "all.yaml").write_text(_TEMPLATE)
    return folder


def _greeting(target: Target) -> str:
    return kubectl(
        target, "get", "deployment", "demo", "-o", "jsonpath={.spec.template.spec.containers[0].env[0].value}"
    )


def test_release_is_installed_upgraded_rolled_back_and_removed(target: Target, chart: Path) -> None:
    """Helm itself waits for each step, and owns what it applies."""
    helm(target, "install", str(chart), "demo", wait="watcher", timeout=60)
    installed = _greeting(target)
    helm(target, "upgrade", str(chart), "demo", {"greeting": "again"}, wait="watcher", timeout=60)
    upgraded = _greeting(target)
    helm(target, "rollback", "demo", version=1, wait="watcher", timeout=60)
    shown = json.loads(kubectl(target, "get", "deployment", "demo", "-o", "json", "--show-managed-fields"))
    history = helm(target, "history", "demo")
    rolled_back = _greeting(target)
    helm(target, "uninstall", "demo", wait="watcher", timeout=60)

    assert ("hello", "again", "hello") == (installed, upgraded, rolled_back)
    assert ("helm", "Apply") in {(one["manager"], one["operation"]) for one in shown["metadata"]["managedFields"]}
    assert ["superseded", "superseded", "deployed"] == [one["status"] for one in history]
    assert "" == kubectl(target, "get", "deployments,configmaps", "-l", "app=tiny", "-o", "name")


def test_upgrade_that_never_gets_ready_fails(target: Target, chart: Path) -> None:
    """Helm gives up after its own deadline."""
    helm(target, "install", str(chart), "demo", wait="watcher", timeout=60)

    with pytest.raises(HelmError):
        helm(target, "upgrade", str(chart), "demo", {"image": "nowhere.invalid/x:1"}, wait="watcher", timeout=2)


def test_patch_by_another_manager_is_a_conflict_for_helm(target: Target, chart: Path) -> None:
    """Who patches what Helm owns stops its next upgrade."""
    helm(target, "install", str(chart), "demo", wait="watcher", timeout=60)
    kubectl(target, "set", "env", "deployment/demo", "GREETING=patched")

    with pytest.raises(HelmError, match="conflict"):
        helm(target, "upgrade", str(chart), "demo", {"greeting": "again"})
