"""What every migration writes down about itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ("record_level",)


def record_level(level: int, oldest_level: int) -> None:
    """Record that the schema has reached a level.

    Args:
        level: The migration's own number.
        oldest_level: Level of the oldest code that may run on the schema from now on.
    """
    table = sa.table("slackwater_schema", sa.column("level"), sa.column("oldest_level"))
    op.execute(table.insert().values(level=level, oldest_level=oldest_level))
