"""``deploytool attest``: vouch for what no machine can see, in one's own name."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from typing_extensions import override

from deploytool.errors import DeploytoolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from deploytool.clock import Clock
    from deploytool.cluster.client import Cluster, Identity
    from deploytool.model.finding import Item
    from deploytool.model.observations import Attestation, Drill

__all__ = ("attest",)

_CATEGORY: Final = "documentation"
_TRAINED: Final = "team-trained"
_ROLLBACK: Final = "rollback-procedure"
_DURATION: Final = re.compile(r"(\d{1,5})([dwhm])")
_UNITS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


class _Vouching(click.Group):
    """Takes what is no subcommand for an item."""

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "item", self.commands["item"], args
        return super().resolve_command(ctx, args)

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in super().list_commands(ctx) if name != "item"]


class _AttestationError(DeploytoolError):
    """What was to be vouched for cannot be."""

    exit_code = 2


class _UnfetchedError(_AttestationError):
    """The document is not there."""

    exit_code = 5


def _where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which release is meant."""
    for option in reversed(
        (
            click.option("--kubeconfig", default="", metavar="FILE", help="Default: KUBECONFIG, then ~/.kube/config."),
            click.option("--context", default="", metavar="NAME", help="Context of the kubeconfig."),
            click.option("-n", "--namespace", default="", metavar="NAME", help="Default: that of the context."),
            click.option("-w", "--workload", default="", metavar="NAME", help="Default: the only one of ours."),
        )
    ):
        command = option(command)
    return command


@click.group(cls=_Vouching, invoke_without_command=False, subcommand_metavar="ITEM|list|revoke [OPTIONS]")
def attest() -> None:
    """Vouch for an item of the checklist that no machine can see.

    An attestation is stored in the cluster, one immutable ConfigMap each. Who vouches is who the API server says you
    are. The sha256 of the document is kept, so that a changed document voids the attestation.

    ITEM is team-trained, deployment-procedure, rollback-procedure or runbooks; `deploytool attest ITEM --help` shows
    what each takes.

    \b
      deploytool attest team-trained --expires 365d
      deploytool attest deployment-procedure --url https://docs.example.org/deploy.html --expires 180d
      deploytool attest rollback-procedure --url https://docs.example.org/rollback.html --expires 180d \\
          --drill-at 2027-01-15 --drill-reference https://tickets.example.org/42
    """  # noqa: D301  # the escape is click's mark for lines that are not to be wrapped


@attest.command("item", hidden=True)
@click.argument("item")
@click.option("--url", default="", metavar="URL", help="The document that you have read.")
@click.option("--expires", required=True, metavar="WHEN", help="For how long (180d, 26w), or until when (2027-06-01).")
@click.option("--drill-at", default="", metavar="TIME", help="When a rollback was practised (2027-01-15T10:00Z).")
@click.option("--drill-reference", default="", metavar="TEXT", help="Where the drill is written down.")
@click.option("--ca-file", default="", metavar="FILE", help="More certificate authorities to believe for the document.")
@click.option("--dry-run", is_flag=True, help="Ask the API server, and store nothing.")
@_where
def _item(  # noqa: PLR0913 - options
    *,
    item: str,
    url: str,
    expires: str,
    drill_at: str,
    drill_reference: str,
    ca_file: str,
    dry_run: bool,
    **where: str,
) -> None:
    """Vouch for ITEM."""
    from contextlib import ExitStack

    from deploytool.clock import SystemClock
    from deploytool.cluster import attestations

    clock = SystemClock()
    chosen = _attestable(item)
    expires_at = _until(expires, clock)
    drill = _drill(chosen, drill_at, drill_reference, clock)
    digest = _digest(chosen, url, ca_file, clock)
    statement = attestations.Statement(chosen.id, expires_at, url, digest, drill)
    with ExitStack() as stack:
        cluster, workload = _workload(stack, where, clock)
        identity = cluster.identity()
        for warning in _doubts(cluster, workload, identity):
            click.echo(f"deploytool: warning: {warning}", err=True)
        name = attestations.store(cluster, workload, identity, statement, dry_run=dry_run)
    done = "would attest" if dry_run else "attests"
    until = datetime.fromtimestamp(expires_at, tz=UTC).strftime("%Y-%m-%d")
    click.echo(f"{identity.username} {done} to {chosen.id} until {until}: ConfigMap {name}")
    if url:
        click.echo(f"{url} has sha256 {digest}; when it changes, attest again")


@attest.command("list")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How it is told."
)
@_where
def _list(*, output: str, **where: str) -> None:
    """Show what people have vouched for, the newest first."""
    from contextlib import ExitStack

    from deploytool.clock import SystemClock
    from deploytool.cluster import attestations

    clock = SystemClock()
    with ExitStack() as stack:
        cluster, workload = _workload(stack, where, clock)
        stored = attestations.read(cluster, workload)
    for name, why in stored.unreadable.items():
        click.echo(f"deploytool: warning: ConfigMap {name} is labelled as an attestation and is none: {why}", err=True)
    shown = _as_json if output == "json" else _as_table
    click.echo(shown(stored.attestations, clock.wall()))


