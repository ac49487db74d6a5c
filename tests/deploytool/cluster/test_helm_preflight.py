"""What an upgrade of Helm's would do, and why it would not work: found out before anything is changed.

Helm's own part, the rendering, is played by the test; the cluster is the simulated one.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.helm import HelmSwitch
from deploytool.cluster.helm_process import HelmProcess
from deploytool.cluster.resources import BINDINGS, CONFIG_MAPS, DEPLOYMENTS, POLICIES, SECRETS
from deploytool.cluster.workload import KubernetesWorkload, image_of
from deploytool.rollout.errors import RefusedError
from tests.deploytool.cluster.test_lease import _Clock
from tests.simcluster.fixtures import any_cluster, cluster, target
from tests.simcluster.identity import User
from tests.simcluster.images import Image
from tests.simcluster.kubectl import kubectl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from deploytool.rollout.ports import Proposal
    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

__all__ = ("any_cluster", "cluster", "target")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

_LABELS = {"app": "web"}


def _deployment(image: str, **env: str) -> dict[str, Any]:
    names = [{"name": name, "value": value} for name, value in env.items()]
    container = {"name": "app", "image": image, "command": ["sleep", "3600"], "env": names}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": _LABELS},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _LABELS},
            "template": {
                "metadata": {"labels": _LABELS},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    }


def _configuration(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@dataclass
class _Release:
    """A release of Helm's, and what its chart makes of another image.

    Attributes:
        made: Objects that an upgrade would ask for; None for the old ones with another image.
        given: Values that Helm was given last.
    """

    target: Target
    sim: SimCluster
    api: Cluster
    made: list[dict[str, Any]] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [_deployment("idle:1", MODE="old", LIMIT="1"), _configuration("settings", a="1")]

    def store(self, revision: int, status: str, objects: list[dict[str, Any]], *, method: str = "ssa") -> None:
        """Write what Helm would have on record."""
        manifest = "".join(f"---\n{yaml.safe_dump(one)}" for one in objects)
        chart = {"metadata": {"name": "web"}, "templates": [], "files": [], "values": {}}
        whole = {"version": revision, "chart": chart, "config": {"x": 1}, "manifest": manifest, "apply_method": method}
        packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(whole).encode()))).decode()
        labels = {"owner": "helm", "name": "live", "status": status, "version": str(revision)}
        metadata = {"name": f"sh.helm.release.v1.live.v{revision}", "labels": labels}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"release": packed}}
        self.api.create(SECRETS, body)

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Apply as Helm does."""
        for one in objects:
            body = copy.deepcopy(one)
            meta = body["metadata"]
            meta["labels"] = {**meta.get("labels", {}), "app.kubernetes.io/managed-by": "Helm"}
            owner = {"release-name": "live", "release-namespace": self.target.namespace}
            meta["annotations"] = {f"meta.helm.sh/{key}": value for key, value in owner.items()}
            kubectl(self.target, "apply", "--server-side", "--field-manager=helm", "-f", "-", stdin=json.dumps(body))

    def render(self, image: str) -> str:
        """Return what the chart makes of an image."""
        objects = self.made
        if objects is None:
            objects = self.objects
            objects[0]["spec"]["template"]["spec"]["containers"][0]["image"] = image
        return "".join(f"---\n{yaml.safe_dump(one)}" for one in objects)

    def preflight(self, image: str = "idle:2", *, chart: str = "", api: Cluster | None = None) -> Proposal:
        """Ask what an upgrade would do."""
        api = api or self.api
        switch = HelmSwitch(api, "live", chart=chart)
        return KubernetesWorkload(api, "web", _Clock(), switch=switch).preflight(image)

    def refusal(self, image: str = "idle:2", *, chart: str = "") -> str:
        """Return why it would not work."""
        with pytest.raises(RefusedError) as caught:
            self.preflight(image, chart=chart)
        return str(caught.value)

    def kubectl(self, *arguments: str) -> str:
        """Be somebody else."""
        return kubectl(self.target, *arguments)


@pytest.fixture
def release(cluster: SimCluster, target: Target, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Release]:
    """Applied and on record, with nobody else having had a hand in it."""
    with Cluster.connect(
        kubeconfig_path=str(target.kubeconfig), namespace=target.namespace, limits=Limits(total_seconds=float("inf"))
    ) as api:
        for number in (1, 2, 3, 7, 9):
            cluster.images.add(f"idle:{number}", Image())
        release = _Release(target, cluster, api)
        release.apply(release.objects)
        release.store(1, "deployed", release.objects)

        def render(_helm: HelmProcess, _chart: str, values: Mapping[str, Any]) -> str:
            release.given = values
            return release.render(f"{values['image']['repository']}:{values['image']['tag']}")

        monkeypatch.setattr(HelmProcess, "render", render)
        yield release


