"""The tables, for those who query them by name and to compare the migrations with.

The migrations make the tables; a test holds the two against each other. Instants in the
stream's own tables are Unix seconds, as publications carry them; elsewhere timestamps in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Final

from advanced_alchemy.base import AdvancedDeclarativeBase, CommonTableAttributes, create_registry
from advanced_alchemy.types import BigIntIdentity, DateTimeUTC
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    func,
    text,
)
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import Mapped, mapped_column, registry

__all__ = (
    "ApiKeyRow",
    "FenceRow",
    "IdempotencyRow",
    "IdentityRow",
    "MemberRow",
    "OrganizationRow",
    "OutboxRow",
    "PublicationRow",
    "SchemaRow",
    "StreamRow",
    "Table",
)

Name: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""A name that is compared byte by byte: fast, and the same order under every locale and on SQLite."""

Document: Final = JSON().with_variant(Text(), "sqlite")
"""JSON as it was written; ``jsonb`` would not keep it so."""

_NOW: Final = func.current_timestamp()


class Table(CommonTableAttributes, AdvancedDeclarativeBase, AsyncAttrs):
    """Base of all tables."""

    __abstract__ = True
    registry: ClassVar[registry] = create_registry()


class SchemaRow(Table):
    """One migration that has been applied."""

    __tablename__ = "slackwater_schema"

    level: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    oldest_level: Mapped[int] = mapped_column(Integer)
    """Level of the oldest code that may run after this migration."""
    applied_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=_NOW)


class FenceRow(Table):
    """The one row that says who may commit publications."""

    __tablename__ = "slackwater_fence"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    token: Mapped[int] = mapped_column(BigInteger)
    """Raised by every take-over; 0 before the first."""
    holder: Mapped[str] = mapped_column(Text)
    pod: Mapped[str] = mapped_column(Text)
    released: Mapped[bool] = mapped_column(Boolean(create_constraint=False))
    """Whether the holder ended cleanly, so that nobody has to wait for it."""
    taken_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=_NOW)


class IdentityRow(Table):
    """The one row that says which database this is, so that a copy or a promoted replica is noticed."""

    __tablename__ = "slackwater_identity"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    epoch: Mapped[str] = mapped_column(Text)
    """Empty until the first take-over."""
    system_identifier: Mapped[str] = mapped_column(Text)
    timeline: Mapped[int] = mapped_column(BigInteger)


class StreamRow(Table):
    """The head of a channel's stream. Never deleted with its publications."""

    __tablename__ = "slackwater_streams"

    channel: Mapped[str] = mapped_column(Name, primary_key=True)
    epoch: Mapped[str] = mapped_column(Text)
    top: Mapped[int] = mapped_column(BigInteger)
    """Offset of the newest publication, which may be trimmed by now. Never lowered."""
    version: Mapped[int] = mapped_column(BigInteger)
    version_epoch: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[float] = mapped_column(Double)


class PublicationRow(Table):
    """One publication, with the bytes that came."""

    __tablename__ = "slackwater_publications"

    channel: Mapped[str] = mapped_column(Name, primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    info: Mapped[bytes | None] = mapped_column(LargeBinary)
    tags: Mapped[bytes | None] = mapped_column(LargeBinary)
    published_at: Mapped[float] = mapped_column(Double)


class IdempotencyRow(Table):
    """What a publication with a key was answered."""

    __tablename__ = "slackwater_idempotency"
    __table_args__ = (Index("ix_slackwater_idempotency_created_at", "created_at"),)

    channel: Mapped[str] = mapped_column(Name, primary_key=True)
    key: Mapped[str] = mapped_column(Name, primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger)
    epoch: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Double)


class OutboxRow(Table):
    """A publication that an application wrote in a transaction of its own."""

    __tablename__ = "slackwater_outbox"
    __table_args__ = (
        Index(
            "ix_slackwater_outbox_waiting",
            "id",
            postgresql_where=text("published_at IS NULL AND set_aside_at IS NULL"),
            sqlite_where=text("published_at IS NULL AND set_aside_at IS NULL"),
        ),
        Index(
            "ix_slackwater_outbox_published_at",
            "published_at",
            postgresql_where=text("published_at IS NOT NULL"),
            sqlite_where=text("published_at IS NOT NULL"),
        ),
        Index(
            "ix_slackwater_outbox_set_aside",
            "id",
            postgresql_where=text("set_aside_at IS NOT NULL"),
            sqlite_where=text("set_aside_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigIntIdentity, Identity(always=True, cache=1), primary_key=True)
    channel: Mapped[str] = mapped_column(Text)
    data: Mapped[Any] = mapped_column(Document)
    tags: Mapped[Any] = mapped_column(Document, nullable=True)
    created_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=_NOW)
    published_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    error: Mapped[str | None] = mapped_column(Text)
    set_aside_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))


class OrganizationRow(Table):
    """An organization and its quotas, in which 0 means no limit."""

    __tablename__ = "slackwater_organizations"

    id: Mapped[str] = mapped_column(Name, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    max_connections: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    publications_per_minute: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    max_channels: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=_NOW)


class MemberRow(Table):
    """A user's place in an organization."""

    __tablename__ = "slackwater_members"
    __table_args__ = (CheckConstraint("role IN ('owner', 'admin', 'member', 'viewer')", name="role"),)

    organization_id: Mapped[str] = mapped_column(
        Name, ForeignKey("slackwater_organizations.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[str] = mapped_column(Name, primary_key=True)
    role: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=_NOW)


class ApiKeyRow(Table):
    """A key of the API; of its secret part only the SHA-256 digest."""

    __tablename__ = "slackwater_api_keys"
    __table_args__ = (Index("ix_slackwater_api_keys_organization_id", "organization_id"),)

    id: Mapped[str] = mapped_column(Name, primary_key=True)
    organization_id: Mapped[str | None] = mapped_column(
        Name, ForeignKey("slackwater_organizations.id", ondelete="CASCADE")
    )
    name: Mapped[str] = mapped_column(Text)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    per_minute: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=_NOW)
    expires_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))
