"""The public address, and how to get there."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from deploytool.probes.errors import AddressError

__all__ = ("Address", "parse_address")

_PATH: Final = "/connection/websocket"
_SCHEMES: Final = {"ws": False, "http": False, "wss": True, "https": True}


@dataclass(frozen=True, slots=True)
class Address:
    """Where clients connect.

    Attributes:
        host: Name in the URL, which the certificate has to be for.
        path: Of the WebSocket.
        dial_host: What is connected to; the host itself unless the user says otherwise.
        ca_file: More certificate authorities to believe, in PEM; empty for none.
    """

    host: str
    port: int
    is_tls: bool
    path: str = _PATH
    dial_host: str = ""
    dial_port: int = 0
    ca_file: str = ""

    @property
    def url(self) -> str:
        """As a client has it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == (443 if self.is_tls else 80) else f":{self.port}"
        return f"{'wss' if self.is_tls else 'ws'}://{name}{port}{self.path}"

    @property
    def target(self) -> tuple[str, int]:
        """Host and port that are connected to."""
        return self.dial_host or self.host, self.dial_port or self.port

    def context(self) -> ssl.SSLContext | None:
        """Return how TLS is verified; None without TLS."""
        if not self.is_tls:
            return None
        context = ssl.create_default_context()
        if self.ca_file:
            try:
                context.load_verify_locations(self.ca_file)
            except (OSError, ssl.SSLError) as error:
                reason = getattr(error, "strerror", None) or "it holds no certificate in PEM"
                raise AddressError(f"the certificates in {self.ca_file} cannot be used: {reason}") from error
        return context


def parse_address(url: str, *, connect_to: str = "", ca_file: str = "") -> Address:
    """Take a public address apart.

    Args:
        url: ``wss://host[:port][/path]``, or with https, ws or http.
        connect_to: ``host:port`` to connect to in the place of what the URL names; empty for that.
        ca_file: More certificate authorities to believe, in PEM.

    Raises:
        AddressError: It is no such address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        dial = urlsplit(f"//{connect_to}")
        dial_port = dial.port
    except ValueError as error:
        raise AddressError(f"{url} is no address: {error}") from error
    _require(url, parts)
    if connect_to and not (dial.hostname and dial_port):
        raise AddressError(f"--connect-to has to be HOST:PORT, not {connect_to}")
    is_tls = _SCHEMES[parts.scheme]
    return Address(
        host=parts.hostname or "",
        port=port or (443 if is_tls else 80),
        is_tls=is_tls,
        path=parts.path if parts.path not in ("", "/") else _PATH,
        dial_host=dial.hostname or "",
        dial_port=dial_port or 0,
        ca_file=ca_file,
    )


def _require(url: str, parts: SplitResult) -> None:
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise AddressError(f"{url} is no address of a WebSocket: say wss://HOST")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise AddressError("the public address may hold a host, a port and a path, and nothing else")
