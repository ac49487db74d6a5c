"""The process is stopped and started again under its clients."""

from __future__ import annotations

import asyncio
import signal

import httpx
import pytest

from tests.support.process import API_KEY, ServiceProcess
from tests.support.raw_websocket import RawWebSocket
from tests.support.service_api import admin, api, local_http, until_figures
from tests.support.stock_client import Events, StockClient

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

_CLIENTS = 200
_PUBLICATIONS_PER_SECOND = 50
_SPREAD_SECONDS = 2.0
_CHANNEL = "news:restart"


class Publisher:
    """Publishes a number that grows, at a steady rate, whether anybody takes it or not.

    Attributes:
        url: Of the process that is to take it; changed when there is another.
        taken: Numbers that a process confirmed, each with the epoch of its stream.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.taken: list[tuple[int, str]] = []
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """Publish until told to stop."""
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 0
        async with local_http() as http:
            http.headers["X-API-Key"] = API_KEY
            while not self.stop.is_set():
                try:
                    answer = await http.post(f"{self.url}/api/publish", json={"channel": _CHANNEL, "data": number})
                    self.taken.append((number, answer.json()["result"]["epoch"]))
                except (httpx.HTTPError, ValueError, KeyError):
                    # Nobody is there just now; the number is lost, and the next one is another.
                    pass
                number += 1
                # The rate of the load: nothing waits for this.
                await asyncio.sleep(max(0.0, began + number / _PUBLICATIONS_PER_SECOND - loop.time()))


async def test_restart_brings_every_client_back() -> None:
    """Two hundred clients live through one: closed gently, back by themselves, told what was lost, nothing twice."""
    environ = {"DRAIN_SPREAD_SECONDS": str(_SPREAD_SECONDS)}
    async with ServiceProcess.start(environ) as first:
        clients = [await _connect(first, f"u{number}") for number in range(_CLIENTS)]
        subscriptions = [(await stock.subscribe(_CHANNEL, recoverable=True))[1] for stock in clients]
        publisher = Publisher(first.url)
        async with asyncio.TaskGroup() as tasks, await RawWebSocket.open(first.port) as witness:
            tasks.create_task(publisher.run())
            await witness.connect(first.token("witness"))
            for events in subscriptions:
                await events.expect("publication")
            first.signal(signal.SIGTERM)
            announcement = await witness.expect_push("message")

            assert ("maintenance", "draining", _SPREAD_SECONDS) == tuple(
                announcement["data"][key] for key in ("type", "state", "seconds")
            )

            await witness.expect_closed(3001)

            assert 0 == await first.wait()

            async with ServiceProcess.start({**environ, "PORT": str(first.port)}) as second:
                publisher.url = second.url
                for stock, events in zip(clients, subscriptions, strict=True):
                    await _expect_return(stock, events)
                await until_figures(second, {"connections": _CLIENTS, "users": _CLIENTS, "subscriptions": 2 * _CLIENTS})
                publisher.stop.set()
                last = await api(second, "publish", channel=_CHANNEL, data="the end")
                for events in subscriptions:
                    while events.publications[-1:] != ["the end"]:
                        await events.expect("publication")
                for stock in clients:
                    await stock.client.disconnect()

                assert last["offset"] > 0

    for events in subscriptions:
        _check_publications(events.publications, publisher.taken)
    _check_spread(first)


async def _connect(service: ServiceProcess, user: str) -> StockClient:
    stock = StockClient(service.ws_url, token=service.token(user), max_reconnect_delay=3.0)
    await stock.connect()
    return stock


async def _expect_return(stock: StockClient, events: Events) -> None:
    """See that a client was closed for the restart, came back by itself, and knows that something may be missing."""
    closed = await stock.events.expect("connecting")

    assert (3001, "shutdown") == (closed.code, closed.reason)

    await stock.events.expect("connected")
    again = await events.expect("subscribed")

    assert (True, False) == (again.was_recovering, again.recovered)


def _check_publications(received: list[object], taken: list[tuple[int, str]]) -> None:
    """Nothing came twice or out of order, and from the first to the last of each stream nothing was left out."""
    numbers = [number for number in received if isinstance(number, int)]

    assert sorted(set(numbers)) == numbers

    for epoch in dict.fromkeys(epoch for _, epoch in taken):
        stream = [number for number, of in taken if of == epoch]
        mine = [number for number in numbers if stream[0] <= number <= stream[-1]]

        assert mine == [number for number in stream if mine and mine[0] <= number <= mine[-1]]


def _check_spread(service: ServiceProcess) -> None:
    """The closes came in many small batches, and none was a heap.

    When a batch goes out is decided by a pure function; when a busy client hears of it says nothing about us.
    """
    batches = [line["closed"] for line in service.lines if line.get("event") == "drain.batch"]

    assert _CLIENTS + 1 == sum(batches)  # and the witness
    assert len(batches) >= 10
    assert max(batches) <= _CLIENTS / 5, batches


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_idle_process_stops_at_once(number: signal.Signals) -> None:
    """With nobody connected there is nothing to wait for, and the exit code is 0."""
    async with ServiceProcess.start({"DRAIN_SPREAD_SECONDS": "10"}) as service:
        service.signal(number)

        assert 0 == await service.wait(10)


_SLOW_DRAIN = {"DRAIN_GRACE_SECONDS": "30", "DRAIN_SPREAD_SECONDS": "30", "DRAIN_BUDGET_SECONDS": "100"}


async def test_drain_refuses_newcomers_and_serves_the_rest() -> None:
    """While the process drains, HTTP and open connections go on, and new WebSockets are sent elsewhere."""
    async with ServiceProcess.start(_SLOW_DRAIN) as service, await RawWebSocket.open(service.port) as raw:
        await raw.connect(service.token("42"))
        await raw.subscribe("room")
        service.signal(signal.SIGTERM)
        await raw.expect_push("message")
        async with await RawWebSocket.handshake(service.port) as late:
            assert 503 == late.response.status
            assert int(late.response.headers["retry-after"]) > 0
            assert "phase" == late.response.json()["error"]
        async with local_http() as http:
            health = await http.get(f"{service.url}/api/health/websocket")

            assert 200 == (await http.get(f"{service.url}/api/health/live")).status_code
            assert ("DRAINING", 1) == (health.json()["phase"], health.json()["connectedClients"])

        await api(service, "publish", channel="room", data="still here")

        assert "still here" == (await raw.expect_push("pub", "room"))["data"]
        assert 409 == (await admin(service, "DELETE", "drain")).status_code

        service.signal(signal.SIGTERM)
        await raw.expect_closed(3001)

        assert 0 == await service.wait(15)


async def test_second_signal_cuts_the_drain_short() -> None:
    """Whoever asks twice does not want to wait: everybody is closed at once, with the same code."""
    async with ServiceProcess.start(_SLOW_DRAIN) as service:
        raws = [await RawWebSocket.open(service.port) for _ in range(5)]
        for number, raw in enumerate(raws):
            await raw.connect(service.token(f"u{number}"))
        service.signal(signal.SIGTERM)
        for raw in raws:
            await raw.expect_push("message")
        service.signal(signal.SIGTERM)
        for raw in raws:
            assert "shutdown" == await raw.expect_closed(3001)

        assert 0 == await service.wait(15)

        for raw in raws:
            raw.abandon()


async def test_two_signals_at_once_cut_the_drain_short() -> None:
    """The second counts also when it comes before the first was looked at."""
    async with (
        ServiceProcess.start(_SLOW_DRAIN) as service,
        await RawWebSocket.open(service.port) as raw,
    ):
        await raw.connect(service.token("42"))
        service.signal(signal.SIGTERM)
        service.signal(signal.SIGINT)
        await raw.expect_closed(3001)

        assert 0 == await service.wait(15)


async def test_end_of_the_budget_cuts_the_drain_short() -> None:
    """A drain that was planned to take a minute takes no longer than the process was given when it was told to stop."""
    async with (
        ServiceProcess.start({"DRAIN_SPREAD_SECONDS": "0", "DRAIN_BUDGET_SECONDS": "0.5"}) as service,
        await RawWebSocket.open(service.port) as raw,
    ):
        await raw.connect(service.token("42"))
        answer = await admin(
            service, "POST", "drain", {"grace_seconds": 60, "spread_seconds": 60, "budget_seconds": 300}
        )

        assert 200 <= answer.status_code < 300, answer.text

        await raw.expect_push("message")
        service.signal(signal.SIGTERM)
        await raw.expect_closed(3001)

        assert 0 == await service.wait(15)


async def test_client_that_answers_nothing_does_not_hold_the_process() -> None:
    """A peer that neither closes nor reads is dropped, and the exit code is 0 all the same."""
    async with (
        ServiceProcess.start({"DRAIN_SPREAD_SECONDS": "0"}) as service,
        await RawWebSocket.open(service.port) as raw,
    ):
        await raw.connect(service.token("42"))
        service.signal(signal.SIGTERM)

        assert 0 == await service.wait(20)
