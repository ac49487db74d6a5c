"""The admin API: what an operator and the deploy tool see and change.

The contract is docs/reference/admin-api.openapi.yaml. This module translates between it
and the instance, and decides nothing itself; every change answers with the state after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard
from msgspec import UNSET, Meta, Struct, UnsetType

from service.api.problem import explain
from service.auth.api_keys import ApiKey, ApiKeyFault
from service.auth.probe import ProbeTokens, TokenPair, is_probe
from service.core import codec
from service.core.phase import Phase
from service.observability.figures import limits_in_force
from service.realtime.drainer import Drain, Origin
from service.realtime.instance import Instance
from service.settings import Admin, Limits

__all__ = ("HEADER", "create_admin_router")

HEADER: Final = "X-Admin-Key"

_MAX_BODY_BYTES: Final = 65_536
_MAX_PUSH_BYTES: Final = 16_384
_PROBE_SECONDS: Final = 300.0
_NOT_JSON: Final = "the body is not JSON"
_HEADERS: Final = {"Cache-Control": "no-store"}
_REFUSED_KEYS: Final = {
    ApiKeyFault.MISSING: f"no admin key: send it as {HEADER}",
    ApiKeyFault.AMBIGUOUS: "more than one admin key",
    ApiKeyFault.WRONG: "wrong admin key",
}

_T = TypeVar("_T")

_Ttl = Annotated[float, Meta(ge=1, le=86_400)] | UnsetType
_Pause = Annotated[float, Meta(ge=0, le=3600)] | UnsetType


class AnnounceRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What clients are to be told."""

    message: Annotated[str, Meta(max_length=1000)] | UnsetType = UNSET
    starts_at: Annotated[datetime, Meta(tz=True)] | UnsetType = UNSET
    duration_seconds: Annotated[float, Meta(gt=0, le=604_800)] | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    ttl_seconds: _Ttl = UNSET

    def __post_init__(self) -> None:
        if self.starts_at is not UNSET:
            try:
                self.starts_at.astimezone(UTC)
            except OverflowError as error:
                raise ValueError("starts_at is out of range") from error


class GateRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """For how long, and why."""

    ttl_seconds: _Ttl = UNSET
    reason: Annotated[str, Meta(min_length=1, max_length=200)] = "gated by the admin API"


class DrainRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """How gently; what is left out is as in the settings."""

    ttl_seconds: _Ttl = UNSET
    grace_seconds: _Pause = UNSET
    spread_seconds: _Pause = UNSET
    budget_seconds: Annotated[float, Meta(gt=0, le=3600)] | UnsetType = UNSET


class ProbeTokensRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """For how long."""

    ttl_seconds: Annotated[float, Meta(ge=1, le=3600)] = _PROBE_SECONDS


class PhaseState(Struct, frozen=True):
    """Where the process stands; ``since`` is RFC 3339 in UTC."""

    name: str
    since: str
    reason: str


class GateState(Struct, frozen=True):
    """New WebSockets are refused; ``ttl_left_seconds`` is null when that does not end by itself."""

    ttl_left_seconds: float | None
    reason: str


class DrainState(Struct, frozen=True):
    """How far a drain has come."""

    origin: Literal["admin", "signal"]
    total: int
    closed: int
    remaining: int
    rate_per_second: float
    eta_seconds: float
    finished: bool
    ttl_left_seconds: float | None
    budget_left_seconds: float


class AnnouncementState(Struct, frozen=True):
    """What clients are told; ``data`` is what they get."""

    data: dict[str, Any]
    ttl_left_seconds: float


class ConnectionCounts(Struct, frozen=True):
    """Open WebSockets; those of probes are authenticated ones."""

    total: int
    unauthenticated: int
    authenticated: int
    probe: int


class LockState(Struct, frozen=True):
    """What keeps a second instance from serving; ``local`` does not reach beyond this process.

    Attributes:
        token: The fencing number of this tenure; 0 while there is none, and always where the kind is ``local``.
    """

    kind: Literal["local", "file", "database"]
    held: bool
    token: int


class PoolState(Struct, frozen=True):
    """Connections of this instance to the database; ``peak`` is the most that were in use at once."""

    size: int
    overflow: int
    in_use: int
    peak: int


