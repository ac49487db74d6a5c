"""Puts a rollout together: the parts that know nothing of each other, for one release."""

from __future__ import annotations

import dataclasses
import getpass
import os
import secrets
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from deploytool.cli.live import LiveOptions, admin_key, observe
from deploytool.cli.rolling.people import CommandHooks, LiveTree, Terminal, WaitingClock, new_view
from deploytool.cli.rolling.service import AdminService
from deploytool.cluster import snapshot as cluster_snapshot
from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.helm import HelmSwitch
from deploytool.cluster.lease import LeaseLock
from deploytool.cluster.service_proxy import ServiceProxy
from deploytool.cluster.workload import KubernetesWorkload, image_of
from deploytool.errors import DeploytoolError
from deploytool.model.finding import Depth
from deploytool.model.observations import Unseen
from deploytool.probes.address import parse_address
from deploytool.probes.smoke import Pass, SmokeClient
from deploytool.rollout.errors import PhaseError, RefusedError
from deploytool.rollout.journal import Journal
from deploytool.rollout.ports import Mark, Ports
from deploytool.service_api import AdminApi, HttpTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploytool.cluster.snapshot import Release
    from deploytool.service_api import Transport

__all__ = ("Bench", "actor", "live_options", "open_bench", "open_release", "require_checks")

_TOKEN_SECONDS = 3600.0


class _UsageError(DeploytoolError):
    """Something was not given that is needed."""

    exit_code = 2


class _BareClient(SmokeClient):
    """Where nobody makes tokens: it sees that WebSockets are let in, and no more."""

    @override
    def smoke(self, mark: Mark | None) -> tuple[str, str]:
        del mark
        if not self.knock():
            raise PhaseError("a new WebSocket is refused")
        return "", "a WebSocket is let in; nothing else was tried"


@dataclass(slots=True)
class Bench:
    """One release, ready to be rolled out.

    Attributes:
        image: That the workload asks for.
        helm: None when Helm does not own it.
        session: Tells this run from others.
    """

    release: Release
    image: str
    cluster: Cluster
    lock: LeaseLock
    ports: Ports
    helm: HelmSwitch | None
    session: str

    def journal(self, image: str, reason: str) -> Journal:
        """Return the journal of a new rollout."""
        who, _, rollout = self.session.rpartition("/")
        revision = None if self.helm is None else self.helm.revision()
        wanted = image
        if self.helm is not None and "@" in image:
            # The chart writes a digest without the tag, which nobody looks at beside it.
            name, _, digest = image.partition("@")
            slash, colon = name.rfind("/"), name.rfind(":")
            wanted = f"{name[:colon] if colon > slash else name}@{digest}"
        return Journal(rollout, self.release.name, who, reason, self.image, wanted, revision=revision)


