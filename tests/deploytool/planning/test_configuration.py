from __future__ import annotations

import datetime as dt
from typing import Any

import jsonschema
import pytest

from deploytool.errors import SettingsError
from deploytool.planning.configuration import SCHEMA, planning_of, seconds_of

_NIGHTS: dict[str, Any] = {"name": "nights", "rule": "FREQ=WEEKLY;BYDAY=TU,TH", "at": "23:30", "length": "2h"}
_SECTION: dict[str, Any] = {
    "zone": "Europe/Berlin",
    "open": [_NIGHTS, {"name": "move", "on": "2026-12-01", "at": "22:00", "length": "4h", "zone": "Asia/Kathmandu"}],
    "closed": [
        {"first": "2026-12-20", "last": "2027-01-06", "reason": "year's end"},
        {"name": "backup", "rule": "FREQ=DAILY", "at": "02:00", "length": "30m"},
    ],
    "estimate": "3m",
    "reserve": "1m30s",
}


def _open(**more: object) -> dict[str, Any]:
    return {"zone": "UTC", "open": [{**_NIGHTS, **more}]}


def test_section_is_read() -> None:
    """Every part of it arrives."""
    planning = planning_of("deploytool.yaml", _SECTION)

    nights, move = planning.calendar.windows
    assert ("nights", dt.datetime(2020, 1, 6, 23, 30), 7200.0) == (nights.name, nights.first, nights.length_seconds)  # noqa: DTZ001 - by the wall
    assert ("", dt.datetime(2026, 12, 1, 22, 0), "Asia/Kathmandu") == (move.rule, move.first, move.zone.key)  # noqa: DTZ001 - by the wall
    assert [(dt.date(2026, 12, 20), dt.date(2027, 1, 6))] == [(one.first, one.last) for one in planning.calendar.days]
    assert ["backup"] == [one.name for one in planning.calendar.closures]
    assert 270.0 == planning.need.seconds
    jsonschema.validate(_SECTION, SCHEMA)


def test_file_without_a_section_has_no_window() -> None:
    """Nothing said is nothing allowed."""
    assert () == planning_of("deploytool.yaml", None).calendar.windows


@pytest.mark.parametrize(
    ("section", "said"),
    [
        pytest.param([], "has to be a mapping", id="list"),
        pytest.param({"zone": "Europe/Berlni"}, "Europe/Berlni is no zone", id="zone"),
        pytest.param({"open": []}, "windows.zone: it is missing", id="no-zone"),
        pytest.param({"zone": "../../etc/passwd"}, "is no zone", id="path"),
        pytest.param({"zone": "UTC", "opens": []}, "unknown key opens", id="key"),
        pytest.param({"zone": "UTC", "open": {}}, "", id="empty-mapping"),
        pytest.param({"zone": "UTC", "open": "x"}, "windows.open has to be a list", id="text"),
        pytest.param({"zone": "UTC", "open": ["x"]}, "windows.open[0] has to be a mapping", id="item"),
        pytest.param(_open(rule="FREQ=HOURLY"), "chooses days alone", id="hourly"),
        pytest.param(_open(rule="FREQ=DAILY;BYHOUR=3"), "chooses days alone", id="hour"),
        pytest.param(_open(rule="FREQ=SOMETIMES"), "is no rule of RFC 5545", id="frequency"),
        pytest.param(_open(rule="nonsense"), "is no rule of RFC 5545", id="nonsense"),
        pytest.param(_open(rule="FREQ=DAILY;UNTIL=20270101T000000Z"), "is no rule of RFC 5545", id="until-utc"),
        pytest.param(_open(rule="FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"), "never comes", id="february-30"),
        pytest.param(_open(rule="FREQ=MONTHLY;BYMONTH=4;BYMONTHDAY=31"), "never comes", id="april-31"),
        pytest.param(_open(on="2026-01-01"), "either a rule or a day", id="both"),
        pytest.param(_open(rule=""), "either a rule or a day", id="neither"),
        pytest.param(_open(at="24:00"), "has to be a time", id="midnight"),
        pytest.param(_open(at=1410), "in quotes", id="sexagesimal"),
        pytest.param(_open(length="0s"), "has to be a duration", id="empty"),
        pytest.param(_open(length="8d"), "at most 7 days", id="long"),
        pytest.param(_open(length="2 hours"), "has to be a duration", id="words"),
        pytest.param(_open(since="soon"), "has to be a date", id="since"),
        pytest.param({"zone": "UTC", "closed": [{"first": "2026-02-30"}]}, "has to be a date", id="no-day"),
        pytest.param(
            {"zone": "UTC", "closed": [{"first": "2026-02-03", "last": "2026-02-01"}]},
            "is before first",
            id="backwards",
        ),
        pytest.param({"zone": "UTC", "estimate": "-5m"}, "windows.estimate has to be a duration", id="negative"),
    ],
)
def test_nonsense_is_named(section: object, said: str) -> None:
    """What is wrong, and where."""
    if not said:
        assert () == planning_of("x", section).calendar.windows
        return
    with pytest.raises(SettingsError) as caught:
        planning_of("deploytool.yaml", section)

    assert said in str(caught.value)


def test_all_problems_are_listed_at_once() -> None:
    """One round of mending is enough."""
    with pytest.raises(SettingsError) as caught:
        planning_of("x", {"zone": "Nowhere", "open": [{"name": "", "at": "7", "length": "x"}]})

    assert 5 == len(caught.value.problems)


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400.0), ("1h30m", 5400.0), ("1d", 86_400.0), ("", None)])
def test_durations(text: str, seconds: float | None) -> None:
    """With units, in their order."""
    assert seconds == seconds_of(text)
