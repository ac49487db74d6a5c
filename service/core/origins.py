"""Web origins: scheme, host and port as one string, the way a browser sends them.

Two origins are equal when their strings are, so that nothing is ever compared by
prefix or suffix. Source: RFC 6454, section 6.2.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import SplitResult, urlsplit

__all__ = ("origin_of",)

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# A dot at the end makes another host for a browser, and nobody means it: it is not part of the pattern.
_LABEL: Final = r"[a-z0-9_](?:[-a-z0-9_]*[a-z0-9_])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NO_URL: Final = "must start with https:// or http:// and name a host, such as https://app.example.com"


def origin_of(url: str, *, whole: bool) -> str:
    """Return the origin of a URL: lower case, without the port when it is the scheme's own.

    Args:
        url: ``scheme://host[:port]``, http or https.
        whole: The text must be an origin and nothing more. Otherwise a path, a query
            and a fragment may follow and are dropped.

    Raises:
        ValueError: It is none. The text says what to write, and repeats nothing of a
            URL, which may hold a password.
    """
    if "*" in url:
        raise ValueError("must be a whole origin, there are no wildcards; list every one")
    parts = _split(url)
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or a password")
    if whole and url.casefold() != f"{parts.scheme}://{parts.netloc}".casefold():
        raise ValueError("must end after the host and port, without a slash or a path")
    port = parts.port
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("must have a port from 1 to 65535, or none")
    suffix = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{_host(parts.hostname or '')}{suffix}"


def _split(url: str) -> SplitResult:
    """Split a URL whose scheme is ours and whose port is a number."""
    if not url.isascii() or any(character <= " " for character in url):
        raise ValueError("must be ASCII without spaces; write an international host name as xn--..., as browsers do")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(_NO_URL) from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise ValueError(_NO_URL)
    return parts


def _host(host: str) -> str:
    """Return a host, an IPv6 address in its one spelling."""
    if _HOST.fullmatch(host):
        return host
    try:
        address = IPv6Address(host)
    except ValueError:
        raise ValueError(_NO_URL) from None
    if address.scope_id is not None:
        raise ValueError(_NO_URL)
    return f"[{address}]"
