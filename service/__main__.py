"""``python -m service``: serve, print a token, try a version, or take care of the database."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import click
import structlog

from service import __version__
from service.clock import SystemClock
from service.errors import DatabaseError, DatabaseUnavailable, DatabaseUnfit, SettingsError
from service.ids import SystemIds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.db.database import Database
    from service.realtime.instance import Instance
    from service.settings import Settings

EXIT_FINDINGS = 1
EXIT_SETTINGS = 2
EXIT_UNFIT = 3
EXIT_UNAVAILABLE = 4

_RETRY_SECONDS = 0.5


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
            f"Could not start; the line before this one says why. If an address is taken: it wants {settings.http.host}"
            f" port {settings.http.port} and {settings.admin.host} port {settings.admin.port}; HOST, PORT, ADMIN_HOST"
            " and ADMIN_PORT choose others, and port 0 takes any free one.",
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
    from service.auth.tokens import issue  # noqa: PLC0415 - slow to import

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


@main.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 when there is something to migrate.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=0,
    show_default=True,
    help="Seconds to wait for a database that does not answer yet.",
)
def migrate(*, check: bool, wait: float) -> None:
    """Bring the database of DATABASE_URL to the schema that this version needs.

    Nothing is ever taken away, so that the version before can go on with it. Several at once wait for each
    other. Exits with 3 when a person has to change something first, and with 4 when the database cannot be reached.
    """
    from service.db import migrate as migrations  # noqa: PLC0415 - the drivers are slow to import
    from service.db import schema  # noqa: PLC0415 - slow to import

    async def work(database: Database) -> int:
        if not check:
            before, after = await migrations.migrate(database)
            schema.check(after)
            how = f"migrated from level {before.level}" if before.is_behind else "nothing to migrate"
            click.echo(f"{database.target}: {how}; the schema is of level {after.level}.")
            return 0
        found = await migrations.current(database)
        if found.is_behind:
            click.echo(f"{database.target}: the schema is of level {found.level}, and level {schema.LEVEL} is needed.")
            return EXIT_FINDINGS
        schema.check(found)
        click.echo(f"{database.target}: nothing to migrate; the schema is of level {found.level}.")
        return 0

    _on_database(work, wait_seconds=wait)


@main.command("new-epoch")
def new_epoch() -> None:
    """Say that the database has lost something, as after a restore of a backup.

    Every stream gets a new epoch, so that clients which were further than the backup are told that they
    missed something. Postgres notices a promotion and a recovery to a point in time by itself.
    """
    from service.db import identity  # noqa: PLC0415 - the drivers are slow to import

    async def work(database: Database) -> int:
        epoch = SystemIds().epoch()
        await identity.renew(database, epoch)
        click.echo(f"{database.target}: the epoch is {epoch} from now on.")
        return 0

    _on_database(work, wait_seconds=0)


@main.command()
def trial() -> None:
    """Start for a moment where nobody sees it, and print what this version would do to the database, as JSON.

    The deploy tool runs this in a pod with the new image before anything is changed. It listens on the loopback,
    with a database of its own, and only reads from the real one. Exits with 2 for settings that make no sense,
    with 3 when it does not start or must not run on the database, and with 4 when that cannot be reached.
    """
    import msgspec  # noqa: PLC0415 - with what comes next

    from service.trial import TrialError, attempt  # noqa: PLC0415 - the web stack is slow to import

    try:
        finding = attempt(os.environ)
    except SettingsError as error:
        _refuse(error)
    except (TrialError, DatabaseUnfit) as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_UNFIT)
    except DatabaseError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_UNAVAILABLE)
    click.echo(msgspec.json.encode(finding))


def _on_database(work: Callable[[Database], Awaitable[int]], *, wait_seconds: float) -> NoReturn:
    """Do something with the database of the environment, and exit with what it returns."""
    from service.db.database import Database  # noqa: PLC0415 - the drivers are slow to import
    from service.settings import load_database  # noqa: PLC0415 - slow to import

    try:
        database = Database.of(load_database(os.environ))
    except SettingsError as error:
        _refuse(error)
    if database is None:
        click.echo("DATABASE_URL is memory: - there is no database, and nothing to do.")
        sys.exit(0)
    try:
        sys.exit(asyncio.run(_retry(work, database, wait_seconds)))
    except DatabaseUnfit as error:
        click.echo(f"{database.target}: {error}", err=True)
        sys.exit(EXIT_UNFIT)
    except DatabaseError as error:
        click.echo(f"{database.target}: {error}", err=True)
        sys.exit(EXIT_UNAVAILABLE)


async def _retry(work: Callable[[Database], Awaitable[int]], database: Database, wait_seconds: float) -> int:
    """Do something until the database answers or the time is over."""
    clock = SystemClock()
    deadline = clock.now() + wait_seconds
    try:
        while True:
            try:
                return await work(database)
            except DatabaseUnavailable:
                if clock.now() >= deadline:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)
    finally:
        await database.close()


def _load(environ: dict[str, str]) -> Settings:
    from service.settings import load  # noqa: PLC0415 - slow to import

    try:
        return load(environ, secret=SystemIds().secret)
    except SettingsError as error:
        _refuse(error)


def _refuse(error: SettingsError) -> NoReturn:
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
