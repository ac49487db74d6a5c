"""The API server's socket: HTTPS in front of `Api`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from aiohttp import web
from typing_extensions import override

from tests.simcluster.certificates import server_certificate
from tests.simcluster.errors import ApiError
from tests.simcluster.faults import Cut, Hang
from tests.simcluster.requests import Answer, Request

if TYPE_CHECKING:
    from tests.simcluster.api import Api
    from tests.simcluster.faults import Faults
    from tests.simcluster.identity import User

__all__ = ("ApiSocket", "Seen")

_SEEN_COUNT = 10_000
_LAST_TURNS = 5
_ANONYMOUS = ApiError(401, "Unauthorized", "Unauthorized")


class Seen:
    """What a client asked, for tests that count.

    Attributes:
        agent: What the client calls itself.
    """

    def __init__(self, request: Request, user: str) -> None:
        self.method = request.method
        self.path = request.path
        self.manager = request.query.get("fieldManager", "")
        self.is_dry_run = "dryRun" in request.query
        self.agent = request.headers.get("user-agent", "")
        self.user = user

    @override
    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


class ApiSocket:
    """Serves an `Api` over HTTPS on loopback.

    Attributes:
        users: Whom each bearer token speaks for.
        seen: The last requests, oldest first.
        url: Address, once it is open.
    """

    def __init__(self, api: Api, faults: Faults) -> None:
        self._api = api
        self._faults = faults
        self.users: dict[str, User] = {}
        self.seen: deque[Seen] = deque(maxlen=_SEEN_COUNT)
        self.url = ""
        self._runner: web.ServerRunner | None = None

    async def open(self) -> None:
        """Listen on any free port."""
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        context, _ = server_certificate()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"https://127.0.0.1:{port}"

    async def close(self) -> None:
        """Stop listening and end what is open."""
        for watch in tuple(self._api.watches):
            watch.cut()
        if self._runner is None or self._runner.server is None:
            return
        for connection in self._runner.server.connections:
            # A client of the same process would not answer the closing of its TLS.
            if connection.transport is not None:
                connection.transport.abort()
        await self._runner.cleanup()
        for _ in range(_LAST_TURNS):
            await asyncio.sleep(0)

    async def _handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        request = Request(
            raw.method,
            raw.rel_url.path,
            dict(raw.query),
            {name.lower(): value for name, value in raw.headers.items()},
            await raw.read(),
            raw_query=raw.rel_url.raw_query_string,
        )
        try:
            answer = await self._answer(request)
        except ApiError as error:
            answer = Answer(error.code, error.status(), dict(error.headers))
        except Cut:
            if raw.transport is not None:
                raw.transport.abort()
            return web.Response()
        except Hang:
            await asyncio.Event().wait()
            raise AssertionError from None
        return await self._send(raw, request, answer)

    async def _answer(self, request: Request) -> Answer:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        user = self.users.get(token)
        if user is None:
            raise _ANONYMOUS
        self.seen.append(Seen(request, user.name))
        fault = self._faults.hit(request)
        if fault is not None and not fault.is_after:
            fault.strike()
        answer = await self._api.handle(_with_user(request, self._api.user_of(request, user)))
        if fault is not None:
            fault.strike()
        return answer

    async def _send(self, raw: web.BaseRequest, request: Request, answer: Answer) -> web.StreamResponse:
        if answer.pieces is None:
            headers = {**answer.headers, "Content-Type": answer.content_type}
            if not any(name.lower() == "date" for name in headers):
                headers["Date"] = formatdate(self._api.clock.told(), usegmt=True)
            return web.Response(status=answer.code, body=answer.encoded(), headers=headers)
        response = web.StreamResponse(status=answer.code, headers={"Content-Type": answer.content_type})
        response.enable_chunked_encoding()
        await response.prepare(raw)
        # A client's own limit of a watch ends it in order.
        seconds = float(request.query.get("timeoutSeconds") or 0) or None
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds), contextlib.aclosing(_generator(answer.pieces)) as pieces:
                async for piece in pieces:
                    await response.write(piece)
        return response


def _with_user(request: Request, user: User) -> Request:
    return Request(
        request.method,
        request.path,
        request.query,
        request.headers,
        request.body,
        user,
        request.raw_query,
    )


def _generator(pieces: Any) -> Any:  # noqa: ANN401 - an asynchronous generator, which its protocol does not say
    return pieces