def test_upgrade_is_shown_and_changes_nothing(release: _Release) -> None:
    """The workload field by field, other objects by name; the pod is that which would be asked for."""
    release.made = [
        _deployment("idle:2", MODE="new", LIMIT="1"),
        _configuration("settings", a="2"),
        _configuration("b"),
    ]
    release.sim.socket.seen.clear()

    proposal = release.preflight()

    at = "spec.template.spec.containers[app]"
    first, *changes = proposal.changes
    assert first.startswith("helm upgrade live from revision 1 by helm")
    assert [
        f"{at}.env[MODE].value: old -> new",
        f"{at}.image: idle:1 -> idle:2",
        "ConfigMap b: is added",
        "ConfigMap settings: is changed: data.a",
    ] == changes
    assert "idle:2" == proposal.pod["spec"]["containers"][0]["image"]
    assert "Always" == proposal.pod["spec"]["restartPolicy"]
    assert {"x": 1, "image": {"repository": "idle", "tag": "2", "digest": ""}} == release.given
    writes = [one for one in release.sim.socket.seen if one.method not in ("GET", "POST")]
    assert {("PATCH", "helm", True)} == {(one.method, one.manager, one.is_dry_run) for one in writes}
    assert "idle:1" == image_of(release.api.get(DEPLOYMENTS, "web"))


def test_all_who_are_in_the_way_are_named_first(release: _Release) -> None:
    """Every manager with its fields, before a policy has its say; the command that is told frees them."""
    _forbid(release.api, "idle:2")
    release.kubectl("set", "image", "deployment/web", "app=idle:9")
    release.kubectl("set", "env", "deployment/web", "MODE=theirs", "--field-manager=ada")
    release.kubectl("rollout", "status", "deployment/web", "--timeout=30s")

    said = release.refusal()

    assert 'ada owns .spec.template.spec.containers[name="app"].env[name="MODE"].value' in said
    assert 'kubectl-set owns .spec.template.spec.containers[name="app"].image' in said
    assert "idle:2 is forbidden" not in said

    before = release.api.get(DEPLOYMENTS, "web")
    _free(release, said)
    after = release.api.get(DEPLOYMENTS, "web")
    assert before["spec"] == after["spec"]
    assert before["metadata"]["generation"] == after["metadata"]["generation"]
    assert {"helm", "kube-controller-manager"} == {one["manager"] for one in after["metadata"]["managedFields"]}

    # What they set is not on record: going back would undo it.
    assert "revision 1 has image idle:1, and idle:9 runs" in release.refusal("idle:3")
    release.apply([_deployment("idle:9", MODE="theirs", LIMIT="1")])
    release.store(2, "deployed", [_deployment("idle:9", MODE="theirs", LIMIT="1")])
    assert "idle:3" == release.preflight("idle:3").pod["spec"]["containers"][0]["image"]


def test_who_is_in_the_way_back_alone_is_named_too(release: _Release) -> None:
    """The new chart happens to ask for what somebody else set; the old one does not."""
    release.kubectl("set", "env", "deployment/web", "MODE=new", "--field-manager=ada")
    release.made = [_deployment("idle:2", MODE="new", LIMIT="1"), _configuration("settings", a="1")]

    assert 'ada owns .spec.template.spec.containers[name="app"].env[name="MODE"].value' in release.refusal()


def test_who_is_in_the_way_of_another_object_is_named_too(release: _Release) -> None:
    """Helm would have stopped half way, and so would its rollback."""
    release.kubectl("patch", "configmap", "settings", "--patch", '{"data": {"a": "9"}}', "--field-manager=ada")

    said = release.refusal()

    assert "ada owns .data.a of ConfigMap settings." in said
    _free(release, said)
    assert release.preflight().changes


def _free(release: _Release, said: str) -> None:
    """Run the command that is told."""
    _, _, command = said.partition("changes no pod: ")
    command, _, _ = command.partition(". Then take")
    program, *words = shlex.split(command)
    assert "kubectl" == program
    release.kubectl(*words)


def test_who_shares_the_image_is_named(release: _Release) -> None:
    """It has the value that Helm wants to go back to, and would be in the way then."""
    kept = _deployment("idle:1")
    kept["spec"] = {"template": {"spec": {"containers": [{"name": "app", "image": "idle:1"}]}}}
    stdin = json.dumps({**kept, "metadata": {"name": "web"}})
    kubectl(release.target, "apply", "--server-side", "--field-manager=ada", "-f", "-", stdin=stdin)

    assert 'ada owns .spec.template.spec.containers[name="app"].image' in release.refusal()
    # Where Helm patches, nothing else would say so.
    release.store(2, "deployed", release.objects, method="csa")
    assert "ada owns the image of Deployment web" in release.refusal()


def test_release_that_helm_patches_has_no_conflicts(release: _Release) -> None:
    """As those of before Helm 4: fields are taken from whoever has them, and that is what is shown."""
    release.store(2, "deployed", release.objects, method="csa")
    release.kubectl("set", "env", "deployment/web", "MODE=theirs", "--field-manager=ada")

    changes = release.preflight().changes

    assert "spec.template.spec.containers[app].env[MODE].value: theirs -> old" in changes


