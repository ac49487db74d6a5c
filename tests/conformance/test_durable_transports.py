"""What a database behind the streams means at the socket, over every transport."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conformance.transport import Kind, serve
from tests.support.process import API_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from service.core.rows import Row
    from tests.support.raw_websocket import RawWebSocket

_KINDS = [pytest.param(kind, id=kind.name.lower()) for kind in Kind]
_LARGEST = 65_536


def _environ(folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": f"sqlite:///{folder}/slackwater.db", "DATABASE_MIGRATE": "true"}


async def _offsets(raw: RawWebSocket, count: int) -> list[int]:
    return [(await raw.expect_push("pub"))["offset"] for _ in range(count)]


@pytest.mark.parametrize("kind", _KINDS)
async def test_many_large_publications_in_one_commit_make_nobody_slow(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 of the largest come at once, four times what may wait for a slow reader; who reads gets them all."""
    groups: list[int] = []
    async with serve(kind, _environ(tmp_path)) as served:
        durable = served.instance.durable

        assert durable is not None

        append = durable._tables.append

        async def counted(rows: list[Row], *, token: int) -> None:
            groups.append(len(rows))
            await append(rows, token=token)

        monkeypatch.setattr(durable._tables, "append", counted)
        data = b'"%b"' % (b"x" * (_LARGEST - 2))
        async with await served.connected() as alice, await served.connected() as bob:
            for raw in (alice, bob):
                await raw.subscribe("large", recoverable=True)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(64):
                    tasks.create_task(served.publish("large", data))
                read = [tasks.create_task(_offsets(raw, 64)) for raw in (alice, bob)]

            assert [64] == groups
            for task in read:
                assert list(range(1, 65)) == task.result()
            assert 2 == len(served.instance.hub.connections)


async def test_publications_of_a_batch_share_their_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that follow each other wait together, and what comes behind them sees them."""
    groups: list[int] = []
    async with serve(Kind.OURS, _environ(tmp_path)) as served:
        durable = served.instance.durable

        assert durable is not None

        append = durable._tables.append

        async def counted(rows: list[Row], *, token: int) -> None:
            groups.append(len(rows))
            await append(rows, token=token)

        monkeypatch.setattr(durable._tables, "append", counted)
        publish = [{"publish": {"channel": "room", "data": number}} for number in range(6)]
        commands = [*publish[:5], {"history": {"channel": "room", "limit": -1}}, publish[5]]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as client:
            answer = await client.post("/api/batch", json={"commands": commands}, headers={"X-API-Key": API_KEY})

    replies = answer.json()["replies"]
    assert [1, 2, 3, 4, 5] == [reply["publish"]["offset"] for reply in replies[:5]]
    assert [0, 1, 2, 3, 4] == [item["data"] for item in replies[5]["history"]["publications"]]
    assert 6 == replies[6]["publish"]["offset"]
    assert [5, 1] == groups
