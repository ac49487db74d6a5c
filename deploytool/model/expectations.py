"""What the operator expects, as the checks need it; ``deploytool.yaml`` says it."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ("Expectations", "LoadThresholds", "Waiver")

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class LoadThresholds:
    """What a load report has to reach.

    Attributes:
        connections: Open at the same time, at least.
        publications: Published, at least.
        p99_seconds: From publishing to receiving, at most for 99 of 100 deliveries.
        lost: Deliveries that never came, at most.
        errors: Connections or commands that failed, at most.
        max_age_seconds: Older reports are out of date.
    """

    connections: int = 50
    publications: int = 100
    p99_seconds: float = 0.5
    lost: int = 0
    errors: int = 0
    max_age_seconds: float = 90 * _DAY


@dataclass(frozen=True, slots=True)
class Waiver:
    """Somebody's decision to live with an item that does not pass.

    Attributes:
        item: Id of the item.
        expires_at: In unix seconds; from then on the waived item fails.
        line: In ``deploytool.yaml``; None when it is not known.
    """

    item: str
    reason: str
    owner: str
    expires_at: float
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the checks hold a release against.

    Attributes:
        origins: Production origins, such as ``https://app.example.org``; empty takes those of the release itself.
        has_browsers: Whether pages in browsers connect. When not, no origin has to be configured.
        behind_load_balancer: Whether something spreads WebSockets over servers; None means that it is not known.
        tls_days_left: A certificate that has fewer fails.
        roster: Who has to be trained: user names as the API server gives them.
        drill_max_age_seconds: Older rollback drills do not count.
        max_attestation_seconds: An attestation that is valid for longer warns; 0 for any length.
    """

    origins: tuple[str, ...] = ()
    has_browsers: bool = True
    behind_load_balancer: bool | None = None
    tls_days_left: int = 14
    roster: tuple[str, ...] = ()
    drill_max_age_seconds: float = 180 * _DAY
    max_attestation_seconds: float = 400 * _DAY
    load: LoadThresholds = field(default_factory=LoadThresholds)
    waivers: tuple[Waiver, ...] = ()
