"""Maintenance windows: when a rollout may start.

Instants are unix seconds. A rule says when a window opens by the clock on the wall; how long it stays open is counted
in UTC, so a night in which clocks change is no longer and no shorter than others.

A start that the clocks leave out (02:30 in the night in which 02:00 is followed by 03:00) is read with the offset from
before the change, hence opens later by what was left out; one that comes twice opens at the first. A window belongs to
the day on which it opens: the night after an excluded day is open if the window opened a day before, and the whole of
what opens on an excluded day is closed, past midnight too. What is excluded by time of day is cut out of any window.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from dateutil.rrule import rrule, rrulestr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from zoneinfo import ZoneInfo

__all__ = ("Calendar", "Days", "Explanation", "Need", "Opening", "Recurrence", "Span", "instant_of", "never_comes")

_DAY: Final = 86_400.0
_STEP: Final = 30 * _DAY
_HORIZON: Final = 10 * 366 * _DAY
"""How far is looked for the next opening: further apart than any February 29th."""
_COUNTING: Final = ("INTERVAL", "COUNT", "UNTIL", "BYSETPOS")
_CHOOSING: Final = ("BYMONTHDAY", "BYYEARDAY", "BYDAY", "BYWEEKNO", "BYEASTER")
_MOST_CHANGE: Final = 2 * _DAY
"""No local time is further from UTC, and no change of clocks is larger."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From ``start`` until before ``end``, both in unix seconds."""

    start: float
    end: float

    def __contains__(self, instant: float) -> bool:
        return self.start <= instant < self.end


@dataclass(frozen=True, slots=True)
class Need:
    """What a rollout takes.

    Attributes:
        estimate_seconds: When all goes well.
        reserve_seconds: For going back when it does not.
    """

    estimate_seconds: float = 0.0
    reserve_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Both together: what has to be left of a window."""
        return self.estimate_seconds + self.reserve_seconds


@lru_cache(maxsize=256)
def _parsed(rule: str, first: dt.datetime) -> rrule:
    """Return a rule that remembers what it has yielded."""
    parsed = rrulestr(rule, dtstart=first, cache=True)
    if not isinstance(parsed, rrule):
        raise ValueError("it has to be one rule")  # noqa: TRY004 - of the text, not of the caller
    return parsed


def never_comes(rule: str, first: dt.datetime) -> bool:
    """Tell whether a rule has no start within ten years of the first.

    Raises:
        ValueError: It is no rule of RFC 5545.
    """
    parts = rule.upper().split(";")
    if "FREQ=DAILY" in parts and len(parts) > 1 and not any(one.startswith(_COUNTING) for one in parts):
        # The same days, and not looked for one by one until the year 9999.
        rule = rule.upper().replace("FREQ=DAILY", "FREQ=YEARLY")
        if not any(one.startswith(_CHOOSING) for one in parts):
            return False
    start = next(iter(_parsed(rule, first)), None)
    return start is None or (start - first).total_seconds() > _HORIZON


def instant_of(local: dt.datetime, zone: ZoneInfo) -> float:
    """Return the instant at which clocks in a zone show a time; the module says which when they never do, or twice."""
    return local.replace(tzinfo=zone, fold=0).timestamp()


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A time that comes again by a rule, or just once.

    Attributes:
        name: For people.
        zone: Whose clocks ``first`` is read by.
        first: The first start, without a zone.
        rule: Of RFC 5545, such as ``FREQ=WEEKLY;BYDAY=TU``; empty for once.
        length_seconds: From the start, counted in UTC.
    """

    name: str
    zone: ZoneInfo
    first: dt.datetime
    rule: str
    length_seconds: float

    def starts(self, after: float, before: float) -> Iterator[tuple[dt.date, float]]:
        """Yield the local day and the instant of every start in ``after <= start < before``."""
        low, high = (self._local(bound) for bound in (after - _MOST_CHANGE, before + _MOST_CHANGE))
        for local in self._times(low, high):
            start = instant_of(local, self.zone)
            if after <= start < before:
                yield local.date(), start

    def covering(self, after: float, before: float) -> Iterator[tuple[dt.date, Span]]:
        """Yield the local day of its start and every span that has a part in ``after <= t < before``."""
        for day, start in self.starts(after - self.length_seconds, before):
            if start + self.length_seconds > after:
                yield day, Span(start, start + self.length_seconds)

    def _times(self, low: dt.datetime, high: dt.datetime) -> Iterator[dt.datetime]:
        if not self.rule:
            if low <= self.first <= high:
                yield self.first
            return
        for local in _parsed(self.rule, self.first):
            if local > high:
                return
            if local >= low:
                yield local

    def _local(self, instant: float) -> dt.datetime:
        return dt.datetime.fromtimestamp(instant, self.zone).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class Days:
    """Days on which no window opens.

    Attributes:
        first: The first of them, by the zone of the window.
        last: The last of them.
        reason: For people.
    """

    first: dt.date
    last: dt.date
    reason: str

    def __contains__(self, day: dt.date) -> bool:
        return self.first <= day <= self.last


