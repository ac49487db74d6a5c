"""Organizations over HTTP: their quotas, members and keys, what goes on in them, and a word to all their members.

The operator's key does everything; a key of an organization what its scopes say, with its
own organization. This module translates between HTTP and ``service.realtime.organizations``, and
decides nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from litestar import Request, Response, Router, delete, get, patch, post
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath
from msgspec import UNSET, Meta, Struct, UnsetType

from service.api.described import described
from service.api.requests import (
    EXPLAINED,
    HEADERS,
    Gate,
    decode_cursor,
    encode_cursor,
    read_body,
    read_query,
    refuse,
)
from service.api.server_api import STATUSES, create_server_context
from service.auth.api_keys import ApiKey, Caller, digest_of, last_four, organization_key
from service.auth.policy import ORGANIZATIONS
from service.clock import Clock
from service.core.codes import Error, Errors
from service.core.organizations import (
    ID_PATTERN,
    MAX_QUOTA,
    USER_PATTERN,
    ApiKeyRecord,
    MemberRecord,
    Organization,
    Role,
    Scope,
    is_id,
    is_user,
)
from service.ids import Ids
from service.realtime.callers import Callers
from service.realtime.instance import Instance
from service.realtime.organizations import OrganizationFigures, Organizations, Refusal
from service.realtime.server_commands import Malformed, ServerContext, call
from service.settings.groups import Api

__all__ = ("create_organizations_router",)

_T = TypeVar("_T")

_MAX_PAGE: Final = 1000
_PAGE: Final = 100
_PER_MINUTE: Final = 600
_RETRY_SECONDS: Final = 2
_NAME_PATTERN: Final = r"^[^\x00-\x1f\x7f]{0,200}$"
_PREFIX: Final = re.compile(r"[a-z0-9-]{0,63}")
_ONE_LINE: Final = re.compile(_NAME_PATTERN.strip("^$"))
_STATUSES: Final = {
    Refusal.EXISTS: HTTPStatus.CONFLICT,
    Refusal.MEMBER_EXISTS: HTTPStatus.CONFLICT,
    Refusal.NO_ORGANIZATION: HTTPStatus.NOT_FOUND,
    Refusal.NO_MEMBER: HTTPStatus.NOT_FOUND,
    Refusal.NO_KEY: HTTPStatus.NOT_FOUND,
}

# What is sent.

_Quota = Annotated[int, Meta(ge=0, le=MAX_QUOTA, description="0 for no limit.")]
_Name = Annotated[str, Meta(pattern=_NAME_PATTERN, description="For people.")]
_User = Annotated[str, Meta(pattern=USER_PATTERN, description="The user id that tokens name in `sub`.")]
_Limit = Annotated[int, Meta(ge=1, le=_MAX_PAGE, description="Most items.")]
_Cursor = Annotated[str, Meta(description="`next_cursor` of the page before.")]


class NewOrganization(Struct, frozen=True, forbid_unknown_fields=True):
    """An organization to be made."""

    id: Annotated[str, Meta(pattern=ID_PATTERN, description="Part of channel names, and never changed.")]
    name: _Name = ""
    max_connections: _Quota = 0
    publications_per_minute: _Quota = 0
    max_channels: _Quota = 0

    def __post_init__(self) -> None:
        # A pattern of JSON Schema lets a line break stand at the end.
        _check(is_id(self.id), "id cannot be that of an organization")
        _check(_ONE_LINE.fullmatch(self.name), "name has control characters, or more than 200 characters")


class OrganizationChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change; what is left out stays."""

    name: _Name | UnsetType = UNSET
    max_connections: _Quota | UnsetType = UNSET
    publications_per_minute: _Quota | UnsetType = UNSET
    max_channels: _Quota | UnsetType = UNSET

    def __post_init__(self) -> None:
        is_fine = self.name is UNSET or _ONE_LINE.fullmatch(self.name)
        _check(is_fine, "name has control characters, or more than 200 characters")


