"""One look of a probe."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.simcluster.endpoints import port_number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.simcluster.store import Object

__all__ = ("Execute", "look")

if TYPE_CHECKING:
    Execute = Callable[[list[str]], Awaitable[int]]
else:
    Execute = object

_REFUSED_FROM = 400


async def look(probe: Mapping[str, Any], pod: Object, address: str, execute: Execute) -> str:
    """Carry a probe out; returns what is wrong, empty for nothing.

    Its time-out is taken in real time: what it waits for is a real process.
    """
    try:
        async with asyncio.timeout(max(1, probe.get("timeoutSeconds", 1))):
            if action := probe.get("httpGet"):
                return await _http(action, pod, address)
            if action := probe.get("tcpSocket"):
                return await _tcp(port_number(pod, action["port"]) or 0, address)
            code = await execute(probe["exec"]["command"])
            return f"command exited with {code}" if code else ""
    except TimeoutError:
        return "context deadline exceeded"
    except (OSError, aiohttp.ClientError) as error:
        return f"dial: {error}"


async def _http(action: Mapping[str, Any], pod: Object, address: str) -> str:
    port = port_number(pod, action["port"])
    url = f"{action.get('scheme', 'HTTP').lower()}://{action.get('host', address)}:{port}{action.get('path', '/')}"
    headers = {header["name"]: header["value"] for header in action.get("httpHeaders") or ()}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        session.get(url, headers={"User-Agent": "kube-probe/1.33", **headers}, allow_redirects=False) as answer,
    ):
        await answer.read()
        return f"HTTP probe failed with statuscode: {answer.status}" if answer.status >= _REFUSED_FROM else ""


async def _tcp(port: int, address: str) -> str:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""
