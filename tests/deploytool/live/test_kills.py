"""``kill -9`` at every change that a rollout makes, as a process: the API server itself says when.

Before the change is carried out, or when it was and the answer is not given any more. Then somebody resumes, or aborts,
or nobody comes back. Heartbeats of the lock are no changes here: how many there are is a matter of time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from tests.deploytool.live.lanes import LEASE_SECONDS, Lane, distribute, kill, lanes
from tests.simcluster.faults import Fault
from tests.simcluster.target import SIMULATED_ONLY, is_real

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.simcluster.requests import Request

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(is_real(), reason=SIMULATED_ONLY),
    pytest.mark.timeout(900),
]

_LANES = 3
_HELM = 6
_WAYS = ("resume", "abort", "never")
_ENDED = ("COMMIT", "ROLLED_BACK", "CANCELLED")
_WAIT_SECONDS = 90.0


@dataclass(frozen=True)
class _Case:
    """One kill.

    Attributes:
        index: Of the change, counted from 0.
        what: Method and path of it, for people.
        is_after: Whether it is carried out.
        way: What comes after it.
        with_helm: Whether a Helm that runs goes down too.
    """

    index: int
    what: str
    is_after: bool
    way: str
    with_helm: bool

    @override
    def __str__(self) -> str:
        moment = "after" if self.is_after else "before"
        return f"{self.index} {self.what}: killed {moment}{' with helm' if self.with_helm else ''}, then {self.way}"


def _changes(lane: Lane) -> list[str]:
    """Roll out, and return the changes that were made."""
    found: list[str] = []

    def _note(request: Request) -> bool:
        if lane.is_change(request):
            found.append(f"{request.method} {request.path.partition('/namespaces/')[2].partition('/')[2]}")
        return False

    end = lane.cluster.faults.add(Fault(concerns=_note, times=None))
    new = lane.other_image
    code = lane.run("run", "--image", new)
    end()
    assert 0 == code, lane.said
    assert "" == lane.serves(new)
    return found


def _cases(changes: list[str]) -> list[_Case]:
    """Take every change of ours, and of Helm's every so many: what it was killed over is the same for most of them."""
    ours = [index for index, what in enumerate(changes) if "leases" in what or "/proxy/" in what]
    helm = [index for index in range(len(changes)) if index not in ours]
    chosen = sorted({*ours, *helm[:2], *helm[2::_HELM], *helm[-1:]})
    return [
        _Case(index, changes[index], number % 2 == 0, _WAYS[number // 2 % 3], index in helm and number % 4 < 2)
        for number, index in enumerate(chosen)
    ]


def _killed(lane: Lane, case: _Case) -> tuple[str, str]:
    """Roll out until it is killed; returns the images before and after."""
    old, new = lane.image, lane.other_image
    started = threading.Event()
    processes: list[subprocess.Popen[str]] = []

    def _kill() -> None:
        started.wait(_WAIT_SECONDS)
        kill(processes[0], with_children=case.with_helm)

    end = lane.cluster.faults.add(
        Fault(is_cut=True, is_after=case.is_after, skip_count=case.index, concerns=lane.is_change, action=_kill)
    )
    processes.append(lane.rollout("run", "--image", new))
    started.set()
    code = lane.finish(processes[0])
    end()
    assert -9 == code, f"it was not killed: {code}"
    return old, new


def _go_on(lane: Lane, case: _Case) -> None:
    old, new = _killed(lane, case)
    last = (lane.journal.get("steps") or [{}])[-1]
    is_left = bool(lane.holder)
    if case.way == "never":
        _require_left_alone(lane, (old, new))
        # For the next case.
        is_left = bool(lane.holder) or not _has_ended(lane)
        if is_left:
            assert 0 == lane.run("abort")
        return
    code = lane.run(case.way)
    if not is_left:
        assert 3 == code, (code, last)
        assert not last or last["phase"] in _ENDED, last
        wanted = new if last.get("phase") == "COMMIT" and case.index else old
    else:
        assert 0 == code, (code, last)
        wanted = new if case.way == "resume" else old
    _require_right(lane, wanted)


def _has_ended(lane: Lane) -> bool:
    steps = lane.journal.get("steps") or []
    return not steps or steps[-1]["phase"] in _ENDED


def _require_right(lane: Lane, image: str) -> None:
    assert "" == lane.serves(image)
    assert "" == lane.holder
    assert _has_ended(lane)
    assert (1, 1) == (lane.witness.most_ready, lane.witness.most_running)


def _require_left_alone(lane: Lane, images: tuple[str, str]) -> None:
    """Whatever is asked for serves by itself, once gate and drain have lapsed; the lock expires."""
    # A Helm that outlived the tool may still be at work.
    assert "" == lane.serves()
    assert lane.image in images
    assert (1, 1) == (lane.witness.most_ready, lane.witness.most_running)
    if lane.holder:
        version = lane.lease["metadata"]["resourceVersion"]
        threading.Event().wait(LEASE_SECONDS / 3)
        assert version == lane.lease["metadata"]["resourceVersion"], "somebody renews the lock of a dead process"


def test_killed_at_every_change(record_property: Callable[[str, object], None]) -> None:
    """The end state is right every time: one image, one pod, everybody let in, the lock released or expired."""
    with lanes(_LANES) as found:
        cases = _cases(_changes(found[0]))
        record_property("cases", len(cases))
        problems = distribute(found, cases, _go_on)

    assert not problems, "\n\n".join(f"{case}\n{problem}" for case, problem in problems.items())
    assert len(cases) > 30
