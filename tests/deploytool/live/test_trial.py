"""A new image is tried in a pod of its own before anything is changed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploytool.live.rollouts import NAME, Live, installed
from tests.simcluster.images import service_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

_BARRED = {
    "trial": 1,
    "version": "9",
    "code_level": 9,
    "oldest_level": 8,
    "migrates": True,
    "database": {"kind": "sqlite", "level": None, "oldest_level": None},
}


@pytest.fixture
def live(cluster: SimCluster, target: Target) -> Iterator[Live]:
    """A release, and images that are no good, each in its own way."""
    service = service_image()
    says = ("python", "-c", f"import json; print(json.dumps({_BARRED}))")
    for name, image in {
        "dies": replace(service, entrypoint=("python", "-c", "raise SystemExit('no good')")),
        "absent": replace(service, pull_error="manifest unknown"),
        "confused": service_image(RECOVERY_MAX_BYTES="many"),
        "newer": replace(service, entrypoint=says),
    }.items():
        cluster.images.add(f"slackwater:{name}", image)
    with installed(cluster, target) as live:
        yield live


def _run(live: Live, image: str) -> Any:  # noqa: ANN401 - of subprocess
    return live.run("rollout", "run", "--image", image, "--no-check", "-o", "json")


def _pods(live: Live) -> list[str]:
    return live.kubectl("get", "pods", "-o", "name").split()


def test_bad_images_are_named_before_anything_is_changed(live: Live) -> None:
    """And nothing is left of the trial."""
    generation = live.kubectl("get", "deployment", NAME, "-o", "jsonpath={.metadata.generation}")
    pods = _pods(live)
    said = {name: _run(live, f"slackwater:{name}") for name in ("dies", "absent", "confused", "newer")}

    assert dict.fromkeys(said, 3) == {name: one.returncode for name, one in said.items()}
    assert "no good" in said["dies"].stderr
    assert "slackwater:absent" in said["absent"].stderr
    assert "RECOVERY_MAX_BYTES" in said["confused"].stderr
    assert "there would be no way back" in said["newer"].stderr
    assert all("--no-trial" in one.stderr for one in said.values())
    assert pods == _pods(live)
    assert generation == live.kubectl("get", "deployment", NAME, "-o", "jsonpath={.metadata.generation}")
    assert "nobody rolls out" in live.run("lock", "status").stdout


def test_good_image_says_what_it_would_do(live: Live) -> None:
    """It has been started by then, and what it would do to the database is known."""
    done = _run(live, live.target.other_image)
    notes = [one["text"] for one in map(json.loads, done.stdout.splitlines()) if one["kind"] == "note"]

    assert 0 == done.returncode, done.stderr + done.stdout
    assert any(one.startswith("the new image starts: version ") for one in notes)
    assert any("schema level 1" in one for one in notes)
    assert any(one.startswith(f"warning: {live.target.other_image} is named by a tag") for one in notes)
    assert not any("trial" in one for one in _pods(live))