class NewMember(Struct, frozen=True, forbid_unknown_fields=True):
    """A user to be made a member."""

    user: _User
    role: Role = Role.MEMBER

    def __post_init__(self) -> None:
        _check(is_user(self.user), "user cannot be the id of a member")


class RoleChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What a member is to be."""

    role: Role


class NewKey(Struct, frozen=True, forbid_unknown_fields=True):
    """A key to be made."""

    scopes: Annotated[list[Scope], Meta(min_length=1, description="What it is for; it does nothing else.")]
    name: _Name = ""
    per_minute: Annotated[int, Meta(ge=0, le=MAX_QUOTA, description="Requests a minute; 0 for no limit.")] = _PER_MINUTE
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None

    def __post_init__(self) -> None:
        _check(_ONE_LINE.fullmatch(self.name), "name has control characters, or more than 200 characters")
        if self.expires_at is not None:
            try:
                self.expires_at.astimezone(UTC)
            except OverflowError as error:
                raise ValueError("expires_at is out of range") from error


class BroadcastRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A publication for all members, or for those in a room."""

    data: Annotated[msgspec.Raw, Meta(description="Any JSON.")]
    room: Annotated[str, Meta(description="The part of `org:<id>:<room>` after the id; `org:<id>` without.")] = ""
    tags: Annotated[dict[str, str], Meta(description="Texts by name.")] | None = None
    idempotency_key: Annotated[str, Meta(description="With the same key, it is published once in 5 minutes.")] = ""
    skip_history: bool = False


class OrganizationsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which organizations."""

    limit: _Limit = _PAGE
    cursor: _Cursor = ""
    prefix: Annotated[str, Meta(description="Beginning of the id.")] = ""

    def __post_init__(self) -> None:
        _check(_PREFIX.fullmatch(self.prefix), "prefix cannot be the beginning of an id")


class MembersQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which members."""

    limit: _Limit = _PAGE
    cursor: _Cursor = ""
    role: Role | UnsetType = UNSET


class KeysQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which keys."""

    limit: _Limit = _PAGE
    cursor: _Cursor = ""
    state: Literal["active", "expired", "revoked"] | UnsetType = UNSET


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing."""


# What comes back. Instants are RFC 3339 in UTC.


class FiguresState(Struct, frozen=True):
    """How much goes on; ``publications_last_minute`` are those that were let in."""

    members: int
    connections: int
    channels: int
    publications_last_minute: int


class OrganizationState(Struct, frozen=True):
    """An organization; of its quotas, 0 is no limit."""

    id: str
    name: str
    max_connections: int
    publications_per_minute: int
    max_channels: int
    created_at: str
    updated_at: str


class OrganizationDetails(OrganizationState, frozen=True):
    """An organization and what goes on in it."""

    figures: FiguresState


class MemberState(Struct, frozen=True):
    """A member."""

    user: str
    role: Role
    created_at: str


class KeyState(Struct, frozen=True):
    """A key, without what would open anything; ``last_four`` are the characters that it ends with."""

    id: str
    name: str
    scopes: list[str]
    per_minute: int
    last_four: str
    state: Literal["active", "expired", "revoked"]
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class IssuedKey(KeyState, frozen=True):
    """A key that was just made; ``key`` is shown this once."""

    key: str


class OrganizationsPage(Struct, frozen=True):
    """Some organizations; ``next_cursor`` is null at the end."""

    items: list[OrganizationState]
    next_cursor: str | None


class MembersPage(Struct, frozen=True):
    """Some members; ``next_cursor`` is null at the end."""

    items: list[MemberState]
    next_cursor: str | None


class KeysPage(Struct, frozen=True):
    """Some keys; ``next_cursor`` is null at the end."""

    items: list[KeyState]
    next_cursor: str | None


class BroadcastState(Struct, frozen=True, omit_defaults=True):
    """Where it stands; no position on a channel that keeps no history."""

    channel: str
    offset: int | None = None
    epoch: str | None = None


