"""Publishers in the service's own process: publications through the publisher, each waiting until it is kept.

``python -m tests.bench.load.publisher URL flood|steady SECONDS NUMBER``: with ``flood`` so many are in flight, with
``steady`` so many are made a second. Prints one JSON object.
"""

import asyncio
import json
import sys
import tempfile
import time
from statistics import quantiles

import uvloop

from service.app import build
from service.core.codes import Error
from service.core.namespaces import Channel
from service.ids import SystemIds
from service.realtime.ports import Draft
from service.realtime.publisher import Publisher
from service.settings import load

CHANNELS = 16
DATA = b'{"text":"' + b"x" * 240 + b'"}'


async def _flood(publisher: Publisher, channels: list[Channel], seconds: float, in_flight: int) -> dict[str, float]:
    count = 0
    start = time.perf_counter()
    until = start + seconds

    async def one(index: int) -> None:
        nonlocal count
        while time.perf_counter() < until:
            await publisher.publish(channels[index % CHANNELS], Draft(DATA))
            count += 1

    async with asyncio.TaskGroup() as group:
        for index in range(in_flight):
            group.create_task(one(index))
    return {"per_second": count / (time.perf_counter() - start)}


async def _steady(publisher: Publisher, channels: list[Channel], seconds: float, rate: int) -> dict[str, float]:
    took: list[float] = []

    async def one(index: int, due: float) -> None:
        await publisher.publish(channels[index % CHANNELS], Draft(DATA))
        took.append(1000 * (time.perf_counter() - due))

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for index in range(int(seconds * rate)):
            due = start + index / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(index, due))
    cuts = quantiles(took, n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98]}


async def _main(url: str, how: str, seconds: float, number: int) -> None:
    with tempfile.TemporaryDirectory() as data:
        environ = {
            "SLACKWATER_MODE": "development",
            "DATABASE_URL": url,
            "DATA_DIR": data,
            "OUTBOX": "false",
        }
        application = build(load(environ, secret=SystemIds().secret))
        async with application.public.lifespan():
            context = application.instance.context
            found = [context.namespaces.resolve(f"bench{index}") for index in range(CHANNELS)]
            channels = [channel for channel in found if not isinstance(channel, Error)]
            measure = _flood if how == "flood" else _steady
            await measure(context.publisher, channels, 0.3, number)  # so that statements are prepared
            figures = await measure(context.publisher, channels, seconds, number)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
