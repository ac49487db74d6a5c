"""Puts a rollout together: the parts that know nothing of each other, for one release."""

from __future__ import annotations

import dataclasses
import getpass
import os
import secrets
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

from deploytool.cli.live import LiveOptions, Progress, admin_key, observe
from deploytool.cli.rolling.people import CommandHooks, LiveTree, Terminal, WaitingClock, new_view
from deploytool.cli.rolling.report import render, write
from deploytool.cli.rolling.service import AdminService
from deploytool.cli.rolling.story import Recorder, Story
from deploytool.cluster import snapshot as cluster_snapshot
from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.helm import HelmSwitch
from deploytool.cluster.lease import LeaseLock
from deploytool.cluster.records import ClusterRecords
from deploytool.cluster.records import rights as record_rights
from deploytool.cluster.service_proxy import ServiceProxy
from deploytool.cluster.trial import PodTrial
from deploytool.cluster.trial import rights as trial_rights
from deploytool.cluster.workload import KubernetesWorkload, image_of
from deploytool.errors import DeploytoolError
from deploytool.model.finding import Depth
from deploytool.model.observations import Unseen
from deploytool.probes.address import parse_address
from deploytool.probes.smoke import Pass, SmokeClient
from deploytool.rollout.errors import PhaseError, RefusedError
from deploytool.rollout.journal import Journal
from deploytool.rollout.phases import Phase
from deploytool.rollout.ports import Event, Mark, Ports
from deploytool.service_api import AdminApi, HttpTransport, ServiceError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deploytool.cluster.snapshot import Release
    from deploytool.rollout.plan import Ending, Plan
    from deploytool.rollout.runner import Runner
    from deploytool.service_api import Transport

__all__ = ("Bench", "actor", "live_options", "open_bench", "open_release", "require_checks")

_TOKEN_SECONDS = 3600.0
_MOST_AHEAD_SECONDS = 60.0
_LEASE_SECONDS = 60.0
_LEAST_SECONDS = 3.0
"""For one request: a busy API server may take that long."""


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


