"""The servers under test: ours and its peers, each as a value that says how to start it and how to talk to it."""

import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import jwt

from tests.bench.errors import MeasurementError, UnavailableError
from tests.bench.generator import Traffic
from tests.bench.machine import Usage, cache_directory, kill_tree, on_core, usage

__all__ = ("OURS", "REFERENCE", "SERVERS", "Running", "Scenario", "Server", "free_port", "on_database")

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
OURS = "slackwater"
REFERENCE = "litestar"
"""The peer that ratios refer to."""
CHANNEL = "room^"
"""The generator puts in the number of the room. Without a namespace: history, presence and recovery are on; join and
leave are pushed to those who ask, nobody here. A namespace that pushes joins to everyone would measure n² pushes while
n clients connect."""
USERS = 11_000
"""Tokens signed for one server; more connections than this share users."""
DEFAULT_LIMITS = {"WS_MAX_CONNECTIONS": "1000", "WS_MESSAGES_PER_MINUTE": "100"}
LIFTED_LIMITS = {
    # One client publishes for all: its limits are lifted, every other one stays on.
    "WS_MESSAGES_PER_MINUTE": "0",
    "WS_COMMANDS_PER_MINUTE": "0",
    "WS_MAX_CONNECTIONS": "20000",
    "WS_UNAUTHENTICATED_SHARE": "1.0",
}
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
"""Nothing else: settings of whoever runs the benchmark must not change what is measured."""
START_SECONDS = 30.0
STOP_SECONDS = 40.0
NPM_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is going to happen to a server, as far as it has to be started for it."""

    rooms: int = 1
    """Subscribers are spread over so many channels."""
    members_publish: bool = False
    """Subscribers publish themselves; otherwise a connection that only publishes does."""
    default_limits: bool = False
    """The service's limits are its defaults, 1,000 connections of 100 messages a minute; otherwise they are lifted."""
    comes_back: bool = False
    """Clients remember their positions, so that they can recover."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one process of a server."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    """Added to what is inherited."""
    traffic: Traffic
    ready_path: str = ""
    """Answers 200 when the server is ready. Empty: ready when the port accepts."""


@dataclass(frozen=True, slots=True)
class Server:
    """One column of the table."""

    name: str
    title: str
    prepare: Callable[[], None]
    """Raises `UnavailableError` where the server cannot run here."""
    launch: Callable[[int, Path, Scenario], Launch]
    """Takes the port, an empty directory for whatever the process keeps, and what is going to happen."""


def _present() -> None:
    """Nothing to prepare."""


def _ours(port: int, work: Path, scenario: Scenario) -> Launch:
    secret, api_key = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
    environment = {
        "SLACKWATER_MODE": "production",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "ADMIN_PORT": "0",
        "API_KEY": api_key,
        "ADMIN_KEY": secrets.token_urlsafe(48),
        "TOKEN_HMAC_SECRET": secret,
        "DATA_DIR": str(work),
        # The rows of the fast path are about history in memory; what a database costs is measured in durable.py.
        "DATABASE_URL": "memory:",
        "LOG_LEVEL": "warning",
        # The peers' connections are members of one channel, so are ours.
        "PERSONAL_CHANNELS": "false",
    }
    return Launch(
        command=(sys.executable, "-m", "service"),
        environment=environment | (DEFAULT_LIMITS if scenario.default_limits else LIFTED_LIMITS),
        ready_path="/api/health/ready",
        traffic=Traffic(
            subscribe_path="/connection/websocket",
            publish_path="/connection/websocket",
            opening_frames=tuple(_opening_frame(secret, user) for user in range(USERS)),
            ack='"id":2,',
            publication=f'{{"id":%,"publish":{{"channel":"{CHANNEL}","data":$}}}}',
            heartbeats=True,
            history=f'{{"id":3,"history":{{"channel":"{CHANNEL}","limit":-1}}}}' if scenario.comes_back else "",
            api_header=f"X-API-Key: {api_key}",
            api_publish=f'{{"channel":"{CHANNEL}","data":$}}',
            rooms=scenario.rooms,
        ),
    )


def _opening_frame(secret: str, user: int) -> str:
    token = jwt.encode({"sub": f"bench-{user}"}, secret, algorithm="HS256")
    subscribe = f'{{"channel":"{CHANNEL}","positioned":true,"recoverable":true~}}'
    return f'{{"id":1,"connect":{{"token":"{token}"}}}}\n{{"id":2,"subscribe":{subscribe}}}'


def _litestar(port: int, _: Path, scenario: Scenario) -> Launch:
    uvicorn = (sys.executable, "-m", "uvicorn", "tests.bench.peers.litestar_stock:app")
    options = ("--host", "127.0.0.1", "--port", str(port), "--backlog", "4096", "--ws-max-size", "65536")
    path = f"/rooms/{CHANNEL}" if scenario.members_publish else f"/channels/{CHANNEL}"
    return Launch(
        command=(*uvicorn, *options, "--log-level", "warning", "--no-access-log"),
        environment={},
        traffic=Traffic(subscribe_path=path, publish_path="/publish", rooms=scenario.rooms),
    )


def _node_modules() -> Path:
    return cache_directory() / "peers" / "node_modules"


def _prepare_node() -> None:
    npm = shutil.which("npm")
    if not shutil.which("node") or not npm:
        raise UnavailableError("node and npm are not installed")
    package = _node_modules().parent / "package.json"
    wanted = (PEERS / "package.json").read_text(encoding="utf-8")
    if (_node_modules() / "ws").is_dir() and package.exists() and package.read_text(encoding="utf-8") == wanted:
        return
    package.parent.mkdir(exist_ok=True)
    package.write_text(wanted, encoding="utf-8")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(package.parent)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=NPM_SECONDS, text=True)  # noqa: S603 - npm
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"npm install took longer than {NPM_SECONDS:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line.lower()]
        raise UnavailableError(f"npm install failed: {lines[0] if lines else 'no reason given'}") from error


def _node(port: int, _: Path, __: Scenario) -> Launch:
    return Launch(
        command=("node", str(PEERS / "node_ws.js"), str(port)),
        environment={"NODE_PATH": str(_node_modules()), "NODE_ENV": "production"},
        traffic=Traffic(subscribe_path="/subscribe", publish_path="/publish"),
    )


def on_database(name: str, title: str, url: str, *, admin_port: int = 0) -> Server:
    """Return the service with its history in a database, which it may migrate."""

    def launch(port: int, work: Path, scenario: Scenario) -> Launch:
        ours = _ours(port, work, scenario)
        more = {"DATABASE_URL": url, "DATABASE_MIGRATE": "true", "ADMIN_PORT": str(admin_port)}
        return replace(ours, environment={**ours.environment, **more})

    return Server(name, title, _present, launch)


SERVERS = (
    Server(OURS, "Slackwater", _present, _ours),
    Server(REFERENCE, "Litestar channels", _present, _litestar),
    Server("node", "Node ws", _prepare_node, _node),
)


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Running:
    """A started server; a context manager that kills it with its children."""

    def __init__(
        self, server: Server, scenario: Scenario, *, core: int | None, work: Path, prefix: Sequence[str]
    ) -> None:
        """Start a server and return at once.

        Args:
            server: What to start.
            scenario: What is going to happen to it.
            core: The core that all its threads stay on; None for any.
            work: Directory for its data and its output.
            prefix: Command prefix that sets the scheduling class, or empty.
        """
        self.port = free_port()
        data = work / "data"
        data.mkdir()
        self._core = core
        self._prefix = prefix
        self._launch = server.launch(self.port, data, scenario)
        self._output = work / "output"
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with on_core(self._core), self._output.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - a row of SERVERS
                [*self._prefix, *self._launch.command],
                cwd=ROOT,
                env={name: os.environ[name] for name in INHERITED if name in os.environ}
                | dict(self._launch.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        kill_tree(self._process.pid)
        self._process.wait()

    @property
    def traffic(self) -> Traffic:
        """What the generator has to say to it."""
        return self._launch.traffic

    def stop(self) -> None:
        """Ask it to end, and return at once."""
        self._process.terminate()

    def start_again(self) -> None:
        """Wait until it has ended after `stop`, start it anew at the same port, and wait until it answers.

        Raises:
            MeasurementError: It did not end, or the new one did not answer in time.
        """
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise MeasurementError(f"it had not ended {STOP_SECONDS:.0f} s after SIGTERM") from error
        self._process = self._start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            MeasurementError: It ended, or did not answer in time.
        """
        deadline = time.perf_counter() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise MeasurementError(f"it ended with code {self._process.returncode}: {self.last_words()}")
            if time.perf_counter() > deadline:
                raise MeasurementError(f"not ready after {START_SECONDS:.0f} s: {self.last_words()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            if not self._launch.ready_path:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
            connection.request("GET", self._launch.ready_path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def usage(self) -> Usage:
        """CPU time and memory of it and its children so far."""
        return usage(self._process.pid)

    def last_words(self) -> str:
        """The end of what it printed, in one line."""
        lines = self._output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-5:]) or "it printed nothing"
