"""What a request of ``/api/v1`` holds: who sends it, and its body and query as typed values.

Whatever is wrong is raised as an exception of Litestar, of which ``service.api.problem`` makes a document.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.exceptions.responses import create_exception_response

from service.api.problem import explain
from service.api.server_api import STRANGERS, has_key
from service.auth.api_keys import Caller
from service.core import codec
from service.core.codes import Errors
from service.core.organizations import Scope, is_id
from service.errors import DatabaseError, DatabaseUnavailable, OutcomeUnknown, RowsRefused
from service.realtime.callers import Callers, Stranger
from service.realtime.context import Context

__all__ = (
    "EXPLAINED",
    "HEADERS",
    "Gate",
    "decode_cursor",
    "encode_cursor",
    "explain_unmatched",
    "read_body",
    "read_query",
    "refuse",
)

PREFIX: Final = "/api/v1"

HEADERS: Final = {"Cache-Control": "no-store"}
"""Of every answer: what it says is for one reader, and soon out of date."""

_RETRY_SECONDS: Final = 2
_NOT_JSON: Final = "the body is not JSON"
_CURSOR_PREFIX: Final = "1 "

_T = TypeVar("_T", bound=msgspec.Struct)


class Gate:
    """Lets in those whose key is for what they want.

    Args:
        callers: Know the keys.
        context: Of the instance.
    """

    __slots__ = ("_callers", "_context")

    def __init__(self, callers: Callers, context: Context) -> None:
        self._callers = callers
        self._context = context

    async def admit(
        self, request: Request[Any, Any, Any], scope: Scope | None, organization: str | None = None
    ) -> Caller:
        """Return who sends a request, of which no more than the head is read.

        Args:
            scope: What the key has to be for; None for the operator's alone.
            organization: That the request is about; None for none.
        """
        headers, in_url = request.headers, has_key(request.scope["query_string"])
        caller = await self._callers.identify(
            headers.getall("x-api-key", []), headers.getall("authorization", []), in_url=in_url
        )
        if isinstance(caller, Stranger):
            raise _not_let_in(caller)
        if not self._context.may_serve():
            raise refuse(HTTPStatus.SERVICE_UNAVAILABLE, "this instance does not serve now", _RETRY_SECONDS)
        if organization is not None and not is_id(organization):
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "this cannot be the id of an organization")
        if not caller.may(scope, organization):
            # The same whether there is such an organization or not.
            raise refuse(HTTPStatus.FORBIDDEN, "this key is not for that")
        return caller


def _not_let_in(stranger: Stranger) -> HTTPException:
    error = refuse(STRANGERS[stranger.error.code], stranger.text, stranger.retry_after)
    if stranger.error is Errors.UNAUTHORIZED:
        error.headers = {"WWW-Authenticate": "apikey"}
    return error


def refuse(status: HTTPStatus, detail: str, retry_after: int = 0) -> HTTPException:
    """Return an exception to raise; with ``retry_after`` seconds above 0, the answer names them."""
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    return HTTPException(status_code=int(status), detail=detail, headers=headers)


def _explain_database(request: Request[Any, Any, Any], error: DatabaseError) -> Response[dict[str, object]]:
    """Turn trouble of the database into a problem; for ``exception_handlers``."""
    if isinstance(error, RowsRefused):
        return explain(request, refuse(HTTPStatus.CONFLICT, f"nothing was changed: {error.reason}"))
    if isinstance(error, OutcomeUnknown):
        text = f"it is not known whether this was done, look before you try again: {error.reason}"
        return explain(request, refuse(HTTPStatus.SERVICE_UNAVAILABLE, text, _RETRY_SECONDS))
    text = error.reason if isinstance(error, DatabaseUnavailable) else "the database cannot be used now"
    return explain(request, refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"nothing was changed: {text}", _RETRY_SECONDS))


def _explain_defect(request: Request[Any, Any, Any], _: Exception) -> Response[dict[str, object]]:
    # What it was is noted by the application, and nobody else's business.
    return explain(request, refuse(HTTPStatus.INTERNAL_SERVER_ERROR, ""))


EXPLAINED: Final[dict[int | type[Exception], Callable[..., Response[Any]]]] = {
    HTTPException: explain,
    DatabaseError: _explain_database,
    Exception: _explain_defect,
}
"""For the ``exception_handlers`` of a router: every error is a problem."""


def explain_unmatched(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer what no route of ``/api/v1`` is for with a problem, and elsewhere as Litestar does.

    For the ``exception_handlers`` of the application.
    """
    if request.scope["path"].startswith(PREFIX):
        return explain(request, error)
    return create_exception_response(request, error)


async def read_body(request: Request[Any, Any, Any], struct: type[_T]) -> _T:
    """Read the body: 400 when it is not JSON, 422 when it is not what is asked for."""
    body = await request.body()
    if not codec.is_json(body):
        raise refuse(HTTPStatus.BAD_REQUEST, _NOT_JSON)
    try:
        return msgspec.json.decode(body, type=struct)
    except msgspec.ValidationError as error:
        raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        # What shows only when text is unescaped, as half of a surrogate pair does.
        raise refuse(HTTPStatus.BAD_REQUEST, _NOT_JSON) from error


def read_query(request: Request[Any, Any, Any], struct: type[_T]) -> _T:
    """Read the query: 422 for what is not asked for, or twice."""
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(request.scope["query_string"]),
            errors="strict",
        )
        values = dict(pairs)
        if len(values) != len(pairs):
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "a parameter of the query is there twice")
        return msgspec.convert(values, struct, strict=False)
    except ValueError as error:
        text = str(error) if isinstance(error, msgspec.ValidationError) else "this is no query"
        raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, text) from error


def encode_cursor(last: str) -> str:
    """Return what to go on with behind ``last``."""
    return urlsafe_b64encode((_CURSOR_PREFIX + last).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> str:
    """Return what `encode_cursor` was given; empty for no cursor, and 422 for anything else."""
    if not cursor:
        return ""
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    last = text.removeprefix(_CURSOR_PREFIX)
    if not last or encode_cursor(last) != cursor:
        raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "this cursor is none that was handed out")
    return last
