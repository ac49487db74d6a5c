"""What tests ask a running process: its server API, its figures, its admin API."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.process import ADMIN_KEY, API_KEY

if TYPE_CHECKING:
    from tests.support.process import ServiceProcess

__all__ = ("EMPTY", "admin", "api", "figures", "local_http", "until_empty", "until_figures")

_SAMPLE = re.compile(r"^slackwater_(\w+(?:\{[^}]*\})?) ([-+.\deE]+)$", re.MULTILINE)
_DEADLINE_SECONDS = 20.0

# Everything is plain HTTP on loopback; to read the certificates of the system takes longer than to ask.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

EMPTY = {"connections": 0, "connections_unauthenticated": 0, "users": 0, "rooms": 0, "subscriptions": 0}
"""What the figures say when no connection has left anything behind."""


def local_http() -> httpx.AsyncClient:
    """Return a client for this machine alone."""
    return httpx.AsyncClient(trust_env=False, verify=_NO_TLS)


async def api(service: ServiceProcess, method: str, /, **params: object) -> Any:  # noqa: ANN401 - the result's own shape
    """Call a method of the server API and return its result."""
    async with local_http() as http:
        response = await http.post(f"{service.url}/api/{method}", json=params, headers={"X-API-Key": API_KEY})
    answer = response.json()

    assert "result" in answer, answer

    return answer["result"]


async def admin(service: ServiceProcess, verb: str, path: str, body: object = None) -> httpx.Response:
    """Ask the admin API."""
    async with local_http() as http:
        return await http.request(
            verb, f"{service.admin_url}/api/admin/{path}", json=body, headers={"X-Admin-Key": ADMIN_KEY}
        )


async def figures(service: ServiceProcess) -> dict[str, float]:
    """Return the metrics of the process, by name without the prefix."""
    async with local_http() as http:
        response = await http.get(f"{service.admin_url}/metrics")
    return {name: float(value) for name, value in _SAMPLE.findall(response.text)}


async def until_figures(service: ServiceProcess, expected: dict[str, float], *, at_least: bool = False) -> None:
    """Ask for figures until they are as expected; each answer takes its time, so no pause is needed.

    Args:
        at_least: More is fine too, as with counters.
    """
    found: dict[str, float] = {}
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            while not all(
                found.get(name, 0) >= value if at_least else found.get(name) == value
                for name, value in expected.items()
            ):
                found = await figures(service)
    except TimeoutError:
        seen = {name: found.get(name) for name in expected}
        raise AssertionError(f"expected {expected}, found {seen}\n{service.log()}") from None


async def until_empty(service: ServiceProcess) -> None:
    """Wait until nothing is left of any connection."""
    await until_figures(service, dict(EMPTY))
