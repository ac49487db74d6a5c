from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from deploytool.errors import DeploytoolError
from deploytool.guard.decision import Autoscaler, Decision, Policy, Step, Workload
from deploytool.guard.keeper import Keeper
from deploytool.guard.metrics import Metrics
from deploytool.guard.ports import Objects, Observer
from tests.support.clock import ManualClock

ROOT = Path(__file__).parents[3]
POLICY = Policy(tries=2, pauses_seconds=(60.0,))


class FakeObjects(Objects):
    """A namespace in memory: a patch of an old version does nothing, and faults are raised as they are asked for."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.told: list[tuple[str, str, str]] = []
        self.patches = 0
        self.fault: Callable[[str], None] = lambda _verb: None
        self.before_patch: Callable[[], object] = lambda: None
        self._version = 0

    def put(self, kind: str, name: str, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Store an object, changed or new."""
        self._version += 1
        meta = {
            "name": name,
            "namespace": "realtime",
            "uid": f"uid-{kind}-{name}",
            "resourceVersion": str(self._version),
            "labels": {"slackwater.dev/guard": "true"},
        }
        self.stored[kind, name] = {"metadata": meta, "spec": spec}
        return self.stored[kind, name]

    def workload(self, replicas: int, name: str = "live") -> dict[str, Any]:
        """Store a Deployment."""
        return self.put("Deployment", name, replicas=replicas)

    def autoscaler(self, most: int) -> dict[str, Any]:
        """Store what scales it."""
        reference = {"kind": "Deployment", "name": "live"}
        return self.put("HorizontalPodAutoscaler", "eager", scaleTargetRef=reference, maxReplicas=most)

    @property
    def replicas(self) -> int:
        """Of the workload."""
        return int(self.stored["Deployment", "live"]["spec"]["replicas"])

    @override
    def all(self, kind: str) -> Sequence[Mapping[str, Any]]:
        self.fault("list")
        return [body for (one, _), body in self.stored.items() if one == kind]

    @override
    def read(self, kind: str, name: str) -> Mapping[str, Any] | None:
        self.fault("get")
        return self.stored.get((kind, name))

    @override
    def scale(self, kind: str, name: str, patch: list[dict[str, Any]]) -> bool:
        self.fault("patch")
        self.before_patch()
        current = self.stored.get((kind, name))
        if current is None or current["metadata"]["resourceVersion"] != patch[0]["value"]:
            return False
        self.patches += 1
        self.put(kind, name, **current["spec"] | {"replicas": patch[1]["value"]})
        return True

    @override
    def tell(self, about: Workload | Autoscaler, reason: str, message: str) -> None:
        self.fault("tell")
        self.told.append((str(about), reason, message))

    @property
    def reasons(self) -> list[str]:
        """Of the Events."""
        return [reason for _, reason, _ in self.told]


