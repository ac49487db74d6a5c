from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.guard.decision import (
    FRESH,
    Autoscaler,
    Decision,
    Policy,
    Record,
    Step,
    Workload,
    Writer,
    advice,
    decide,
    patch_of,
)

KUBECTL = Writer("kubectl", "scale")
ONE = Workload("Deployment", "realtime", "live", "uid", "7", 1)
THREE = replace(ONE, replicas=3, writer=KUBECTL)
HPA = Autoscaler("HorizontalPodAutoscaler", "realtime", "live", "hpa-uid", "Deployment", "live", 5)
POLICY = Policy(tries=2, pauses_seconds=(60.0, 300.0), calm_seconds=3600.0, reminder_seconds=3600.0)


def insist(*seconds: float, workload: Workload = THREE, autoscalers: tuple[Autoscaler, ...] = ()) -> list[Decision]:
    """Decide at each of the instants about a count that is above one again, and remember."""
    record, made = FRESH, []
    for now in seconds:
        decision = decide(workload, autoscalers, record, now, POLICY)
        record = decision.record
        made.append(decision)
    return made


@pytest.mark.parametrize(
    ("workload", "step"),
    [
        pytest.param(ONE, Step.LEAVE, id="one"),
        pytest.param(replace(ONE, replicas=0), Step.LEAVE, id="zero-stays"),
        pytest.param(replace(THREE, is_guarded=False), Step.LEAVE, id="without-the-label"),
        pytest.param(replace(THREE, is_going=True), Step.LEAVE, id="being-deleted"),
        pytest.param(replace(ONE, replicas=2), Step.SET_BACK, id="two"),
        pytest.param(THREE, Step.SET_BACK, id="three"),
        pytest.param(replace(THREE, kind="StatefulSet"), Step.SET_BACK, id="statefulset"),
    ],
)
def test_count_decides(workload: Workload, step: Step) -> None:
    """Nothing has happened before."""
    decision = decide(workload, (), FRESH, 0.0)

    assert step is decision.step
    assert (decision.news is not None) == (step is Step.SET_BACK)


@pytest.mark.parametrize(
    ("writer", "words"),
    [
        (KUBECTL, "Deployment live was scaled to 3 by kubectl (by way of scale)"),
        (Writer("helm"), "by helm, and its connections"),
        (None, "by somebody whose name is not noted"),
    ],
)
def test_event_names_who_raised_it(writer: Writer | None, words: str) -> None:
    """And why it was undone."""
    news = decide(replace(THREE, writer=writer), (), FRESH, 0.0).news

    assert news is not None
    assert "ReplicasSetBack" == news.reason
    assert words in news.message
    assert news.message.endswith("its connections live in the memory of one process: set back to 1.")


@pytest.mark.parametrize(
    ("autoscaler", "is_named"),
    [
        pytest.param(HPA, True, id="ours"),
        pytest.param(replace(HPA, most=1), False, id="cannot-pass-one"),
        pytest.param(replace(HPA, target_name="other"), False, id="of-another"),
        pytest.param(replace(HPA, target_kind="StatefulSet"), False, id="of-another-kind"),
        pytest.param(replace(HPA, namespace="other"), False, id="elsewhere"),
    ],
)
def test_event_names_what_scales(autoscaler: Autoscaler, is_named: bool) -> None:  # noqa: FBT001 - of the table
    """With what to do about it."""
    news = decide(THREE, [autoscaler], FRESH, 0.0).news

    assert news is not None
    assert is_named == (
        "HorizontalPodAutoscaler live may scale it to 5: set its maxReplicas to 1, or delete it." in news.message
    )


def test_advice_names_the_field_of_each_kind_and_its_owner() -> None:
    """KEDA makes an autoscaler of its own, which comes back when it is deleted alone."""
    keda = replace(HPA, kind="ScaledObject", name="so")
    made = replace(HPA, name="keda-hpa-so", owner="ScaledObject so")

    assert "set its maxReplicaCount to 1" in advice([keda])
    assert "HorizontalPodAutoscaler keda-hpa-so (of ScaledObject so) may scale it to 5" in advice([made])
    assert "" == advice([])


def test_patch_is_of_what_was_seen() -> None:
    """Of this version of the object and of no later one."""
    assert [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "replace", "path": "/spec/replicas", "value": 1},
    ] == patch_of(THREE)


def test_whoever_insists_is_met_with_longer_pauses_and_in_the_end_left_alone() -> None:
    """Two times at once, after a minute, after five; then never again."""
    made = insist(0, 1, 2, 30, 62, 63, 362, 363, 364, 1000)
    steps = [decision.step for decision in made]

    assert steps == [
        Step.SET_BACK, Step.SET_BACK,
        Step.PAUSE, Step.PAUSE, Step.SET_BACK,
        Step.PAUSE, Step.PAUSE, Step.SET_BACK,
        Step.STAND_DOWN, Step.STAND_DOWN,
    ]  # fmt: skip
    assert [62.0, 62.0, 363.0, 363.0] == [one.due_at for one in made if one.due_at is not None]


def test_each_pause_is_told_once_and_names_who_insists() -> None:
    """So that a person knows whom to talk to."""
    made = insist(0, 1, 2, 3, 62, 63, 363, 364, autoscalers=(HPA,))
    told = [decision.news for decision in made if decision.news]

    assert ["ReplicasSetBack"] * 2 + ["GuardWaits", "ReplicasSetBack"] * 2 + ["GuardStandsDown"] == [
        news.reason for news in told
    ]
    assert told[2].message.startswith("kubectl (by way of scale) keeps scaling Deployment live to 3; it was set back 2")
    assert "The guard waits 60 s" in told[2].message
    assert "the guard has stopped" in told[-1].message
    assert all("HorizontalPodAutoscaler live may scale it to 5" in news.message for news in told)


