"""What a person may do wrong, and what may be wrong with a cluster: a sentence, an exit code, no traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploytool.live.release import ADA, EVE, NAME, Release, deploytool, installed
from tests.simcluster.cluster import SimCluster
from tests.simcluster.faults import Fault
from tests.simcluster.helm import helm
from tests.simcluster.kubectl import kubectl, refused
from tests.simcluster.target import SIMULATED_ONLY, Target, open_target
from tests.support.edge import certificate, odd_server

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def shared(any_cluster: SimCluster | None) -> Iterator[Release]:
    """One release for all tests that change nothing."""
    if any_cluster is None:
        pytest.skip(SIMULATED_ONLY)
    with open_target(any_cluster) as target, installed(any_cluster, target) as release:
        yield release


@pytest.fixture(autouse=True)
def _no_faults(any_cluster: SimCluster | None) -> Iterator[None]:
    yield
    if any_cluster is not None:
        any_cluster.faults.clear()


def _items(text: str) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in json.loads(text)["items"]}


def _said(item: dict[str, Any]) -> str:
    return "\n".join(f"{one['message']} {one['remediation']}" for one in item["findings"])


def test_check_makes_a_bounded_number_of_calls(shared: Release) -> None:
    """Without probes, and however much there is in the namespace."""
    for number in range(30):
        body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": f"other-{number}"}}
        kubectl(shared.admin, "apply", "-f", "-", stdin=json.dumps(body))
    shared.calls()

    done = shared.deploytool("check", "-o", "json")

    calls = shared.calls()
    assert len(calls) <= 22, calls
    assert len(calls) == len(set(calls))
    assert not [one for one in calls if not one.startswith(("GET ", "POST /apis/authentication", "PATCH "))]
    assert 16 == len(_items(done.stdout))


def test_check_of_one_item_asks_for_what_it_needs(shared: Release) -> None:
    """And for nothing else."""
    shared.calls()
    shared.deploytool("check", "--select", "database-pool")

    assert [
        "deployments",
        "selfsubjectreviews",
        "status",
    ] == [one.rpartition("/")[2] for one in shared.calls()]


def test_forbidden_verb_prints_its_rule(shared: Release) -> None:
    """Eve may read config maps and nothing else."""
    done = shared.deploytool("check", user=EVE)

    assert 5 == done.returncode
    assert "eve@example.org may not list deployments of apps" in done.stderr
    assert '- apiGroups: ["apps"]\n  resources: [deployments]\n  verbs: [list]' in done.stderr
    assert "Traceback" not in done.stderr


def test_part_that_is_forbidden_is_inconclusive(cluster: SimCluster, shared: Release) -> None:
    """The rest is judged all the same, and the rule stands in the report."""
    cluster.faults.add(Fault("GET", "/services/.*/proxy/", 403, times=None))
    cluster.faults.add(Fault("GET", "/horizontalpodautoscalers", 403, times=None))
    done = shared.deploytool("check", "-o", "json")
    items = _items(done.stdout)

    assert done.returncode in (3, 5)
    assert "inconclusive" == items["infrastructure.single-instance"]["outcome"]
    assert "resources: [horizontalpodautoscalers]" in _said(items["infrastructure.single-instance"])
    assert "inconclusive" == items["infrastructure.database-pool"]["outcome"]
    assert "services/proxy" in _said(items["infrastructure.database-pool"])
    assert "pass" == items["monitoring.memory-alert"]["outcome"]


def test_expired_credentials_are_named(shared: Release, tmp_path: Path) -> None:
    """As a token from yesterday."""
    config = yaml.safe_load(Path(shared.kubeconfig(ADA)).read_text())
    config["users"][0]["user"]["token"] = "from-yesterday"
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))

    done = deploytool("check", kubeconfig=str(path), folder=shared.folder)

    assert 5 == done.returncode
    assert "does not accept the credentials" in done.stderr
    assert "from-yesterday" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_no_cluster_at_all_is_named(shared: Release, tmp_path: Path) -> None:
    """Neither a file, nor a pod around us; then an address at which nobody is."""
    absent = deploytool("check", kubeconfig=str(tmp_path / "nowhere"), folder=shared.folder)
    config = yaml.safe_load(Path(shared.kubeconfig(ADA)).read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    silent = deploytool("check", kubeconfig=str(path), folder=shared.folder)

    assert (2, 5) == (absent.returncode, silent.returncode)
    assert "there is no kubeconfig at" in absent.stderr
    assert "nothing listens at https://127.0.0.1:1" in silent.stderr
    assert "Traceback" not in absent.stderr + silent.stderr


def test_absent_namespace_is_named(shared: Release) -> None:
    """By who may see that, and by who may not."""
    config = str(shared.admin.kubeconfig)
    seen = deploytool("check", "-n", "nowhere", kubeconfig=config, folder=shared.folder)
    unseen = shared.deploytool("check", "-n", "nowhere")

    assert 2 == seen.returncode
    assert "there is no namespace nowhere in this cluster" in seen.stderr
    assert 5 == unseen.returncode
    assert "in namespace nowhere" in unseen.stderr


def _deployment(name: str, labels: dict[str, str]) -> str:
    pod = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "x", "image": "busybox:1"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": pod}
    return json.dumps(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": spec}
    )


def test_workload_that_is_not_ours_and_two_that_match(shared: Release) -> None:
    """Nothing is guessed; the name decides."""
    kubectl(shared.admin, "apply", "-f", "-", stdin=_deployment("web", {"app": "web"}))
    other = shared.deploytool("check", "-w", "web")
    kubectl(shared.admin, "apply", "-f", "-", stdin=_deployment("two", {"slackwater.dev/guard": "true"}))
    (shared.folder / "empty.yaml").write_text("{}")
    both = shared.deploytool("check", "--config", "empty.yaml")
    kubectl(shared.admin, "delete", "deployment", "web", "two")

    assert (2, 2) == (other.returncode, both.returncode)
    assert "is not ours" in other.stderr
    assert f"there are 2 workloads in namespace {shared.admin.namespace}: {NAME}, two" in both.stderr


def test_half_installed_release_says_what_is_missing(release: Release) -> None:
    """Without its admin Service, and without a pod: each item says why it could not be verified."""
    kubectl(release.admin, "delete", "service", f"{NAME}-admin")
    without_service = release.deploytool("check", "-o", "json")
    config = str(release.admin.kubeconfig)
    kubectl(release.admin, "delete", "secret", f"{NAME}-keys")
    (release.folder / "empty.yaml").write_text(json.dumps({"namespace": release.admin.namespace}))
    without_secret = deploytool(
        "check", "--config", "empty.yaml", "-o", "json", kubeconfig=config, folder=release.folder
    )

    item = _items(without_service.stdout)["infrastructure.database-pool"]
    assert "inconclusive" == item["outcome"]
    assert f"there is no Service {NAME}-admin" in _said(item)
    item = _items(without_secret.stdout)["infrastructure.database-pool"]
    assert f"there is no Secret {NAME}-keys" in _said(item)
    assert "--admin-key-file" in _said(item)
    assert "Traceback" not in without_service.stderr + without_secret.stderr


def test_server_that_hangs_is_given_up(cluster: SimCluster, shared: Release) -> None:
    """One part that hangs costs its limit of time; the rest is judged."""
    cluster.faults.add(Fault("GET", "/poddisruptionbudgets", is_hanging=True, times=None))
    done = shared.deploytool("check", "--select", "single-instance", "-o", "json")
    item = _items(done.stdout)["infrastructure.single-instance"]

    assert "inconclusive" == item["outcome"]
    assert "did not answer within 10 s" in _said(item)


def test_service_that_answers_garbage_is_inconclusive(shared: Release) -> None:
    """As when the admin address is that of something else."""
    page = f"{shared.site}/"
    done = shared.deploytool("check", "--select", "database-pool", "--admin-url", page, "-o", "json")
    item = _items(done.stdout)["infrastructure.database-pool"]

    assert ("inconclusive", 5) == (item["outcome"], done.returncode)
    assert "Look whether this is the admin port" in _said(item)


def test_wrong_admin_key_is_inconclusive(shared: Release) -> None:
    """And the key is not shown."""
    (shared.folder / "wrong").write_text("w" * 40)
    done = shared.deploytool("check", "--select", "database-pool", "--admin-key-file", "wrong", "-o", "json")
    absent = shared.deploytool("check", "--select", "database-pool", "--admin-key-file", "nowhere", "-o", "json")

    assert "does not accept the admin key" in _said(_items(done.stdout)["infrastructure.database-pool"])
    assert "cannot be read" in _said(_items(absent.stdout)["infrastructure.database-pool"])
    assert "wwww" not in done.stdout + done.stderr


def test_probes_without_an_address_that_works_are_inconclusive(shared: Release) -> None:
    """A name that nobody has; nothing was found out, and that is what is said."""
    done = shared.deploytool(
        "check", "--probe", "--select", "authentication", "--connect-to", "127.0.0.1:1", "-o", "json"
    )
    item = _items(done.stdout)["security.authentication"]

    assert item["outcome"] in ("inconclusive", "blocked")
    assert "nothing listens" in _said(item)
    assert done.returncode == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense", "--expires", "1d"), "no item that a person can vouch for; these are: team-trained"),
        (("tls", "--expires", "1d"), "no item that a person can vouch for"),
        (("runbooks", "--expires", "1d"), "is about a document: name it by --url"),
        (("team-trained", "--expires", "soon"), "--expires soon is no time"),
        (("team-trained", "--expires", "2020-01-01"), "is over already"),
        (("team-trained", "--expires", "1d", "--drill-at", "2026-01-01"), "a drill belongs to rollback-procedure"),
        (("rollback-procedure", "--expires", "1d", "--url", "x", "--drill-at", "2026-01-01"), "needs both"),
        (("team-trained",), "Missing option '--expires'"),
        (("revoke", "nowhere"), "there is no ConfigMap nowhere"),
        (("revoke", "kube-root"), "there is no ConfigMap"),
    ],
)
def test_odd_attestation_is_refused(shared: Release, arguments: tuple[str, ...], words: str) -> None:
    """In a sentence, before anything is written."""
    shared.calls()
    done = shared.deploytool("attest", *arguments, "-n", shared.admin.namespace, "-w", NAME)

    assert done.returncode in (2, 5)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not [one for one in shared.calls() if one.startswith(("POST", "DELETE", "PATCH"))]


def test_absent_document_cannot_be_vouched_for(shared: Release) -> None:
    """A page that is not there has no sha256."""
    where = ("-n", shared.admin.namespace, "-w", NAME)
    for url, words in ((f"{shared.site}/gone", "answers HTTP 404"), ("ftp://x/y", "no address of the web")):
        done = shared.deploytool("attest", "runbooks", "--expires", "1d", "--url", url, *where)

        assert 5 == done.returncode
        assert words in done.stderr


def test_release_that_is_gone_is_named(cluster: SimCluster, target: Target) -> None:
    """After an uninstall the namespace is there, and nothing in it."""
    with installed(cluster, target) as release:
        helm(target, "uninstall", "live")
        config = str(target.kubeconfig)
        done = deploytool("check", kubeconfig=config, folder=release.folder)

    assert 2 == done.returncode
    assert f"there is no Deployment {NAME}" in done.stderr


def test_dry_run_stores_nothing(shared: Release) -> None:
    """But asks the API server, policies included."""
    where = ("-n", shared.admin.namespace, "-w", NAME)
    done = shared.deploytool("attest", "team-trained", "--expires", "1d", "--dry-run", *where)

    assert 0 == done.returncode, done.stderr
    assert "ada@example.org would attest to documentation.team-trained" in done.stdout
    assert "nobody has attested" in shared.deploytool("attest", "list", *where).stdout
    assert "NotFound" in refused(shared.admin, "get", "configmap", done.stdout.split("ConfigMap ")[1].split()[0])


def test_expired_certificate_fails_one_item_and_blocks_others(shared: Release, tmp_path: Path) -> None:
    """What lies behind it was not seen, and nobody says that it was."""
    expired = certificate("realtime.example.org", days=-2)
    with odd_server(b"x", cert=expired) as port:
        done = shared.deploytool(
            "check", "--probe", "--select", "security", "--connect-to", f"127.0.0.1:{port}",
            "--ca-file", expired.write(tmp_path), "-o", "json",
        )  # fmt: skip
    items = _items(done.stdout)

    assert 3 == done.returncode
    assert "fail" == items["security.tls"]["outcome"]
    assert "has expired" in _said(items["security.tls"])
    assert "blocked" == items["security.authentication"]["outcome"]
    assert ["security.tls"] == items["security.authentication"]["blocked_by"]


def test_public_address_that_hangs_is_given_up(shared: Release) -> None:
    """In a time that is known, with a sentence."""
    with odd_server(None) as port:
        done = shared.deploytool(
            "check", "--probe", "--select", "session-affinity", "--url", f"ws://127.0.0.1:{port}", "-o", "json"
        )
    item = _items(done.stdout)["infrastructure.session-affinity"]

    assert "inconclusive" == item["outcome"]
    assert "did not answer in time" in _said(item)
