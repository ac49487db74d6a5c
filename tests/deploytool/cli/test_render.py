"""Reports as text, held to the letter; and for machines, held to their schemas.

``python -m tests.deploytool.cli.test_render`` writes the goldens again.
"""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from deploytool.checks.catalog import ITEMS, find
from deploytool.cli import checking
from deploytool.cli.render import machine, text
from deploytool.model.expectations import Waiver
from deploytool.model.finding import Category, Depth, Evidence, Finding, Outcome, Report, Result, Severity
from deploytool.model.observations import Database, DatabaseServer, Pool
from tests.deploytool.checks.releases import (
    DAY,
    DIGEST,
    EXPECTATIONS,
    NOW,
    changed,
    judge,
    release,
    unseen,
    with_objects,
    without,
)
from tests.deploytool.cli.schemas import JUNIT_CHILDREN, SARIF

GOLDENS = Path(__file__).parent / "goldens"
WAIVER = Waiver("infrastructure.database-pool", "the server is moved in spring", "ada", NOW + 30 * DAY)


def _alert(name: str, expression: str) -> dict[str, Any]:
    url = f"https://docs.example.org/runbooks/{name.lower()}"
    return {"alert": name, "expr": expression, "annotations": {"runbook_url": url}}


# Of our own, so that an alert more in the chart changes no golden.
ALERTS = {
    "kind": "PrometheusRule",
    "metadata": {"name": "alerts"},
    "spec": {
        "groups": [
            {
                "rules": [
                    _alert("Memory", "slackwater_process_resident_memory_bytes > 600000000"),
                    _alert("Errors", "rate(slackwater_errors_total[5m]) > 1"),
                ]
            }
        ]
    },
}


def mixed() -> Report:
    """Return a report in which every outcome occurs."""
    snapshot = changed("tls", error="certificate has expired")(unseen("tokens")(unseen("rate")(release())))
    snapshot = changed("scale_trial", refused=False)(without("ServiceMonitor")(snapshot))
    snapshot = with_objects(ALERTS)(without("PrometheusRule")(snapshot))
    degraded = Database("postgres", "it is read-only", Pool(5, 5, 1, 3), DatabaseServer(100, 3, 20))
    snapshot = changed("status", database=degraded)(unseen("documents")(snapshot))
    report = judge(snapshot, dataclasses.replace(EXPECTATIONS, waivers=(WAIVER,), has_browsers=False))
    return dataclasses.replace(report, image=DIGEST)


FORMATS = {
    "table.txt": text.table,
    "short.txt": text.short,
    "report.json": machine.as_json,
    "junit.xml": machine.as_junit,
    "sarif.json": machine.as_sarif,
}


def one(outcome: Outcome, finding: Finding | None = None) -> Report:
    """Return a report of one item."""
    item = ITEMS[0]
    found = finding or Finding(item.id, "replicas", outcome, Severity.FATAL, "", "message")
    return Report(Depth.OFFLINE, NOW, "web.yaml", (Result(item, outcome, (found,)),))


@pytest.mark.parametrize("name", FORMATS)
def test_goldens(name: str) -> None:
    """A change of what people and pipelines read is seen in review."""
    assert (GOLDENS / name).read_text(encoding="utf-8") == FORMATS[name](mixed()) + "\n"


def test_the_goldens_hold_every_outcome() -> None:
    """Else they would prove less."""
    assert {*Outcome} == {result.outcome for result in mixed().results}


def test_table_is_readable_at_80_columns() -> None:
    """Only a word that is longer than a line may stand out, such as a digest, and a command, which is copied whole."""
    for line in text.table(mixed()).splitlines():
        assert len(line) <= 80 or len(line.split()) <= 2 or line.lstrip().startswith("$ "), line


def test_table_is_readable_without_colour() -> None:
    """It holds none; the command line adds it to words that stand there anyway."""
    assert text.table(mixed()).replace("\n", "").isprintable()


def test_table_groups_by_the_headings_of_the_checklist() -> None:
    """Four, in order, each once."""
    lines = text.table(mixed()).splitlines()

    assert [*text.HEADINGS.values()] == [line for line in lines if line in text.HEADINGS.values()]
    assert [*Category] == [*text.HEADINGS]


def test_text_makes_control_characters_visible() -> None:
    """A name out of a file cannot steer the terminal."""
    evidence = Evidence("a\nb", "f", None, document=1)
    sneaky = Finding("x", "r", Outcome.FAIL, Severity.FATAL, "Deployment \x1b[2Jweb\u202e", "m", "", (evidence,))
    report = one(Outcome.FAIL, sneaky)

    for write in (text.table, text.short, machine.as_junit, machine.as_sarif):
        written = write(report)
        assert "\x1b" not in written
        assert "\u202e" not in written
    assert "\\x1b[2Jweb\\u202e" in text.table(report)
    assert "a\\nb, document 1, f: absent" in text.table(report)


