"""New images that are no good, each in its own way, and nobody who misses anything for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploytool.live.rollouts import NAME, Live, Traffic, bad_image, events, installed
from tests.simcluster.target import SIMULATED_ONLY, open_target

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.simcluster.cluster import SimCluster

# One release and one crowd for all: what one image does to them, the next finds mended.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.xdist_group("bad-images")]

_CLIENTS = 300
_GOING = ("--no-check", "--no-trial", "-o", "json")


@pytest.fixture(scope="module")
def live(any_cluster: SimCluster | None) -> Iterator[Live]:
    """A release that outlives every rollout of this module."""
    if any_cluster is None:
        pytest.skip(SIMULATED_ONLY)
    with open_target(any_cluster) as target, installed(any_cluster, target) as live:
        yield live


@pytest.fixture(scope="module")
def traffic(live: Live) -> Iterator[Traffic]:
    """Clients and durable publications, without a pause from the first rollout to the last."""
    with live.traffic(_CLIENTS, processes=2, most_back_off_seconds=5.0) as traffic:
        yield traffic


def _roll_out(live: Live, traffic: Traffic, twist: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Roll a bad image out, and see that all is as before; returns what the tool said."""
    image = f"slackwater:{twist}"
    live.cluster.images.add(image, bad_image(twist))
    before = live.image()
    traffic.settle()
    visits = min(one.subscribed for one in traffic.last)

    done = live.run("rollout", "run", "--image", image, "--reason", twist, *_GOING, *more)

    assert 8 == done.returncode, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert before == live.image()
    end = events(done)[-1]
    assert "ROLLED_BACK" == end["phase"]
    assert end["text"].startswith(f"rolled back to {before}: ")
    # Everybody is back, with everything, and the lock is free.
    traffic.settle(visits=visits + 1)
    (noted,) = [one["text"] for one in events(done) if one["phase"] == "ROLLED_BACK" and one["kind"] == "done"]
    assert f" of {_CLIENTS} clients are back" in noted
    assert live.record()["holder"] is None
    assert "1/1" == live.kubectl("get", "deployment", NAME, "-o", "jsonpath={.status.readyReplicas}/{.status.replicas}")
    return done


def _failure(done: subprocess.CompletedProcess[str]) -> str:
    (found,) = [one["text"] for one in events(done) if one["kind"] == "failed"]
    return str(found)


def _phases(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the phases that went well."""
    return [one["phase"] for one in events(done) if one["kind"] == "done"]


def test_image_that_never_gets_ready_is_taken_back(live: Live, traffic: Traffic) -> None:
    """It runs, and its readiness fails: given up after the time for it, with what the node says."""
    done = _roll_out(live, traffic, "never-ready", "--ready-timeout", "10s")

    assert "slackwater:never-ready was not ready within 10 s" in _failure(done)
    assert "READY" not in _phases(done)
    assert any("Readiness probe failed" in one["text"] for one in events(done))


def test_image_that_crashes_after_it_was_ready_is_taken_back(live: Live, traffic: Traffic) -> None:
    """It serves, and clients come back to it; then it is gone."""
    done = _roll_out(live, traffic, "crash")

    assert {"READY", "SMOKE"} <= {*_phases(done)}
    assert "RECONNECT" not in _phases(done)
    assert "CrashLoopBackOff" in _failure(done) or "was restarted" in _failure(done)


def test_image_that_fails_the_smoke_test_is_taken_back(live: Live, traffic: Traffic) -> None:
    """It acknowledges and keeps publications, and delivers none: those are delivered by the image before."""
    done = _roll_out(live, traffic, "mute")

    assert "a publication did not come back to its subscriber" == _failure(done)
    assert "READY" in _phases(done)


def test_image_that_refuses_clients_is_taken_back(live: Live, traffic: Traffic) -> None:
    """It is ready and serves whoever tries it; the clients of before stay away, and are waited for a minute."""
    done = _roll_out(live, traffic, "shut")

    assert {"READY", "SMOKE"} <= {*_phases(done)}
    assert f"0 of {_CLIENTS} clients are back after 6" in _failure(done)
