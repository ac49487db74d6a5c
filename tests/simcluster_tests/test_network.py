from __future__ import annotations

import asyncio
import json

import pytest

from tests.simcluster.cluster import SimCluster
from tests.simcluster.kubectl import kubectl
from tests.simcluster.target import Target
from tests.simcluster_tests.manifests import DEPLOYMENT, service_objects
from tests.support.process import ServiceProcess
from tests.support.stock_client import stock_client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_client_comes_back_to_the_next_pod(cluster: SimCluster, target: Target) -> None:
    """A stock client holds on to the Service's address, is drained off the old pod, and finds the new one."""
    manifest = "\n---\n".join(map(json.dumps, service_objects(target)))
    await asyncio.to_thread(kubectl, target, "apply", "-f", "-", stdin=manifest)
    await asyncio.to_thread(
        target.wait, DEPLOYMENT, "slackwater", lambda one: one.get("status", {}).get("readyReplicas") == 1
    )
    address = await asyncio.to_thread(cluster.address, target.namespace, "slackwater", 80)
    url = f"ws://{address}/connection/websocket"
    async with stock_client(url, token=ServiceProcess.token("u1")) as stock:
        await asyncio.to_thread(kubectl, target, "set", "image", "deployment/slackwater", f"*={target.other_image}")
        lost = await stock.events.expect("connecting")
        await stock.events.expect("connected")
        last = stock.client._conn
    # The client leaves it to the loop to close its socket, through one relay more than elsewhere.
    await last.wait_closed()

    assert 3001 == lost.code
