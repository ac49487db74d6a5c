from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from deploytool.guard.metrics import Metrics
from service.observability.figures import Figures, Rates
from service.observability.metrics import METRICS
from tests.helm.rendering import Manifest, render, values_of
from tests.tools.chart_values import CHART

US = "live-slackwater"
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
EXPOSED = {description.exposed_name for description in METRICS}
OF_THE_GUARD = {family.name for family in Metrics().registry.collect()}
ON = (
    "monitoring.prometheusRule.enabled=true",
    "monitoring.runbookBaseUrl=https://docs.example.org/runbooks/",
    "guard.enabled=true",
)


def alerts(*changes: str) -> dict[str, Manifest]:
    """Return the alerts of a release by name."""
    (group,) = render(values_of(*ON, *changes))["PrometheusRule", US]["spec"]["groups"]
    rules = {rule["alert"]: rule for rule in group["rules"]}
    assert len(rules) == len(group["rules"])
    return rules


def page_of(alert: str) -> str:
    """Return the name of the page that an alert leads to."""
    return re.sub(r"(?<!^)([A-Z])", r"-\1", alert.removeprefix("Slackwater")).lower()


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression names."""
    return set(re.findall(r"\bslackwater_[a-z_]+\b", re.sub(r'"[^"]*"', "", expression)))


@pytest.mark.parametrize("name", alerts())
def test_alert_leads_to_its_page(name: str) -> None:
    """Whose title is the alert, and which says whom it hurts, what to look at, and then what to do."""
    url = alerts()[name]["annotations"]["runbook_url"]
    page = (RUNBOOKS / f"{page_of(name)}.md").read_text()

    assert f"https://docs.example.org/runbooks/{page_of(name)}" == url
    assert page.startswith(f"# {name}\n")
    assert f"**Severity:** {alerts()[name]['labels']['severity']}\n" in page
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert headings[0].startswith("What it means for ")
    assert "Look" == headings[1]
    assert len(headings) > 2


def test_every_page_has_its_alert() -> None:
    """Or says that there is none; and the index lists them all."""
    pages = {path.stem: path.read_text() for path in RUNBOOKS.glob("*.md")}
    index = pages.pop("index")

    assert {page_of(name) for name in alerts()} == {
        name for name, text in pages.items() if "**Severity:** no alert" not in text
    }
    assert all(f"]({name}.md)" in index for name in pages)
    assert all(f"| [{name}]({page_of(name)}.md) |" in index for name in alerts())


def test_addresses_end_as_the_pages_are_published() -> None:
    """Without an address of the pages there is none."""
    suffixed = alerts("monitoring.runbookSuffix=.html")["SlackwaterMemoryHigh"]
    bare = alerts("monitoring.runbookBaseUrl=")["SlackwaterMemoryHigh"]

    assert suffixed["annotations"]["runbook_url"].endswith("/memory-high.html")
    assert "runbook_url" not in bare["annotations"]


@pytest.mark.parametrize("name", alerts())
def test_alert_asks_for_metrics_of_this_release_alone(name: str) -> None:
    """Each selector holds the namespace and a Service, and each metric is one that is served behind that."""
    expression = alerts()[name]["expr"]
    known, job = (OF_THE_GUARD, f"{US}-guard") if "Guard" in name else (EXPOSED, f"{US}-admin")

    assert metrics_in(expression)
    assert metrics_in(expression) <= known
    assert expression.count(f'{{namespace="realtime",job="{job}"') == expression.count("slackwater_")


@pytest.mark.parametrize("name", alerts())
def test_alert_says_whose_it_is(name: str) -> None:
    """Those whose expression leaves no labels too, so that it can be routed."""
    labels = alerts()[name]["labels"]

    assert ("realtime", f"{US}-admin") == (labels["namespace"], labels["job"])


def test_indicators_are_the_service_s() -> None:
    """The thresholds of /api/health/websocket and those of the alerts are the same."""
    idle: Any = SimpleNamespace(instance=SimpleNamespace(hub=SimpleNamespace(connections=())))
    indicators = Figures.indicators(idle, Rates(0.0, 0.0, 0.0), memory_bytes=0)
    figures = {indicator.name: indicator.threshold for indicator in indicators}
    expected = {
        "connections": alerts()["SlackwaterScalingConnections"],
        "memory_bytes": alerts()["SlackwaterScalingMemory"],
        "cpu_percent": alerts()["SlackwaterScalingProcessor"],
    }
    thresholds = {name: float(rule["expr"].rpartition("> ")[2]) for name, rule in expected.items()}

    assert figures == thresholds | {"cpu_percent": thresholds["cpu_percent"] * 100}


def test_memory_alert_follows_the_limit() -> None:
    """A part of it, in bytes."""
    assert alerts()["SlackwaterMemoryHigh"]["expr"].endswith("> 0.85 * 805306368")
    assert alerts("resources.limits.memory=2G")["SlackwaterMemoryHigh"]["expr"].endswith("> 0.85 * 2000000000")


def test_drain_alert_waits_for_the_budget() -> None:
    """And half a minute longer."""
    assert (alerts()["SlackwaterDrainStuck"]["for"], alerts("drain.budget=2m")["SlackwaterDrainStuck"]["for"]) == (
        "55s",
        "150s",
    )


def dashboard() -> Any:  # noqa: ANN401 - JSON
    """Return the dashboard as Grafana finds it."""
    data = render(values_of("monitoring.dashboard.enabled=true"))["ConfigMap", f"{US}-dashboard"]["data"]
    return json.loads(data["slackwater.json"])


def test_dashboard_is_found_and_whole() -> None:
    """The sidecar's label is on it, and no panel hides another."""
    objects = render(values_of("monitoring.dashboard.enabled=true"))
    labels = objects["ConfigMap", f"{US}-dashboard"]["metadata"]["labels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard()["panels"]]

    assert labels["grafana_dashboard"] == "1"
    assert dashboard() == json.loads((CHART / "files" / "dashboard.json").read_text())
    assert len(set(places)) == len(places) == len({panel["id"] for panel in dashboard()["panels"]})


def test_dashboard_shows_metrics_that_there_are() -> None:
    """Of one namespace and one release."""
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]

    assert expressions
    for expression in expressions:
        assert metrics_in(expression) <= EXPOSED
        assert '{namespace="$namespace",job="$job"' in expression


