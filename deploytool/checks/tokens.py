"""Who brings a good token gets in, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.checks.observing import unknown, verdict
from deploytool.checks.workloads import environments
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import TokenKind, Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.expectations import Expectations
    from deploytool.model.snapshot import Snapshot

__all__ = ("ITEMS",)

_KEYS = ("TOKEN_HMAC_SECRET", "TOKEN_RSA_PUBLIC_KEY", "TOKEN_ECDSA_PUBLIC_KEY")
_SECRETS = ("API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET")
_TRUE = frozenset({"true", "1", "yes", "on"})


def _required(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for environment in environments(snapshot):
        mode, anonymous = environment.get("SLACKWATER_MODE"), environment.get("WS_ANONYMOUS")
        if mode is not None and mode.value == "development":
            message = "development mode lets connections in that bring no token"
            yield Observation(Verdict.VIOLATED, environment.subject, message, (mode.evidence,))
        if anonymous is not None and (anonymous.value or "").lower() in _TRUE:
            message = "WS_ANONYMOUS lets connections in that bring no token"
            yield Observation(Verdict.VIOLATED, environment.subject, message, (anonymous.evidence,))
        keys = [environment.variables[name].evidence for name in _KEYS if environment.get(name) is not None]
        if keys:
            yield Observation(Verdict.SATISFIED, environment.subject, "has a key to verify tokens with", tuple(keys))
        elif environment.is_complete and environment.node.kind:
            evidence = (Evidence(environment.node.place.source, _KEYS[0], None, environment.node.place.document),)
            yield Observation(Verdict.VIOLATED, environment.subject, "has no key to verify tokens with", evidence)


def _hidden(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for environment in environments(snapshot):
        for name in _SECRETS:
            variable = environment.get(name)
            if variable is not None and variable.value and environment.node.kind:
                message = f"{name} stands in the clear"
                yield Observation(Verdict.VIOLATED, environment.subject, message, (variable.evidence,))


def _tried(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    trials = snapshot.tokens
    if isinstance(trials, Unseen):
        yield unknown("who gets in", trials)
        return
    for trial in trials:
        good = trial.kind is TokenKind.GOOD
        what = "no token" if trial.kind is TokenKind.NONE else f"a token ({trial.kind.value})"
        message = f"{trial.purpose} with {what}: {'accepted' if trial.accepted else 'refused'}, {trial.answer}"
        evidence = (Evidence(trial.source, f"{trial.purpose}, {trial.kind.value}", trial.answer, at=trial.at),)
        yield Observation(verdict(trial.accepted is good), "", message, evidence)
    tried = {trial.kind for trial in trials if trial.purpose == "connect"}
    for kind in TokenKind:
        if kind not in tried:
            yield Observation(Verdict.UNKNOWN, "", f"connect was not tried: {kind.value}")


ITEMS = (
    Item(
        number=9,
        id="security.authentication",
        category=Category.SECURITY,
        title="WebSocket authentication working",
        knows=(
            "A key to verify tokens with, no anonymous connections; connects without a token, with garbage, an expired "
            "token and one signed with a wrong key are refused, and a good one is accepted."
        ),
        needs=frozenset({"objects", "tokens"}),
        depends_on=("security.tls",),
        passes_from=Depth.PROBE,
        rules=(
            Rule(
                "required",
                Depth.OFFLINE,
                Severity.FATAL,
                "a connection takes a token",
                "Set SLACKWATER_MODE=production and WS_ANONYMOUS=false (chart: settings.anonymous=false), and hand a "
                "TOKEN_HMAC_SECRET or public key in from a Secret (chart: existingSecret).",
                _required,
            ),
            Rule(
                "secrets",
                Depth.OFFLINE,
                Severity.WARNING,
                "no key stands in the clear",
                "Move it into a Secret: `kubectl --namespace {namespace} create secret generic slackwater-keys "
                '--from-literal=TOKEN_HMAC_SECRET="$(openssl rand -hex 32)"`, and name that with valueFrom.',
                _hidden,
            ),
            Rule(
                "tried",
                Depth.PROBE,
                Severity.FATAL,
                "a good token is accepted, every other refused",
                "Compare the key with the one that your back end signs with; `kubectl --namespace {namespace} get "
                "secret`, then `kubectl --namespace {namespace} rollout restart deployment/{workload}` after a change.",
                _tried,
            ),
        ),
    ),
)
