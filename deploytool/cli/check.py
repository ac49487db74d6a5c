"""``deploytool check``."""

from __future__ import annotations

import click

__all__ = ("check",)


@click.command(no_args_is_help=True)
@click.option("--offline", is_flag=True, required=True, help="Judge files alone, without a cluster.")
@click.option("-w", "--workload", "names", multiple=True, metavar="NAME", help="Judge only this workload (repeatable).")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--strict", is_flag=True, help="End with 4 when a check warned.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def check(*, offline: bool, names: tuple[str, ...], output: str, strict: bool, paths: tuple[str, ...]) -> int:
    """Run the pre-production checks over manifests and compose files.

    PATH is a file, a directory that is read recursively, or - for standard input. Give rendered manifests:

    \b
      helm template . | deploytool check --offline -
      kustomize build . | deploytool check --offline -
    """  # noqa: D301  # as in the group
    del offline  # required, since there is no other depth yet
    from deploytool import manifests
    from deploytool.checks import catalog
    from deploytool.cli import render

    report = catalog.evaluate(manifests.read(paths).only(frozenset(names)))
    click.echo(render.RENDERERS[output](report))
    return render.exit_code(report, strict=strict)
