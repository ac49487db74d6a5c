from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from typing_extensions import override

from deploytool.clock import SystemClock
from deploytool.service_api import (
    AdminApi,
    GarbageError,
    HttpTransport,
    KeyMissingError,
    KeyRefusedError,
    PhaseError,
    ServiceError,
    SilentError,
    Transport,
    parse_metrics,
    parse_status,
)
from tests.support.edge import odd_server

_CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "admin-api.openapi.yaml"
_RESPONSE = yaml.safe_load(_CONTRACT.read_text())["components"]["responses"]["Status"]
_EXAMPLES: dict[str, dict[str, Any]] = {
    name: one["value"] for name, one in _RESPONSE["content"]["application/json"]["examples"].items()
}


class Sent(NamedTuple):
    """A request as it was sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Canned(NamedTuple):
    """An answer."""

    status: int
    body: bytes


class Script(Transport):
    """Answers as it was told to, and keeps what it was asked."""

    def __init__(self, *answers: Canned) -> None:
        self._answers = list(answers)
        self.sent: list[Sent] = []

    @property
    @override
    def source(self) -> str:
        return "script"

    @override
    def send(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes) -> Canned:
        self.sent.append(Sent(method, path, headers, body))
        return self._answers.pop(0)


def api(status: int, body: object, *, key: str = "k" * 32) -> tuple[AdminApi, Script]:
    """Return a client whose next answer is this one."""
    script = Script(Canned(status, body if isinstance(body, bytes) else json.dumps(body).encode()))
    return AdminApi(script, key, SystemClock()), script


@pytest.mark.parametrize("name", sorted(_EXAMPLES))
def test_examples_of_the_contract_are_understood(name: str) -> None:
    """What the contract shows is what a service may send."""
    example = _EXAMPLES[name]
    known, script = api(200, example)

    status = known.status()

    assert (example["instance"], example["phase"]["name"]) == (status.instance, status.phase)
    assert (example["connections"]["total"], example["connections"]["probe"]) == (
        status.connections,
        status.probe_connections,
    )
    assert example["limits"] == status.limits
    assert [("GET", "/api/admin/status")] == [(one.method, one.path) for one in script.sent]
    assert "k" * 32 == script.sent[0].headers["X-Admin-Key"]


def test_database_is_understood() -> None:
    """With its pool, and what the server says of itself."""
    database = {
        "kind": "postgres",
        "degraded": "the lock connection was lost",
        "pool": {"size": 5, "overflow": 2, "in_use": 1, "peak": 4},
        "server": {"max_connections": 100, "reserved": 3, "in_use": 9},
        "something new": 1,
    }
    known, _ = api(
        200, {**_EXAMPLES["serving"], "database": database, "lock": {"kind": "database", "held": True, "token": 3}}
    )

    status = known.status()

    assert status.database is not None
    assert status.database.pool is not None
    assert status.database.server is not None
    assert ("postgres", "the lock connection was lost") == (status.database.kind, status.database.degraded)
    assert (5, 2, 1, 4) == (
        status.database.pool.size,
        status.database.pool.overflow,
        status.database.pool.in_use,
        status.database.pool.peak,
    )
    assert (100, 3, 9) == (
        status.database.server.max_connections,
        status.database.server.reserved,
        status.database.server.in_use,
    )
    assert ("database", True) == (status.lock, status.lock_held)


def _without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda example: {name: value for name, value in example.items() if name not in names}


def _with(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:  # noqa: ANN401 - JSON
    return lambda example: {**example, **fields}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(_without("instance"), id="no instance"),
        pytest.param(_with(instance=""), id="an empty instance"),
        pytest.param(_without("phase"), id="no phase"),
        pytest.param(_with(phase="ACTIVE"), id="a phase that is text"),
        pytest.param(_with(connections={"total": "150", "probe": 0}), id="a count that is text"),
        pytest.param(_with(connections={"total": -1, "probe": 0}), id="a negative count"),
        pytest.param(_with(connections={"total": True, "probe": 0}), id="a count that is a flag"),
        pytest.param(_with(limits=[]), id="limits in a list"),
        pytest.param(_with(limits={"max_connections": None}), id="a limit of null"),
        pytest.param(_with(lock={"kind": "hope", "held": True}), id="a lock of no kind"),
        pytest.param(_with(image_digest=3), id="a digest that is a number"),
        pytest.param(_with(database={"kind": "postgres", "pool": {"size": 5}}), id="half a pool"),
        pytest.param(_with(database="postgres"), id="a database that is text"),
    ],
)
def test_status_that_breaks_the_contract_is_garbage(spoil: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Nothing is guessed."""
    body = json.dumps(spoil(_EXAMPLES["serving"])).encode()

    with pytest.raises(GarbageError, match="does not keep the admin contract"):
        parse_status(body, "GET x", 0.0)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"<html>", b"\xff", b"[" * 100_000, b"3"])
