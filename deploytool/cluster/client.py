"""Requests to the API server, as raw dictionaries.

Every request has a limit of time and of size, and all of them together have a budget: a server that hangs costs a
known time once, not once a question. Nothing is discovered and nothing is kept on disk: paths are fixed.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from deploytool.clock import SystemClock
from deploytool.cluster import kubeconfig
from deploytool.cluster.answers import explain
from deploytool.cluster.errors import AnswerError, NotServedError, UnreachableError
from deploytool.cluster.failures import failure
from deploytool.cluster.resources import SELF_SUBJECT_REVIEWS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deploytool.clock import Clock
    from deploytool.cluster.answers import Question
    from deploytool.cluster.resources import Resource

__all__ = ("FIELD_MANAGER", "Cluster", "Identity", "Limits", "Listing", "RawAnswer")

FIELD_MANAGER: Final = "deploytool"
"""Under which our own writes appear in ``managedFields``."""

_SUCCESS: Final = range(200, 300)
_REFUSED: Final = 400
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 5.0
_CHUNK_BYTES: Final = 1 << 16
_PATCH_TYPES: Final = {dict: "application/merge-patch+json", list: "application/json-patch+json"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What we allow ourselves and the API server."""

    request_seconds: float = 10.0
    """For one request, from its beginning to the last byte of the answer."""
    total_seconds: float = 60.0
    """Spent waiting for all requests of one `Cluster` together; those after it fail at once."""
    answer_bytes: int = 32 << 20
    """For the body of one answer."""
    page_items: int = 500
    """Objects asked for at once."""
    pages: int = 4
    """Of one list; what lies beyond is not looked at, and the listing says so."""


class RawAnswer(NamedTuple):
    """An answer as it came; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects of one kind.

    Attributes:
        is_complete: False when there were more than we read.
    """

    items: tuple[dict[str, Any], ...]
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are, in the API server's own words."""

    username: str
    groups: tuple[str, ...] = ()


