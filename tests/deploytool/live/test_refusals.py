"""What a person may do wrong with a rollout: a sentence and an exit code, before anything is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.deploytool.live.rollouts import ALWAYS, NAME, Live, installed
from tests.simcluster.target import SIMULATED_ONLY, open_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.cluster import SimCluster

# One release for all of them: none changes it.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.xdist_group("refusals")]

_JOURNAL = "slackwater.dev/rollout-journal"
_LEASE = f"{NAME}-rollout"
_HOUR = 3600.0


@pytest.fixture(scope="module")
def shared(any_cluster: SimCluster | None) -> Iterator[Live]:
    """One release for all tests of this module."""
    if any_cluster is None:
        pytest.skip(SIMULATED_ONLY)
    with open_target(any_cluster) as target, installed(any_cluster, target) as live:
        yield live


@pytest.fixture
def live(shared: Live) -> Iterator[Live]:
    """The release, which is as it was before when the test is over, and was never locked by us."""
    yield shared
    shared.cluster.clock.shift_seconds = 0.0
    shared.configure(windows=ALWAYS)
    shared.kubectl("delete", "lease", _LEASE, "--ignore-not-found")
    assert shared.target.image == shared.image()


def _has_lease(live: Live) -> bool:
    return bool(live.kubectl("get", "leases", "-o", "name"))


def test_same_image_is_refused(live: Live) -> None:
    """By the plan and by the run."""
    for command in ("plan", "run"):
        done = live.run("rollout", command, "--image", live.target.image, "--no-check")

        assert 3 == done.returncode, done.stderr
        assert f"{NAME} runs {live.target.image} already" in done.stdout + done.stderr
    assert not _has_lease(live)


@pytest.mark.parametrize(
    ("opening", "code", "said"),
    [
        pytest.param({}, 7, "no window of the 10 min that it takes opens within ten years", id="none"),
        pytest.param({"rule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "length": "2h"}, 2, "never comes", id="no-day"),
        pytest.param({"rule": "FREQ=DAILY", "length": "1m"}, 7, "no window of the 10 min that it takes", id="short"),
    ],
)
def test_window_that_never_opens_is_refused(live: Live, opening: dict[str, str], code: int, said: str) -> None:
    """Also when somebody is ready to wait; nothing is locked for it."""
    live.configure(windows={"zone": "UTC", "open": [{"name": "it", "at": "01:00", **opening}] if opening else []})
    done = live.run("rollout", "run", "--image", live.target.other_image, "--no-check", "--wait", "1h")

    assert code == done.returncode, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not _has_lease(live)


@pytest.mark.parametrize("way", ["behind", "ahead of"])
def test_clock_that_is_wrong_by_an_hour_is_refused(live: Live, way: str) -> None:
    """Unless no window is asked for; the plan names it too."""
    live.cluster.clock.shift_seconds = _HOUR if way == "behind" else -_HOUR
    plan = live.run("rollout", "plan", "--image", live.target.other_image)
    run = live.run("rollout", "run", "--image", live.target.other_image, "--no-check", "--no-trial")
    drain = live.run("drain")
    excused = live.run("rollout", "plan", "--image", live.target.other_image, "--now", "the time server is down")

    said = f"the clock here is 60 min {way} that of the API server"
    assert (3, 3, 3, 0) == tuple(one.returncode for one in (plan, run, drain, excused)), run.stderr + excused.stdout
    assert f"problem:   {said}" in plan.stdout
    assert said in run.stderr
    assert said in drain.stderr
    assert not _has_lease(live)


def test_clock_that_is_a_little_wrong_is_not(live: Live) -> None:
    """Clocks differ."""
    live.cluster.clock.shift_seconds = 30.0

    assert 0 == live.run("rollout", "plan", "--image", live.target.other_image).returncode


def test_journal_of_a_newer_version_is_left_alone(live: Live) -> None:
    """By whatever would begin, go on or go back; the way out is said, and the lock tells what it knows."""
    journal = json.dumps({"version": 99, "rollout": "r99", "stages": ["of tomorrow"]})
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": _LEASE, "annotations": {_JOURNAL: journal}},
        "spec": {"leaseDurationSeconds": 60},
    }
    (live.folder / "lease.json").write_text(json.dumps(lease))
    live.kubectl("apply", "-f", str(live.folder / "lease.json"))

    for command in (("run", "--image", live.target.other_image, "--no-check"), ("resume",), ("abort",)):
        done = live.run("rollout", *command)

        assert done.returncode in (6, 9), f"{command}: {done.stderr}"
        assert "the journal of rollout r99 has version 99, and this deploytool knows" in done.stderr
        assert "Traceback" not in done.stderr
    status = live.run("rollout", "status")
    assert 0 == status.returncode
    assert "version 99" in status.stdout
    stored = json.loads(live.kubectl("get", "lease", _LEASE, "-o", "json"))
    assert journal == stored["metadata"]["annotations"][_JOURNAL]