class _CheckSteps(Progress):
    """Shows how the checks go on, where the rollout is shown."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    @override
    def step(self, text: str) -> None:
        self._show("progress", f"checking: {text}")

    @override
    def count(self, what: str, done: int, total: int) -> None:
        self._show("progress", f"checking: {what}, {done} of {total}")

    @override
    def note(self, text: str) -> None:
        self._show("note", text)

    def _show(self, kind: str, text: str) -> None:
        self._ports.view.show(Event(self._ports.clock.wall(), kind, Phase.PREFLIGHT, text))


@dataclass(slots=True)
class Bench:
    """One release, ready to be rolled out.

    Attributes:
        image: That the workload asks for.
        helm: None when Helm does not own it.
        session: Tells this run from others.
        recorder: Of what was shown.
        last_words: Are said when nothing is drawn any more.
    """

    release: Release
    image: str
    cluster: Cluster
    lock: LeaseLock
    ports: Ports
    helm: HelmSwitch | None
    session: str
    recorder: Recorder
    last_words: list[str]

    def journal(self, image: str, reason: str, *, is_drill: bool = False) -> Journal:
        """Return the journal of a new rollout."""
        who, _, rollout = self.session.rpartition("/")
        revision = None if self.helm is None else self.helm.revision()
        wanted = image
        if self.helm is not None and "@" in image:
            # The chart writes a digest without the tag, which nobody looks at beside it.
            name, _, digest = image.partition("@")
            slash, colon = name.rfind("/"), name.rfind(":")
            wanted = f"{name[:colon] if colon > slash else name}@{digest}"
        return Journal(rollout, self.release.name, who, reason, self.image, wanted, revision=revision, drill=is_drill)

    @property
    def clock_problem(self) -> str:
        """What is wrong with the clock here; empty when it is as that of the API server, or that is not known."""
        ahead = self.cluster.ahead_seconds
        if ahead is None or abs(ahead) <= _MOST_AHEAD_SECONDS:
            return ""
        way = "ahead of" if ahead > 0 else "behind"
        return (
            f"the clock here is {abs(ahead) / 60:.0f} min {way} that of the API server, and windows are read on it: "
            "set the wrong one right, or start without windows: --now WHY"
        )

    def require_clock(self, plan: Plan) -> None:
        """Check the clock by which windows are read; without windows its being wrong is only said.

        Raises:
            RefusedError: It is wrong.
        """
        if not (problem := self.clock_problem):
            return
        if not plan.override:
            raise RefusedError(problem)
        self.ports.view.show(Event(self.ports.clock.wall(), "note", Phase.PREFLIGHT, f"warning: {problem}"))

    def carry_out(
        self,
        command: str,
        runner: Runner,
        work: Callable[[], Ending],
        *,
        report: str,
        zone: dt.tzinfo | None,
    ) -> Ending:
        """Do it, and write a report of what became of it, whatever that is.

        Args:
            command: As the person typed it, such as ``rollout run``.
            runner: Whose journal is told of.
            work: What it is to do.
            report: Path; empty for none.
            zone: In which people think; None for that of this machine.
        """
        began_at, before = self.ports.clock.wall(), runner.journal
        ending: Ending | None = None
        problem, code = "", 0
        try:
            ending = work()
        except BaseException as error:
            problem, code = str(error) or type(error).__name__, getattr(error, "exit_code", 1)
            raise
        else:
            code = ending.exit_code
            return ending
        finally:
            if report:
                story = Story(
                    command=command,
                    workload=self.release.name,
                    namespace=self.release.namespace,
                    journal=runner.journal,
                    events=self.recorder.events,
                    ending=ending,
                    problem=problem,
                    exit_code=code,
                    has_begun=runner.journal != before,
                    began_at=began_at,
                    ended_at=self.ports.clock.wall(),
                    zone=zone,
                    version=version("slackwater"),
                )
                self.last_words.append(_written(Path(report), story))


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(line, err=True)


def _written(path: Path, story: Story) -> str:
    try:
        write(path, render(story))
    except OSError as error:
        # The directory could be written to before; what became of the rollout is not changed by this.
        return f"deploytool: warning: the report {path} was not written: {error.strerror or error}"
    return f"report: {path}"


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
def open_release(
    options: LiveOptions, clock: WaitingClock | None = None, *, lease_seconds: float = _LEASE_SECONDS
) -> Iterator[tuple[Cluster, Release]]:
    """Connect, and find the workload that is meant.

    Args:
        clock: None for one of its own.
        lease_seconds: For which a lock holds; a request or two that get no answer must not outlast it.
    """
    known, clock = Limits(), clock or WaitingClock()
    with Cluster.connect(
        kubeconfig_path=options.kubeconfig,
        context=options.context,
        namespace=options.namespace,
        clock=clock,
        limits=replace(
            known,
            request_seconds=min(known.request_seconds, max(_LEAST_SECONDS, lease_seconds / 6)),
            total_seconds=float("inf"),
        ),
        pause=clock.pause,
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
    lease_seconds: float = _LEASE_SECONDS,
    is_degraded: bool = False,
    is_tried: bool = False,
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
        is_tried: Whether a new image is tried in a pod of its own first.

    Raises:
        DeploytoolError: Something is not there; nothing was changed.
    """
    clock = WaitingClock()
    with ExitStack() as stack:
        cluster, release = stack.enter_context(open_release(options, clock, lease_seconds=lease_seconds))
        helm = None
        if release.helm_release:
            helm = HelmSwitch(cluster, release.helm_release, chart=chart)
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
        api = _api(options, cluster, release, clock, is_degraded=is_degraded)
        trial = PodTrial(cluster, release.name, clock, partial(_code_level, api)) if is_tried else None
        workload = KubernetesWorkload(
            cluster,
            release.name,
            clock,
            admin_service=through,
            switch=helm,
            others=(*record_rights(), *(trial_rights(release.name) if is_tried else ())),
        )
        last_words: list[str] = []
        stack.callback(_say, last_words)
        view = new_view(output, f"{release.name} in {release.namespace}")
        if isinstance(view, LiveTree):
            stack.enter_context(view)
        recorder = Recorder(view)
        ports = Ports(
            clock=clock,
            workload=workload,
            lock=lock,
            service=AdminService(api),
            client=_client(_with_url(options, release), api, is_degraded=is_degraded),
            hooks=CommandHooks(hooks or {}, clock),
            operator=stack.enter_context(Terminal(clock)),
            view=recorder,
            trial=trial,
            records=ClusterRecords(cluster, release.name, recorder.gaps),
        )
        yield Bench(release, image_of(release.deployment), cluster, lock, ports, helm, session, recorder, last_words)


def _code_level(api: AdminApi) -> int | None:
    """Return the schema level that the running version was written for; None where it does not say."""
    try:
        found = api.status().database
    except ServiceError:
        return None
    return None if found is None else found.code_level


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


def require_checks(
    bench: Bench,
    options: LiveOptions,
    select: Sequence[str],
    skip: Sequence[str],
    settings: Any,  # noqa: ANN401 - Settings, which is imported when it is needed
    *,
    is_told: bool = True,
) -> int:
    """Judge the items whose failure must keep a rollout from beginning; returns how many were judged.

    Args:
        is_told: Whether it is shown how far this is.

    Raises:
        RefusedError: One of them failed.
    """
    from deploytool.checks import catalog, evaluation
    from deploytool.model.finding import Outcome

    items = catalog.select(select, (*skip, *settings.skip))
    needs = frozenset(name for item in items for name in item.needs)
    progress = _CheckSteps(bench.ports) if is_told else None
    seen = observe(options, needs=needs, depth=Depth.LIVE, expectations=settings.expectations, progress=progress)
    results = [*evaluation.results(seen, settings.expectations, items)]
    failed = [one.item.id for one in results if one.outcome is Outcome.FAIL]
    if failed:
        chosen = " ".join(f"--select {name}" for name in failed)
        raise RefusedError(
            f"these checks failed: {', '.join(failed)}. `deploytool check {chosen}` says why and what to do; "
            f"--skip {failed[0]} rolls out all the same"
        )
    return len(results)