class Heard(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.said: list[str] = []

    @override
    def saw(self, workload: Workload, decision: Decision) -> None:
        self.steps.append(decision.step)

    @override
    def lost(self, workload: Workload) -> None:
        self.said.append(f"lost {workload}")

    @override
    def warned(self, autoscaler: Autoscaler, workload: Workload) -> None:
        self.said.append(f"warned of {autoscaler}")

    @override
    def failed(self, what: str, problem: str) -> None:
        self.said.append(f"{what}: {problem}")

    @override
    def looked(self, at: float) -> None:
        self.said.append("looked")


class World:
    """A keeper with everything that it touches."""

    def __init__(self, **keeper: Any) -> None:  # noqa: ANN401 - of a Keeper
        self.objects, self.clock, self.heard, self.metrics = FakeObjects(), ManualClock(), Heard(), Metrics()
        self.keeper = Keeper(self.objects, self.clock, (self.heard, self.metrics), policy=POLICY, **keeper)

    def see(self, body: dict[str, Any], *, is_gone: bool = False) -> None:
        """Hear of a Deployment."""
        self.keeper.saw_workload("Deployment", body, is_gone=is_gone)

    def figure(self, name: str) -> float | None:
        """Return a metric of the workload."""
        return self.metrics.registry.get_sample_value(name, {"kind": "Deployment", "workload": "live"})


@pytest.fixture
def world() -> World:
    """A keeper that has seen nothing."""
    return World()


def test_count_above_one_is_set_back(world: World) -> None:
    """Once, and told once."""
    world.see(world.objects.workload(3))
    world.see(world.objects.stored["Deployment", "live"])

    assert (1, ["ReplicasSetBack"]) == (world.objects.replicas, world.objects.reasons)
    assert [Step.SET_BACK, Step.LEAVE] == world.heard.steps
    assert (1.0, 1.0, 0.0) == (
        world.figure("slackwater_guard_set_backs_total"),
        world.figure("slackwater_guard_replicas"),
        world.figure("slackwater_guard_holding_off"),
    )


def test_stale_event_is_looked_at_again(world: World) -> None:
    """Somebody has set it to zero meanwhile: that stays."""
    stale = world.objects.workload(3)
    world.objects.workload(0)
    world.see(stale)

    assert (0, 0, []) == (world.objects.replicas, world.objects.patches, world.objects.reasons)
    assert 0.0 == world.figure("slackwater_guard_replicas")


def test_change_that_comes_between_is_looked_at_again(world: World) -> None:
    """The patch is of a version, not of whatever is there."""
    changes = iter([4, 5])

    def change() -> None:
        if (count := next(changes, None)) is not None:
            world.objects.workload(count)

    world.objects.before_patch = change
    world.see(world.objects.workload(3))

    assert (1, 1) == (world.objects.replicas, world.objects.patches)
    assert "scaled to 5" in world.objects.told[0][2]


def test_change_that_never_ends_is_left_for_later(world: World) -> None:
    """It does not turn round for ever; a few seconds later it looks again."""
    world.objects.before_patch = lambda: world.objects.workload(3)
    world.see(world.objects.workload(3))
    due = world.keeper.next_due()
    world.objects.before_patch = lambda: None
    world.clock.advance(5)
    world.keeper.keep()

    assert due == 1005.0
    assert (1, None) == (world.objects.replicas, world.keeper.next_due())


def test_workload_that_goes_meanwhile_is_forgotten(world: World) -> None:
    """Between the event and the patch."""
    stale = world.objects.workload(3)
    world.objects.stored.clear()
    world.see(stale)

    assert (["lost Deployment live"], ()) == (world.heard.said, world.keeper.workloads)
    assert world.figure("slackwater_guard_replicas") is None


def test_pause_ends_without_an_event(world: World) -> None:
    """The watch is silent when nothing changes."""
    for _ in range(3):
        world.see(world.objects.workload(3))
    waiting = world.objects.replicas, world.figure("slackwater_guard_holding_off")
    world.clock.advance(60)
    world.keeper.keep()
    after = world.objects.replicas
    world.see(world.objects.workload(3))

    assert ((3, 1.0), 1) == (waiting, after)
    assert ["ReplicasSetBack"] * 2 + ["GuardWaits", "ReplicasSetBack", "GuardStandsDown"] == world.objects.reasons


def test_capped_autoscaler_ends_the_quarrel_at_once(world: World) -> None:
    """Without waiting for the pause to end."""
    world.keeper.saw_autoscaler("HorizontalPodAutoscaler", world.objects.autoscaler(3))
    for _ in range(3):
        world.see(world.objects.workload(3))
    world.keeper.saw_autoscaler("HorizontalPodAutoscaler", world.objects.autoscaler(1))

    assert (1, None) == (world.objects.replicas, world.keeper.next_due())


def test_autoscaler_is_warned_of_once(world: World) -> None:
    """Again when it may ask for more than before."""
    world.see(world.objects.workload(1))
    for most in (3, 3, 4, 1):
        world.keeper.saw_autoscaler("HorizontalPodAutoscaler", world.objects.autoscaler(most))
    world.keeper.saw_autoscaler("HorizontalPodAutoscaler", world.objects.autoscaler(1), is_gone=True)

    assert [("HorizontalPodAutoscaler eager", "ScalesPastOne")] * 2 == [one[:2] for one in world.objects.told]
    assert 2.0 == world.figure("slackwater_guard_autoscaler_warnings_total")


def test_look_finds_what_was_there_and_what_has_gone(world: World) -> None:
    """Whatever the watches said."""
    world.see(world.objects.workload(1, "gone"))
    world.objects.stored.clear()
    world.objects.workload(3)
    world.keeper.look()

    assert (1, ["lost Deployment gone", "looked"]) == (world.objects.replicas, world.heard.said)


def test_only_the_workloads_that_are_named_are_guarded() -> None:
    """Others of the namespace have a guard of their own."""
    world = World(names=("other",))
    world.see(world.objects.workload(3))

    assert (3, ()) == (world.objects.replicas, world.keeper.workloads)


def test_failure_is_told_once_and_tried_again(world: World) -> None:
    """In a few seconds; what was not done does not count as a try."""

    def refuse(verb: str) -> None:
        if verb == "patch":
            raise DeploytoolError("may not")

    world.objects.fault = refuse
    world.see(world.objects.workload(3))
    for _ in range(4):
        world.clock.advance(5)
        world.keeper.keep()
    refused = list(world.objects.told)
    world.objects.fault = lambda _verb: None
    world.clock.advance(5)
    world.keeper.keep()

    assert [
        ("Deployment live", "SetBackFailed", "Deployment live is scaled to 3, and cannot be set back to 1: may not")
    ] == refused
    assert (1, 1.0) == (world.objects.replicas, world.figure("slackwater_guard_set_backs_total"))
    assert 5.0 == world.metrics.registry.get_sample_value("slackwater_guard_failures_total")


@pytest.mark.parametrize("verb", ["list", "get", "tell"])
def test_what_fails_stops_nothing(world: World, verb: str) -> None:
    """The keeper lives on, and says what it could not do."""

    def refuse(asked: str) -> None:
        if asked == verb:
            raise DeploytoolError("not now")

    stale = world.objects.workload(3)
    if verb == "get":
        world.objects.workload(3)
    world.objects.fault = refuse
    world.keeper.look() if verb == "list" else world.see(stale)

    assert any("not now" in said for said in world.heard.said)


def test_pause_that_cannot_be_looked_after_is_kept(world: World) -> None:
    """The API server does not answer when the pause is over."""
    for _ in range(3):
        world.see(world.objects.workload(3))

    def refuse(verb: str) -> None:
        if verb == "get":
            raise DeploytoolError("not now")

    world.objects.fault = refuse
    world.clock.advance(60)
    world.keeper.keep()
    due = world.keeper.next_due()
    world.objects.fault = lambda _verb: None
    world.clock.advance(5)
    world.keeper.keep()

    assert due == 1065.0
    assert 1 == world.objects.replicas


def test_workload_that_goes_during_a_pause_is_forgotten(world: World) -> None:
    """And not looked for any more."""
    for _ in range(3):
        world.see(world.objects.workload(3))
    world.objects.stored.clear()
    world.clock.advance(60)
    world.keeper.keep()

    assert (None, ()) == (world.keeper.next_due(), world.keeper.workloads)


def test_dry_keeper_tells_nobody() -> None:
    """In the cluster; whoever runs it is told."""
    world = World(is_dry=True)
    world.keeper.saw_autoscaler("HorizontalPodAutoscaler", world.objects.autoscaler(3))
    world.see(world.objects.workload(3))

    assert [] == world.objects.told
    assert [Step.SET_BACK] == world.heard.steps


def test_every_metric_is_in_the_guide() -> None:
    """By the name under which it is exposed, and with its labels."""
    page = (ROOT / "docs" / "how-to" / "guard.md").read_text()
    listed = {
        (name, tuple(re.findall(r"`(\w+)`", labels)))
        for name, labels in re.findall(r"^\| `(slackwater_guard_\w+)` \| (.*?) \|", page, re.MULTILINE)
    }
    made = {
        (one._name + ("_total" if one._type == "counter" else ""), tuple(one._labelnames))
        for one in vars(Metrics()).values()
        if hasattr(one, "_labelnames")
    }

    assert made == listed
