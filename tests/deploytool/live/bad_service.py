"""The service, bad in a way that a test asks for; what an image of the simulated cluster runs.

``python -m tests.deploytool.live.bad_service TWIST[,TWIST…] [command of the service]``. All but the twist is the real
service.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.__main__ import main
from service.api import health
from service.core.phase import Phase
from service.db import database, schema, watch
from service.realtime.admission import Refusal
from service.realtime.hub import Hub
from service.server import DrainingServer
from service.ws.endpoint import Door

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

__all__ = ("CRASH_SECONDS", "TWISTS")

CRASH_SECONDS: Final = 8.0
"""After which a service that crashes does so, from when it is ready on."""

_LEVEL: Final = """
import sqlalchemy as sa
from alembic import op
from service.db.migrations.levels import record_level

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None


def upgrade():
    for table in ("slackwater_outbox", "slackwater_streams", "slackwater_organizations"):
        op.add_column(table, sa.Column("added", sa.Integer(), server_default="7", nullable=False))
    record_level(2, 1)
"""


def never_ready() -> None:
    """It serves, and does not say so."""
    Phase.is_ready = property(lambda _phase: False)  # type: ignore[method-assign,assignment]  # of the tests' own making
    health._phase = lambda _instance: ["it does not like to"]  # type: ignore[assignment]  # ditto


def mute() -> None:
    """It takes publications, keeps them, and delivers none."""
    Hub.deliver = lambda _hub, _event: None  # type: ignore[method-assign,assignment]  # ditto


def shut() -> None:
    """It lets in whoever tries it out, and nobody else."""
    check = Door.check

    def checked(door: Door, request: Mapping[str, Any]) -> Refusal | str:
        if (b"user-agent", b"deploytool") in request["headers"]:
            return check(door, request)
        return Refusal(503, "connections", "all connections are taken", retry_after=1)

    Door.check = checked  # type: ignore[method-assign,assignment]  # ditto


def crash() -> None:
    """It ends some time after it was ready, each time that it is started."""
    startup = DrainingServer.startup

    async def started(server: DrainingServer, sockets: list[socket.socket] | None = None) -> None:
        await startup(server, sockets)
        asyncio.get_running_loop().call_later(CRASH_SECONDS, os._exit, 70)

    DrainingServer.startup = started  # type: ignore[method-assign,assignment]  # ditto


def migrate() -> None:
    """It is newer by one migration, with which the code before it can live."""
    folder = Path(tempfile.mkdtemp()) / "migrations"
    shutil.copytree(database._MIGRATIONS, folder)
    (folder / "versions" / "level_0002.py").write_text(_LEVEL)
    database._MIGRATIONS = folder  # type: ignore[misc]
    schema.LEVEL = watch.LEVEL = 2  # type: ignore[misc,attr-defined]  # ditto


TWISTS: Mapping[str, Callable[[], None]] = {
    "never-ready": never_ready,
    "mute": mute,
    "shut": shut,
    "crash": crash,
    "migrate": migrate,
}

if __name__ == "__main__":
    for twist in sys.argv.pop(1).split(","):
        TWISTS[twist]()
    main(prog_name="slackwater")
