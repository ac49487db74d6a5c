"""The first tables: fence, identity, streams, outbox, organizations."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from advanced_alchemy.types import BigIntIdentity, DateTimeUTC
from alembic import op

from service.db.migrations.levels import record_level

revision: Final = "0001"
down_revision: Final = None
branch_labels: Final = None
depends_on: Final = None

LEVEL: Final = 1
OLDEST_LEVEL: Final = 1

_NAME: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_DOCUMENT: Final = sa.JSON().with_variant(sa.Text(), "sqlite")
_INSTANT: Final = DateTimeUTC(timezone=True)
_WAITING: Final = sa.text("published_at IS NULL AND set_aside_at IS NULL")
_PUBLISHED: Final = sa.text("published_at IS NOT NULL")
_SET_ASIDE: Final = sa.text("set_aside_at IS NOT NULL")


def upgrade() -> None:
    """Make everything; the transaction is the caller's."""
    op.create_table(
        "slackwater_schema",
        sa.Column("level", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("oldest_level", sa.Integer(), nullable=False),
        _instant("applied_at"),
    )
    _create_guards()
    _create_streams()
    _create_outbox()
    _create_organizations()
    record_level(LEVEL, OLDEST_LEVEL)


def downgrade() -> None:
    """Refuse: what was written since would be lost, and older code runs on these tables as they are."""
    raise NotImplementedError("migrations never go back")


def _instant(name: str) -> sa.Column[object]:
    return sa.Column(name, _INSTANT, server_default=sa.func.current_timestamp(), nullable=False)


def _create_guards() -> None:
    fence = op.create_table(
        "slackwater_fence",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("pod", sa.Text(), nullable=False),
        sa.Column("released", sa.Boolean(create_constraint=False), nullable=False),
        _instant("taken_at"),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    identity = op.create_table(
        "slackwater_identity",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("system_identifier", sa.Text(), nullable=False),
        sa.Column("timeline", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    op.bulk_insert(fence, [{"id": 1, "token": 0, "holder": "", "pod": "", "released": True}])
    op.bulk_insert(identity, [{"id": 1, "epoch": "", "system_identifier": "", "timeline": 0}])


def _create_streams() -> None:
    op.create_table(
        "slackwater_streams",
        sa.Column("channel", _NAME, primary_key=True),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("top", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("version_epoch", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
    )
    op.create_table(
        "slackwater_publications",
        sa.Column("channel", _NAME, primary_key=True),
        sa.Column("offset", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("info", sa.LargeBinary()),
        sa.Column("tags", sa.LargeBinary()),
        sa.Column("published_at", sa.Double(), nullable=False),
    )
    op.create_table(
        "slackwater_idempotency",
        sa.Column("channel", _NAME, primary_key=True),
        sa.Column("key", _NAME, primary_key=True),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
    )
    op.create_index("ix_slackwater_idempotency_created_at", "slackwater_idempotency", ["created_at"])


def _create_outbox() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    # Elsewhere the type sees to it that what is stored is JSON.
    checks = [
        sa.CheckConstraint("json_valid(data)", name="data"),
        sa.CheckConstraint("tags IS NULL OR json_valid(tags)", name="tags"),
    ]
    op.create_table(
        "slackwater_outbox",
        sa.Column("id", BigIntIdentity, sa.Identity(always=True, cache=1), primary_key=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("data", _DOCUMENT, nullable=False),
        sa.Column("tags", _DOCUMENT),
        _instant("created_at"),
        sa.Column("published_at", _INSTANT),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("set_aside_at", _INSTANT),
        *(checks if is_sqlite else []),
        sqlite_autoincrement=True,  # an id is never used twice
    )
    op.create_index(
        "ix_slackwater_outbox_waiting", "slackwater_outbox", ["id"], postgresql_where=_WAITING, sqlite_where=_WAITING
    )
    op.create_index(
        "ix_slackwater_outbox_published_at",
        "slackwater_outbox",
        ["published_at"],
        postgresql_where=_PUBLISHED,
        sqlite_where=_PUBLISHED,
    )
    op.create_index(
        "ix_slackwater_outbox_set_aside",
        "slackwater_outbox",
        ["id"],
        postgresql_where=_SET_ASIDE,
        sqlite_where=_SET_ASIDE,
    )
    if not is_sqlite:
        op.execute(
            "CREATE FUNCTION slackwater_outbox_notify() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_notify('slackwater_outbox', ''); RETURN NULL; END $$"
        )
        op.execute(
            "CREATE TRIGGER slackwater_outbox_notify AFTER INSERT ON slackwater_outbox"
            " FOR EACH STATEMENT EXECUTE FUNCTION slackwater_outbox_notify()"
        )


def _create_organizations() -> None:
    op.create_table(
        "slackwater_organizations",
        sa.Column("id", _NAME, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("max_connections", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("publications_per_minute", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_channels", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _instant("created_at"),
        _instant("updated_at"),
    )
    op.create_table(
        "slackwater_members",
        sa.Column(
            "organization_id",
            _NAME,
            sa.ForeignKey("slackwater_organizations.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("user_id", _NAME, primary_key=True),
        sa.Column("role", sa.Text(), nullable=False),
        _instant("created_at"),
        sa.CheckConstraint("role IN ('owner', 'admin', 'member', 'viewer')", name="role"),
    )
    op.create_table(
        "slackwater_api_keys",
        sa.Column("id", _NAME, primary_key=True),
        sa.Column("organization_id", _NAME, sa.ForeignKey("slackwater_organizations.id", ondelete="CASCADE")),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("per_minute", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _instant("created_at"),
        sa.Column("expires_at", _INSTANT),
        sa.Column("revoked_at", _INSTANT),
    )
    op.create_index("ix_slackwater_api_keys_organization_id", "slackwater_api_keys", ["organization_id"])
