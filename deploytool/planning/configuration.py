"""The section ``windows`` of ``deploytool.yaml``.

::

    windows:
      zone: Europe/Berlin
      open:
        - {name: weeknights, rule: "FREQ=WEEKLY;BYDAY=TU,TH", at: "23:30", length: 2h}
        - {name: move, on: 2026-12-01, at: "22:00", length: 4h}
      closed:
        - {first: 2026-12-20, last: 2027-01-06, reason: year's end}
        - {name: backup, rule: FREQ=DAILY, at: "02:00", length: 30m}
      estimate: 5m
      reserve: 5m
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from deploytool.errors import SettingsError
from deploytool.planning.window import Calendar, Days, Need, Recurrence, never_comes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ("SCHEMA", "Planning", "planning_of", "seconds_of")

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_UNITS: Final = (86_400, 3600, 60, 1)
_FIRST: Final = dt.date(2020, 1, 6)
"""Where a rule without ``since`` begins to count: a Monday, for the sake of intervals of weeks."""
_LONGEST: Final = 7 * 86_400.0
_OFTEN: Final = re.compile(r"FREQ=(HOURLY|MINUTELY|SECONDLY)|BY(HOUR|MINUTE|SECOND)=|DTSTART|RRULE|\n", re.IGNORECASE)
_ESTIMATE_SECONDS: Final = 300.0
_RESERVE_SECONDS: Final = 300.0

_DURATION_SCHEMA: Final = {"type": "string", "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$", "minLength": 2}
_DATE_SCHEMA: Final = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
_TIMES: Final[dict[str, Any]] = {
    "name": {"type": "string", "minLength": 1, "description": "For people."},
    "rule": {"type": "string", "description": "Days by RFC 5545, such as FREQ=WEEKLY;BYDAY=TU,TH."},
    "on": {**_DATE_SCHEMA, "description": "The one day, in the place of a rule."},
    "at": {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$", "description": "When it begins, by the zone."},
    "length": {**_DURATION_SCHEMA, "description": "How long it lasts, such as 90m; counted in UTC."},
    "since": {**_DATE_SCHEMA, "description": "First day of the rule, where it counts intervals; else 2020-01-06."},
    "zone": {"type": "string", "description": "Another zone than that of the section."},
}

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "description": "When a rollout may start. Without windows it may not, but with --now.",
    "properties": {
        "zone": {"type": "string", "description": "IANA zone of all times, such as Europe/Berlin."},
        "open": {
            "type": "array",
            "description": "When it may.",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": _TIMES,
                "required": ["name", "at", "length"],
            },
        },
        "closed": {
            "type": "array",
            "description": "When it may not, whatever is open: whole days (first, last, reason), or times as above.",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    **_TIMES,
                    "first": {**_DATE_SCHEMA, "description": "First day on which no window opens."},
                    "last": {**_DATE_SCHEMA, "description": "Last one; without it the first is the only one."},
                    "reason": {"type": "string", "description": "For people."},
                },
            },
        },
        "estimate": {**_DURATION_SCHEMA, "description": "What a rollout takes when all goes well.", "default": "5m"},
        "reserve": {**_DURATION_SCHEMA, "description": "What going back takes when it does not.", "default": "5m"},
    },
}
"""The section as JSON Schema."""

_TOP: Final = frozenset(SCHEMA["properties"])
_TIMED: Final = frozenset(_TIMES)
_WHOLE: Final = frozenset({"first", "last", "reason"})


@dataclass(frozen=True, slots=True)
class Planning:
    """What the section says.

    Attributes:
        zone: In which people think; None when there is no section.
    """

    calendar: Calendar = field(default_factory=lambda: Calendar(()))
    need: Need = field(default_factory=lambda: Need(_ESTIMATE_SECONDS, _RESERVE_SECONDS))
    zone: ZoneInfo | None = None


def planning_of(source: str, section: object) -> Planning:
    """Return what the section says; None for a file without one.

    Raises:
        SettingsError: It makes no sense; all problems are listed.
    """
    if section is None:
        return Planning()
    reader = _Reader()
    planning = reader.read(section)
    if reader.problems:
        raise SettingsError(source, reader.problems)
    return planning


def seconds_of(text: object) -> float | None:
    """Return a duration such as ``1h30m`` in seconds; None when it is none."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if found is None:
        return None
    return float(sum(int(count or 0) * unit for count, unit in zip(found.groups(), _UNITS, strict=True)))


