"""The command line: parse, wire, print.

Imports click alone at the top; a command imports what it works with when it is called, so that ``--help`` stays quick.
"""

from __future__ import annotations

import sys

import click

from deploytool.cli.check import check
from deploytool.errors import DeploytoolError

__all__ = ("cli", "main")

_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="slackwater", prog_name="deploytool")
def cli() -> None:
    """Keep one replica safe: check a deployment before it goes to production.

    \b
    Exit codes:
      0  fine
      1  internal error
      2  usage: an option or a file that cannot be read
      3  a check failed
      4  a check warned, under --strict
      5  inconclusive: something could not be verified
    """  # noqa: D301  # the escape is click's mark for lines that are not to be wrapped


cli.add_command(check)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        sys.exit(cli(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except DeploytoolError as error:
        click.echo(f"deploytool: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(_INTERRUPTED)