STOOD_DOWN = insist(0, 1, 2, 62, 63, 363, 364, autoscalers=(HPA,))[-1].record


def test_standing_down_is_told_again_every_hour() -> None:
    """An Event is kept no longer."""
    record, told = STOOD_DOWN, []
    for now in range(400, 8000, 60):
        decision = decide(THREE, [HPA], record, float(now), POLICY)
        record = decision.record
        told += [now] if decision.news else []

    assert STOOD_DOWN.is_holding_off
    assert 2 == len(told)


@pytest.mark.parametrize(
    ("workload", "autoscalers", "now"),
    [
        pytest.param(THREE, (), 400.0, id="the-autoscaler-is-gone"),
        pytest.param(THREE, (replace(HPA, most=1),), 400.0, id="the-autoscaler-is-capped"),
        pytest.param(replace(THREE, writer=Writer("argocd")), (HPA,), 400.0, id="somebody-else-begins"),
        pytest.param(THREE, (HPA,), 4000.0, id="it-was-calm-for-long"),
    ],
)
def test_settled_quarrel_is_forgotten(workload: Workload, autoscalers: tuple[Autoscaler, ...], now: float) -> None:
    """The next count above one is set back at once."""
    decision = decide(workload, autoscalers, STOOD_DOWN, now, POLICY)

    assert Step.SET_BACK is decision.step
    assert 1 == decision.record.set_backs


def test_two_who_take_turns_are_no_newcomers() -> None:
    """Else they would be fought for ever."""
    other = replace(THREE, writer=Writer("argocd"))
    record, steps = FRESH, []
    for now in range(0, 4000, 10):
        decision = decide((THREE, other)[now // 10 % 2], (), record, float(now), POLICY)
        record = decision.record
        steps.append(decision.step)

    assert 4 == steps.count(Step.SET_BACK)
    assert Step.STAND_DOWN is steps[-1]


def test_count_that_somebody_set_right_gives_one_more_try() -> None:
    """And not the whole quarrel again."""
    rested = decide(ONE, [HPA], STOOD_DOWN, 400.0, POLICY).record
    again = decide(THREE, [HPA], rested, 500.0, POLICY)
    once_more = decide(THREE, [HPA], again.record, 501.0, POLICY)

    assert [Step.SET_BACK, Step.STAND_DOWN] == [again.step, once_more.step]
    assert once_more.news is not None


def test_right_count_during_a_pause_does_not_shorten_it() -> None:
    """An autoscaler that wavers is no reason to hurry."""
    pausing = insist(0, 1, 2)[-1].record
    rested = decide(ONE, (), pausing, 10.0, POLICY)

    assert pausing == rested.record
    assert Step.PAUSE is decide(THREE, (), rested.record, 20.0, POLICY).step


def test_what_is_not_guarded_any_more_is_forgotten() -> None:
    """A label that comes back begins anew."""
    assert FRESH == decide(replace(THREE, is_guarded=False), (), STOOD_DOWN, 400.0, POLICY).record


WORKLOADS = st.builds(
    Workload,
    kind=st.sampled_from(["Deployment", "StatefulSet"]),
    namespace=st.just("realtime"),
    name=st.just("live"),
    uid=st.just("uid"),
    resource_version=st.text("0123456789", min_size=1, max_size=3),
    replicas=st.integers(0, 5),
    is_guarded=st.booleans(),
    is_going=st.booleans(),
    writer=st.none() | st.builds(Writer, st.sampled_from(["kubectl", "helm", "hpa"]), st.sampled_from(["", "scale"])),
)
AUTOSCALERS = st.lists(st.builds(replace, st.just(HPA), most=st.integers(0, 3)), max_size=2)
POLICIES = st.builds(
    Policy,
    tries=st.integers(0, 3),
    pauses_seconds=st.lists(st.floats(1, 100), max_size=3).map(tuple),
    calm_seconds=st.floats(100, 1000),
    reminder_seconds=st.floats(1, 1000),
)
MOMENTS = st.lists(st.tuples(st.floats(0, 400), WORKLOADS, AUTOSCALERS), max_size=30)


@given(MOMENTS, POLICIES)
def test_never_asks_for_more_than_one_and_never_touches_zero(
    moments: list[tuple[float, Workload, list[Autoscaler]]], policy: Policy
) -> None:
    """Whatever happens, in whatever order."""
    record, now = FRESH, 0.0
    for passed, workload, autoscalers in moments:
        now += passed
        decision = decide(workload, autoscalers, record, now, policy)
        record = decision.record
        asked = [one["value"] for one in patch_of(workload) if one["path"] == "/spec/replicas"]

        assert [1] == asked
        if decision.step is Step.SET_BACK:
            assert workload.replicas > 1
            assert workload.is_guarded
            assert not workload.is_going
        if workload.replicas <= 1:
            assert Step.LEAVE is decision.step
        if decision.step is Step.PAUSE:
            assert decision.due_at is not None
            assert decision.due_at > now


@given(st.lists(st.floats(0.1, 99.0), min_size=1, max_size=200), POLICIES)
def test_nobody_is_fought_for_ever(pauses: list[float], policy: Policy) -> None:
    """One who sets it again and again is set back a number of times that is known."""
    record: Record = FRESH
    now, count = 0.0, 0
    for passed in pauses:
        now += passed
        decision = decide(THREE, [HPA], record, now, policy)
        record = decision.record
        count += decision.step is Step.SET_BACK

    assert count <= policy.tries + len(policy.pauses_seconds)
