from __future__ import annotations

from typing import Any

import pytest

from deploytool.guard.decision import Writer
from deploytool.guard.reading import autoscaler_of, workload_of, writer_of

META = {"name": "live", "namespace": "realtime", "uid": "u", "resourceVersion": "7"}


def entry(manager: str, time: str, fields: Any, subresource: str = "") -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return an entry of managedFields."""
    return {"manager": manager, "time": time, "subresource": subresource, "fieldsV1": fields}


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
OTHER: dict[str, Any] = {"f:spec": {"f:strategy": {}}}


def test_workload_is_read() -> None:
    """With its label, its count and who set that."""
    fields = [entry("kubectl", "2026-01-01T00:00:00Z", REPLICAS, "scale")]
    meta = META | {"labels": {"slackwater.dev/guard": "true"}, "managedFields": fields}
    seen = workload_of("Deployment", {"metadata": meta, "spec": {"replicas": 3}})

    assert ("Deployment live", 3, "7", True, False) == (
        str(seen), seen.replicas, seen.resource_version, seen.is_guarded, seen.is_going,
    )  # fmt: skip
    assert Writer("kubectl", "scale") == seen.writer


@pytest.mark.parametrize("value", ["false", "TRUE", "", "yes"])
def test_label_has_to_be_true(value: str) -> None:
    """And nothing like it."""
    meta = META | {"labels": {"slackwater.dev/guard": value}}

    assert not workload_of("Deployment", {"metadata": meta}).is_guarded


@pytest.mark.parametrize("body", [{}, {"metadata": None, "spec": []}, {"metadata": META, "spec": {"replicas": "3"}}])
def test_what_is_odd_is_harmless(body: dict[str, Any]) -> None:
    """A count that is not there is one, as the API server has it."""
    assert 1 == workload_of("Deployment", body).replicas


def test_what_is_being_deleted_is_known() -> None:
    """It is left alone."""
    assert workload_of("Deployment", {"metadata": META | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}).is_going


@pytest.mark.parametrize(
    ("entries", "writer"),
    [
        pytest.param([], None, id="nobody"),
        pytest.param([entry("helm", "2026-01-01T00:00:00Z", OTHER)], None, id="another-field"),
        pytest.param(
            [
                entry("helm", "2026-01-01T00:00:00Z", REPLICAS),
                entry("hpa", "2026-01-02T00:00:00Z", REPLICAS, "scale"),
            ],
            Writer("hpa", "scale"),
            id="the-last-of-several",
        ),
        pytest.param([entry("odd", "", None), "nonsense"], None, id="odd"),
        pytest.param("nonsense", None, id="no-list"),
    ],
)
def test_writer_is_who_set_the_count_last(entries: Any, writer: Writer | None) -> None:  # noqa: ANN401 - JSON
    """As managedFields has it."""
    assert writer == writer_of({"managedFields": entries})


@pytest.mark.parametrize(
    ("kind", "spec", "target", "most"),
    [
        (
            "HorizontalPodAutoscaler",
            {"scaleTargetRef": {"kind": "Deployment", "name": "live"}, "maxReplicas": 5},
            ("Deployment", "live"),
            5,
        ),
        ("HorizontalPodAutoscaler", {}, ("Deployment", ""), 1),
        ("ScaledObject", {"scaleTargetRef": {"name": "live"}}, ("Deployment", "live"), 100),
        (
            "ScaledObject",
            {"scaleTargetRef": {"kind": "StatefulSet", "name": "live"}, "maxReplicaCount": 1},
            ("StatefulSet", "live"),
            1,
        ),
    ],
)
def test_autoscaler_is_read(kind: str, spec: dict[str, Any], target: tuple[str, str], most: int) -> None:
    """With the defaults of its kind."""
    seen = autoscaler_of(kind, {"metadata": META, "spec": spec})

    assert (target, most) == ((seen.target_kind, seen.target_name), seen.most)
    assert "" == seen.owner


def test_autoscaler_of_keda_names_its_owner() -> None:
    """Deleting the one without the other is of no use."""
    meta = META | {"ownerReferences": [{"kind": "ScaledObject", "name": "so"}]}

    assert "ScaledObject so" == autoscaler_of("HorizontalPodAutoscaler", {"metadata": meta}).owner
