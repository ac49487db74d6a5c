"""A rollout as the person who runs it sees it: real processes, stock clients, and a Helm that owns the release."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.deploytool.live.rollouts import BROKEN, NAME, Live, events, hook, installed
from tests.simcluster.kubectl import kubectl

if TYPE_CHECKING:
    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target
    from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

_FEW, _MANY = 50, 300
_LONG_ENOUGH = 100
_LATE_SECONDS = 10.0
"""By which a client that shares its processor may notice something later than it was."""


def _managers(live: Live) -> set[str]:
    found = json.loads(live.kubectl("get", "deployment", NAME, "-o", "json", "--show-managed-fields"))
    return {one["manager"] for one in found["metadata"]["managedFields"]}


def test_good_and_bad_image(live: Live) -> None:
    """To a new image and back from one that does not start: every row of the outbox once and in order, to everybody.

    Clients try again within a second, and the new pod is believed after one.
    """
    with live.traffic(_FEW, most_back_off_seconds=1.0) as traffic:
        before = traffic.settle()
        going = ("--no-trial", "--settle", "1s", "-o", "json")
        good = live.run("rollout", "run", "--image", live.target.other_image, "--reason", "1.4", *going)
        assert 0 == good.returncode, good.stderr + good.stdout
        assert live.target.other_image == live.image()
        between = traffic.settle(visits=2)

        bad = live.run("rollout", "run", "--image", BROKEN, "--no-check", *going)
        assert 8 == bad.returncode, bad.stderr + bad.stdout
        assert live.target.other_image == live.image()
        after = traffic.settle(visits=3)

    assert before + _LONG_ENOUGH < between < after - _LONG_ENOUGH
    drained = [one["data"]["left"] for one in events(good) if one["phase"] == "DRAIN" and one["kind"] == "progress"]
    assert (_FEW, 0) == (drained[0], drained[-1])
    (smoke,) = [one["text"] for one in events(good) if one["phase"] == "SMOKE" and one["kind"] == "done"]
    assert "published, received, recovered; what was published before the switch was recovered" in smoke
    ends = [one["text"] for one in (events(good)[-1], events(bad)[-1])]
    assert f"{_FEW} of {_FEW} clients are back" in ends[0]
    assert "rolled back to" in ends[1]
    assert any("log:" in one["text"] or "event:" in one["text"] for one in events(bad))

    record = live.record()
    assert record["holder"] is None
    assert "ROLLED_BACK" == record["journal"]["steps"][-1]["phase"]
    assert live.keys["ADMIN_KEY"] not in json.dumps(record)
    assert "deploytool" not in _managers(live)


@pytest.mark.slow
def test_three_hundred_clients_miss_nothing(
    cluster: SimCluster, target: Target, postgres_server: PostgresServer
) -> None:
    """On Postgres, with the back-off of stock clients, everything checked and the image tried first."""
    database = postgres_server.create_database(migrated=False)
    with installed(cluster, target, database=database) as live:
        with live.traffic(_MANY, processes=2, most_back_off_seconds=20.0) as traffic:
            before = traffic.settle()
            run = ("rollout", "run", "--image", target.other_image, "--reason", "1.4", "--report", "report.html")
            done = live.run_process(*run, "-o", "json")
            assert 0 == done.returncode, done.stderr + done.stdout
            after = traffic.settle(visits=2)
        assert target.other_image == live.image()
        steps = live.record()["journal"]["steps"]
        report = (live.folder / "report.html").read_text()

    assert before + _LONG_ENOUGH < after
    assert 2 * _MANY == sum(one.subscribed for one in traffic.last)
    progress = [one for one in events(done) if one["kind"] == "progress" and "left" in one["data"]]
    assert (_MANY, 0) == (progress[0]["data"]["left"], progress[-1]["data"]["left"])
    back = [one["data"]["back"] for one in events(done) if "back" in one["data"]]
    assert sorted(back) == back
    assert _MANY * 0.95 <= back[-1]
    order = "PREFLIGHT LOCK ANNOUNCE AWAIT_WINDOW RECHECK GATE DRAIN SWITCH READY SMOKE RECONNECT COMMIT"
    assert order.split()[1:] == [one["phase"] for one in steps]
    assert all(one["done_at"] is not None for one in steps)
    # From the last close to the first accept: the report knows it as well as the clients do.
    shown = re.search(r"at least ([\d.]+) s and at most ([\d.]+) s", report)
    assert shown is not None
    last_close = max(one.lost_at[0] for one in traffic.last)
    first_accept = min(one.back_at[0] for one in traffic.last)
    assert float(shown[1]) - _LATE_SECONDS < first_accept - last_close < float(shown[2]) + _LATE_SECONDS
    assert "<svg" in report


@pytest.mark.slow
def test_second_rollout_loses_and_a_killed_one_is_resumed(live: Live) -> None:
    """One wins, the other names it; after `kill -9` the first is gone on with by somebody else."""
    waits = hook(live.folder, "after-GATE")
    run = ("rollout", "run", "--image", live.target.other_image, "--no-check", "--no-trial", "--lease", "9s")
    with live.begin(*run, "--reason", "first", *waits.arguments) as first:
        waits.wait(first)
        second = live.run(*run)
        shown = live.run("lock", "status")
        first.kill()
    waits.let_go()

    assert 6 == second.returncode, second.stderr
    assert "the lock is held by " in second.stderr
    assert "(first)" in second.stderr
    assert "begun GATE" in shown.stdout
    assert live.target.image == live.image()

    resumed = live.run("rollout", "resume", "--lease", "9s", "-o", "json")

    assert 0 == resumed.returncode, resumed.stderr + resumed.stdout
    assert "GATE was the last phase; start again" in resumed.stdout
    assert live.target.other_image == live.image()
    again = live.run("rollout", "resume")
    assert 3 == again.returncode
    assert "no rollout that was left unfinished" in again.stderr


@pytest.mark.slow
def test_of_two_that_begin_at_once_one_wins(live: Live) -> None:
    """Whichever it is; the other names it, and the image is replaced once."""
    waits = [hook(live.folder, "before-PREFLIGHT", name) for name in ("one", "two")]
    run = ("rollout", "run", "--image", live.target.other_image, "--no-check", "--no-trial", "-o", "json")
    with (
        live.begin(*run, "--reason", "one", *waits[0].arguments) as one,
        live.begin(*run, "--reason", "two", *waits[1].arguments) as two,
    ):
        for waiting, process in zip(waits, (one, two), strict=True):
            waiting.wait(process)
        for waiting in waits:
            waiting.let_go()
        said = {name: process.communicate(timeout=120) for name, process in (("one", one), ("two", two))}

    codes = {"one": one.returncode, "two": two.returncode}
    assert [0, 6] == sorted(codes.values()), said
    loser = next(name for name, code in codes.items() if code == 6)
    winner = next(name for name, code in codes.items() if code == 0)
    assert "Traceback" not in said[loser][1]
    assert f"({winner})" in said[loser][1] or "somebody else was quicker" in said[loser][1]
    assert winner == live.record()["journal"]["reason"]
    assert "2" == live.kubectl("get", "secret", "-l", "owner=helm,status=deployed", "-o", _VERSION)


_VERSION = "jsonpath={.items[0].metadata.labels.version}"


@pytest.mark.slow
def test_interrupted_rollout_is_aborted(live: Live) -> None:
    """Ctrl-C where nobody can answer leaves it at the next safe point; whoever aborts has nothing to undo."""
    waits = hook(live.folder, "after-ANNOUNCE")
    run = ("rollout", "run", "--image", live.target.other_image, "--no-check", "--no-trial", "--lease", "9s")
    with live.begin(*run, *waits.arguments) as process:
        waits.wait(process)
        process.send_signal(signal.SIGINT)
        waits.let_go()
        _, said = process.communicate(timeout=30)

    assert 130 == process.returncode, said
    assert "Traceback" not in said
    assert f"deploytool rollout resume --workload {NAME}" in said

    aborted = live.run("rollout", "abort", "--lease", "9s")

    assert 0 == aborted.returncode, aborted.stderr
    assert "CANCELLED END cancelled, and nothing was changed" in aborted.stderr
    assert live.target.image == live.image()
    assert "nobody rolls out" in live.run("lock", "status").stdout


@pytest.mark.slow
def test_drain_alone_and_plan(live: Live) -> None:
    """Emptied, kept so, let in again; the image stays. The plan changes nothing."""
    plan = live.run("rollout", "plan", "--image", live.target.other_image)
    drained = live.run("drain", "--hold", "1s", "-o", "json")

    assert 0 == plan.returncode, plan.stderr
    assert "it may start now" in plan.stdout
    assert "helm upgrade live from revision 1" in plan.stdout
    assert 0 == drained.returncode, drained.stderr + drained.stdout
    assert "ROLLED_BACK" == events(drained)[-1]["phase"]
    assert live.target.image == live.image()
    status = httpx.get(f"http://{live.address}/api/health/websocket", trust_env=False).json()
    assert "ACTIVE" == status["phase"]

    kubectl(live.target, "set", "image", f"deployment/{NAME}", f"*={BROKEN}")
    kubectl(live.target, "set", "image", f"deployment/{NAME}", f"*={live.target.image}")
    other = live.run("rollout", "plan", "--image", live.target.other_image)
    assert 3 == other.returncode
    assert "kubectl-set" in other.stdout