class _Reader:
    """Reads the section; goes on after a problem, so that all are known at once."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, section: object) -> Planning:
        if not isinstance(section, dict):
            self.problems.append("windows has to be a mapping")
            return Planning()
        self._only(section, _TOP, "windows")
        zone = self._zone(section.get("zone"), "windows.zone")
        opened = [self._times(one, zone, where) for where, one in self._each(section, "open")]
        days, closures = [], []
        for where, one in self._each(section, "closed"):
            if "first" in one:
                days.append(self._days(one, where))
            else:
                closures.append(self._times({"name": one.get("reason", ""), **one}, zone, where, extra={"reason"}))
        return Planning(Calendar(tuple(opened), tuple(days), tuple(closures)), self._need(section), zone)

    def _each(self, section: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        found = section.get(name) or []
        if not isinstance(found, list):
            self.problems.append(f"windows.{name} has to be a list")
            return
        for index, one in enumerate(found):
            where = f"windows.{name}[{index}]"
            if isinstance(one, dict):
                # An `on` without quotes is true to YAML 1.1.
                yield where, {"on" if name is True else name: value for name, value in one.items()}
            else:
                self.problems.append(f"{where} has to be a mapping")

    def _only(self, found: Mapping[str, Any], known: frozenset[str], where: str) -> None:
        for name in found:
            if name not in known:
                self.problems.append(f"{where} has an unknown key {name}; known are {', '.join(sorted(known))}")

    def _need(self, section: Mapping[str, Any]) -> Need:
        estimate = self._duration(section, "estimate", "windows", _ESTIMATE_SECONDS)
        return Need(estimate, self._duration(section, "reserve", "windows", _RESERVE_SECONDS))

    def _duration(self, found: Mapping[str, Any], name: str, where: str, default: float | None = None) -> float:
        if name not in found and default is not None:
            return default
        seconds = seconds_of(found.get(name))
        if seconds is None or seconds > _LONGEST or (default is None and seconds == 0):
            self.problems.append(f"{where}.{name} has to be a duration such as 90m, of at most 7 days")
            return default or 60.0
        return seconds

    def _zone(self, name: object, where: str) -> ZoneInfo:
        try:
            if isinstance(name, str) and name:
                return ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            pass
        said = f"{name} is no zone" if name else "it is missing"
        self.problems.append(f"{where}: {said}; give an IANA name such as Europe/Berlin or UTC")
        return ZoneInfo("UTC")

    def _times(
        self, one: Mapping[str, Any], zone: ZoneInfo, where: str, *, extra: frozenset[str] | set[str] = frozenset()
    ) -> Recurrence:
        self._only(one, _TIMED | extra, where)
        if not (isinstance(one.get("name"), str) and one["name"]):
            self.problems.append(f"{where} needs a name")
        own_zone = self._zone(one["zone"], f"{where}.zone") if "zone" in one else zone
        time, length = self._time(one.get("at"), where), self._duration(one, "length", where)
        rule = self._rule(one, where)
        day = self._date(one, "on" if "on" in one else "since", where, _FIRST)
        first = dt.datetime.combine(day, time)
        self._tried(rule, first, where)
        return Recurrence(str(one.get("name")), own_zone, first, rule, length)

    def _rule(self, one: Mapping[str, Any], where: str) -> str:
        rule = one.get("rule", "")
        if bool(rule) == ("on" in one):
            self.problems.append(f"{where} needs either a rule or a day (on)")
        if "on" in one and "since" in one:
            self.problems.append(f"{where}.since goes with a rule")
        if not isinstance(rule, str) or _OFTEN.search(rule):
            self.problems.append(
                f"{where}.rule chooses days alone: FREQ is DAILY, WEEKLY, MONTHLY or YEARLY, and the time stands in at"
            )
            return ""
        return rule

    def _tried(self, rule: str, first: dt.datetime, where: str) -> None:
        if not rule:
            return
        try:
            if never_comes(rule, first):
                self.problems.append(f"{where}.rule never comes: no day matches {rule}")
        except (ValueError, TypeError, OverflowError, IndexError, KeyError, AttributeError) as error:
            self.problems.append(f"{where}.rule is no rule of RFC 5545: {error}")

    def _time(self, text: object, where: str) -> dt.time:
        found = _TIME.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            self.problems.append(f'{where}.at has to be a time such as "23:30", in quotes')
            return dt.time()
        return dt.time(int(found[1]), int(found[2]))

    def _date(self, one: Mapping[str, Any], name: str, where: str, default: dt.date | None) -> dt.date:
        value = one.get(name, default)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return value
        try:
            return dt.date.fromisoformat(str(value))
        except ValueError:
            self.problems.append(f"{where}.{name} has to be a date such as 2026-12-24")
            return _FIRST

    def _days(self, one: Mapping[str, Any], where: str) -> Days:
        self._only(one, _WHOLE, where)
        first = self._date(one, "first", where, None)
        last = self._date(one, "last", where, first)
        if last < first:
            self.problems.append(f"{where}.last is before first")
        return Days(first, last, str(one.get("reason") or "no reason is given"))
