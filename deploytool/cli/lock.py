"""``deploytool lock``."""

from __future__ import annotations

from typing import Any

import click

from deploytool.cli.rolling.options import reaching, read

__all__ = ("lock",)


@click.group()
def lock() -> None:
    """See who holds the lock of rollouts, and take it away from somebody who cannot give it back."""


@lock.command()
@reaching
@click.option(
    "-o",
    "--output",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Lines for people, or JSON for programs.",
)
def status(*, config: str | None, output: str, **given: Any) -> None:  # noqa: ANN401 - click hands on what its options hold
    """Show who holds it, and what the rollout did so far."""
    from deploytool.cli.rolling.planned import recorded
    from deploytool.cli.rolling.wiring import live_options, open_release
    from deploytool.cluster.lease import holder_of

    settings, _ = read(config)
    with open_release(live_options(settings.where, given)) as (cluster, release):
        holder = holder_of(cluster, release.name)
        click.echo(recorded(release.name, holder, cluster.clock.wall(), output=output))


@lock.command()
@reaching
@click.option("--reason", required=True, metavar="TEXT", help="Why; goes on record.")
def release(*, config: str | None, reason: str, **given: Any) -> None:  # noqa: ANN401 - click hands on what its options hold
    """Take the lock away by force. Whoever holds it stops at the next step; what was done stays done.

    Where a rollout was left unfinished, `deploytool rollout abort` is the better way: it also goes back.
    """
    from deploytool.cli.rolling.wiring import actor, live_options, open_release
    from deploytool.cluster.errors import MissingError
    from deploytool.cluster.lease import release_by_force

    settings, _ = read(config)
    with open_release(live_options(settings.where, given)) as (cluster, found):
        try:
            release_by_force(cluster, found.name, who=actor(), reason=reason)
        except MissingError:
            click.echo(f"{found.name} was never rolled out: there is no lock", err=True)
            return
        click.echo(f"the lock of {found.name} is released")
