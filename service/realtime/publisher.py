"""The one way in for publications, whoever makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.core import codec
from service.core.codes import Errors
from service.core.tenure import Tenure
from service.errors import NotCommitted
from service.realtime.ports import Broker, Draft, Event, EventKind, Observer, StreamStore

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from service.core.namespaces import Channel
    from service.core.stream import Position, Publication

__all__ = ("Publisher",)


class Publisher:
    """Lets the store give publications their offset, and hands them to the broker in that order.

    Args:
        may_publish: Whether this instance may take publications at this moment; always unless told otherwise.
        rooms: Names of the channels that somebody here is in, or is about to join. Where the broker reaches nobody
            else, what is published in another one is not sent at all; None sends everything.
    """

    __slots__ = ("_broker", "_may_publish", "_observer", "_rooms", "_store")

    def __init__(
        self,
        store: StreamStore,
        broker: Broker,
        observer: Observer,
        *,
        may_publish: Callable[[], bool] | None = None,
        rooms: Container[str] | None = None,
    ) -> None:
        self._store = store
        self._broker = broker
        self._observer = observer
        self._may_publish = may_publish or Tenure.always().holds
        self._rooms = None if broker.reaches_others else rooms
        store.use(self.deliver)

    async def publish(self, channel: Channel, draft: Draft) -> Position | None:
        """Publish, and return once it is kept.

        Args:
            channel: Already resolved; permission is the caller's business.
            draft: Its data is one line of JSON.

        Returns:
            Where it stands in its stream; None on a channel without history. A repetition
            of an idempotency key gets the position of the first.

        Raises:
            NotCommitted: It was not kept as far as is known, and is not delivered now.
        """
        if not self._may_publish():
            raise NotCommitted(Errors.INTERNAL)
        return (await self._store.append(channel, draft)).position

    def deliver(self, channel: str, publication: Publication, epoch: str) -> None:
        """Send a publication on its way to the hub; the store calls it, as `StreamStore.use` says."""
        # Who joins later reads it from the stream.
        if self._rooms is None or channel in self._rooms:
            body = codec.publication(publication)
            self._broker.publish(Event(EventKind.PUBLICATION, channel, publication.offset, epoch, body))
        self._observer.published(len(publication.data))