def test_what_the_cluster_refuses_is_told_in_its_words(release: _Release) -> None:
    """For the way there, and for the way back."""
    _forbid(release.api, "idle:2")
    assert "the upgrade of Deployment web would be refused by policy" in (there := release.refusal())
    assert "idle:2 is forbidden" in there
    release.api.delete(POLICIES, _policy_name(release))

    release.made = [_deployment("idle:2"), _configuration("settings")]
    release.made[0]["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    assert "the upgrade of Deployment web would be refused: " in release.refusal()


def _policy_name(release: _Release) -> str:
    return f"no-image.{release.target.namespace}"


def _forbid(api: Cluster, image: str) -> None:
    name = f"no-image.{api.namespace}"
    rules = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}
    condition = {
        "expression": f"object.spec.template.spec.containers.all(c, c.image != '{image}')",
        "message": f"{image} is forbidden",
    }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rules]},
        "matchConditions": [{"name": "here", "expression": f"object.metadata.namespace == '{api.namespace}'"}],
        "validations": [condition],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    for resource, content in ((POLICIES, spec), (BINDINGS, binding)):
        head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}}
        api.create(resource, {**head, "spec": content})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"image": "other:1"},
            "the chart makes image other:1 of what should be idle:2: it has to take image.repository",
        ),
        ({"replicas": 2}, "asks for 2 replicas"),
        ({"strategy": {"type": "RollingUpdate"}}, "the strategy RollingUpdate: a second pod would start"),
        ({"name": "other"}, "the chart makes no Deployment web, so an upgrade would remove it"),
    ],
)
def test_chart_that_is_no_good_is_refused(release: _Release, change: dict[str, Any], said: str) -> None:
    """Another one than that of the record may do anything."""
    made = _deployment(change.get("image", "idle:2"), MODE="old", LIMIT="1")
    made["metadata"]["name"] = change.get("name", "web")
    made["spec"] |= {key: value for key, value in change.items() if key in ("replicas", "strategy")}
    release.made = [made]

    assert said in release.refusal()


def test_pending_release_is_told_and_seen_through(release: _Release, tmp_path: Path) -> None:
    """Helm renders nothing for it: the objects on record stand in, unless there is another chart."""
    release.store(2, "pending-upgrade", release.objects)
    (tmp_path / "Chart.yaml").touch()

    first, *changes = release.preflight().changes

    assert first.startswith(
        "revision 2 is pending-upgrade, and is rolled back first; helm upgrade live from revision 1"
    )
    assert ["spec.template.spec.containers[app].image: idle:1 -> idle:2"] == changes
    assert {} == release.given
    assert f"helm rollback live 1 --namespace {release.target.namespace}" in release.refusal(chart=str(tmp_path))

    # It got as far as the workload: to go back to what runs would be to go back to it.
    release.apply([_deployment("idle:7", MODE="old", LIMIT="1")])
    said = release.refusal()
    assert "release live is pending-upgrade, its revision 1 has image idle:1, and idle:7 runs" in said
    assert f"helm rollback live 1 --namespace {release.target.namespace}" in said


@pytest.mark.parametrize(
    ("verbs", "said"),
    [
        (("get", "list"), "missing in namespace .*: create secrets; update secrets. .* Helm keeps its records there"),
        (
            ("get", "list", "create", "update"),
            "objects of release live are missing: patch configmaps other; delete configmaps old; create configmaps",
        ),
    ],
)
def test_rights_of_helm_are_asked_for(release: _Release, verbs: tuple[str, ...], said: str) -> None:
    """It works as us: with records that are Secrets, and with every object of the release."""
    stays = [_configuration("settings"), _configuration("other")]
    release.store(2, "deployed", [_deployment("idle:1", MODE="old", LIMIT="1"), *stays, _configuration("old")])
    release.made = [_deployment("idle:2", MODE="old", LIMIT="1"), *stays, _configuration("new"), _unknown()]
    user = User("eve@example.org")
    group = "rbac.authorization.k8s.io"
    rules = [
        {"apiGroups": ["*"], "resources": ["deployments", "leases", "pods", "services/proxy"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": list(verbs)},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get", "patch"]},
    ]
    for plural, kind, content in (
        ("roles", "Role", {"rules": rules}),
        (
            "rolebindings",
            "RoleBinding",
            {
                "roleRef": {"apiGroup": group, "kind": "Role", "name": "eve"},
                "subjects": [{"kind": "User", "name": user.name, "apiGroup": group}],
            },
        ),
    ):
        resource = replace(CONFIG_MAPS, group=group, plural=plural, kind=kind)
        head = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "eve"}}
        release.api.create(resource, {**head, **content})
    config = str(release.sim.kubeconfig(user, namespace=release.target.namespace))

    with Cluster.connect(kubeconfig_path=config) as eve, pytest.raises(RefusedError, match=said):
        release.preflight(api=eve)


def _unknown() -> dict[str, Any]:
    return {"apiVersion": "example.org/v1", "kind": "Unknown", "metadata": {"name": "x"}}
