"""The service as ``python -m service`` runs it, with a journal: ``JOURNAL=path python -m tests.handover.runner``.

The journal is put in from outside, so that nothing of it is in the service.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service import app
from service.__main__ import main
from service.core.rows import Row
from service.db.streams import StreamTables
from service.observability.observers import Observers
from service.realtime.ports import Observer
from tests.handover.journal import COMMIT, Journal, now

__all__ = ("keep_journal",)


def keep_journal(path: Path) -> None:
    """Write down what the application of this process does from now on."""
    journal = Journal(path)

    class JournaledObservers(Observers):
        def __init__(self, *observers: Observer) -> None:
            super().__init__(*observers, journal)

    append: Any = StreamTables.append

    async def append_noted(self: StreamTables, rows: Sequence[Row], **options: Any) -> None:  # noqa: ANN401 - as it has
        # A commit is at no earlier time than this, and one that comes to nothing is none. When its answer is read
        # says nothing: a process that was stopped reads it whenever it wakes.
        at = now()
        await append(self, rows, **options)
        journal.note(COMMIT, at)

    app.Observers = JournaledObservers  # type: ignore[attr-defined]  # imported there
    StreamTables.append = append_noted  # type: ignore[method-assign]  # the journal is written around the real method


if __name__ == "__main__":
    keep_journal(Path(os.environ["JOURNAL"]))
    main()
