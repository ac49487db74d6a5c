"""``deploytool rollout`` and ``deploytool drain``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from deploytool.cli.rolling.options import DURATION, REPORT, reaching, read, together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deploytool.planning.configuration import Planning
    from deploytool.rollout.plan import Ending, Plan

__all__ = ("drain", "rollout")

_MOMENTS = ("before", "after")

_GOING = together(
    click.option("--now", "override", metavar="WHY", help="Start outside of a window; the reason goes on record."),
    click.option("--wait", type=DURATION, default=0.0, metavar="TIME", help="Wait for a window, at most this long."),
    click.option("--drain-policy", type=click.Choice(("wait", "force", "abort")), default="wait", show_default=True,
                 help="What to do with a drain that does not finish in time."),
    click.option("--message", metavar="TEXT", help="What clients are told."),
    click.option("--share", type=click.FloatRange(0.0, 1.0), default=0.95, show_default=True,
                 help="Part of the clients that has to come back."),
    click.option("--drain-timeout", type=DURATION, default=60.0, metavar="TIME", help="For the drain. [1m]"),
    click.option("--ready-timeout", type=DURATION, default=300.0, metavar="TIME", help="For the new pod. [5m]"),
    click.option("--reconnect-timeout", type=DURATION, default=60.0, metavar="TIME", help="At least 1m. [1m]"),
    click.option("--settle", type=DURATION, default=10.0, metavar="TIME",
                 help="For which the new pod has to go on well, however soon clients are back. [10s]"),
    click.option("--hook", "hooks", multiple=True, metavar="WHEN=COMMAND",
                 help="before-GATE=COMMAND and the like; the state comes as JSON on stdin."),
    click.option("--ttl", type=DURATION, default=120.0, metavar="TIME",
                 help="How long gate, drain and announcement outlive us. [2m]"),
    click.option("--lease", type=DURATION, default=60.0, metavar="TIME",
                 help="How long the lock outlives us. [1m]"),
    click.option("--degraded", is_flag=True, help="The service has no admin contract: SIGTERM drains."),
    click.option("-o", "--output", type=click.Choice(("text", "json")), default="text", show_default=True,
                 help="Lines for people, or JSON for programs."),
)  # fmt: skip
_CHOOSING = together(
    click.option("--image", required=True, metavar="REF", help="The new image, best with @sha256:…"),
    click.option("--chart", metavar="PATH", default="", help="Instead of the chart in Helm's record."),
    click.option("--skip", multiple=True, metavar="ITEM", help="Leave this check of the preflight out."),
    click.option("--no-check", is_flag=True, help="Leave all checks of the preflight out."),
    click.option("--no-trial", is_flag=True, help="Do not try the new image in a pod of its own first."),
)

_TELLING = click.option(
    "--report", type=REPORT, default=None, metavar="FILE", help="Write what became of it, with its curve, as HTML."
)


@click.group()
def rollout() -> None:
    """Replace the one replica inside its maintenance window, and lose nothing."""


@rollout.command()
@reaching
@_CHOOSING
@_GOING
@_TELLING
@click.option("--drill", is_flag=True, help="Go back on purpose, once the new image has served: practise that.")
@click.option("--reason", default="", metavar="TEXT", help="Why; shown to whoever finds the lock.")
def run(*, config: str | None, image: str, reason: str, **given: Any) -> int:  # noqa: ANN401 - click hands on what its options hold
    """Announce, gate, drain, switch, prove, and see clients come back; go back when any of that fails.

    \b
      deploytool rollout run --image registry.example.org/slackwater:1.4@sha256:… --reason "1.4"
    """  # noqa: D301 - click's mark
    from deploytool.cli.rolling.wiring import live_options, open_bench, require_checks
    from deploytool.rollout.runner import Runner

    settings, planning = read(config)
    plan, hooks = _plan(planning, given), _hooks(given["hooks"])
    options = live_options(settings.where, given)
    with open_bench(
        options,
        output=given["output"],
        hooks=hooks,
        chart=given["chart"],
        lease_seconds=given["lease"],
        is_degraded=given["degraded"],
        is_tried=not given["no_trial"],
    ) as bench:
        bench.require_clock(plan)
        journal = bench.journal(image, reason, is_drill=given["drill"])
        runner = Runner(bench.ports, plan, journal)
        if not given["no_check"]:
            skip = given["skip"]
            runner.before_preflight(
                lambda: f"{require_checks(bench, options, ('infrastructure',), skip, settings)} checks do not fail"
            )
        ending = bench.carry_out("rollout run", runner, runner.run, report=given["report"] or "", zone=planning.zone)
    return _told(ending, config, given)


@rollout.command()
@reaching
@_CHOOSING
@_GOING
def plan(*, config: str | None, image: str, **given: Any) -> int:  # noqa: ANN401 - click hands on what its options hold
    """Show what a rollout would do, when, and why it may not start; changes nothing."""
    from deploytool.cli.rolling.planned import planned
    from deploytool.cli.rolling.wiring import live_options, open_bench, require_checks

    settings, planning = read(config)
    wanted = _plan(planning, given)
    options = live_options(settings.where, given)
    with open_bench(
        options,
        output=given["output"],
        chart=given["chart"],
        is_degraded=given["degraded"],
        is_tried=not given["no_trial"],
    ) as bench:
        looks: list[Callable[[], object]] = [] if given["degraded"] else [bench.ports.service.status]
        if not given["no_check"]:
            skip = given["skip"]
            looks.append(lambda: require_checks(bench, options, ("infrastructure",), skip, settings, is_told=False))
        text, code = planned(bench, bench.journal(image, ""), wanted, planning, output=given["output"], looks=looks)
    click.echo(text)
    return code


@rollout.command()
@reaching
@click.option("-o", "--output", type=click.Choice(("text", "json")), default="text", show_default=True,
              help="Lines for people, or JSON for programs.")  # fmt: skip
def status(*, config: str | None, output: str, **given: Any) -> None:  # noqa: ANN401 - click hands on what its options hold
    """Show how far a rollout is, or how the last one ended."""
    from deploytool.cli.rolling.planned import recorded
    from deploytool.cli.rolling.wiring import live_options, open_release
    from deploytool.cluster.lease import holder_of

    settings, _ = read(config)
    with open_release(live_options(settings.where, given)) as (cluster, release):
        holder = holder_of(cluster, release.name)
        click.echo(recorded(release.name, holder, cluster.clock.wall(), output=output))


@rollout.command()
@reaching
@_GOING
@_TELLING
def resume(*, config: str | None, **given: Any) -> int:  # noqa: ANN401 - click hands on what its options hold
    """Look at the cluster, and go on with the rollout that was left."""
    return _go_on(config, given, is_aborting=False)


@rollout.command()
@reaching
@_GOING
@_TELLING
def abort(*, config: str | None, **given: Any) -> int:  # noqa: ANN401 - click hands on what its options hold
    """Go back to where the rollout that was left began."""
    return _go_on(config, given, is_aborting=True)


@click.command()
@reaching
@_GOING
@_TELLING
@click.option("--hold", type=DURATION, default=0.0, metavar="TIME", help="Keep it drained for this long.")
@click.option("--reason", default="", metavar="TEXT", help="Why; shown to whoever finds the lock.")
def drain(*, config: str | None, hold: float, reason: str, **given: Any) -> int:  # noqa: ANN401 - click hands on what its options hold
    """Announce, gate and drain, keep it so for a time, and let clients in again; the image stays."""
    from deploytool.cli.rolling.wiring import live_options, open_bench
    from deploytool.rollout.runner import Runner

    settings, planning = read(config)
    if given["degraded"]:
        raise click.UsageError("without the admin contract there is nothing to drain by")
    options = live_options(settings.where, given)
    with open_bench(
        options, output=given["output"], hooks=_hooks(given["hooks"]), lease_seconds=given["lease"]
    ) as bench:
        wanted = _plan(planning, given)
        bench.require_clock(wanted)
        runner = Runner(bench.ports, wanted, bench.journal("", reason))
        report = given["report"] or ""
        ending = bench.carry_out("drain", runner, lambda: runner.drain(hold), report=report, zone=planning.zone)
    return _told(ending, config, given)


def _go_on(config: str | None, given: Mapping[str, Any], *, is_aborting: bool) -> int:
    from deploytool.cli.rolling.wiring import live_options, open_bench
    from deploytool.rollout.errors import RefusedError
    from deploytool.rollout.runner import Runner

    settings, planning = read(config)
    options = live_options(settings.where, given)
    hooks = _hooks(given["hooks"])
    with open_bench(
        options, output=given["output"], hooks=hooks, lease_seconds=given["lease"], is_degraded=given["degraded"]
    ) as bench:
        journal = bench.lock.read()
        plan = _plan(planning, {**given, "override": given["override"] or (journal.override if journal else "")})
        if journal is None or journal.has_ended:
            if journal is not None:
                # Whoever was killed at the very end did not come to put it on record.
                Runner(bench.ports, plan, journal).remember()
            raise RefusedError("there is no rollout that was left unfinished")
        runner = Runner(bench.ports, plan, journal)
        ending = bench.carry_out(
            "rollout abort" if is_aborting else "rollout resume",
            runner,
            lambda: runner.resume(is_aborting=is_aborting),
            report=given["report"] or "",
            zone=planning.zone,
        )
    return _told(ending, config, given)


def _plan(planning: Planning, given: Mapping[str, Any]) -> Plan:
    from deploytool.rollout.plan import LEAST_RECONNECT_SECONDS, Deadlines, DrainPolicy, Plan

    deadlines = Deadlines(
        drain=given["drain_timeout"],
        ready=given["ready_timeout"],
        reconnect=max(LEAST_RECONNECT_SECONDS, given["reconnect_timeout"]),
        settle=given["settle"],
        ttl=given["ttl"],
    )
    told = {"message": given["message"]} if given["message"] else {}
    return Plan(
        calendar=planning.calendar,
        need=planning.need,
        override=given["override"] or "",
        wait_seconds=given["wait"],
        share=given["share"],
        drain_policy=DrainPolicy(given["drain_policy"]),
        deadlines=deadlines,
        is_degraded=given["degraded"],
        **told,
    )


def _hooks(given: Sequence[str]) -> dict[str, list[str]]:
    from deploytool.rollout.phases import Phase

    found: dict[str, list[str]] = {}
    known = {f"{moment}-{phase.value}" for moment in _MOMENTS for phase in Phase}
    for one in given:
        when, equals, command = one.partition("=")
        if when not in known or not equals or not command:
            raise click.BadParameter(
                f"{one!r} is no hook; write before-GATE=COMMAND or after-COMMIT=COMMAND", param_hint="--hook"
            )
        found.setdefault(when, []).append(command)
    return found


def _told(ending: Ending, config: str | None, given: Mapping[str, Any]) -> int:
    if ending.commands:
        # Whoever copies a command means the same cluster.
        known = {"--config": config, **{f"--{name}": given[name] for name in ("kubeconfig", "context", "namespace")}}
        where = shlex.join(part for name, value in known.items() if value for part in (name, str(value)))
        click.echo("What a person can do now:", err=True)
        for command in ending.commands:
            click.echo(f"  {command} {where if command.startswith('deploytool ') else ''}".rstrip(), err=True)
    return ending.exit_code