class ProblemState(Struct, frozen=True):
    """What went wrong. Source: RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


def create_organizations_router(instance: Instance, api: Api, ids: Ids) -> Router:
    """Return ``/api/v1/organizations``.

    Args:
        instance: Whose organizations they are.
        api: The operator's key.
        ids: Where keys come from.
    """
    context = instance.context
    callers = Callers(ApiKey(api.key.reveal() if api.key is not None else ""), context.organizations)
    gate = _Gate(callers, context)
    organizations = context.organizations
    handlers = [
        *_organizations(gate, organizations),
        *_members(gate, organizations),
        *_keys(gate, organizations, context.clock),
        *_key_changes(gate, organizations, context.clock, ids),
        _broadcast(gate, organizations, create_server_context(instance, api)),
    ]
    return Router(
        path="/api/v1/organizations",
        route_handlers=handlers,
        exception_handlers=EXPLAINED,
        tags=["Organizations"],
        security=[{"serverApiKey": []}],
    )


class _Gate(Gate):
    """As `Gate`, for an instance that may have no organizations at all."""

    async def organization(
        self, request: Request[Any, Any, Any], scope: Scope | None, organization: str | None = None
    ) -> Caller:
        """Do as `admit`; see to it also that the organization is there, and in memory."""
        caller = await self.admit(request, scope, organization)
        organizations = self._context.organizations
        if not organizations.is_kept:
            text = "organizations are kept in a database, and DATABASE_URL says that there is none"
            raise refuse(HTTPStatus.NOT_IMPLEMENTED, text)
        if organization is not None and not await organizations.load(organization):
            raise _refusal(Refusal.NO_ORGANIZATION)
        return caller


# Routes.


def _organizations(gate: _Gate, organizations: Organizations) -> list[Any]:
    @get(
        "/",
        summary="List organizations",
        operation_class=described(query=OrganizationsQuery),
        description="By id. For the operator alone.",
        responses=_responses(OrganizationsPage, {"items": [_ACME], "next_cursor": "MSBhY21l"}, 401, 403, 422),
    )
    async def page(request: Request[Any, Any, Any]) -> Response[OrganizationsPage]:
        await gate.organization(request, None)
        asked = read_query(request, OrganizationsQuery)
        after = decode_cursor(asked.cursor)
        found = await organizations.page(after=after, limit=asked.limit + 1, prefix=asked.prefix)
        items, cursor_ = _cut([_state(item) for item in found], asked.limit, lambda item: item.id)
        return _answer(OrganizationsPage(items, cursor_))

    @post(
        "/",
        summary="Make an organization",
        description="It has no members and no keys yet. For the operator alone.",
        operation_class=described(
            NewOrganization, example={"id": "acme", "name": "Acme, Inc.", "max_connections": 100}
        ),
        responses=_responses(OrganizationState, _ACME, 400, 401, 403, 409, 422, status=201),
    )
    async def create(request: Request[Any, Any, Any]) -> Response[OrganizationState]:
        await gate.organization(request, None)
        read_query(request, NoQuery)
        asked = await read_body(request, NewOrganization)
        made = _done(await organizations.create(Organization(**msgspec.structs.asdict(asked))))
        return _answer(_state(made), 201, {"Location": f"/api/v1/organizations/{made.id}"})

    @get(
        "/{organization:str}",
        summary="Show an organization, and what goes on in it",
        description="Scope `organization:read`.",
        responses=_responses(OrganizationDetails, _ACME | {"figures": _FIGURES}, 401, 403, 404, 422),
    )
    async def show(request: Request[Any, Any, Any], organization: FromPath[str]) -> Response[OrganizationDetails]:
        await gate.organization(request, Scope.ORGANIZATION_READ, organization)
        read_query(request, NoQuery)
        found = _there(organizations.get(organization))
        state = msgspec.structs.asdict(_state(found))
        return _answer(OrganizationDetails(**state, figures=_figures(organizations.figures(organization))))

    @get(
        "/{organization:str}/figures",
        summary="Show what goes on in an organization",
        description="Scope `organization:read`.",
        responses=_responses(FiguresState, _FIGURES, 401, 403, 404, 422),
    )
    async def figures(request: Request[Any, Any, Any], organization: FromPath[str]) -> Response[FiguresState]:
        await gate.organization(request, Scope.ORGANIZATION_READ, organization)
        read_query(request, NoQuery)
        return _answer(_figures(organizations.figures(organization)))

    @patch(
        "/{organization:str}",
        summary="Change the name or the quotas of an organization",
        description="Those who are over a lower quota already stay. For the operator alone.",
        operation_class=described(OrganizationChange, example={"publications_per_minute": 600}),
        responses=_responses(OrganizationState, _ACME, 400, 401, 403, 404, 422),
    )
    async def change(request: Request[Any, Any, Any], organization: FromPath[str]) -> Response[OrganizationState]:
        await gate.organization(request, None, organization)
        read_query(request, NoQuery)
        asked = msgspec.structs.asdict(await read_body(request, OrganizationChange))
        values = {name: value for name, value in asked.items() if value is not UNSET}
        return _answer(_state(_done(await organizations.change(organization, **values))))

    @delete(
        "/{organization:str}",
        summary="Remove an organization with its members and keys",
        description="Everybody is unsubscribed from its channels. What was published stays until its time is over, "
        "so an id is not for another organization. For the operator alone.",
        status_code=204,
        responses=_problems(401, 403, 404, 422),
    )
    async def remove(request: Request[Any, Any, Any], organization: FromPath[str]) -> None:
        await gate.organization(request, None, organization)
        read_query(request, NoQuery)
        _done(await organizations.delete(organization))

    return [page, create, show, figures, change, remove]


def _members(gate: _Gate, organizations: Organizations) -> list[Any]:
    @get(
        "/{organization:str}/members",
        summary="List the members of an organization",
        operation_class=described(query=MembersQuery),
        description="By user id. Scope `members:read`.",
        responses=_responses(MembersPage, {"items": [_ADA], "next_cursor": None}, 401, 403, 404, 422),
    )
    async def page(
        request: Request[Any, Any, Any],
        organization: FromPath[str],
    ) -> Response[MembersPage]:
        await gate.organization(request, Scope.MEMBERS_READ, organization)
        asked = read_query(request, MembersQuery)
        after = decode_cursor(asked.cursor)
        wanted = None if asked.role is UNSET else asked.role
        found = organizations.members(organization, after=after, limit=asked.limit + 1, role=wanted)
        items, cursor_ = _cut([_member(item) for item in found], asked.limit, lambda item: item.user)
        return _answer(MembersPage(items, cursor_))

    @post(
        "/{organization:str}/members",
        summary="Make a user a member",
        description="From now on its clients may enter the channels of the organization. Scope `members:write`.",
        operation_class=described(NewMember, example={"user": "42", "role": "member"}),
        responses=_responses(MemberState, _ADA, 400, 401, 403, 404, 409, 422, status=201),
    )
    async def add(request: Request[Any, Any, Any], organization: FromPath[str]) -> Response[MemberState]:
        await gate.organization(request, Scope.MEMBERS_WRITE, organization)
        read_query(request, NoQuery)
        asked = await read_body(request, NewMember)
        return _answer(_member(_done(await organizations.add_member(organization, asked.user, asked.role))), 201)

    @get(
        "/{organization:str}/members/{user:str}",
        summary="Show a member",
        description="Scope `members:read`.",
        responses=_responses(MemberState, _ADA, 401, 403, 404, 422),
    )
    async def show(
        request: Request[Any, Any, Any], organization: FromPath[str], user: FromPath[str]
    ) -> Response[MemberState]:
        await gate.organization(request, Scope.MEMBERS_READ, organization)
        read_query(request, NoQuery)
        found = organizations.member(organization, user)
        if found is None:
            raise _refusal(Refusal.NO_MEMBER)
        return _answer(_member(found))

    @patch(
        "/{organization:str}/members/{user:str}",
        summary="Give a member another role",
        description="It holds from the next command on. Scope `members:write`.",
        operation_class=described(RoleChange, example={"role": "viewer"}),
        responses=_responses(MemberState, _ADA, 400, 401, 403, 404, 422),
    )
    async def change(
        request: Request[Any, Any, Any], organization: FromPath[str], user: FromPath[str]
    ) -> Response[MemberState]:
        await gate.organization(request, Scope.MEMBERS_WRITE, organization)
        read_query(request, NoQuery)
        asked = await read_body(request, RoleChange)
        return _answer(_member(_done(await organizations.change_member(organization, user, asked.role))))

    @delete(
        "/{organization:str}/members/{user:str}",
        summary="End a membership",
        description="The user's clients are unsubscribed from the organization's channels with code 2000. "
        "Scope `members:write`.",
        status_code=204,
        responses=_problems(401, 403, 404, 422),
    )
    async def remove(request: Request[Any, Any, Any], organization: FromPath[str], user: FromPath[str]) -> None:
        await gate.organization(request, Scope.MEMBERS_WRITE, organization)
        read_query(request, NoQuery)
        _done(await organizations.remove_member(organization, user))

    return [page, add, show, change, remove]


def _keys(gate: _Gate, organizations: Organizations, clock: Clock) -> list[Any]:
    @get(
        "/{organization:str}/keys",
        summary="List the keys of an organization",
        operation_class=described(query=KeysQuery),
        description="By id, without what would open anything. For the operator alone.",
        responses=_responses(KeysPage, {"items": [_KEY], "next_cursor": None}, 401, 403, 404, 422),
    )
    async def page(
        request: Request[Any, Any, Any],
        organization: FromPath[str],
    ) -> Response[KeysPage]:
        await gate.organization(request, None, organization)
        asked = read_query(request, KeysQuery)
        after = decode_cursor(asked.cursor)
        found = [_key(key, clock.wall()) for key in await organizations.keys(organization) if key.id > after]
        wanted = [key for key in found if asked.state in (UNSET, key.state)]
        items, cursor_ = _cut(wanted, asked.limit, lambda item: item.id)
        return _answer(KeysPage(items, cursor_))

    @get(
        "/{organization:str}/keys/{key:str}",
        summary="Show a key",
        description="By its id, without what would open anything. For the operator alone.",
        responses=_responses(KeyState, _KEY, 401, 403, 404, 422),
    )
    async def show(
        request: Request[Any, Any, Any], organization: FromPath[str], key: FromPath[str]
    ) -> Response[KeyState]:
        await gate.organization(request, None, organization)
        read_query(request, NoQuery)
        for found in await organizations.keys(organization):
            if found.id == key:
                return _answer(_key(found, clock.wall()))
        raise _refusal(Refusal.NO_KEY)

    return [page, show]


def _key_changes(gate: _Gate, organizations: Organizations, clock: Clock, ids: Ids) -> list[Any]:
    @post(
        "/{organization:str}/keys",
        summary="Make a key for an organization",
        description="The key itself is shown this once. For the operator alone.",
        operation_class=described(NewKey, example={"name": "back end", "scopes": ["publish", "members:read"]}),
        responses=_responses(
            IssuedKey, _KEY | {"key": "sw_1f0c2b9a7d3e_" + "x" * 43 + "a1B2"}, 400, 401, 403, 404, 422, status=201
        ),
    )
    async def add(request: Request[Any, Any, Any], organization: FromPath[str]) -> Response[IssuedKey]:
        await gate.organization(request, None, organization)
        read_query(request, NoQuery)
        asked = await read_body(request, NewKey)
        expires_at = None if asked.expires_at is None else asked.expires_at.timestamp()
        if expires_at is not None and expires_at <= clock.wall():
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "expires_at is in the past")
        key_id, secret = ids.uuid()[-12:], ids.secret()
        record = ApiKeyRecord(
            id=key_id,
            organization=organization,
            name=asked.name,
            digest=digest_of(secret),
            scopes=frozenset(asked.scopes),
            per_minute=asked.per_minute,
            expires_at=expires_at,
        )
        made = _done(await organizations.add_key(record))
        state = msgspec.structs.asdict(_key(made, clock.wall()))
        return _answer(IssuedKey(**state, key=organization_key(key_id, secret)), 201)

    @delete(
        "/{organization:str}/keys/{key:str}",
        summary="Revoke a key",
        description="It opens nothing from now on, and stays in the list. For the operator alone.",
        status_code=204,
        responses=_problems(401, 403, 404, 422),
    )
    async def revoke(request: Request[Any, Any, Any], organization: FromPath[str], key: FromPath[str]) -> None:
        await gate.organization(request, None, organization)
        read_query(request, NoQuery)
        _done(await organizations.revoke_key(organization, key))

    return [add, revoke]


def _broadcast(gate: _Gate, organizations: Organizations, server: ServerContext) -> Any:  # noqa: ANN401 - a handler
    @post(
        "/{organization:str}/broadcast",
        status_code=200,
        summary="Publish to an organization",
        description="Into `org:<id>`, or with `room` into `org:<id>:<room>`. Scope `publish`.",
        operation_class=described(BroadcastRequest, example={"data": {"text": "hello"}, "room": "general"}),
        responses=_responses(
            BroadcastState,
            {"channel": "org:acme:general", "offset": 11, "epoch": "aBcDeFgH"},
            *(400, 401, 403, 404, 422, 429, 503),
        ),
    )
    async def broadcast(request: Request[Any, Any, Any], organization: FromPath[str]) -> Response[BroadcastState]:
        caller = await gate.organization(request, Scope.PUBLISH, organization)
        read_query(request, NoQuery)
        asked = await read_body(request, BroadcastRequest)
        values = {name: value for name, value in msgspec.structs.asdict(asked).items() if name != "room"}
        channel = ":".join((ORGANIZATIONS, organization, *([asked.room] if asked.room else [])))
        outcome = await call(server, "publish", msgspec.json.encode(values | {"channel": channel}), caller)
        if isinstance(outcome, Malformed):
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"the body is {outcome.problem}")
        if isinstance(outcome, Error):
            raise _not_published(outcome, organizations.publication_wait(organization))
        return _answer(BroadcastState(channel, **msgspec.json.decode(outcome)))

    return broadcast


def _not_published(error: Error, wait: int) -> HTTPException:
    if error.code == Errors.TOO_MANY_REQUESTS.code:
        return refuse(HTTPStatus.TOO_MANY_REQUESTS, error.message, max(1, wait))
    if error.code == Errors.INTERNAL.code:
        return refuse(HTTPStatus.SERVICE_UNAVAILABLE, error.message, _RETRY_SECONDS)
    if error.code == Errors.BAD_REQUEST.code:
        return refuse(HTTPStatus.UNPROCESSABLE_ENTITY, error.message)
    return refuse(STATUSES.get(error.code, HTTPStatus.BAD_REQUEST), error.message)


# Requests.


def _check(is_fine: object, problem: str) -> None:
    if not is_fine:
        raise ValueError(problem)


# Answers.


def _answer(body: _T, status: int = 200, headers: dict[str, str] | None = None) -> Response[_T]:
    return Response(body, status_code=status, headers=HEADERS | (headers or {}))


def _done(outcome: _T | Refusal) -> _T:
    if isinstance(outcome, Refusal):
        raise _refusal(outcome)
    return outcome


def _there(found: _T | None) -> _T:
    if found is None:
        raise _refusal(Refusal.NO_ORGANIZATION)
    return found


def _refusal(refusal: Refusal) -> HTTPException:
    return refuse(_STATUSES[refusal], refusal.value)


def _cut(items: list[_T], limit: int, name: Callable[[_T], str]) -> tuple[list[_T], str | None]:
    """Return a page, and the cursor to go on with when there is more."""
    shown = items[:limit]
    return shown, encode_cursor(name(shown[-1])) if len(items) > limit else None


def _state(organization: Organization) -> OrganizationState:
    return OrganizationState(
        id=organization.id,
        name=organization.name,
        max_connections=organization.max_connections,
        publications_per_minute=organization.publications_per_minute,
        max_channels=organization.max_channels,
        created_at=_instant(organization.created_at),
        updated_at=_instant(organization.updated_at),
    )


def _figures(figures: OrganizationFigures) -> FiguresState:
    return FiguresState(figures.members, figures.connections, figures.channels, figures.publications)


def _member(member: MemberRecord) -> MemberState:
    return MemberState(member.user, member.role, _instant(member.created_at))


def _key(key: ApiKeyRecord, wall: float) -> KeyState:
    state: Literal["active", "expired", "revoked"] = "active" if key.is_good(wall) else "expired"
    return KeyState(
        id=key.id,
        name=key.name,
        scopes=sorted(key.scopes),
        per_minute=key.per_minute,
        last_four=last_four(key.digest),
        state="revoked" if key.revoked_at is not None else state,
        created_at=_instant(key.created_at),
        expires_at=None if key.expires_at is None else _instant(key.expires_at),
        revoked_at=None if key.revoked_at is None else _instant(key.revoked_at),
    )


def _instant(unix_seconds: float) -> str:
    """Return RFC 3339 in UTC, with milliseconds."""
    instant = datetime.fromtimestamp(unix_seconds, tz=UTC)
    return instant.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


# For the OpenAPI document.

_WHEN: Final = "2026-11-23T16:00:00.000Z"
_ACME: Final = {
    "id": "acme",
    "name": "Acme, Inc.",
    "max_connections": 100,
    "publications_per_minute": 600,
    "max_channels": 0,
    "created_at": _WHEN,
    "updated_at": _WHEN,
}
_FIGURES: Final = {"members": 12, "connections": 9, "channels": 3, "publications_last_minute": 40}
_ADA: Final = {"user": "42", "role": "member", "created_at": _WHEN}
_KEY: Final = {
    "id": "1f0c2b9a7d3e",
    "name": "back end",
    "scopes": ["members:read", "publish"],
    "per_minute": _PER_MINUTE,
    "last_four": "a1B2",
    "state": "active",
    "created_at": _WHEN,
    "expires_at": None,
    "revoked_at": None,
}
_MEANINGS: Final = {
    400: "The body is not JSON.",
    401: "The API key is missing, wrong, revoked, too old, or in the URL.",
    403: "The key is not for that.",
    404: "There is no such thing.",
    409: "It is there already.",
    422: "What was sent is not what is asked for.",
    429: "The key or the organization has used up its minute; see Retry-After.",
    501: "There is no database.",
    503: "The database does not answer, or this instance does not serve; see Retry-After.",
}


def _responses(struct: type[Struct], example: object, *statuses: int, status: int = 200) -> dict[int, ResponseSpec]:
    done = ResponseSpec(
        struct, generate_examples=False, description="Done.", examples=[Example(summary="Done", value=example)]
    )
    return {status: done, **_problems(*statuses)}


def _problems(*statuses: int) -> dict[int, ResponseSpec]:
    return {
        status: ResponseSpec(
            ProblemState,
            generate_examples=False,
            description=_MEANINGS[status],
            media_type="application/problem+json",
            examples=[
                Example(
                    summary=_MEANINGS[status],
                    value={
                        "type": "about:blank",
                        "title": HTTPStatus(status).phrase,
                        "status": status,
                        "detail": _MEANINGS[status],
                    },
                )
            ],
        )
        for status in sorted({*statuses, 429, 501, 503})
    }