def test_anything_else_is_garbage_too(body: bytes) -> None:
    """And never a traceback."""
    with pytest.raises(GarbageError):
        parse_status(body, "GET x", 0.0)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, {"detail": "wrong admin key"}, KeyRefusedError, "wrong admin key"),
        (409, {"detail": "cancel the drain"}, PhaseError, "cancel the drain"),
        (503, {}, SilentError, "answered 503"),
        (404, b"<html>", GarbageError, "admin port"),
        (200, b"<html>", GarbageError, "admin contract"),
        (302, b"", GarbageError, "answered 302"),
    ],
)
def test_refusal_becomes_a_sentence(status: int, body: object, kind: type[ServiceError], words: str) -> None:
    """Each with what to do about it."""
    known, _ = api(status, body)

    with pytest.raises(kind, match=words):
        known.status()


def test_without_a_key_nothing_is_sent() -> None:
    """An empty key would only be refused."""
    known, script = api(200, _EXAMPLES["serving"], key="")

    with pytest.raises(KeyMissingError, match="--admin-key-file"):
        known.status()
    assert [] == script.sent


def test_probe_tokens_are_not_shown() -> None:
    """Neither in a log nor in a traceback."""
    pair = {"connection": "aaaa.bbbb.cccc", "subscription": "dddd.eeee.ffff"}
    known, script = api(
        200, {"user": "probe:1", "channel": "probe:1", "valid": pair, "expired": pair, "wrong_signature": pair}
    )

    tokens = known.probe_tokens(60.0)

    assert "aaaa.bbbb.cccc" == tokens.valid.connection
    assert "aaaa" not in repr(tokens)
    assert {"ttl_seconds": 60.0} == json.loads(script.sent[0].body)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"{", b'{"user": "x", "channel": 3}'])
def test_odd_probe_tokens_are_garbage(body: bytes) -> None:
    """A probe would fail later in a way that says nothing."""
    known, _ = api(200, body)

    with pytest.raises(GarbageError):
        known.probe_tokens()


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (lambda known: known.announce({"message": "x"}), "POST", "/api/admin/announce"),
        (lambda known: known.withdraw(), "DELETE", "/api/admin/announce"),
        (lambda known: known.gate({"ttl_seconds": 5}), "POST", "/api/admin/gate"),
        (lambda known: known.ungate(), "DELETE", "/api/admin/gate"),
        (lambda known: known.drain({}), "POST", "/api/admin/drain"),
        (lambda known: known.undrain(), "DELETE", "/api/admin/drain"),
    ],
)
def test_changes_are_those_of_the_contract(call: Callable[[AdminApi], object], method: str, path: str) -> None:
    """Method and path; each answers with the status after it."""
    known, script = api(200, _EXAMPLES["draining"])

    call(known)

    assert (method, path) == (script.sent[0].method, script.sent[0].path)
    operations = yaml.safe_load(_CONTRACT.read_text())["paths"][path]
    assert method.lower() in operations


def test_metrics_are_summed_over_their_labels() -> None:
    """Labels may hold anything that the format allows."""
    text = (
        b"# HELP a Things.\n# TYPE a counter\n"
        b'a{code="1"} 2.0\na{code="} 9 {",x="y z"} 3 1700000000\n\nb 4.5\nc{x="\\" }"} +Inf\n'
    )

    assert {"a": 5.0, "b": 4.5, "c": float("inf")} == parse_metrics(text, "x")


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"\xff\xfe", b"a\n", b"# only words\n", b"a b\n"])
def test_odd_metrics_are_garbage(body: bytes) -> None:
    """A page of somebody else is no reason to pass."""
    with pytest.raises(GarbageError):
        parse_metrics(body, "x")


def test_service_that_hangs_is_given_up() -> None:
    """After the time that was set."""
    with odd_server(None) as port:
        known = AdminApi(HttpTransport(f"http://127.0.0.1:{port}", seconds=0.2), "k", SystemClock())

        with pytest.raises(SilentError, match="did not answer within"):
            known.status()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="hangs up"),
        pytest.param(b"220 mail.example.org ESMTP\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", id="half an answer"),
    ],
)
def test_service_that_is_none_is_a_sentence(answer: bytes) -> None:
    """Whatever listens there."""
    with odd_server(answer) as port:
        known = AdminApi(HttpTransport(f"http://127.0.0.1:{port}"), "k", SystemClock())

        with pytest.raises(SilentError, match="cannot be reached"):
            known.status()


def test_address_that_is_none_is_a_sentence() -> None:
    """As a typing error would make it."""
    with pytest.raises(ServiceError, match="cannot be reached"):
        AdminApi(HttpTransport("not an address"), "k", SystemClock()).status()
