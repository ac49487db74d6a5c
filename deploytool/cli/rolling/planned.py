"""What a rollout is going to do, and what one has done, in words."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

from deploytool.errors import DeploytoolError
from deploytool.rollout.errors import OutsideWindowError, RefusedError
from deploytool.rollout.journal import Journal, JournalError
from deploytool.rollout.phases import FORWARD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from zoneinfo import ZoneInfo

    from deploytool.cli.rolling.wiring import Bench
    from deploytool.cluster.lease import Holder
    from deploytool.planning.configuration import Planning
    from deploytool.planning.window import Opening
    from deploytool.rollout.plan import Plan

__all__ = ("planned", "recorded", "spell", "spell_opening")

_DEADLINES = ("gate", "drain", "switch", "ready", "smoke", "reconnect")


def spell(at: float, zone: ZoneInfo | None) -> str:
    """Return an instant in local time and in UTC."""
    utc = dt.datetime.fromtimestamp(at, dt.UTC)
    text = utc.strftime("%Y-%m-%d %H:%M UTC")
    return text if zone is None else f"{utc.astimezone(zone).strftime('%a %Y-%m-%d %H:%M %Z')} ({text})"


def spell_opening(opening: Opening | None, zone: ZoneInfo | None) -> str:
    """Return when a window is open."""
    if opening is None:
        return "none within ten years"
    return f"{spell(opening.span.start, zone)} until {spell(opening.span.end, zone)}: {', '.join(opening.names)}"


def planned(
    bench: Bench,
    journal: Journal,
    plan: Plan,
    planning: Planning,
    *,
    output: str,
    looks: Sequence[Callable[[], object]] = (),
) -> tuple[str, int]:
    """Return the plan, and the exit code that a rollout would end with at once; 0 when it may start.

    Args:
        looks: What else is looked at; each raises what is wrong.
    """
    at = bench.ports.clock.wall()
    explanation = plan.explain(at)
    changes, problems, code = _tried(bench, journal, looks)
    try:
        bench.lock.require_free()
    except DeploytoolError as error:
        problems.insert(0, str(error))
        code = error.exit_code
    if bench.clock_problem and not plan.override:
        problems.append(bench.clock_problem)
        code = code or RefusedError.exit_code
    if not explanation.may_start:
        problems.append("; ".join(explanation.reasons))
        code = code or OutsideWindowError.exit_code
    seconds = {name: getattr(plan.deadlines, name) for name in _DEADLINES}
    if output == "json":
        upcoming = explanation.upcoming
        return json.dumps(
            {
                "workload": journal.workload,
                "from": journal.old,
                "to": journal.new,
                "phases": [one.value for one in FORWARD],
                "deadlines": seconds,
                "changes": changes,
                "may_start": not problems,
                "problems": problems,
                "window": None if upcoming is None else {"start": upcoming.span.start, "end": upcoming.span.end},
            },
            indent=2,
        ), code
    lines = [
        f"{journal.workload}: {journal.old} -> {journal.new}",
        "phases:    " + " ".join(one.value for one in FORWARD),
        "deadlines: " + ", ".join(f"{name} {value:g} s" for name, value in seconds.items()),
        f"window:    {spell_opening(explanation.upcoming, planning.zone)}",
        *(f"change:    {one}" for one in changes),
        *(f"problem:   {one}" for one in problems),
        "it may not start" if problems else "it may start now",
    ]
    return "\n".join(lines), code


def _tried(bench: Bench, journal: Journal, looks: Sequence[Callable[[], object]]) -> tuple[list[str], list[str], int]:
    if journal.new == journal.old:
        return [], [f"{journal.workload} runs {journal.new} already"], RefusedError.exit_code
    changes: list[str] = []
    problems: list[str] = []
    code = 0

    def preflight() -> None:
        changes.extend(bench.ports.workload.preflight(journal.new).changes)

    for look in (preflight, *looks):
        try:
            look()
        except DeploytoolError as error:
            problems.append(str(error))
            code = code or error.exit_code
    return changes, problems, code


def recorded(workload: str, holder: Holder | None, at: float, *, output: str) -> str:
    """Return what the Lease of a workload says."""
    journal, problem = None, ""
    if holder is not None and holder.journal:
        try:
            journal = Journal.from_json(holder.journal)
        except JournalError as error:
            problem = str(error)
    held = holder is not None and bool(holder.name)
    age = at - holder.renewed_at if held and holder is not None else 0.0
    if output == "json":
        return json.dumps(
            {
                "workload": workload,
                "holder": holder.name if holder is not None and held else None,
                "reason": holder.reason if holder is not None and held else None,
                "renewed_seconds_ago": age if held else None,
                "expired": held and holder is not None and age > holder.seconds,
                "released": holder.released if holder is not None and holder.released else None,
                "journal": None if journal is None else json.loads(journal.to_json()),
                "problem": problem or None,
            },
            indent=2,
        )
    lines = [_lock_line(workload, holder, age)]
    if holder is not None and holder.released:
        lines.append(f"released by force: {holder.released}")
    if problem:
        lines.append(problem)
    if journal is not None:
        lines += _journal_lines(journal)
    return "\n".join(lines)


def _lock_line(workload: str, holder: Holder | None, age: float) -> str:
    if holder is None or not holder.name:
        return f"{workload}: nobody rolls out"
    state = f"renewed {age:.0f} s ago" if age <= holder.seconds else f"not renewed for {age:.0f} s: resume or abort it"
    reason = f" ({holder.reason})" if holder.reason else ""
    return f"{workload}: locked by {holder.name}{reason}, {state}"


def _journal_lines(journal: Journal) -> list[str]:
    override = f", outside of a window: {journal.override}" if journal.override else ""
    what = f"{journal.old} -> {journal.new or 'a drain alone'}{', a drill' if journal.drill else ''}"
    lines = [f"rollout {journal.rollout} by {journal.actor}: {what}{override}"]
    for step, after in zip(journal.steps, (*journal.steps[1:], None), strict=True):
        took = "" if step.done_at is None else f"{step.done_at - step.begun_at:6.1f} s"
        # What another step follows is not under way any more.
        state = "done " if step.done_at is not None else "begun" if after is None else "left "
        lines.append(f"  {spell(step.begun_at, None)}  {state} {step.phase.value:14} {took:>9}  {step.note}".rstrip())
    if journal.failure:
        lines.append(f"failure: {journal.failure}")
    return lines
