"""An application that writes into the outbox of a release at a steady rate, whatever becomes of the release."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.outbox_application import application_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ("Writing", "writing")

_SECONDS = 60.0


@dataclass
class Writing:
    """What has been written.

    Attributes:
        committed: Rows whose transaction was confirmed, over all channels; each channel counts its own from 0 on.
        seconds: For how long it has written; 0 while it does.
    """

    committed: int = 0
    seconds: float = 0.0
    failure: BaseException | None = None
    is_over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self, url: str, channels: Sequence[str], rate: float) -> None:
        """Write, in a thread of its own."""
        self._thread = threading.Thread(target=self._main, args=(url, channels, rate), daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Write no more; returns how many were committed."""
        self.is_over.set()
        if self._thread is not None:
            self._thread.join(_SECONDS)
        if self.failure is not None:
            raise self.failure
        return self.committed

    def _main(self, url: str, channels: Sequence[str], rate: float) -> None:
        try:
            asyncio.run(self._write(url, channels, rate))
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failure = error

    async def _write(self, url: str, channels: Sequence[str], rate: float) -> None:
        application, loop = application_on(url), asyncio.get_running_loop()
        began = loop.time()
        while not self.is_over.is_set():
            async with application.transaction() as writer:
                number, turn = divmod(self.committed, len(channels))
                await writer.write(channels[turn], json.dumps({"n": number}).encode())
            self.committed += 1
            # By the clock and not by the pause: what takes longer once is made up for.
            await asyncio.sleep(max(0.0, began + self.committed / rate - loop.time()))
        self.seconds = loop.time() - began


@contextmanager
def writing(url: str, channels: Sequence[str], rate: float) -> Iterator[Writing]:
    """Write durable publications, a transaction each, until the block ends or they are told to end.

    Args:
        url: Of the database of the release.
        channels: Written to in turn.
        rate: Publications a second.
    """
    found = Writing()
    found.begin(url, channels, rate)
    try:
        yield found
    finally:
        found.end()
