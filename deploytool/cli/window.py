"""``deploytool window``."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from typing import TYPE_CHECKING

import click

from deploytool.cli.rolling.options import config_option, read

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

__all__ = ("window",)

_OUTSIDE = 7

_at_option = click.option("--at", metavar="TIME", help="Instead of now, such as 2026-12-01T22:30 (by the file's zone).")


@click.group()
def window() -> None:
    """Say when a rollout may start: the section windows of deploytool.yaml."""


@window.command()
@config_option
@_at_option
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 100), help="How many to list.")
def show(*, config: str | None, at: str | None, count: int) -> None:
    """List the next openings that are long enough."""
    from deploytool.cli.rolling.planned import spell_opening

    _, planning = read(config)
    found = [*islice(planning.calendar.openings(_instant(at, planning.zone), planning.need), count)]
    click.echo("\n".join(spell_opening(one, planning.zone) for one in found) or spell_opening(None, planning.zone))


@window.command(name="next")
@config_option
@_at_option
def next_(*, config: str | None, at: str | None) -> int:
    """Print when a rollout may start next; ends with 7 when it never may."""
    from deploytool.cli.rolling.planned import spell

    _, planning = read(config)
    found = planning.calendar.upcoming(_instant(at, planning.zone), planning.need)
    if found is None:
        click.echo("there is no window within ten years", err=True)
        return _OUTSIDE
    click.echo(spell(found.span.start, planning.zone))
    return 0


@window.command()
@config_option
@_at_option
def explain(*, config: str | None, at: str | None) -> int:
    """Say why a rollout may start, or why not; ends with 7 when it may not."""
    from deploytool.cli.rolling.planned import spell, spell_opening

    _, planning = read(config)
    found = planning.calendar.explain(_instant(at, planning.zone), planning.need)
    click.echo(f"{spell(found.at, planning.zone)}: a rollout may {'' if found.may_start else 'not '}start")
    for reason in found.reasons:
        click.echo(f"  {reason}")
    if not found.may_start:
        click.echo(f"  next: {spell_opening(found.upcoming, planning.zone)}")
    return 0 if found.may_start else _OUTSIDE


def _instant(at: str | None, zone: ZoneInfo | None) -> float:
    from deploytool.clock import SystemClock

    if at is None:
        return SystemClock().wall()
    try:
        parsed = dt.datetime.fromisoformat(at)
    except ValueError as error:
        raise click.BadParameter(f"{at!r} is no time; write 2026-12-01T22:30", param_hint="--at") from error
    return (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=zone or dt.UTC)).timestamp()
