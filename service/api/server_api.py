"""The server API: back ends publish, manage the connections of their users, and ask what is going on.

The wire is that of Centrifugo's HTTP API, so that its client libraries work unchanged:
``POST /api/<method>`` with a JSON object, whatever Content-Type it claims to be.

* 200 with ``{"result": ...}``, or with ``{"error": {"code", "message"}}`` for what went wrong in
  the application. A batch is answered with ``{"replies": [...]}``.
* With ``X-Centrifugo-Error-Mode: transport`` such an error has an HTTP status of its own (`STATUSES`)
  and the body is the bare error.
* A request that is no request of this API always gets an HTTP status: 400 when the body is not
  what the method takes, a field of the wrong type too; 401 without the key; 413 for a body over the limit.
* 503 with error 100 while this instance does not serve: another one does, or it cannot prove that it may.
* A request with the key of an organization that is used more often than it may be gets 429, and 503 when
  the database does not say whether the key is a good one.
* A batch that is refused as a whole gets an HTTP status too, since the answer to a batch has no
  place for an error that existing clients could read.

What a method means, and which values it refuses, is ``service.realtime.server_commands``.
"""

from dataclasses import dataclass
from http import HTTPStatus
from platform import node as host_name
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Router, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, Reference, SecurityScheme
from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope, Receive

from service.api.described import described
from service.auth.api_keys import ApiKey
from service.core.codes import Error, Errors
from service.observability.process import Process, SystemProcess
from service.realtime.callers import Callers, Stranger
from service.realtime.instance import Instance
from service.realtime.server_commands import METHODS, Malformed, Node, ServerContext, Usage, call, encode_error
from service.settings.groups import Api, Http

__all__ = ("SECURITY_SCHEMES", "STATUSES", "STRANGERS", "create_server_api_router", "create_server_context", "has_key")

STATUSES: Final = {
    Errors.INTERNAL.code: HTTPStatus.INTERNAL_SERVER_ERROR,
    Errors.UNAUTHORIZED.code: HTTPStatus.UNAUTHORIZED,
    Errors.UNKNOWN_CHANNEL.code: HTTPStatus.NOT_FOUND,
    Errors.PERMISSION_DENIED.code: HTTPStatus.FORBIDDEN,
    Errors.METHOD_NOT_FOUND.code: HTTPStatus.NOT_FOUND,
    Errors.ALREADY_SUBSCRIBED.code: HTTPStatus.CONFLICT,
    Errors.LIMIT_EXCEEDED.code: HTTPStatus.BAD_REQUEST,
    Errors.BAD_REQUEST.code: HTTPStatus.BAD_REQUEST,
    Errors.NOT_AVAILABLE.code: HTTPStatus.BAD_REQUEST,
    Errors.TOKEN_EXPIRED.code: HTTPStatus.UNAUTHORIZED,
    Errors.EXPIRED.code: HTTPStatus.UNAUTHORIZED,
    Errors.TOO_MANY_REQUESTS.code: HTTPStatus.TOO_MANY_REQUESTS,
    Errors.UNRECOVERABLE_POSITION.code: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
}
"""The HTTP status of each error, where errors have one. A code of the application's own is 400."""

