"""Does memory grow under clients that come and go? Run by hand, and for some seconds as a test.

    python -m tests.load.soak [--clients 2000] [--minutes 10]

Prints the memory of the service every ten seconds, and at the end how it compares with the
memory after the first minute, and whether every table is empty.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import dataclass

import psutil

from tests.support.process import ROOT, ServiceProcess
from tests.support.service_api import until_empty

__all__ = ("Soak", "soak")

_SAMPLE_SECONDS = 10.0
_ENVIRON = {
    "WS_MAX_CONNECTIONS": "10000",
    "LOG_LEVEL": "info",
}


@dataclass(frozen=True, slots=True)
class Soak:
    """What came of a run.

    Attributes:
        counts: What the clients did, by kind.
        samples: (seconds since the start, resident bytes), oldest first.
    """

    counts: dict[str, int]
    samples: tuple[tuple[float, int], ...]

    def growth(self, after_seconds: float) -> float:
        """Return the last sample over the first one at or after ``after_seconds``, less 1."""
        base = next(size for at, size in self.samples if at >= after_seconds)
        return self.samples[-1][1] / base - 1


async def soak(
    *, clients: int, seconds: float, sample_seconds: float = _SAMPLE_SECONDS, ping_milliseconds: int = 5000
) -> Soak:
    """Run restless clients against a service of their own, and see every table empty after it."""
    pings = {"WS_PING_INTERVAL": str(ping_milliseconds), "WS_PONG_TIMEOUT": str(ping_milliseconds // 2)}
    async with ServiceProcess.start({**_ENVIRON, **pings}) as service:
        process = psutil.Process(service.pid)
        restless = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.load.restless_clients", str(service.port), str(clients), str(seconds)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert restless.stdout is not None
        loop = asyncio.get_running_loop()
        began, samples = loop.time(), []
        while loop.time() - began < seconds:
            await asyncio.sleep(sample_seconds)
            samples.append((loop.time() - began, process.memory_info().rss))
            print(f"{samples[-1][0]:6.0f} s {samples[-1][1] / 1e6:8.1f} MB", file=sys.stderr)  # noqa: T201
        line = await restless.stdout.readline()
        await restless.wait()
        await until_empty(service)
        service.signal()
        code = await service.wait()
        assert code == 0, f"the service ended with {code}"
    return Soak(json.loads(line), tuple(samples))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    outcome = asyncio.run(soak(clients=options.clients, seconds=options.minutes * 60))
    print(json.dumps(outcome.counts))  # noqa: T201 - the result
    print(f"growth after the first minute: {outcome.growth(60):+.1%}; every table is empty")  # noqa: T201


if __name__ == "__main__":
    main()
