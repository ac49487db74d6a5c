"""Environments that are whole, for tests to spoil one thing in."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from service.errors import SettingsError
from service.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("DEVELOPMENT", "PRODUCTION", "problems_of", "settings")

PRODUCTION = {
    "API_KEY": "api-key-" + "a" * 24,
    "ADMIN_KEY": "admin-key-" + "b" * 22,
    "TOKEN_HMAC_SECRET": "hmac-secret-" + "c" * 20,
    "FRONTEND_URL": "https://app.example.com",
}
DEVELOPMENT = {"SLACKWATER_MODE": "development"}


def settings(environ: Mapping[str, str] = PRODUCTION, **changes: str) -> Settings:
    """Load an environment that must be accepted; ``changes`` are put over it."""
    numbers = count(1)
    return load({**environ, **changes}, secret=lambda: f"made-up-{next(numbers):024d}")


def problems_of(environ: Mapping[str, str] = PRODUCTION, **changes: str) -> tuple[str, ...]:
    """Load an environment and return what is wrong with it; nothing when it is accepted."""
    try:
        settings(environ, **changes)
    except SettingsError as error:
        return error.problems
    return ()
