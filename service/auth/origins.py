"""Which web pages may open a connection.

A browser says in ``Origin`` which page it acts for; anything else can write what it
likes there and needs no Origin at all. The check keeps other people's pages from
using a visitor's browser. It is no authentication.

Origins are compared whole: scheme, host and port. Nothing is matched by prefix or
suffix, and there are no wildcards. Source: RFC 6454 sections 4 to 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from service.errors import SettingsError

__all__ = ("AllowedOrigins", "is_loopback_host", "loopback_origins", "parse_origin")

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")
_MAX_PORT: Final = 65_535
_MAX_LENGTH: Final = 512  # 253 of a host name and room to spare; longer ones are not worth a look
_SETTINGS: Final = "FRONTEND_URL, REPL_URL or WS_ALLOWED_ORIGINS"
_ADVICE: Final = "write scheme, host and port only, such as https://app.example.com, and an international name as xn--"

# ASCII alone: browsers send an international name in its xn-- form, and so must settings. A dot at the end makes
# another host for a browser, so it does here: it is not part of the pattern. No user, path, query or fragment.
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_AUTHORITY: Final = rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>0|[1-9][0-9]{{0,4}}))?"
_ORIGIN: Final = re.compile(rf"(?P<scheme>https?)://{_AUTHORITY}")
_HOST: Final = re.compile(_AUTHORITY)


def parse_origin(text: str) -> str | None:
    """Bring an http or https origin into the one form in which origins are compared.

    Returns:
        ``scheme://host:port``, lower case, with the port always there; None when ``text``
        is no such origin. ``null`` is none, nor is anything with a user, a path (a lone
        ``/`` too), a host outside ASCII or one with a dot at its end.
    """
    match = _match(_ORIGIN, text)
    if match is None:
        return None
    scheme = match["scheme"]
    host = _canonical_host(match["host"])
    port = _DEFAULT_PORTS[scheme] if match["port"] is None else int(match["port"])
    if host is None or port > _MAX_PORT:
        return None
    return f"{scheme}://{host}:{port}"


def loopback_origins(port: int) -> frozenset[str]:
    """Return the origins of a page that this service itself shows on loopback, for development.

    Args:
        port: The one that is bound, not 0.
    """
    return frozenset(f"http://{host}:{port}" for host in _LOOPBACK_HOSTS)


@dataclass(frozen=True, slots=True)
class AllowedOrigins:
    """The origins of the pages that may connect.

    Attributes:
        origins: As people write them: the default port may be left out, letters may be
            upper case, one ``/`` may stand at the end. Empty refuses every page and still
            allows what is no browser.

    Raises:
        SettingsError: One of them is no origin; each is named.
    """

    origins: frozenset[str]
    _canonical: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        canonical: set[str] = set()
        problems: list[str] = []
        for origin in sorted(self.origins):
            parsed = parse_origin(origin.removesuffix("/"))
            if parsed is None:
                problems.append(f"{_SETTINGS}: {origin!r} is no origin, {_ADVICE}")
            else:
                canonical.add(parsed)
        if problems:
            raise SettingsError(problems)
        object.__setattr__(self, "_canonical", frozenset(canonical))

    def allows(self, header: str | Sequence[str] | None) -> bool:
        """Decide over a request by its Origin.

        Args:
            header: One value, or those of every Origin header of the request. None and an
                empty sequence mean there was none: that is no browser, and allowed. An
                empty value is not the same, and refused.

        Returns:
            False for more than one header, even when they agree: no browser sends that.
        """
        if header is None:
            return True
        values = (header,) if isinstance(header, str) else header
        if not values:
            return True
        origin = parse_origin(values[0])
        return len(values) == 1 and origin is not None and origin in self._canonical

    def including(self, origins: Iterable[str]) -> AllowedOrigins:
        """Return these and others, such as ``loopback_origins`` once the port is known."""
        return AllowedOrigins(self.origins | frozenset(origins))


def is_loopback_host(header: str | Sequence[str] | None) -> bool:
    """Whether a request names this machine as its host.

    In development the service trusts loopback. A page can have its own name point to
    127.0.0.1 (DNS rebinding) and reach the service as that, but then the Host header
    still holds the page's name.

    Args:
        header: One value, or those of every Host header of the request; with any port.
            None, an empty sequence and more than one value are refused.
    """
    values = (header,) if isinstance(header, str) else header
    if not values or len(values) != 1:
        return False
    match = _match(_HOST, values[0])
    if match is None or int(match["port"] or 0) > _MAX_PORT:
        return False
    return _canonical_host(match["host"]) in _LOOPBACK_HOSTS


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Match lower-cased text as a whole; only ASCII, since some other letters become ASCII when lower-cased."""
    return pattern.fullmatch(text.lower()) if len(text) <= _MAX_LENGTH and text.isascii() else None


def _canonical_host(host: str) -> str | None:
    """Return the one spelling of an IPv6 address, and any other host as it is."""
    if not host.startswith("["):
        return host
    try:
        return f"[{IPv6Address(host[1:-1])}]"
    except AddressValueError:
        return None
