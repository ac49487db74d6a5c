"""``deploytool check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from click.shell_completion import CompletionItem

    from deploytool.cli.checking import Plan

__all__ = ("check",)

_FORMATS = ("table", "short", "json", "junit", "sarif")


def _complete_items(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from deploytool.checks.catalog import ITEMS

    words = (
        sorted({item.category.value for item in ITEMS}) + [item.name for item in ITEMS] + [item.id for item in ITEMS]
    )
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class _Seconds(click.ParamType[float]):
    """A duration such as ``30s``, ``5m`` or ``90``, in seconds."""

    name = "duration"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # click's
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        factor = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(value[-1:], 0.0)
        number = value[:-1] if factor else value
        if not number.isdecimal():
            self.fail(f"{value!r} is no duration; write 30s, 5m or 1h", param, ctx)
        return int(number) * (factor or 1.0)


def _options(*options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401  # click's decorators
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_LOOKING = _options(
    click.option("--offline", is_flag=True, help="Judge files alone (PATH...), without a cluster."),
    click.option("--probe", is_flag=True, help="Add bounded real traffic against the public address."),
    click.option("-w", "--workload", "names", multiple=True, metavar="NAME", help="Judge only this workload."),
    click.option("-f", "--values", "values", multiple=True, metavar="FILE", help="Offline: values for charts."),
    click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Offline: one value for charts."),
)
_CHOOSING = _options(
    click.option("--select", multiple=True, metavar="ITEM", shell_complete=_complete_items,
                 help="Judge only this item or category (id, name or number; repeatable)."),
    click.option("--skip", multiple=True, metavar="ITEM", shell_complete=_complete_items,
                 help="Leave this item or category out (repeatable)."),
    click.option("--config", metavar="FILE", help="Settings and waivers; ./deploytool.yaml where there is one."),
    click.option("--strict", is_flag=True, help="End with 4 when an item warned."),
    click.option("--wait", type=_Seconds(), default=0.0, metavar="TIME",
                 help="Look again until the exit code is 0, for at most this long (5m)."),
)  # fmt: skip
_PRINTING = _options(
    click.option(
        "-o", "--output", type=click.Choice(_FORMATS), default="table", show_default=True, help="How it is told."
    ),
    click.option("--output-file", metavar="FILE", help="Write the report there, and the table to stdout."),
)
_REACHING = _options(
    click.option("--kubeconfig", metavar="FILE", help="Instead of $KUBECONFIG or ~/.kube/config."),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option("-n", "--namespace", metavar="NAME", help="Namespace of the release."),
    click.option("--url", metavar="URL", help="Public address; else what Ingress or HTTPRoute say."),
    click.option("--connect-to", metavar="HOST:PORT", help="Connect here, and call it by the public address's name."),
    click.option("--ca-file", metavar="FILE", help="More certificate authorities to believe."),
    click.option("--admin-url", metavar="URL", help="Admin API; else through the API server."),
    click.option("--admin-key-file", metavar="FILE", help="Admin key; else $SLACKWATER_ADMIN_KEY, or the Secret."),
    click.option("--prometheus-url", metavar="URL", help="A Prometheus to ask for its rules."),
)
_LOADING = _options(
    click.option("--load", is_flag=True, help="With --probe: run a load test, and store its report."),
    click.option("--load-seconds", type=float, default=10.0, show_default=True, help="How long it publishes."),
    click.option("--load-report", metavar="FILE", help="Judge this report instead of the stored one."),
    click.option("--report-dir", metavar="DIR", default=".", help="Where a load test writes its report."),
)


@click.command()
@_LOOKING
@_CHOOSING
@_PRINTING
@_REACHING
@_LOADING
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def check(  # noqa: PLR0913  # options are many
    *,
    offline: bool,
    probe: bool,
    names: tuple[str, ...],
    values: tuple[str, ...],
    assignments: tuple[str, ...],
    select: tuple[str, ...],
    skip: tuple[str, ...],
    config: str | None,
    strict: bool,
    wait: float,
    output: str,
    output_file: str | None,
    paths: tuple[str, ...],
    **live: Any,  # noqa: ANN401  # as cli/live.py names them
) -> int:
    """Run the pre-production checklist: sixteen items, each with what was seen.

    With --offline, PATH is a chart, a manifest, a values file, a compose file, an nginx configuration (.conf), a
    directory that is read recursively, or - for standard input. Without it, a release in a cluster is looked at.

    \b
      deploytool check --offline helm/slackwater --values production.yaml
      helm template ... | deploytool check --offline -
      deploytool check --namespace realtime --workload slackwater
      deploytool check --namespace realtime --workload slackwater --probe
    """  # noqa: D301  # as in the group
    from deploytool.cli import checking

    _refuse_contradictions(offline=offline, probe=probe, paths=paths, names=names, wait=wait, load=bool(live["load"]))
    plan = checking.plan(config, select, skip)
    if offline:
        look: Callable[[], Iterator[Any]] = lambda: checking.offline(paths, names, values, assignments)  # noqa: E731 - the other branch assigns one too
    else:
        look = _live(plan, probe=probe, name=names[0] if names else "", live=live)
    return checking.run(plan, look, checking.Printing(output, output_file, is_strict=strict, wait_seconds=wait))


def _live(plan: Plan, *, probe: bool, name: str, live: dict[str, Any]) -> Callable[[], Iterator[Any]]:
    from deploytool.cli import checking

    return lambda: checking.live(plan, probe=probe, given={**live, "workload": name})


def _refuse_contradictions(
    *, offline: bool, probe: bool, paths: Sequence[str], names: Sequence[str], wait: float, load: bool
) -> None:
    problems = {
        "--offline and --probe contradict each other.": offline and probe,
        "--offline needs at least one PATH.": offline and not paths,
        "PATH is read with --offline alone; without it a cluster is looked at.": bool(paths) and not offline,
        "Without --offline one --workload can be named.": not offline and len(names) > 1,
        "--wait looks at a cluster again; files do not change by themselves.": offline and bool(wait),
        "--load takes --probe.": load and not probe,
    }
    for problem, is_there in problems.items():
        if is_there:
            raise click.UsageError(problem)
