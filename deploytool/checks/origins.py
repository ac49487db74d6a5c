"""Which pages' WebSockets are let in: those of the production sites, and no others."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deploytool.checks.observing import unknown, verdict
from deploytool.checks.workloads import environments
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import OriginKind, Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.checks.workloads import Environment, Variable
    from deploytool.model.expectations import Expectations
    from deploytool.model.observations import OriginTrial
    from deploytool.model.snapshot import Snapshot

__all__ = ("ALLOWED", "RESTRICTED")

_NAMES = ("FRONTEND_URL", "REPL_URL", "WS_ALLOWED_ORIGINS")
_PLACEHOLDER = re.compile(r"your-|\.example$|^example\.|\bchange-?me\b")
_LOCAL_SUFFIXES = (".local", ".localhost", ".test", ".invalid", ".internal", ".lan")
_LOOPBACK = "localhost"
_NO_BROWSERS = "no page in a browser connects, says deploytool.yaml"


def _listed(environment: Environment) -> Iterator[tuple[str, Variable, str]]:
    """Yield each origin with the variable that it stands in and that one's name."""
    for name in _NAMES:
        variable = environment.get(name)
        for origin in (variable.value or "").split(",") if variable else ():
            if variable is not None and origin.strip():
                yield origin.strip(), variable, name


def _hidden(environment: Environment) -> str:
    """Return where origins come from that were not read; empty when all were read, or those that were are enough."""
    for name in _NAMES:
        variable = environment.get(name)
        if variable is not None and variable.value is None:
            return f"{name} comes from {variable.origin}"
    is_enough = environment.is_complete or any(True for _origin in _listed(environment))
    return "" if is_enough else "part of the environment comes from elsewhere"


def _problem(origin: str) -> str:
    """Say what is wrong with an origin as such; empty when nothing is."""
    if origin == "*":
        return ""
    try:
        parts = urlsplit(origin)
        _ = parts.port  # raises when it is none
    except ValueError:
        return "is no origin"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "is no origin: it has to be scheme, host and port"
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
        return "is more than scheme, host and port"
    return ""


