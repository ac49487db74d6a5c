"""A drill: gone forward and back with real clients, put on record, counted by the check, and told in a report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploytool.live.rollouts import BROKEN, NAME, Live, events, installed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

_CLIENTS = 20


@pytest.fixture
def live(cluster: SimCluster, target: Target) -> Iterator[Live]:
    """The chart, with its admission policies."""
    with installed(cluster, target) as live:
        yield live


def _records(live: Live) -> list[dict[str, Any]]:
    found = json.loads(live.kubectl("get", "configmap", "-l", f"slackwater.dev/attestation-of={NAME}", "-o", "json"))
    items: list[dict[str, Any]] = found["items"]
    return items


def _drill_rule(live: Live) -> dict[str, Any]:
    done = live.run("check", "--select", "rollback-procedure", "-o", "json")
    (item,) = json.loads(done.stdout)["items"]
    (found,) = (one for one in item["findings"] if one["rule"] == "drill")
    assert isinstance(found, dict)
    return found


def test_drill(live: Live) -> None:  # noqa: PLR0915 - one way, from its beginning to its end
    """Nothing is lost on the way; who did it is who the API server says; afterwards the item has its rollback."""
    before = _drill_rule(live)
    report = live.folder / "drill.html"
    to = live.target.other_image

    with live.traffic(_CLIENTS) as traffic:
        done = live.run(
            *("rollout", "run", "--drill", "--image", to, "--no-check", "--no-trial", "-o", "json"),
            *("--report", str(report), "--reason", "practice"),
        )
        assert 0 == done.returncode, done.stderr + done.stdout
        traffic.settle(visits=3)

    assert live.target.image == live.image()
    end = events(done)[-1]
    assert ("ROLLED_BACK", 0) == (end["phase"], end["data"]["exit_code"])
    assert "it was a drill" in end["text"]
    assert "COMMIT" not in live.phases()
    (record,) = _records(live)
    assert ("admin", True) == (record["data"]["who"], record["immutable"])
    content = json.loads(record["data"]["rollout"])
    assert (live.target.image, to, True, "ROLLED_BACK") == tuple(
        content[name] for name in ("from", "to", "is_drill", "outcome")
    )
    assert 2 == len(content["gaps"])
    assert all(0.0 <= one["least_seconds"] <= one["most_seconds"] < 60.0 for one in content["gaps"])
    assert live.keys["ADMIN_KEY"] not in json.dumps(record)

    after = _drill_rule(live)
    assert ("fail", "pass") == (before["outcome"], after["outcome"])
    assert f"a drill: {to} -> {live.target.image}" in after["message"]
    assert f"ConfigMap {record['metadata']['name']}" == after["evidence"][0]["source"]
    listed = live.run("attest", "list", "-n", live.target.namespace)
    assert "nobody has attested to anything" in listed.stdout
    assert "warning" not in listed.stderr
    page = report.read_text()
    assert "Drill done: the old image serves again" in page
    assert 2 == page.count('class="gap may"')
    assert f"report: {report}" in done.stderr
    again = live.run("rollout", "resume")
    assert (3, 1) == (again.returncode, len(_records(live)))


def test_rollback_in_earnest_is_on_record_and_a_report_needs_its_place(live: Live) -> None:
    """Where it cannot be written is known before anything is changed."""
    nowhere = live.folder / "nowhere" / "report.html"
    refused = live.run("rollout", "run", "--image", BROKEN, "--no-check", "--no-trial", "--report", str(nowhere))
    report = live.folder / "back.html"
    done = live.run("rollout", "run", "--image", BROKEN, "--no-check", "--no-trial", "--report", str(report))

    assert 2 == refused.returncode
    assert str(nowhere.parent) in refused.stderr
    assert 8 == done.returncode, done.stderr
    assert ["ROLLED_BACK"] == [json.loads(one["data"]["rollout"])["outcome"] for one in _records(live)]
    assert "in earnest" in _drill_rule(live)["message"]
    page = report.read_text()
    assert "Rolled back" in page
    assert "no good" in page, page[page.index("What was said") :]
