"""The admin contract of docs/reference/admin-api.openapi.yaml, as its client.

Knows neither Kubernetes nor what it is asked for. How a request gets there is the business of a `Transport`: an address
over HTTP, or whatever else carries a method, a path and a body.

::

    UnverifiedError
    └── ServiceError           could not verify; ends with 5
        ├── KeyMissingError    nobody gave us an admin key; ends with 2
        ├── KeyRefusedError    401
        ├── PhaseError         409: the phase does not allow it
        ├── SilentError        nobody answers, or not in time
        └── GarbageError       what answers does not keep the contract
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from typing_extensions import override

from deploytool.errors import UnverifiedError
from deploytool.model.observations import Database, DatabaseServer, Pool, Scrape, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytool.clock import Clock

__all__ = (
    "AdminApi",
    "Answer",
    "GarbageError",
    "HttpTransport",
    "KeyMissingError",
    "KeyRefusedError",
    "PhaseError",
    "ProbeTokens",
    "ServiceError",
    "SilentError",
    "TokenPair",
    "Transport",
    "parse_metrics",
    "parse_status",
)

_KEY_HEADER: Final = "X-Admin-Key"
_MOST_BYTES: Final = 8 << 20
_SECONDS: Final = 10.0
_OK: Final = 200
_LOCKS: Final = frozenset({"local", "file", "database"})


class ServiceError(UnverifiedError):
    """The service could not be asked."""


class KeyMissingError(ServiceError):
    """There is no admin key to send."""

    exit_code = 2


class KeyRefusedError(ServiceError):
    """The admin key is wrong."""


class PhaseError(ServiceError):
    """The service is in a phase that does not allow it."""


class SilentError(ServiceError):
    """The service does not answer."""


class GarbageError(ServiceError):
    """What answers does not keep the contract."""


class Answer(Protocol):
    """An answer as it came."""

    @property
    def status(self) -> int:
        """Of HTTP."""
        ...

    @property
    def body(self) -> bytes:
        """Whole."""
        ...


class _HttpAnswer(NamedTuple):
    status: int
    body: bytes


class Transport(Protocol):
    """Carries requests to the admin socket."""

    @property
    def source(self) -> str:
        """Where they go, for people, such as an address."""
        ...

    def send(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send one request and return the answer, whatever its status.

        Raises:
            DeploytoolError: No answer came in time.
        """
        ...


