"""What stands between clients and the one instance: proxies that spread, cut or mangle WebSockets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deploytool.checks import patterns
from deploytool.checks.observing import unknown
from deploytool.checks.workloads import environments, ingresses
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.expectations import Expectations
    from deploytool.model.nginx import Directive
    from deploytool.model.snapshot import Snapshot

__all__ = ("ITEMS", "websocket_locations")

_SOCKET_PATHS = ("/ws", "/connection/websocket")
_AFFINITY = ("ip_hash", "hash", "sticky", "sticky_cookie_insert")
_OUT_OF_USE = frozenset({"down", "backup"})
_PING_SECONDS = 30.0
# Source: https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_read_timeout
_NGINX_READ_SECONDS = 60.0
_UNITS = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "M": 2_592_000.0,
    "y": 31_536_000.0,
}
_DURATION = re.compile(r"(\d+)\s*(ms|[smhdwMy])?")
_INGRESS_TIMEOUT = "nginx.ingress.kubernetes.io/proxy-read-timeout"
_INGRESS_VERSION = "nginx.ingress.kubernetes.io/proxy-http-version"

_Place = tuple["Directive", tuple["Directive", ...]]


def websocket_locations(proxy: Directive) -> Iterator[_Place]:
    """Yield the locations through which WebSockets of the service go, with the blocks around them.

    A location is one of them when it proxies and a path of the service falls into it, or when it mentions Upgrade.
    """
    for directive, around in proxy.walk():
        if directive.name == "location" and _target(directive) and _takes_sockets(directive, around):
            yield directive, around


def _target(location: Directive) -> str:
    found = location.every("proxy_pass")
    return found[0].arguments[0] if found and found[0].arguments else ""


def _takes_sockets(location: Directive, around: tuple[Directive, ...]) -> bool:
    if any("upgrade" in " ".join(one.arguments).lower() for one in location.every("proxy_set_header")):
        return True
    mine = [path for path in _SOCKET_PATHS if _covers(location, path)]
    siblings = [one for one in around[-1].block or () if one.name == "location" and one is not location]
    # Only what no other location takes away from it.
    return any(not any(_is_closer(other, location, path) for other in siblings) for path in mine)


def _covers(location: Directive, path: str) -> bool:
    *modifier, pattern = location.arguments or ("",)
    kind = modifier[0] if modifier else ""
    if kind == "=":
        return pattern == path
    if kind in {"~", "~*"}:
        # A pattern that is not judged may take everything.
        return patterns.matches(pattern, path, whole=False, ignore_case=kind == "~*") is not False
    return path.startswith(pattern)


def _is_closer(other: Directive, location: Directive, path: str) -> bool:
    if not _covers(other, path):
        return False
    if other.arguments[0] in {"=", "~", "~*"}:
        return True
    return len(other.arguments[-1]) > len(location.arguments[-1])


def _inherited(name: str, location: Directive, around: tuple[Directive, ...]) -> tuple[Directive, ...]:
    """Return the directives in force: those of the innermost block that has any, as nginx inherits them."""
    for block in (location, *reversed(around)):
        if block.every(name):
            return block.every(name)
    return ()


def _subject(location: Directive) -> str:
    return f"location {' '.join(location.arguments)} ({location.source}:{location.line})"


def _upstreams(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for proxy in snapshot.proxies:
        known = {one.arguments[0]: one for one, _ in proxy.walk() if one.name == "upstream" and one.arguments}
        for location, _around in websocket_locations(proxy):
            host = re.sub(r"^\w+://", "", _target(location)).split("/")[0]
            if host in known:
                yield _spread(location, known[host])
            else:
                message = f"passes to {host}, which is one server as far as the file says"
                yield Observation(Verdict.SATISFIED, _subject(location), message, (location.evidence,))


def _spread(location: Directive, upstream: Directive) -> Observation:
    servers = [one for one in upstream.every("server") if not _OUT_OF_USE & {*one.arguments}]
    evidence = tuple(one.evidence for one in servers)
    name = f"upstream {upstream.arguments[0]}"
    if len(servers) <= 1:
        message = f"{name} has {len(servers)} server"
        return Observation(Verdict.SATISFIED, _subject(location), message, evidence or (upstream.evidence,))
    affinity = next((one for one in upstream.block or () if one.name in _AFFINITY), None)
    if affinity is None:
        message = f"{name} spreads WebSockets over {len(servers)} servers without affinity"
        return Observation(Verdict.VIOLATED, _subject(location), message, evidence)
    message = f"{name} has {len(servers)} servers; with {affinity.name} each still has channels of its own"
    return Observation(Verdict.DOUBTFUL, _subject(location), message, (*evidence, affinity.evidence))


def _misplaced(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for proxy in snapshot.proxies:
        for directive, around in proxy.walk():
            if directive.name == "ip_hash" and around[-1].name != "upstream":
                message = f"ip_hash stands in {around[-1].name or 'the file itself'}, where nginx refuses it"
                yield Observation(
                    Verdict.VIOLATED, f"{directive.source}:{directive.line}", message, (directive.evidence,)
                )


def _upgrade(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for location, around in _all_locations(snapshot):
        headers = _inherited("proxy_set_header", location, around)
        named = {one.arguments[0].lower(): one for one in headers if len(one.arguments) > 1}
        evidence = (location.evidence, *(one.evidence for one in headers))
        upgrade, connection = named.get("upgrade"), named.get("connection")
        missing = [
            name
            for name, one, words in (
                ("Upgrade", upgrade, "$http_upgrade websocket"),
                ("Connection", connection, "upgrade $"),
            )
            if one is None or not any(word in one.arguments[1].lower() for word in words.split())
        ]
        if missing and _is_partly_elsewhere(location, around):
            message = f"whether it passes {' and '.join(missing)} on stands in an included file that was not read"
            yield Observation(Verdict.UNKNOWN, _subject(location), message, evidence)
        elif missing:
            message = f"does not pass {' and '.join(missing)} on, so no WebSocket opens"
            yield Observation(Verdict.VIOLATED, _subject(location), message, evidence)
        else:
            yield Observation(Verdict.SATISFIED, _subject(location), "passes Upgrade and Connection on", evidence)


def _is_partly_elsewhere(location: Directive, around: tuple[Directive, ...]) -> bool:
    """Whether the location or its server includes a file that was not read."""
    return any(block.every("include") for block in (location, *around) if block.name in {"location", "server"})


def _version(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for location, around in _all_locations(snapshot):
        found = _inherited("proxy_http_version", location, around)
        version = found[0].arguments[0] if found and found[0].arguments else ""
        evidence = (found[0].evidence if found else location.evidence,)
        if version == "1.1":
            yield Observation(Verdict.SATISFIED, _subject(location), "speaks HTTP 1.1 to the service", evidence)
        elif not found and _is_partly_elsewhere(location, around):
            message = "which HTTP it speaks stands in an included file that was not read"
            yield Observation(Verdict.UNKNOWN, _subject(location), message, evidence)
        else:
            shown = version or "1.0, the default before nginx 1.29.7"
            message = f"proxy_http_version is {shown}; a WebSocket takes 1.1"
            yield Observation(Verdict.VIOLATED, _subject(location), message, evidence)
    for ingress in ingresses(snapshot):
        setting = ingress.child("metadata", "annotations").setting(_INGRESS_VERSION)
        if setting.value not in {None, "1.1", 1.1}:
            message = f"speaks HTTP {setting.value}; a WebSocket takes 1.1"
            yield Observation(Verdict.VIOLATED, ingress.subject, message, (setting.evidence,))


def _all_locations(snapshot: Snapshot) -> Iterator[_Place]:
    for proxy in snapshot.proxies:
        yield from websocket_locations(proxy)


def _timeouts(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    ping = _ping_seconds(snapshot)
    for location, around in _all_locations(snapshot):
        found = _inherited("proxy_read_timeout", location, around)
        text = found[0].arguments[0] if found and found[0].arguments else ""
        evidence = found[0].evidence if found else location.evidence
        yield _timeout(_subject(location), "proxy_read_timeout", text or f"{_NGINX_READ_SECONDS:g}s", ping, evidence)
    for ingress in ingresses(snapshot):
        setting = ingress.child("metadata", "annotations").setting(_INGRESS_TIMEOUT)
        if setting.value is not None:
            yield _timeout(ingress.subject, "proxy-read-timeout", str(setting.value), ping, setting.evidence)


def _timeout(subject: str, name: str, text: str, ping: float, evidence: Evidence) -> Observation:
    seconds = _seconds(text)
    if seconds is None:
        return Observation(Verdict.UNKNOWN, subject, f"{name} is {text}, which is no plain duration", (evidence,))
    if seconds <= ping:
        message = f"{name} is {seconds:g} s, not longer than the {ping:g} s between pings: idle WebSockets are cut"
        return Observation(Verdict.VIOLATED, subject, message, (evidence,))
    message = f"{name} is {seconds:g} s, longer than the {ping:g} s between pings"
    return Observation(Verdict.SATISFIED, subject, message, (evidence,))


def _seconds(text: str) -> float | None:
    """Return a duration of nginx; None when it is none, such as a variable."""
    compact = text.strip().replace(" ", "")
    if not compact or _DURATION.sub("", compact):
        return None
    return sum(int(count) * _UNITS[unit or "s"] for count, unit in _DURATION.findall(compact))


def _ping_seconds(snapshot: Snapshot) -> float:
    """Return the longest time between pings that the files or the service speak of."""
    if not isinstance(snapshot.status, Unseen):
        return snapshot.status.limits.get("ping_interval_seconds", _PING_SECONDS)
    found = [environment.get("WS_PING_INTERVAL") for environment in environments(snapshot)]
    known = [int(one.value) / 1000 for one in found if one is not None and one.value and one.value.isdecimal()]
    return max(known, default=_PING_SECONDS)


def _same_instance(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
    if expectations.behind_load_balancer is False:
        message = "nothing spreads WebSockets over servers, says deploytool.yaml"
        yield Observation(Verdict.IRRELEVANT, "", message)
        return
    trials = snapshot.handshakes
    if isinstance(trials, Unseen):
        yield unknown("whether several handshakes reach the same instance", trials)
        return
    names = [trial.instance for trial in trials]
    seen = sorted({*names} - {""})
    where = trials[0] if trials else None
    evidence = (
        Evidence(
            where.source if where else "", "X-Slackwater-Instance", ", ".join(seen), at=where.at if where else None
        ),
    )
    if len(seen) > 1:
        message = f"{len(trials)} handshakes from one address reached {len(seen)} instances"
        yield Observation(Verdict.VIOLATED, "", message, evidence)
    elif not seen or len(names) < 2 or "" in names:  # noqa: PLR2004  # one alone shows nothing
        yield Observation(Verdict.UNKNOWN, "", "too few handshakes said which instance answered", evidence)
    else:
        yield Observation(Verdict.SATISFIED, "", f"{len(trials)} handshakes reached the same instance", evidence)


_NGINX_PAGE = "docs/how-to/nginx.md has a configuration that works."

ITEMS = (
    Item(
        number=4,
        id="infrastructure.session-affinity",
        category=Category.INFRASTRUCTURE,
        title="load balancer session affinity (if applicable)",
        knows=(
            "Upstreams, headers and timeouts of nginx configurations and Ingress annotations; several handshakes at "
            "the public address report the same instance."
        ),
        needs=frozenset({"objects", "status", "handshakes"}),
        depends_on=("security.tls",),
        rules=(
            Rule(
                "upstream",
                Depth.OFFLINE,
                Severity.FATAL,
                "WebSockets go to one server",
                f"Keep one server in the upstream that /ws passes to. {_NGINX_PAGE}",
                _upstreams,
            ),
            Rule(
                "ip-hash",
                Depth.OFFLINE,
                Severity.ERROR,
                "ip_hash stands in an upstream",
                f"Take ip_hash out, or move it into the upstream block. {_NGINX_PAGE}",
                _misplaced,
            ),
            Rule(
                "upgrade",
                Depth.OFFLINE,
                Severity.ERROR,
                "the proxy passes the Upgrade on",
                'Add `proxy_set_header Upgrade $http_upgrade;` and `proxy_set_header Connection "upgrade";` to the '
                f"location. {_NGINX_PAGE}",
                _upgrade,
            ),
            Rule(
                "http-version",
                Depth.OFFLINE,
                Severity.ERROR,
                "the proxy speaks HTTP 1.1 to the service",
                f"Add `proxy_http_version 1.1;` to the location. {_NGINX_PAGE}",
                _version,
            ),
            Rule(
                "read-timeout",
                Depth.OFFLINE,
                Severity.ERROR,
                "the proxy lets a WebSocket be quiet for longer than the time between pings",
                "Set `proxy_read_timeout 3600s;` in the location (Ingress: annotation "
                f'{_INGRESS_TIMEOUT}: "3600"; chart: ingress.readTimeout=1h). {_NGINX_PAGE}',
                _timeouts,
            ),
            Rule(
                "same-instance",
                Depth.PROBE,
                Severity.FATAL,
                "several handshakes reach the same instance",
                "Take the other servers out of the load balancer; `kubectl --namespace {namespace} get "
                "endpointslices` shows what stands behind the Service.",
                _same_instance,
            ),
        ),
    ),
)
