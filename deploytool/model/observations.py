"""What was seen of a running release. Each value says where from and when; nothing here judges.

Where something could not be seen, an ``Unseen`` stands in its place and says why, and what would make it visible.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "AlertRule",
    "Attestation",
    "Database",
    "DatabaseServer",
    "DocumentTrial",
    "Drill",
    "GaugeTrial",
    "HandshakeTrial",
    "LoadReport",
    "OriginKind",
    "OriginTrial",
    "PlainAnswer",
    "Pool",
    "PrometheusRules",
    "RateTrial",
    "RolloutRecord",
    "ScaleTrial",
    "Scrape",
    "Status",
    "TlsTrial",
    "TokenKind",
    "TokenTrial",
    "Unseen",
)


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why something was not observed.

    Attributes:
        why: For people, as a clause: ``list of horizontalpodautoscalers in realtime is forbidden to jane``.
        way_out: What would make it visible: an exact command, option or RBAC rule; may have several lines.
        failed: Whether an attempt was made and failed. False when it was not to be looked at.
    """

    why: str
    way_out: str = ""
    failed: bool = True


@dataclass(frozen=True, slots=True)
class ScaleTrial:
    """The API server's answer to a dry run of ``scale --replicas=2``.

    Attributes:
        refused: An admission policy said no. A missing right is ``Unseen``, no refusal.
        message: The API server's own words.
    """

    source: str
    at: float
    refused: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Pool:
    """The service's connections to its database.

    Attributes:
        size: Kept open.
        overflow: More that may be opened when they are all busy.
        peak: Most in use at once since the start.
    """

    size: int
    overflow: int
    in_use: int
    peak: int


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """What the database server says of its connections, asked by the service.

    Attributes:
        reserved: Kept for superusers.
        in_use: By everybody, the service's own among them.
    """

    max_connections: int
    reserved: int
    in_use: int


@dataclass(frozen=True, slots=True)
class Database:
    """The database of the service.

    Attributes:
        kind: ``postgres`` or ``sqlite``.
        degraded: Why it is not as it should be; empty when it is.
        pool: None where there is no pool.
        server: None where there is no server, or it did not answer.
        code_level: Of the schema that the service was written for; None where it does not say.
    """

    kind: str
    degraded: str = ""
    pool: Pool | None = None
    server: DatabaseServer | None = None
    code_level: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """``GET /api/admin/status``.

    Attributes:
        image_digest: Empty when the process was not told.
        connections: Open WebSockets, those of probes among them.
        probe_connections: Those of probes.
        limits: Limits in force, by name; 0 means switched off, an absent one that the service has no such limit.
        lock: ``local``, ``file`` or ``database``: what keeps a second instance from serving.
        database: None when the service has none.
    """

    source: str
    at: float
    instance: str
    phase: str
    connections: int
    probe_connections: int = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    lock: str = "local"
    lock_held: bool = True
    image_digest: str = ""
    version: str = ""
    database: Database | None = None


@dataclass(frozen=True, slots=True)
class Scrape:
    """``GET /metrics``.

    Attributes:
        samples: Sum over the labels of each metric, by its name.
    """

    source: str
    at: float
    samples: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """An alerting rule as Prometheus has loaded it.

    Attributes:
        health: ``ok``, ``err`` or ``unknown``.
        error: Why it could not be evaluated; empty when it could.
    """

    name: str
    query: str
    health: str = "ok"
    error: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrometheusRules:
    """``GET /api/v1/rules?type=alert`` of a Prometheus."""

    source: str
    at: float
    rules: tuple[AlertRule, ...]


class OriginKind(enum.Enum):
    """What sort of Origin header was tried."""

    ALLOWED = "allowed"
    FOREIGN = "foreign"
    """A site of somebody else."""
    NULL = "null"
    SUFFIX = "suffix"
    """An allowed one with something before or after it: ``https://app.example.org.evil.example``."""
    INSECURE = "insecure"
    """An allowed one with http in place of https."""


@dataclass(frozen=True, slots=True)
class OriginTrial:
    """One upgrade with an Origin header.

    Attributes:
        origin: The header's value.
        accepted: The answer was 101.
        answer: For people, such as ``HTTP 403``.
    """

    source: str
    at: float
    kind: OriginKind
    origin: str
    accepted: bool
    answer: str


class TokenKind(enum.Enum):
    """What sort of token was tried."""

    GOOD = "good"
    NONE = "none"
    GARBAGE = "garbage"
    EXPIRED = "expired"
    WRONG_KEY = "wrong key"


@dataclass(frozen=True, slots=True)
class TokenTrial:
    """One connect command, or one subscribe command on an open connection.

    Attributes:
        purpose: ``connect`` or ``subscribe``.
        answer: For people, such as ``error 109 token expired`` or ``closed with 3500 invalid token``.
    """

    source: str
    at: float
    kind: TokenKind
    accepted: bool
    answer: str
    purpose: str = "connect"


