"""What the guard counts, and the small HTTP server that shows it: /metrics and /healthz."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from typing_extensions import override

from deploytool.guard.decision import Step
from deploytool.guard.ports import Observer

if TYPE_CHECKING:
    from deploytool.guard.decision import Autoscaler, Decision, Workload

__all__ = ("Metrics", "serve")

_WORKLOAD: Final = ("kind", "workload")
_SECONDS: Final = 5.0
_MOST_HEAD_BYTES: Final = 16_384


class Metrics(Observer):
    """Counts what it is told; each instance has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.replicas = Gauge(
            "slackwater_guard_replicas", "Replicas that a workload asked for when it was seen.", _WORKLOAD,
            registry=self.registry,
        )  # fmt: skip
        self.set_backs = Counter(
            "slackwater_guard_set_backs", "Times that a replica count was set back to one.", _WORKLOAD,
            registry=self.registry,
        )  # fmt: skip
        self.holding_off = Gauge(
            "slackwater_guard_holding_off", "1 while a count above one is left as it is: a pause, or for good.",
            _WORKLOAD, registry=self.registry,
        )  # fmt: skip
        self.warnings = Counter(
            "slackwater_guard_autoscaler_warnings", "Autoscalers found that may ask for more than one.", _WORKLOAD,
            registry=self.registry,
        )  # fmt: skip
        self.failures = Counter(
            "slackwater_guard_failures", "Requests that the API server refused or did not answer.",
            registry=self.registry,
        )  # fmt: skip
        self.last_look = Gauge(
            "slackwater_guard_last_look_timestamp_seconds", "When everything was last looked at afresh.",
            registry=self.registry,
        )  # fmt: skip

    @override
    def saw(self, workload: Workload, decision: Decision) -> None:
        labels = (workload.kind, workload.name)
        self.replicas.labels(*labels).set(workload.replicas)
        self.holding_off.labels(*labels).set(decision.step in (Step.PAUSE, Step.STAND_DOWN))
        self.set_backs.labels(*labels).inc(decision.step is Step.SET_BACK)

    @override
    def lost(self, workload: Workload) -> None:
        self.replicas.remove(workload.kind, workload.name)
        self.holding_off.remove(workload.kind, workload.name)

    @override
    def warned(self, autoscaler: Autoscaler, workload: Workload) -> None:
        self.warnings.labels(workload.kind, workload.name).inc()

    @override
    def failed(self, what: str, problem: str) -> None:
        self.failures.inc()

    @override
    def looked(self, at: float) -> None:
        self.last_look.set(at)

    def exposition(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)


async def serve(metrics: Metrics, host: str, port: int) -> asyncio.Server:
    """Open the server, on the loop that the guard lives on: a loop that hangs answers no probe.

    Args:
        port: 0 for any that is free.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(metrics, head))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asked does not speak HTTP, or has gone.
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port, limit=_MOST_HEAD_BYTES)


def _answer(metrics: Metrics, head: bytes) -> bytes:
    method, _, rest = head.decode("latin-1").partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method != "GET":
        return _response("405 Method Not Allowed", "text/plain", b"only GET\n")
    if path == "/metrics":
        return _response("200 OK", CONTENT_TYPE_LATEST, metrics.exposition())
    if path == "/healthz":
        return _response("200 OK", "application/json", b'{"status":"ok"}')
    return _response("404 Not Found", "text/plain", b"only /metrics and /healthz\n")


def _response(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return f"{head}\r\n".encode("latin-1") + body
