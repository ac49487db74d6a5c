"""Hears of changes through kopf.

Only ``on.event`` handlers: kopf's others keep their progress in an annotation and hold objects by a finalizer, and
``helm uninstall`` would wait for ever once the guard is gone.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final

import kopf

from deploytool.guard.metrics import serve
from deploytool.guard.reading import AUTOSCALER_KINDS, WORKLOAD_KINDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from deploytool.guard.keeper import Keeper
    from deploytool.guard.metrics import Metrics

__all__ = ("Guard", "Login")

_GROUPS: Final = {
    "Deployment": ("apps", "v1", "deployments"),
    "StatefulSet": ("apps", "v1", "statefulsets"),
    "HorizontalPodAutoscaler": ("autoscaling", "v2", "horizontalpodautoscalers"),
    "ScaledObject": ("keda.sh", "v1alpha1", "scaledobjects"),
}
_DELETED: Final = "DELETED"


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach the API server.

    Attributes:
        authorization: Value of the header; empty for none.
        ca_path: Authorities to believe; empty for the system's.
    """

    server: str
    authorization: str = field(default="", repr=False)
    ca_path: str = ""
    certificate_path: str = ""
    key_path: str = ""
    is_insecure: bool = False


@dataclass(slots=True)
class Guard:
    """A keeper that is told by watches.

    Attributes:
        login: Asked at the start, and again when the API server does not know us any more.
        kinds: To watch; those that the cluster does not have cannot be.
        host, port: Of the server for metrics and liveness; an empty host for none.
        listening: Told the port once it is open.
        look_seconds: Between two looks at everything, whatever the watches said.
    """

    keeper: Keeper
    metrics: Metrics
    namespace: str
    login: Callable[[], Login]
    kinds: tuple[str, ...] = (*WORKLOAD_KINDS, *AUTOSCALER_KINDS)
    host: str = ""
    port: int = 0
    listening: Callable[[int], None] = lambda _port: None
    look_seconds: float = 60.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Guard until SIGINT or SIGTERM."""
        # kopf listens to signals too, once it has begun.
        stopping = asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
        async with self._server(), asyncio.TaskGroup() as group:
            rounds = group.create_task(self._rounds())
            await kopf.operator(
                registry=self.registry(),
                settings=_settings(),
                namespaces=[self.namespace],
                standalone=True,
                stop_flag=stopping,
            )
            rounds.cancel()

    def registry(self) -> kopf.OperatorRegistry:
        """Return the handlers."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in self.kinds:
            handle = self._workload_handler(kind) if kind in WORKLOAD_KINDS else self._autoscaler_handler(kind)
            group, version, plural = _GROUPS[kind]
            kopf.on.event(group, version, plural, registry=registry, id=kind.lower())(handle)
        return registry

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[None]:
        if not self.host:
            yield
            return
        server = await serve(self.metrics, self.host, self.port)
        self.listening(server.sockets[0].getsockname()[1])
        try:
            yield
        finally:
            server.close()

    def _login(self, **_given: Any) -> kopf.ConnectionInfo:  # noqa: ANN401 - kopf's
        found = self.login()
        scheme, _, token = found.authorization.partition(" ")
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path or None,
            insecure=found.is_insecure,
            scheme=scheme or None,
            token=token or None,
            certificate_path=found.certificate_path or None,
            private_key_path=found.key_path or None,
        )

    def _workload_handler(self, kind: str) -> Callable[..., Any]:
        async def changed(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401 - kopf's
            body, is_gone = event["object"], event["type"] == _DELETED
            await self._do(lambda: self.keeper.saw_workload(kind, body, is_gone=is_gone))

        return changed

    def _autoscaler_handler(self, kind: str) -> Callable[..., Any]:
        async def changed(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401 - kopf's
            body, is_gone = event["object"], event["type"] == _DELETED
            await self._do(lambda: self.keeper.saw_autoscaler(kind, body, is_gone=is_gone))

        return changed

    async def _do(self, work: Callable[[], None]) -> None:
        """Let the keeper work, one thing at a time and off the loop, since its requests block."""
        async with self._lock:
            await asyncio.to_thread(work)
        self._wake.set()

    async def _rounds(self) -> None:
        """Look at everything now and then, and at what is due when it is."""
        clock = self.keeper.clock
        next_look = clock.now()
        while True:
            if clock.now() >= next_look:
                await self._do(self.keeper.look)
                next_look = clock.now() + self.look_seconds
            await self._do(self.keeper.keep)
            self._wake.clear()
            due = self.keeper.next_due()
            until = next_look if due is None else min(due, next_look)
            try:
                async with asyncio.timeout(max(0.0, until - clock.now())):
                    await self._wake.wait()
            except TimeoutError:
                continue


class _Endless:
    """Waits between two tries, in seconds, without an end.

    A guard that gave up would be started again, with whom it fights forgotten.
    """

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0), repeat(30.0))


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # Our own Events are written by the port; kopf's own say what is in its log.
    settings.posting.enabled = False
    # Watching namespaces and definitions of resources takes rights in the whole cluster.
    settings.scanning.disabled = True
    settings.networking.request_timeout = 15.0
    settings.networking.error_backoffs = _Endless()
    settings.watching.connect_timeout = 10.0
    settings.watching.client_timeout = 600.0
    logging.getLogger("kopf").setLevel(logging.WARNING)
    return settings
