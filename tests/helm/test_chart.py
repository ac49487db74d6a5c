from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import pytest
import yaml

from service import __version__
from service.core.namespaces import json_schema
from tests.helm.rendering import KEYS, MINIMAL, render, values_of
from tests.tools import chart_values
from tests.tools.chart_values import CHART, MADE, SCHEMA

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to" / "install-with-helm.md"


@pytest.mark.parametrize("version", ["v1.30.0", "v1.36.0"])
def test_lint_has_nothing_to_say(version: str) -> None:
    """Strictly, on the oldest Kubernetes that is supported and on a new one. An icon is a matter of taste."""
    report = helm_python.lint(CHART, dict(MINIMAL), strict=True, kube_version=version, namespace="realtime")

    assert report["errors"] == []
    assert [m["error"] for m in report["messages"] if m["error"] != "icon is recommended"] == []


def test_older_kubernetes_is_refused() -> None:
    """Before 1.30 there is no ValidatingAdmissionPolicy in v1."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == ">=1.30.0-0"


def test_application_version_is_the_project_s() -> None:
    """The default tag of the image is the version that it is built from."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert chart["appVersion"] == project["version"] == __version__


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_what_is_made_from_the_schema_is_current(path: Path) -> None:
    """Else: ``python -m tests.tools.chart_values``."""
    expected = "\n".join(MADE[path]()) + "\n"

    assert expected == path.read_text(encoding="utf-8")


def test_everything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the one command."""
    monkeypatch.setattr(chart_values, "MADE", {tmp_path / path.name: lines for path, lines in MADE.items()})
    chart_values.write()

    assert {path.name for path in MADE} == {path.name for path in tmp_path.iterdir()}


def test_values_file_holds_the_defaults() -> None:
    """What Helm reads is what the schema says."""
    assert chart_values.defaults() == yaml.safe_load((CHART / "values.yaml").read_text())


def test_schema_is_one_and_the_defaults_fit_it() -> None:
    """But for what has no default, which the templates ask for in words."""
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft7Validator.check_schema(schema)

    jsonschema.validate(chart_values.defaults(), schema, cls=jsonschema.Draft7Validator)


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every group of values with its path."""
    yield path, schema
    for name, value in schema["properties"].items():
        if "properties" in value and "default" not in value:
            yield from objects(value, f"{path}/{name}")


def test_every_group_refuses_unknown_and_missing_keys() -> None:
    """A value that was taken away with null is said by name, instead of breaking a template."""
    for path, group in objects(json.loads(SCHEMA.read_text())):
        assert group["additionalProperties"] is False, path
        assert set(group["required"]) == group["properties"].keys() - {"global"}, path


def test_namespaces_are_those_of_the_service() -> None:
    """The chart refuses what the service would refuse at its start."""
    expected = json_schema()["$defs"]["Namespace"]
    del expected["title"]

    assert expected == json.loads(SCHEMA.read_text())["definitions"]["namespace"]


def test_chart_is_packed_without_what_others_leave_about(tmp_path: Path) -> None:
    """The archive holds the files that the templates read."""
    with helm_python.Chart.load(helm_python.package(CHART, destination=tmp_path)) as chart:
        files = {file["name"] for file in chart.files}

    assert {"files/dashboard.json", "files/smoke.py"} <= files


def test_values_in_the_how_to_are_taken() -> None:
    """As they stand there: one whole file, and parts of one."""
    blocks = re.findall(r"```yaml\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    whole, *parts = map(yaml.safe_load, blocks)

    assert ("Ingress", "live-slackwater") in render(whole)
    assert parts
    assert all(render({**MINIMAL, **part}) for part in parts)


def test_commands_in_the_how_to_name_values_that_there_are() -> None:
    """And the Secret there is made with the keys that the pod reads."""
    text = HOW_TO.read_text()
    changes = [change for change in re.findall(r"--set ([\w.]+=[\w./-]+)", text) if "existingSecret" not in change]

    assert len(changes) == 5
    assert render({**values_of(*changes), "existingSecret": ""})
    assert KEYS.keys() == set(re.findall(r"--from-literal=([A-Z_]+)=", text))
