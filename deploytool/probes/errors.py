"""Why a probe came to no result.

::

    UnverifiedError
    └── ProbeError          inconclusive; ends with 5
        └── AddressError    the address cannot be used; ends with 2
"""

from __future__ import annotations

import ssl

from deploytool.errors import UnverifiedError

__all__ = ("AddressError", "ProbeError", "explain", "first_of")

_OTHER_WAY = (
    "See that this address leads to the service from here; else name another by --url, or say where to connect: "
    "--connect-to HOST:PORT."
)
_BELIEVE = "Mend the certificate, or name the authority that signed it: --ca-file FILE."


class ProbeError(UnverifiedError):
    """A probe could not tell."""


class AddressError(ProbeError):
    """The public address, or the certificates for it, cannot be used."""

    exit_code = 2


def explain(error: BaseException, url: str) -> ProbeError:  # noqa: PLR0911 - a table
    """Return what a failed connection means.

    Args:
        error: Of the operating system, of TLS or of the WebSocket library; a group stands for its first.
        url: That was tried.
    """
    from websockets.exceptions import (  # noqa: PLC0415 - not needed unless something fails
        ConnectionClosed,
        InvalidHandshake,
        InvalidStatus,
    )

    one = first_of(error)
    if isinstance(one, ProbeError):
        return one
    if isinstance(one, ssl.SSLCertVerificationError):
        return ProbeError(f"the certificate of {url} is not believed: {one.verify_message}", _BELIEVE)
    if isinstance(one, TimeoutError):
        return ProbeError(f"{url} did not answer in time", _OTHER_WAY)
    if isinstance(one, ConnectionRefusedError):
        return ProbeError(f"nothing listens at {url}", _OTHER_WAY)
    if isinstance(one, InvalidStatus):
        return ProbeError(f"{url} answered HTTP {one.response.status_code} in the place of a WebSocket")
    if isinstance(one, InvalidHandshake):
        return ProbeError(f"{url} answered with something that is no WebSocket handshake")
    if isinstance(one, ConnectionClosed):
        return ProbeError(f"{url} closed the connection in the middle of a probe")
    problem = f"{url} cannot be reached: {getattr(one, 'strerror', None) or type(one).__name__}"
    return ProbeError(problem, _OTHER_WAY if isinstance(one, OSError) else "")


def first_of(error: BaseException) -> BaseException:
    """Return the first error that a group holds, however deep; an error that is no group is its own."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
