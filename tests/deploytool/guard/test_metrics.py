from __future__ import annotations

import asyncio

import pytest

from deploytool.guard.metrics import Metrics, serve


async def ask(text: bytes) -> str:
    """Send bytes to the server, and return what came back until it closed."""
    server = await serve(Metrics(), "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(text)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
    return answer.decode()


@pytest.mark.parametrize(
    ("request_line", "status", "content"),
    [
        ("GET /metrics HTTP/1.1", "200 OK", "slackwater_guard_last_look_timestamp_seconds"),
        ("GET /metrics?x=1 HTTP/1.0", "200 OK", "# TYPE slackwater_guard_failures_total counter"),
        ("GET /healthz HTTP/1.1", "200 OK", '{"status":"ok"}'),
        ("GET / HTTP/1.1", "404 Not Found", "only /metrics and /healthz"),
        ("POST /metrics HTTP/1.1", "405 Method Not Allowed", "only GET"),
    ],
)
async def test_answers(request_line: str, status: str, content: str) -> None:
    """One request a connection."""
    head, _, body = (await ask(f"{request_line}\r\nHost: x\r\n\r\n".encode())).partition("\r\n\r\n")

    assert head.startswith(f"HTTP/1.1 {status}\r\n")
    assert f"Content-Length: {len(body.encode())}" in head
    assert content in body


@pytest.mark.parametrize("text", [b"", b"GET /metrics", b"\xff" * 20_000], ids=["nothing", "half", "too-long"])
async def test_what_is_no_request_is_closed(text: bytes) -> None:
    """Without a word."""
    assert "" == await ask(text)
