"""Every field that the chart writes is one that Kubernetes has: the API server drops or refuses others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from deploytool.checks import catalog
from deploytool.checks.evaluation import evaluate
from deploytool.manifests import parse
from deploytool.model.expectations import Expectations
from deploytool.model.finding import Outcome
from tests.helm.rendering import render, texts

GOLDENS = Path(__file__).parent / "goldens"
NAMES = ("minimal", "production")
# Objects of others, whose types the official client does not know.
FOREIGN = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
SCALARS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "object": (object,)}


def values(name: str) -> dict[str, Any]:
    """Return the values of a golden file."""
    read: dict[str, Any] = yaml.safe_load((GOLDENS / f"{name}.values.yaml").read_text())
    return read


def faults(type_name: str, value: object, path: str) -> Iterator[str]:
    """Yield the fields that a type does not have, and the values that are of another type."""
    inner = re.match(r"(list|dict)[\[(](?:str, )?(.*)[\])]$", type_name, re.IGNORECASE)
    if inner:
        yield from nested(inner[1].lower(), inner[2], value, path)
    elif type_name in SCALARS:
        if not isinstance(value, SCALARS[type_name]):
            yield f"{path} is {value!r}, no {type_name}"
    elif type_name == "V1IntOrString":
        if not isinstance(value, int | str):
            yield f"{path} is {value!r}"
    elif isinstance(value, dict):
        yield from fields(getattr(client, type_name), value, path)
    else:
        yield f"{path} is {value!r}, no {type_name}"


def nested(kind: str, type_name: str, value: object, path: str) -> Iterator[str]:
    """Yield the faults of what is in a list or a mapping."""
    if kind == "list" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults(type_name, item, f"{path}[{index}]")
    elif kind == "dict" and isinstance(value, dict):
        for name, item in value.items():
            yield from faults(type_name, item, f"{path}.{name}")
    else:
        yield f"{path} is no {kind}"


def fields(model: Any, value: dict[str, Any], path: str) -> Iterator[str]:  # noqa: ANN401 - a class without types
    """Yield the faults of one object."""
    types = {model.attribute_map[name]: type_name for name, type_name in model.openapi_types.items()}
    for name, item in value.items():
        if name not in types:
            yield f"{path}.{name} is no field of {model.__name__}"
        else:
            yield from faults(types[name], item, f"{path}.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_known(name: str) -> None:
    """By name and by type, as the official client has them."""
    found = [
        fault
        for (kind, _), manifest in render(values(name)).items()
        if kind not in FOREIGN
        for fault in fields(getattr(client, f"V1{kind}"), manifest, kind)
    ]

    assert found == []


def test_unknown_field_would_be_seen() -> None:
    """The test above is no empty promise."""
    spec = {"replicas": "1", "strategies": {}, "template": {"spec": {"containers": [{"names": "x"}]}}}

    assert [
        "Deployment.spec.replicas is '1', no int",
        "Deployment.spec.strategies is no field of V1DeploymentSpec",
        "Deployment.spec.template.spec.containers[0].names is no field of V1Container",
    ] == list(fields(client.V1Deployment, {"spec": spec}, "Deployment"))


@pytest.mark.parametrize("name", NAMES)
def test_deploytool_finds_nothing_wrong_with_the_chart(name: str) -> None:
    """The two halves of the project agree on what is correct; and no key is given twice."""
    manifests = [text for file, text in texts(values(name)).items() if file != "NOTES.txt"]
    snapshot = parse("chart", "\n---\n".join(manifests).encode())
    (single,) = evaluate(snapshot, Expectations(), catalog.find("single-instance")).results

    # Without a database or a volume it warns, and rightly; nothing else is wrong.
    assert (Outcome.WARN if name == "minimal" else Outcome.PASS) == single.outcome
