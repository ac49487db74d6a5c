"""A client of the protocol, as much of it as probes need.

It is no stock client on purpose: a probe wants to see the refusal itself, and never to come back by itself.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from deploytool.probes.errors import ProbeError, first_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from websockets.asyncio.client import ClientConnection

    from deploytool.probes.address import Address

__all__ = ("INSTANCE", "ProbeClient", "Reply", "open_client", "upgrade")

INSTANCE: Final = "X-Slackwater-Instance"
"""Header of a 101: which process answered."""

_OPEN_SECONDS: Final = 10.0
_REPLY_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 2.0
# Too many requests, or something in between failed.
_SAYS_NOTHING: Final = frozenset({429, *range(500, 600)})
_LONGEST_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a command.

    Attributes:
        result: Of the command; None when it was refused.
        code: Of the error, or of the close; 0 when neither.
        text: For people, such as ``error 109 token expired``.
    """

    result: Mapping[str, Any] | None
    code: int = 0
    text: str = "accepted"

    @property
    def is_accepted(self) -> bool:
        """Whether the command succeeded."""
        return self.result is not None


class _Connect(connect):
    """Takes a redirect for an answer, as browsers do."""

    @override
    def process_redirect(self, exc: Exception) -> Exception:
        return exc


@asynccontextmanager
async def _open(address: Address, origin: str | None) -> AsyncIterator[ClientConnection]:
    host, port = address.target
    tls: dict[str, Any] = {"ssl": address.context(), "server_hostname": address.host} if address.is_tls else {}
    connection = await _Connect(
        address.url,
        origin=origin,  # type: ignore[arg-type]  # any text, since refusals are what is looked for
        host=host,
        port=port,
        open_timeout=_OPEN_SECONDS,
        close_timeout=_CLOSE_SECONDS,
        ping_interval=None,
        max_size=_LONGEST_BYTES,
        compression=None,
        proxy=None,
        user_agent_header="deploytool",
        **tls,
    )
    try:
        yield connection
    finally:
        await connection.close()


async def upgrade(address: Address, origin: str | None = None) -> tuple[bool, str, str]:
    """Try an upgrade, and close again.

    Args:
        address: Where.
        origin: As a browser would send it; None for a client that is none.

    Returns:
        Whether it was a 101, the answer for people, and the instance that gave it (empty when it did not say).

    Raises:
        ProbeError: The answer says nothing of the request: the service is full, gated, or not there.
    """
    try:
        async with _open(address, origin) as connection:
            headers = connection.response.headers if connection.response else {}
            return True, "HTTP 101", headers.get(INSTANCE, "")
    except InvalidStatus as error:
        status = error.response.status_code
        if status in _SAYS_NOTHING:
            raise ProbeError(f"{address.url} answered HTTP {status}, which says nothing of what was tried") from error
        return False, f"HTTP {status}", error.response.headers.get(INSTANCE, "")


@dataclass(slots=True)
class ProbeClient:
    """One connection.

    Attributes:
        on_publication: Called with the data of every publication.
        instance: That answered the upgrade; empty when it did not say.
    """

    connection: ClientConnection
    on_publication: Callable[[Any], None] | None = None
    _last_id: int = 0
    _waiting: dict[int, asyncio.Future[Reply]] = field(default_factory=dict)
    _end: Reply | None = None

    @property
    def instance(self) -> str:
        """Which process answered the upgrade; empty when it did not say."""
        return self.connection.response.headers.get(INSTANCE, "") if self.connection.response else ""

    @property
    def end(self) -> Reply | None:
        """How the connection ended; None while it is open."""
        return self._end

    async def ask(self, method: str, body: Mapping[str, Any]) -> Reply:
        """Send a command and wait for what becomes of it."""
        (reply,) = await self.ask_all(method, [body])
        return reply

    async def ask_all(self, method: str, bodies: list[Mapping[str, Any]]) -> list[Reply]:
        """Send commands in one frame and wait for what becomes of each."""
        if self._end is not None:
            return [self._end] * len(bodies)
        loop = asyncio.get_running_loop()
        lines, replies = [], []
        for body in bodies:
            self._last_id += 1
            self._waiting[self._last_id] = loop.create_future()
            replies.append(self._waiting[self._last_id])
            lines.append(json.dumps({"id": self._last_id, method: body}, separators=(",", ":")))
        try:
            await self.connection.send("\n".join(lines))
            async with asyncio.timeout(_REPLY_SECONDS):
                return [await reply for reply in replies]
        except ConnectionClosed:
            # The reader knows with which code.
            async with asyncio.timeout(_REPLY_SECONDS):
                return [await reply for reply in replies]
        except TimeoutError:
            raise ProbeError(f"a {method} command got no answer within {_REPLY_SECONDS:g} s") from None

    async def read(self) -> None:
        """Read until the connection ends; answers pings, and wakes up who waits."""
        try:
            async for frame in self.connection:
                for line in (frame if isinstance(frame, str) else frame.decode(errors="replace")).splitlines():
                    await self._take(line)
        except ConnectionClosed:
            pass
        code, reason = self.connection.close_code or 1006, self.connection.close_reason
        self._end = Reply(None, code, f"closed with {code} {_printable(reason or '')}".rstrip())
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(self._end)

    async def _take(self, line: str) -> None:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ProbeError("the service sent something that is not the client protocol")
        if not found:
            await self.connection.send("{}")
        elif "push" in found:
            publication = found["push"].get("pub") if isinstance(found["push"], dict) else None
            if publication is not None and self.on_publication is not None:
                self.on_publication(publication.get("data"))
        elif (waiting := self._waiting.pop(found.get("id", 0), None)) is not None and not waiting.done():
            waiting.set_result(_reply(found))


def _reply(found: Mapping[str, Any]) -> Reply:
    error = found.get("error")
    if error is None:
        return Reply(next((value for key, value in found.items() if key != "id" and isinstance(value, dict)), {}))
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        raise ProbeError("the service sent an error that is not of the client protocol")
    return Reply(None, error["code"], f"error {error['code']} {_printable(str(error.get('message', '')))}".rstrip())


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:120]


@asynccontextmanager
async def open_client(
    address: Address, *, on_publication: Callable[[Any], None] | None = None
) -> AsyncIterator[ProbeClient]:
    """Open a connection on which nothing has been said yet; it is closed at the end."""
    async with _open(address, None) as connection:
        client = ProbeClient(connection, on_publication)
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(client.read())
                try:
                    yield client
                finally:
                    await connection.close()
                    reading.cancel()
        except BaseExceptionGroup as errors:
            # One client, one error: the reader's, or that of who uses it.
            raise first_of(errors) from errors