STRANGERS: Final = {
    Errors.UNAUTHORIZED.code: HTTPStatus.UNAUTHORIZED,
    Errors.TOO_MANY_REQUESTS.code: HTTPStatus.TOO_MANY_REQUESTS,
    Errors.INTERNAL.code: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The HTTP status for a request whose key does not let it in."""

SECURITY_SCHEMES: Final[dict[str, SecurityScheme | Reference]] = {
    "serverApiKey": SecurityScheme(
        type="apiKey",
        name="X-API-Key",
        security_scheme_in="header",
        description="The value of API_KEY, or the key of an organization, which reaches that organization's channels "
        "and members. `Authorization: apikey <key>` does as well; the query does not.",
    )
}
"""For the components of the OpenAPI document that this router is part of."""


_RETRY_SECONDS: Final = 2
"""After which an instance that does not serve is worth another request."""


class _Header(NamedTuple):
    """What the server API reads of the head of a request."""

    keys: list[str]
    authorizations: list[str]
    length: int
    is_transport_mode: bool


class _Answer(NamedTuple):
    """What goes back.

    Attributes:
        ends: Close the connection, since the rest of the request is not read.
        retry_after: Seconds; 0 when to try again is of no use.
    """

    body: bytes
    status: int = 200
    ends: bool = False
    retry_after: int = 0


def create_server_api_router(instance: Instance, api: Api, http: Http, *, process: Process | None = None) -> Router:
    """Return ``POST /api/<method>`` for every method.

    Args:
        instance: Whose hub, streams and clock the methods work with.
        api: The key, without which every request is refused, and the limits.
        http: The limit of a body.
        process: What ``info`` says about the process comes from it; the real one unless told otherwise.
    """
    server = create_server_context(instance, api, process=process)
    key = ApiKey(api.key.reveal() if api.key is not None else "")
    callers = Callers(key, instance.context.organizations)
    handlers = [_handler(method, _Endpoint(method, server, callers, http.max_body_bytes)) for method in METHODS]
    return Router("/api", route_handlers=handlers, tags=["Server API"], security=[{"serverApiKey": []}])


def create_server_context(instance: Instance, api: Api, *, process: Process | None = None) -> ServerContext:
    """Return what the methods of the server API work with; the arguments are those of `create_server_api_router`."""
    return ServerContext(
        instance.context,
        _node(instance, process or SystemProcess()),
        batch_commands=api.max_batch_commands,
        broadcast_channels=api.max_broadcast_channels,
    )


def _node(instance: Instance, process: Process) -> Node:
    """Describe this process; its CPU use is the average since it was asked for before."""
    clock = instance.context.clock
    before = (clock.now(), process.cpu_seconds())

    def usage() -> Usage:
        nonlocal before
        now, used = clock.now(), process.cpu_seconds()
        (then, used_then), before = before, (now, used)
        cpu = 100 * (used - used_then) / (now - then) if now > then else 0.0
        return Usage(round(cpu, 2), process.memory_bytes())

    return Node(instance.id, host_name() or "slackwater", instance.version, instance.started_at, usage)


class _Endpoint:
    """One method over HTTP."""

    __slots__ = ("_callers", "_max_bytes", "_method", "_server")

    def __init__(self, method: str, server: ServerContext, callers: Callers, max_bytes: int) -> None:
        self._method = method
        self._server = server
        self._callers = callers
        self._max_bytes = max_bytes

    async def answer(self, scope: HTTPScope, receive: Receive) -> _Answer:
        """Answer a request; nothing of its body is read before its key was found right."""
        header = _header(scope)
        in_url = has_key(scope["query_string"])
        caller = await self._callers.identify(header.keys, header.authorizations, in_url=in_url)
        if isinstance(caller, Stranger):
            answer = self._refuse(caller.error, caller.text, STRANGERS[caller.error.code])
            return answer._replace(retry_after=caller.retry_after)
        if not self._server.context.may_serve():
            # In every mode: who asks is to come back, or to ask another address, whatever is in the body.
            return self._refuse(Errors.INTERNAL, "this instance does not serve now", HTTPStatus.SERVICE_UNAVAILABLE)
        body = await _read(receive, self._max_bytes) if header.length <= self._max_bytes else None
        if body is None:
            self._server.context.observer.limited("body_bytes")
            text = f"the body is longer than {self._max_bytes} bytes"
            too_long = self._refuse(Errors.LIMIT_EXCEEDED, text, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return too_long._replace(ends=True)
        outcome = await call(self._server, self._method, body, caller)
        if isinstance(outcome, Malformed):
            return self._refuse(Errors.BAD_REQUEST, f"the body is {outcome.problem}", HTTPStatus.BAD_REQUEST)
        return self._answer(outcome, has_status=header.is_transport_mode or self._method == "batch")

    def _answer(self, outcome: bytes | Error, *, has_status: bool) -> _Answer:
        if isinstance(outcome, Error):
            if has_status:
                return _failure(outcome, STATUSES.get(outcome.code, HTTPStatus.BAD_REQUEST))
            return _Answer(b'{"error":%b}' % encode_error(outcome))
        return _Answer(outcome if self._method == "batch" else b'{"result":%b}' % outcome)

    def _refuse(self, row: Error, text: str, status: int) -> _Answer:
        error = Error(row.code, f"{row.message}: {text}", temporary=row.temporary)
        self._server.context.observer.error(f"api_{self._method}", error)
        return _failure(error, status)


def _failure(error: Error, status: int) -> _Answer:
    """Answer with an HTTP status; the body is the error itself."""
    return _Answer(encode_error(error), int(status))


def _header(scope: HTTPScope) -> _Header:
    keys: list[str] = []
    authorizations: list[str] = []
    length = 0
    is_transport_mode = False
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            keys.append(value.decode("latin-1"))
        elif name == b"authorization":
            authorizations.append(value.decode("latin-1"))
        elif name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"x-centrifugo-error-mode":
            is_transport_mode = value.strip().lower() == b"transport"
    return _Header(keys, authorizations, length, is_transport_mode)


def has_key(query: bytes) -> bool:
    """Whether the query has an ``api_key``, however it is escaped."""
    if not query:
        return False
    return any(name == "api_key" for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))


async def _read(receive: Receive, max_bytes: int) -> bytes | None:
    """Read a body.

    Returns:
        None as soon as it is longer than ``max_bytes``; empty when the peer went away before its end.
    """
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        part = message.get("body", b"")
        length += len(part)
        if length > max_bytes:
            return None
        if not message.get("more_body", False):
            return b"".join(parts) + part if parts else part
        parts.append(part)


def _handler(method: str, endpoint: _Endpoint) -> HTTPRouteHandler:
    docs = _DOCS[method]

    @post(
        f"/{method}",
        status_code=200,
        name=f"server_api:{method}",
        operation_id=f"ServerApi{method.title().replace('_', '')}",
        operation_class=described(METHODS[method].params, example=docs.request, required=docs.required),
        summary=docs.summary,
        description=docs.description,
        responses=_responses(method, docs),
    )
    async def handle(request: Request[Any, Any, Any]) -> ASGIResponse:
        answer = await endpoint.answer(request.scope, request.receive)
        headers = {}
        if answer.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "apikey"
        elif answer.retry_after or answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(answer.retry_after or _RETRY_SECONDS)
        if answer.ends and request.scope["http_version"].startswith("1"):
            headers["Connection"] = "close"
        return ASGIResponse(body=answer.body, status_code=answer.status, headers=headers)

    return handle


# For the OpenAPI document.


class ServerApiError(msgspec.Struct, frozen=True):
    """What went wrong.

    Attributes:
        temporary: The same request may succeed later.
    """

    code: int
    message: str
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class _Docs:
    """What the OpenAPI document says about a method.

    Attributes:
        required: Parameters that must be there.
        request: An example of the body.
        result: An example of what comes back for it.
    """

    summary: str
    description: str
    required: tuple[str, ...]
    request: dict[str, Any]
    result: dict[str, Any]


_OF_USER = "That there is no such connection is fine: the result is the same. "
_CHANNEL = {"channel": "chat:index"}
_POSITION = {"offset": 11, "epoch": "aBcDeFgH"}
_WHO = {"user": "42", "client": "9f0c5a36-5f0e-4f6f-9d2b-3a1f6f3c9b52", "conn_info": {"name": "Ada"}}

_DOCS: Final = {
    "publish": _Docs(
        "Publish into a channel",
        "Returns when the publication is kept. The result is empty when the namespace keeps no history. "
        "Data longer than WS_MAX_MESSAGE_BYTES is refused with error 107.",
        ("channel", "data"),
        {**_CHANNEL, "data": {"text": "hello"}, "idempotency_key": "order-17-paid"},
        _POSITION,
    ),
    "broadcast": _Docs(
        "Publish the same into many channels",
        "One response a channel, in their order: what fails in one does not keep it from the others. "
        "More than API_MAX_BROADCAST_CHANNELS channels are refused with error 106.",
        ("channels", "data"),
        {"channels": ["chat:index", "nowhere:index"], "data": {"text": "hello"}},
        {"responses": [{"result": _POSITION}, {"error": {"code": 102, "message": "unknown channel"}}]},
    ),
    "subscribe": _Docs(
        "Subscribe the connections of a user",
        _OF_USER + "A connection that is subscribed already stays as it is.",
        ("user", "channel"),
        {"user": "42", **_CHANNEL, "data": {"why": "invited"}},
        {},
    ),
    "unsubscribe": _Docs(
        "Unsubscribe the connections of a user",
        _OF_USER + "The clients get code 2000 and do not subscribe again by themselves.",
        ("user", "channel"),
        {"user": "42", **_CHANNEL},
        {},
    ),
    "disconnect": _Docs(
        "Close the connections of a user",
        _OF_USER + "The clients get code 3503 and do not come back by themselves, unless another code is given.",
        ("user",),
        {"user": "42", "disconnect": {"code": 4500, "reason": "logged out elsewhere"}},
        {},
    ),
    "refresh": _Docs(
        "Change when the connections of a user run out",
        _OF_USER + "With `expired`, or with a time in the past, they are closed with code 3005, "
        "and the clients come back with a new token.",
        ("user",),
        {"user": "42", "expire_at": 1893456000},
        {},
    ),
    "presence": _Docs(
        "Who is in a channel",
        "By client id. Error 108 where the namespace does not keep presence.",
        ("channel",),
        _CHANNEL,
        {"presence": {_WHO["client"]: _WHO}},
    ),
    "presence_stats": _Docs(
        "How many are in a channel",
        "Error 108 where the namespace does not keep presence.",
        ("channel",),
        _CHANNEL,
        {"num_clients": 3, "num_users": 2},
    ),
    "history": _Docs(
        "What was published in a channel",
        "At most 300 publications at once. Error 108 where the namespace keeps no history, "
        "112 when `since` is of a stream that is gone.",
        ("channel",),
        {**_CHANNEL, "limit": 10, "since": {"offset": 10, "epoch": "aBcDeFgH"}},
        {"publications": [{"data": {"text": "hello"}, "offset": 11}], **_POSITION},
    ),
    "history_remove": _Docs(
        "Forget what was published in a channel",
        "Offset and epoch stay, so that no client mistakes new publications for old ones.",
        ("channel",),
        _CHANNEL,
        {},
    ),
    "channels": _Docs(
        "Which channels have subscribers",
        "A pattern has `*` for any characters, `?` for one, `[abc]` and `[!abc]` for one of a set, "
        "`{this,that}` for one of several, and `\\` before a character that is meant itself.",
        (),
        {"pattern": "chat:*"},
        {"channels": {"chat:index": {"num_clients": 3}}},
    ),
    "info": _Docs(
        "What this process does",
        "`cpu` is in percent of one core since `info` was asked for before, `rss` in bytes, `uptime` in seconds.",
        (),
        {},
        {
            "nodes": [
                {
                    "uid": "5f0e8c1e-6d0b-4b3c-8f5d-0c9d1b6a7e42",
                    "name": "slackwater-0",
                    "version": "0.1.0",
                    "num_clients": 150,
                    "num_users": 142,
                    "num_subs": 420,
                    "num_channels": 45,
                    "uptime": 8100,
                    "process": {"cpu": 3.1, "rss": 256901120},
                }
            ]
        },
    ),
    "rpc": _Docs(
        "Call a method of the application",
        "Error 104 when the application has no such method.",
        ("method",),
        {"method": "sum", "params": [1, 2]},
        {"data": 3},
    ),
    "batch": _Docs(
        "Several commands in one request",
        "One reply a command, in their order, each with the result under the name of its method, or with its error. "
        "A command that fails does not keep the others from running. "
        "More than API_MAX_BATCH_COMMANDS commands are refused as a whole with 400.",
        ("commands",),
        {"commands": [{"publish": {**_CHANNEL, "data": 1}}, {"presence_stats": {"channel": "nowhere:index"}}]},
        {"replies": [{"publish": _POSITION}, {"error": {"code": 102, "message": "unknown channel"}}]},
    ),
}


def _responses(method: str, docs: _Docs) -> dict[int, ResponseSpec]:
    value = docs.result if method == "batch" else {"result": docs.result}
    examples = [Example(summary="Done", value=value)]
    if method != "batch":
        error = {"code": 107, "message": "bad request: channel is missing"}
        examples.append(Example(summary="Refused by the application", value={"error": error}))
    return {
        200: ResponseSpec(dict[str, Any], generate_examples=False, description="What came of it.", examples=examples),
        400: ResponseSpec(
            ServerApiError, generate_examples=False, description="The body is not what this method takes."
        ),
        401: ResponseSpec(
            ServerApiError, generate_examples=False, description="The API key is missing, wrong, or in the URL."
        ),
        413: ResponseSpec(
            ServerApiError, generate_examples=False, description="The body is longer than HTTP_MAX_BODY_BYTES."
        ),
        429: ResponseSpec(
            ServerApiError, generate_examples=False, description="The key of an organization is used too often."
        ),
        503: ResponseSpec(
            ServerApiError, generate_examples=False, description="This instance does not serve now: error 100."
        ),
    }