@dataclass(slots=True)
class Cluster:
    """An API server and the namespace to work in.

    Attributes:
        namespace: Taken for every kind that has one.
        calls: Requests sent so far.
    """

    pool: Any
    config: Any
    namespace: str
    clock: Clock = field(default_factory=SystemClock)
    limits: Limits = field(default_factory=Limits)
    calls: int = 0
    _waited_seconds: float = 0.0

    @classmethod
    @contextmanager
    def connect(
        cls,
        *,
        kubeconfig_path: str = "",
        context: str = "",
        namespace: str = "",
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> Iterator[Cluster]:
        """Read the configuration and open a client; nothing is sent yet.

        Args:
            kubeconfig_path: Empty for ``KUBECONFIG``, then ``~/.kube/config``, then the account of the pod we are in.
            context: Empty for the current one.
            namespace: Empty for that of the context.
            clock: None for the system's.
            limits: None for the defaults.

        Raises:
            ClientMissingError: The official client is not installed.
            KubeconfigError: There is no usable configuration.
        """
        loaded = kubeconfig.load(kubeconfig_path, context)
        pool = kubeconfig.pool(loaded.configuration)
        try:
            yield cls(
                pool=pool,
                config=loaded.configuration,
                namespace=namespace or loaded.namespace,
                clock=clock or SystemClock(),
                limits=limits or Limits(),
            )
        finally:
            pool.clear()

    @property
    def host(self) -> str:
        """Address of the API server."""
        return str(self.config.host)

    def get(self, resource: Resource, name: str, subresource: str = "") -> dict[str, Any]:
        """Return one object."""
        return self._object("get", resource, name, subresource)

    def all(self, resource: Resource, *, labels: str = "") -> Listing:
        """Return the objects that a label selector selects; all for an empty one.

        Raises:
            NotServedError: The cluster has no such kind.
        """
        query = {"limit": str(self.limits.page_items)} | ({"labelSelector": labels} if labels else {})
        items: list[dict[str, Any]] = []
        for _ in range(self.limits.pages):
            page = self._object("list", resource, "", "", query=query)
            found = page.get("items") or []
            if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
                raise AnswerError(f"the list of {resource.plural} that {self.host} answered is none")
            # Items of a list do not say their kind.
            items += [{"apiVersion": resource.api_version, "kind": resource.kind, **one} for one in found]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return Listing(tuple(items))
            query["continue"] = token
        return Listing(tuple(items), is_complete=False)

    def create(self, resource: Resource, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Make an object, or ask whether it could be made; returns it as it is stored."""
        return self._object("create", resource, "", "", query=_write_query(dry_run=dry_run), body=body)

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | list[Any],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Change an object by a merge patch (a mapping) or a JSON patch (a list); returns it as it is then."""
        query = _write_query(dry_run=dry_run)
        return self._object("patch", resource, name, subresource, query=query, body=patch)

    def delete(self, resource: Resource, name: str, *, uid: str = "") -> None:
        """Delete an object; with a uid, only if it is still that one."""
        body = {"preconditions": {"uid": uid}} if uid else {}
        self._object("delete", resource, name, "", body={"apiVersion": "v1", "kind": "DeleteOptions", **body})

    def serves(self, group: str) -> bool:
        """Tell whether the cluster has a group of APIs; whoever is authenticated may ask."""
        answer = self._send("GET", f"/apis/{group}", headers={"Accept": "application/json"}, body=b"")
        return answer.status != _NOT_FOUND

    def identity(self) -> Identity:
        """Ask the API server who we are."""
        body = {"apiVersion": SELF_SUBJECT_REVIEWS.api_version, "kind": SELF_SUBJECT_REVIEWS.kind}
        try:
            answer = self._object("create", SELF_SUBJECT_REVIEWS, "", "", body=body)
        except NotServedError as error:
            raise NotServedError(
                "this cluster cannot say who we are: it has no SelfSubjectReview", "It came with Kubernetes 1.28."
            ) from error
        user = (answer.get("status") or {}).get("userInfo") or {}
        if not user.get("username"):
            raise AnswerError(f"{self.host} did not say who we are")
        return Identity(str(user["username"]), tuple(str(group) for group in user.get("groups") or ()))

    def proxy(
        self, service: str, method: str, path: str, *, headers: Mapping[str, str], body: bytes = b""
    ) -> RawAnswer:
        """Send a request to a Service by way of the API server, and return what it answered, whatever its status.

        Args:
            service: Name and port, joined by a colon.
            path: From the slash on.

        Raises:
            ClusterError: The API server itself refused, or found nobody behind the Service.
        """
        verb = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]
        answer = self._send(method, SERVICES.path(self.namespace, service, "proxy") + path, headers=headers, body=body)
        if answer.status >= _REFUSED and _is_status(answer.body):
            raise explain(self._question(verb, SERVICES, service, "proxy"), answer.status, answer.body)
        return answer

    def _question(self, verb: str, resource: Resource, name: str, subresource: str) -> Question:
        from deploytool.cluster.answers import Question  # noqa: PLC0415 - for its value, not for its type

        return Question(self.host, verb, resource, name, subresource, self.namespace if resource.is_namespaced else "")

    def _object(
        self,
        verb: str,
        resource: Resource,
        name: str,
        subresource: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | list[Any] | None = None,
    ) -> dict[str, Any]:
        method = {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}[verb]
        path = resource.path(self.namespace, name, subresource)
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = _PATCH_TYPES[type(body)] if verb == "patch" else "application/json"
        content = b"" if body is None else json.dumps(body).encode()
        answer = self._send(method, f"{path}?{urlencode(query)}" if query else path, headers=headers, body=content)
        if answer.status not in _SUCCESS:
            raise explain(self._question(verb, resource, name, subresource), answer.status, answer.body)
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise AnswerError(
                f"{self.host} answered {method} {path} with something that is no object of Kubernetes",
                "Look whether this is the address of an API server, or of something in front of it.",
            )
        return found

    def _send(self, method: str, target: str, *, headers: Mapping[str, str], body: bytes) -> RawAnswer:
        answer = self._exchange(method, target, headers=headers, body=body)
        if answer.status == _TOO_MANY:
            # Nothing was done; a busy API server says when to come back. Once, so that calls stay bounded.
            threading.Event().wait(_pause_seconds(answer))
            answer = self._exchange(method, target, headers=headers, body=body)
        return answer

    def _exchange(self, method: str, target: str, *, headers: Mapping[str, str], body: bytes) -> RawAnswer:
        import urllib3  # noqa: PLC0415 - comes with the official client

        seconds = self._seconds_left()
        self.calls += 1
        began = self.clock.now()
        try:
            response = self.pool.request(
                method,
                self.host.rstrip("/") + target,
                body=body or None,
                headers={**headers, **kubeconfig.credentials(self.config), "User-Agent": FIELD_MANAGER},
                timeout=urllib3.Timeout(total=seconds),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            content = self._read(response, began + seconds)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise failure(self.host, error, seconds) from error
        finally:
            self._waited_seconds += self.clock.now() - began
        return RawAnswer(response.status, {key.lower(): value for key, value in response.headers.items()}, content)

    def _seconds_left(self) -> float:
        left = min(self.limits.request_seconds, self.limits.total_seconds - self._waited_seconds)
        if left <= 0:
            raise UnreachableError(
                f"{self.host} has taken {self.limits.total_seconds:g} s in all, so we stopped asking"
            )
        return left

    def _read(self, response: Any, until: float) -> bytes:  # noqa: ANN401 - of urllib3
        """Read a body, and give up on one that is too long or drips."""
        pieces: list[bytes] = []
        size, is_late = 0, False
        try:
            for piece in response.stream(_CHUNK_BYTES):
                pieces.append(piece)
                size += len(piece)
                is_late = self.clock.now() > until
                if is_late or size > self.limits.answer_bytes:
                    break
        finally:
            # With something left to read it cannot be used again.
            response.close()
        if size > self.limits.answer_bytes:
            raise AnswerError(f"{self.host} answered with more than {self.limits.answer_bytes} bytes")
        if is_late:
            raise UnreachableError(f"{self.host} did not finish its answer in time")
        return b"".join(pieces)


def _pause_seconds(answer: RawAnswer) -> float:
    said = answer.headers.get("retry-after", "")
    return min(float(said), _LONGEST_PAUSE_SECONDS) if said.isdecimal() else _PAUSE_SECONDS


def _write_query(*, dry_run: bool) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})


def _is_status(body: bytes) -> bool:
    """Tell whether an answer is the API server's own, and not that of the Service behind it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("kind") == "Status" and found.get("apiVersion") == "v1"