class DatabaseServerState(Struct, frozen=True):
    """Connections of everybody to the database server."""

    max_connections: int
    reserved: int
    in_use: int


class DatabaseState(Struct, frozen=True):
    """What is kept where.

    Attributes:
        degraded: Why the database does not do what it is asked; null when all is well.
        code_level: Of the schema that this version was written for.
        server: As last seen; null where that is not known, as with SQLite.
    """

    kind: Literal["postgres", "sqlite"]
    degraded: str | None
    code_level: int
    pool: PoolState
    server: DatabaseServerState | None


class Status(Struct, frozen=True):
    """The whole state of an instance; what is null is not there."""

    instance: str
    version: str
    image_digest: str | None
    uptime_seconds: float
    phase: PhaseState
    gate: GateState | None
    drain: DrainState | None
    announcement: AnnouncementState | None
    connections: ConnectionCounts
    limits: dict[str, float]
    lock: LockState
    database: DatabaseState | None


class Pair(Struct, frozen=True):
    """Tokens for one connection and one subscription."""

    connection: str
    subscription: str


class ProbeTokensAnswer(Struct, frozen=True):
    """Tokens of one probe; ``expires_at`` is RFC 3339 in UTC and holds for the valid ones."""

    user: str
    channel: str
    valid: Pair
    expired: Pair
    wrong_signature: Pair
    expires_at: str


def create_admin_router(instance: Instance, admin: Admin, probe: ProbeTokens, limits: Limits) -> Router:
    """Return the routes of the admin API, for the admin socket alone.

    Args:
        instance: What they are about.
        admin: Without a key in it every request is answered with 401.
        probe: Makes the tokens of probes; those that it makes are the ones that ``instance`` believes.
        limits: As they are set; shown, not applied.
    """
    handlers = [
        *_status(instance, limits),
        *_announce(instance, admin, limits),
        *_gate(instance, admin, limits),
        *_drain(instance, limits),
        *_probe_tokens(probe),
    ]
    return Router(
        path="/api/admin",
        route_handlers=handlers,
        guards=[_guard(admin)],
        exception_handlers={HTTPException: explain},
        request_max_body_size=_MAX_BODY_BYTES,
        tags=["admin"],
    )


