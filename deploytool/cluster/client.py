"""Requests to the API server, as raw dictionaries.

Every request has a limit of time and of size, and all of them together have a budget: a server that hangs costs a
known time once, not once a question. Nothing is discovered and nothing is kept on disk: paths are fixed.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from deploytool.clock import SystemClock
from deploytool.cluster import kubeconfig
from deploytool.cluster.answers import explain, seconds_to_wait
from deploytool.cluster.errors import AnswerError, NotServedError, UnreachableError
from deploytool.cluster.failures import failure
from deploytool.cluster.resources import SELF_SUBJECT_REVIEWS, SERVICES, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deploytool.clock import Clock
    from deploytool.cluster.answers import Question
    from deploytool.cluster.errors import ClusterError

__all__ = ("FIELD_MANAGER", "Cluster", "Identity", "Limits", "Listing", "RawAnswer")

FIELD_MANAGER: Final = "deploytool"
"""Under which our own writes appear in ``managedFields``."""

_SUCCESS: Final = range(200, 300)
_REFUSED: Final = 400
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 5.0
_CHUNK_BYTES: Final = 1 << 16


class _Applied(dict[str, Any]):
    """An object for a server-side apply."""


_PATCH_TYPES: Final = {
    dict: "application/merge-patch+json",
    list: "application/json-patch+json",
    _Applied: "application/apply-patch+yaml",
}


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
        pause: Waits for a time in seconds, when the API server is too busy.
        kubeconfig: Files, as ``KUBECONFIG`` names them; empty for the account of a pod.
        context: Of the kubeconfig; stays what it was when its files name another one later.
        ahead_seconds: By how much our wall clock is ahead of the API server's, less than 0 when it is behind, as of the
            last answer, and exact to a second and the time that answer took; None while it has not told the time.
    """

    pool: Any
    config: Any
    namespace: str
    clock: Clock = field(default_factory=SystemClock)
    limits: Limits = field(default_factory=Limits)
    calls: int = 0
    pause: Callable[[float], None] = field(default_factory=lambda: _wait)
    kubeconfig: str = ""
    context: str = ""
    ahead_seconds: float | None = None
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
        pause: Callable[[float], None] | None = None,
    ) -> Iterator[Cluster]:
        """Read the configuration and open a client; nothing is sent yet.

        Args:
            kubeconfig_path: Empty for ``KUBECONFIG``, then ``~/.kube/config``, then the account of the pod we are in.
            context: Empty for the current one.
            namespace: Empty for that of the context.
            clock: None for the system's.
            limits: None for the defaults.
            pause: Waits for a time in seconds; None for the system's.

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
                pause=pause or _wait,
                kubeconfig=loaded.files,
                context=loaded.context,
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

    def try_to_apply(
        self, resource: Resource, body: Mapping[str, Any], *, manager: str, is_forced: bool = False
    ) -> dict[str, Any]:
        """Ask, as a dry run, what a server-side apply by a field manager would make of an object; returns it.

        Raises:
            ConflictError: Others own some of the fields; its owners say whose. Never when it is forced.
        """
        query = {"fieldManager": manager, "force": "true" if is_forced else "false", "dryRun": "All"}
        name = str(body["metadata"]["name"])
        return self._object("patch", resource, name, "", query=query, body=_Applied(body))

    def delete(self, resource: Resource, name: str, *, uid: str = "") -> None:
        """Delete an object; with a uid, only if it is still that one."""
        body = {"preconditions": {"uid": uid}} if uid else {}
        self._object("delete", resource, name, "", body={"apiVersion": "v1", "kind": "DeleteOptions", **body})

    def serves(self, group: str) -> bool:
        """Tell whether the cluster has a group of APIs; whoever is authenticated may ask."""
        answer = self._send("GET", f"/apis/{group}", headers={"Accept": "application/json"}, body=b"")
        return answer.status != _NOT_FOUND

    def kinds(self, api_version: str) -> dict[str, Resource]:
        """Return what a version of a group has, by kind; empty where the cluster has no such version."""
        group, _, version = api_version.rpartition("/")
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        answer = self._send("GET", path, headers={"Accept": "application/json"}, body=b"")
        if answer.status == _NOT_FOUND:
            return {}
        try:
            found = json.loads(answer.body)["resources"]
            return {
                str(one["kind"]): Resource(group, version, str(one["name"]), str(one["kind"]), bool(one["namespaced"]))
                for one in found
                if "/" not in one["name"]
            }
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise AnswerError(f"{self.host} did not say what {api_version} has: status {answer.status}") from error

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
            raise self._error(self._question(verb, SERVICES, service, "proxy"), answer)
        return answer

    def text(self, path: str) -> str:
        """Return what is no object but text, such as a log.

        Args:
            path: From the slash on, with its query.

        Raises:
            ClusterError: It cannot be had.
        """
        answer = self._send("GET", path, headers={"Accept": "*/*"}, body=b"")
        if answer.status not in _SUCCESS:
            raise AnswerError(f"{self.host} answered {answer.status} when asked for {path.partition('?')[0]}")
        return answer.body.decode(errors="replace")

    def _error(self, question: Question, answer: RawAnswer) -> ClusterError:
        return explain(question, answer.status, answer.body, retry_after=answer.headers.get("retry-after", ""))

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
        # Of its own answers alone: what it passes on has the time of whoever answered.
        if (told_at := _date_of(answer)) is not None:
            self.ahead_seconds = self.clock.wall() - told_at
        if answer.status not in _SUCCESS:
            raise self._error(self._question(verb, resource, name, subresource), answer)
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
            said = seconds_to_wait(answer.headers.get("retry-after", ""))
            self.pause(min(said, _LONGEST_PAUSE_SECONDS) or _PAUSE_SECONDS)
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


def _date_of(answer: RawAnswer) -> float | None:
    """Return when an answer was given, by the clock of who gave it; None when it does not say.

    Source: RFC 9110 section 6.6.1.
    """
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _write_query(*, dry_run: bool) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})


def _is_status(body: bytes) -> bool:
    """Tell whether an answer is the API server's own, and not that of the Service behind it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("kind") == "Status" and found.get("apiVersion") == "v1"