class HttpTransport(Transport):
    """Over HTTP to an address, directly: proxies of the environment are not asked.

    Args:
        url: Of the admin socket, without a path.
        seconds: For one request.
        ca_file: More certificate authorities to believe, in PEM; empty for none.
    """

    def __init__(self, url: str, *, seconds: float = _SECONDS, ca_file: str = "") -> None:
        self._url = url.rstrip("/")
        self._seconds = seconds
        self._ca_file = ca_file

    @property
    @override
    def source(self) -> str:
        return self._url

    @override
    def send(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            import httpx  # noqa: PLC0415 - not needed for a cluster, and not there without the extra
        except ImportError as error:
            raise ServiceError(
                "asking a service needs the package httpx, and it is not installed",
                "Install it: pip install 'slackwater[deploytool]'",
            ) from error
        try:
            with httpx.Client(timeout=self._seconds, trust_env=False, verify=_tls(self._ca_file)) as client:
                return self._exchange(client, method, path, headers=headers, body=body)
        except httpx.TimeoutException as error:
            raise SilentError(f"{self._url} did not answer within {self._seconds:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SilentError(f"{self._url} cannot be reached: {str(error) or type(error).__name__}") from error

    def _exchange(
        self,
        client: Any,  # noqa: ANN401 - httpx is not there without the extra
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        with client.stream(method, self._url + path, headers=dict(headers), content=body or None) as answer:
            pieces, size = [], 0
            for piece in answer.iter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > _MOST_BYTES:
                    raise GarbageError(f"{self._url} answered with more than {_MOST_BYTES} bytes")
            return _HttpAnswer(answer.status_code, b"".join(pieces))


def _tls(ca_file: str) -> Any:  # noqa: ANN401 - bool or a context
    import ssl  # noqa: PLC0415 - with httpx alone

    if not ca_file:
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(ca_file)
    return context


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Tokens for one connection and one subscription; secret, hence not shown."""

    connection: str
    subscription: str

    @override
    def __repr__(self) -> str:
        return "TokenPair(...)"


@dataclass(frozen=True, slots=True)
class ProbeTokens:
    """Tokens of one made-up user, for the one channel of that user."""

    user: str
    channel: str
    valid: TokenPair
    expired: TokenPair
    wrong_signature: TokenPair


class AdminApi:
    """The operations of the contract.

    Args:
        transport: Carries the requests.
        key: Of the admin API; empty where there is none, which is enough for metrics alone.
        clock: Says when something was seen.
    """

    def __init__(self, transport: Transport, key: str, clock: Clock) -> None:
        self._transport = transport
        self._key = key
        self._clock = clock

    def status(self) -> Status:
        """Return what runs and in which state."""
        body = self._ask("GET", "/api/admin/status")
        return parse_status(body, self._source("GET", "/api/admin/status"), self._clock.wall())

    def metrics(self) -> Scrape:
        """Return the metrics, each summed over its labels."""
        answer = self._transport.send("GET", "/metrics", headers={}, body=b"")
        source = self._source("GET", "/metrics")
        if answer.status != _OK:
            raise GarbageError(f"{source} answered {answer.status}", "Metrics are on the admin socket alone.")
        return Scrape(source, self._clock.wall(), parse_metrics(answer.body, source))

    def probe_tokens(self, ttl_seconds: float = 300.0) -> ProbeTokens:
        """Have tokens made for one probe."""
        found = self._object("POST", "/api/admin/probe-tokens", {"ttl_seconds": ttl_seconds})
        try:
            return ProbeTokens(
                user=_text(found, "user"),
                channel=_text(found, "channel"),
                valid=_pair(found, "valid"),
                expired=_pair(found, "expired"),
                wrong_signature=_pair(found, "wrong_signature"),
            )
        except (KeyError, TypeError) as error:
            raise self._garbage("POST", "/api/admin/probe-tokens", error) from error

    def announce(self, body: Mapping[str, Any]) -> Status:
        """Tell every client, or renew what they were told."""
        return self._change("POST", "/api/admin/announce", body)

    def withdraw(self) -> Status:
        """Tell every client that it is cancelled."""
        return self._change("DELETE", "/api/admin/announce")

    def gate(self, body: Mapping[str, Any]) -> Status:
        """Refuse new WebSockets, or go on refusing them."""
        return self._change("POST", "/api/admin/gate", body)

    def ungate(self) -> Status:
        """Let new WebSockets in again."""
        return self._change("DELETE", "/api/admin/gate")

    def drain(self, body: Mapping[str, Any]) -> Status:
        """Close all WebSockets, or go on closing them."""
        return self._change("POST", "/api/admin/drain", body)

    def undrain(self) -> Status:
        """Stop closing, and let everybody in again."""
        return self._change("DELETE", "/api/admin/drain")

    def _change(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Status:
        return parse_status(self._ask(method, path, body), self._source(method, path), self._clock.wall())

    def _object(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            found = json.loads(self._ask(method, path, body))
        except (ValueError, RecursionError) as error:
            raise self._garbage(method, path, error) from error
        if not isinstance(found, dict):
            raise self._garbage(method, path, None)
        return found

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        if not self._key:
            raise KeyMissingError(
                "the admin API needs its key, and none was given",
                "Give --admin-key-file FILE, or set SLACKWATER_ADMIN_KEY.",
            )
        content = b"" if body is None else json.dumps(body).encode()
        headers = {_KEY_HEADER: self._key, "Accept": "application/json", "Content-Type": "application/json"}
        answer = self._transport.send(method, path, headers=headers, body=content)
        if answer.status == _OK:
            return answer.body
        raise self._refusal(method, path, answer)

    def _refusal(self, method: str, path: str, answer: Answer) -> ServiceError:
        source, detail = self._source(method, path), _detail(answer.body)
        match answer.status:
            case 401:
                return KeyRefusedError(
                    f"{source} does not accept the admin key: {detail or 'wrong key'}",
                    "Give the ADMIN_KEY that the running process has; a changed Secret takes a restart.",
                )
            case 409:
                return PhaseError(detail or f"{source} answered 409")
            case 502 | 503 | 504:
                return SilentError(f"{source} answered {answer.status}{f': {detail}' if detail else ''}")
        said = f": {detail}" if detail else ""
        return GarbageError(
            f"{source} answered {answer.status}{said}", "Look whether this is the admin port of the service."
        )

    def _garbage(self, method: str, path: str, error: BaseException | None) -> GarbageError:
        return _garbage(self._source(method, path), error)

    def _source(self, method: str, path: str) -> str:
        return f"{method} {self._transport.source}{path}"


def parse_status(body: bytes, source: str, at: float) -> Status:
    """Return what an answer of ``GET /api/admin/status`` says.

    Args:
        body: JSON.
        source: Where it comes from.
        at: When it came, in unix seconds.

    Raises:
        GarbageError: It is no status. Fields that we do not know are no fault.
    """
    try:
        found = json.loads(body)
        connections, lock = found["connections"], found["lock"]
        return Status(
            source=source,
            at=at,
            instance=_some_text(found, "instance"),
            phase=_text(found["phase"], "name"),
            connections=_count(connections, "total"),
            probe_connections=_count(connections, "probe"),
            limits={str(name): _number(found["limits"], name) for name, _ in found["limits"].items()},
            lock=_one_of(lock, "kind", _LOCKS),
            lock_held=lock["held"] is True,
            image_digest=_text_or_null(found, "image_digest"),
            version=_text(found, "version"),
            database=_database(found.get("database")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _garbage(source, error) from error


def _database(found: Any) -> Database | None:  # noqa: ANN401 - JSON
    if found is None:
        return None
    pool, server = found.get("pool"), found.get("server")
    return Database(
        kind=_text(found, "kind"),
        degraded="" if found.get("degraded") is None else _text(found, "degraded"),
        pool=None if pool is None else Pool(*(_count(pool, name) for name in ("size", "overflow", "in_use", "peak"))),
        server=None
        if server is None
        else DatabaseServer(*(_count(server, name) for name in ("max_connections", "reserved", "in_use"))),
        # Came later than the rest.
        code_level=_count(found, "code_level") if "code_level" in found else None,
    )


def parse_metrics(body: bytes, source: str) -> dict[str, float]:
    """Return the sum over the labels of each metric, by its name.

    Raises:
        GarbageError: It is not the text format of Prometheus.
    """
    samples: dict[str, float] = {}
    try:
        for line in body.decode().splitlines():
            if line.startswith("#") or not line.strip():
                continue
            # Labels may hold spaces and braces; what follows them is the value, and maybe a time.
            name, _, rest = line.partition("{") if "{" in line.partition(" ")[0] else line.partition(" ")
            value = rest.rpartition("}")[2].split()[0]
            samples[name] = samples.get(name, 0.0) + float(value)
    except (ValueError, IndexError) as error:
        raise GarbageError(f"{source} answered with something that are no metrics") from error
    if not samples:
        raise GarbageError(f"{source} answered without a single metric")
    return samples


def _garbage(source: str, error: BaseException | None) -> GarbageError:
    hint = f" ({type(error).__name__}: {_printable(str(error))})" if error is not None else ""
    return GarbageError(
        f"{source} answered with something that does not keep the admin contract{hint}",
        "Look whether this is the admin port of the service, and of the same version.",
    )


def _detail(body: bytes) -> str:
    """Return what a problem of RFC 9457 says; empty when it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return _printable(str(found.get("detail") or "")) if isinstance(found, dict) else ""


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:300]


def _text(found: Any, name: str) -> str:  # noqa: ANN401 - JSON
    if not isinstance(found[name], str):
        raise TypeError(name)
    return str(found[name])


def _some_text(found: Any, name: str) -> str:  # noqa: ANN401 - JSON
    if not _text(found, name):
        raise ValueError(f"{name} is empty")
    return str(found[name])


def _text_or_null(found: Any, name: str) -> str:  # noqa: ANN401 - JSON
    return "" if found[name] is None else _text(found, name)


def _one_of(found: Any, name: str, known: frozenset[str]) -> str:  # noqa: ANN401 - JSON
    if _text(found, name) not in known:
        raise ValueError(f"{name} is {found[name]}")
    return str(found[name])


def _number(found: Any, name: str) -> float:  # noqa: ANN401 - JSON
    value = found[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(name)
    return value


def _count(found: Any, name: str) -> int:  # noqa: ANN401 - JSON
    value = found[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(name)
    return value


def _pair(found: Any, name: str) -> TokenPair:  # noqa: ANN401 - JSON
    return TokenPair(_text(found[name], "connection"), _text(found[name], "subscription"))