@dataclass(frozen=True, slots=True)
class HandshakeTrial:
    """One handshake at the public address.

    Attributes:
        instance: ``X-Slackwater-Instance`` of the 101; empty when there was none.
        answer: For people, such as ``HTTP 101``.
    """

    source: str
    at: float
    instance: str
    answer: str = "HTTP 101"


@dataclass(frozen=True, slots=True)
class GaugeTrial:
    """The count of probes' connections before, while and after probes were open.

    Attributes:
        opened: How many were open.
        metric: What was read, such as ``slackwater_connections_probe``.
    """

    source: str
    at: float
    opened: int
    before: int
    during: int
    after: int
    metric: str = "slackwater_connections_probe"


@dataclass(frozen=True, slots=True)
class RateTrial:
    """A burst of messages of one probe's user, stopped at the first refusal or at its bound.

    Attributes:
        sent: How many, the refused one among them.
        refusal: The code of the refusal (111 or 3013 are those of rate limits); None when none was refused.
        recovered: Whether a message was accepted again later; None when that was not tried.
        answer: For people.
    """

    source: str
    at: float
    sent: int
    refusal: int | None
    recovered: bool | None
    answer: str = ""


class PlainAnswer(enum.Enum):
    """What became of an upgrade without TLS at the same name."""

    CLOSED = "nothing listens"
    REFUSED = "refused"
    REDIRECTED = "redirected to https"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class TlsTrial:
    """TLS handshakes at the public address.

    Attributes:
        error: Why the verified handshake failed; empty when chain and name are good.
        protocol: What was agreed on, such as ``TLSv1.3``; empty when nothing was.
        not_after: End of the certificate's validity, in unix seconds; None when none was shown.
        accepts_old: Whether TLS 1.1 or older was accepted; None when that could not be tried.
        plain: None when that could not be told.
    """

    source: str
    at: float
    host: str
    error: str
    protocol: str
    not_after: float | None
    accepts_old: bool | None
    plain: PlainAnswer | None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load test measured.

    Attributes:
        source: Where it is stored.
        at: When the test ended.
        image_digest: Which image was tested; empty when the process was not told.
        connections: Open at the same time.
        deliveries: Publications received, once for each receiver.
        lost: Publications that a receiver never got.
        errors: Connections or commands that failed.
    """

    source: str
    at: float
    image_digest: str
    connections: int
    publications: int
    deliveries: int
    lost: int
    errors: int
    duration_seconds: float
    p50_seconds: float
    p99_seconds: float


@dataclass(frozen=True, slots=True)
class Drill:
    """A rollback that was practised.

    Attributes:
        at: When, in unix seconds.
        reference: Where it is written down, such as an address or the id of a rollout.
    """

    at: float
    reference: str


@dataclass(frozen=True, slots=True)
class Attestation:
    """What somebody has vouched for.

    Attributes:
        name: Of the ConfigMap.
        item: Id of the item.
        who: As the API server named the person.
        is_shared: Whether that user stands for several people: a service account, or a member of system:masters.
        made_at: In unix seconds.
        expires_at: In unix seconds.
        url: The document; empty where the item needs none.
        sha256: Of the document when it was attested, in hexadecimal; empty without a document.
        drill: Of item ``documentation.rollback-procedure``.
    """

    source: str
    at: float
    name: str
    item: str
    who: str
    is_shared: bool
    made_at: float
    expires_at: float
    url: str = ""
    sha256: str = ""
    drill: Drill | None = None


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """What is on record of a rollout that is over.

    Attributes:
        name: Of the ConfigMap.
        rollout: Its id.
        who: As the API server named who ended it.
        old: Image before.
        new: Image that was rolled out.
        began_at: In unix seconds, by the clock of whoever ran it.
        ended_at: In unix seconds; never later than the record was made, by the API server's clock.
        was_switched: Whether the new image was seen to be asked for.
        was_rolled_back: Whether the old image serves again; False when the new one does.
        is_drill: It went back because that was to be practised.
        failure: Why it went back; empty when it did not.
    """

    source: str
    at: float
    name: str
    rollout: str
    who: str
    old: str
    new: str
    began_at: float
    ended_at: float
    was_switched: bool
    was_rolled_back: bool
    is_drill: bool = False
    failure: str = ""


@dataclass(frozen=True, slots=True)
class DocumentTrial:
    """A document or runbook, fetched now.

    Attributes:
        status: HTTP status; None when there was no answer.
        sha256: Of the body, in hexadecimal; empty when there was none.
        error: Why there was no answer; empty when there was one.
    """

    at: float
    url: str
    status: int | None
    sha256: str = ""
    error: str = ""

    @property
    def resolves(self) -> bool:
        """Whether the document is there."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004  # HTTP
