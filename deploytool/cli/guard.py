"""``deploytool guard``."""

from __future__ import annotations

from typing import Any

import click

__all__ = ("guard",)


def _reaching(function: Any) -> Any:  # noqa: ANN401 - click's decorators
    for option in (
        click.option("-w", "--workload", "names", multiple=True, metavar="NAME",
                     help="Guard only this workload (repeatable); else all that carry the label."),
        click.option("-n", "--namespace", metavar="NAME", help="Namespace to guard."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
        click.option("--kubeconfig", metavar="FILE", help="Instead of $KUBECONFIG or ~/.kube/config."),
    ):  # fmt: skip
        function = option(function)
    return function


@click.group()
def guard() -> None:
    """Keep the replica count of labelled workloads at one.

    Guarded are Deployments and StatefulSets with the label slackwater.dev/guard=true. A count above one is set back to
    one, and an Event says who had raised it. Zero stays. Whoever keeps raising it is named, and not fought for ever.
    """


@guard.command()
@_reaching
@click.option("--host", default="127.0.0.1", show_default=True, help="Where /metrics and /healthz are served.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="any that is free",
              help="Port of that.")  # fmt: skip
@click.option("--look-every", type=click.FloatRange(min=1.0), default=60.0, show_default=True, metavar="SECONDS",
              help="Time between two looks at everything, besides the watches.")  # fmt: skip
def run(*, host: str, port: int, look_every: float, **reach: Any) -> int:  # noqa: ANN401 - of click
    """Guard until it is told to stop.

    \b
      deploytool guard run --namespace realtime
    """  # noqa: D301  # click's mark for lines that are not to be wrapped
    from deploytool.cli import guarding

    return guarding.run(guarding.Reach(**reach), host=host, port=port, look_seconds=look_every)


@guard.command()
@_reaching
@click.option("--dry-run", is_flag=True, help="Ask the API server, change nothing, write no Event.")
def once(*, dry_run: bool, **reach: Any) -> int:  # noqa: ANN401 - of click
    """Look once, set back what is above one, and end.

    Ends with 9 when an autoscaler may ask for more than one again, with 5 when something could not be done.

    \b
      deploytool guard once --namespace realtime --dry-run
    """  # noqa: D301  # as above
    from deploytool.cli import guarding

    return guarding.once(guarding.Reach(**reach), is_dry_run=dry_run)
