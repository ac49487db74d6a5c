"""The one way in for publications, whoever makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.core import codec
from service.realtime.ports import Broker, Draft, Event, EventKind, Observer, StreamStore

if TYPE_CHECKING:
    from service.core.namespaces import Channel
    from service.core.stream import Position

__all__ = ("Publisher",)


class Publisher:
    """Gives publications their offset, and hands them to the broker in that order."""

    __slots__ = ("_broker", "_observer", "_store")

    def __init__(self, store: StreamStore, broker: Broker, observer: Observer) -> None:
        self._store = store
        self._broker = broker
        self._observer = observer

    async def publish(self, channel: Channel, draft: Draft) -> Position | None:
        """Publish, and return once it is kept.

        Args:
            channel: Already resolved; permission is the caller's business.
            draft: Its data is one line of JSON.

        Returns:
            Where it stands in its stream; None on a channel without history. A repetition
            of an idempotency key gets the position of the first.
        """
        position, publication = await self._store.append(channel, draft)
        if publication is not None:
            epoch = position.epoch if position is not None else ""
            body = codec.publication(publication)
            self._broker.publish(Event(EventKind.PUBLICATION, channel.name, publication.offset, epoch, body))
            self._observer.published(len(draft.data))
        return position