@attest.command("revoke")
@click.argument("name")
@_where
def _revoke(*, name: str, **where: str) -> None:
    """Take an attestation back: delete ConfigMap NAME, as `attest list` shows it."""
    from contextlib import ExitStack

    from deploytool.clock import SystemClock
    from deploytool.cluster import attestations

    with ExitStack() as stack:
        cluster, workload = _workload(stack, where, SystemClock())
        attestations.revoke(cluster, workload, name)
    click.echo(f"revoked {name}")


def _workload(stack: ExitStack, where: dict[str, str], clock: Clock) -> tuple[Cluster, str]:
    """Return a connection, and the name of the workload that is meant."""
    from deploytool.cluster.client import Cluster
    from deploytool.cluster.errors import ForbiddenError
    from deploytool.cluster.snapshot import find

    cluster = stack.enter_context(
        Cluster.connect(
            kubeconfig_path=where["kubeconfig"], context=where["context"], namespace=where["namespace"], clock=clock
        )
    )
    try:
        return cluster, find(cluster, where["workload"]).name
    except ForbiddenError as error:
        # Whoever may attest need not see workloads; the name is enough.
        if not where["workload"]:
            raise
        click.echo(f"deploytool: warning: whether {where['workload']} is there is not known: {error.problem}", err=True)
        return cluster, where["workload"]


def _attestable(text: str) -> Item:
    from deploytool.checks import catalog

    known = [one for one in catalog.ITEMS if one.category.value == _CATEGORY]
    found = next((one for one in known if text in (one.id, one.name, str(one.number))), None)
    if found is None:
        names = ", ".join(one.name for one in known)
        raise _AttestationError(f"{text} is no item that a person can vouch for; these are: {names}")
    return found


def _until(text: str, clock: Clock) -> float:
    """Return when an attestation expires, in unix seconds."""
    now = clock.wall()
    if found := _DURATION.fullmatch(text):
        return now + int(found[1]) * _UNITS[found[2]]
    expires_at = _instant("--expires", text)
    if expires_at <= now:
        raise _AttestationError(f"--expires {text} is over already")
    return expires_at


def _instant(option: str, text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise _AttestationError(
            f"{option} {text} is no time: write 2027-01-15 or 2027-01-15T10:00Z"
            + (", or a duration such as 180d" if option == "--expires" else "")
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _drill(item: Item, at: str, reference: str, clock: Clock) -> Drill | None:
    from deploytool.model.observations import Drill

    if not at and not reference:
        return None
    if item.name != _ROLLBACK:
        raise _AttestationError(f"a drill belongs to {_ROLLBACK}, not to {item.name}")
    if not (at and reference):
        raise _AttestationError("a drill needs both --drill-at and --drill-reference")
    seconds = _instant("--drill-at", at)
    if seconds > clock.wall():
        raise _AttestationError(f"--drill-at {at} is still to come")
    return Drill(seconds, reference)


def _digest(item: Item, url: str, ca_file: str, clock: Clock) -> str:
    """Fetch the document and return its sha256; empty without a document."""
    from deploytool.probes.documents import fetch_document

    if not url:
        if item.name != _TRAINED:
            raise _AttestationError(f"{item.name} is about a document: name it by --url")
        return ""
    trial = fetch_document(url, clock, ca_file=ca_file)
    if not trial.resolves:
        said = trial.error or f"it answers HTTP {trial.status}"
        raise _UnfetchedError(f"the document {url} is not there, so nobody can vouch for it: {said}")
    return trial.sha256


def _doubts(cluster: Cluster, workload: str, identity: Identity) -> list[str]:
    """Return why it will not be certain who attested."""
    from deploytool.cluster import attestations, resources
    from deploytool.cluster.errors import ClusterError, MissingError, NotServedError
    from deploytool.cluster.snapshot import policies_of

    doubts = []
    if attestations.is_shared(identity):
        doubts.append(
            f"{identity.username} stands for several people (a service account or system:masters): authorship is not "
            "enforced, so check will warn"
        )
    try:
        cluster.get(resources.POLICIES, policies_of(cluster.namespace, workload)[-1])
    except (MissingError, NotServedError):
        doubts.append(
            "this cluster has no admission policy that refuses an attestation in another's name: authorship is not "
            "enforced, so check will warn"
        )
    except ClusterError as error:
        doubts.append(f"whether authorship is enforced is not known: {error.problem}")
    return doubts


def _as_json(found: tuple[Attestation, ...], now: float) -> str:
    import json

    return json.dumps(
        [
            {
                "name": one.name,
                "item": one.item,
                "who": one.who,
                "shared_user": one.is_shared,
                "made_at": _time(one.made_at),
                "expires_at": _time(one.expires_at),
                "expired": one.expires_at <= now,
                "url": one.url or None,
                "sha256": one.sha256 or None,
                "drill": {"at": _time(one.drill.at), "reference": one.drill.reference} if one.drill else None,
            }
            for one in found
        ],
        indent=2,
    )


def _as_table(found: tuple[Attestation, ...], now: float) -> str:
    if not found:
        return "nobody has attested to anything"
    rows = [("NAME", "ITEM", "WHO", "EXPIRES", "DOCUMENT")]
    rows += [
        (
            one.name,
            one.item.partition(".")[2] or one.item,
            one.who + (" (shared)" if one.is_shared else ""),
            _time(one.expires_at)[:10] + (" expired" if one.expires_at <= now else ""),
            one.url or "-",
        )
        for one in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(_printable(text).ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    """Return the text with what could steer a terminal made visible; it comes from other people."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
