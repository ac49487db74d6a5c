"""Somebody who stops the service in the middle of a rollout, and is let have it so."""

from __future__ import annotations

import pytest

from tests.deploytool.guard.process import guarding
from tests.deploytool.live.rollouts import NAME, Live, hook

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

_CLIENTS = 50


def _replicas(live: Live) -> str:
    return live.kubectl("get", "deployment", NAME, "-o", "jsonpath={.spec.replicas}")


@pytest.mark.parametrize(
    ("when", "image", "going_on", "ends"),
    [
        pytest.param("after-DRAIN", "slackwater:1", "abort", "ROLLED_BACK", id="before-the-switch"),
        pytest.param("after-SWITCH", "slackwater:2", "resume", "COMMIT", id="after-the-switch"),
    ],
)
def test_scaled_to_zero_stays(live: Live, when: str, image: str, going_on: str, ends: str) -> None:
    """The rollout stops, says who did it and how to go on; a guard beside it leaves it alone too."""
    run = ("rollout", "run", "--image", live.target.other_image, "--no-check", "--no-trial", "--lease", "9s")
    waits = hook(live.folder, when)
    with live.traffic(_CLIENTS) as traffic, guarding(live.target) as guard:
        with live.begin(*run, "--settle", "1s", *waits.arguments) as process:
            waits.wait(process)
            live.kubectl("scale", f"deployment/{NAME}", "--replicas=0")
            waits.let_go()
            said, complained = process.communicate(timeout=120)
        guard.wait_for(f"guard.leave Deployment {NAME} is scaled to 0")

        assert 9 == process.returncode, said + complained
        assert "the workload was scaled to 0 by kubectl; it is left like that" in complained
        # It was looked at before anything was asked for that would have undone it.
        assert "going back failed" not in complained
        scale = f"kubectl --namespace {live.target.namespace} scale deployment/{NAME} --replicas=1"
        for command in (scale, f"deploytool rollout resume --workload {NAME}"):
            assert f"  {command}\n" in complained
        assert ("0", image) == (_replicas(live), live.image())
        assert "NEEDS_OPERATOR" == live.phases()[-1]
        assert 0 == guard.count("guard.set_back")

        live.kubectl(*scale.split()[3:])
        done = live.run("rollout", going_on, "--lease", "9s", "--settle", "1s")
        traffic.settle(visits=2)

    assert 0 == done.returncode, done.stderr
    assert ends == live.phases()[-1]
    assert ("1", image) == (_replicas(live), live.image())
