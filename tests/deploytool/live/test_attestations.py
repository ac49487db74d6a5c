"""Who vouched for what: in one's own name, for the document that was read, until it is taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploytool.live.release import ADA, EVE, NAME, Release, deploytool, installed
from tests.simcluster.cluster import SimCluster
from tests.simcluster.identity import User
from tests.simcluster.kubectl import kubectl, refused
from tests.simcluster.target import SIMULATED_ONLY, Target, open_target

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def shared(any_cluster: SimCluster | None) -> Iterator[Release]:
    """One release for all tests here; each takes back what it attested."""
    if any_cluster is None:
        pytest.skip(SIMULATED_ONLY)
    with open_target(any_cluster) as target, installed(any_cluster, target) as release:
        yield release


@pytest.fixture(autouse=True)
def _forgotten(shared: Release) -> Iterator[None]:
    yield
    kubectl(shared.admin, "delete", "configmap", "-l", f"slackwater.dev/attestation-of={NAME}")


def _where(release: Release) -> tuple[str, ...]:
    return ("-n", release.admin.namespace, "-w", NAME)


def _attest(release: Release, *arguments: str, user: User = ADA) -> str:
    """Attest, and return the name of the ConfigMap."""
    done = release.deploytool("attest", *arguments, *_where(release), user=user)
    assert 0 == done.returncode, done.stderr
    return done.stdout.split("ConfigMap ")[1].split()[0]


def _listed(release: Release) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        release.deploytool("attest", "list", "-o", "json", *_where(release)).stdout
    )
    return found


def _item(release: Release, name: str, *more: str) -> tuple[str, str]:
    """Return the outcome of one item, and what was said of it."""
    done = release.deploytool("check", "--select", name, "-o", "json", *more)
    (item,) = json.loads(done.stdout)["items"]
    return item["outcome"], "\n".join(
        f"{one['outcome']}: {one['subject']}: {one['message']}" for one in item["findings"]
    )


def _forged(who: str, name: str = "forged", **more: Any) -> str:  # noqa: ANN401 - JSON
    meta = {"name": name, "labels": {"slackwater.dev/attestation-of": NAME}}
    data = {"who": who, "item": "documentation.team-trained", "expiresAt": "2099-01-01T00:00:00Z"}
    return json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "immutable": True, "data": data, **more}
    )


def _as(release: Release, user: User) -> Target:
    return Target(
        release.cluster.kubeconfig(user, namespace=release.admin.namespace),
        release.admin.namespace,
        release.admin.folder,
        release.admin.image,
        release.admin.other_image,
    )


def test_author_is_who_the_api_server_says(shared: Release) -> None:
    """Nobody is asked for a name."""
    name = _attest(shared, "team-trained", "--expires", "365d")
    stored = json.loads(kubectl(shared.admin, "get", "configmap", name, "-o", "json"))

    assert (ADA.name, True) == (stored["data"]["who"], stored["immutable"])
    assert [(ADA.name, "documentation.team-trained", False)] == [
        (one["who"], one["item"], one["shared_user"]) for one in _listed(shared)
    ]
    assert ("pass", "pass") == (_item(shared, "team-trained")[0], _item(shared, "13")[0])


def test_forged_author_is_refused_on_create_and_update(shared: Release) -> None:
    """By the chart's policy: Eve may write config maps, and not in Ada's name."""
    eve = _as(shared, EVE)
    created = refused(eve, "create", "-f", "-", stdin=_forged(ADA.name))
    changeable = refused(eve, "create", "-f", "-", stdin=_forged(EVE.name, immutable=False))
    own = _attest(shared, "team-trained", "--expires", "1d", user=EVE)
    patch = json.dumps({"data": {"who": ADA.name}})
    changed = refused(shared.admin, "patch", "configmap", own, "--type=merge", "-p", patch)
    taken = refused(shared.admin, "label", "configmap", own, "slackwater.dev/attestation-of-")
    smuggled = _smuggled(shared)

    assert f"data.who has to be {EVE.name}" in created
    assert "an attestation is immutable" in changeable
    assert "data.who has to be admin" in changed or "immutable" in changed
    assert "data.who has to be admin" in taken
    assert f"data.who has to be {EVE.name}" in smuggled
    assert [EVE.name] == [one["who"] for one in _listed(shared)]


def _smuggled(release: Release) -> str:
    """Try to make an attestation of another's out of a harmless object, by an update."""
    plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain"}, "data": {"who": ADA.name}}
    kubectl(release.admin, "apply", "-f", "-", stdin=json.dumps(plain))
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "writer"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "update", "patch"]}],
    }
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "writer"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "writer"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": EVE.name}],
    }
    for body in (role, binding):
        kubectl(release.admin, "apply", "-f", "-", stdin=json.dumps(body))
    label = f"slackwater.dev/attestation-of={NAME}"
    return refused(_as(release, EVE), "label", "configmap", "plain", label)


