"""Reports as text, held to the letter."""

from __future__ import annotations

import json
import textwrap

import pytest

from deploytool.cli import render
from deploytool.model.finding import Evidence, Finding, Outcome, Report

FAIL = Finding(
    check="replicas.single",
    outcome=Outcome.FAIL,
    subject="Deployment web",
    message="spec.replicas is 3",
    remediation="Set the count to 1.",
    evidence=(Evidence("k8s/web.yaml", 2, "spec.replicas", 3),),
)
PASS = Finding("replicas.no-autoscaler", Outcome.PASS, "", "no autoscaler in 2 documents", "", ())
WARN = Finding("replicas.no-overlap", Outcome.WARN, "Deployment web", "type is absent", "Set it.", ())
UNKNOWN = Finding("replicas.single", Outcome.INCONCLUSIVE, "", "no workload", "", ())
IDLE = Finding("replicas.no-overlap", Outcome.NOT_APPLICABLE, "", "title", "", ())


def test_table_shows_evidence_and_remediation_of_what_is_wrong() -> None:
    """A pass is one line; a failure says what was seen, where, and what to do."""
    expected = """
        FAIL  replicas.single         Deployment web: spec.replicas is 3
                seen: k8s/web.yaml, document 2, spec.replicas: 3
                do:   Set the count to 1.
        PASS  replicas.no-autoscaler  no autoscaler in 2 documents

        fail: 1 pass, 1 fail"""

    assert textwrap.dedent(expected).lstrip("\n") == render.as_table(Report((FAIL, PASS)))


def test_table_makes_control_characters_visible() -> None:
    """A name out of a file cannot steer the terminal."""
    sneaky = Finding("x", Outcome.FAIL, "Deployment \x1b[2Jweb\u202e", "m", "", (Evidence("a\nb", 1, "f", None),))

    text = render.as_table(Report((sneaky,)))

    assert "\\x1b[2Jweb\\u202e" in text
    assert "a\\nb, document 1, f: absent" in text
    assert "\x1b" not in text


def test_json_holds_everything_that_the_report_does() -> None:
    """The keys are a contract with pipelines."""
    document = json.loads(render.as_json(Report((FAIL, IDLE))))

    assert document == {
        "outcome": "fail",
        "counts": {"pass": 0, "warn": 0, "fail": 1, "inconclusive": 0, "not applicable": 1},
        "findings": [
            {
                "check": "replicas.single",
                "outcome": "fail",
                "subject": "Deployment web",
                "message": "spec.replicas is 3",
                "remediation": "Set the count to 1.",
                "evidence": [{"source": "k8s/web.yaml", "document": 2, "field": "spec.replicas", "seen": 3}],
            },
            {
                "check": "replicas.no-overlap",
                "outcome": "not applicable",
                "subject": "",
                "message": "title",
                "remediation": "",
                "evidence": [],
            },
        ],
    }


@pytest.mark.parametrize(
    ("findings", "code", "strict_code"),
    [
        pytest.param((PASS, IDLE), 0, 0, id="pass"),
        pytest.param((PASS, WARN), 0, 4, id="a warning"),
        pytest.param((PASS, WARN, UNKNOWN), 5, 5, id="not verified outweighs a warning"),
        pytest.param((PASS, WARN, UNKNOWN, FAIL), 3, 3, id="a failure outweighs all"),
        pytest.param((IDLE,), 5, 5, id="nothing applied"),
        pytest.param((), 5, 5, id="nothing at all"),
    ],
)
def test_exit_code_is_that_of_the_worst_finding(findings: tuple[Finding, ...], code: int, strict_code: int) -> None:
    """A pipeline goes on only after a verified pass."""
    report = Report(findings)

    assert code == render.exit_code(report, strict=False)
    assert strict_code == render.exit_code(report, strict=True)
