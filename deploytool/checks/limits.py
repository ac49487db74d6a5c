"""Who sends too much is refused, and may go on afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.checks.observing import unknown, verdict
from deploytool.checks.workloads import environments
from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.expectations import Expectations
    from deploytool.model.snapshot import Snapshot

__all__ = ("ITEMS",)

_MESSAGES = "WS_MESSAGES_PER_MINUTE"
_COMMANDS = "WS_COMMANDS_PER_MINUTE"
_RATE_LIMITED = frozenset({111, 3013})


def _on(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    for environment in environments(snapshot):
        off = [
            name for name in (_MESSAGES, _COMMANDS) if (one := environment.get(name)) is not None and one.value == "0"
        ]
        evidence = tuple(environment.variables[name].evidence for name in off)
        for name in off:
            yield Observation(Verdict.VIOLATED, environment.subject, f"{name}=0 switches the limit off", evidence)
        if not off:
            messages = environment.get(_MESSAGES)
            shown = "left at its default" if messages is None else messages.value or f"from {messages.origin}"
            known = (messages.evidence,) if messages is not None else ()
            yield Observation(Verdict.SATISFIED, environment.subject, f"{_MESSAGES} is {shown}", known)


def _in_force(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    status = snapshot.status
    if isinstance(status, Unseen):
        yield unknown("which limits are in force", status)
        return
    limit = status.limits.get("messages_per_minute", 0)
    evidence = (Evidence(status.source, "limits.messages_per_minute", limit, at=status.at),)
    message = f"{limit:g} messages a minute" if limit else "the service limits no messages"
    yield Observation(verdict(limit > 0), "", message, evidence)


def _refused(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    trial = snapshot.rate
    if isinstance(trial, Unseen):
        yield unknown("whether a burst is refused", trial)
        return
    evidence = (Evidence(trial.source, f"burst of {trial.sent}", trial.refusal or trial.answer, at=trial.at),)
    if trial.refusal is None:
        yield Observation(Verdict.VIOLATED, "", f"{trial.sent} messages at once, and none was refused", evidence)
    elif trial.refusal not in _RATE_LIMITED:
        message = f"message {trial.sent} of a burst was refused with {trial.refusal}, not with 111 or 3013"
        yield Observation(Verdict.VIOLATED, "", message, evidence)
    elif trial.recovered is None:
        yield Observation(Verdict.UNKNOWN, "", "whether messages are accepted again was not tried", evidence)
    elif not trial.recovered:
        yield Observation(Verdict.VIOLATED, "", "no message was accepted any more after the refusal", evidence)
    else:
        message = f"message {trial.sent} of a burst was refused with {trial.refusal}; later ones were accepted again"
        yield Observation(Verdict.SATISFIED, "", message, evidence)


_SET = (
    "Set WS_MESSAGES_PER_MINUTE=100: `helm upgrade {release} helm/slackwater --namespace {namespace} --reuse-values "
    "--set settings.messagesPerMinute=100`."
)

ITEMS = (
    Item(
        number=10,
        id="security.rate-limits",
        category=Category.SECURITY,
        title="rate limiting configured",
        knows="The limits as they are set and in force; a bounded burst is refused with 111 or 3013, and recovers.",
        needs=frozenset({"objects", "status", "rate"}),
        depends_on=("security.authentication", "security.tls"),
        rules=(
            Rule("configured", Depth.OFFLINE, Severity.ERROR, "no rate limit is switched off", _SET, _on),
            Rule("in-force", Depth.LIVE, Severity.ERROR, "the service limits messages", _SET, _in_force),
            Rule("refused", Depth.PROBE, Severity.ERROR, "a burst is refused, and recovers", _SET, _refused),
        ),
    ),
)
