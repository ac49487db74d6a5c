"""What our durable publications are compared with: connections that each commit one row after the other.

``python -m tests.bench.peers.asyncpg_inserts URL SECONDS CONNECTIONS``: into the same table as ours. Prints one JSON
object.
"""

import asyncio
import json
import sys
import time

import asyncpg
import uvloop

from tests.bench.load.publisher import DATA

INSERT = 'INSERT INTO slackwater_publications (channel, "offset", data, published_at) VALUES ($1, $2, $3, $4)'


async def _main(url: str, seconds: float, connections: int) -> None:
    count = 0
    opened = [await asyncpg.connect(url) for _ in range(connections)]
    start = time.perf_counter()

    async def one(index: int, connection: asyncpg.Connection) -> None:
        nonlocal count
        statement = await connection.prepare(INSERT)
        offset = 0
        while time.perf_counter() < start + seconds:
            offset += 1
            await statement.fetch(f"peer{index}", offset, DATA, start)
            count += 1

    async with asyncio.TaskGroup() as group:
        for index, connection in enumerate(opened):
            group.create_task(one(index, connection))
    took = time.perf_counter() - start
    for connection in opened:
        await connection.close()
    sys.stdout.write(json.dumps({"per_second": count / took}) + "\n")


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
