"""``python -m service``: serve, or print a token."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import click
import structlog

from service import __version__
from service.errors import SettingsError
from service.ids import SystemIds

if TYPE_CHECKING:
    from service.realtime.instance import Instance
    from service.settings import Settings

EXIT_SETTINGS = 2


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slackwater")
@click.option("--workers", type=int, default=1, help="Of `serve`: anything but 1 is refused.")
@click.pass_context
def main(context: click.Context, workers: int) -> None:
    """Slackwater: real-time messaging for an application that runs as one replica.

    Without a command it serves. Settings come from the environment; docs/reference/settings.md lists them.
    """
    if context.invoked_subcommand is None:
        context.invoke(serve, workers=workers)


@main.command()
@click.option("--workers", type=int, default=1, help="Anything but 1 is refused: the state lives in one process.")
def serve(workers: int = 1) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain and stop."""
    environ = dict(os.environ)
    if workers != 1:
        environ["WEB_CONCURRENCY"] = str(workers)
    settings = _load(environ)

    from service import server  # noqa: PLC0415 - the web stack is slow to import
    from service.observability.logs import configure  # noqa: PLC0415 - after the settings, which may refuse to go on

    configure(settings.logs)
    for warning in settings.warnings:
        structlog.get_logger("slackwater").warning("settings.doubtful", problem=warning)
    if settings.is_development:
        _introduce(settings)
    code = server.serve(settings, ready=partial(_announce, settings))
    if code == server.EXIT_START_FAILED:
        click.echo(
            f"Could not start; the line before this one says why. It listens on {settings.http.host} port"
            f" {settings.http.port} and on {settings.admin.host} port {settings.admin.port}: HOST, PORT, ADMIN_HOST and"
            " ADMIN_PORT choose others, and port 0 takes any free one.",
            err=True,
        )
    sys.exit(code)


@main.command()
@click.option("--user", required=True, help='Who it is for: the "sub" claim.')
@click.option("--channel", help="Make it a subscription token for this channel.")
@click.option(
    "--expires", type=click.IntRange(min=1), default=3600, show_default=True, help="Seconds until it runs out."
)
@click.option("--algorithm", type=click.Choice(["HS256", "HS384", "HS512"]), default="HS256", show_default=True)
def token(user: str, channel: str | None, expires: int, algorithm: str) -> None:
    """Print a token signed with TOKEN_HMAC_SECRET."""
    from service.auth.tokens import issue  # noqa: PLC0415

    secret = os.environ.get("TOKEN_HMAC_SECRET", "")
    if not secret:
        raise click.UsageError(
            "TOKEN_HMAC_SECRET is not set: set it to the secret that the service runs with."
            " In development the service prints the secret that it made up."
        )
    now = int(time.time())  # noqa: TID251 - a command line is the edge where time comes from
    claims: dict[str, object] = {"sub": user, "iat": now, "exp": now + expires}
    if channel:
        claims["channel"] = channel
    try:
        click.echo(issue(secret.encode(), claims, algorithm=algorithm))
    except SettingsError as error:
        _refuse(error)


@main.command()
def apikey() -> None:
    """Print a new random key, for API_KEY, ADMIN_KEY or TOKEN_HMAC_SECRET."""
    click.echo(SystemIds().secret())


def _load(environ: dict[str, str]) -> Settings:
    from service.settings import load  # noqa: PLC0415

    try:
        return load(environ, secret=SystemIds().secret)
    except SettingsError as error:
        _refuse(error)
        raise


def _refuse(error: SettingsError) -> None:
    """Print every problem and end."""
    click.echo(str(error), err=True)
    sys.exit(EXIT_SETTINGS)


def _introduce(settings: Settings) -> None:
    """Show the secrets that were made up, which nobody else knows and which end with this process."""
    made_up = {
        "API_KEY": settings.api.key,
        "ADMIN_KEY": settings.admin.key,
        "TOKEN_HMAC_SECRET": settings.tokens.hmac_secret,
    }
    shown = [(name, value) for name, value in made_up.items() if name in settings.generated and value is not None]
    if shown:
        click.echo("Development mode. These were made up for this run:")
        for name, value in shown:
            click.echo(f"  {name}={value.reveal()}")


def _announce(settings: Settings, instance: Instance, address: str, admin_address: str) -> None:
    """Say where the service is, once it answers there."""
    log = structlog.get_logger("slackwater")
    log.info("service.ready", url=address, admin_url=admin_address, instance=instance.id, pid=os.getpid())
    if settings.is_development:
        what = "Open" if settings.http.demo_page else "The service is at"
        click.echo(f"\n  {what} {address}\n")


if __name__ == "__main__":
    main()
