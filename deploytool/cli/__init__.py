"""The command line: parse, wire, print.

Imports click alone at the top; a command is imported when it is called or its help is asked for, and what it works with
when it runs, so that ``--help`` stays quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import click
from typing_extensions import override

from deploytool.errors import DeploytoolError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("cli", "main")

_INTERRUPTED = 130
_TRACEBACK = "DEPLOYTOOL_TRACEBACK"

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "attest": ("deploytool.cli.attest:attest", "Vouch for an item that no machine can see; list and revoke that."),
    "check": ("deploytool.cli.check:check", "Run the pre-production checklist over files, a cluster and a service."),
    "completion": ("deploytool.cli.completion:completion", "Print the completion script of a shell."),
    "drain": ("deploytool.cli.rollout:drain", "Empty the one instance for a time, and let clients in again."),
    "guard": ("deploytool.cli.guard:guard", "Keep the replica count of labelled workloads at one."),
    "lock": ("deploytool.cli.lock:lock", "See who holds the lock of rollouts, and release it by force."),
    "rollout": ("deploytool.cli.rollout:rollout", "Replace the one replica inside its maintenance window."),
    "window": ("deploytool.cli.window:window", "Say when a rollout may start, and why not."),
}
"""Where each command is, and its line in the help, which must not import it."""


class _LazyGroup(click.Group):
    """A group that imports a command when it is needed."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx) if name in _COMMANDS])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
      6  the lock is held by somebody else
      7  outside the window
      8  rolled back
      9  needs a person
      130  interrupted
    """  # noqa: D301  # the escape is click's mark for lines that are not to be wrapped


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        sys.exit(cli(prog_name="deploytool", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except DeploytoolError as error:
        click.echo(f"deploytool: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read us has gone; the interpreter must not complain while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get(_TRACEBACK):
            raise
        reason = f"{type(error).__name__}: {error}"
        click.echo(f"deploytool: internal error: {reason} (set {_TRACEBACK}=1 to see where)", err=True)
        sys.exit(1)
