"""Clients reach the service over TLS, and over nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.checks.balancing import websocket_locations
from deploytool.checks.observing import unknown, verdict
from deploytool.checks.workloads import ingresses
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import PlainAnswer, Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.expectations import Expectations
    from deploytool.model.nginx import Directive
    from deploytool.model.observations import TlsTrial
    from deploytool.model.snapshot import Snapshot

__all__ = ("ITEMS",)

_OLD = frozenset({"SSLv2", "SSLv3", "TLSv1", "TLSv1.0", "TLSv1.1"})
_DAY = 86_400.0


def _configured(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for ingress in ingresses(snapshot):
        covered = {host for entry in ingress.child("spec").children("tls") for host in entry.texts("hosts")}
        hosts = {rule.text("host") for rule in ingress.child("spec").children("rules")}
        bare = sorted(hosts - covered)
        evidence = (ingress.child("spec").setting("tls").evidence,)
        message = f"asks for no TLS for {', '.join(host or 'all hosts' for host in bare)}" if bare else "asks for TLS"
        # Something in front of it may end TLS; a handshake shows that.
        yield Observation(Verdict.DOUBTFUL if bare else Verdict.SATISFIED, ingress.subject, message, evidence)
    for proxy in snapshot.proxies:
        seen: set[int] = set()
        for _location, around in websocket_locations(proxy):
            server = next((one for one in around if one.name == "server"), None)
            if server is not None and id(server) not in seen:
                seen.add(id(server))
                yield from _server(server, around)


def _server(server: Directive, around: tuple[Directive, ...]) -> Iterator[Observation]:
    subject = f"server ({server.source}:{server.line})"
    plain = [one for one in server.every("listen") if "ssl" not in one.arguments]
    evidence = tuple(one.evidence for one in plain or server.every("listen")) or (server.evidence,)
    if plain or not server.every("listen"):
        message = "takes WebSockets without TLS; fine only where something in front of it ends TLS"
        yield Observation(Verdict.DOUBTFUL, subject, message, evidence)
    else:
        yield Observation(Verdict.SATISFIED, subject, "takes WebSockets over TLS alone", evidence)
    protocols = server.every("ssl_protocols") or tuple(one for block in around for one in block.every("ssl_protocols"))
    for one in protocols:
        old = sorted(_OLD & {*one.arguments})
        if old:
            message = f"allows {', '.join(old)}"
            yield Observation(Verdict.VIOLATED, subject, message, (one.evidence,))


def _address(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    url = snapshot.target.url
    if url and not url.startswith(("wss://", "https://")):
        evidence = (Evidence("the public address", "scheme", url),)
        yield Observation(Verdict.VIOLATED, "", f"the public address is {url}, without TLS", evidence)


def _trial(snapshot: Snapshot) -> TlsTrial | None:
    return None if isinstance(snapshot.tls, Unseen) else snapshot.tls


def _seen(trial: TlsTrial, field: str, value: str | float | None) -> tuple[Evidence, ...]:
    return (Evidence(trial.source, field, value, at=trial.at),)


def _handshake(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    if isinstance(snapshot.tls, Unseen):
        yield unknown("a TLS handshake", snapshot.tls)
        return
    trial = snapshot.tls
    if trial.error:
        message = f"the handshake with {trial.host} failed: {trial.error}"
        yield Observation(Verdict.VIOLATED, "", message, _seen(trial, "handshake", trial.error))
    else:
        message = f"chain and name are good for {trial.host}"
        yield Observation(Verdict.SATISFIED, "", message, _seen(trial, "handshake", trial.protocol))


def _version(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    trial = _trial(snapshot)
    if trial is None or not trial.protocol:
        return
    old = trial.protocol in _OLD or trial.accepts_old is True
    shown = "TLS 1.1 or older is accepted" if old else f"{trial.protocol} was agreed on"
    if trial.accepts_old is None and not old:
        shown = f"{shown}; older ones could not be tried from here"
    yield Observation(verdict(not old), "", shown, _seen(trial, "protocol", trial.protocol))


def _days(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
    trial = _trial(snapshot)
    if trial is None or trial.not_after is None:
        return
    left = (trial.not_after - snapshot.at) / _DAY
    shown = f"the certificate is valid for {left:.0f} more days" if left > 0 else "the certificate has expired"
    message = f"{shown}; at least {expectations.tls_days_left} wanted"
    holds = left >= expectations.tls_days_left
    yield Observation(verdict(holds), "", message, _seen(trial, "days left", round(left, 1)))


def _plain(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    trial = _trial(snapshot)
    if trial is None:
        return
    if trial.plain is None:
        yield Observation(Verdict.UNKNOWN, "", f"an upgrade without TLS could not be tried with {trial.host}")
        return
    message = f"an upgrade without TLS: {trial.plain.value}"
    evidence = _seen(trial, "ws://", trial.plain.value)
    yield Observation(verdict(trial.plain is not PlainAnswer.ACCEPTED), "", message, evidence)


_CERTIFICATE = (
    "Look at it: `openssl s_client -connect HOST:443 -servername HOST </dev/null | openssl x509 -noout -dates "
    "-subject`; with cert-manager `kubectl --namespace {namespace} describe certificate`."
)

ITEMS = (
    Item(
        number=12,
        id="security.tls",
        category=Category.SECURITY,
        title="SSL/TLS termination for WSS connections",
        knows="A real handshake: chain, name, at least TLS 1.2, days left; an upgrade without TLS is refused.",
        needs=frozenset({"objects", "tls"}),
        passes_from=Depth.PROBE,
        rules=(
            Rule(
                "configured",
                Depth.OFFLINE,
                Severity.ERROR,
                "Ingress or proxy end TLS, at least 1.2",
                "Name a certificate (chart: ingress.tls.enabled=true, ingress.tls.clusterIssuer; nginx: `listen 443 "
                "ssl;` and `ssl_protocols TLSv1.2 TLSv1.3;`).",
                _configured,
            ),
            Rule(
                "address",
                Depth.PROBE,
                Severity.FATAL,
                "the public address is wss",
                "Give clients a wss:// address, and the check as well: `url: wss://HOST` in deploytool.yaml.",
                _address,
            ),
            Rule(
                "handshake",
                Depth.PROBE,
                Severity.FATAL,
                "chain and name of the certificate are good",
                _CERTIFICATE,
                _handshake,
            ),
            Rule(
                "version",
                Depth.PROBE,
                Severity.ERROR,
                "TLS is at least 1.2",
                "Switch older versions off (nginx: `ssl_protocols TLSv1.2 TLSv1.3;`).",
                _version,
            ),
            Rule(
                "days-left", Depth.PROBE, Severity.ERROR, "the certificate is not about to expire", _CERTIFICATE, _days
            ),
            Rule(
                "plain",
                Depth.PROBE,
                Severity.ERROR,
                "an upgrade without TLS is refused",
                "Redirect port 80 to https (nginx: `return 301 https://$host$request_uri;`; Ingress: annotation "
                'nginx.ingress.kubernetes.io/ssl-redirect: "true").',
                _plain,
            ),
        ),
    ),
)
