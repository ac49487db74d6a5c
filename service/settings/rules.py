"""What must hold between settings, as data."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from service.settings.kinds import KEY_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.core.secret import Secret
    from service.settings.groups import Settings

__all__ = ("RULES", "Rule")


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between settings.

    Attributes:
        names: The settings it is about, the first being the one to change. The rule is
            passed over when one of them could not be read.
        holds: Whether all is well.
        remedy: What to do when it is not, in words that follow the first name.
    """

    names: tuple[str, ...]
    holds: Callable[[Settings], bool]
    remedy: str


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_strong(key: Secret | None) -> bool:
    return key is None or len(key.reveal()) >= KEY_LENGTH


def _differ(first: Secret | None, second: Secret | None) -> bool:
    return first is None or first != second


_WEAK: Final = f"is weak: needs at least {KEY_LENGTH} characters; make one with `python -m service apikey`"
_LOOPBACK: Final = "must be a loopback address in development mode, whose secrets are made up; use 127.0.0.1"

RULES: Final = (
    Rule(("HOST", "SLACKWATER_MODE"), lambda s: not s.is_development or _is_loopback(s.http.host), _LOOPBACK),
    Rule(("ADMIN_HOST", "SLACKWATER_MODE"), lambda s: not s.is_development or _is_loopback(s.admin.host), _LOOPBACK),
    Rule(
        ("ADMIN_PORT", "PORT"),
        lambda s: s.admin.port == 0 or s.admin.port != s.http.port,
        "must differ from PORT: the admin API is not for the public",
    ),
    Rule(("API_KEY", "SLACKWATER_MODE"), lambda s: s.is_development or _is_strong(s.api.key), _WEAK),
    Rule(("ADMIN_KEY", "SLACKWATER_MODE"), lambda s: s.is_development or _is_strong(s.admin.key), _WEAK),
    Rule(
        ("ADMIN_KEY", "API_KEY"),
        lambda s: _differ(s.admin.key, s.api.key),
        "must differ from API_KEY: who may publish may not drain; make another",
    ),
    Rule(
        ("TOKEN_HMAC_SECRET", "API_KEY"),
        lambda s: _differ(s.tokens.hmac_secret, s.api.key),
        "must differ from API_KEY: who may publish may not sign tokens; make another",
    ),
    Rule(
        ("TOKEN_HMAC_SECRET", "ADMIN_KEY"),
        lambda s: _differ(s.tokens.hmac_secret, s.admin.key),
        "must differ from ADMIN_KEY: who may drain may not sign tokens; make another",
    ),
    Rule(
        ("WS_PONG_TIMEOUT", "WS_PING_INTERVAL"),
        lambda s: s.limits.pong_timeout_seconds < s.limits.ping_interval_seconds,
        "must be less than WS_PING_INTERVAL, so that a pong is due before the next ping",
    ),
    Rule(
        ("WS_MAX_FRAME_BYTES", "WS_MAX_MESSAGE_BYTES"),
        lambda s: s.limits.max_frame_bytes >= s.limits.max_message_bytes,
        "must be at least WS_MAX_MESSAGE_BYTES, since a frame holds whole messages",
    ),
    Rule(
        ("WS_SEND_BUFFER_BYTES", "WS_MAX_FRAME_BYTES"),
        lambda s: s.limits.send_buffer_bytes >= s.limits.max_frame_bytes,
        "must be at least WS_MAX_FRAME_BYTES, so that what one client may send another can be sent",
    ),
    Rule(
        ("RECOVERY_MAX_BYTES", "WS_SEND_BUFFER_BYTES"),
        lambda s: s.channels.recovery_max_bytes < s.limits.send_buffer_bytes,
        "must be less than WS_SEND_BUFFER_BYTES, or a client is closed for the size of its own recovery",
    ),
    Rule(
        ("DATABASE_DIRECT_URL", "DATABASE_URL"),
        lambda s: s.database.direct_url is None or s.database_target.kind == "postgres",
        "is for a Postgres in DATABASE_URL alone; remove it, or name the Postgres there",
    ),
    Rule(
        ("LOCK_SERVE_SECONDS", "LOCK_PROVE_SECONDS"),
        lambda s: s.lock.serve_seconds > s.lock.prove_seconds,
        "must be more than LOCK_PROVE_SECONDS, or serving ends before the next proof is due",
    ),
    Rule(
        ("LOCK_WAIT_SECONDS", "LOCK_SERVE_SECONDS"),
        lambda s: s.lock.wait_seconds > s.lock.serve_seconds,
        "must be more than LOCK_SERVE_SECONDS, or a successor serves while its predecessor still may",
    ),
    Rule(
        ("LOCK_SESSION_SECONDS", "LOCK_PROVE_SECONDS"),
        lambda s: s.lock.session_seconds > s.lock.prove_seconds,
        "must be more than LOCK_PROVE_SECONDS, or the database ends the session of a holder that is well",
    ),
    Rule(
        ("DRAIN_BUDGET_SECONDS", "DRAIN_GRACE_SECONDS", "DRAIN_SPREAD_SECONDS", "WS_MAX_CONNECTIONS"),
        lambda s: s.drain.budget_seconds > s.drain.grace_seconds + s.drain.spread_for(s.limits.max_connections),
        "must be more than DRAIN_GRACE_SECONDS and DRAIN_SPREAD_SECONDS together, or the spread is cut short",
    ),
)
"""In the order in which they are reported."""
