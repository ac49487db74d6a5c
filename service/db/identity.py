"""Which database this is, and the epoch that follows from it.

An epoch promises that offsets go on where they were. That ends when a replica is promoted, since its
last publications may be missing, and when the data was copied to another server. Postgres says both
by itself: a promotion and a recovery to a point in time begin another timeline, and each cluster has an identifier
of its own. What neither database can know, a file or a volume that was put back, a person says by
``python -m service new-epoch``.

The epoch of a stream counts only together with that of the database (`encode_epoch`), so that one
row is changed for all of them, however many there are.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.db.database import Database
from service.errors import DatabaseUnfit

__all__ = ("IS_SAME_SERVER", "POSTGRES_CONFIRM", "SQLITE_CONFIRM", "decode_epoch", "encode_epoch", "renew")

_SYSTEM: Final = "(SELECT system_identifier::text FROM pg_control_system())"
# Of the write-ahead log that is written now: what the control file says comes from the last checkpoint, and
# after a promotion the first one is minutes away.
_TIMELINE: Final = "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint"

IS_SAME_SERVER: Final = f"(system_identifier = {_SYSTEM} AND timeline = {_TIMELINE})"
"""Condition on a row of ``slackwater_identity`` in Postgres."""

POSTGRES_CONFIRM: Final = f"""
    UPDATE slackwater_identity SET epoch = $1, system_identifier = {_SYSTEM}, timeline = {_TIMELINE}
    WHERE id = 1 AND (epoch = '' OR NOT {IS_SAME_SERVER})
"""  # noqa: S608 - made of the constants above
"""Gives the database a new epoch (the parameter) unless it is the one of the last take-over.

Belongs into the transaction that raises the fencing token, so that nobody appends in between.
"""

SQLITE_CONFIRM: Final = "UPDATE slackwater_identity SET epoch = ? WHERE id = 1 AND epoch = ''"
"""As `POSTGRES_CONFIRM`; only a database that never had an epoch gets one."""

_RENEW_POSTGRES: Final = f"""
    UPDATE slackwater_identity SET epoch = :epoch, system_identifier = {_SYSTEM}, timeline = {_TIMELINE} WHERE id = 1
"""  # noqa: S608 - as above
_RENEW_SQLITE: Final = "UPDATE slackwater_identity SET epoch = :epoch WHERE id = 1"
# A backup has an old token, which must not lead to one that an instance from before the restore still has. Tokens
# are raised far less often than once a second, so one that is made of the time is above all of them.
_OVERTAKE_POSTGRES: Final = """
    UPDATE slackwater_fence SET token = GREATEST(token + 1, extract(epoch FROM now())::bigint) WHERE id = 1
"""
_OVERTAKE_SQLITE: Final = """
    UPDATE slackwater_fence SET token = max(token + 1, CAST(strftime('%s', 'now') AS INTEGER)) WHERE id = 1
"""


def encode_epoch(epoch: str, of_database: str) -> str:
    """Return what is kept as the epoch of a stream: the database's, and behind a colon its own if it has one."""
    return epoch if epoch == of_database else f"{of_database}:{epoch}"


def decode_epoch(kept: str, of_database: str) -> str:
    """Return the epoch of a stream; the database's when what is kept is from before its last change."""
    begin, colon, own = kept.partition(":")
    return own if colon and begin == of_database else of_database


async def renew(database: Database, epoch: str) -> None:
    """Give the database another epoch, and every stream with it.

    The fencing token is raised too: an instance that serves meanwhile is overtaken, and begins anew with
    what it then reads.

    Raises:
        DatabaseUnfit: There are no tables yet.
        DatabaseUnavailable: Nothing was changed.
        OutcomeUnknown: Perhaps it was; doing it once more does no harm.
    """
    is_postgres = database.kind == "postgres"
    overtake = _OVERTAKE_POSTGRES if is_postgres else _OVERTAKE_SQLITE
    statement = _RENEW_POSTGRES if is_postgres else _RENEW_SQLITE
    is_sent = False
    try:
        async with database.writer.begin() as connection:
            # The fence first, as in a take-over: whoever comes second waits there.
            fence = await connection.execute(text(overtake))
            identity = await connection.execute(text(statement), {"epoch": epoch})
            is_whole = fence.rowcount == 1 and identity.rowcount == 1
            if not is_whole:
                await connection.rollback()
            is_sent = True
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise database.translate(error, committing=is_sent) from error
    if not is_whole:
        raise DatabaseUnfit("a row of slackwater_fence or slackwater_identity is missing: put it back")
