"""From the environment to ``Settings``, or to the list of everything that is wrong."""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml

from service.core.namespaces import BUILT_IN, DEMO, NamespaceProblems, Namespaces, parse_namespaces
from service.core.secret import Secret
from service.errors import SettingsError
from service.settings.groups import (
    GROUPS,
    MAX_PONG_TIMEOUT_SECONDS,
    MAX_RECOVERY_BYTES,
    Database,
    Limits,
    Mode,
    Process,
    Setting,
    Settings,
    settings_of,
)
from service.settings.kinds import read_file
from service.settings.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ("load", "load_database")

_T = TypeVar("_T")

_TYPO_PREFIXES: Final = (
    "WS_",
    "DRAIN_",
    "TOKEN_",
    "API_",
    "ADMIN_",
    "SLACKWATER_",
    "NAMESPACES_",
    "DATABASE_",
    "LOCK_",
    "OUTBOX_",
)
_TYPO_LIKENESS: Final = 0.8
_PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
    ".json": json.loads,
}
_MISSING: Final = {
    "API_KEY": "is missing; make one with `python -m service apikey`",
    "ADMIN_KEY": "is missing; make one with `python -m service apikey`, another than API_KEY",
    "TOKEN_HMAC_SECRET": "is missing; set it, or TOKEN_RSA_PUBLIC_KEY, or TOKEN_ECDSA_PUBLIC_KEY: "
    "without a key no token can be believed",
}


def load(environ: Mapping[str, str], *, secret: Callable[[], str]) -> Settings:
    """Read and check all settings.

    Args:
        environ: Names and values; an empty value counts as not given. Nothing else is
            read but the files that it names.
        secret: Makes up one secret of at least 32 characters; asked in development mode
            alone, once for each key that is missing.

    Raises:
        SettingsError: With every problem of every setting, by name. Nothing in it holds
            the value of a secret.
    """
    reader = _Reader(environ)
    mode: Mode = reader.value(settings_of(Process)["mode"], Mode.PRODUCTION)
    settings = Settings(**{name: reader.group(group, mode) for name, group in GROUPS.items()})
    if not reader.has("WS_PONG_TIMEOUT"):
        settings = replace(settings, limits=_with_pong_timeout(settings.limits))
    if not reader.has("RECOVERY_MAX_BYTES"):
        settings = _with_recovery_bytes(settings)
    missing = [name for name in _missing_secrets(settings) if name not in reader.problems]
    if settings.is_development:
        settings = _with_secrets(settings, missing, secret)
    problems = [f"{name}: {problem}" for name, problem in reader.problems.items()]
    if mode is Mode.PRODUCTION and "SLACKWATER_MODE" not in reader.problems:
        problems += [f"{name}: {_MISSING[name]}" for name in missing]
    problems += [
        f"{rule.names[0]}: {rule.remedy}"
        for rule in RULES
        if reader.problems.keys().isdisjoint(rule.names) and not rule.holds(settings)
    ]
    try:
        settings = replace(settings, namespaces=_namespaces(settings))
    except NamespaceProblems as error:
        problems += [f"NAMESPACES_FILE: {problem}" for problem in error.problems]
    if problems:
        raise SettingsError(problems)
    return replace(settings, warnings=(*_misspelled(environ), *_doubtful(settings)))


def load_database(environ: Mapping[str, str]) -> Settings:
    """Read what says which database is meant, for work on it that needs no keys and opens no port.

    Args:
        environ: As of `load`.

    Raises:
        SettingsError: As of `load`, of these settings alone.
    """
    reader = _Reader(environ)
    process = reader.group(Process, Mode.PRODUCTION)
    settings = Settings(process=process, database=reader.group(Database, process.mode))
    if reader.problems:
        raise SettingsError(f"{name}: {problem}" for name, problem in reader.problems.items())
    return settings


