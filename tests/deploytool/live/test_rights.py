"""A release that Helm does not own, rolled out by somebody who has the Role of the chart for that and nothing else."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploytool.live.rollouts import NAME, Live, arrive, bad_image, values
from tests.helm.rendering import texts
from tests.simcluster.identity import User
from tests.simcluster.kubectl import kubectl
from tests.simcluster_tests.manifests import DEPLOYMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

_BEA = User("bea@example.org")
_ROLE = f"{NAME}-rollout"
_CLIENTS = 50
_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
# What a rollout needs on its way back alone, and has to know before it begins.
_BACK = ("delete services/proxy",)

_OF_CHECKS = (
    "daemonsets",
    "endpointslices",
    "horizontalpodautoscalers",
    "httproutes",
    "ingresses",
    "poddisruptionbudgets",
    "prometheusrules",
    "scaledobjects",
    "servicemonitors",
    "services",
    "statefulsets",
)
"""Without which the checks of the preflight see less; what they cannot see does not keep a rollout from beginning."""


@pytest.fixture
def live(cluster: SimCluster, target: Target) -> Iterator[Live]:
    """What ``helm template`` prints, applied by kubectl, with Bea's work folder."""
    given = values(target, tests={"enabled": False}, rbac={"rollout": [{"kind": "User", "name": _BEA.name}]})
    manifests = [text for name, text in texts(given, namespace=target.namespace).items() if name.endswith(".yaml")]
    kubectl(target, "apply", "-f", "-", stdin="\n---\n".join(manifests))
    target.wait(DEPLOYMENT, NAME, lambda one: one.get("status", {}).get("readyReplicas") == 1)
    folder = target.folder / "bea"
    folder.mkdir()
    file = cluster.folder / "claims" / target.namespace / f"{NAME}-data" / "slackwater.db"
    live = arrive(cluster, target, folder, f"sqlite:///{file}")
    (folder / "admin-key").write_text(live.keys["ADMIN_KEY"])
    live.configure(admin_key_file="admin-key")
    yield live
    kubectl(target, "delete", "deployment", NAME)


def _run(live: Live, *arguments: str) -> Any:  # noqa: ANN401 - of subprocess
    """Run the tool as Bea; nothing is left of what she asked before."""
    live.cluster.socket.seen.clear()
    kubeconfig = live.cluster.kubeconfig(_BEA, namespace=live.target.namespace)
    return live.run(*arguments, "-o", "json", kubeconfig=str(kubeconfig))


def _asked(live: Live) -> set[str]:
    """Return what Bea has asked for, each as a verb and a resource."""
    found = set()
    for one in live.cluster.socket.seen:
        match = re.search(rf"/namespaces/{live.target.namespace}/([a-z]+)(?:/[^/]+)?(?:/(proxy|log))?", one.path)
        if one.user == _BEA.name and match:
            is_list = one.method == "GET" and one.path.endswith(match[1])
            part = f"/{match[2]}" if match[2] else ""
            found.add(f"{'list' if is_list else _VERBS[one.method]} {match[1]}{part}")
    return found


@contextmanager
def _without(live: Live, right: str) -> Iterator[None]:
    """Take one verb of one resource from the Role."""
    role = yaml.safe_load(live.kubectl("get", "role", _ROLE, "-o", "yaml"))
    verb, resource = right.split()
    rules = []
    for rule in role["rules"]:
        if resource in rule["resources"]:
            others = [one for one in rule["resources"] if one != resource]
            verbs = [one for one in rule["verbs"] if one != verb]
            rules += [{**rule, "resources": others}] if others else []
            rules += [{**rule, "resources": [resource], "verbs": verbs}] if verbs else []
        else:
            rules.append(rule)
    _set_rules(live, rules)
    try:
        yield
    finally:
        _set_rules(live, role["rules"])


def _set_rules(live: Live, rules: list[dict[str, Any]]) -> None:
    live.kubectl("patch", "role", _ROLE, "--type=merge", "-p", json.dumps({"rules": rules}))


def test_role_of_the_chart_is_enough(live: Live) -> None:
    """There by a patch of the image, and back from one that is mute; nobody misses anything."""
    live.cluster.images.add("slackwater:mute", bad_image("mute"))
    with live.traffic(_CLIENTS) as traffic:
        good = _run(live, "rollout", "run", "--image", live.target.other_image, "--reason", "1.4", "--settle", "1s")
        assert 0 == good.returncode, good.stderr + good.stdout
        assert [live.target.other_image] * 2 == _images(live)
        traffic.settle(visits=2)
        bad = _run(live, "rollout", "run", "--image", "slackwater:mute", "--no-trial", "--settle", "1s")
        assert 8 == bad.returncode, bad.stderr + bad.stdout
        assert [live.target.other_image] * 2 == _images(live)
        traffic.settle(visits=3)

    assert "patched slackwater:1 to slackwater:2" in good.stdout
    assert "a publication did not come back to its subscriber" in bad.stdout
    record = live.record()
    assert ("ROLLED_BACK", None) == (record["journal"]["steps"][-1]["phase"], record["holder"])


def _images(live: Live) -> list[str]:
    """Return the images that are asked for, of the migration and of the service."""
    deployment = json.loads(live.kubectl("get", "deployment", NAME, "-o", "json"))
    spec = deployment["spec"]["template"]["spec"]
    return [one["image"] for kind in ("initContainers", "containers") for one in spec[kind]]


def test_each_verb_that_is_missing_is_named(live: Live) -> None:
    """Of all that a rollout asks for, one after the other, and before anything is changed."""
    good = _run(live, "rollout", "run", "--image", live.target.other_image, "--settle", "1s")
    assert 0 == good.returncode, good.stderr + good.stdout
    needed = {one for one in _asked(live) if not one.endswith(_OF_CHECKS)} | {*_BACK}
    assert {"patch deployments", "create pods", "delete pods", "patch leases", "create services/proxy"} <= needed
    live.kubectl("delete", "lease", _ROLE)

    for right in sorted(needed):
        with _without(live, right):
            done = _run(live, "rollout", "run", "--image", live.target.image)

        assert done.returncode in (3, 5), f"{right}: {done.returncode} {done.stdout} {done.stderr}"
        verb, resource = right.split()
        assert re.search(rf"\b{verb}\b.*\b{resource}\b", done.stderr), f"{right}: {done.stderr}"
        assert "Traceback" not in done.stderr
        assert [live.target.other_image] * 2 == _images(live), right
        left = live.kubectl("get", "leases,pods", "-l", "!pod-template-hash", "-o", "name")
        assert not left, right
