"""Windows against a model that walks through every minute and asks the zone what the clocks show."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploytool.planning.window import Calendar, Days, Need, Recurrence, Span

_MINUTE = 60
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

# A day around which clocks change (or do not), by zone.
_CHANGES = {
    "Europe/Berlin": (dt.date(2026, 3, 29), dt.date(2026, 10, 25)),
    "America/New_York": (dt.date(2026, 3, 8), dt.date(2026, 11, 1)),
    "Australia/Lord_Howe": (dt.date(2026, 4, 5), dt.date(2026, 10, 4)),
    "Asia/Kathmandu": (dt.date(2026, 5, 1),),
    "America/St_Johns": (dt.date(2026, 3, 8), dt.date(2026, 11, 1)),
    "Africa/Casablanca": (dt.date(2026, 2, 15), dt.date(2026, 3, 22)),
    "Pacific/Apia": (dt.date(2011, 12, 30),),
}


class _Model:
    """Every minute of some days in a zone, and what the clocks show."""

    def __init__(self, zone: str, around: dt.date, days: int = 4) -> None:
        middle = dt.datetime.combine(around, dt.time(12), dt.UTC)
        self.begin = int((middle - dt.timedelta(days=days)).timestamp())
        self.end = int((middle + dt.timedelta(days=days)).timestamp())
        self.minutes = range(self.begin, self.end, _MINUTE)
        self.shown = [dt.datetime.fromtimestamp(one, ZoneInfo(zone)).replace(tzinfo=None) for one in self.minutes]
        self.index = {
            one.replace(fold=0): at for one, at in zip(reversed(self.shown), reversed(self.minutes), strict=True)
        }
        self.jumps = [
            (before, after, at)
            for (before, after), at in zip(pairwise(self.shown), self.minutes[1:], strict=True)
            if after - before > dt.timedelta(minutes=1)
        ]

    def start(self, local: dt.datetime) -> int | None:
        """Return when clocks show a time first, or would have shown it had they not jumped; None when out of sight."""
        if local in self.index:
            return self.index[local]
        for before, after, at in self.jumps:
            if before < local < after:
                return at + int((local - before).total_seconds()) - _MINUTE
        return None

    def open_minutes(self, windows: list[tuple[frozenset[int], dt.time, int]], denied: set[dt.date]) -> set[int]:
        """Return the minutes in which a window is open: days of the week, time, length in minutes."""
        opened: set[int] = set()
        days = sorted({one.date() + dt.timedelta(days=more) for one in self.shown for more in (-1, 0, 1)})
        for weekdays, time, length in windows:
            for day in days:
                if day.weekday() in weekdays and day not in denied:
                    start = self.start(dt.datetime.combine(day, time))
                    if start is not None:
                        opened.update(range(start, start + length * _MINUTE, _MINUTE))
        return opened


_times = st.builds(dt.time, st.integers(0, 23), st.integers(0, 59)) | st.builds(
    dt.time, st.integers(0, 4), st.sampled_from([0, 15, 29, 30, 31, 59])
)
_windows = st.tuples(st.frozensets(st.integers(0, 6), min_size=1), _times, st.integers(1, 30 * 60))


def _recurrence(zone: str, window: tuple[frozenset[int], dt.time, int]) -> Recurrence:
    weekdays, time, length = window
    rule = "FREQ=WEEKLY;BYDAY=" + ",".join(_DAYS[one] for one in sorted(weekdays))
    first = dt.datetime.combine(dt.date(2011, 1, 3), time)
    return Recurrence("a", ZoneInfo(zone), first, rule, length * _MINUTE)


_places = st.sampled_from([(zone, day) for zone, days in _CHANGES.items() for day in days])


@settings(max_examples=80, deadline=None)
@given(
    place=_places,
    windows=st.lists(_windows, min_size=1, max_size=3),
    closures=st.lists(_windows, max_size=2),
    denied=st.sets(st.integers(-3, 3), max_size=2),
)
def test_spans_are_those_of_the_model(
    place: tuple[str, dt.date],
    windows: list[tuple[frozenset[int], dt.time, int]],
    closures: list[tuple[frozenset[int], dt.time, int]],
    denied: set[int],
) -> None:
    """Every minute near a change of clocks is open or closed as the model says."""
    zone, around = place
    model = _Model(zone, around)
    excluded = {around + dt.timedelta(days=one) for one in denied}
    calendar = Calendar(
        tuple(_recurrence(zone, one) for one in windows),
        tuple(Days(one, one, "x") for one in sorted(excluded)),
        tuple(_recurrence(zone, one) for one in closures),
    )
    # Away from the edges, where the model does not know what opened before.
    low, high = model.begin + 2 * 86_400, model.end - 2 * 86_400

    expected = model.open_minutes(windows, excluded) - model.open_minutes(closures, set())
    spans = calendar.spans(low, high)

    found = {one for one in range(low, high, _MINUTE) if any(one in span for span in spans)}
    assert {one for one in expected if low <= one < high} == found
    assert all(before.end < after.start for before, after in pairwise(spans))


@settings(max_examples=30, deadline=None)
@given(
    place=_places,
    windows=st.lists(_windows, min_size=1, max_size=3),
    need=st.integers(0, 20 * 60),
    minute=st.integers(0, 2 * 24 * 60),
)
def test_may_start_where_enough_is_left(
    place: tuple[str, dt.date], windows: list[tuple[frozenset[int], dt.time, int]], need: int, minute: int
) -> None:
    """What is left is counted minute by minute; the next opening is the first minute with enough of it."""
    zone, around = place
    model = _Model(zone, around, days=5)
    at = model.begin + 2 * 86_400 + minute * _MINUTE
    opened = model.open_minutes(windows, set())
    left = 0
    while at + left * _MINUTE in opened:
        left += 1
    calendar = Calendar(tuple(_recurrence(zone, one) for one in windows))

    explanation = calendar.explain(at, Need(need * _MINUTE, 0.0))

    if at + left * _MINUTE < model.end - 2 * 86_400:
        assert left * _MINUTE == explanation.left_seconds
        assert (left > 0 and left >= need) == explanation.may_start
    if explanation.may_start:
        assert explanation.upcoming is not None
        assert at == explanation.upcoming.span.start


def _night(**more: object) -> Recurrence:
    fields: dict[str, object] = {
        "name": "nights",
        "zone": ZoneInfo("Europe/Berlin"),
        "first": dt.datetime(2026, 1, 1, 23, 0),  # noqa: DTZ001 - by the wall
        "rule": "FREQ=DAILY",
        "length_seconds": 4 * 3600.0,
    }
    return Recurrence(**{**fields, **more})  # type: ignore[arg-type]  # the cases hold values of the right types


def _utc(*when: int) -> float:
    return dt.datetime(*when, tzinfo=dt.UTC).timestamp()  # type: ignore[misc,arg-type]  # the cases hold values of the right types


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        pytest.param((2026, 3, 28, 22, 0), (2026, 3, 29, 2, 0), id="spring"),
        pytest.param((2026, 10, 24, 21, 0), (2026, 10, 25, 1, 0), id="autumn"),
    ],
)
def test_night_of_a_clock_change_is_as_long_as_others(opens: tuple[int, ...], closes: tuple[int, ...]) -> None:
    """Four hours by a stopwatch, whatever the clocks on the wall do."""
    spans = Calendar((_night(),)).spans(_utc(*opens), _utc(*closes) + 3600)

    assert (Span(_utc(*opens), _utc(*closes)),) == spans


def test_night_belongs_to_the_day_it_opens() -> None:
    """Excluding the 24th takes the whole night from the 24th to the 25th, and leaves the one before."""
    calendar = Calendar((_night(),), (Days(dt.date(2026, 12, 24), dt.date(2026, 12, 24), "holiday"),))

    before = calendar.explain(_utc(2026, 12, 24, 1, 0), Need())
    within = calendar.explain(_utc(2026, 12, 25, 1, 0), Need())

    assert before.may_start
    assert not within.may_start
    assert within.reasons == ("window nights would be open, but its day 2026-12-24 is excluded: holiday",)


def test_too_little_left_is_explained() -> None:
    """A window that closes soon is no place to start; the next one is named."""
    explanation = Calendar((_night(),)).explain(_utc(2026, 6, 2, 0, 50), Need(300.0, 600.0))

    assert not explanation.may_start
    assert "10 min are left, and 15 min are needed: 5 min to roll out and 10 min to go back" in explanation.reasons
    assert explanation.upcoming is not None
    assert Span(_utc(2026, 6, 2, 21, 0), _utc(2026, 6, 3, 1, 0)) == explanation.upcoming.span


def test_one_day_alone() -> None:
    """A window without a rule comes once."""
    calendar = Calendar((_night(rule="", first=dt.datetime(2026, 12, 1, 22, 0)),))  # noqa: DTZ001 - by the wall

    found = list(calendar.openings(_utc(2026, 1, 1), Need()))

    assert [Span(_utc(2026, 12, 1, 21, 0), _utc(2026, 12, 2, 1, 0))] == [one.span for one in found]
    assert calendar.upcoming(_utc(2027, 1, 1), Need()) is None


def test_leap_day_is_found() -> None:
    """The next opening may be years away."""
    calendar = Calendar((_night(rule="FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", first=dt.datetime(2026, 1, 1, 3, 0)),))  # noqa: DTZ001 - by the wall

    upcoming = calendar.upcoming(_utc(2028, 3, 1), Need())

    assert upcoming is not None
    assert _utc(2032, 2, 29, 2, 0) == upcoming.span.start
    assert ("nights",) == upcoming.names


def test_no_window_never_opens() -> None:
    """Nothing configured is not the same as always."""
    explanation = Calendar(()).explain(_utc(2026, 1, 1), Need())

    assert not explanation.may_start
    assert explanation.upcoming is None
    assert ("no window is configured",) == explanation.reasons


def test_window_without_end_opens_once_and_for_long() -> None:
    """A day after the other, without a gap between."""
    calendar = Calendar((_night(length_seconds=86_400.0),))

    upcoming = calendar.upcoming(_utc(2026, 6, 1), Need(20 * 86_400.0, 0.0))

    assert upcoming is not None
    assert _utc(2026, 6, 1) == upcoming.span.start
