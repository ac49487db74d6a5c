"""A server of the client protocol that does as it is told, also what no service should do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from deploytool.probes.address import Address, parse_address

__all__ = ("ACCEPT", "Answer", "Close", "Say", "fake_service")


class Close(Exception):  # noqa: N818 - what to do, not an error
    """Close the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Say(Exception):  # noqa: N818 - ditto
    """Send this text, whatever it is."""


Answer = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Returns the reply without its id to a method and its body; or raises what to do in its place."""


def ACCEPT(method: str, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - a constant that is called
    """Accept everything."""
    return {method: {}}


async def _serve(connection: ServerConnection, answer: Answer) -> None:
    try:
        async for frame in connection:
            for line in str(frame).splitlines():
                command = json.loads(line)
                number = command.pop("id", 0)
                for method, body in command.items():
                    try:
                        await connection.send(json.dumps({"id": number, **answer(method, body)}))
                    except Say as text:
                        await connection.send(str(text))
                    except Close as close:
                        await connection.close(close.code, close.reason)
                        return
    except ConnectionClosed:
        return


@asynccontextmanager
async def fake_service(answer: Answer = ACCEPT) -> AsyncIterator[Address]:
    """Listen on loopback; yields the address."""
    async with serve(lambda connection: _serve(connection, answer), "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield parse_address(f"ws://127.0.0.1:{port}")
