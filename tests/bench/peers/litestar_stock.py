"""The peer: Litestar as its documentation shows it.

`ChannelsPlugin` with the memory backend and generated WebSocket handlers, one at `/channels/<name>`. The handler at
`/publish` is the shortest way to let the load generator publish; subscribers never pass through it. Generated handlers
take nothing in, so where members publish themselves they use `/rooms/<name>`.
"""

from typing import Any

from litestar import Litestar, WebSocket, websocket
from litestar.channels import ChannelsPlugin  # noqa: TID251 - measured as it comes
from litestar.channels.backends.memory import MemoryChannelsBackend  # noqa: TID251
from litestar.exceptions import WebSocketDisconnect

__all__ = ("app",)

channels = ChannelsPlugin(
    MemoryChannelsBackend(),
    arbitrary_channels_allowed=True,
    create_ws_route_handlers=True,
    ws_handler_base_path="/channels",
)


@websocket("/publish")
async def publish(socket: WebSocket[Any, Any, Any]) -> None:
    """Publish each text message to the channel `room0`."""
    await socket.accept()
    try:
        while True:
            channels.publish(await socket.receive_text(), "room0")
    except WebSocketDisconnect:
        pass


@websocket("/rooms/{name:str}")
async def room(socket: WebSocket[Any, Any, Any], name: str) -> None:
    """Subscribe to a channel and publish each text message to it."""
    await socket.accept()
    async with channels.start_subscription(name) as subscriber, subscriber.run_in_background(socket.send_text):
        try:
            while True:
                channels.publish(await socket.receive_text(), name)
        except WebSocketDisconnect:
            pass


app = Litestar([publish, room], plugins=[channels])