def _guard(admin: Admin) -> Guard:
    key = ApiKey("" if admin.key is None else admin.key.reveal())

    def check(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        fault = key.check(connection.headers.getall(HEADER, []))
        if fault is not None:
            raise NotAuthorizedException(_REFUSED_KEYS[fault])

    return check


# Routes.


def _status(instance: Instance, limits: Limits) -> list[Any]:
    @get("/status", summary="Say what runs and in which state")
    async def status() -> Response[Status]:
        return _answer(instance, limits)

    return [status]


def _announce(instance: Instance, admin: Admin, limits: Limits) -> list[Any]:
    @post("/announce", summary="Tell every client about maintenance", status_code=200)
    async def announce(request: Request[Any, Any, Any]) -> Response[Status]:
        asked = await _body(request, AnnounceRequest)
        if not instance.lifecycle.phase.is_ready:
            raise _conflict(instance, "nobody is served in this phase, so there is nobody to tell")
        data = codec.encode(_push(asked))
        if len(data) > _MAX_PUSH_BYTES:
            text = f"an announcement has at most {_MAX_PUSH_BYTES} bytes of JSON, this one {len(data)}"
            raise HTTPException(status_code=422, detail=text)
        instance.announcements.announce(data, _or(asked.ttl_seconds, admin.ttl_seconds))
        return _answer(instance, limits)

    @delete("/announce", summary="Withdraw the announcement", status_code=200)
    async def withdraw() -> Response[Status]:
        instance.announcements.cancel()
        return _answer(instance, limits)

    return [announce, withdraw]


def _gate(instance: Instance, admin: Admin, limits: Limits) -> list[Any]:
    @post("/gate", summary="Refuse new WebSockets", status_code=200)
    async def close(request: Request[Any, Any, Any]) -> Response[Status]:
        asked = await _body(request, GateRequest)
        if not instance.lifecycle.gate(_or(asked.ttl_seconds, admin.ttl_seconds), asked.reason):
            raise _conflict(instance, "there is no gate in this phase: no WebSocket is let in anyway")
        return _answer(instance, limits)

    @delete("/gate", summary="Let new WebSockets in again", status_code=200)
    async def reopen() -> Response[Status]:
        if instance.lifecycle.open_gate("opened by the admin API"):
            return _answer(instance, limits)
        if instance.lifecycle.phase.is_ready:
            raise _conflict(instance, "a drain keeps the gate closed: cancel the drain")
        raise _conflict(instance, "there is no gate in this phase: no WebSocket is let in")

    return [close, reopen]


def _drain(instance: Instance, limits: Limits) -> list[Any]:
    @post("/drain", summary="Close all WebSockets, spread over a time", status_code=200)
    async def begin(request: Request[Any, Any, Any]) -> Response[Status]:
        asked = await _body(request, DrainRequest)
        if (text := _too_short(instance, asked)) is not None:
            raise HTTPException(status_code=422, detail=text)
        if not instance.drain(
            Origin.ADMIN,
            grace_seconds=_or(asked.grace_seconds, None),
            spread_seconds=_or(asked.spread_seconds, None),
            budget_seconds=_or(asked.budget_seconds, None),
            ttl_seconds=_or(asked.ttl_seconds, None),
        ):
            raise _conflict(instance, "nobody is served in this phase, so there is nobody to close")
        return _answer(instance, limits)

    @delete("/drain", summary="Stop closing and let everybody in again", status_code=200)
    async def cancel() -> Response[Status]:
        drain = instance.drainer.drain
        if drain is not None and drain.origin is Origin.SIGNAL:
            raise _conflict(instance, "SIGTERM began this drain: the process is going to end")
        instance.drainer.cancel("the drain was cancelled by the admin API")
        return _answer(instance, limits)

    return [begin, cancel]


def _probe_tokens(probe: ProbeTokens) -> list[Any]:
    @post("/probe-tokens", summary="Make tokens to try the service with", status_code=200)
    async def issue(request: Request[Any, Any, Any]) -> Response[ProbeTokensAnswer]:
        asked = await _body(request, ProbeTokensRequest)
        tokens = probe.issue(asked.ttl_seconds)
        answer = ProbeTokensAnswer(
            user=tokens.user,
            channel=tokens.channel,
            valid=_pair(tokens.valid),
            expired=_pair(tokens.expired),
            wrong_signature=_pair(tokens.wrong_signature),
            expires_at=_instant(tokens.expires_at),
        )
        return Response(answer, headers=_HEADERS)

    return [issue]


# Requests.


async def _body(request: Request[Any, Any, Any], type_: type[_T]) -> _T:
    """Read what was sent, everything optional; raises what `explain` makes a problem of."""
    body = await request.body() or b"{}"
    if not codec.is_json(body):
        raise HTTPException(status_code=400, detail=_NOT_JSON)
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise HTTPException(status_code=422, detail=str(error)) from error
    except msgspec.DecodeError as error:
        # What shows only when text is unescaped, as half of a surrogate pair does.
        raise HTTPException(status_code=400, detail=_NOT_JSON) from error


def _or(value: _T | UnsetType, default: Any) -> Any:  # noqa: ANN401 - of the field's own type
    return default if value is UNSET else value


def _push(asked: AnnounceRequest) -> Mapping[str, object]:
    fields = {
        "type": "maintenance",
        "state": "announced",
        "message": asked.message,
        "starts_at": UNSET if asked.starts_at is UNSET else _rfc3339(asked.starts_at),
        "duration_seconds": asked.duration_seconds,
        "data": asked.data,
    }
    return {name: value for name, value in fields.items() if value is not UNSET}


def _too_short(instance: Instance, asked: DrainRequest) -> str | None:
    """Say why the plan cannot be kept, None when it can."""
    defaults = instance.drain_defaults
    grace = _or(asked.grace_seconds, defaults.grace_seconds)
    spread = _or(asked.spread_seconds, defaults.spread_seconds(len(instance.hub.connections)))
    budget = _or(asked.budget_seconds, defaults.budget_seconds)
    if budget >= grace + spread:
        return None
    return (
        f"budget_seconds is {budget:g}, less than grace_seconds ({grace:g}) and spread_seconds ({spread:g}) together: "
        "the spread would be cut short"
    )


# Answers.


def _answer(instance: Instance, limits: Limits) -> Response[Status]:
    now = instance.context.clock.now()
    lifecycle = instance.lifecycle
    status = Status(
        instance=instance.id,
        version=instance.version,
        image_digest=instance.image_digest,
        uptime_seconds=round(now - instance.started_at, 3),
        phase=PhaseState(lifecycle.phase.value, _instant(lifecycle.since), lifecycle.reason),
        gate=_gate_state(instance, now),
        drain=_drain_state(instance, now),
        announcement=_announcement_state(instance, now),
        connections=_connections(instance),
        limits=limits_in_force(limits),
        lock=_lock_state(instance),
        database=_database_state(instance),
    )
    return Response(status, headers=_HEADERS)


def _conflict(instance: Instance, detail: str) -> HTTPException:
    return HTTPException(status_code=409, detail=detail, extra={"phase": instance.lifecycle.phase.value})


def _gate_state(instance: Instance, now: float) -> GateState | None:
    lifecycle, drain = instance.lifecycle, instance.drainer.drain
    if lifecycle.phase is Phase.GATED:
        return GateState(_ttl_left(lifecycle.gated_until, now), lifecycle.reason)
    if lifecycle.phase in (Phase.DRAINING, Phase.DRAINED) and drain is not None:
        return GateState(_ttl_left(drain.until, now), lifecycle.reason)
    return None


def _drain_state(instance: Instance, now: float) -> DrainState | None:
    drain = instance.drainer.drain
    if drain is None:
        return None
    finished = drain.finished_at < math.inf
    seconds = min(now, drain.finished_at) - drain.started_at
    return DrainState(
        origin="signal" if drain.origin is Origin.SIGNAL else "admin",
        total=drain.total,
        closed=drain.closed,
        remaining=len(instance.hub.connections),
        rate_per_second=round(drain.closed / seconds, 2) if seconds > 0 else 0.0,
        eta_seconds=0.0 if finished else _left(_end(drain, now), now),
        finished=finished,
        ttl_left_seconds=_ttl_left(drain.until, now),
        budget_left_seconds=0.0 if finished else _left(drain.must_end_at, now),
    )


def _end(drain: Drain, now: float) -> float:
    """Return when the last connection is closed: as planned, or by the budget when the plan did not do."""
    planned = drain.started_at + drain.seconds
    return min(planned if now < planned else drain.must_end_at, drain.must_end_at)


def _announcement_state(instance: Instance, now: float) -> AnnouncementState | None:
    announcements = instance.announcements
    if announcements.data is None:
        return None
    return AnnouncementState(msgspec.json.decode(announcements.data), _left(announcements.until, now))


def _lock_state(instance: Instance) -> LockState:
    succession = instance.succession
    return LockState(succession.kind, succession.is_held, succession.token)


def _database_state(instance: Instance) -> DatabaseState | None:
    database = instance.database
    if database is None:
        return None
    pool, server = database.pool(), database.server
    return DatabaseState(
        kind=database.kind,
        degraded=database.degraded or None,
        code_level=database.code_level,
        pool=PoolState(pool.size, pool.overflow, pool.in_use, pool.peak),
        server=None if server is None else DatabaseServerState(server.max_connections, server.reserved, server.in_use),
    )


def _connections(instance: Instance) -> ConnectionCounts:
    hub = instance.hub
    total = len(hub.connections)
    return ConnectionCounts(
        total=total,
        unauthenticated=hub.unauthenticated,
        authenticated=total - hub.unauthenticated,
        probe=sum(len(connections) for user, connections in hub.users.items() if is_probe(user)),
    )


def _pair(pair: TokenPair) -> Pair:
    return Pair(pair.connection, pair.subscription)


def _left(until: float, now: float) -> float:
    return round(max(0.0, until - now), 3)


def _ttl_left(until: float, now: float) -> float | None:
    return None if until == math.inf else _left(until, now)


def _instant(unix_seconds: float) -> str:
    """Return RFC 3339 in UTC, with milliseconds."""
    return _rfc3339(datetime.fromtimestamp(unix_seconds, tz=UTC))


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
