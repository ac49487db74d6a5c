"""The admin contract, as a rollout needs it."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from typing import TYPE_CHECKING

from typing_extensions import override

from deploytool import service_api
from deploytool.cluster.retrying import transient
from deploytool.rollout.errors import PhaseError, TransientError
from deploytool.rollout.ports import Service, Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("AdminService",)

_ADMITS = "ACTIVE"


class AdminService(Service):
    """Over the API server's proxy, or an address.

    Args:
        api: Sends the requests, with the key.
    """

    def __init__(self, api: service_api.AdminApi) -> None:
        self._api = api

    def tokens(self, ttl_seconds: float) -> service_api.ProbeTokens:
        """Have tokens made for a channel of our own."""
        with _sorted():
            return self._api.probe_tokens(ttl_seconds)

    @override
    def status(self) -> Serving:
        with _sorted():
            found = self._api.status()
        clients = max(0, found.connections - found.probe_connections)
        is_durable = found.database is not None and not found.database.degraded
        return Serving(found.instance, found.phase, clients, is_durable=is_durable)

    @override
    def announce(self, message: str, *, starts_at: float | None, seconds: float, ttl_seconds: float) -> None:
        body: dict[str, object] = {"message": message, "duration_seconds": seconds, "ttl_seconds": ttl_seconds}
        if starts_at is not None:
            body["starts_at"] = dt.datetime.fromtimestamp(starts_at, dt.UTC).isoformat()
        with _sorted():
            self._api.announce(body)

    @override
    def withdraw(self) -> None:
        with _sorted():
            self._api.withdraw()

    @override
    def gate(self, reason: str, ttl_seconds: float) -> None:
        with _sorted():
            self._api.gate({"reason": reason, "ttl_seconds": ttl_seconds})

    @override
    def ungate(self) -> None:
        with _sorted():
            try:
                self._api.ungate()
            except service_api.PhaseError:
                # Nothing is gated, or not any more: that is what was asked for.
                if self._api.status().phase != _ADMITS:
                    raise

    @override
    def drain(self, ttl_seconds: float) -> None:
        with _sorted():
            self._api.drain({"ttl_seconds": ttl_seconds})

    @override
    def undrain(self) -> None:
        with _sorted():
            self._api.undrain()


@contextmanager
def _sorted() -> Iterator[None]:
    """Tell what may be over in a moment from what will not."""
    try:
        with transient():
            yield
    except service_api.SilentError as error:
        raise TransientError(str(error)) from error
    except service_api.ServiceError as error:
        raise PhaseError(str(error)) from error