# What Prometheus makes of the rules.


def promtool() -> str:
    """Return the path of promtool; without it, skip, or fail where CI asks for all tests."""
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if found is None:
        reason = "needs promtool (Debian: prometheus)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return found


def series(name: str, values: str, labels: str = "", job: str = "admin") -> dict[str, str]:
    """Return one series of the release, as it is scraped."""
    ours = f'namespace="realtime",job="{US}-{job}"' + (f",{labels}" if labels else "")
    return {"series": f"{name}{{{ours}}}", "values": values}


ERRORS = "slackwater_errors_total"
COMMANDS = (series("slackwater_commands_total", "0+600x40", 'method="publish"'),)
OPENED = (series("slackwater_connections_opened_total", "0x40"),)
SERVES = (series("slackwater_phase", "1x40", 'phase="ACTIVE"'),)
MIB = 1024 * 1024

FIRES: list[tuple[str, str, tuple[dict[str, str], ...]]] = [
    ("SlackwaterNoInstanceReady", "3m", ()),
    ("SlackwaterNoInstanceReady", "3m", (series("slackwater_phase", "1x40", 'phase="STANDBY"'),)),
    ("SlackwaterNoInstanceReady", "3m", (series("slackwater_phase", "0x40", 'phase="ACTIVE"'),)),
    (
        "SlackwaterTwoInstancesServe",
        "2m",
        (*SERVES, series("slackwater_phase", "1x40", 'phase="GATED",pod="other"')),
    ),
    ("SlackwaterMemoryHigh", "6m", (series("slackwater_process_resident_memory_bytes", f"{700 * MIB}x40"),)),
    (
        "SlackwaterConnectionsNearLimit",
        "6m",
        (series("slackwater_connections", "950x40"), series("slackwater_connections_limit", "1000x40")),
    ),
    ("SlackwaterWebSocketErrors", "18m", (*COMMANDS, *OPENED, series(ERRORS, "0+60x40", 'code="103"'))),
    (
        "SlackwaterWebSocketErrors",
        "18m",
        (
            *COMMANDS,
            *OPENED,
            series(ERRORS, "0x40", 'code="103"'),
            series("slackwater_upgrades_refused_total", "0+100x40", 'reason="connections"'),
        ),
    ),
    ("SlackwaterDrainStuck", "2m", (series("slackwater_phase", "1x40", 'phase="DRAINING"'),)),
    ("SlackwaterInternalFailures", "4m", (series("slackwater_failures_total", "0 0 0 1 1", 'where="publish"'),)),
    ("SlackwaterDatabaseDegraded", "3m", (series("slackwater_database_degraded", "1x40"),)),
    ("SlackwaterOutboxStuck", "9m", (series("slackwater_outbox_oldest_seconds", "301x40"),)),
    ("SlackwaterScalingConnections", "17m", (series("slackwater_connections", "801x40"),)),
    ("SlackwaterScalingMemory", "17m", (series("slackwater_process_resident_memory_bytes", f"{501 * MIB}x40"),)),
    ("SlackwaterScalingProcessor", "24m", (series("slackwater_process_cpu_seconds_total", "0+45x40"),)),
    ("SlackwaterGuardInAFight", "1m", (series("slackwater_guard_holding_off", "1x40", f'workload="{US}"', "guard"),)),
]
SILENT: list[tuple[str, str, tuple[dict[str, str], ...]]] = [
    *(
        ("SlackwaterNoInstanceReady", "9m", (series("slackwater_phase", "1x40", f'phase="{phase}"'),))
        for phase in ("ACTIVE", "GATED", "DRAINING", "DRAINED")
    ),
    ("SlackwaterNoInstanceReady", "1m", ()),
    (
        "SlackwaterTwoInstancesServe",
        "9m",
        (*SERVES, series("slackwater_phase", "1x40", 'phase="STANDBY",pod="other"')),
    ),
    ("SlackwaterMemoryHigh", "9m", (series("slackwater_process_resident_memory_bytes", f"{600 * MIB}x40"),)),
    (
        "SlackwaterConnectionsNearLimit",
        "9m",
        (series("slackwater_connections", "850x40"), series("slackwater_connections_limit", "1000x40")),
    ),
    ("SlackwaterWebSocketErrors", "20m", (*COMMANDS, *OPENED, series(ERRORS, "0+60x40", 'code="109"'))),
    ("SlackwaterWebSocketErrors", "20m", (*COMMANDS, *OPENED, series(ERRORS, "0+6x40", 'code="103"'))),
    (
        "SlackwaterWebSocketErrors",
        "20m",
        (
            series("slackwater_commands_total", "0x40", 'method="publish"'),
            *OPENED,
            series(ERRORS, "0x40", 'code="103"'),
        ),
    ),
    ("SlackwaterDrainStuck", "30s", (series("slackwater_phase", "1x40", 'phase="DRAINING"'),)),
    ("SlackwaterDrainStuck", "9m", SERVES),
    ("SlackwaterInternalFailures", "9m", (series("slackwater_failures_total", "3x40", 'where="publish"'),)),
    ("SlackwaterDatabaseDegraded", "3m", (series("slackwater_database_degraded", "0x40"),)),
    (
        "SlackwaterOutboxStuck",
        "9m",
        (series("slackwater_outbox_oldest_seconds", "299x40"), series("slackwater_outbox_set_aside", "0x40")),
    ),
    ("SlackwaterScalingConnections", "20m", (series("slackwater_connections", "800x40"),)),
    ("SlackwaterScalingMemory", "20m", (series("slackwater_process_resident_memory_bytes", f"{499 * MIB}x40"),)),
    ("SlackwaterScalingProcessor", "30m", (series("slackwater_process_cpu_seconds_total", "0+36x40"),)),
    ("SlackwaterGuardInAFight", "9m", (series("slackwater_guard_holding_off", "0x40", f'workload="{US}"', "guard"),)),
]


