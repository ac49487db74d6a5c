"""Connect through the Services as a client would: what `helm test` runs."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from websockets.sync.client import ClientConnection, connect

PUBLIC = os.environ["PUBLIC_ADDRESS"]
ADMIN = os.environ["ADMIN_ADDRESS"]
DEADLINE_SECONDS = 10.0


def status(url: str, *, key: str | None = None, method: str = "GET") -> tuple[int, bytes]:
    """Return the status and the body of the answer, whatever it is."""
    request = urllib.request.Request(url, method=method, headers={} if key is None else {"X-Admin-Key": key})  # noqa: S310 - as below
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:  # noqa: S310 - both are http
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def expect(what: str, *, holds: bool, seen: object) -> None:
    """Say whether it holds, and end with 1 when it does not."""
    sys.stdout.write(f"{'ok' if holds else 'FAILED'}: {what}" + ("\n" if holds else f"; saw {seen!r}\n"))
    if not holds:
        sys.exit(1)


def ask(client: ClientConnection, command: dict[str, Any]) -> dict[str, Any]:
    """Send a command and return its reply; pushes before it are passed over."""
    client.send(json.dumps(command))
    return wait(client, lambda reply: reply.get("id") == command["id"])


def wait(client: ClientConnection, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first reply or push that matches."""
    while True:
        for line in str(client.recv(timeout=DEADLINE_SECONDS)).splitlines():
            reply = json.loads(line)
            if not reply:
                client.send("{}")  # a ping, which wants a pong
            elif matches(reply):
                return reply


def main() -> None:
    """Try the public port, the admin port, and a client from end to end."""
    code, body = status(f"http://{PUBLIC}/api/health/ready")
    expect("the instance is ready", holds=code == 200, seen=body)
    code, _ = status(f"http://{PUBLIC}/metrics")
    expect("the public port keeps the metrics to itself", holds=code == 404, seen=code)
    code, _ = status(f"http://{ADMIN}/api/admin/status")
    expect("the admin API asks for its key", holds=code == 401, seen=code)
    code, body = status(f"http://{ADMIN}/api/admin/probe-tokens", key=os.environ["ADMIN_KEY"], method="POST")
    expect("the admin API makes probe tokens", holds=code == 200, seen=(code, body))
    probe = json.loads(body)
    tokens, channel = probe["valid"], probe["channel"]
    with connect(f"ws://{PUBLIC}/connection/websocket", open_timeout=DEADLINE_SECONDS) as client:
        reply = ask(client, {"id": 1, "connect": {"token": tokens["connection"]}})
        expect("a client connects", holds="connect" in reply, seen=reply)
        reply = ask(client, {"id": 2, "subscribe": {"channel": channel, "token": tokens["subscription"]}})
        expect("it subscribes", holds="subscribe" in reply, seen=reply)
        client.send(json.dumps({"id": 3, "publish": {"channel": channel, "data": {"text": "helm test"}}}))
        push = wait(client, lambda reply: "error" in reply or "pub" in reply.get("push", {}))
        expect("it receives what it publishes", holds="push" in push, seen=push)


main()
