"""A release from its installation to a green checklist, as the person who runs it sees it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.deploytool.live.release import NAME, Release
from tests.simcluster.kubectl import kubectl, refused
from tests.simcluster_tests.manifests import DEPLOYMENT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def _attest(release: Release) -> None:
    """Vouch for the four documents, as a person would."""
    today = datetime.now(UTC).strftime("%Y-%m-%d")  # noqa: TID251 - the API server's clock is this one
    for item, more in (
        ("team-trained", ()),
        ("deployment-procedure", ("--url", f"{release.site}/deploy.md")),
        (
            "rollback-procedure",
            ("--url", f"{release.site}/rollback.md", "--drill-at", today, "--drill-reference", "drill 7"),
        ),
        ("runbooks", ("--url", f"{release.site}/runbooks.md")),
    ):
        where = ("--namespace", release.admin.namespace, "--workload", NAME)
        done = release.deploytool("attest", item, "--expires", "180d", *more, *where)
        assert 0 == done.returncode, done.stderr
        assert "attests to documentation." in done.stdout


def _probe(release: Release) -> tuple[int, dict[str, Any], str]:
    """Check with traffic and a load test; returns the exit code, the report and what was said beside it."""
    connect_to = (release.folder / "connect-to").read_text()
    done = release.deploytool_process(
        "check", "--probe", "--load", "--load-seconds", "2", "-o", "json",
        "--connect-to", connect_to, "--ca-file", "authority.pem",
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def _outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {item["id"]: item["outcome"] for item in report["items"]}


def _is_replaced(deployment: dict[str, Any]) -> bool:
    status = deployment.get("status", {})
    is_seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return bool(is_seen and status.get("updatedReplicas") == status.get("availableReplicas") == 1)


def _said(item: dict[str, Any]) -> list[str]:
    return [f"{one['outcome']}: {one['message']}" for one in item["findings"] if one["outcome"] != "pass"]


@pytest.mark.slow  # the minute of the rate limit is a real one
def test_release_passes_the_whole_checklist(release: Release) -> None:
    """Installed, attested, probed: sixteen items, and nothing to do."""
    _attest(release)

    code, report, _ = _probe(release)

    outcomes = _outcomes(report)
    odd = {item["id"]: _said(item) for item in report["items"] if item["outcome"] not in ("pass", "not applicable")}
    assert {} == odd
    assert 16 == len(outcomes)
    assert {"infrastructure.database-pool"} >= {name for name, one in outcomes.items() if one == "not applicable"}
    assert 0 == code

    # Nothing of the traffic is left, and the report of the load test is kept.
    assert (release.folder / "load-report.html").exists()
    assert json.loads((release.folder / "load-report.json").read_text())["report"]["lost"] == 0
    again = release.deploytool("check", "--select", "performance-test", "-o", "json")
    assert "pass" == _outcomes(json.loads(again.stdout))["monitoring.performance-test"], again.stdout

    # It says nothing of another image.
    kubectl(release.admin, "set", "image", f"deployment/{NAME}", f"*={release.admin.other_image}")
    release.admin.wait(DEPLOYMENT, NAME, _is_replaced)
    other = release.deploytool("check", "--select", "performance-test", "-o", "json")
    (item,) = json.loads(other.stdout)["items"]
    assert ("fail", {"image"}) == (
        item["outcome"],
        {one["rule"] for one in item["findings"] if one["outcome"] != "pass"},
    )


def test_second_replica_is_refused_and_its_policy_is_missed(release: Release) -> None:
    """The API server says no; without the policy the check does."""
    refusal = refused(release.admin, "scale", f"deployment/{NAME}", "--replicas=2")
    before = release.deploytool("check", "--select", "single-instance", "-o", "json")
    policy = f"{release.admin.namespace}.{NAME}.single-replica"
    kubectl(release.admin, "delete", "validatingadmissionpolicybinding", policy)
    kubectl(release.admin, "delete", "validatingadmissionpolicy", policy)
    after = release.deploytool("check", "--select", "single-instance", "-o", "json")

    assert "2 replicas would lose messages" in refusal
    assert "fail" not in _outcomes(json.loads(before.stdout)).values()
    assert {"infrastructure.single-instance": "fail"} == _outcomes(json.loads(after.stdout))
    assert 3 == after.returncode
    assert "1" == kubectl(release.admin, "get", "deployment", NAME, "-o", "jsonpath={.spec.replicas}")
