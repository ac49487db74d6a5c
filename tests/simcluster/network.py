"""The addresses of Services: real ports on loopback that lead to whichever pod is ready."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from tests.simcluster.addresses import listening_port

if TYPE_CHECKING:
    from tests.simcluster.addresses import Addresses
    from tests.simcluster.registry import Registry
    from tests.simcluster.store import Object

__all__ = ("Network",)

_CHUNK_BYTES = 1 << 16

# Namespace, name, address and port of a Service.
_Port = tuple[str, str, str, int]


class Network:
    """Listens where Services are, as kube-proxy does; a connection stays with the pod that it got."""

    def __init__(self, registry: Registry, addresses: Addresses) -> None:
        self._registry = registry
        self._addresses = addresses
        self._services = registry.kinds.get("Service")
        self._slices = registry.kinds.get("EndpointSlice")
        self._servers: dict[_Port, asyncio.Server] = {}
        self._wake = asyncio.Event()

    def allocate(self, obj: Object) -> None:
        """Give a new Service its address."""
        if obj["kind"] != "Service" or obj["spec"].get("clusterIP") or obj["spec"]["type"] == "ExternalName":
            return
        obj["spec"]["clusterIP"] = self._addresses.take_service()
        obj["spec"]["clusterIPs"] = [obj["spec"]["clusterIP"]]

    async def run(self) -> None:
        """Listen until cancelled."""
        stop = self._registry.store.listen(self._wake.set)
        try:
            while True:
                self._wake.clear()
                await self._bring()
                await self._wake.wait()
        finally:
            stop()
            for server in self._servers.values():
                server.close()

    async def _bring(self) -> None:
        wanted = {
            (one["metadata"]["namespace"], one["metadata"]["name"], one["spec"]["clusterIP"], port["port"])
            for one in self._registry.store.all(self._services)
            if one["spec"].get("clusterIP") not in (None, "", "None")
            for port in one["spec"].get("ports") or ()
        }
        for gone in self._servers.keys() - wanted:
            self._servers.pop(gone).close()
        for key in wanted - self._servers.keys():
            with contextlib.suppress(OSError):
                self._servers[key] = await asyncio.start_server(
                    partial(self._carry, key), key[2], listening_port(key[3])
                )

    def _backend(self, key: _Port) -> tuple[str, int] | None:
        namespace, name, _, port = key
        service = self._registry.store.get(self._services, namespace, name)
        found = self._registry.store.get(self._slices, namespace, f"{name}-simulated")
        if service is None or found is None:
            return None
        names = [one.get("name", "") for one in service["spec"]["ports"] if one["port"] == port]
        number = next((one["port"] for one in found.get("ports") or () if one["name"] in names), None)
        ready = [one for one in found.get("endpoints") or () if one["conditions"]["ready"]]
        return (ready[0]["addresses"][0], number) if ready and number else None

    async def _carry(self, key: _Port, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend = self._backend(key)
        try:
            if backend is None:
                writer.transport.abort()
                return
            back_reader, back_writer = await asyncio.open_connection(*backend)
        except OSError:
            writer.transport.abort()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, back_writer))
            group.create_task(_copy(back_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
