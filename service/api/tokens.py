"""Tokens over HTTP, for back ends that do not sign them themselves.

The operator's key buys tokens for every user and channel. A key of an organization, with
the scope ``tokens``, buys them for the organization's members and channels: its connection tokens
open no channel but those of the organization, since the ids of users belong to all of the service.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, Router, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from msgspec import UNSET, Meta, Struct, UnsetType

from service.api.described import described
from service.api.requests import EXPLAINED, HEADERS, Gate, read_body, refuse
from service.auth.api_keys import ApiKey, Caller
from service.auth.policy import organization_of
from service.auth.tokens import MAX_TOKEN_LENGTH, issue
from service.core.codes import Error
from service.core.organizations import ID_PATTERN, Scope, is_id
from service.realtime.callers import Callers
from service.realtime.context import Context
from service.realtime.instance import Instance
from service.settings.groups import Api, Tokens

__all__ = ("create_tokens_router",)

_SECONDS: Final = 3600.0
_MAX_CHANNELS: Final = 128
_CANNOT_SIGN: Final = "this service cannot sign tokens: set TOKEN_HMAC_SECRET"
_NOT_YOURS: Final = "this key makes tokens for the members and the channels of its organization alone"


class TokenRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """For whom, and for what."""

    user: Annotated[str, Meta(min_length=1, max_length=255, description="Becomes `sub`.")]
    channel: Annotated[
        str, Meta(description="Asks for a subscription token for this channel; without, for a connection token.")
    ] = ""
    client: Annotated[str, Meta(description="The one connection that a subscription token is for.")] = ""
    channels: Annotated[
        list[str],
        Meta(max_length=_MAX_CHANNELS, description="What a connection token lets the server subscribe the client to."),
    ] = []
    organization: (
        Annotated[str, Meta(pattern=ID_PATTERN, description="The only one whose channels the connection may touch.")]
        | UnsetType
    ) = UNSET
    seconds: (
        Annotated[float, Meta(ge=1, description="How long it is good, at most TOKEN_MAX_SECONDS; an hour without.")]
        | UnsetType
    ) = UNSET
    info: Annotated[msgspec.Raw, Meta(description="Any JSON, shown to others beside the user.")] = msgspec.field(
        default_factory=msgspec.Raw
    )

    def __post_init__(self) -> None:
        if self.channel and (self.channels or self.organization is not UNSET):
            raise ValueError("channels and organization are for connection tokens, which have no channel")
        if self.client and not self.channel:
            raise ValueError("client is for subscription tokens, which have a channel")
        if self.organization is not UNSET and not is_id(self.organization):
            raise ValueError("organization cannot be the id of one")


class TokenAnswer(Struct, frozen=True, omit_defaults=True):
    """A token; ``expires_at`` is Unix time in seconds."""

    token: str
    type: Literal["connection", "subscription"]
    expires_at: int
    organization: str | None = None


def create_tokens_router(instance: Instance, api: Api, tokens: Tokens) -> Router:
    """Return ``POST /api/v1/tokens``.

    Args:
        instance: Whose clock, channels and members count.
        api: The operator's key.
        tokens: The secret to sign with, what tokens have to say, and how long they may be good.
    """
    context = instance.context
    gate = Gate(Callers(ApiKey(api.key.reveal() if api.key is not None else ""), context.organizations), context)

    @post(
        "/",
        status_code=200,
        summary="Make a token",
        description="Scope `tokens`. With the key of an organization only for its members, and only for its channels.",
        operation_class=described(TokenRequest, example={"user": "42", "channel": "org:acme:general", "seconds": 600}),
        responses=_RESPONSES,
    )
    async def make(request: Request[Any, Any, Any]) -> Response[TokenAnswer]:
        caller = await gate.admit(request, Scope.TOKENS)
        asked = await read_body(request, TokenRequest)
        if tokens.hmac_secret is None:
            raise refuse(HTTPStatus.NOT_IMPLEMENTED, _CANNOT_SIGN)
        await _check(context, caller, asked)
        now = context.clock.wall()
        expires_at = math.floor(now + _lifetime(asked, tokens))
        organization = caller.organization if asked.organization is UNSET else asked.organization
        claims = _claims(asked, None if asked.channel else organization) | _parties(tokens)
        signed = issue(
            tokens.hmac_secret.reveal().encode(), claims | {"iat": math.floor(now), "exp": max(expires_at, 0)}
        )
        if len(signed) > MAX_TOKEN_LENGTH:
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"the token would have over {MAX_TOKEN_LENGTH} characters")
        kind: Literal["connection", "subscription"] = "subscription" if asked.channel else "connection"
        answer = TokenAnswer(signed, kind, expires_at, None if asked.channel else organization)
        return Response(answer, headers=HEADERS)

    return Router(
        path="/api/v1/tokens",
        route_handlers=[make],
        exception_handlers=EXPLAINED,
        tags=["Tokens"],
        security=[{"serverApiKey": []}],
    )


async def _check(context: Context, caller: Caller, asked: TokenRequest) -> None:
    """Refuse what this key may not have."""
    for name in (*asked.channels, *([asked.channel] if asked.channel else ())):
        channel = context.namespaces.resolve(name)
        whose = None if isinstance(channel, Error) else organization_of(channel)
        if not caller.reaches(whose):
            raise refuse(HTTPStatus.FORBIDDEN, _NOT_YOURS)
        if isinstance(channel, Error):
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"there can be no channel {name!r}: {channel.message}")
        if asked.organization not in (UNSET, whose):
            text = f"{name!r} is no channel of the only organization that the token would be for"
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, text)
    if caller.organization is None:
        return
    await context.organizations.load(caller.organization)
    is_member = context.organizations.role_in(caller.organization, asked.user) is not None
    if not is_member or asked.organization not in (UNSET, caller.organization):
        raise refuse(HTTPStatus.FORBIDDEN, _NOT_YOURS)


def _lifetime(asked: TokenRequest, tokens: Tokens) -> float:
    if asked.seconds is UNSET:
        return min(_SECONDS, tokens.max_seconds)
    if asked.seconds > tokens.max_seconds:
        text = f"a token is good for {tokens.max_seconds:g} s at most (TOKEN_MAX_SECONDS)"
        raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, text)
    return asked.seconds


def _claims(asked: TokenRequest, organization: str | None) -> dict[str, object]:
    wanted: dict[str, object] = {
        "sub": asked.user,
        "channel": asked.channel,
        "client": asked.client,
        "channels": asked.channels,
        "info": asked.info if bytes(asked.info) else None,
        "only_organization": organization,
    }
    return {name: value for name, value in wanted.items() if value not in ("", None, [])}


def _parties(tokens: Tokens) -> dict[str, object]:
    """Return what every token has to say to be believed here."""
    parties = {"aud": tokens.audience, "iss": tokens.issuer}
    return {name: value for name, value in parties.items() if value is not None}


_RESPONSES: Final = {
    200: ResponseSpec(
        TokenAnswer,
        generate_examples=False,
        description="Done.",
        examples=[
            Example(summary="Done", value={"token": "eyJhbGciOi…", "type": "subscription", "expires_at": 1_893_456_000})
        ],
    )
}
