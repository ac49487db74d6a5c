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

__all__ = ("Question", "explain")

_USER: Final = re.compile(r'User "([^"]+)" cannot ')
_POLICY: Final = re.compile(r"ValidatingAdmissionPolicy '([^']+)' with binding '[^']*' denied request: (.*)", re.DOTALL)
_WEBHOOK: Final = re.compile(r"admission webhook .* denied the request")
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


def explain(question: Question, status: int, body: bytes) -> ClusterError:  # noqa: PLR0911 - a table
    """Return the error that an answer stands for."""
    said = _status_of(body)
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
            return ConflictError(message or f"{question.resource.kind} {question.name} was changed meanwhile")
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