class _Reader:
    """Reads groups from one environment and collects what is wrong with it.

    Attributes:
        problems: What is wrong, by the name of the setting.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Return whether a setting is given."""
        return bool(self._environ.get(name, "").strip())

    def value(self, setting: Setting, mode: Mode) -> Any:  # noqa: ANN401 - each setting has its own type
        """Return the value of one setting; its default when it is not given or wrong."""
        if self.has(setting.name):
            try:
                return setting.kind.parse(self._text(setting))
            except ValueError as error:
                self.problems[setting.name] = str(error)
        return setting.development if mode is Mode.DEVELOPMENT else setting.default

    def group(self, group: type[_T], mode: Mode) -> _T:
        """Return one group, with defaults for what could not be read."""
        return group(**{name: self.value(setting, mode) for name, setting in settings_of(group).items()})

    def _text(self, setting: Setting) -> str:
        raw = self._environ[setting.name]
        text = raw.strip()
        if setting.kind.is_exact and text != raw:
            # Another program may use the very same characters, so nothing is cut off silently.
            raise ValueError("begins or ends with white space; remove it where the value is stored")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("must be UTF-8 text")  # os.environ stands for other bytes with surrogates
        return text


def _with_pong_timeout(limits: Limits) -> Limits:
    timeout = min(MAX_PONG_TIMEOUT_SECONDS, limits.ping_interval_seconds * 2 / 3)
    return replace(limits, pong_timeout_seconds=timeout)


def _with_recovery_bytes(settings: Settings) -> Settings:
    size = min(MAX_RECOVERY_BYTES, settings.limits.send_buffer_bytes * 3 // 4)
    return replace(settings, channels=replace(settings.channels, recovery_max_bytes=size))


def _missing_secrets(settings: Settings) -> Iterator[str]:
    if settings.api.key is None:
        yield "API_KEY"
    if settings.admin.key is None:
        yield "ADMIN_KEY"
    tokens = settings.tokens
    if tokens.hmac_secret is None and tokens.rsa_public_key is None and tokens.ecdsa_public_key is None:
        yield "TOKEN_HMAC_SECRET"


def _with_secrets(settings: Settings, missing: Iterable[str], secret: Callable[[], str]) -> Settings:
    """Return the settings with a new secret for each that is missing."""
    made = {name: Secret(secret()) for name in missing}
    return replace(
        settings,
        api=replace(settings.api, key=made.get("API_KEY", settings.api.key)),
        admin=replace(settings.admin, key=made.get("ADMIN_KEY", settings.admin.key)),
        tokens=replace(settings.tokens, hmac_secret=made.get("TOKEN_HMAC_SECRET", settings.tokens.hmac_secret)),
        generated=frozenset(made),
    )


def _namespaces(settings: Settings) -> Namespaces:
    """Return the namespaces of the file, or the built-in ones when there is none."""
    demo, length = settings.http.demo_page, settings.limits.max_channel_length
    path = settings.channels.namespaces_file
    if path is None:
        return Namespaces((*BUILT_IN, DEMO) if demo else BUILT_IN, max_channel_length=length)
    try:
        return parse_namespaces(_document(path), demo=demo, max_channel_length=length)
    except ValueError as error:
        raise NamespaceProblems([str(error)]) from None
    except NamespaceProblems as error:
        raise NamespaceProblems(f"{path}: {problem}" for problem in error.problems) from None


def _document(path: Path) -> object:
    """Return what a file of namespaces holds.

    Raises:
        ValueError: It cannot be read; with its path, and the line where one is known.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ValueError(f"{path}: must end in .toml, .yaml, .yml or .json")
    text = read_file(path)
    try:
        return parse(text)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" line {error.problem_mark.line + 1}"
        raise ValueError(f"{path}{line}: {error.problem}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise ValueError(f"{path}: is nested too deeply") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def _misspelled(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the names that look like one of ours and are none."""
    names = {setting.name for group in GROUPS.values() for setting in settings_of(group).values()}
    for name in sorted(environ.keys() - names):
        likely = difflib.get_close_matches(name, names, n=1, cutoff=_TYPO_LIKENESS)
        if likely and name.startswith(_TYPO_PREFIXES):
            yield f"{name}: is no setting and is ignored; did you mean {likely[0]}?"


def _doubtful(settings: Settings) -> Iterator[str]:
    """Yield what is allowed and yet may not be what was meant."""
    if settings.channels.personal_channels and settings.namespaces.get("") is None:
        yield (
            "PERSONAL_CHANNELS: there are none, because NAMESPACES_FILE defines no namespace with the empty name; "
            "define one, or set this to false"
        )
    if settings.is_development:
        return
    if not settings.origins.allowed:
        yield "FRONTEND_URL: no origin is allowed, so no browser can connect; set it, or WS_ALLOWED_ORIGINS"
    for origin in sorted(settings.origins.allowed):
        if origin.startswith("http://"):
            yield f"{origin}: is allowed without TLS, so anybody on the way can speak for that page; use https"
