"""What the API server passes on: requests to pods and Services, and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from tests.simcluster.clock import rfc3339_micro
from tests.simcluster.errors import ApiError
from tests.simcluster.requests import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.simcluster.container_process import Log
    from tests.simcluster.kubelet import Kubelet
    from tests.simcluster.registry import Registry
    from tests.simcluster.requests import Request, Target
    from tests.simcluster.store import Object

__all__ = ("Logs", "Proxies")

_DROPPED = frozenset({"authorization", "connection", "content-length", "host", "transfer-encoding"})
_LIMIT_SECONDS = 60.0


class Proxies:
    """Passes HTTP on to pods, directly or by way of a Service."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def handle(self, request: Request, target: Target) -> Answer:
        """Pass a request on; 503 when nobody is there."""
        scheme, name, port = _named(target.name)
        if target.resource.kind == "Pod":
            address, number = self._pod_address(target.namespace, name, port)
        else:
            address, number = self._service_address(target.namespace, name, port)
        query = f"?{request.raw_query}" if request.raw_query else ""
        url = f"{scheme}://{address}:{number}/{target.rest}{query}"
        headers = {key: value for key, value in request.headers.items() if key not in _DROPPED}
        timeout = aiohttp.ClientTimeout(total=_LIMIT_SECONDS)
        connector = aiohttp.TCPConnector(force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session,
                session.request(
                    request.method, url, headers=headers, data=request.body or None, allow_redirects=False
                ) as answer,
            ):
                body = await answer.read()
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise _unavailable(f"error trying to reach service: {error}") from error
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in _DROPPED | {"content-type"}}
        return Answer(answer.status, body, kept, answer.headers.get("Content-Type", "application/octet-stream"))

    def _pod_address(self, namespace: str, name: str, port: str) -> tuple[str, int]:
        pod = self._registry.get(self._registry.kinds.get("Pod"), namespace, name)
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise _unavailable("the pod has no address")
        ports = pod["spec"]["containers"][0].get("ports") or [{"containerPort": 80}]
        return address, int(port or ports[0]["containerPort"])

    def _service_address(self, namespace: str, name: str, port: str) -> tuple[str, int]:
        service = self._registry.get(self._registry.kinds.get("Service"), namespace, name)
        ports = service["spec"].get("ports") or []
        wanted = next((one for one in ports if port in (one.get("name"), str(one["port"]), "")), None)
        if wanted is None:
            raise _unavailable(f'no service port "{port}" found for service "{name}"')
        kinds = self._registry.kinds
        found = self._registry.store.get(kinds.get("EndpointSlice"), namespace, f"{name}-simulated") or {}
        ready = [one for one in found.get("endpoints") or () if one["conditions"]["ready"]]
        number = next((one["port"] for one in found.get("ports") or () if one["name"] == wanted.get("name", "")), None)
        if not ready or number is None:
            raise _unavailable(f'no endpoints available for service "{name}"')
        return ready[0]["addresses"][0], number


def _unavailable(text: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", text)


def _named(name: str) -> tuple[str, str, str]:
    """Take ``[scheme:]name[:port]`` apart."""
    parts = name.split(":")
    if len(parts) == 3:
        return parts[0] or "http", parts[1], parts[2]
    if len(parts) == 2:
        return "http", parts[0], parts[1]
    return "http", name, ""


class Logs:
    """Serves the logs of containers."""

    def __init__(self, registry: Registry, kubelet: Kubelet) -> None:
        self._registry = registry
        self._kubelet = kubelet

    async def handle(self, request: Request, target: Target) -> Answer:
        """Answer a request for a log."""
        pod = self._registry.get(target.resource, target.namespace, target.name)
        log = self._log(pod, request)
        is_stamped = request.flag("timestamps")
        tail = request.query.get("tailLines")
        start = max(0, len(log.lines) - int(tail)) if tail is not None else 0
        if request.flag("follow"):
            return Answer(pieces=_follow(log, start, is_stamped=is_stamped), content_type="text/plain")
        body = b"".join(_line(wall, text, is_stamped=is_stamped) for wall, text in log.lines[start:])
        limit = request.query.get("limitBytes")
        return Answer(body=body[: int(limit) if limit else None], content_type="text/plain")

    def _log(self, pod: Object, request: Request) -> Log:
        name = request.query.get("container", "")
        container = self._kubelet.container(pod, name)
        if container is None:
            text = f"container {name or 'of the pod'} is not valid or not running for pod {pod['metadata']['name']}"
            raise ApiError(400, "BadRequest", text)
        if not request.flag("previous"):
            return container.log
        if container.previous_log is None:
            raise ApiError(400, "BadRequest", f'previous terminated container "{container.name}" not found')
        return container.previous_log


def _line(wall: float, text: str, *, is_stamped: bool) -> bytes:
    return (f"{rfc3339_micro(wall)} {text}\n" if is_stamped else f"{text}\n").encode()


async def _follow(log: Log, start: int, *, is_stamped: bool) -> AsyncIterator[bytes]:
    sent = start
    while True:
        log.changed.clear()
        for wall, text in log.lines[sent:]:
            yield _line(wall, text, is_stamped=is_stamped)
        sent = len(log.lines)
        if log.is_ended:
            return
        await log.changed.wait()