def cases() -> Iterator[dict[str, Any]]:
    """Yield the cases as promtool reads them: which alerts fire, and when, on which series."""
    for number, (alert, at, given) in enumerate((*FIRES, *SILENT)):
        expected = [{"exp_labels": fired(alert)}] if number < len(FIRES) else []
        yield {
            "name": f"{alert} {number}",
            "interval": "1m",
            "input_series": list(given),
            "alert_rule_test": [{"alertname": alert, "eval_time": at, "exp_alerts": expected}],
        }


def fired(alert: str) -> dict[str, str]:
    """Return the labels that an alert fires with: its own, and what its expression leaves."""
    left = {"SlackwaterDrainStuck": {"phase": "DRAINING"}, "SlackwaterInternalFailures": {"where": "publish"}}
    left["SlackwaterGuardInAFight"] = {"workload": US}
    return {**alerts()[alert]["labels"], **left.get(alert, {})}


def test_every_alert_is_tried_both_ways() -> None:
    """Firing, and silent."""
    assert alerts().keys() == {alert for alert, _, _ in FIRES} == {alert for alert, _, _ in SILENT}


def test_alerts_fire_when_they_should_and_not_else(tmp_path: Path) -> None:
    """Judged by Prometheus itself."""
    tool = promtool()
    # Texts are for people, and are looked at elsewhere; here a case would have to repeat them.
    rules = [{name: value for name, value in rule.items() if name != "annotations"} for rule in alerts().values()]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "us", "rules": rules}]}))
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": list(cases())}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]):
        run = subprocess.run([tool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our own command

        assert run.returncode == 0, run.stdout + run.stderr


def test_annotations_are_templates_that_prometheus_takes(tmp_path: Path) -> None:
    """As they are rendered, with the group as the operator hands it on."""
    group = render(values_of(*ON))["PrometheusRule", US]["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(group))
    run = subprocess.run(  # noqa: S603 - our own command
        [promtool(), "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stdout + run.stderr
