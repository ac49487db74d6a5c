"""An observer that remembers what it was told."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from service.realtime.ports import Observer

if TYPE_CHECKING:
    from service.core.codes import Disconnect, Error
    from service.core.phase import Phase

__all__ = ("RecordingObserver",)


class RecordingObserver(Observer):
    """Everything that happened, in order.

    Attributes:
        events: (name of the method, its arguments).
        failures: Defects of our own; a test that does not provoke one expects it to be empty.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        self.failures: list[BaseException] = []

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each call of one method, in order."""
        return [arguments for told, arguments in self.events if told == name]

    def counts(self, name: str) -> Counter[Any]:
        """Return how often each first argument came with one method."""
        return Counter(arguments[0] for arguments in self.of(name))

    def _note(self, name: str, *arguments: object) -> None:
        self.events.append((name, arguments))

    @override
    def connection_opened(self) -> None:
        self._note("connection_opened")

    @override
    def connection_closed(self, why: Disconnect | None, seconds: float) -> None:
        self._note("connection_closed", why, seconds)

    @override
    def upgrade_refused(self, reason: str) -> None:
        self._note("upgrade_refused", reason)

    @override
    def authenticated(self) -> None:
        self._note("authenticated")

    @override
    def command(self, method: str) -> None:
        self._note("command", method)

    @override
    def error(self, method: str, error: Error) -> None:
        self._note("error", method, error)

    @override
    def limited(self, limit: str) -> None:
        self._note("limited", limit)

    @override
    def published(self, size: int) -> None:
        self._note("published", size)

    @override
    def delivered(self, deliveries: int, size: int) -> None:
        self._note("delivered", deliveries, size)

    @override
    def recovered(self, publications: int, *, success: bool) -> None:
        self._note("recovered", publications, success)

    @override
    def phase_changed(self, before: Phase, after: Phase, reason: str) -> None:
        self._note("phase_changed", before, after, reason)

    @override
    def drained(self, batch: int, closed: int, remaining: int) -> None:
        self._note("drained", batch, closed, remaining)

    @override
    def failed(self, where: str, error: BaseException) -> None:
        self._note("failed", where, error)
        self.failures.append(error)

    @override
    def noted(self, event: str, **facts: object) -> None:
        self._note("noted", event, facts)

    @override
    def outbox_relayed(self, rows: int) -> None:
        self._note("outbox_relayed", rows)

    @override
    def outbox_seen(self, waiting: int, oldest_seconds: float, set_aside: int) -> None:
        self._note("outbox_seen", waiting, oldest_seconds, set_aside)
