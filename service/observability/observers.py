"""Several observers behind one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.realtime.ports import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("Observers",)

_EVENTS = tuple(name for name, member in vars(Observer).items() if callable(member) and not name.startswith("_"))


class Observers(Observer):
    """Tells every observer what each of them listens to, in their order.

    Who listens to what is looked up once. What one alone listens to goes to it directly,
    as deliveries do, so that the fan-out costs the hot path nothing.
    """

    def __init__(self, *observers: Observer) -> None:
        for event in _EVENTS:
            listeners = [
                getattr(observer, event)
                for observer in observers
                if getattr(observer, event) != getattr(Observer, event).__get__(observer)
            ]
            if listeners:
                # Shadows the method of the base class, which ignores the event.
                setattr(self, event, listeners[0] if len(listeners) == 1 else _fan_out(listeners))


def _fan_out(listeners: Sequence[Callable[..., None]]) -> Callable[..., None]:
    def tell(*args: Any, **facts: Any) -> None:  # noqa: ANN401 - whatever the event has
        for listener in listeners:
            listener(*args, **facts)

    return tell
