"""Every setting, one field each, in groups that are built once and never change.

The name in the environment, what it accepts and its default stand in the field, its
meaning in the docstring below it. Reading, checking and the reference page all come
from these fields, so a new setting is one field more. Durations are seconds here,
whatever the unit outside.
"""
# ruff: noqa: RUF009 - _setting() is dataclasses.field() with our metadata

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from service.core.database_url import Target, parse
from service.core.namespaces import BUILT_IN, Namespaces
from service.settings.kinds import (
    DATABASE,
    ECDSA_KEY,
    FILE,
    HMAC_SECRET,
    HOST,
    KEY,
    NETWORKS,
    ORIGINS,
    PATH,
    POSTGRES,
    RSA_KEY,
    SWITCH,
    TEXT,
    URL,
    WORKERS,
    Kind,
    Network,
    decimal,
    milliseconds,
    one_of,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.core.secret import Secret

__all__ = (
    "GROUPS",
    "MAX_PONG_TIMEOUT_SECONDS",
    "MAX_RECOVERY_BYTES",
    "Admin",
    "Api",
    "Channels",
    "Database",
    "Drain",
    "Http",
    "Limits",
    "Lock",
    "LogFormat",
    "LogLevel",
    "Logs",
    "Mode",
    "Origins",
    "Outbox",
    "Process",
    "Setting",
    "Settings",
    "Tokens",
    "settings_of",
)

MAX_PONG_TIMEOUT_SECONDS: Final = 10.0
"""The time for a pong when none is set and pings are far enough apart."""

MAX_RECOVERY_BYTES: Final = 786_432
"""The longest recovery reply: no frame of a reply is cut, so it has to fit between what waits for a slow reader."""

DATABASE_FILE: Final = "slackwater.db"
"""Name of the SQLite database in the directory for data."""

_T = TypeVar("_T")

_MIB: Final = 1_048_576
_MAX_BYTES: Final = 64 * _MIB
_MAX_PORT: Final = 65_535
_YEAR_MS: Final = 31_536_000_000
_MAX_SPREAD_SECONDS: Final = 10.0
_CONNECTIONS_PER_SPREAD_SECOND: Final = 1000
_MADE_UP: Final = "none; made up in development"


class Mode(enum.Enum):
    """What the process is run for."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"


class LogLevel(enum.Enum):
    """The least severe line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(enum.Enum):
    """How a line is written; ``AUTO`` is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Setting:
    """One name in the environment and how it is read.

    Attributes:
        default: In the unit of the field; None when it has none.
        development: The default in development mode.
        default_text: The default in words, where it is no constant.
    """

    name: str
    kind: Kind[Any]
    default: Any
    development: Any
    default_text: str | None


def _setting(
    name: str, kind: Kind[_T], default: _T, *, development: _T | None = None, default_text: str | None = None
) -> _T:
    """Describe a field; ``development`` is its default in development mode when it differs."""
    described = Setting(name, kind, default, default if development is None else development, default_text)
    value: _T = field(default=default, metadata={"setting": described})
    return value


def settings_of(group: type) -> dict[str, Setting]:
    """Return the settings of a group by the name of their field, in the order of the source."""
    return {item.name: item.metadata["setting"] for item in fields(group) if "setting" in item.metadata}


@dataclass(frozen=True, slots=True)
class Process:
    """The process as a whole."""

    mode: Mode = _setting("SLACKWATER_MODE", one_of(Mode), Mode.PRODUCTION)
    """Development makes up the secrets that are missing and binds loopback addresses alone.
    Production is the default, because a forgotten setting must not open anything."""

    data_dir: Path = _setting("DATA_DIR", PATH, Path("data"), default_text="./data")
    """Directory for everything that is kept in files: the SQLite database, when no other is set."""

    image_digest: str | None = _setting("IMAGE_DIGEST", TEXT, None)
    """Digest of the container image, reported by the admin API so that a rollout can see what runs."""

    web_concurrency: int = _setting("WEB_CONCURRENCY", WORKERS, 1)
    """Number of worker processes. Anything but 1 stops the start: connections, subscriptions and
    presence live in the memory of one process. Read so that a platform's default cannot slip through."""


@dataclass(frozen=True, slots=True)
class Database:
    """Where publications, organizations and the outbox are kept."""

    url: Secret | None = _setting("DATABASE_URL", DATABASE, None, default_text="SQLite in `DATA_DIR`/slackwater.db")
    """A Postgres, a SQLite file, or `memory:` for none: then nothing outlives the process, and nothing keeps a
    second process from serving beside it. Never shown, since it may hold a password."""

    direct_url: Secret | None = _setting("DATABASE_DIRECT_URL", POSTGRES, None, default_text="`DATABASE_URL`")
    """The same Postgres past its transaction pooler, for the lock and for LISTEN, which need a session of their own.
    When it is set, ``DATABASE_URL`` is taken for a pooler's address."""

    pool_size: int = _setting("DATABASE_POOL_SIZE", whole(1, 1000, "connections"), 5)
    """Connections that are kept open."""

    pool_overflow: int = _setting("DATABASE_POOL_OVERFLOW", whole(0, 1000, "connections"), 5)
    """Connections beyond those, opened when all are in use and closed after use."""

    pool_timeout_seconds: float = _setting("DATABASE_POOL_TIMEOUT", decimal(0, 3600, "seconds", above=True), 5.0)
    """Time to wait for a connection when all are in use; then the work is refused as temporary."""

    connect_timeout_seconds: float = _setting("DATABASE_CONNECT_TIMEOUT", decimal(0, 3600, "seconds", above=True), 5.0)
    """Time in which a connection must come about. A ``connect_timeout`` in the address outranks it."""

    statement_timeout_seconds: float = _setting(
        "DATABASE_STATEMENT_TIMEOUT", decimal(0, 3600, "seconds", above=True), 5.0
    )
    """Time in which a statement must be done, waiting for locks included; then it is refused as temporary."""

    migrate: bool | None = _setting(
        "DATABASE_MIGRATE",
        SWITCH,
        None,
        default_text="`false`; without `DATABASE_URL` and in development `true`",
    )
    """Migrate at the start, as ``python -m service migrate`` does. Off for a database that was named, so that a
    rollout migrates once and where it can be seen; the file that is used without one belongs to this service alone."""


@dataclass(frozen=True, slots=True)
class Lock:
    """That one instance serves at a time. ``prove`` < ``serve`` < ``wait``, and ``prove`` < ``session``."""

    prove_seconds: float = _setting("LOCK_PROVE_SECONDS", decimal(0.01, 3600, "seconds"), 2.0)
    """Time between two queries by which the holder proves that it holds the lock."""

    serve_seconds: float = _setting("LOCK_SERVE_SECONDS", decimal(0.01, 3600, "seconds"), 5.0)
    """Time that the holder may serve after it sent the last query that was answered."""

    session_seconds: float = _setting("LOCK_SESSION_SECONDS", decimal(0.01, 3600, "seconds"), 15.0)
    """Time after which the database ends the session of a holder that has gone silent."""

    wait_seconds: float = _setting("LOCK_WAIT_SECONDS", decimal(0.01, 3600, "seconds"), 6.0)
    """Time that a successor waits when its predecessor has not said that it ended."""

    pod: str | None = _setting("POD_UID", TEXT, None)
    """Identity of the pod. A container that is restarted in the pod of its predecessor has not to wait for it,
    since that has ended. Kubernetes gives it by the downward API."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """Publications that an application inserts in a transaction of its own."""

    enabled: bool = _setting("OUTBOX", SWITCH, default=True)
    """Publish what the outbox table holds. There is none without a database."""

    poll_seconds: float = _setting("OUTBOX_POLL_SECONDS", decimal(0.01, 3600, "seconds"), 1.0)
    """Time between two looks at the table when nothing has woken us up."""

    max_tries: int = _setting("OUTBOX_MAX_TRIES", whole(1, 1000, "tries"), 5)
    """How often a row may be refused before it is set aside with the reason. Trouble of the database is no try."""

    keep_seconds: float = _setting("OUTBOX_KEEP_SECONDS", decimal(0, 31_536_000, "seconds"), 86_400.0)
    """Time that a published row stays in the table; 0 removes it at the next occasion."""


@dataclass(frozen=True, slots=True)
class Http:
    """The public port."""

    host: str = _setting("HOST", HOST, "0.0.0.0", development="127.0.0.1")  # noqa: S104 - for a container
    """Address to listen on. In development mode only a loopback address is accepted."""

    port: int = _setting("PORT", whole(0, _MAX_PORT), 3000)
    """Port to listen on; 0 takes any free one."""

    max_body_bytes: int = _setting("HTTP_MAX_BODY_BYTES", whole(1, _MAX_BYTES, "bytes"), _MIB)
    """Longest body of an HTTP request; a longer one is answered with 413."""

    request_head_timeout_seconds: float = _setting("WS_REQUEST_HEAD_TIMEOUT", milliseconds(1), 5.0)
    """Time from the opening of a TCP connection to the end of its first request head.
    Bounds what a client that sends one byte at a time can hold open."""

    trusted_proxies: tuple[Network, ...] = _setting("TRUSTED_PROXIES", NETWORKS, ())
    """Proxies whose ``X-Forwarded-For`` is believed. From anybody else the header is ignored, since
    it would let a client choose the address that its limits are counted on."""

    demo_page: bool = _setting("DEMO_PAGE", SWITCH, default=False, development=True)
    """Serve the page at ``/`` and define the namespace ``demo``."""


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin port: metrics, gate, drain, announcements."""

    host: str = _setting("ADMIN_HOST", HOST, "127.0.0.1")
    """Address to listen on. Loopback by default; in a container, the address that the pod proxy reaches.
    In development mode only a loopback address is accepted."""

    port: int = _setting("ADMIN_PORT", whole(0, _MAX_PORT), 3001)
    """Port to listen on; 0 takes any free one. May not be ``PORT``."""

    key: Secret | None = _setting("ADMIN_KEY", KEY, None, default_text=_MADE_UP)
    """Key of the admin API, sent in ``X-Admin-Key``. May not be a key that serves another purpose."""

    ttl_seconds: float = _setting("ADMIN_TTL_SECONDS", decimal(1, 86_400, "seconds"), 120.0)
    """How long a gate, a drain or an announcement holds when its caller does not renew it."""


@dataclass(frozen=True, slots=True)
class Api:
    """The server API: back ends that publish."""

    key: Secret | None = _setting("API_KEY", KEY, None, default_text=_MADE_UP)
    """Key of the server API, sent in ``X-API-Key`` or as ``Authorization: apikey ...``."""

    max_batch_commands: int = _setting("API_MAX_BATCH_COMMANDS", whole(1), 1000)
    """Most commands in one ``batch``."""

    max_broadcast_channels: int = _setting("API_MAX_BROADCAST_CHANNELS", whole(1), 1000)
    """Most channels in one ``broadcast``."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Which tokens are believed. Each key is bound to one family of algorithms."""

    hmac_secret: Secret | None = _setting("TOKEN_HMAC_SECRET", HMAC_SECRET, None, default_text=_MADE_UP)
    """Shared secret for HS256, HS384 and HS512. In development mode one is made up when there is no key at all."""

    rsa_public_key: str | None = _setting("TOKEN_RSA_PUBLIC_KEY", RSA_KEY, None)
    """Public key for RS256, RS384 and RS512. A private key is refused: this service verifies only."""

    ecdsa_public_key: str | None = _setting("TOKEN_ECDSA_PUBLIC_KEY", ECDSA_KEY, None)
    """Public key for the ES algorithm of its curve. A private key is refused: this service verifies only."""

    audience: str | None = _setting("TOKEN_AUDIENCE", TEXT, None)
    """What the claim ``aud`` must hold; not checked when unset."""

    issuer: str | None = _setting("TOKEN_ISSUER", TEXT, None)
    """What the claim ``iss`` must be; not checked when unset."""

    max_seconds: float = _setting("TOKEN_MAX_SECONDS", decimal(1, 31_536_000, "seconds"), 86_400.0)
    """Longest life of a token that the API issues."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Which web pages may open a WebSocket. A request without an Origin is no browser's and is let in."""

    frontend_url: str | None = _setting("FRONTEND_URL", URL, None)
    """Address of the application; its origin (scheme, host, port) is allowed, a path is ignored."""

    repl_url: str | None = _setting("REPL_URL", URL, None)
    """A second address of the application; as ``FRONTEND_URL``."""

    listed: frozenset[str] = _setting("WS_ALLOWED_ORIGINS", ORIGINS, frozenset())
    """More origins, each ``scheme://host[:port]`` and nothing else. There is no wildcard."""

    @property
    def allowed(self) -> frozenset[str]:
        """All allowed origins, as browsers write them; an Origin header is compared whole."""
        return self.listed | {url for url in (self.frontend_url, self.repl_url) if url is not None}


@dataclass(frozen=True, slots=True)
class Channels:
    """Who is let in, and into what."""

    anonymous: bool = _setting("WS_ANONYMOUS", SWITCH, default=False, development=True)
    """Let connections in that bring no token; they have no user."""

    personal_channels: bool = _setting("PERSONAL_CHANNELS", SWITCH, default=True)
    """Subscribe user 42 to the channel ``#42`` by the server."""

    history_max_bytes: int = _setting("HISTORY_MAX_BYTES", whole(_MIB, 1024 * 1024 * _MIB, "bytes"), 256 * _MIB)
    """Payloads that history in memory may hold, over all channels; past it the oldest are forgotten first,
    and clients that wanted them are told ``recovered: false``."""

    recovery_max_bytes: int = _setting(
        "RECOVERY_MAX_BYTES",
        whole(1024, MAX_RECOVERY_BYTES, "bytes"),
        MAX_RECOVERY_BYTES,
        default_text="786432, or three quarters of `WS_SEND_BUFFER_BYTES` when that is less",
    )
    """Most bytes of missed publications in one reply; a client that missed more is told ``recovered: false``.
    Less than ``WS_SEND_BUFFER_BYTES``, so that coming back cannot itself make a client too slow."""

    idempotency_seconds: float = _setting("IDEMPOTENCY_SECONDS", decimal(1, 86_400, "seconds"), 300.0)
    """Time that the answer to a publication with an idempotency key is kept for its repetition."""

    namespaces_file: Path | None = _setting("NAMESPACES_FILE", FILE, None)
    """File with all namespaces. Without one the built-in namespaces hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all together, may use. Every refusal has a code and a reason."""

    max_connections: int = _setting("WS_MAX_CONNECTIONS", whole(1, unit="connections"), 1000)
    """Most WebSockets at once; the next is refused with HTTP 503."""

    unauthenticated_share: float = _setting("WS_UNAUTHENTICATED_SHARE", decimal(0, 1, above=True), 0.2)
    """Part of ``WS_MAX_CONNECTIONS`` that may be taken by connections that have not authenticated
    yet; 1 for all of it. Keeps strangers from filling the house."""

    max_connections_per_user: int = _setting("WS_MAX_CONNECTIONS_PER_USER", whole(0, unit="connections"), 0)
    """Most connections of one user; 0 for no limit."""

    max_connections_per_address: int = _setting("WS_MAX_CONNECTIONS_PER_ADDRESS", whole(0, unit="connections"), 0)
    """Most connections of one remote address; 0 for no limit. Off by default, since many people may share one."""

    messages_per_minute: int = _setting("WS_MESSAGES_PER_MINUTE", whole(0, unit="commands"), 100)
    """Publish, rpc, send, history, presence and presence_stats commands of one user in a minute; 0 for no limit."""

    commands_per_minute: int = _setting("WS_COMMANDS_PER_MINUTE", whole(0, unit="commands"), 6000)
    """All other commands in a minute; 0 for no limit. Generous, so that a client can come back to all its channels."""

    refusals_per_minute: int = _setting("WS_REFUSALS_PER_MINUTE", whole(1, unit="refusals"), 100)
    """Refused messages in a minute after which the connection is closed."""

    max_message_bytes: int = _setting("WS_MAX_MESSAGE_BYTES", whole(1, _MAX_BYTES, "bytes"), 65_536)
    """Longest command; a longer one is answered with an error."""

    max_frame_bytes: int = _setting("WS_MAX_FRAME_BYTES", whole(1, _MAX_BYTES, "bytes"), _MIB)
    """Longest WebSocket message, which may hold several commands; a longer one ends the connection.
    At least ``WS_MAX_MESSAGE_BYTES``."""

    max_commands_per_frame: int = _setting("WS_MAX_COMMANDS_PER_FRAME", whole(1, unit="commands"), 512)
    """Most commands in one WebSocket message."""

    max_channels_per_client: int = _setting("WS_MAX_CHANNELS_PER_CLIENT", whole(1, unit="channels"), 128)
    """Most subscriptions of one connection."""

    max_channel_length: int = _setting("WS_MAX_CHANNEL_LENGTH", whole(1, 1024, "characters"), 255)
    """Longest channel name."""

    ping_interval_seconds: float = _setting("WS_PING_INTERVAL", milliseconds(100), 30.0)
    """Time between two pings to one connection."""

    pong_timeout_seconds: float = _setting(
        "WS_PONG_TIMEOUT",
        milliseconds(1),
        MAX_PONG_TIMEOUT_SECONDS,
        default_text="10000, or two thirds of `WS_PING_INTERVAL` when that is less",
    )
    """Time a client has to answer a ping. Less than ``WS_PING_INTERVAL``, so that one ping is outstanding at most."""

    idle_timeout_seconds: float = _setting("WS_IDLE_TIMEOUT", milliseconds(0, _YEAR_MS), 86_400.0)
    """Time without a command from the client and without a publication to it after which a connection is
    closed; 0 for never. Pongs do not count."""

    connect_timeout_seconds: float = _setting("WS_CONNECT_TIMEOUT", milliseconds(1), 10.0)
    """Time from the WebSocket's opening to the ``connect`` command."""

    send_buffer_bytes: int = _setting("WS_SEND_BUFFER_BYTES", whole(1, _MAX_BYTES, "bytes"), _MIB)
    """Bytes that may wait for one slow reader; past it the connection is closed, and recovers when it is
    back. At least ``WS_MAX_FRAME_BYTES``, so that what one client may send another can be sent."""

    @property
    def max_unauthenticated(self) -> int:
        """Most connections that have not authenticated; at least 1, else nobody could begin."""
        return max(1, math.floor(self.max_connections * self.unauthenticated_share + 1e-9))


@dataclass(frozen=True, slots=True)
class Drain:
    """How gently the process empties before it stops."""

    grace_seconds: float = _setting("DRAIN_GRACE_SECONDS", decimal(0, 3600, "seconds"), 0.0)
    """Time between announcing the drain and the first close."""

    spread_seconds: float | None = _setting(
        "DRAIN_SPREAD_SECONDS",
        decimal(0, 3600, "seconds"),
        None,
        default_text="open connections / 1000, at most 10",
    )
    """Time over which the closes are spread; 0 closes all at once. As short as the next instance can
    accept, since clients that are closed early only wait longer."""

    budget_seconds: float = _setting("DRAIN_BUDGET_SECONDS", decimal(0, 3600, "seconds", above=True), 25.0)
    """Time after which whatever is left is closed at once. More than grace and spread together, and less
    than the platform's own patience (30 s in Kubernetes)."""

    def spread_for(self, connections: int) -> float:
        """Return the spread in seconds for so many open connections."""
        if self.spread_seconds is not None:
            return self.spread_seconds
        return min(_MAX_SPREAD_SECONDS, connections / _CONNECTIONS_PER_SPREAD_SECOND)


@dataclass(frozen=True, slots=True)
class Logs:
    """What is written about the work. Never payloads, never tokens."""

    level: LogLevel = _setting("LOG_LEVEL", one_of(LogLevel), LogLevel.INFO)
    """The least severe line that is written."""

    format: LogFormat = _setting("LOG_FORMAT", one_of(LogFormat), LogFormat.AUTO)
    """``auto`` writes text on a terminal and JSON elsewhere."""


GROUPS: Final[Mapping[str, type]] = {
    "process": Process,
    "database": Database,
    "lock": Lock,
    "outbox": Outbox,
    "http": Http,
    "admin": Admin,
    "api": Api,
    "tokens": Tokens,
    "origins": Origins,
    "channels": Channels,
    "limits": Limits,
    "drain": Drain,
    "logs": Logs,
}
"""The groups by the name of their field in ``Settings``, in the order of the reference page."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Built without arguments it has every production default and no secrets.

    Attributes:
        namespaces: From ``NAMESPACES_FILE``, or the built-in ones.
        generated: Names of the settings whose secret was made up, in development mode alone.
        warnings: What an operator may have meant otherwise; one line each, without secrets.
    """

    process: Process = Process()
    database: Database = Database()
    lock: Lock = Lock()
    outbox: Outbox = Outbox()
    http: Http = Http()
    admin: Admin = Admin()
    api: Api = Api()
    tokens: Tokens = Tokens()
    origins: Origins = Origins()
    channels: Channels = Channels()
    limits: Limits = Limits()
    drain: Drain = Drain()
    logs: Logs = Logs()
    namespaces: Namespaces = field(default_factory=lambda: Namespaces(BUILT_IN), compare=False)
    generated: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()

    @property
    def is_development(self) -> bool:
        """Whether secrets may be made up and only loopback is bound."""
        return self.process.mode is Mode.DEVELOPMENT

    @property
    def migrates_at_start(self) -> bool:
        """Whether the start brings the database to the schema that this version needs."""
        if self.database.migrate is not None:
            return self.database.migrate
        return self.is_development or self.database.url is None

    @property
    def database_target(self) -> Target:
        """The database that is meant; a SQLite file in the directory for data when none is named."""
        if self.database.url is None:
            return Target("sqlite", path=PurePath(self.process.data_dir, DATABASE_FILE))
        return parse(self.database.url.reveal())

    @property
    def direct_target(self) -> Target:
        """The same database for sessions that last: not through a transaction pooler."""
        direct = self.database.direct_url
        return self.database_target if direct is None else parse(direct.reveal())
