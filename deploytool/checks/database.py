"""The pool of database connections fits into what the server allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploytool.model.finding import Category, Depth, Evidence, Item, Observation, Rule, Severity, Verdict
from deploytool.model.observations import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.model.expectations import Expectations
    from deploytool.model.observations import Database, Status
    from deploytool.model.snapshot import Snapshot

__all__ = ("ITEMS",)


def _evidence(status: Status, field: str, seen: str | int) -> tuple[Evidence, ...]:
    return (Evidence(status.source, field, seen, at=status.at),)


def _pooled(snapshot: Snapshot) -> tuple[Status, Database] | Observation:
    """Return the database when it has a pool, else what is said in place of it."""
    status = snapshot.status
    if isinstance(status, Unseen):
        message = f"the service's status was not seen: {status.why}"
        return Observation(Verdict.UNKNOWN, "", message, remediation=status.way_out)
    database = status.database
    if database is None:
        return Observation(Verdict.IRRELEVANT, "", "the service has no database", _evidence(status, "database", "none"))
    if database.kind == "sqlite":
        message = "the database is a file of its own, without connections to share"
        return Observation(Verdict.IRRELEVANT, "", message, _evidence(status, "database.kind", "sqlite"))
    return status, database


def _fits(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    found = _pooled(snapshot)
    if isinstance(found, Observation):
        yield found
        return
    status, database = found
    pool, server = database.pool, database.server
    if pool is None or server is None:
        missing = "the pool" if pool is None else "what the server allows"
        evidence = _evidence(status, "database", database.degraded or "incomplete")
        yield Observation(Verdict.UNKNOWN, "", f"the service does not know {missing}", evidence)
        return
    wanted = pool.size + pool.overflow
    others = max(0, server.in_use - pool.in_use)
    left = server.max_connections - server.reserved - others
    shown = f"{pool.size} + {pool.overflow} ≤ {server.max_connections} - {server.reserved} - {others}"
    if wanted > left:
        message = f"the pool may open {wanted} connections, and the server has {left} for it"
        yield Observation(Verdict.VIOLATED, "", message, _evidence(status, "database.pool", f"not {shown}"))
    else:
        message = f"the pool may open {wanted} connections, of {left} that the server has for it"
        yield Observation(Verdict.SATISFIED, "", message, _evidence(status, "database.pool", shown))


def _peak(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    found = _pooled(snapshot)
    if isinstance(found, Observation) or found[1].pool is None:
        return
    status, pool = found[0], found[1].pool
    evidence = _evidence(status, "database.pool.peak", pool.peak)
    wanted = pool.size + pool.overflow
    if pool.peak >= wanted:
        message = f"all {wanted} connections of the pool were in use at once, so somebody waited"
        yield Observation(Verdict.VIOLATED, "", message, evidence)
    else:
        yield Observation(Verdict.SATISFIED, "", f"at most {pool.peak} of {wanted} were in use at once", evidence)


def _healthy(snapshot: Snapshot, _: Expectations) -> Iterator[Observation]:
    status = snapshot.status
    if isinstance(status, Unseen) or status.database is None:
        return
    why = status.database.degraded
    evidence = _evidence(status, "database.degraded", why or "no")
    if why:
        yield Observation(Verdict.VIOLATED, "", f"the database is degraded: {why}", evidence)
    elif status.database.kind != "sqlite":
        yield Observation(Verdict.SATISFIED, "", "the database works", evidence)


ITEMS = (
    Item(
        number=2,
        id="infrastructure.database-pool",
        category=Category.INFRASTRUCTURE,
        title="database connection pool sized appropriately",
        knows=(
            "Size and overflow of the pool against max_connections, less what is reserved and what others use, all "
            "asked of the database by the service; and the pool's peak."
        ),
        needs=frozenset({"status"}),
        passes_from=Depth.LIVE,
        rules=(
            Rule(
                "fits",
                Depth.LIVE,
                Severity.ERROR,
                "the pool fits into what the database server allows",
                "Make the pool smaller (DATABASE_POOL_SIZE, DATABASE_POOL_OVERFLOW; with the chart in extraEnv), or "
                "raise max_connections: `ALTER SYSTEM SET max_connections = N`, then restart the server.",
                _fits,
            ),
            Rule(
                "peak",
                Depth.LIVE,
                Severity.WARNING,
                "the pool was never used up",
                "Make the pool larger (DATABASE_POOL_SIZE; with the chart in extraEnv), as far as the server allows.",
                _peak,
            ),
            Rule(
                "healthy",
                Depth.LIVE,
                Severity.ERROR,
                "the database is not degraded",
                "Look at the service's log: `kubectl --namespace {namespace} logs deployment/{workload}`.",
                _healthy,
            ),
        ),
    ),
)
