"""What stands in front of the service, as far as TLS goes."""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
import warnings
from typing import TYPE_CHECKING, Final

from deploytool.model.observations import PlainAnswer, TlsTrial

if TYPE_CHECKING:
    from deploytool.clock import Clock
    from deploytool.probes.address import Address

__all__ = ("try_tls",)

_SECONDS: Final = 5.0
_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80
_HEAD_BYTES: Final = 16_384


async def try_tls(address: Address, clock: Clock) -> TlsTrial:
    """Shake hands as a client would, then as an old one would, then without TLS at all."""
    source = f"TLS handshake with {address.host}:{address.port}"
    if not address.is_tls:
        plain = await _plain(address, address.target[1])
        error = f"the public address is {address.url}, which is not wss"
        return TlsTrial(source, clock.wall(), address.host, error, "", None, None, plain)
    error, protocol, der = await _verified(address)
    if der is None:
        der = await _certificate(address)
    return TlsTrial(
        source=source,
        at=clock.wall(),
        host=address.host,
        error=error,
        protocol=protocol,
        not_after=None if der is None else _not_after(der),
        accepts_old=await _accepts_old(address),
        plain=await _plain(address, _HTTP_PORT if address.port == _HTTPS_PORT else address.target[1]),
    )


async def _verified(address: Address) -> tuple[str, str, bytes | None]:
    """Return why it failed (empty when it did not), what was agreed on, and the certificate."""
    try:
        return await _shake(address, address.context())
    except ssl.SSLCertVerificationError as error:
        return error.verify_message or "the certificate is not believed", "", None
    except ssl.SSLError as error:
        return f"the handshake failed: {(error.reason or str(error)).lower().replace('_', ' ')}", "", None
    except ConnectionResetError:
        return "the connection was closed during the handshake", "", None


async def _shake(address: Address, context: ssl.SSLContext | None) -> tuple[str, str, bytes | None]:
    host, port = address.target
    async with asyncio.timeout(_SECONDS):
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=address.host)
    try:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return "", tls.version() or "", tls.getpeercert(binary_form=True)
    finally:
        writer.transport.abort()


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # to look at a certificate that was not believed; nothing is sent
    return context


async def _certificate(address: Address) -> bytes | None:
    """Return the certificate of a server that is not believed; None when it shows none."""
    try:
        _, _, der = await _shake(address, _unverified())
    except (OSError, ssl.SSLError, TimeoutError):
        return None
    return der


def _not_after(der: bytes) -> float | None:
    from cryptography import x509  # noqa: PLC0415 - slow to import

    try:
        return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
    except ValueError:
        return None


async def _accepts_old(address: Address) -> bool | None:
    """Tell whether TLS 1.1 or older is spoken; None where we cannot speak it ourselves."""
    context = _unverified()
    try:
        with warnings.catch_warnings():
            # Old versions are deprecated, which is why they are tried.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    except (ValueError, ssl.SSLError):
        return None
    try:
        await _shake(address, context)
    except ssl.SSLError as error:
        return None if error.reason == "NO_PROTOCOLS_AVAILABLE" else False
    except ConnectionError:
        return False
    except (OSError, TimeoutError):
        return None
    return True


async def _plain(address: Address, port: int) -> PlainAnswer | None:
    """Ask for an upgrade without TLS."""
    host = address.target[0]
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return PlainAnswer.CLOSED
    try:
        writer.write(_request(address))
        async with asyncio.timeout(_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        # Whatever it is, it is no WebSocket.
        return PlainAnswer.REFUSED
    except TimeoutError:
        return None
    finally:
        writer.transport.abort()
    return _plain_answer(head[:_HEAD_BYTES].decode("latin-1"))


def _request(address: Address) -> bytes:
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    lines = [
        f"GET {address.path} HTTP/1.1",
        f"Host: {address.host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def _plain_answer(head: str) -> PlainAnswer:
    first, _, rest = head.partition("\r\n")
    status = first.split(" ")[1] if first.count(" ") >= 1 else ""
    if status == "101":
        return PlainAnswer.ACCEPTED
    headers = dict(line.lower().split(":", 1) for line in rest.split("\r\n") if ":" in line)
    leads = headers.get("location", "").strip()
    if status.startswith("3") and leads.startswith(("https://", "wss://")):
        return PlainAnswer.REDIRECTED
    return PlainAnswer.REFUSED