def _configured(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
    if not expectations.has_browsers:
        yield Observation(Verdict.IRRELEVANT, "", _NO_BROWSERS)
        return
    for environment in environments(snapshot):
        yield from _configured_in(environment, expectations)


def _configured_in(environment: Environment, expectations: Expectations) -> Iterator[Observation]:
    found, hidden = [*_listed(environment)], _hidden(environment)
    for origin, variable, name in found:
        problem = _problem(origin)
        if problem:
            yield Observation(
                Verdict.VIOLATED, environment.subject, f"{name}: {origin} {problem}", (variable.evidence,)
            )
    if hidden:
        message = f"{hidden}, which was not read"
        yield Observation(Verdict.UNKNOWN, environment.subject, message)
        return
    known = {origin.rstrip("/") for origin, _, _ in found}
    for wanted in expectations.origins:
        if wanted.rstrip("/") not in known:
            yield Observation(Verdict.VIOLATED, environment.subject, f"{wanted} is not allowed", _seen(environment))
    if not found:
        message = f"no origin is allowed, so no browser can connect: {' and '.join(_NAMES)} are empty"
        yield Observation(Verdict.VIOLATED, environment.subject, message, _seen(environment))
    else:
        shown = ", ".join(sorted(known))
        yield Observation(Verdict.SATISFIED, environment.subject, f"allows {shown}", _seen(environment))


def _seen(environment: Environment) -> tuple[Evidence, ...]:
    present = [variable.evidence for name in _NAMES if (variable := environment.get(name)) is not None]
    place = environment.node.place
    return tuple(present) or (
        Evidence(place.source, "FRONTEND_URL", None, place.document, environment.node.first_line),
    )


def _accepted(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
    if not expectations.has_browsers:
        return
    if isinstance(snapshot.origins, Unseen):
        yield unknown("whether an allowed origin is accepted", snapshot.origins)
        return
    tried = [trial for trial in snapshot.origins if trial.kind is OriginKind.ALLOWED]
    for trial in tried:
        message = f"{trial.origin} was {'accepted' if trial.accepted else 'refused'}: {trial.answer}"
        yield Observation(verdict(trial.accepted), "", message, _tried(trial))
    if not tried:
        message = "no allowed origin was tried"
        yield Observation(Verdict.UNKNOWN, "", message, remediation="Name one under origins in deploytool.yaml.")


def _tried(trial: OriginTrial) -> tuple[Evidence, ...]:
    return (Evidence(trial.source, f"Origin: {trial.origin}", trial.answer, at=trial.at),)


def _production_only(snapshot: Snapshot, expectations: Expectations) -> Iterator[Observation]:
    for environment in environments(snapshot):
        mode = environment.get("SLACKWATER_MODE")
        if mode is not None and mode.value == "development":
            message = "development mode allows the pages of the machine itself"
            yield Observation(Verdict.VIOLATED, environment.subject, message, (mode.evidence,))
        found = [*_listed(environment)]
        for origin, variable, name in found:
            why = _unfit(origin, expectations)
            message = f"{name}: {origin} {why or 'is a production origin'}"
            yield Observation(verdict(not why), environment.subject, message, (variable.evidence,))
        if _hidden(environment):
            yield Observation(Verdict.UNKNOWN, environment.subject, f"{_hidden(environment)}, which was not read")


def _unfit(origin: str, expectations: Expectations) -> str:
    """Say why an origin does not belong in production; empty when it does."""
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
    except ValueError:
        return "is no origin"
    expected = {wanted.rstrip("/") for wanted in expectations.origins}
    reasons = {
        "lets in every site": "*" in origin,
        "is not https": parts.scheme != "https",
        "is a name of development": _is_local(host),
        "is a placeholder": _PLACEHOLDER.search(host) is not None,
        "is not among the production origins in deploytool.yaml": bool(expected) and origin.rstrip("/") not in expected,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _is_local(host: str) -> bool:
    if host == _LOOPBACK or host.endswith(_LOCAL_SUFFIXES) or not {".", ":"} & {*host}:
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _others_refused(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    if isinstance(snapshot.origins, Unseen):
        yield unknown("whether other origins are refused", snapshot.origins)
        return
    tried = [trial for trial in snapshot.origins if trial.kind is not OriginKind.ALLOWED]
    for trial in tried:
        message = (
            f"{trial.origin} ({trial.kind.value}) was {'accepted' if trial.accepted else 'refused'}: {trial.answer}"
        )
        yield Observation(verdict(not trial.accepted), "", message, _tried(trial))
    for kind in (OriginKind.FOREIGN, OriginKind.NULL):
        if all(trial.kind is not kind for trial in tried):
            yield Observation(Verdict.UNKNOWN, "", f"no {kind.value} origin was tried")


_SET = (
    "`helm upgrade {release} helm/slackwater --namespace {namespace} --reuse-values "
    "--set settings.frontendUrl=https://YOUR-SITE`"
)

ALLOWED = (
    Item(
        number=3,
        id="infrastructure.websocket-origins",
        category=Category.INFRASTRUCTURE,
        title="WebSocket CORS origins configured",
        knows=(
            "FRONTEND_URL, REPL_URL and WS_ALLOWED_ORIGINS as they are set; an upgrade with an allowed Origin is "
            "accepted."
        ),
        needs=frozenset({"objects", "origins"}),
        depends_on=("security.tls",),
        rules=(
            Rule(
                "configured",
                Depth.OFFLINE,
                Severity.ERROR,
                "at least one origin is allowed, and each is scheme, host and port",
                f"Set FRONTEND_URL to the address of the site whose pages connect (chart: {_SET}); where none connect, "
                "say `browsers: false` in deploytool.yaml.",
                _configured,
            ),
            Rule(
                "accepted",
                Depth.PROBE,
                Severity.ERROR,
                "an upgrade with an allowed origin is accepted",
                f"Add the origin to FRONTEND_URL or WS_ALLOWED_ORIGINS (chart: {_SET}), and see that no proxy drops or "
                "changes the header Origin.",
                _accepted,
            ),
        ),
    ),
)

RESTRICTED = (
    Item(
        number=11,
        id="security.origins-restricted",
        category=Category.SECURITY,
        title="CORS origins restricted to production domains",
        knows=(
            "No wildcard, no name of development and no http among the allowed origins; upgrades from foreign, null, "
            "look-alike and http origins are refused."
        ),
        needs=frozenset({"objects", "origins"}),
        depends_on=("security.tls",),
        rules=(
            Rule(
                "production-only",
                Depth.OFFLINE,
                Severity.ERROR,
                "every allowed origin is a production site over https",
                f"Take it out of FRONTEND_URL, REPL_URL or WS_ALLOWED_ORIGINS (chart: {_SET}).",
                _production_only,
            ),
            Rule(
                "refused",
                Depth.PROBE,
                Severity.FATAL,
                "an upgrade from any other origin is refused",
                f"Narrow WS_ALLOWED_ORIGINS to whole origins (chart: {_SET}), and see that no proxy sets the header "
                "Origin.",
                _others_refused,
            ),
        ),
    ),
)
