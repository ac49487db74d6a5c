"""What the API server means by an answer that is not the one asked for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from deploytool.cluster.errors import (
    AnswerError,
    ClusterError,
    ConflictError,
    CredentialsError,
    ForbiddenError,
    MissingError,
    NotServedError,
    RefusedError,
)

if TYPE_CHECKING:
    from deploytool.cluster.resources import Resource

__all__ = ("Question", "explain", "seconds_to_wait")

_USER: Final = re.compile(r'User "([^"]+)" cannot ')
_POLICY: Final = re.compile(r"ValidatingAdmissionPolicy '([^']+)' with binding '[^']*' denied request: (.*)", re.DOTALL)
_WEBHOOK: Final = re.compile(r"admission webhook .* denied the request")
_MANAGER: Final = re.compile(r'conflict with "([^"]*)"')
_SHOWN_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of whom."""

    host: str
    verb: str
    resource: Resource
    name: str
    subresource: str
    namespace: str


def explain(question: Question, status: int, body: bytes, *, retry_after: str = "") -> ClusterError:
    """Return the error that an answer stands for.

    Args:
        retry_after: Header of this name; empty for none.
    """
    said = _status_of(body)
    error = _meaning(question, status, said)
    error.retry_seconds = seconds_to_wait(retry_after) or _seconds_of(said)
    return error


def seconds_to_wait(retry_after: str) -> float:
    """Return what a ``Retry-After`` says; 0 for nothing, and for a date, which no API server sends."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0


def _seconds_of(said: dict[str, Any]) -> float:
    details = said.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    return float(seconds) if isinstance(seconds, int) and seconds > 0 else 0.0


def _meaning(question: Question, status: int, said: dict[str, Any]) -> ClusterError:  # noqa: PLR0911 - a table
    message = _line(str(said.get("message") or ""))
    match status:
        case 401:
            return CredentialsError(
                f"{question.host} does not accept the credentials of the kubeconfig: they have expired or are wrong",
                "Log in to the cluster again, and try kubectl auth whoami.",
            )
        case 403:
            return _forbidden(question, message)
        case 404:
            return _absent(question, said)
        case 409:
            problem = message or f"{question.resource.kind} {question.name} was changed meanwhile"
            return ConflictError(problem, owners=_owners(said))
        case 422 | 400:
            return _refused(message) or RefusedError(message or "the API server takes it for invalid")
        case 503 if question.subresource == "proxy":
            return AnswerError(
                f"nobody answers behind Service {question.name.partition(':')[0]} in {question.namespace}: {message}",
                f"Look at its pods: kubectl --namespace {question.namespace} get pods",
            )
    shown = f": {message}" if message else ""
    return AnswerError(f"{question.host} answered {status} when asked to {question.verb} {_subject(question)}{shown}")


def _subject(question: Question) -> str:
    resource = question.resource.plural + (f"/{question.subresource}" if question.subresource else "")
    return f"{resource} {question.name}".rstrip()


def _forbidden(question: Question, message: str) -> ClusterError:
    """Tell RBAC from admission: both answer 403, and only the latter has let us as far as the object."""
    if refused := _refused(message):
        return refused
    who = _USER.search(message)
    resource = question.resource.plural + (f"/{question.subresource}" if question.subresource else "")
    return ForbiddenError(
        verb=question.verb,
        group=question.resource.group,
        resource=resource,
        name=question.name,
        namespace=question.namespace,
        user=_line(who[1]) if who else "",
    )


def _refused(message: str) -> RefusedError | None:
    if found := _POLICY.search(message):
        return RefusedError(found[2], policy=found[1], is_by_admission=True)
    if _WEBHOOK.search(message):
        return RefusedError(message, is_by_admission=True)
    return None


def _absent(question: Question, said: dict[str, Any]) -> ClusterError:
    # A server that has the kind says which object it misses; one that has not knows no name.
    is_object = bool((said.get("details") or {}).get("name")) or (question.name and said.get("reason") == "NotFound")
    if is_object:
        where = f" in namespace {question.namespace}" if question.namespace else ""
        return MissingError(f"there is no {question.resource.kind} {question.name.partition(':')[0]}{where}")
    return NotServedError(f"this cluster has no {question.resource.kind} ({question.resource.api_version})")


def _owners(said: dict[str, Any]) -> dict[str, list[str]]:
    """Return the fields that belong to others, by field manager."""
    found: dict[str, list[str]] = {}
    details = said.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else ():
        if not isinstance(cause, dict) or cause.get("reason") != "FieldManagerConflict":
            continue
        manager = _MANAGER.match(str(cause.get("message") or ""))
        found.setdefault(_line(manager[1] if manager else "somebody"), []).append(_line(str(cause.get("field") or "")))
    return found


def _status_of(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def _line(text: str) -> str:
    """Return the text as one printable line: it comes from the other end."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
