"""``deploytool completion``: what a shell needs in order to complete our options and items."""

from __future__ import annotations

import click

__all__ = ("completion",)

_VARIABLE = "_DEPLOYTOOL_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
      bash:  source <(deploytool completion bash)
      zsh:   source <(deploytool completion zsh)
      fish:  deploytool completion fish | source
    """  # noqa: D301  # as in the group
    from click.shell_completion import get_completion_class

    from deploytool.cli import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"no completion for {shell}")
    # Not source(): that asks the installed bash for its version first, which is nobody's business here.
    made = found(cli, {}, "deploytool", _VARIABLE)
    click.echo(made.source_template % made.source_vars())