def test_changed_document_voids_its_attestation(shared: Release) -> None:
    """The sha256 is that of what was read."""
    _attest(shared, "deployment-procedure", "--expires", "180d", "--url", f"{shared.site}/deploy.md")
    before = _item(shared, "deployment-procedure")
    kept = shared.pages["/deploy.md"]
    try:
        shared.pages["/deploy.md"] = b"# Deploy differently\n"
        changed = _item(shared, "deployment-procedure")
        del shared.pages["/deploy.md"]
        gone = _item(shared, "deployment-procedure")
    finally:
        shared.pages["/deploy.md"] = kept

    assert ("pass", "fail", "fail") == (before[0], changed[0], gone[0])
    assert "has changed since ada@example.org attested to it" in changed[1]
    assert "answers 404" in gone[1]


def test_rollback_needs_a_drill(shared: Release) -> None:
    """A document alone is not enough."""
    arguments = ("rollback-procedure", "--expires", "180d", "--url", f"{shared.site}/rollback.md")
    _attest(shared, *arguments)
    without = _item(shared, "rollback-procedure")
    _attest(shared, *arguments, "--drill-at", "2026-11-01", "--drill-reference", "drill 7")
    old_or_new = _item(shared, "rollback-procedure")

    assert "fail" == without[0]
    assert "no rollback drill is on record" in without[1]
    assert "drill 7" in json.dumps(_listed(shared))
    assert "no rollback drill" not in old_or_new[1]


def test_roster_names_who_is_missing(shared: Release) -> None:
    """Training is a matter of each person."""
    settings = json.loads((shared.folder / "deploytool.yaml").read_text())
    (shared.folder / "two.yaml").write_text(json.dumps({**settings, "roster": [ADA.name, EVE.name]}))
    _attest(shared, "team-trained", "--expires", "1d")
    one = _item(shared, "team-trained", "--config", "two.yaml")
    _attest(shared, "team-trained", "--expires", "1d", user=EVE)
    both = _item(shared, "team-trained", "--config", "two.yaml")

    assert "fail" == one[0]
    assert f"{EVE.name}: has not attested" in one[1]
    assert "pass" == both[0]


def test_revoked_attestation_is_gone(shared: Release) -> None:
    """And what is none cannot be revoked by this."""
    name = _attest(shared, "team-trained", "--expires", "1d")
    plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    kubectl(shared.admin, "apply", "-f", "-", stdin=json.dumps(plain))
    other = shared.deploytool("attest", "revoke", "settings", *_where(shared))
    done = shared.deploytool("attest", "revoke", name, *_where(shared))

    assert (5, 0) == (other.returncode, done.returncode)
    assert "is no attestation of" in other.stderr
    assert [] == _listed(shared)
    kubectl(shared.admin, "get", "configmap", "settings")
    assert "fail" == _item(shared, "team-trained")[0]


def test_shared_user_is_warned_of(shared: Release) -> None:
    """An administrator of the cluster stands for several people, and so does a service account."""
    config = str(shared.admin.kubeconfig)
    done = deploytool(
        "attest", "team-trained", "--expires", "1d", *_where(shared), kubeconfig=config, folder=shared.folder
    )
    settings = json.loads((shared.folder / "deploytool.yaml").read_text())
    (shared.folder / "admin.yaml").write_text(json.dumps({**settings, "roster": ["admin"]}))
    outcome, said = _item(shared, "team-trained", "--config", "admin.yaml")

    assert 0 == done.returncode, done.stderr
    assert "admin stands for several people" in done.stderr
    assert [True] == [one["shared_user"] for one in _listed(shared)]
    assert "warn" == outcome
    assert "warn: admin: stands for several people" in said


def test_absent_policy_is_warned_of(release: Release) -> None:
    """Then anybody could have written it in anybody's name, and both commands say so."""
    policy = f"{release.admin.namespace}.{NAME}.attestations"
    kubectl(release.admin, "delete", "validatingadmissionpolicybinding", policy)
    kubectl(release.admin, "delete", "validatingadmissionpolicy", policy)
    kubectl(_as(release, EVE), "create", "-f", "-", stdin=_forged(ADA.name))
    outcome, said = _item(release, "team-trained")
    done = release.deploytool("attest", "team-trained", "--expires", "1d", *_where(release))

    assert "warn" == outcome
    assert "authorship is not enforced" in said
    assert "authorship is not enforced" in done.stderr


def test_config_map_with_the_label_and_nothing_else_is_told_of(shared: Release) -> None:
    """It counts for nothing, and does not keep the others from counting."""
    body = json.loads(_forged("admin"))
    body["data"] = {"who": "admin", "expiresAt": "never"}
    kubectl(shared.admin, "create", "-f", "-", stdin=json.dumps(body))
    _attest(shared, "team-trained", "--expires", "1d")
    done = shared.deploytool("attest", "list", *_where(shared))

    assert "ConfigMap forged is labelled as an attestation and is none" in done.stderr
    assert ADA.name in done.stdout
    assert "pass" == _item(shared, "team-trained")[0]