@dataclass(frozen=True, slots=True)
class Opening:
    """A time in which a rollout may start.

    Attributes:
        span: From the first instant at which there is enough left, until the window closes.
        names: Windows that open it.
    """

    span: Span
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a rollout may or may not start at an instant.

    Attributes:
        left_seconds: Of the window that is open; 0 when none is.
        needed_seconds: That have to be left.
        reasons: For people, each a clause.
        upcoming: The next opening; None when there is none within ten years.
    """

    at: float
    left_seconds: float
    needed_seconds: float
    reasons: tuple[str, ...]
    upcoming: Opening | None

    @property
    def may_start(self) -> bool:
        """Whether a window is open, and long enough."""
        return self.left_seconds > 0 and self.left_seconds >= self.needed_seconds


@dataclass(frozen=True, slots=True)
class Calendar:
    """Windows, and what closes them: whatever is excluded is closed, no matter which window opens it.

    Attributes:
        windows: In which a rollout may start; with none of them it never may.
        days: On which no window opens.
        closures: Cut out of every window.
    """

    windows: tuple[Recurrence, ...]
    days: tuple[Days, ...] = ()
    closures: tuple[Recurrence, ...] = ()

    def spans(self, after: float, before: float) -> tuple[Span, ...]:
        """Return the spans in ``after <= t < before`` in which a window is open, in order and apart from each other."""
        opened = [
            span
            for window in self.windows
            for day, span in window.covering(after, before)
            if not any(day in days for days in self.days)
        ]
        closed = [span for closure in self.closures for _, span in closure.covering(after, before)]
        left = _without(_joined(opened), _joined(closed))
        cut = (Span(max(span.start, after), min(span.end, before)) for span in left)
        return tuple(span for span in cut if span.start < span.end)

    def left_seconds(self, at: float) -> float:
        """Return how long the window that is open now stays so; 0 when none is."""
        for span in self.spans(at, at + self._step):
            if at in span:
                return span.end - at
        return 0.0

    def explain(self, at: float, need: Need) -> Explanation:
        """Say why a rollout may or may not start at an instant."""
        left = self.left_seconds(at)
        reasons = [*self._open(at), *self._closed(at)]
        if left > 0 and left < need.seconds:
            reasons.append(
                f"{_length(left)} are left, and {_length(need.seconds)} are needed: "
                f"{_length(need.estimate_seconds)} to roll out and {_length(need.reserve_seconds)} to go back"
            )
        if not reasons:
            reasons.append("no window is open" if self.windows else "no window is configured")
        return Explanation(at, left, need.seconds, tuple(reasons), self.upcoming(at, need))

    def upcoming(self, at: float, need: Need) -> Opening | None:
        """Return the opening that holds this instant, or else the next one; None when there is none for ten years.

        Only openings that leave enough time count.
        """
        return next(self.openings(at, need), None)

    def openings(self, at: float, need: Need) -> Iterator[Opening]:
        """Yield the openings that leave enough time, from this instant on and for ten years."""
        step, begin = self._step, at
        while begin < at + _HORIZON and self.windows:
            # Looked at further than is taken from it, so that no span is cut at the seam.
            spans = self.spans(begin, begin + 2 * step)
            end = begin + step
            for span in spans:
                if span.start < begin + step or span.start == begin:
                    if span.end - span.start >= max(need.seconds, 1e-6):
                        yield Opening(Span(span.start, span.end), self._names(span))
                    end = max(end, span.end)
            begin = end

    @property
    def _step(self) -> float:
        return max(_STEP, 2 * sum(window.length_seconds for window in self.windows))

    def _names(self, span: Span) -> tuple[str, ...]:
        found = (
            window.name
            for window in self.windows
            for day, one in window.covering(span.start, span.end)
            if not any(day in days for days in self.days)
        )
        return tuple(dict.fromkeys(found))

    def _open(self, at: float) -> Iterator[str]:
        for window in self.windows:
            for day, span in window.covering(at, at + 1e-3):
                denied = next((days for days in self.days if day in days), None)
                if at not in span:
                    continue
                if denied is None:
                    yield f"window {window.name} is open"
                else:
                    yield f"window {window.name} would be open, but its day {day} is excluded: {denied.reason}"

    def _closed(self, at: float) -> Iterator[str]:
        for closure in self.closures:
            if any(at in span for _, span in closure.covering(at, at + 1e-3)):
                yield f"it is excluded by {closure.name}"


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return the same time as spans that neither overlap nor touch, in order."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def _without(opened: Sequence[Span], closed: Sequence[Span]) -> list[Span]:
    """Return what is left of spans when others are cut out of them; both in order and apart."""
    left: list[Span] = []
    for span in opened:
        begin = span.start
        for cut in closed:
            if cut.end <= begin or cut.start >= span.end:
                continue
            if cut.start > begin:
                left.append(Span(begin, cut.start))
            begin = cut.end
        if begin < span.end:
            left.append(Span(begin, span.end))
    return left


def _length(seconds: float) -> str:
    """Write a duration for people, such as ``1 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if count]
    return " ".join(parts) or "0 s"
