"""Clients that come back at once and ask for what they missed.

``python -m tests.bench.load.recovering PORT CHANNEL OFFSET EPOCH COUNT MISSED`` with tokens on standard input, one a
line. Prints one JSON object: seconds from the first connect until the last client has all that it missed.
"""

import asyncio
import base64
import json
import os
import sys
import time
from dataclasses import dataclass

_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Wish:
    """What each client wants."""

    port: int
    channel: str
    offset: int
    epoch: str
    missed: int


def _frame(text: str) -> bytes:
    """A masked text frame; the mask is of zeros, which changes nothing."""
    payload = text.encode()
    return b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


async def _client(wish: Wish, token: str) -> tuple[bool, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", wish.port, limit=2**20)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    status = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in status.split(b"\r\n")[0]:
        writer.close()
        return False, 0
    subscribe = {"channel": wish.channel, "recover": True, "recoverable": True, "offset": wish.offset}
    commands = [{"id": 1, "connect": {"token": token}}, {"id": 2, "subscribe": {**subscribe, "epoch": wish.epoch}}]
    writer.write(_frame("\n".join(json.dumps(command, separators=(",", ":")) for command in commands)))
    found, recovered = 0, False
    while not recovered:
        head = await reader.readexactly(2)
        length = head[1]
        if length >= 126:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
        payload = await reader.readexactly(length)
        if head[0] & 15 != 1:
            break
        for line in payload.split(b"\n"):
            if b'"id":2' in line[:40]:
                recovered = b'"recovered":true' in line
                found = line.count(b'"offset":') - 1
                writer.close()
                return recovered, found
    writer.close()
    return False, 0


async def _main(wish: Wish, count: int, tokens: list[str]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)
    whole = 0
    start = time.perf_counter()

    async def one(index: int) -> None:
        nonlocal whole
        async with gate:
            recovered, found = await _client(wish, tokens[index % len(tokens)])
        whole += recovered and found == wish.missed

    async with asyncio.TaskGroup() as group:
        for index in range(count):
            group.create_task(one(index))
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - start, "whole": whole}) + "\n")


if __name__ == "__main__":
    _port, _channel, _offset, _epoch, _count, _missed = sys.argv[1:]
    asyncio.run(
        _main(
            Wish(int(_port), _channel, int(_offset), _epoch, int(_missed)),
            int(_count),
            sys.stdin.read().split(),
        )
    )
