"""Every kind of fault of the API server in every phase of a rollout, with real processes.

One run meets another kind in each phase, so that as many runs as there are kinds meet them all.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from deploytool.rollout.phases import FORWARD, Phase
from tests.deploytool.live.lanes import LEASE_SECONDS, Lane, distribute, lanes
from tests.deploytool.live.rollouts import NAME
from tests.simcluster.faults import Fault
from tests.simcluster.target import SIMULATED_ONLY, is_real

if TYPE_CHECKING:
    from tests.simcluster.requests import Request

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(is_real(), reason=SIMULATED_ONLY),
    pytest.mark.timeout(600),
]

_LANES = 3
_JOURNAL = "slackwater.dev/rollout-journal"
_ENDED = ("ROLLED_BACK", "CANCELLED")
_RELEASE = "RELEASE"
_PLACES = (*(one.value for one in FORWARD), _RELEASE)
_KINDS = {
    "409": Fault(code=409),
    "410": Fault(code=410),
    "429": Fault(code=429, retry_after_seconds=1),
    "500": Fault(code=500),
    "503": Fault(code=503, retry_after_seconds=2),
    "timeout": Fault(is_hanging=True),
    "timeout-done": Fault(is_hanging=True, is_after=True),
    "cut": Fault(is_cut=True),
    "cut-done": Fault(is_cut=True, is_after=True),
}


def _place_of(lane: Lane, request: Request) -> str:
    """Return the phase that a request belongs to, by what is on record; in the cluster's thread."""
    cluster = lane.cluster
    found = cluster.store.get(cluster.kinds.get("Lease"), lane.live.target.namespace, f"{NAME}-rollout")
    notes = {} if found is None else found["metadata"].get("annotations") or {}
    steps = json.loads(notes.get(_JOURNAL) or "{}").get("steps") or []
    last = steps[-1] if steps else None
    is_of_lease = "/leases" in request.path
    if last is None or last["phase"] in _ENDED or (last["phase"] == "COMMIT" and last["done_at"] is not None):
        # Before it is looked at for the first time, it is not the rollout that asks.
        if not is_of_lease:
            return ""
        return Phase.PREFLIGHT.value if request.method == "GET" else Phase.LOCK.value
    if last["phase"] == "COMMIT" and is_of_lease:
        return _RELEASE
    return str(last["phase"])


def _roll_out(lane: Lane, first: int) -> None:
    """Roll out, with a fault in each phase; which is met in the first one says the number."""
    kinds = list(_KINDS)
    met: dict[str, str] = {}
    ends = []
    for number, place in enumerate(_PLACES):
        kind = kinds[(first + number) % len(kinds)]

        def _concerns(request: Request, place: str = place, kind: str = kind) -> bool:
            is_ours = lane.is_mine(request) and request.headers.get("user-agent") == "deploytool"
            if not is_ours or place in met or _place_of(lane, request) != place:
                return False
            met[place] = f"{kind}: {request.method} {request.path}"
            return True

        ends.append(lane.cluster.faults.add(replace(_KINDS[kind], concerns=_concerns)))
    new = lane.other_image
    code = lane.run("run", "--image", new)
    for end in ends:
        end()
    assert 0 == code, met
    assert set(_PLACES) == set(met), met
    _require_right(lane, new)


def _hit_helm(lane: Lane, kind: str) -> None:
    """Hit the Helm that the rollout runs where it changes the workload."""

    def _concerns(request: Request) -> bool:
        is_helm = lane.is_mine(request) and request.headers.get("user-agent") != "deploytool"
        return is_helm and request.method in ("PATCH", "PUT") and "dryRun" not in request.query

    end = lane.cluster.faults.add(replace(_KINDS[kind], path=f"/deployments/{NAME}$", concerns=_concerns))
    old, new = lane.image, lane.other_image
    code = lane.run("run", "--image", new, "--ready-timeout=60s")
    end()
    assert code in (0, 8)
    _require_right(lane, new if code == 0 else old)


def _require_right(lane: Lane, image: str) -> None:
    assert "" == lane.serves(image)
    assert "" == lane.holder
    assert (1, 1) == (lane.witness.most_ready, lane.witness.most_running)
    assert [] == lane.pending()


def _do(lane: Lane, case: tuple[str, int]) -> None:
    what, number = case
    if what == "phases":
        _roll_out(lane, number)
    else:
        _hit_helm(lane, list(_KINDS)[number])


def test_every_kind_of_fault_in_every_phase() -> None:
    """It is rolled out each time; where Helm itself was hit, it may be rolled back instead."""
    cases = [("phases", number) for number in range(len(_KINDS))]
    # A Helm that gets no answer waits for longer than a test may.
    cases += [("helm", number) for number, fault in enumerate(_KINDS.values()) if not fault.is_hanging]
    with lanes(_LANES) as found:
        for lane in found:
            # Faults may follow each other more closely than a short one bears.
            lane.lease_seconds = 2 * LEASE_SECONDS
        problems = distribute(found, cases, _do)

    assert not problems, "\n\n".join(f"{case}\n{problem}" for case, problem in problems.items())
