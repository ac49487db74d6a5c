from __future__ import annotations

import pytest
from typing_extensions import override

from service.realtime.ports import StreamTables
from tests.conformance.stream_tables import StreamTablesSuite
from tests.support.stream_tables import FakeStreamTables


class TestFakeStreamTables(StreamTablesSuite):
    """The fake behaves like a database, so that what is tested with it holds."""

    @override
    @pytest.fixture
    def tables(self) -> StreamTables:
        return FakeStreamTables()

    @override
    async def take_over(self, tables: StreamTables, token: int) -> None:
        assert isinstance(tables, FakeStreamTables)
        tables.tables.token = token

    @override
    async def add_outbox_row(self, tables: StreamTables) -> int:
        assert isinstance(tables, FakeStreamTables)
        outbox = tables.tables.outbox
        outbox_id = len(outbox) + 1
        outbox[outbox_id] = False
        return outbox_id

    @override
    async def is_published(self, tables: StreamTables, outbox_id: int) -> bool:
        assert isinstance(tables, FakeStreamTables)
        return tables.tables.outbox[outbox_id]