def actor() -> str:
    """Return ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def live_options(where: Mapping[str, str], given: Mapping[str, Any]) -> LiveOptions:
    """Return where to look: what the command line says, over what the file says."""
    known = {field.name for field in dataclasses.fields(LiveOptions)}
    said = {name: value for name, value in given.items() if value and name in known}
    return LiveOptions(**{**{name: value for name, value in where.items() if name in known}, **said})


@contextmanager
def open_release(options: LiveOptions, clock: WaitingClock | None = None) -> Iterator[tuple[Cluster, Release]]:
    """Connect, and find the workload that is meant."""
    with Cluster.connect(
        kubeconfig_path=options.kubeconfig,
        context=options.context,
        namespace=options.namespace,
        clock=clock or WaitingClock(),
        limits=Limits(total_seconds=float("inf")),
    ) as cluster:
        yield cluster, cluster_snapshot.find(cluster, options.workload)


@contextmanager
def open_bench(  # noqa: PLR0913 - each has a default
    options: LiveOptions,
    *,
    output: str = "text",
    hooks: Mapping[str, Sequence[str]] | None = None,
    chart: str = "",
    rollout: str = "",
    lease_seconds: float = 60.0,
    is_degraded: bool = False,
) -> Iterator[Bench]:
    """Put everything together.

    Args:
        options: Where to look.
        output: How it is shown.
        hooks: Commands of the operator's.
        chart: Instead of that of Helm's record.
        lease_seconds: For which the lock holds without being renewed.
        rollout: Id of the one that is gone on with; empty for a new one.
        is_degraded: Whether the service has no admin contract.

    Raises:
        DeploytoolError: Something is not there; nothing was changed.
    """
    clock = WaitingClock()
    with ExitStack() as stack:
        cluster, release = stack.enter_context(open_release(options, clock))
        helm = None
        if release.helm_release:
            helm = HelmSwitch(
                cluster, release.helm_release, kubeconfig=options.kubeconfig, context=options.context, chart=chart
            )
        session = f"{actor()}/{rollout or secrets.token_hex(4)}"
        lock = LeaseLock(
            cluster,
            release.name,
            holder=session,
            session=secrets.token_hex(8),
            clock=clock,
            seconds=round(lease_seconds),
        )
        through = "" if is_degraded or options.admin_url else release.admin_service
        workload = KubernetesWorkload(cluster, release.name, clock, admin_service=through, switch=helm)
        api = _api(options, cluster, release, clock, is_degraded=is_degraded)
        view = new_view(output, f"{release.name} in {release.namespace}")
        if isinstance(view, LiveTree):
            stack.enter_context(view)
        ports = Ports(
            clock=clock,
            workload=workload,
            lock=lock,
            service=AdminService(api),
            client=_client(_with_url(options, release), api, is_degraded=is_degraded),
            hooks=CommandHooks(hooks or {}),
            operator=stack.enter_context(Terminal(clock)),
            view=view,
        )
        yield Bench(release, image_of(release.deployment), cluster, lock, ports, helm, session)


def _api(
    options: LiveOptions, cluster: Cluster, release: Release, clock: WaitingClock, *, is_degraded: bool
) -> AdminApi:
    transport: Transport
    if options.admin_url:
        transport = HttpTransport(options.admin_url, ca_file=options.ca_file)
    elif release.admin_service:
        transport = ServiceProxy(cluster, release.admin_service)
    elif is_degraded:
        return AdminApi(HttpTransport("http://127.0.0.1:9"), "", clock)
    else:
        raise _UsageError(
            f"Deployment {release.name} does not say where its admin API is. Annotate it with "
            "slackwater.dev/admin-service=SERVICE:PORT, give --admin-url, or roll out --degraded: without "
            "announcement and gate, and drained by SIGTERM alone"
        )
    key = "" if is_degraded else admin_key(options, cluster, release)
    if isinstance(key, Unseen):
        raise _UsageError(f"there is no admin key: {key.why}. {key.way_out}")
    return AdminApi(transport, key, clock)


def _with_url(options: LiveOptions, release: Release) -> LiveOptions:
    if options.url:
        return options
    wanted = replace(options, workload=release.name)
    for seen in observe(wanted, needs=("objects",), depth=Depth.LIVE):
        if seen.target.url:
            return replace(options, url=seen.target.url)
    raise _UsageError("the public address is not known: no Ingress and no HTTPRoute names one. Give --url wss://HOST")


def _client(options: LiveOptions, api: AdminApi, *, is_degraded: bool) -> SmokeClient:
    address = parse_address(options.url, connect_to=options.connect_to, ca_file=options.ca_file)

    def issue() -> Pass:
        with_tokens = AdminService(api).tokens(_TOKEN_SECONDS)
        return Pass(with_tokens.channel, with_tokens.valid.connection, with_tokens.valid.subscription)

    return (_BareClient if is_degraded else SmokeClient)(address, issue)


def require_checks(options: LiveOptions, select: Sequence[str], skip: Sequence[str], settings: Any) -> int:  # noqa: ANN401 - Settings, which is imported when it is needed
    """Judge the items whose failure must keep a rollout from beginning; returns how many were judged.

    Raises:
        RefusedError: One of them failed.
    """
    from deploytool.checks import catalog, evaluation
    from deploytool.model.finding import Outcome

    items = catalog.select(select, (*skip, *settings.skip))
    needs = frozenset(name for item in items for name in item.needs)
    seen = observe(options, needs=needs, depth=Depth.LIVE, expectations=settings.expectations)
    results = [*evaluation.results(seen, settings.expectations, items)]
    failed = [one.item.id for one in results if one.outcome is Outcome.FAIL]
    if failed:
        raise RefusedError(f"these checks failed: {', '.join(failed)}. See deploytool check, or waive them there")
    return len(results)
