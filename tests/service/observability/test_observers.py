"""Several observers are told as if each were the only one."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from typing_extensions import override

from service.core.codes import Disconnects, Errors
from service.core.phase import Phase
from service.observability.observers import Observers
from service.realtime.ports import Observer
from tests.support.observer import RecordingObserver

EVENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "connection_opened": ((), {}),
    "connection_closed": ((Disconnects.IDLE, 1.0), {}),
    "upgrade_refused": (("origin",), {}),
    "authenticated": ((), {}),
    "command": (("publish",), {}),
    "error": (("publish", Errors.BAD_REQUEST), {}),
    "limited": (("messages_per_minute",), {}),
    "published": ((10,), {}),
    "delivered": ((5, 10), {}),
    "recovered": ((3,), {"success": True}),
    "phase_changed": ((Phase.STARTING, Phase.ACTIVE, "serving"), {}),
    "drained": ((1, 2, 3), {}),
    "failed": (("tick", ValueError("x")), {}),
    "noted": (("forwarder.unlisted",), {"address": "192.0.2.1"}),
    "outbox_relayed": ((3,), {}),
    "outbox_seen": ((3, 1.5, 0), {}),
}


class Deliveries(Observer):
    """Listens to one event alone."""

    def __init__(self) -> None:
        self.count = 0

    @override
    def delivered(self, deliveries: int, size: int) -> None:
        self.count += deliveries


def test_every_event_is_known_here() -> None:
    """A new one needs a line above."""
    assert {name for name, _ in inspect.getmembers(Observer, inspect.isfunction)} == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS)
def test_everybody_hears_of_everything(event: str) -> None:
    """With the same arguments, in the order in which they were given."""
    first, second = RecordingObserver(), RecordingObserver()
    arguments, facts = EVENTS[event]

    getattr(Observers(first, Observer(), second), event)(*arguments, **facts)

    assert first.events == second.events
    assert [event] == [name for name, _ in first.events]


@pytest.mark.parametrize("event", EVENTS)
def test_nobody_need_listen(event: str) -> None:
    """As with the observer that ignores everything."""
    arguments, facts = EVENTS[event]

    getattr(Observers(Observer()), event)(*arguments, **facts)


def test_a_single_listener_is_called_directly() -> None:
    """The fan-out costs the hot path nothing."""
    deliveries = Deliveries()
    observers = Observers(Observer(), deliveries)

    assert deliveries.delivered == observers.delivered


def test_observers_nest() -> None:
    """What is behind one of them is told too."""
    deliveries = Deliveries()

    Observers(RecordingObserver(), Observers(deliveries)).delivered(5, 10)

    assert 5 == deliveries.count
