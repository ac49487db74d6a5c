"""A client of the protocol over a fake transport, with the words that tests speak in."""

from __future__ import annotations

import json
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from service.realtime.connection import Connection
from tests.support.transport import FakeTransport

if TYPE_CHECKING:
    from service.core.codes import Disconnect, Error, Unsubscribe
    from tests.support.world import World

__all__ = ("FakeClient",)


class FakeClient:
    """One WebSocket of a world.

    What comes is taken in order: whoever expects a reply while a push is in front of it fails.

    Attributes:
        inbox: What came and was not expected yet, decoded, oldest first.
    """

    def __init__(self, world: World, *, address: str = "") -> None:
        self.world = world
        self.transport = FakeTransport()
        self.connection = Connection(world.context, self.transport, address=address)
        self.transport.attach(self.connection)
        self.inbox: deque[dict[str, Any]] = deque()
        self._ids = count(1)
        self._read = 0

    @property
    def id(self) -> str:
        """Identity that the server gave."""
        return self.connection.client

    # Sending.

    def send_raw(self, message: bytes) -> None:
        """Send one text message as it is."""
        self.connection.receive(message)

    def send(self, *commands: dict[str, Any]) -> None:
        """Send commands in one frame."""
        self.send_raw(b"\n".join(json.dumps(command).encode() for command in commands))

    def command(self, method: str, /, **params: object) -> dict[str, Any]:
        """Return a command with the next id, not sent yet."""
        return {"id": next(self._ids), method: params}

    def ask(self, method: str, /, **params: object) -> int:
        """Send one command and return its id."""
        command = self.command(method, **params)
        self.send(command)
        return int(command["id"])

    def lose(self) -> None:
        """Let the socket break."""
        self.transport.closed = self.transport.closed or (1006, "")
        self.connection.lost()

    # Sending, and expecting that it succeeds.

    def connect(self, user: str = "", **claims: object) -> dict[str, Any]:
        """Connect and return the result; with neither user nor claims, without a token."""
        params = {"token": self.world.token(user, **claims)} if user or claims else {}  # type: ignore[arg-type]
        return self.do("connect", **params)

    def subscribe(self, channel: str, **params: object) -> dict[str, Any]:
        """Subscribe and return the result."""
        return self.do("subscribe", channel=channel, **params)

    def do(self, method: str, /, **params: object) -> dict[str, Any]:
        """Send a command and return its result."""
        return self.expect_reply(self.ask(method, **params), method)

    # Expecting.

    def take_in(self) -> None:
        """End the tick, and sort what was written."""
        self.world.settle()
        for payload in self.transport.payloads[self._read :]:
            self.inbox.extend(json.loads(line) for line in payload.split(b"\n"))
        self._read = len(self.transport.frames)

    def _next(self) -> dict[str, Any]:
        self.take_in()
        assert self.inbox, f"nothing came; closed: {self.transport.closed}"
        return self.inbox.popleft()

    def expect_reply(self, request_id: int, method: str) -> dict[str, Any]:
        """Return the result that comes next, to this command."""
        message = self._next()

        assert {"id", method} == message.keys(), message
        assert request_id == message["id"]
        result = message[method]
        assert isinstance(result, dict)
        return result

    def expect_error(self, request_id: int, error: Error) -> None:
        """Expect that this command is refused next."""
        expected: dict[str, Any] = {"code": error.code, "message": error.message}
        if error.temporary:
            expected["temporary"] = True

        assert {"id": request_id, "error": expected} == self._next()

    def refused(self, error: Error, method: str, /, **params: object) -> None:
        """Send a command and expect that it is refused."""
        self.expect_error(self.ask(method, **params), error)

    def expect_push(self, kind: str, channel: str | None = None) -> dict[str, Any]:
        """Return the body of the push that comes next; ``channel`` is None for one to the connection."""
        message = self._next()

        assert {"push"} == message.keys(), message
        push = message["push"]
        assert channel == push.get("channel")
        assert {kind} == push.keys() - {"channel"}
        body = push[kind]
        assert isinstance(body, dict)
        return body

    def expect_unsubscribed(self, channel: str, why: Unsubscribe) -> None:
        """Expect that the server ends a subscription next."""
        assert {"code": why.code, "reason": why.reason} == self.expect_push("unsubscribe", channel)

    def expect_ping(self) -> None:
        """Expect a ping next."""
        assert {} == self._next()

    def expect_no_push(self) -> None:
        """Expect that nothing more comes, push or reply, and that the connection lives."""
        self.take_in()

        assert [] == list(self.inbox)
        assert self.transport.closed is None

    def offsets(self, channel: str) -> list[int]:
        """Return the offsets of the publications that came next, and take them."""
        self.take_in()
        found = []
        while self.inbox and self.inbox[0].get("push", {}).get("channel") == channel and "pub" in self.inbox[0]["push"]:
            found.append(self.inbox.popleft()["push"]["pub"].get("offset", 0))
        return found

    def expect_closed(self, why: Disconnect) -> None:
        """Expect that nothing more comes and the connection was closed with this code and reason."""
        self.take_in()

        assert [] == list(self.inbox)
        assert (why.code, why.reason) == self.transport.closed
        assert self.id not in self.world.hub.connections

    def expect_closed_with(self, code: int, text: str) -> None:
        """Expect a close with this code, and these words in its reason."""
        self.take_in()

        assert [] == list(self.inbox)
        assert self.transport.closed is not None
        assert code == self.transport.closed[0]
        assert text in self.transport.closed[1]
        assert self.id not in self.world.hub.connections