def test_table_keeps_the_lines_of_a_remedy() -> None:
    """Such as a rule of RBAC, to be copied."""
    remedy = "Let somebody grant this:\n- apiGroups: [apps]\n  resources: [deployments]"
    found = Finding("x", "r", Outcome.INCONCLUSIVE, Severity.FATAL, "", "forbidden", remedy)

    lines = text.table(one(Outcome.INCONCLUSIVE, found)).splitlines()

    assert [
        "           do:   Let somebody grant this:",
        "                 - apiGroups: [apps]",
        "                   resources: [deployments]",
    ] == lines[3:6]


def test_table_gives_each_command_a_line_of_its_own() -> None:
    """Whole, and without what joins it with the words around it."""
    command = "kubectl --namespace realtime get pods --selector app=slackwater"
    remedy = f"Look at `kubectl` first (`{command}`), then at `{command}`; or `{command}`."
    found = Finding("x", "r", Outcome.FAIL, Severity.FATAL, "", "broken", remedy)

    lines = text.table(one(Outcome.FAIL, found)).splitlines()

    indent = " " * 17
    assert [
        "           do:   Look at `kubectl` first",
        f"{indent}$ {command}",
        f"{indent}then at",
        f"{indent}$ {command}",
        f"{indent}or",
        f"{indent}$ {command}",
    ] == lines[3:9]


def test_json_follows_its_schema() -> None:
    """The published one; the version is part of it."""
    document = json.loads(machine.as_json(mixed()))

    jsonschema.validate(document, machine.report_schema())
    assert machine.REPORT_VERSION == document["version"]
    assert 16 == sum(document["counts"].values()) == len(document["items"])


def test_junit_has_a_case_for_each_item() -> None:
    """Suites and cases as the readers of such files expect them, with counts that add up."""
    root = ET.fromstring(machine.as_junit(mixed()))  # noqa: S314  # made here

    suites = root.findall("testsuite")
    cases = root.findall("testsuite/testcase")
    assert ("testsuites", 4, 16) == (root.tag, len(suites), len(cases))
    for element in root.iter():
        required, children = JUNIT_CHILDREN[element.tag]
        assert required <= element.attrib.keys()
        assert {child.tag for child in element} <= children
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert root.get(name) == str(len(root.findall(f"testsuite/testcase/{tag}")))
        assert root.get(name) == str(sum(int(suite.get(name, "")) for suite in suites))


def test_sarif_follows_its_schema() -> None:
    """As far as SARIF 2.1.0 says what the parts that are used have to be."""
    document = json.loads(machine.as_sarif(mixed()))

    jsonschema.validate(document, SARIF)
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert [item.id for item in ITEMS] == rules
    assert all(rules[found["ruleIndex"]] == found["ruleId"] for found in run["results"])
    assert all(found["level"] == "none" for found in run["results"] if found["kind"] != "fail")


def test_sarif_names_file_and_line() -> None:
    """So that a review tool can show it beside the code."""
    evidence = Evidence("k8s/my web.yaml", "spec.replicas", 3, document=2, line=14)
    found = Finding("x", "r", Outcome.FAIL, Severity.FATAL, "Deployment web", "m", "", (evidence,))

    (result,) = json.loads(machine.as_sarif(one(Outcome.FAIL, found)))["runs"][0]["results"]

    (place,) = result["locations"]
    assert "k8s/my%20web.yaml" == place["physicalLocation"]["artifactLocation"]["uri"]
    assert 14 == place["physicalLocation"]["region"]["startLine"]


@pytest.mark.parametrize(
    ("outcomes", "code", "strict_code"),
    [
        pytest.param([Outcome.PASS, Outcome.NOT_APPLICABLE], 0, 0, id="pass"),
        pytest.param([Outcome.PASS, Outcome.WAIVED], 0, 0, id="waived"),
        pytest.param([Outcome.PASS, Outcome.WARN], 0, 4, id="a warning"),
        pytest.param([Outcome.WARN, Outcome.INCONCLUSIVE], 5, 5, id="not verified outweighs a warning"),
        pytest.param([Outcome.PASS, Outcome.BLOCKED], 5, 5, id="blocked is not verified"),
        pytest.param([Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.FAIL], 3, 3, id="a failure outweighs all"),
        pytest.param([Outcome.NOT_APPLICABLE], 5, 5, id="nothing applied"),
        pytest.param([], 5, 5, id="nothing at all"),
    ],
)
def test_exit_code_is_that_of_the_worst_item(outcomes: list[Outcome], code: int, strict_code: int) -> None:
    """A pipeline goes on only after a verified pass."""
    report = Report(
        Depth.LIVE, NOW, "web", tuple(Result(item, outcome, ()) for item, outcome in zip(ITEMS, outcomes, strict=False))
    )

    assert code == checking.exit_code(report, is_strict=False)
    assert strict_code == checking.exit_code(report, is_strict=True)


def test_short_is_one_line_an_item() -> None:
    """For grep and cut: outcome, id, what is worst."""
    lines = text.short(mixed()).splitlines()

    assert 17 == len(lines)
    assert all(3 == len(line.split("\t")) for line in lines[:-1])
    assert find(lines[0].split("\t")[1])


if __name__ == "__main__":
    GOLDENS.mkdir(exist_ok=True)
    for name, write in FORMATS.items():
        (GOLDENS / name).write_text(f"{write(mixed())}\n", encoding="utf-8")
