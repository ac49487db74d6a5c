"""What Alembic runs to migrate: on the connection it is handed, in the transaction that is open there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import context

from service.db.models import Table

if TYPE_CHECKING:
    from advanced_alchemy.alembic.commands import AlembicCommandConfig
    from sqlalchemy import Connection


def _run(config: AlembicCommandConfig) -> None:
    connection: Connection = config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        version_table=config.version_table_name,
        version_table_pk=config.version_table_pk,
        compare_type=config.compare_type,
        transactional_ddl=True,  # SQLite can, and Alembic does not believe it
    )
    with context.begin_transaction():
        context.run_migrations()


_run(context.config)  # type: ignore[arg-type]  # Alembic hands on what advanced-alchemy made
