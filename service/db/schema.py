"""Whether this code may run on the schema that a database has."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import func, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from service.db.models import SchemaRow
from service.errors import DatabaseUnfit

__all__ = ("LEVEL", "Schema", "check", "read")

LEVEL: Final = 1
"""Of the schema that this code was written for: the number of the newest migration."""

_COMMAND: Final = "run `python -m service migrate` with the same settings, or set DATABASE_MIGRATE=true"


class Schema(NamedTuple):
    """What a database has.

    Attributes:
        level: Number of the newest migration that was applied; 0 when there are no tables.
        oldest_level: Level of the oldest code that may run on it.
    """

    level: int = 0
    oldest_level: int = 0

    @property
    def is_behind(self) -> bool:
        """Whether migrations are missing that this code needs."""
        return self.level < LEVEL

    @property
    def is_too_new(self) -> bool:
        """Whether it has changed in a way that this code does not know."""
        return self.oldest_level > LEVEL


async def read(connection: AsyncConnection) -> Schema:
    """Return the schema that a database has."""
    if not await connection.run_sync(lambda plain: inspect(plain).has_table(SchemaRow.__tablename__)):
        return Schema()
    level: InstrumentedAttribute[int] = SchemaRow.level
    row = (await connection.execute(select(func.max(level), func.max(SchemaRow.oldest_level)))).one()
    return Schema(row[0] or 0, row[1] or 0)


def check(schema: Schema) -> None:
    """Refuse a schema that this code may not run on.

    Raises:
        DatabaseUnfit: With what to do.
    """
    if schema.is_behind:
        has = f"has the schema of level {schema.level}" if schema.level else "has no tables yet"
        raise DatabaseUnfit(f"the database {has} and this code needs level {LEVEL}: {_COMMAND}")
    if schema.is_too_new:
        raise DatabaseUnfit(
            f"the database has the schema of level {schema.level}, which code of level {schema.oldest_level} or newer"
            f" may run on, and this code is of level {LEVEL}: run a newer version; a schema is never taken back"
        )
